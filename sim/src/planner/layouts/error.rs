//! Why there is no layout.

use std::fmt;
use std::time::Duration;

use cutplane_units::Bytes;
use thiserror::Error;

use crate::estimate::EstimateError;

/// The layout that comes closest to fitting, and what stands in its way.
#[derive(Clone, Debug, PartialEq)]
pub struct LayoutShortfall {
    /// The device model whose memory runs out.
    pub device_model: String,
    /// Devices that there are.
    pub devices: u64,
    /// The layout in a line.
    pub layout: String,
    /// The fullest pipeline stage.
    pub stage: u64,
    /// The largest part of what it holds.
    pub binding: &'static str,
    /// Bytes of that part.
    pub binding_bytes: Bytes,
    /// What the stage needs on each device.
    pub needed: Bytes,
    /// What a device has.
    pub available: Bytes,
}

impl fmt::Display for LayoutShortfall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { device_model, devices, layout, stage, binding, binding_bytes, needed, available } = self;
        write!(
            f,
            "a {device_model} has {available} of memory, and the layout that comes closest on {devices} devices ({layout}) \
             needs {needed} on stage {stage}, of which {binding} {binding_bytes}"
        )
    }
}

/// Why a search of layouts ended without one.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum LayoutError {
    /// No layout of the searched space fits the devices' memory.
    #[error("no layout fits: {shortfall}; {remedy}")]
    Infeasible {
        /// What is missing in the best case.
        shortfall: Box<LayoutShortfall>,
        /// The smallest change found that would make it fit.
        remedy: String,
    },
    /// The pins, the batch and the number of devices leave nothing.
    #[error("nothing to choose from: {reason}")]
    EmptySpace {
        /// What excludes what, and what to change.
        reason: String,
    },
    /// The search was stopped before it found a layout.
    #[error("stopped after {:.1} s, before any layout that fits was found: give it more time", spent.as_secs_f64())]
    NoIncumbent {
        /// Time spent.
        spent: Duration,
    },
    /// A pin that cannot be read.
    #[error("pin '{pin}': {problem}: {remedy}")]
    Pin {
        /// What was given.
        pin: String,
        /// What is wrong with it.
        problem: String,
        /// What to write.
        remedy: String,
    },
    /// An objective that needs what the problem does not say.
    #[error("objective '{objective}': {problem}: {remedy}")]
    Objective {
        /// The objective.
        objective: &'static str,
        /// What is missing.
        problem: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// The model cannot be priced.
    #[error(transparent)]
    Estimate(#[from] EstimateError),
}
