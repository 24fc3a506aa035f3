//! The file of a layout: everything that it takes to explain it again.

use cutplane_graph::ModelSource;
use cutplane_plan::StopReason;
use serde::{Deserialize, Serialize};

use super::objective::Objective;
use super::outcome::{Candidate, LayoutOutcome, label};
use super::pins::Pins;
use super::problem::LayoutProblem;
use super::tally::SearchCounts;
use crate::estimate::{AttentionKernel, Layout, Offload, PipelineSchedule, Recompute, ZeroStage};
use crate::planner::mapping::HostMapping;

/// What [`LayoutPlan::format`] says.
pub const LAYOUT_FORMAT: &str = "cutplane-layout";
/// The version that this build writes and reads.
pub const LAYOUT_VERSION: u32 = 1;

/// A layout with the question that it answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayoutPlan {
    /// [`LAYOUT_FORMAT`].
    pub format: String,
    /// [`LAYOUT_VERSION`].
    pub version: u32,
    /// The question.
    pub question: LayoutQuestion,
    /// The answer.
    pub layout: Layout,
    /// What it is predicted to cost.
    pub predicted: PredictedStep,
    /// How it was found.
    pub search: LayoutSearch,
    /// Whether this build can run it.
    pub execution: Execution,
    /// Which devices of a host its ranks take, where it matters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mapping: Option<HostMapping>,
}

/// What was asked: enough to ask again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayoutQuestion {
    /// The model.
    pub model: ModelSource,
    /// The cluster, as it was written on the command line.
    pub cluster: String,
    /// Name of the software stack.
    pub stack: String,
    /// Attention kernel.
    pub attention: AttentionKernel,
    /// What was minimised.
    pub objective: Objective,
    /// What was fixed.
    #[serde(default)]
    pub pins: Pins,
    /// Price of a device, dollars an hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dollars_per_device_hour: Option<f64>,
}

/// A predicted step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PredictedStep {
    /// Time of a step, s.
    pub step_s: f64,
    /// Lower end of its interval, s.
    pub step_low_s: f64,
    /// Upper end of its interval, s.
    pub step_high_s: f64,
    /// Tokens a second over all devices.
    pub tokens_per_s: f64,
    /// Devices used.
    pub devices: u64,
    /// Memory that the driver reports for the fullest device, bytes: the allocator's cache grows until the device is full.
    pub peak_memory_bytes: u64,
    /// Memory of a device, bytes.
    pub device_memory_bytes: u64,
    /// The stage of the fullest device.
    pub fullest_stage: u64,
    /// What takes most of its memory.
    pub largest_part: String,
    /// Dollars a step, where the price of a device is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dollars_per_step: Option<f64>,
    /// Where the time goes, s, in the order of a step; parts of nothing are left out.
    pub parts_s: Vec<(String, f64)>,
}

/// What is known of optimality.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayoutSearch {
    /// The objective of the layout.
    pub objective: f64,
    /// No layout of the space is worth less.
    pub bound: f64,
    /// `(objective - bound) / objective`.
    pub gap: f64,
    /// Why the search ended.
    pub stop_reason: StopReason,
    /// How much work it was.
    pub counts: SearchCounts,
    /// Wall time, s.
    pub search_seconds: f64,
    /// The next best layouts: in a line, with their objective.
    pub runners_up: Vec<(String, f64)>,
}

/// Whether this build can run a layout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Execution {
    /// Whether the runtime has all of its axes.
    pub within_runtime: bool,
    /// What the runtime does not have, or how to get a plan that it runs.
    pub note: String,
}

impl LayoutPlan {
    /// The plan of a search.
    pub fn new(question: LayoutQuestion, problem: &LayoutProblem<'_>, outcome: &LayoutOutcome) -> Self {
        let chosen = outcome.chosen();
        Self {
            format: LAYOUT_FORMAT.to_owned(),
            version: LAYOUT_VERSION,
            question,
            layout: chosen.layout.clone(),
            predicted: predicted(problem, chosen),
            search: LayoutSearch {
                objective: chosen.value,
                bound: outcome.bound,
                gap: outcome.gap(),
                stop_reason: outcome.stop,
                counts: outcome.counts,
                search_seconds: outcome.search_seconds,
                runners_up: outcome.best[1..].iter().map(|best| (label(&best.layout), best.value)).collect(),
            },
            execution: execution(&chosen.layout),
            mapping: None,
        }
    }
}

fn predicted(problem: &LayoutProblem<'_>, chosen: &Candidate) -> PredictedStep {
    let (time, devices) = (chosen.estimate.predicted, chosen.layout.devices());
    let verdict = chosen.footprint.verdict(problem.device_memory);
    let dollars = |price| Objective::Dollars.value(time.seconds, devices as f64, Some(price));
    PredictedStep {
        step_s: time.seconds,
        step_low_s: time.low,
        step_high_s: time.high,
        tokens_per_s: chosen.estimate.tokens_per_second(),
        devices,
        peak_memory_bytes: chosen.footprint.device().get().min(problem.device_memory),
        device_memory_bytes: problem.device_memory,
        fullest_stage: verdict.stage,
        largest_part: verdict.binding.to_owned(),
        dollars_per_step: problem.dollars_per_device_hour.map(dollars),
        parts_s: parts(chosen),
    }
}

fn parts(chosen: &Candidate) -> Vec<(String, f64)> {
    let step = &chosen.estimate.breakdown;
    let parts = [
        ("forward", step.forward),
        ("backward", step.backward),
        ("recomputation", step.recompute),
        ("tensor-parallel collectives", step.tensor_parallel),
        ("context-parallel exchange", step.context_parallel),
        ("expert-parallel exchange", step.expert_parallel),
        ("pipeline messages", step.pipeline_messages),
        ("bubble", step.bubble),
        ("shards of parameters", step.sharding),
        ("gradients", step.gradient_sync),
        ("optimizer", step.optimizer),
        ("host", step.host),
        ("overhead", step.overhead),
    ];
    // Rounding leaves parts of 1e-16 behind.
    let shown = parts.iter().filter(|(_, seconds)| *seconds > 1e-9 * chosen.seconds());
    shown.map(|(name, seconds)| ((*name).to_owned(), *seconds)).collect()
}

/// The runtime has data and pipeline parallelism with whole replicas, no recomputation, and three schedules.
fn execution(layout: &Layout) -> Execution {
    let scheduled = layout.pp == 1
        || matches!(
            layout.schedule,
            PipelineSchedule::Vanilla | PipelineSchedule::FillDrain | PipelineSchedule::OneForwardOneBackward
        );
    let beyond = [
        (layout.tp > 1, "tensor parallelism"),
        (layout.cp > 1, "context parallelism"),
        (layout.ep > 1, "expert parallelism"),
        (layout.zero.stage != ZeroStage::None, "sharded state"),
        (layout.recompute != Recompute::None, "recomputation"),
        (!scheduled, "this schedule"),
        (layout.offload != Offload::None, "state on the host"),
    ];
    let beyond: Vec<&str> = beyond.iter().filter(|(is, _)| *is).map(|(_, what)| *what).collect();
    if beyond.is_empty() {
        let note = "data and pipeline parallelism only: plan it with --space runnable to get a plan that runs";
        return Execution { within_runtime: true, note: note.to_owned() };
    }
    let note =
        format!("a prediction: the runtime executes data x pipeline plans, this one needs {}", beyond.join(", "));
    Execution { within_runtime: false, note }
}
