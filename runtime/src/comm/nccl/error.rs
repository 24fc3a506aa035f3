//! Why NCCL cannot be used.

use thiserror::Error;

/// What is missing, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(super) enum NcclError {
    /// A library that no name finds.
    #[error("{library} is not found ({problem}); {remedy}")]
    NotFound {
        /// The names that were tried.
        library: String,
        /// What the dynamic loader says of the first.
        problem: String,
        /// What to install.
        remedy: &'static str,
    },
    /// A library without a function that is called.
    #[error("{library} has no {function}; {remedy}")]
    NoFunction {
        /// The name under which it was found.
        library: String,
        /// The function.
        function: &'static str,
        /// What to install.
        remedy: &'static str,
    },
    /// A rank that computes on the processor.
    #[error("the rank has no card")]
    NoCard,
    /// A call that fails.
    #[error("{call} fails: {problem}")]
    Call {
        /// The function.
        call: &'static str,
        /// What the library says.
        problem: String,
    },
}
