//! Plans over unlike devices on the command line: the question, and its report.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use cutplane_graph::{DeviceGraph, DeviceKind, DeviceSpec, Dtype, ModelGraph, ModelSource};
use cutplane_plan::{Optimizer, write_atomically};
use cutplane_sim::estimate::{FoldedModel, Precision, Stack};
use cutplane_sim::footprint::Keeping;
use cutplane_sim::kernel::GpuModel;
use cutplane_sim::network::Fabric;
use cutplane_sim::planner::layouts::mixed::{
    DeviceClass, Joint, MIXED_FORMAT, MIXED_VERSION, MixedClass, MixedOutcome, MixedProblem, MixedShape,
    device_classes, search, violations,
};
use cutplane_sim::planner::layouts::{LayoutBudget, LayoutProgress, LayoutQuestion};
use cutplane_units::Bytes;

use super::{LayoutArgs, arithmetic_of, keeping, stack_of, stop_label};
use crate::progress;

/// Whether a cluster's devices are accelerators that are not all alike.
pub(crate) fn is_mixed(devices: &DeviceGraph) -> bool {
    let all = devices.devices();
    let unlike = || all.iter().any(|device| device.spec.model != all[0].spec.model) || !equal_hosts(devices);
    all.iter().all(|device| device.spec.kind == DeviceKind::Gpu) && unlike()
}

fn equal_hosts(devices: &DeviceGraph) -> bool {
    let mut counts = std::collections::BTreeMap::<&str, usize>::new();
    devices.devices().iter().for_each(|device| *counts.entry(&device.host).or_default() += 1);
    let mut counts = counts.into_values();
    let first = counts.next();
    counts.all(|count| Some(count) == first)
}

struct Class {
    name: String,
    gpu: GpuModel,
    fabric: Fabric,
    stack: Stack,
    memory: u64,
    dollars_per_hour: Option<f64>,
}

/// A question with all that answers it.
pub(crate) struct MixedQuestion {
    asked: LayoutQuestion,
    graph: ModelGraph,
    model: FoldedModel,
    classes: Vec<Class>,
    joint: Joint,
    keeping: Keeping,
    batch: u64,
    optimizer: Optimizer,
    precision: Precision,
}

impl MixedQuestion {
    pub(crate) fn new(
        args: &LayoutArgs,
        (source, cluster): (ModelSource, &str),
        devices: &DeviceGraph,
        (batch, optimizer, precision): (u64, Optimizer, Option<Dtype>),
    ) -> Result<Self> {
        let specs: Vec<&DeviceSpec> = devices.devices().iter().map(|device| &device.spec).collect();
        let precision = arithmetic_of(&specs, precision, args.fp8)?;
        Self::with_precision(args.asked(source, cluster)?, devices, (batch, optimizer, precision))
    }

    /// The question of a file; `None` where the file does not tell it.
    pub(crate) fn of_outcome(outcome: &MixedOutcome) -> Result<Option<Self>> {
        let (Some(asked), Some(layout)) = (&outcome.question, outcome.plan.leading_layout()) else { return Ok(None) };
        let devices = DeviceGraph::build(cutplane_zoo::cluster(&asked.cluster)?)?;
        let work = (outcome.plan.global_batch, layout.optimizer, layout.precision);
        Self::with_precision(asked.clone(), &devices, work).map(Some)
    }

    fn with_precision(
        asked: LayoutQuestion,
        devices: &DeviceGraph,
        (batch, optimizer, precision): (u64, Optimizer, Precision),
    ) -> Result<Self> {
        let graph = cutplane_zoo::build(&asked.model)?;
        let (found, joint) = device_classes(devices)?;
        let class = |class: &DeviceClass| {
            Ok(Class {
                name: class.name.clone(),
                gpu: GpuModel::from_spec(&class.spec),
                fabric: class.fabric.clone(),
                stack: stack_of(&asked.stack, &class.spec)?,
                memory: class.spec.memory().get(),
                dollars_per_hour: asked.dollars_per_device_hour.or(price(&asked.cluster, &class.spec.model)),
            })
        };
        Ok(Self {
            model: FoldedModel::new(&graph),
            graph,
            classes: found.iter().map(class).collect::<Result<_>>()?,
            joint,
            keeping: keeping(&asked.stack),
            asked,
            batch,
            optimizer,
            precision,
        })
    }

    pub(crate) fn problem(&self) -> MixedProblem<'_> {
        MixedProblem {
            graph: &self.graph,
            model: &self.model,
            classes: self.classes.iter().map(Class::as_mixed).collect(),
            joint: self.joint,
            keeping: &self.keeping,
            global_batch: self.batch,
            precision: self.precision,
            attention: self.asked.attention,
            optimizer: self.optimizer,
            objective: self.asked.objective,
            pins: self.asked.pins.clone(),
        }
    }

    /// Searches with progress; Ctrl-C ends the search with the best plan so far.
    pub(crate) fn search(&self, time_limit: Duration, relative_gap: f64, top_k: usize) -> Result<MixedOutcome> {
        let spinner = progress::spinner("planning");
        let show = |at: &LayoutProgress| {
            let best = at.objective.map(|value| format!(", best {value:.4}")).unwrap_or_default();
            spinner.set_message(format!("planning: {} layouts searched{best}", at.priced));
        };
        let interrupt = progress::interrupt_flag()?;
        let budget =
            LayoutBudget { time_limit, relative_gap, top_k, progress: Some(&show), interrupt: Some(&interrupt) };
        let problem = self.problem();
        let outcome = search(&problem, &budget);
        spinner.finish_and_clear();
        let outcome = MixedOutcome { question: Some(self.asked.clone()), ..outcome? };
        let wrong = violations(&problem, &outcome.plan);
        anyhow::ensure!(wrong.is_empty(), "the plan found is not valid: {}", wrong.join("; "));
        Ok(outcome)
    }

    /// What, how fast, does it fit, is it the best, can it be run.
    pub(crate) fn report(&self, outcome: &MixedOutcome) -> String {
        let classes = self.classes.iter().map(|class| format!("{} x {}", class.fabric.ranks(), class.name));
        format!(
            "model    {}  {} layers  {:.1} B parameters     cluster  {}: {}\n{}",
            self.graph.name(),
            self.graph.layer_count(),
            self.graph.parameter_count() as f64 / 1e9,
            self.asked.cluster,
            classes.collect::<Vec<_>>().join(" and "),
            lines(outcome),
        )
    }
}

impl Class {
    fn as_mixed(&self) -> MixedClass<'_> {
        MixedClass {
            name: self.name.clone(),
            gpu: &self.gpu,
            fabric: &self.fabric,
            stack: &self.stack,
            device_memory: self.memory,
            dollars_per_device_hour: self.dollars_per_hour,
        }
    }
}

/// The catalogue's price of a device model in one of the parts of a cluster argument.
fn price(cluster: &str, model: &str) -> Option<f64> {
    let prices = cluster.split('+').filter_map(cutplane_zoo::price);
    prices.into_iter().find(|price| price.device == model).map(|price| price.dollars_per_device_hour)
}

/// The lines of a report that the plan alone decides.
fn lines(outcome: &MixedOutcome) -> String {
    let plan = &outcome.plan;
    let mut text = String::new();
    for (at, line) in plan.lines().iter().enumerate() {
        text += &format!("{}     {line}\n", if at == 0 { "plan" } else { "    " });
    }
    let used = plan.devices.iter().map(|(class, count)| format!("{count} x {class}")).collect::<Vec<_>>().join(" and ");
    let dollars = plan.predicted_dollars.map(|dollars| format!("   ${dollars:.4} a step")).unwrap_or_default();
    text += &format!("predict  step {:.4} s on {used}{dollars}\n", plan.predicted_step_s);
    text += &format!(
        "proof    at most {:.3}% from optimal in the tool's own prices (bound {:.4}, {}): {} layouts of pipelines, {} \
         searches of one class; {:.2} s\n",
        100.0 * outcome.gap(),
        outcome.bound,
        stop_label(outcome.stop_reason),
        outcome.pipelines,
        outcome.class_searches,
        outcome.search_seconds
    );
    text + &format!("why      {}\nruns     {}\n", why(&plan.shape), plan.execution_note)
}

/// What sets the pace, and where memory is fullest.
fn why(shape: &MixedShape) -> String {
    match shape {
        MixedShape::Pipeline { stages, .. } => {
            let slowest =
                stages.iter().enumerate().max_by(|a, b| a.1.predicted_stage_s.total_cmp(&b.1.predicted_stage_s));
            let fullest = stages.iter().enumerate().max_by_key(|(_, stage)| stage.predicted_memory_bytes);
            let slowest = slowest.map(|(at, stage)| {
                format!("stage {at} on {} sets the pace: {:.4} s a micro-batch", stage.class, stage.predicted_stage_s)
            });
            let fullest = fullest.map(|(at, stage)| {
                format!(
                    "memory fullest on stage {at}: {} of a {}",
                    Bytes::new(stage.predicted_memory_bytes),
                    stage.class
                )
            });
            slowest.into_iter().chain(fullest).collect::<Vec<_>>().join("; ")
        }
        MixedShape::Replicas { shares, predicted_exchange_s } => {
            let share = |share: &cutplane_sim::planner::layouts::mixed::ClassShare| {
                let memory = Bytes::new(share.predicted_memory_bytes);
                format!("{} takes {:.4} s and {memory}", share.class, share.predicted_step_s)
            };
            let classes: Vec<String> = shares.iter().map(share).collect();
            format!("{}; exchange between classes {predicted_exchange_s:.4} s", classes.join(", "))
        }
    }
}

/// Whether a file says that it is a plan over unlike devices.
pub(crate) fn is_mixed_plan(text: &str) -> bool {
    let value: Result<serde_json::Value, _> = serde_json::from_str(text);
    value.is_ok_and(|value| value["plan"]["format"] == MIXED_FORMAT)
}

/// Reads a plan over unlike devices.
pub(crate) fn parse(text: &str, path: &Path) -> Result<MixedOutcome> {
    let outcome: MixedOutcome = serde_json::from_str(text).with_context(|| path.display().to_string())?;
    anyhow::ensure!(
        outcome.plan.version == MIXED_VERSION,
        "{}: field 'plan.version' is {}, this build reads {MIXED_VERSION}: plan again",
        path.display(),
        outcome.plan.version
    );
    Ok(outcome)
}

/// Writes a plan over unlike devices: whole or not at all.
pub(crate) fn write(path: &Path, outcome: &MixedOutcome) -> Result<()> {
    let text = serde_json::to_string_pretty(outcome)? + "\n";
    write_atomically(path, text.as_bytes()).with_context(|| path.display().to_string())
}
