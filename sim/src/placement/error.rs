//! Why a placement is wrong, or why there is none.

use thiserror::Error;

/// An assignment that breaks a rule of the problem.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum PlacementViolation {
    /// Not one device a node.
    #[error("the assignment has {given} devices for {nodes} nodes: give one a node")]
    Length {
        /// Nodes of the problem.
        nodes: usize,
        /// Entries of the assignment.
        given: usize,
    },
    /// A device that is not there.
    #[error("node {id} is on device {device} of {devices}: devices count from 0")]
    Device {
        /// The node.
        id: i64,
        /// Its device.
        device: usize,
        /// Number of devices.
        devices: usize,
    },
    /// A node that accelerators cannot run.
    #[error("node {id} is on accelerator {device}, which cannot run it: put it on a CPU core")]
    Unsupported {
        /// The node.
        id: i64,
        /// Its device.
        device: usize,
    },
    /// A colour class on two devices.
    #[error("nodes {first} and {id} of colour class {color} are on different devices: keep the class together")]
    Torn {
        /// The class.
        color: i64,
        /// A node of it.
        first: i64,
        /// A node of it elsewhere.
        id: i64,
    },
    /// An accelerator with too little memory.
    #[error("accelerator {device} needs {needed:.0} bytes of {limit:.0}: move nodes off it")]
    Memory {
        /// The device.
        device: usize,
        /// Sizes of its nodes, bytes.
        needed: f64,
        /// Its memory, bytes.
        limit: f64,
    },
}

/// Why there is no placement.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum PlaceError {
    /// Proven: no assignment keeps all limits.
    #[error("no placement exists: {limit}; {remedy}")]
    Infeasible {
        /// The limit that binds.
        limit: String,
        /// The smallest change that would make it fit.
        remedy: String,
    },
    /// Nothing was found, and nothing proven either.
    #[error("no placement found in {seconds:.1} s, and none proven impossible: raise --time-limit, or {remedy}")]
    NoneFound {
        /// Time spent, s.
        seconds: f64,
        /// What would make it easier.
        remedy: String,
    },
    /// The user interrupted before anything was found.
    #[error("interrupted before a placement was found")]
    Interrupted,
    /// The searcher's own answer did not hold against the evaluator: a defect of the searcher.
    #[error("the searcher '{searcher}' gave a wrong placement: {violation}; please report it with the workload")]
    Wrong {
        /// The searcher.
        searcher: String,
        /// What is wrong.
        violation: PlacementViolation,
    },
    /// HiGHS failed.
    #[error("the solver failed: {0}; try another --seed")]
    Solver(String),
}
