//! Why a fabric or a group cannot be described.

use thiserror::Error;

/// Why a fabric, a group or a topology is refused.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum NetworkError {
    /// A level of a fabric with a wrong field.
    #[error("fabric '{fabric}', level {level}: '{field}' is {value}: {remedy}")]
    Level {
        /// Name of the fabric.
        fabric: String,
        /// Which level, from the innermost (0).
        level: usize,
        /// The field.
        field: &'static str,
        /// Its value.
        value: String,
        /// What to write instead.
        remedy: &'static str,
    },
    /// A fabric with too few or too many levels.
    #[error("fabric '{fabric}' has {levels} levels: describe it by 1 to {most}")]
    Levels {
        /// Name of the fabric.
        fabric: String,
        /// Levels given.
        levels: usize,
        /// The most that a fabric holds.
        most: usize,
    },
    /// A process group with a wrong field.
    #[error("process group: '{field}' is {value}: {remedy}")]
    Group {
        /// The field.
        field: &'static str,
        /// Its value.
        value: usize,
        /// What to write instead.
        remedy: &'static str,
    },
    /// A cluster whose hosts differ, so that no one description fits all its ranks.
    #[error(
        "cluster '{cluster}': {problem}: describe its levels by hand with `Fabric::new`, or price routes one by one"
    )]
    NotUniform {
        /// Name of the cluster.
        cluster: String,
        /// What differs.
        problem: String,
    },
    /// Devices that a topology search cannot use.
    #[error("cluster '{cluster}': {problem}")]
    Topology {
        /// Name of the cluster.
        cluster: String,
        /// What is wrong, and the remedy.
        problem: String,
    },
    /// Rows that a calibration cannot use.
    #[error("calibration: {0}")]
    Fit(String),
}
