//! Twins: what processor ranks executed of an experiment, beside what was predicted of it.

use std::path::{Path, PathBuf};

use cutplane_record::{Measurement, Source, append_measurements, read_measurements, spearman};
use serde::Serialize;

use crate::claim::Verdict;
use crate::definition::{Experiment, Twin};
use crate::error::ExperimentError;
use crate::record::{Record, new_table, tables};
use crate::value::Value;

/// Folder of what was executed in the folder of an experiment.
const FOLDER: &str = "twin";

const MIB: f64 = 1_048_576.0;

/// Step times of one plan.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TwinTimes {
    /// Name of the plan.
    pub plan: String,
    /// Predicted, s.
    pub predicted_step_s: f64,
    /// Measured, median, s.
    pub measured_step_s: f64,
    /// Median absolute deviation of it, s.
    pub measured_mad_s: f64,
    /// Predicted peak memory of the fullest rank, MiB.
    pub predicted_peak_mib: f64,
    /// Measured, MiB.
    pub measured_peak_mib: f64,
    /// Steps that were measured.
    pub steps: usize,
}

impl TwinTimes {
    /// `(predicted - measured) / measured`.
    pub fn error(&self) -> f64 {
        self.predicted_step_s / self.measured_step_s - 1.0
    }
}

/// What was executed, newest record of a twin.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Executed {
    /// The file.
    pub path: PathBuf,
    /// Day of the measurement.
    pub day: String,
    /// Commit that was measured.
    pub commit: String,
    /// Processor.
    pub cpu_model: String,
    /// The plans, in the order of the file.
    pub plans: Vec<TwinTimes>,
}

/// A claim of a twin, judged on what was measured and on what was predicted.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TwinVerdict {
    /// On measured times.
    pub measured: Verdict,
    /// On predicted times.
    pub predicted: Verdict,
}

impl Executed {
    /// Median of the absolute relative errors.
    pub fn median_error(&self) -> f64 {
        let mut errors: Vec<f64> = self.plans.iter().map(|plan| plan.error().abs()).collect();
        errors.sort_by(f64::total_cmp);
        match errors.len() {
            0 => 0.0,
            count => f64::midpoint(errors[(count - 1) / 2], errors[count / 2]),
        }
    }

    /// Spearman's correlation of the predicted and the measured order.
    pub fn rank_correlation(&self) -> Option<f64> {
        let (predicted, measured): (Vec<f64>, Vec<f64>) =
            self.plans.iter().map(|plan| (plan.predicted_step_s, plan.measured_step_s)).unzip();
        spearman(&predicted, &measured)
    }

    /// The step times as records that claims are judged on.
    fn times(&self, of: fn(&TwinTimes) -> f64) -> Vec<Record> {
        let record = |plan: &TwinTimes| Record {
            run: FOLDER.to_owned(),
            case: plan.plan.clone(),
            metric: "step_s".to_owned(),
            unit: "s".to_owned(),
            predicted: of(plan),
            low: None,
            high: None,
            published: None,
            basis: String::new(),
            parameters: std::iter::once(("plan".to_owned(), Value::Text(plan.plan.clone()))).collect(),
        };
        self.plans.iter().map(record).collect()
    }
}

/// The newest record of the experiment's twin as it is defined now: same model, devices, batch and plans among others.
///
/// # Errors
/// [`ExperimentError`] of a file that is no record.
pub fn executed(experiment: &Experiment) -> Result<Option<Executed>, ExperimentError> {
    let Some(twin) = &experiment.definition.twin else { return Ok(None) };
    for path in tables(&experiment.folder.join(FOLDER))?.into_iter().rev() {
        let found = read(&path, twin)?;
        let has = |plan: &String| found.plans.iter().any(|own| own.plan == *plan);
        if twin.plans.iter().all(has) {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

fn read(path: &Path, twin: &Twin) -> Result<Executed, ExperimentError> {
    let rows = read_measurements(path)?;
    let own = |row: &&Measurement| {
        row.model == twin.model && row.devices == twin.devices && row.global_batch == twin.batch && row.error.is_none()
    };
    let of = |source: Source| rows.iter().filter(own).filter(move |row| row.source == source);
    let pair = |measured: &Measurement| {
        let predicted = of(Source::Predicted).find(|row| row.case == measured.case)?;
        Some(TwinTimes {
            plan: measured.case.clone(),
            predicted_step_s: predicted.median_ns * 1e-9,
            measured_step_s: measured.median_ns * 1e-9,
            measured_mad_s: measured.mad_ns * 1e-9,
            predicted_peak_mib: predicted.peak_memory_bytes as f64 / MIB,
            measured_peak_mib: measured.peak_memory_bytes as f64 / MIB,
            steps: measured.n,
        })
    };
    let first = rows.first();
    let text = |of: fn(&Measurement) -> &str| first.map(of).unwrap_or_default().to_owned();
    Ok(Executed {
        path: path.to_owned(),
        day: text(|row| &row.date).chars().take(10).collect(),
        commit: text(|row| &row.commit),
        cpu_model: text(|row| &row.cpu_model),
        plans: of(Source::Measured).filter_map(pair).collect(),
    })
}

/// Keeps what a comparison measured as the newest record of the experiment's twin; returns its file.
///
/// # Errors
/// [`ExperimentError`] of `records` or of the folder.
pub fn keep_executed(experiment: &Experiment, records: &Path) -> Result<PathBuf, ExperimentError> {
    let rows = read_measurements(records)?;
    let folder = experiment.folder.join(FOLDER);
    std::fs::create_dir_all(&folder).map_err(ExperimentError::write(&folder))?;
    let day: String = rows.first().map(|row| row.date.chars().take(10).collect()).unwrap_or_default();
    let path = new_table(&folder, &day);
    append_measurements(&path, &rows)?;
    Ok(path)
}

/// Judges the claims of a twin.
pub fn judge_twin(twin: &Twin, executed: &Executed) -> Vec<TwinVerdict> {
    let measured = executed.times(|plan| plan.measured_step_s);
    let predicted = executed.times(|plan| plan.predicted_step_s);
    let one = |claim: &crate::claim::TwinClaim| TwinVerdict {
        measured: claim.judge(&measured),
        predicted: claim.judge(&predicted),
    };
    twin.claims.iter().map(one).collect()
}
