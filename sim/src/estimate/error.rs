//! Why a step cannot be estimated.

use thiserror::Error;

/// Why a step cannot be estimated.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum EstimateError {
    /// Fields that do not fit together.
    #[error("{fields}: {problem}: {remedy}")]
    Inconsistent {
        /// The fields, comma-separated.
        fields: String,
        /// What does not fit.
        problem: String,
        /// What to do.
        remedy: String,
    },
    /// An operator that the estimator has no kernels for.
    #[error("operator '{op}' ({kind}): the estimator has no kernels for it: {remedy}")]
    Operator {
        /// Its name.
        op: String,
        /// Its kind.
        kind: &'static str,
        /// What to do.
        remedy: String,
    },
}

/// An [`EstimateError::Inconsistent`].
pub(super) fn inconsistent<T>(fields: &str, problem: impl Into<String>, remedy: &str) -> Result<T, EstimateError> {
    Err(EstimateError::Inconsistent { fields: fields.to_owned(), problem: problem.into(), remedy: remedy.to_owned() })
}
