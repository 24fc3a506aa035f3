//! Why a graph's step cannot be priced.

use thiserror::Error;

/// Why a graph's step cannot be priced.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum GraphStepError {
    /// An operator without a price.
    #[error("operator '{op}' ({kind}): it has no price: {remedy}")]
    Operator {
        /// Its name.
        op: String,
        /// Its kind.
        kind: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// A number of the job that makes no step.
    #[error("{field}: {value} is not possible: {remedy}")]
    Field {
        /// Which field.
        field: &'static str,
        /// Its value.
        value: String,
        /// What to do.
        remedy: &'static str,
    },
}
