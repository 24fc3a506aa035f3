//! Why there is no plan.

use std::fmt;
use std::time::Duration;

use cutplane_units::Bytes;
use thiserror::Error;

use crate::cost::CostError;

/// A device that cannot hold what the best split would give it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shortfall {
    /// The device.
    pub device: String,
    /// Its model.
    pub device_model: String,
    /// The configuration that comes closest to fitting.
    pub configuration: String,
    /// The stage that does not fit.
    pub stage: usize,
    /// What the stage needs there.
    pub needed: Bytes,
    /// What the device has.
    pub available: Bytes,
}

impl Shortfall {
    /// Bytes that are missing.
    pub fn missing(&self) -> Bytes {
        self.needed.saturating_sub(self.available)
    }
}

impl fmt::Display for Shortfall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { device, device_model, configuration, stage, needed, available } = self;
        write!(
            f,
            "device '{device}' ({device_model}) has {available} of memory, but stage {stage} of {configuration} needs \
             {needed}: {} bytes too much",
            self.missing().get()
        )
    }
}

/// Why a search ended without a plan.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum PlanError {
    /// No plan of the searched space fits the devices' memory.
    #[error("no plan fits: {shortfall}; {remedy}")]
    Infeasible {
        /// What is missing in the best case.
        shortfall: Box<Shortfall>,
        /// The smallest change found that would make it fit.
        remedy: String,
    },
    /// The limits of the search leave no configuration.
    #[error("nothing to choose from: {reason}")]
    EmptySpace {
        /// Which limits exclude each other, and what to change.
        reason: String,
    },
    /// The search was stopped before it found a plan.
    #[error("stopped after {:.1} s, before any plan was found: give it more time", spent.as_secs_f64())]
    NoIncumbent {
        /// Time spent.
        spent: Duration,
    },
    /// The model has no loss to train with.
    #[error(
        "model '{model}' has no loss, so it cannot be trained: choose a head with a loss, or give --vocab to one that has none without"
    )]
    NoLoss {
        /// Its name.
        model: String,
    },
    /// No device can be used.
    #[error("cluster '{cluster}' has no device that computes in {precision}: choose another precision or cluster")]
    NoDevices {
        /// Name of the cluster.
        cluster: String,
        /// The element type asked for.
        precision: String,
    },
    /// An instance that exhaustive search refuses.
    #[error("{splits:.1e} splits are too many to try one by one: use 'ilp' or 'chain-dp'")]
    TooLarge {
        /// Number of splits.
        splits: f64,
    },
    /// A plan name that cannot be read or that does not fit the problem.
    #[error(
        "plan name '{name}': {problem}; examples: single, dp2-m4, dp2-zero2, pp2-1f1b-m8, pp2-vanilla, pp4-fill-drain-m8-even, pp2-zb-m4, pp2-v2-m4, tp2xdp2, \
         cp2-recompute; `cutplane compare --help` lists all parts"
    )]
    Name {
        /// The name.
        name: String,
        /// Which part is wrong.
        problem: String,
    },
    /// Something cannot be priced.
    #[error(transparent)]
    Cost(#[from] CostError),
    /// The ILP solver failed.
    #[error("the ILP solver failed: {0}; plan with 'chain-dp' instead")]
    Solver(String),
}
