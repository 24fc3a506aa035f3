//! Why there is no sharding.

use std::time::Duration;

use cutplane_units::Bytes;
use thiserror::Error;

use crate::network::NetworkError;

/// Why a search of shardings ended without one.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum ShardError {
    /// Proven: nothing fits the memory of a device.
    #[error(
        "no sharding fits: the limit is {limit} a device, and the least that was found to be enough is \
         {smallest}: raise --memory-cap to that, use more devices, or cut the batch into more micro-batches"
    )]
    Infeasible {
        /// The memory limit of a device.
        limit: Bytes,
        /// The smallest limit that was found to fit: the least one, unless time ran out over it.
        smallest: Bytes,
    },
    /// Nothing was found, and nothing proved.
    #[error("stopped after {:.1} s without a sharding that fits {limit} a device: {remedy}", spent.as_secs_f64())]
    NoIncumbent {
        /// The memory limit of a device.
        limit: Bytes,
        /// Time spent.
        spent: Duration,
        /// What may help.
        remedy: &'static str,
    },
    /// The mesh does not suit the devices.
    #[error("mesh '{mesh}': {problem}: {remedy}")]
    Mesh {
        /// The mesh as given.
        mesh: String,
        /// What is wrong with it.
        problem: String,
        /// What to write.
        remedy: String,
    },
    /// The batch does not divide.
    #[error("field '{field}' is {value}: {remedy}")]
    Batch {
        /// The field.
        field: &'static str,
        /// Its value.
        value: u64,
        /// What to write.
        remedy: &'static str,
    },
    /// Too many assignments for a searcher that tries all.
    #[error("{assignments:.0} assignments, and all of them are tried only up to {most}: use another searcher")]
    TooLarge {
        /// Assignments.
        assignments: f64,
        /// Most that are tried.
        most: u64,
    },
    /// A table that contradicts itself.
    #[error("the table of choices is broken: {problem}")]
    Table {
        /// What is wrong.
        problem: String,
    },
    /// The account of the whole model does not agree with the table that was searched.
    #[error(
        "the search counts {:.6e} s and {:.6e} bytes, the account {:.6e} s and {:.6e} bytes: this is a defect of the tool",
        seconds[0], bytes[0], seconds[1], bytes[1]
    )]
    Disagreement {
        /// By the search and by the account.
        seconds: [f64; 2],
        /// By the search and by the account.
        bytes: [f64; 2],
    },
    /// Groups of ranks that the network model has no price for.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// HiGHS failed.
    #[error("the solver failed: {0}: try another --seed, or report the model")]
    Solver(String),
}

/// Bytes as a whole number, rounded up.
pub(super) fn whole_bytes(bytes: f64) -> Bytes {
    Bytes::new(bytes.ceil().max(0.0) as u64)
}
