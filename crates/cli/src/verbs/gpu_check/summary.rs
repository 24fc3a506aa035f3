//! What a check list says in the end.

use std::path::Path;

use anyhow::Result;
use cutplane_record::{Measurement, Source, read_measurements};
use serde::Deserialize;
use serde_json::{Value, json};

use super::journal::{Entry, State};
use super::steps::RECORDS;

/// What one item came to.
pub(crate) struct Outcome {
    pub(crate) item: &'static str,
    pub(crate) title: &'static str,
    pub(crate) entries: Vec<Entry>,
}

impl Outcome {
    fn count(&self, state: State) -> usize {
        self.entries.iter().filter(|entry| entry.state == state).count()
    }

    fn lines(&self) -> String {
        let (done, failed, skipped) = (self.count(State::Done), self.count(State::Failed), self.count(State::Skipped));
        let mut text = format!(
            "{}  {:<52} {done} done, {failed} failed, {skipped} skipped   {:.0} s\n",
            self.item,
            self.title,
            self.seconds()
        );
        for entry in &self.entries {
            let word = match entry.state {
                State::Begun | State::Done => continue,
                State::Failed => "failed ",
                State::Skipped => "skipped",
            };
            text += &format!("   {word}  {}: {}\n", entry.case, entry.problem.as_deref().unwrap_or("no reason given"));
        }
        text
    }

    fn seconds(&self) -> f64 {
        self.entries.iter().map(|entry| entry.seconds).sum()
    }

    fn to_json(&self) -> Value {
        json!({ "item": self.item, "seconds": self.seconds(), "passed": self.passed(), "cases": self.entries })
    }

    /// True when nothing failed.
    pub(crate) fn passed(&self) -> bool {
        self.count(State::Failed) == 0
    }
}

/// Relative errors of the predictions of `records` under prices called `origin`: of step time and of peak memory. A
/// measured row follows the predictions of its plan.
pub(crate) fn errors(records: &[Measurement], origin: &str) -> Vec<(String, f64, f64)> {
    let mut errors = Vec::new();
    let mut predicted: Option<&Measurement> = None;
    for record in records {
        match record.source {
            Source::Predicted if record.backend == origin => predicted = Some(record),
            Source::Predicted => {}
            Source::Measured => {
                let Some(predicted) = predicted.take().filter(|row| row.plan_digest == record.plan_digest) else {
                    continue;
                };
                let name = format!(
                    "{} x {} {} {} on {}",
                    record.model, record.global_batch, record.precision, record.case, record.devices
                );
                let step = predicted.median_ns / record.median_ns.max(1.0) - 1.0;
                let memory = predicted.peak_memory_bytes as f64 / (record.peak_memory_bytes as f64).max(1.0) - 1.0;
                errors.push((name, step, memory));
            }
        }
    }
    errors
}

fn median_magnitude(errors: impl Iterator<Item = f64>) -> Option<f64> {
    cutplane_record::Summary::of(&errors.map(f64::abs).collect::<Vec<_>>()).map(|summary| summary.median_ns)
}

/// A row of `pytorch.csv`, as far as it is compared.
#[derive(Debug, Deserialize)]
struct PyTorch {
    model: String,
    mode: String,
    precision: String,
    attention: String,
    global_batch: u64,
    sequence_length: u64,
    median_ns: Option<f64>,
}

/// Measured training steps of one rank, each as a ratio to PyTorch's of the same work and element type.
fn ratios(records: &[Measurement], pytorch: &Path) -> Result<Vec<(String, f64)>> {
    if !pytorch.exists() {
        return Ok(Vec::new());
    }
    let rows: Vec<PyTorch> = csv::Reader::from_path(pytorch)?.deserialize().collect::<Result<_, _>>()?;
    let alone = records.iter().filter(|record| record.source == Source::Measured && record.case == "single");
    let pairs = alone.flat_map(|record| rows.iter().map(move |row| (record, row)));
    let same = |(record, row): &(&Measurement, &PyTorch)| {
        row.mode == "training"
            && (&row.model, &row.precision) == (&record.model, &record.precision)
            && (row.global_batch, row.sequence_length) == (record.global_batch, record.sequence_length)
    };
    let ratio = |(record, row): (&Measurement, &PyTorch)| {
        let work = format!("{} x {} {}", row.model, row.global_batch, row.precision);
        Some((format!("{work}, {} attention", row.attention), record.median_ns / row.median_ns?))
    };
    Ok(pairs.filter(same).filter_map(ratio).collect())
}

/// The text and the JSON of a finished list.
pub(crate) fn write(folder: &Path, machine: &str, outcomes: &[Outcome]) -> Result<(String, Value)> {
    let mut text = format!("gpu-check on {machine}\n\n");
    for outcome in outcomes {
        text += &outcome.lines();
    }
    let records = folder.join(RECORDS);
    let records = if records.exists() { read_measurements(&records)? } else { Vec::new() };
    let mut prices = Vec::new();
    for origin in ["simulator, measured prices", "simulator, datasheet prices"] {
        let errors = errors(&records, origin);
        let Some(step) = median_magnitude(errors.iter().map(|error| error.1)) else { continue };
        let memory = median_magnitude(errors.iter().map(|error| error.2)).unwrap_or(0.0);
        text += &format!(
            "\n{origin}: median error of step time {:.1}%, of peak memory {:.1}%, over {} cases\n",
            100.0 * step,
            100.0 * memory,
            errors.len()
        );
        for (name, step, memory) in &errors {
            text += &format!("   {name:<52} step {:+7.1}%  memory {:+7.1}%\n", 100.0 * step, 100.0 * memory);
        }
        prices.push(json!({
            "prices": origin,
            "cases": errors.len(),
            "median_step_error": step,
            "median_memory_error": memory,
        }));
    }
    let ratios = ratios(&records, &folder.join("pytorch.csv"))?;
    if !ratios.is_empty() {
        text += "\nstep time as a multiple of PyTorch's\n";
        for (name, ratio) in &ratios {
            text += &format!("   {name:<52} {ratio:.2}\n");
        }
    }
    let items: Vec<Value> = outcomes.iter().map(Outcome::to_json).collect();
    let value = json!({ "machine": machine, "items": items, "predictions": prices, "ratios_to_pytorch": ratios });
    cutplane_plan::write_atomically(&folder.join("summary.txt"), text.as_bytes())?;
    cutplane_plan::write_atomically(&folder.join("summary.json"), serde_json::to_string_pretty(&value)?.as_bytes())?;
    Ok((text, value))
}
