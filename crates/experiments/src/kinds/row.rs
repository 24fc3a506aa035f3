//! Any step, request, collective or kernel that a row of measurements can describe, predicted as `cutplane score` does.

use std::collections::BTreeSet;
use std::path::Path;

use cutplane_score::{COLUMNS, Origin, RowPrediction, predict, rows_of};

use super::{Answer, Ask, Kind, KindMetric, Parameter, metrics};

/// Kind `row`.
pub(super) struct Rows;

/// Columns that hold what was measured.
const MEASURED: [&str; 2] = ["metric_value", "memory_gb"];

impl Kind for Rows {
    fn name(&self) -> &'static str {
        "row"
    }

    fn about(&self) -> &'static str {
        "a training step, a request, a collective or a kernel, described as docs/fidelity.md says"
    }

    fn parameters(&self) -> Vec<Parameter> {
        let asked = COLUMNS.into_iter().filter(|name| !MEASURED.contains(name));
        asked.map(|name| Parameter { name, about: "column of the row format, docs/fidelity.md" }).collect()
    }

    fn metrics(&self) -> Vec<KindMetric> {
        metrics(&[
            ("value", "", "the metric that 'metric_name' and 'metric_unit' name"),
            ("memory", "GiB", "peak memory of the fullest device"),
            ("fits", "-", "1 where the step fits the device's memory, else 0"),
        ])
    }

    fn answer(&self, metric: &str, ask: &Ask<'_>) -> Result<Answer, String> {
        let prediction = prediction(ask)?;
        let basis = basis(&prediction);
        let absent = |skip: &RowPrediction| {
            let reason = skip.unpredicted.as_ref().map(ToString::to_string);
            reason.unwrap_or_else(|| format!("no {metric} is predicted for this row"))
        };
        match metric {
            "memory" => prediction.memory_gib.map(|value| Answer::exact(value, basis)),
            "fits" => prediction.fits.map(|fits| Answer::exact(f64::from(u8::from(fits)), basis)),
            _ => prediction.predicted.map(|value| Answer { value, low: prediction.low, high: prediction.high, basis }),
        }
        .ok_or_else(|| absent(&prediction))
    }
}

fn prediction(ask: &Ask<'_>) -> Result<RowPrediction, String> {
    let mut cells: Vec<(String, String)> =
        ask.parameters.iter().map(|(name, value)| (name.clone(), value.to_string())).collect();
    for (name, default) in [("source", "experiment"), ("workload", "training"), ("metric_value", "1")] {
        if !ask.parameters.contains_key(name) {
            cells.push((name.to_owned(), default.to_owned()));
        }
    }
    let mut table = csv::Writer::from_writer(Vec::new());
    let written = table
        .write_record(cells.iter().map(|(name, _)| name))
        .and_then(|()| table.write_record(cells.iter().map(|(_, cell)| cell)));
    written.map_err(|error| error.to_string())?;
    let bytes = table.into_inner().map_err(|error| error.to_string())?;
    let file = rows_of(Path::new("case"), &bytes).map_err(|error| error.to_string())?;
    let row = &file.rows[0];
    if let Some(unreadable) = row.unreadable.first() {
        return Err(unreadable.clone());
    }
    predict(&row.row).map_err(|skip| skip.to_string())
}

/// The measurements that a prediction was calibrated with, and whether something was assumed.
fn basis(prediction: &RowPrediction) -> String {
    let mut parts: BTreeSet<String> = BTreeSet::new();
    for entry in &prediction.trace {
        match &entry.origin {
            Origin::Calibrated { rows } => _ = parts.insert(format!("calibrated on {rows}")),
            Origin::Assumed => _ = parts.insert("assumed numbers".to_owned()),
            Origin::Stated | Origin::Datasheet => {}
        }
    }
    if prediction.extrapolates {
        parts.insert("extrapolates".to_owned());
    }
    let parts: Vec<String> = parts.into_iter().collect();
    parts.join("; ")
}
