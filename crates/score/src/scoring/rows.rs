//! One row: predicted, skipped by name, or left out.

use crate::fitted::was_fitted;
use crate::metric::{Metric, Quantity};
use crate::predict::predict_with;
use crate::prediction::{RowPrediction, Skip};
use crate::profile::Profile;
use crate::row::{Grade, MeasuredRow};

/// What became of a row.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It was predicted and counts.
    Scored(RowPrediction),
    /// It was predicted, and a fit may have used it: it does not count.
    Fitted(RowPrediction),
    /// It could not be represented.
    Skipped(Skip),
    /// Graded C: never scored, so nothing was tried.
    Ignored,
}

impl Outcome {
    /// Its name in files.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Scored(_) => "scored",
            Self::Fitted(_) => "fitted",
            Self::Skipped(_) => "skipped",
            Self::Ignored => "ignored",
        }
    }

    /// The prediction, whether it counts or not.
    pub const fn prediction(&self) -> Option<&RowPrediction> {
        match self {
            Self::Scored(prediction) | Self::Fitted(prediction) => Some(prediction),
            Self::Skipped(_) | Self::Ignored => None,
        }
    }
}

/// A row with its prediction beside what was measured.
#[derive(Clone, Debug, PartialEq)]
pub struct ScoredRow {
    /// The row.
    pub measured: MeasuredRow,
    /// Its metric, when it is understood.
    pub metric: Option<Metric>,
    /// What became of it.
    pub outcome: Outcome,
}

impl ScoredRow {
    /// `(predicted, measured)` of the row's own metric, in its unit; `None` for memory and for true or false.
    pub fn pair(&self) -> Option<(f64, f64)> {
        let metric = self.metric.filter(|metric| !metric.is_memory() && !metric.is_boolean());
        metric.and(Some((self.outcome.prediction()?.predicted?, self.measured.measured_value?)))
    }

    /// `(predicted, measured)` memory, GiB: of the metric where it is memory, else of the column `memory_gb`, which is
    /// taken as GiB.
    pub fn memory_pair(&self) -> Option<(f64, f64)> {
        let prediction = self.outcome.prediction()?;
        match self.metric.filter(Metric::is_memory) {
            Some(metric) => {
                let predicted = prediction.predicted.map(|value| metric.in_base(value)).or(prediction.memory_gib)?;
                Some((predicted, metric.in_base(self.measured.measured_value?)))
            }
            None => Some((prediction.memory_gib?, self.measured.measured_memory?)),
        }
        .filter(|(_, measured)| *measured > 0.0)
    }

    /// `(predicted, measured)`: whether the step fits the memory. A row with a measured time did fit.
    pub fn fits_pair(&self) -> Option<(bool, bool)> {
        let predicted = self.outcome.prediction()?.fits?;
        match self.metric?.quantity {
            Quantity::OutOfMemory => Some((predicted, self.measured.measured_value? < 0.5)),
            _ => Some((predicted, true)),
        }
    }

    /// Whether the measurement lies in the predicted interval.
    pub fn is_covered(&self) -> Option<bool> {
        let (_, measured) = self.pair()?;
        let prediction = self.outcome.prediction()?;
        Some((prediction.low?..=prediction.high?).contains(&measured))
    }

    /// `(predicted - measured) / measured` of [`ScoredRow::pair`].
    pub fn relative_error(&self) -> Option<f64> {
        self.pair().map(|(predicted, measured)| (predicted - measured) / measured)
    }
}

/// Predicts rows, on all processors, with the devices and interconnects of a profile first; the order stays.
pub fn score_rows(rows: Vec<MeasuredRow>, profile: &Profile) -> Vec<ScoredRow> {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let share = rows.len().div_ceil(threads).max(1);
    let outcomes: Vec<(Option<Metric>, Outcome)> = std::thread::scope(|scope| {
        let parts: Vec<_> = rows
            .chunks(share)
            .map(|part| scope.spawn(move || part.iter().map(|row| outcome(row, profile)).collect::<Vec<_>>()))
            .collect();
        parts
            .into_iter()
            .flat_map(|part| part.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    let pairs = rows.into_iter().zip(outcomes);
    pairs.map(|(measured, (metric, outcome))| ScoredRow { measured, metric, outcome }).collect()
}

fn outcome(row: &MeasuredRow, profile: &Profile) -> (Option<Metric>, Outcome) {
    if row.row.grade == Grade::C {
        return (None, Outcome::Ignored);
    }
    match attempt(row, profile) {
        Ok((metric, prediction)) if was_fitted(row) => (Some(metric), Outcome::Fitted(prediction)),
        Ok((metric, prediction)) => (Some(metric), Outcome::Scored(prediction)),
        Err(skip) => (None, Outcome::Skipped(skip)),
    }
}

fn attempt(row: &MeasuredRow, profile: &Profile) -> Result<(Metric, RowPrediction), Skip> {
    if let Some(first) = row.unreadable.first() {
        return Err(Skip::new("unreadable-number", format!("{}: {first}", row.row.place())));
    }
    let metric = Metric::of(&row.row)?;
    let value = row.measured_value.ok_or_else(|| Skip::new("missing-measurement", "column 'metric_value' is empty"))?;
    if value <= 0.0 && !metric.is_boolean() {
        return Err(Skip::new("measurement-not-positive", format!("{value} {}", row.row.metric_unit)));
    }
    let prediction = predict_with(&row.row, profile)?;
    let sane = |value: Option<f64>| value.is_none_or(|value| value.is_finite() && value >= 0.0);
    let sound = sane(prediction.predicted) && sane(prediction.memory_gib) && sane(prediction.high);
    let answers = prediction.predicted.is_some() || prediction.memory_gib.is_some() || prediction.fits.is_some();
    if !sound || !answers {
        return Err(Skip::new("no-sound-prediction", "the cost model gave no finite number"));
    }
    let about_memory = metric.is_memory() || metric.is_boolean() || row.measured_memory.is_some();
    match prediction.unpredicted {
        Some(skip) if !about_memory => Err(skip),
        _ => Ok((metric, prediction)),
    }
}
