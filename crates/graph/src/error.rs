//! What can be wrong with a graph, each case by the name of the part that is at fault.

use thiserror::Error;

/// A malformed model graph.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ModelError {
    /// No operator at all.
    #[error("model '{model}' has no operators")]
    Empty {
        /// Model name.
        model: String,
    },
    /// A split over a tensor axis that cannot be executed.
    #[error("operator '{op}' {reason}")]
    Split {
        /// The operator.
        op: String,
        /// What is wrong.
        reason: String,
    },
    /// Two operators, values or parameters with one name.
    #[error("the name '{name}' is used twice; names of operators and inputs must differ")]
    DuplicateName {
        /// The name.
        name: String,
    },
    /// An operator reads a value of another graph, or one that does not exist.
    #[error("operator '{op}' reads {value}, which this graph does not have")]
    UnknownValue {
        /// Operator name.
        op: String,
        /// The offending value.
        value: String,
    },
    /// An operator got the wrong number of inputs.
    #[error("operator '{op}' takes {expected} inputs, got {got}")]
    Arity {
        /// Operator name.
        op: String,
        /// What it takes.
        expected: usize,
        /// What it got.
        got: usize,
    },
    /// An input has a shape or element type that the operator cannot take.
    #[error("operator '{op}': {reason}")]
    Shape {
        /// Operator name.
        op: String,
        /// What does not fit.
        reason: String,
    },
    /// An extent of zero, or a tensor of more than 2^64 elements a sample.
    #[error("'{name}' has the impossible shape {shape}")]
    ImpossibleShape {
        /// Value or operator name.
        name: String,
        /// The shape.
        shape: String,
    },
    /// One shared parameter under two shapes.
    #[error("parameter '{param}' is shared by operators that want shapes {first:?} and {second:?}")]
    SharedParamShape {
        /// Parameter name.
        param: String,
        /// First shape.
        first: Vec<u64>,
        /// Conflicting shape.
        second: Vec<u64>,
    },
    /// A computed value that nothing reads and that is not an output.
    #[error("the result of operator '{op}' is never used: declare it an output or drop the operator")]
    DeadValue {
        /// Operator name.
        op: String,
    },
    /// A graph input that no operator reads.
    #[error("input '{input}' is never used")]
    DeadInput {
        /// Input name.
        input: String,
    },
}

/// A malformed device graph.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum DeviceGraphError {
    /// No device at all.
    #[error("cluster '{cluster}' has no devices: add at least one [[node]] of kind \"device\"")]
    NoDevices {
        /// Cluster name.
        cluster: String,
    },
    /// Two nodes with one name.
    #[error("cluster '{cluster}': the node name '{name}' is used twice")]
    DuplicateName {
        /// Cluster name.
        cluster: String,
        /// Node name.
        name: String,
    },
    /// A link whose end is not a node.
    #[error("cluster '{cluster}': link '{from}' - '{to}' ends at '{missing}', which is not a node")]
    UnknownNode {
        /// Cluster name.
        cluster: String,
        /// First end.
        from: String,
        /// Second end.
        to: String,
        /// The missing one.
        missing: String,
    },
    /// A link from a node to itself.
    #[error("cluster '{cluster}': node '{name}' is linked to itself")]
    SelfLink {
        /// Cluster name.
        cluster: String,
        /// Node name.
        name: String,
    },
    /// A number that must be positive and finite is not.
    #[error("cluster '{cluster}': {what} of '{name}' must be above zero and finite, got {value}")]
    NotPositive {
        /// Cluster name.
        cluster: String,
        /// Field name.
        what: &'static str,
        /// Node or link name.
        name: String,
        /// Value given.
        value: String,
    },
    /// A device node without device facts, or facts on a node that is no device.
    #[error("cluster '{cluster}': node '{name}' {problem}")]
    DeviceFacts {
        /// Cluster name.
        cluster: String,
        /// Node name.
        name: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// Two devices that no path joins.
    #[error("cluster '{cluster}': no path joins '{from}' and '{to}'; add a [[link]] between their hosts or switches")]
    Disconnected {
        /// Cluster name.
        cluster: String,
        /// First device.
        from: String,
        /// Unreachable device.
        to: String,
    },
}
