//! Layouts on the command line: the question, its parts from the catalogue, and the report.

pub(crate) mod mixed;
mod report;

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};
use cutplane_graph::{DeviceGraph, DeviceKind, DeviceSpec, Dtype, LinkSpec, ModelGraph, ModelSource};
use cutplane_plan::{Optimizer, write_atomically};
use cutplane_sim::estimate::{AttentionKernel, FoldedModel, Layout, Precision, Stack};
use cutplane_sim::footprint::Keeping;
use cutplane_sim::kernel::GpuModel;
use cutplane_sim::network::Fabric;
use cutplane_sim::planner::LayerPin;
use cutplane_sim::planner::layouts::{
    LAYOUT_FORMAT, LAYOUT_VERSION, LayoutBudget, LayoutOutcome, LayoutPlan, LayoutProblem, LayoutProgress,
    LayoutQuestion, Objective, Pins, search,
};
use cutplane_sim::planner::mapping::{HostMapping, Outer, map_host};

pub(crate) use report::report;
use report::stop_label;

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
    /// Fixes a decision, such as tp=8 or schedule=1f1b (layouts), or layer.3=device:1 (runnable); several may be given.
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
    /// Matrix products of the layers in 8 bits, where the device has them (layouts).
    #[arg(long, conflicts_with = "precision")]
    fp8: bool,
    /// Price of a device, dollars an hour (layouts) [default: of a cloud instance, the catalogue's].
    #[arg(long, value_name = "DOLLARS")]
    dollars_per_hour: Option<f64>,
}

impl LayoutArgs {
    /// Whether anything was asked that only layouts answer.
    pub(crate) fn is_meant(&self) -> bool {
        self.objective.is_some()
            || self.pins.iter().any(|pin| !is_layer_pin(pin))
            || self.top_k.is_some()
            || self.pareto
            || self.stack.is_some()
            || self.attention.is_some()
            || self.fp8
            || self.dollars_per_hour.is_some()
    }

    pub(crate) fn top_k(&self) -> usize {
        self.top_k.unwrap_or(LayoutBudget::default().top_k)
    }

    /// Layers whose device is fixed: of runnable plans.
    pub(crate) fn layer_pins(&self) -> Result<Vec<LayerPin>> {
        let pins = self.pins.iter().flat_map(|pin| pin.split(',')).filter(|pin| is_layer_pin(pin));
        Ok(pins.map(|pin| LayerPin::parse(pin.trim())).collect::<Result<_, _>>()?)
    }

    /// Decisions about a layout.
    fn decisions(&self) -> Result<Pins> {
        anyhow::ensure!(
            !self.pins.iter().any(|pin| is_layer_pin(pin)),
            "--pin layer.N=device:K places a layer of a plan that runs: use it alone, with --space runnable"
        );
        Ok(Pins::parse(&self.pins)?)
    }

    fn kernel(&self) -> AttentionKernel {
        match self.attention.unwrap_or(AttentionName::Flash) {
            AttentionName::Flash => AttentionKernel::Flash,
            AttentionName::Materialised => AttentionKernel::Materialised,
        }
    }

    pub(crate) fn question(
        &self,
        model: ModelSource,
        cluster: &str,
        batch: u64,
        optimizer: Optimizer,
        precision: Option<Dtype>,
    ) -> Result<Question> {
        let mut asked = self.asked(model, cluster)?;
        let price = cutplane_zoo::price(cluster).map(|price| price.dollars_per_device_hour);
        asked.dollars_per_device_hour = asked.dollars_per_device_hour.or(price);
        Question::new(asked, batch, optimizer, (precision, self.fp8))
    }

    /// What is asked, with the price of a device that the user gave.
    fn asked(&self, model: ModelSource, cluster: &str) -> Result<LayoutQuestion> {
        Ok(LayoutQuestion {
            model,
            cluster: cluster.to_owned(),
            stack: self.stack.clone().unwrap_or_else(|| "megatron-core".to_owned()),
            attention: self.kernel(),
            objective: self.objective.unwrap_or(ObjectiveName::StepTime).into(),
            pins: self.decisions()?,
            dollars_per_device_hour: self.dollars_per_hour,
        })
    }
}

fn is_layer_pin(pin: &str) -> bool {
    pin.trim_start().starts_with("layer.")
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
    devices: DeviceGraph,
}

impl Question {
    /// A question about a batch; `fp8` takes products in 8 bits, whatever the precision beside them.
    pub(crate) fn new(
        asked: LayoutQuestion,
        batch: u64,
        optimizer: Optimizer,
        (precision, fp8): (Option<Dtype>, bool),
    ) -> Result<Self> {
        let devices = DeviceGraph::build(cutplane_zoo::cluster(&asked.cluster)?)?;
        let device = alike(&devices)?.clone();
        let precision = arithmetic_of(&[&device], precision, fp8)?;
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
        let stack = stack_of(&asked.stack, &device)?;
        Ok(Self {
            model: FoldedModel::new(&graph),
            gpu: GpuModel::from_spec(&device),
            fabric: Fabric::of_devices(devices)?,
            stack,
            keeping: keeping(&asked.stack),
            asked,
            graph,
            device,
            batch,
            optimizer,
            precision,
            devices: devices.clone(),
        })
    }

    /// Which devices of the first host the ranks of a layout take, where its links differ: groups of the tensor axis, then
    /// replicas or stages.
    pub(crate) fn mapping(&self, layout: &Layout) -> Result<Option<HostMapping>> {
        let first = &self.devices.devices()[0].host;
        let host: Vec<_> = self.devices.device_ids().filter(|id| self.devices.device(*id).host == *first).collect();
        let (inner, whole) = ((layout.tp * layout.cp) as usize, host.len() <= layout.devices() as usize);
        // Hosts of one kind are alike: the first stands for all.
        let names: HashSet<&str> = host.iter().map(|id| self.devices.device(*id).name.as_str()).collect();
        let within = |link: &LinkSpec| names.contains(link.from.as_str()) && names.contains(link.to.as_str());
        let irregular = self.devices.spec().links.iter().any(within);
        if !irregular || !whole || !host.len().is_multiple_of(inner) {
            return Ok(None);
        }
        let outer = if layout.dp > 1 { Outer::Ring } else { Outer::Chain };
        Ok(Some(map_host(&self.devices, &host, inner, outer)?))
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
            "cluster '{}' mixes {} and {}: its plan is of unlike devices",
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

/// 16-bit training where all devices have it, unless another type is asked for.
fn arithmetic_of(devices: &[&DeviceSpec], asked: Option<Dtype>, fp8: bool) -> Result<Precision> {
    if fp8 {
        let without = devices
            .iter()
            .find(|device| device.accelerator.as_ref().is_none_or(|facts| facts.fp8_tflop_per_s.is_none()));
        if let Some(device) = without {
            anyhow::bail!("{} does not compute in 8 bits: leave --fp8 out", device.model);
        }
        return Ok(Precision::Fp8);
    }
    let lacks = |dtype: Dtype| devices.iter().find(|device| device.peak(dtype).is_none());
    let best = [Dtype::Bf16, Dtype::F16, Dtype::F32].into_iter().find(|dtype| lacks(*dtype).is_none());
    let dtype = asked.or(best).unwrap_or(Dtype::F32);
    if let Some(device) = lacks(dtype) {
        anyhow::bail!("{} does not compute in {dtype:?}: choose another --precision", device.model);
    }
    Ok(match dtype {
        Dtype::Bf16 => Precision::Bf16,
        Dtype::F16 => Precision::AmpF16,
        _ => Precision::F32,
    })
}

/// The software stack of this name on a device.
fn stack_of(name: &str, device: &DeviceSpec) -> Result<Stack> {
    let family = device.accelerator.as_ref().map(|facts| facts.architecture);
    Stack::named(name, family).cloned().with_context(|| {
        let known: Vec<&str> = cutplane_sim::estimate::known_stacks().iter().map(|stack| stack.name.as_str()).collect();
        format!("--stack '{name}' is not known; known are {}", known.join(", "))
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
