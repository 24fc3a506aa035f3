//! What can be wrong with a record.

use std::path::PathBuf;

use thiserror::Error;

/// A record that cannot be read, written or compared.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RecordError {
    /// The operating system refused.
    #[error("{path}: cannot {action}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// `read` or `write`.
        action: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// A file with the wrong content.
    #[error("{path}: {problem}", path = path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong and what to do.
        problem: String,
    },
    /// Two timelines of different programs, or of the same kind.
    #[error("cannot compare: {reason}")]
    Mismatch {
        /// Why not.
        reason: String,
    },
}
