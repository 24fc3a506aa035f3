//! What a predictor answers: a number with its interval and origins, or the reason why there is none.

use std::borrow::Cow;

use serde::Serialize;
use thiserror::Error;

use crate::row::Row;

/// Predicts the rows of one kind of workload.
pub trait Predictor: Sync {
    /// Predicts the row's metric, in the row's own unit, from the row's description alone.
    ///
    /// # Errors
    /// [`Skip`] when the row cannot be represented: a row is skipped by name, never guessed at.
    fn predict(&self, row: &Row) -> Result<RowPrediction, Skip>;
}

/// Why a row has no prediction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Error)]
#[error("{reason}: {detail}")]
pub struct Skip {
    /// Stable name in kebab case: `unknown-hardware`, `missing-batch`.
    pub reason: &'static str,
    /// What exactly could not be represented.
    pub detail: String,
}

impl Skip {
    /// A reason with its detail.
    pub fn new(reason: &'static str, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }
}

/// Where a number of a prediction comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "origin", rename_all = "kebab-case")]
pub enum Origin {
    /// Written in the row itself.
    Stated,
    /// A vendor's data sheet, or a standard.
    Datasheet,
    /// Fitted to measured rows.
    Calibrated {
        /// Which ones: `vidur_layer_profiles: 486 rows`.
        rows: Cow<'static, str>,
    },
    /// A prior; nobody measured it for this row.
    Assumed,
}

/// One number of a prediction and where it comes from.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TraceEntry {
    /// What it is: `matmul efficiency`.
    pub name: Cow<'static, str>,
    /// Its value with its unit: `0.82`, `300 GB/s`.
    pub value: String,
    /// Where it comes from.
    #[serde(flatten)]
    pub origin: Origin,
}

/// A predicted row.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RowPrediction {
    /// The row's metric in the row's unit; 1 stands for true. `None` when only memory is predicted.
    pub predicted: Option<f64>,
    /// Why the row's own metric has no number where only memory was predicted.
    pub unpredicted: Option<Skip>,
    /// Lower end of the interval that holds the measurement in about nine cases of ten, in the row's unit.
    pub low: Option<f64>,
    /// Upper end of that interval.
    pub high: Option<f64>,
    /// Whether the prediction leaves the range that the cost model was calibrated on.
    pub extrapolates: bool,
    /// Predicted peak memory of the fullest device, GiB, of the kind that [`Row::memory_kind`] names.
    pub memory_gib: Option<f64>,
    /// Memory that the device offers, GiB.
    pub capacity_gib: Option<f64>,
    /// Whether it fits; `None` when memory was not predicted.
    pub fits: Option<bool>,
    /// Every number that mattered, with its origin.
    pub trace: Vec<TraceEntry>,
}

impl RowPrediction {
    /// A prediction in the row's unit with its interval.
    pub fn new(predicted: f64, low: f64, high: f64) -> Self {
        Self { predicted: Some(predicted), low: Some(low.min(high)), high: Some(low.max(high)), ..Self::default() }
    }

    /// Adds the memory of the fullest device, and whether it fits.
    #[must_use]
    pub fn with_memory(mut self, memory_gib: f64, capacity_gib: f64) -> Self {
        (self.memory_gib, self.capacity_gib) = (Some(memory_gib), Some(capacity_gib));
        self.fits = Some(memory_gib <= capacity_gib);
        self
    }

    /// Adds a number and its origin.
    #[allow(clippy::needless_pass_by_value, reason = "most values are made for the note")]
    pub fn note(&mut self, name: impl Into<Cow<'static, str>>, value: impl ToString, origin: Origin) {
        self.trace.push(TraceEntry { name: name.into(), value: value.to_string(), origin });
    }
}
