//! What can be wrong with an experiment.

use std::path::{Path, PathBuf};

use thiserror::Error;

/// A definition that is refused, a case that cannot be predicted, a record that cannot be kept.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ExperimentError {
    /// The operating system refused.
    #[error("{path}: cannot {action}: {source}", path = path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// `read` or `write`.
        action: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// The text is no definition; the message names line and key.
    #[error("{path}: not a definition: {source}", path = path.display())]
    Toml {
        /// The file.
        path: PathBuf,
        /// Where and what.
        source: Box<toml::de::Error>,
    },
    /// A field of a file does not make sense.
    #[error("{path}: {field}: {problem}", path = path.display())]
    Field {
        /// The file.
        path: PathBuf,
        /// The field, `run 'speed': metric`.
        field: String,
        /// What is wrong and what to do.
        problem: String,
    },
    /// No experiment of that name.
    #[error("no experiment '{name}' in {root}: there are {known}", root = root.display())]
    Unknown {
        /// The name asked for.
        name: String,
        /// Where it was looked for.
        root: PathBuf,
        /// The names there are.
        known: String,
    },
    /// A case that the cost models cannot answer.
    #[error("{experiment}: run '{run}', case '{case}': {problem}")]
    Case {
        /// The experiment.
        experiment: String,
        /// Its run.
        run: String,
        /// The case.
        case: String,
        /// What is wrong, naming the parameter.
        problem: String,
    },
    /// What a twin measured cannot be read or kept.
    #[error(transparent)]
    Measured(#[from] cutplane_record::RecordError),
    /// The same case stands in a file of records twice.
    #[error(
        "{path}: line {line}: case '{case}' of run '{run}' is recorded twice, first in line {first}: remove one of them",
        path = path.display()
    )]
    Duplicate {
        /// The file.
        path: PathBuf,
        /// The second line.
        line: u64,
        /// The first line.
        first: u64,
        /// The run.
        run: String,
        /// The case.
        case: String,
    },
    /// Files that the user downloads are absent.
    #[error("{experiment}: '{file}' is not there; download it from {from} into {into}")]
    Absent {
        /// The experiment.
        experiment: String,
        /// The file.
        file: String,
        /// Where it can be had.
        from: String,
        /// Where it is looked for.
        into: String,
    },
    /// A figure could not be drawn or a page not be written.
    #[error("{experiment}: figure '{figure}': {source}")]
    Figure {
        /// The experiment.
        experiment: String,
        /// The figure.
        figure: String,
        /// Why.
        source: cutplane_report::ReportError,
    },
}

impl ExperimentError {
    pub(crate) fn read(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| Self::Io { path: path.to_owned(), action: "read", source }
    }

    pub(crate) fn write(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| Self::Io { path: path.to_owned(), action: "write", source }
    }

    pub(crate) fn field(path: &Path, field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Field { path: path.to_owned(), field: field.into(), problem: problem.into() }
    }
}
