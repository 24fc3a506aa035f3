//! The best layout of a model on a cluster, searched with a proof, or one with decisions pinned.

use std::time::Duration;

use cutplane_graph::{DeviceGraph, DeviceKind, DeviceSpec, Dtype, Overrides};
use cutplane_plan::Optimizer;
use cutplane_sim::estimate::{AttentionKernel, FoldedModel, Precision, Stack};
use cutplane_sim::footprint::Keeping;
use cutplane_sim::kernel::GpuModel;
use cutplane_sim::network::Fabric;
use cutplane_sim::planner::layouts::{
    Candidate, LayoutBudget, LayoutOutcome, LayoutProblem, Objective, Pins, label, search,
};

use super::{Answer, Ask, Kind, KindMetric, Parameter, metrics, parameters};

/// Kind `best-layout`.
pub(super) struct BestLayout;

impl Kind for BestLayout {
    fn name(&self) -> &'static str {
        "best-layout"
    }

    fn about(&self) -> &'static str {
        "the best layout of a built-in model on a cluster, searched with a proof; decisions can be pinned"
    }

    fn parameters(&self) -> Vec<Parameter> {
        parameters(&[
            ("model", "built-in model, see 'cutplane models'"),
            ("seq", "tokens of a sample"),
            ("layers", "replaces the number of layers"),
            ("vocab", "replaces the vocabulary; gives a model without a loss one"),
            ("cluster", "kind of machine or device of the catalogue: a100-80gb"),
            ("devices", "how many of them"),
            ("batch", "samples of a step"),
            ("batch_per_device", "samples of a step over devices, in place of 'batch'"),
            ("precision", "bf16, f16, tf32 or f32"),
            ("stack", "software stack, megatron-core if absent"),
            ("attention", "flash or materialised"),
            ("pins", "fixed decisions: 'tp=1, zero=1'"),
            ("time_limit_s", "seconds of search, 20 if absent"),
        ])
    }

    fn metrics(&self) -> Vec<KindMetric> {
        metrics(&[
            ("step_s", "s", "time of a step"),
            ("samples_per_s", "samples/s", "samples a second over all devices"),
            ("tokens_per_s", "tokens/s", "tokens a second over all devices"),
            ("memory_gib", "GiB", "peak memory of the fullest device"),
            ("communication", "-", "share of the step that waits for communication or other stages"),
            ("tp", "-", "tensor-parallel degree"),
            ("pp", "-", "pipeline stages"),
            ("dp", "-", "data-parallel degree"),
            ("gap", "-", "what the search left unproven"),
        ])
    }

    fn answer(&self, metric: &str, ask: &Ask<'_>) -> Result<Answer, String> {
        let outcome = Question::of(ask)?.search(ask)?;
        let found = outcome.chosen();
        let basis = format!("{}; at most {:.2}% from optimal", label(&found.layout), 100.0 * outcome.gap());
        let predicted = &found.estimate.predicted;
        let ends = if metric == "step_s" { (Some(predicted.low), Some(predicted.high)) } else { (None, None) };
        Ok(Answer { value: value(metric, found, &outcome), low: ends.0, high: ends.1, basis })
    }
}

fn value(metric: &str, found: &Candidate, outcome: &LayoutOutcome) -> f64 {
    let parts = &found.estimate.breakdown;
    match metric {
        "step_s" => found.seconds(),
        "samples_per_s" => found.estimate.samples_per_second(),
        "tokens_per_s" => found.estimate.tokens_per_second(),
        "memory_gib" => found.footprint.allocated().as_f64() / f64::from(1 << 30),
        "communication" => {
            let compute = parts.forward + parts.backward + parts.recompute + parts.optimizer;
            1.0 - (compute + parts.host + parts.overhead) / found.seconds()
        }
        "tp" => found.layout.tp as f64,
        "pp" => found.layout.pp as f64,
        "dp" => found.layout.dp as f64,
        _ => outcome.gap(),
    }
}

/// All parts of a problem.
struct Question {
    graph: cutplane_graph::ModelGraph,
    model: FoldedModel,
    gpu: GpuModel,
    fabric: Fabric,
    device: DeviceSpec,
    stack: Stack,
}

impl Question {
    fn of(ask: &Ask<'_>) -> Result<Self, String> {
        let given = |name: &str| -> Result<Option<u64>, String> { ask.get(name).map(|_| ask.count(name)).transpose() };
        let overrides = Overrides { layers: given("layers")?, vocab: given("vocab")?, ..Overrides::default() };
        let source = cutplane_zoo::source_from_argument(ask.text("model")?, given("seq")?, overrides)
            .map_err(|error| error.to_string())?;
        let graph = cutplane_zoo::build(&source).map_err(|error| error.to_string())?;
        let argument = format!("{}:{}", ask.text("cluster")?, ask.count("devices")?);
        let devices = cutplane_zoo::cluster(&argument).map_err(|error| error.to_string())?;
        let devices = DeviceGraph::build(devices).map_err(|error| error.to_string())?;
        let device = devices.devices()[0].spec.clone();
        if device.kind != DeviceKind::Gpu {
            return Err(format!("'cluster' is '{argument}': layouts are searched on accelerators; use kind 'plan'"));
        }
        let name = ask.text_or("stack", "megatron-core")?;
        let family = device.accelerator.as_ref().map(|facts| facts.architecture);
        let stack = Stack::named(name, family).ok_or_else(|| format!("'stack' is '{name}': it is not known"))?;
        Ok(Self {
            model: FoldedModel::new(&graph),
            gpu: GpuModel::from_spec(&device),
            fabric: Fabric::of_devices(&devices).map_err(|error| error.to_string())?,
            stack: stack.clone(),
            graph,
            device,
        })
    }

    fn search(&self, ask: &Ask<'_>) -> Result<LayoutOutcome, String> {
        let batch = match ask.get("batch_per_device") {
            Some(_) => ask.count("batch_per_device")? * ask.count("devices")?,
            None => ask.count("batch")?,
        };
        let texts: Vec<&str> =
            ask.text_or("pins", "")?.split(',').map(str::trim).filter(|pin| !pin.is_empty()).collect();
        let problem = LayoutProblem {
            graph: &self.graph,
            model: &self.model,
            gpu: &self.gpu,
            fabric: &self.fabric,
            stack: &self.stack,
            keeping: keeping(&self.stack.name),
            device_memory: self.device.memory().get(),
            global_batch: batch,
            precision: precision(ask, &self.device)?,
            attention: attention(ask)?,
            optimizer: Optimizer::AdamW,
            dollars_per_device_hour: None,
            objective: Objective::StepTime,
            pins: Pins::parse(&texts).map_err(|error| error.to_string())?,
        };
        let seconds = ask.number_or("time_limit_s", 20.0)?;
        let time_limit = Duration::try_from_secs_f64(seconds).map_err(|error| format!("'time_limit_s': {error}"))?;
        let budget = LayoutBudget { time_limit, relative_gap: 1e-3, top_k: 1, ..LayoutBudget::default() };
        search(&problem, &budget).map_err(|error| error.to_string())
    }
}

fn precision(ask: &Ask<'_>, device: &DeviceSpec) -> Result<Precision, String> {
    let default = if device.peak(Dtype::Bf16).is_some() { "bf16" } else { "f16" };
    match ask.text_or("precision", default)? {
        "bf16" => Ok(Precision::Bf16),
        "f16" => Ok(Precision::AmpF16),
        "tf32" => Ok(Precision::Tf32),
        "f32" => Ok(Precision::F32),
        other => Err(format!("'precision' is '{other}': write bf16, f16, tf32 or f32")),
    }
}

fn attention(ask: &Ask<'_>) -> Result<AttentionKernel, String> {
    match ask.text_or("attention", "flash")? {
        "flash" => Ok(AttentionKernel::Flash),
        "materialised" => Ok(AttentionKernel::Materialised),
        other => Err(format!("'attention' is '{other}': write flash or materialised")),
    }
}

/// The memory habits that belong to a stack.
fn keeping(stack: &str) -> &'static Keeping {
    match stack {
        name if name.starts_with("megatron-core") => &Keeping::MEGATRON_CORE,
        name if name.starts_with("megatron") => &Keeping::MEGATRON_LM,
        name if name.contains("deepspeed") => &Keeping::DEEPSPEED,
        _ => &Keeping::PYTORCH_FSDP,
    }
}
