//! Why a step cannot be simulated.

use thiserror::Error;

/// A field of a step program that does not fit.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("step program, field '{field}': {problem}: {remedy}")]
pub struct StepError {
    /// The field.
    pub field: &'static str,
    /// What is wrong.
    pub problem: String,
    /// What to do.
    pub remedy: &'static str,
}
