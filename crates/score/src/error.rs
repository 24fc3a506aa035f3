//! What can be wrong with a file of measurements.

use std::path::PathBuf;

use thiserror::Error;

/// A file that cannot be scored, or a result that cannot be written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ScoreError {
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
    /// Not a CSV file of the row format.
    #[error("{path}: line {line}: {problem}", path = path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Line in the file, from 1.
        line: u64,
        /// What is wrong and what to do.
        problem: String,
    },
    /// Columns that no row can do without are absent.
    #[error(
        "{path}: column {columns} missing: not a file of measured rows. The first line must name the columns; the \
         format is described in docs/fidelity.md",
        path = path.display()
    )]
    Columns {
        /// The file.
        path: PathBuf,
        /// The absent columns, quoted and comma-separated.
        columns: String,
    },
    /// A header and nothing below it.
    #[error("{path}: no rows: a file of measured rows holds at least one", path = path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
}
