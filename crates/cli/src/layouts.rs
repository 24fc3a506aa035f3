//! Layouts on the command line: the question, its parts from the catalogue, and the report.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};
use cutplane_graph::{DeviceGraph, DeviceKind, DeviceSpec, Dtype, ModelGraph, ModelSource};
use cutplane_plan::{Optimizer, StopReason, write_atomically};
use cutplane_sim::estimate::{AttentionKernel, FoldedModel, Precision, Stack};
use cutplane_sim::footprint::Keeping;
use cutplane_sim::kernel::GpuModel;
use cutplane_sim::network::Fabric;
use cutplane_sim::planner::layouts::{
    LAYOUT_FORMAT, LAYOUT_VERSION, LayoutBudget, LayoutOutcome, LayoutPlan, LayoutProblem, LayoutProgress,
    LayoutQuestion, Objective, Pins, label, search, split_label,
};
use cutplane_units::Bytes;

use crate::progress;

/// What is minimised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ObjectiveName {
    /// Time of a step; with a given batch also tokens a second.
    StepTime,
    /// Dollars a step; with a given batch also dollars a token.
    Dollars,
    /// Number of devices.
    Devices,
}

impl From<ObjectiveName> for Objective {
    fn from(name: ObjectiveName) -> Self {
        match name {
            ObjectiveName::StepTime => Self::StepTime,
            ObjectiveName::Dollars => Self::Dollars,
            ObjectiveName::Devices => Self::Devices,
        }
    }
}

/// How attention is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum AttentionName {
    /// One fused kernel.
    Flash,
    /// Scores are written to memory.
    Materialised,
}

/// What only layouts can be asked for.
#[derive(Clone, Debug, Args)]
pub(crate) struct LayoutArgs {
    /// What is minimised (layouts).
    #[arg(long, value_enum)]
    objective: Option<ObjectiveName>,
    /// Fixes a decision, such as tp=8 or schedule=1f1b; several may be given (layouts).
    #[arg(long = "pin", value_name = "NAME=VALUE")]
    pins: Vec<String>,
    /// How many of the best layouts are listed (layouts) [default: 5].
    #[arg(long, value_name = "K")]
    top_k: Option<usize>,
    /// Lists the fastest layout for every number of devices worth using (layouts).
    #[arg(long)]
    pub(crate) pareto: bool,
    /// Software stack that prices and memory habits are taken of (layouts) [default: megatron-core].
    #[arg(long, value_name = "NAME")]
    stack: Option<String>,
    /// Attention kernel (layouts) [default: flash].
    #[arg(long, value_enum)]
    attention: Option<AttentionName>,
    /// Price of a device, dollars an hour (layouts).
    #[arg(long, value_name = "DOLLARS")]
    dollars_per_hour: Option<f64>,
}

impl LayoutArgs {
    /// Whether anything was asked that only layouts answer.
    pub(crate) const fn is_meant(&self) -> bool {
        self.objective.is_some()
            || !self.pins.is_empty()
            || self.top_k.is_some()
            || self.pareto
            || self.stack.is_some()
            || self.attention.is_some()
            || self.dollars_per_hour.is_some()
    }

    pub(crate) fn top_k(&self) -> usize {
        self.top_k.unwrap_or(LayoutBudget::default().top_k)
    }

    pub(crate) fn question(
        &self,
        model: ModelSource,
        cluster: &str,
        batch: u64,
        optimizer: Optimizer,
        precision: Option<Dtype>,
    ) -> Result<Question> {
        let question = LayoutQuestion {
            model,
            cluster: cluster.to_owned(),
            stack: self.stack.clone().unwrap_or("megatron-core".to_owned()),
            attention: match self.attention.unwrap_or(AttentionName::Flash) {
                AttentionName::Flash => AttentionKernel::Flash,
                AttentionName::Materialised => AttentionKernel::Materialised,
            },
            objective: self.objective.unwrap_or(ObjectiveName::StepTime).into(),
            pins: Pins::parse(&self.pins)?,
            dollars_per_device_hour: self.dollars_per_hour,
        };
        Question::new(question, batch, optimizer, precision)
    }
}

/// A question with all that answers it.
pub(crate) struct Question {
    pub(crate) asked: LayoutQuestion,
    pub(crate) graph: ModelGraph,
    model: FoldedModel,
    gpu: GpuModel,
    pub(crate) fabric: Fabric,
    stack: Stack,
    keeping: Keeping,
    pub(crate) device: DeviceSpec,
    batch: u64,
    optimizer: Optimizer,
    precision: Precision,
}

impl Question {
    /// A question about a batch.
    pub(crate) fn new(
        asked: LayoutQuestion,
        batch: u64,
        optimizer: Optimizer,
        precision: Option<Dtype>,
    ) -> Result<Self> {
        let devices = DeviceGraph::build(cutplane_zoo::cluster(&asked.cluster)?)?;
        let device = alike(&devices)?.clone();
        let precision = arithmetic(&device, precision)?;
        Self::with_precision(asked, &devices, device, (batch, optimizer, precision))
    }

    /// The question of a file.
    pub(crate) fn of_plan(plan: &LayoutPlan) -> Result<Self> {
        let devices = DeviceGraph::build(cutplane_zoo::cluster(&plan.question.cluster)?)?;
        let device = alike(&devices)?.clone();
        let layout = &plan.layout;
        let work = (layout.global_batch, layout.optimizer, layout.precision);
        Self::with_precision(plan.question.clone(), &devices, device, work)
    }

    fn with_precision(
        asked: LayoutQuestion,
        devices: &DeviceGraph,
        device: DeviceSpec,
        (batch, optimizer, precision): (u64, Optimizer, Precision),
    ) -> Result<Self> {
        let graph = cutplane_zoo::build(&asked.model)?;
        let family = device.accelerator.as_ref().map(|facts| facts.architecture);
        let stack = Stack::named(&asked.stack, family).with_context(|| {
            let known: Vec<&str> =
                cutplane_sim::estimate::known_stacks().iter().map(|stack| stack.name.as_str()).collect();
            format!("--stack '{}' is not known; known are {}", asked.stack, known.join(", "))
        })?;
        Ok(Self {
            model: FoldedModel::new(&graph),
            gpu: GpuModel::from_spec(&device),
            fabric: Fabric::of_devices(devices)?,
            stack: stack.clone(),
            keeping: keeping(&asked.stack),
            asked,
            graph,
            device,
            batch,
            optimizer,
            precision,
        })
    }

    pub(crate) fn problem(&self) -> LayoutProblem<'_> {
        LayoutProblem {
            graph: &self.graph,
            model: &self.model,
            gpu: &self.gpu,
            fabric: &self.fabric,
            stack: &self.stack,
            keeping: &self.keeping,
            device_memory: self.device.memory().get(),
            global_batch: self.batch,
            precision: self.precision,
            attention: self.asked.attention,
            optimizer: self.optimizer,
            dollars_per_device_hour: self.asked.dollars_per_device_hour,
            objective: self.asked.objective,
            pins: self.asked.pins.clone(),
        }
    }

    /// Searches with progress; Ctrl-C ends the search with the best layout so far.
    pub(crate) fn search(&self, time_limit: Duration, relative_gap: f64, top_k: usize) -> Result<LayoutOutcome> {
        let spinner = progress::spinner("planning");
        let show = |at: &LayoutProgress| {
            let best = at.objective.map(|value| format!(", best {value:.4}")).unwrap_or_default();
            spinner.set_message(format!("planning: {} layouts priced{best}, bound {:.4}", at.priced, at.bound));
        };
        let interrupt = progress::interrupt_flag()?;
        let budget =
            LayoutBudget { time_limit, relative_gap, top_k, progress: Some(&show), interrupt: Some(&interrupt) };
        let outcome = search(&self.problem(), &budget);
        spinner.finish_and_clear();
        Ok(outcome?)
    }
}

/// The device of a cluster whose devices are all alike accelerators.
fn alike(devices: &DeviceGraph) -> Result<&DeviceSpec> {
    let first = &devices.devices()[0].spec;
    if let Some(other) = devices.devices().iter().find(|device| device.spec.model != first.model) {
        anyhow::bail!(
            "cluster '{}' mixes {} and {}: layouts are searched on equal devices; use --space runnable",
            devices.name(),
            first.model,
            other.spec.model
        );
    }
    anyhow::ensure!(
        first.kind == DeviceKind::Gpu,
        "layouts are priced for accelerators, and '{}' has processor cores: use --space runnable",
        devices.name()
    );
    Ok(first)
}

/// 16-bit training where the device has it, unless another type is asked for.
fn arithmetic(device: &DeviceSpec, asked: Option<Dtype>) -> Result<Precision> {
    let best = [Dtype::Bf16, Dtype::F16, Dtype::F32].into_iter().find(|dtype| device.peak(*dtype).is_some());
    let dtype = asked.or(best).unwrap_or(Dtype::F32);
    anyhow::ensure!(
        device.peak(dtype).is_some(),
        "{} does not compute in {dtype:?}: choose another --precision",
        device.model
    );
    Ok(match dtype {
        Dtype::Bf16 => Precision::Bf16,
        Dtype::F16 => Precision::AmpF16,
        _ => Precision::F32,
    })
}

/// The memory habits that belong to a stack.
fn keeping(stack: &str) -> Keeping {
    match stack {
        name if name.starts_with("megatron-core") => Keeping::MEGATRON_CORE,
        name if name.contains("deepspeed") => Keeping::DEEPSPEED,
        name if name.starts_with("megatron") => Keeping::MEGATRON_LM,
        name if name.contains("ddp") || name.starts_with("nvidia-examples") => Keeping::PYTORCH_DDP,
        _ => Keeping::PYTORCH_FSDP,
    }
}

/// Whether a file says that it is a layout.
pub(crate) fn is_layout(text: &str) -> bool {
    let header: Result<serde_json::Value, _> = serde_json::from_str(text);
    header.is_ok_and(|value| value["format"] == LAYOUT_FORMAT)
}

/// Reads a layout.
pub(crate) fn parse(text: &str, path: &Path) -> Result<LayoutPlan> {
    let plan: LayoutPlan = serde_json::from_str(text).with_context(|| path.display().to_string())?;
    anyhow::ensure!(
        plan.version == LAYOUT_VERSION,
        "{}: field 'version' is {}, this build reads {LAYOUT_VERSION}: plan again",
        path.display(),
        plan.version
    );
    Ok(plan)
}

/// Writes a layout: whole or not at all.
pub(crate) fn write(path: &Path, plan: &LayoutPlan) -> Result<()> {
    let text = serde_json::to_string_pretty(plan)? + "\n";
    write_atomically(path, text.as_bytes()).with_context(|| path.display().to_string())
}

/// Six lines: what, how fast, does it fit, is it the best, why, can it be run.
pub(crate) fn report(question: &Question, plan: &LayoutPlan) -> String {
    let (predicted, layout) = (&plan.predicted, &plan.layout);
    let split = split_label(layout).map(|split| format!("  layers {split}")).unwrap_or_default();
    let memory = |bytes: u64| Bytes::new(bytes);
    let dollars = predicted.dollars_per_step.map(|dollars| format!("   ${dollars:.2} a step")).unwrap_or_default();
    format!(
        "model    {}  {} layers  {:.1} B parameters     cluster  {}: {} of {} x {} used\n\
         plan     {}{split}\n\
         predict  step {:.3} s ({:.3} .. {:.3})  {:.0} tokens/s   memory {} of {} on the fullest device{dollars}\n\
         proof    {}\n\
         why      {}\n\
         runs     {}\n",
        question.graph.name(),
        question.graph.layer_count(),
        question.graph.parameter_count() as f64 / 1e9,
        plan.question.cluster,
        predicted.devices,
        question.fabric.ranks(),
        question.device.model,
        label(layout),
        predicted.step_s,
        predicted.step_low_s,
        predicted.step_high_s,
        predicted.tokens_per_s,
        memory(predicted.peak_memory_bytes),
        memory(predicted.device_memory_bytes),
        proof(plan),
        why(plan),
        plan.execution.note,
    )
}

/// What is known of a layout's optimality.
pub(crate) fn proof(plan: &LayoutPlan) -> String {
    let search = &plan.search;
    let stop = match search.stop_reason {
        StopReason::ProvenOptimal => "proven optimal",
        StopReason::GapReached => "gap reached",
        StopReason::TimeLimit => "time limit",
        StopReason::CandidatesExhausted => "searchers exhausted",
        StopReason::Interrupted => "interrupted",
    };
    format!(
        "at most {:.3}% from optimal in the tool's own prices (bound {:.4}, {stop}): {} layouts priced, {} sets cut; {:.2} s",
        100.0 * search.gap,
        search.bound,
        search.counts.priced,
        search.counts.cut_by_bound + search.counts.cut_by_memory,
        search.search_seconds
    )
}

/// The largest parts of the step, the memory, the runner-up.
pub(crate) fn why(plan: &LayoutPlan) -> String {
    let mut parts = plan.predicted.parts_s.clone();
    parts.sort_by(|a, b| b.1.total_cmp(&a.1));
    let share = |(name, seconds): &(String, f64)| format!("{name} {:.0}%", 100.0 * seconds / plan.predicted.step_s);
    let time: Vec<String> = parts.iter().take(4).map(share).collect();
    let memory = format!("memory fullest on stage {} ({})", plan.predicted.fullest_stage, plan.predicted.largest_part);
    let runner_up = plan.search.runners_up.first().map(|(label, value)| {
        format!("; runner-up {:.2}% worse: {label}", 100.0 * (value / plan.search.objective - 1.0))
    });
    format!("{}; {memory}{}", time.join(", "), runner_up.unwrap_or_default())
}
