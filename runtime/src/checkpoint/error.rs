//! Why a checkpoint cannot be written or used: each case names the file and the remedy.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// A checkpoint that cannot be written or used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The operating system refuses.
    #[error(
        "cannot {action} {}: {source}; the checkpoints before it are whole: free space or choose another folder with \
         --checkpoint, then --resume", path.display()
    )]
    Write {
        /// The file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// A file that cannot be read.
    #[error("cannot read {}: {source}; give --resume a folder of checkpoints, or a manifest in it", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A folder without a manifest.
    #[error("{} holds no checkpoint (step-*.json); runs write there with --checkpoint", folder.display())]
    Nothing {
        /// The folder.
        folder: PathBuf,
    },
    /// A manifest that is damaged or of another kind.
    #[error("{}: {problem}; give --resume an older manifest", path.display())]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A file of a checkpoint that is missing or damaged.
    #[error("{}: {problem}; copy it again, or give --resume an older manifest", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A checkpoint of something else.
    #[error("{} was written by another run: {problem}", path.display())]
    Other {
        /// The manifest.
        path: PathBuf,
        /// In what it differs, and what to do.
        problem: String,
    },
    /// Numbers of a parameter that no file holds, or a piece that does not fit its parameter.
    #[error("{}: {part} of parameter '{parameter}': {problem}; give --resume an older manifest", path.display())]
    Parameter {
        /// The manifest.
        path: PathBuf,
        /// The parameter.
        parameter: String,
        /// What of it.
        part: String,
        /// What is wrong.
        problem: String,
    },
    /// Numbers that a rank was told to write and does not hold: a defect of the run, which would make the checkpoint useless.
    #[error(
        "the rank does not hold {part} of parameter '{parameter}', which it is to write; the checkpoints before this one are \
         whole: --resume from one of them"
    )]
    NotHeld {
        /// The parameter.
        parameter: String,
        /// What of it.
        part: String,
    },
    /// Ranks whose counts of steps differ, which no checkpoint can hold.
    #[error(
        "ranks have taken different numbers of optimizer steps: {steps:?}; save between steps of a synchronous plan"
    )]
    Unsynchronised {
        /// By rank.
        steps: Vec<u32>,
    },
    /// A rank of another process could not write.
    #[error("{0}")]
    OtherProcess(String),
    /// What a process on another host has written is not in the folder of the leading process.
    #[error(
        "{} was written by another process and is not here: with ranks on several hosts, --checkpoint must name a folder that \
         all hosts share", path.display()
    )]
    NotShared {
        /// The file.
        path: PathBuf,
    },
}
