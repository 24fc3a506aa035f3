//! Memory of training steps.

use crate::metric::Metric;
use crate::prediction::{RowPrediction, Skip, TraceEntry};
use crate::profile::Profile;
use crate::row::Row;

/// Peak memory of the fullest device, of the kind that [`Row::memory_kind`] names.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Peak {
    /// GiB.
    pub(super) predicted_gib: f64,
    /// What the device offers, GiB.
    pub(super) capacity_gib: f64,
    /// Where its numbers come from.
    pub(super) trace: Vec<TraceEntry>,
}

impl Peak {
    /// Adds this to a prediction of the row's own metric.
    pub(super) fn beside(self, prediction: RowPrediction) -> RowPrediction {
        let mut prediction = prediction.with_memory(self.predicted_gib, self.capacity_gib);
        prediction.trace.extend(self.trace);
        prediction
    }
}

/// Predicts a row whose metric is memory, or whether memory suffices.
///
/// # Errors
/// [`Skip`] when the row cannot be represented.
pub(super) fn predict(row: &Row, _metric: &Metric, profile: &Profile) -> Result<RowPrediction, Skip> {
    peak(row, profile).map(|peak| peak.beside(RowPrediction::default()))
}

/// The peak of a row's step.
///
/// # Errors
/// [`Skip`] when the row cannot be represented.
pub(super) fn peak(row: &Row, _profile: &Profile) -> Result<Peak, Skip> {
    Err(Skip::new("unsupported-memory", format!("training of '{}'", row.model)))
}
