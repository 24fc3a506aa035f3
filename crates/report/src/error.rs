//! What can go wrong while a report is made.

use std::path::PathBuf;

use thiserror::Error;

/// A figure, trace or page that cannot be made.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReportError {
    /// The operating system refused.
    #[error("{path}: cannot write: {source}; check that the folder exists and can be written", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The drawing library refused.
    #[error("cannot draw: {reason}")]
    Draw {
        /// Why.
        reason: String,
    },
    /// A timeline that is not of the program.
    #[error("cannot report: {reason}")]
    Mismatch {
        /// What does not fit.
        reason: String,
    },
}

impl ReportError {
    pub(crate) fn draw(error: impl std::fmt::Display) -> Self {
        Self::Draw { reason: error.to_string() }
    }
}
