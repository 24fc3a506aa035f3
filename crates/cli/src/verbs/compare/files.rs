//! What a comparison leaves behind: plan, trace, records, summary, figures.

use std::path::Path;

use anyhow::{Context as _, Result};
use cutplane_graph::{DeviceGraph, ModelGraph};
use cutplane_plan::{write_atomically, write_plan};
use cutplane_record::{Comparison, Measurement, Provenance, Source, Summary, append_measurements};
use cutplane_report::{
    BreakdownBars, CompareRow, CompareSummary, LOSS_SIZE, LossCurve, SCATTER_SIZE, breakdown, breakdown_size, gantt,
    gantt_size, loss_curves, mean_breakdown, memory, memory_size, save, scatter, write_trace,
};
use cutplane_units::Nanos;
use serde_json::json;

use super::measure::Measured;
use super::plans::Candidate;

/// What every record of one comparison has in common.
pub(crate) struct Setting<'a> {
    pub(crate) model: &'a ModelGraph,
    pub(crate) devices: &'a DeviceGraph,
    pub(crate) argument: &'a str,
    pub(crate) global_batch: u64,
    pub(crate) sequence_length: u64,
    pub(crate) vocab: u64,
    pub(crate) seed: u64,
    pub(crate) provenance: &'a Provenance,
}

impl Setting<'_> {
    fn record(&self, candidate: &Candidate, source: Source, backend: &str) -> Measurement {
        Measurement {
            experiment: format!("compare-{}", self.model.name()),
            case: candidate.plan.name.clone(),
            source,
            plan_digest: candidate.plan.digest(),
            model: self.model.name().to_owned(),
            parameters: self.model.parameter_count(),
            devices: self.argument.to_owned(),
            global_batch: self.global_batch,
            sequence_length: self.sequence_length,
            precision: candidate.plan.workload.precision.to_string(),
            n: 0,
            median_ns: 0.0,
            mad_ns: 0.0,
            min_ns: 0.0,
            max_ns: 0.0,
            peak_memory_bytes: 0,
            loss: None,
            seed: self.seed,
            backend: backend.to_owned(),
            date: String::new(),
            tool_version: String::new(),
            commit: String::new(),
            host: String::new(),
            cpu_model: String::new(),
            error: None,
        }
        .with_provenance(self.provenance)
    }
}

/// One table row for each plan that has at least one timed step.
pub(crate) fn rows(setting: &Setting<'_>, candidates: &[Candidate], measured: &[Measured]) -> Vec<CompareRow> {
    let row = |(candidate, measured): (&Candidate, &Measured)| {
        let summary = measured.summary()?;
        Some(CompareRow {
            name: candidate.plan.name.clone(),
            chosen: candidate.chosen,
            predicted_step: candidate.predicted.makespan(),
            measured_step: Nanos::from_nanos_f64(summary.median_ns),
            measured_mad: Nanos::from_nanos_f64(summary.mad_ns),
            tokens_per_step: setting.global_batch * setting.sequence_length,
            predicted_memory: candidate.predicted.max_peak_memory(),
            measured_memory: measured.peak_memory,
        })
    };
    candidates.iter().zip(measured).filter_map(row).collect()
}

/// Appends a predicted and a measured record for each plan.
pub(crate) fn write_records(
    folder: &Path,
    setting: &Setting<'_>,
    candidates: &[Candidate],
    measured: &[Measured],
) -> Result<()> {
    let mut records = Vec::new();
    for (candidate, measured) in candidates.iter().zip(measured) {
        let step = candidate.predicted.makespan().as_f64();
        let once = Summary { n: 1, median_ns: step, mad_ns: 0.0, min_ns: step, max_ns: step };
        let mut predicted = setting.record(candidate, Source::Predicted, "simulator").with_summary(&once);
        predicted.peak_memory_bytes = candidate.predicted.max_peak_memory().get();
        records.push(predicted);
        let mut row = setting.record(candidate, Source::Measured, cutplane_runtime::Backend::cpu().name());
        row.peak_memory_bytes = measured.peak_memory.get();
        row.loss = measured.losses.last().copied();
        match measured.summary() {
            Some(summary) => row = row.with_summary(&summary),
            None => row.error = Some("interrupted before the first timed step".to_owned()),
        }
        records.push(row);
    }
    Ok(append_measurements(&folder.join("records.csv"), &records)?)
}

/// Writes plan, trace and summary of the chosen plan, and the figures.
pub(crate) fn write_all(
    folder: &Path,
    setting: &Setting<'_>,
    candidates: &[Candidate],
    measured: &[Measured],
    rows: &[CompareRow],
) -> Result<()> {
    let chosen = candidates.iter().position(|candidate| candidate.chosen).context("no plan was chosen")?;
    write_plan(&folder.join("plan.json"), &candidates[chosen].plan)?;
    for (candidate, measured) in candidates.iter().zip(measured) {
        let Some(timeline) = measured.median_timeline() else { continue };
        // Every plan is checked to have run instruction by instruction as predicted.
        Comparison::join(&measured.program, &candidate.predicted, timeline)?;
    }
    for index in shown_in_detail(candidates, chosen) {
        let (candidate, measured) = (&candidates[index], &measured[index]);
        let Some(timeline) = measured.median_timeline() else { continue };
        let name =
            if index == chosen { "trace.json".to_owned() } else { format!("trace-{}.json", candidate.plan.name) };
        write_trace(&folder.join(name), &measured.program, setting.devices, &[&candidate.predicted, timeline])?;
        let stem = folder.join(format!("gantt-{}", candidate.plan.name));
        save(&stem, gantt_size(&measured.program), |canvas| {
            gantt(canvas, &measured.program, &candidate.predicted, timeline)
        })?;
    }
    figures(folder, setting, candidates, measured, rows)?;
    let summary = json!({
        "rows": rows.iter().map(CompareRow::to_json).collect::<Vec<_>>(),
        "summary": CompareSummary::of(rows).map(|summary| summary.to_json()),
        "provenance": setting.provenance,
    });
    write_atomically(&folder.join("summary.json"), serde_json::to_string_pretty(&summary)?.as_bytes())?;
    Ok(())
}

/// The chosen plan, and the deepest pipeline, whose bubbles are worth seeing.
fn shown_in_detail(candidates: &[Candidate], chosen: usize) -> Vec<usize> {
    let depth = |index: &usize| {
        let plan = &candidates[*index].plan;
        (plan.pipeline_degree(), plan.micro_batches.min(4))
    };
    let pipeline = (0..candidates.len()).max_by_key(depth).filter(|index| depth(index).0 > 1 && *index != chosen);
    std::iter::once(chosen).chain(pipeline).collect()
}

fn figures(
    folder: &Path,
    setting: &Setting<'_>,
    candidates: &[Candidate],
    measured: &[Measured],
    rows: &[CompareRow],
) -> Result<()> {
    let mut bars = Vec::new();
    let mut curves = Vec::new();
    for (candidate, measured) in candidates.iter().zip(measured) {
        let Some(timeline) = measured.median_timeline() else { continue };
        let name = candidate.plan.name.clone();
        bars.push(BreakdownBars {
            name: name.clone(),
            chosen: candidate.chosen,
            predicted: mean_breakdown(&measured.program, &candidate.predicted)?,
            measured: mean_breakdown(&measured.program, timeline)?,
        });
        curves.push(LossCurve { name, losses: measured.losses.clone() });
    }
    save(&folder.join("predicted-against-measured"), SCATTER_SIZE, |canvas| scatter(canvas, rows))?;
    save(&folder.join("breakdown"), breakdown_size(bars.len()), |canvas| breakdown(canvas, &bars))?;
    save(&folder.join("memory"), memory_size(rows.len()), |canvas| memory(canvas, rows))?;
    save(&folder.join("loss"), LOSS_SIZE, |canvas| loss_curves(canvas, &curves, Some(setting.vocab)))?;
    Ok(())
}
