//! The file of every row: predicted beside measured.

use std::path::Path;

use cutplane_plan::write_atomically;
use serde::Serialize;

use crate::error::ScoreError;
use crate::prediction::{Origin, RowPrediction, TraceEntry};
use crate::scoring::{Outcome, ScoredRow};

/// One line of the file.
#[derive(Serialize)]
struct Entry<'a> {
    file: String,
    line: u64,
    source: &'a str,
    grade: &'static str,
    workload: &'static str,
    model: &'a str,
    hardware: &'a str,
    op: &'a str,
    metric_name: &'a str,
    metric_unit: &'a str,
    outcome: &'static str,
    measured: Option<f64>,
    predicted: Option<f64>,
    predicted_low: Option<f64>,
    predicted_high: Option<f64>,
    relative_error: Option<f64>,
    extrapolates: Option<bool>,
    measured_memory_gib: Option<f64>,
    predicted_memory_gib: Option<f64>,
    capacity_gib: Option<f64>,
    predicted_fits: Option<bool>,
    skip_reason: &'a str,
    skip_detail: &'a str,
    origins: String,
    digest: &'a str,
}

/// Writes every row with its prediction as CSV, whole or not at all.
///
/// # Errors
/// [`ScoreError::Io`].
pub fn write_rows(path: &Path, rows: &[ScoredRow]) -> Result<(), ScoreError> {
    let failed = |source: std::io::Error| ScoreError::Io { path: path.to_owned(), action: "write", source };
    let mut writer = csv::Writer::from_writer(Vec::new());
    for row in rows {
        writer.serialize(entry(row)).map_err(|error| failed(std::io::Error::other(error)))?;
    }
    let bytes = writer.into_inner().map_err(|error| failed(std::io::Error::other(error.to_string())))?;
    write_atomically(path, &bytes).map_err(failed)
}

fn entry(row: &ScoredRow) -> Entry<'_> {
    let about = &row.measured.row;
    let empty = RowPrediction::default();
    let prediction = row.outcome.prediction().unwrap_or(&empty);
    let (skip_reason, skip_detail) = match &row.outcome {
        Outcome::Skipped(skip) => (skip.reason, skip.detail.as_str()),
        _ => ("", ""),
    };
    Entry {
        file: about.file.display().to_string(),
        line: about.line,
        source: &about.source,
        grade: about.grade.letter(),
        workload: about.workload.name(),
        model: &about.model,
        hardware: &about.hardware,
        op: &about.op,
        metric_name: &about.metric_name,
        metric_unit: &about.metric_unit,
        outcome: row.outcome.name(),
        measured: row.measured.measured_value,
        predicted: prediction.predicted,
        predicted_low: prediction.low,
        predicted_high: prediction.high,
        relative_error: row.relative_error(),
        extrapolates: row.outcome.prediction().map(|found| found.extrapolates),
        measured_memory_gib: row.memory_pair().map(|(_, measured)| measured).or(row.measured.measured_memory),
        predicted_memory_gib: prediction.memory_gib,
        capacity_gib: prediction.capacity_gib,
        predicted_fits: prediction.fits,
        skip_reason,
        skip_detail,
        origins: prediction.trace.iter().map(origin).collect::<Vec<_>>().join("; "),
        digest: &row.measured.digest,
    }
}

/// `matmul efficiency = 0.82 [calibrated: vidur_layer_profiles, 486 rows]`.
fn origin(entry: &TraceEntry) -> String {
    let from = match &entry.origin {
        Origin::Stated => "stated".into(),
        Origin::Datasheet => "datasheet".into(),
        Origin::Assumed => "assumed".into(),
        Origin::Calibrated { rows } => format!("calibrated: {rows}"),
    };
    format!("{} = {} [{from}]", entry.name, entry.value)
}
