//! What a comparison leaves behind: plan, trace, records, summary, figures.

use std::path::Path;

use anyhow::{Context as _, Result};
use cutplane_plan::{write_atomically, write_plan};
use cutplane_record::{Comparison, Source, append_measurements};
use cutplane_report::{
    BreakdownBars, CompareRow, CompareSummary, LOSS_SIZE, LossCurve, SCATTER_SIZE, breakdown, breakdown_size, gantt,
    gantt_size, loss_curves, mean_breakdown, memory, memory_size, save, scatter, write_trace,
};
use cutplane_units::Nanos;
use serde_json::json;

use super::measure::Measured;
use super::plans::Candidate;
use crate::records::Subject;

/// What a comparison is about.
pub(crate) struct Setting<'a> {
    pub(crate) subject: Subject<'a>,
    pub(crate) global_batch: u64,
    pub(crate) vocab: u64,
    /// Back end that the measured steps ran on.
    pub(crate) backend: String,
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
            tokens_per_step: setting.global_batch * setting.subject.sequence_length,
            predicted_memory: candidate.predicted.max_peak_memory(),
            measured_memory: measured.peak_memory,
        })
    };
    candidates.iter().zip(measured).filter_map(row).collect()
}

/// The back end of a measured record, and how it ran.
fn backend(setting: &Setting<'_>, measured: &Measured) -> String {
    std::iter::once(&setting.backend).chain(&measured.notes).cloned().collect::<Vec<_>>().join("; ")
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
        records.push(setting.subject.predicted(&candidate.plan, &candidate.predicted, "simulator"));
        let mut row = setting.subject.record(&candidate.plan, Source::Measured, &backend(setting, measured));
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
        write_trace(&folder.join(name), &measured.program, setting.subject.devices, &[&candidate.predicted, timeline])?;
        let stem = folder.join(format!("gantt-{}", candidate.plan.name));
        save(&stem, gantt_size(&measured.program), |canvas| {
            gantt(canvas, &measured.program, &candidate.predicted, timeline)
        })?;
    }
    figures(folder, setting, candidates, measured, rows)?;
    let summary = json!({
        "rows": rows.iter().map(CompareRow::to_json).collect::<Vec<_>>(),
        "summary": CompareSummary::of(rows).map(|summary| summary.to_json()),
        "provenance": setting.subject.provenance,
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
