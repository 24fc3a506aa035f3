//! Arguments that verbs share, and what they stand for: a model, a cluster, the work of a step.

use anyhow::{Context as _, Result, bail};
use clap::Args;
use cutplane_graph::{DeviceGraph, DeviceKind, Dtype, ModelGraph, ModelSource, Overrides};
use cutplane_plan::{Optimizer, Plan, PlanViolation, VerifiedPlan, verify};

/// Which model, at which size.
#[derive(Clone, Debug, Args)]
pub(crate) struct ModelArgs {
    /// Built-in name (see `cutplane models`), or a Hugging Face config.json or the folder that holds one.
    pub(crate) model: String,
    /// Tokens a sample [default: the model's own context].
    #[arg(long, value_name = "TOKENS")]
    pub(crate) seq: Option<u64>,
    /// Replaces the number of layers.
    #[arg(long)]
    pub(crate) layers: Option<u64>,
    /// Replaces the hidden size.
    #[arg(long)]
    pub(crate) hidden: Option<u64>,
    /// Replaces the number of attention heads.
    #[arg(long)]
    pub(crate) heads: Option<u64>,
    /// Replaces the vocabulary size.
    #[arg(long)]
    pub(crate) vocab: Option<u64>,
}

impl ModelArgs {
    /// The source that a plan carries, and the graph.
    pub(crate) fn load(&self) -> Result<(ModelSource, ModelGraph)> {
        let overrides = Overrides { layers: self.layers, hidden: self.hidden, heads: self.heads, vocab: self.vocab };
        let source = cutplane_zoo::source_from_argument(&self.model, self.seq, overrides)?;
        let graph = cutplane_zoo::build(&source)?;
        Ok((source, graph))
    }
}

/// The work of one step.
#[derive(Clone, Debug, Args)]
pub(crate) struct WorkArgs {
    /// Samples in one optimizer step, over all devices.
    #[arg(long, default_value_t = 8, value_name = "SAMPLES")]
    pub(crate) batch: u64,
    /// Update rule.
    #[arg(long, default_value = "adamw", value_parser = parse_optimizer, value_name = "adamw|sgd")]
    pub(crate) optimizer: Optimizer,
}

fn parse_optimizer(text: &str) -> Result<Optimizer, String> {
    match text {
        "adamw" => Ok(Optimizer::AdamW),
        "sgd" => Ok(Optimizer::Sgd),
        _ => Err("choose adamw or sgd".to_owned()),
    }
}

/// Parses `f32`, `bf16` or `f16`.
pub(crate) fn parse_precision(text: &str) -> Result<Dtype, String> {
    match text {
        "f32" => Ok(Dtype::F32),
        "bf16" => Ok(Dtype::Bf16),
        "f16" => Ok(Dtype::F16),
        _ => Err("choose f32, bf16 or f16".to_owned()),
    }
}

/// Builds the device graph that `--devices` names.
pub(crate) fn devices(argument: &str) -> Result<DeviceGraph> {
    let spec = cutplane_zoo::cluster(argument)?;
    Ok(DeviceGraph::build(spec)?)
}

/// Refuses clusters that this build cannot execute on, before anything is computed.
#[cfg(feature = "runtime")]
pub(crate) fn require_executable(devices: &DeviceGraph) -> Result<()> {
    match devices.devices().iter().find(|device| device.spec.kind != DeviceKind::Cpu) {
        None => Ok(()),
        Some(device) => bail!(
            "device '{}' ({}) cannot run here: this build executes on CPU ranks. Use --devices cpu:N, or `cutplane plan` and \
             `cutplane simulate`, which need no device",
            device.name,
            device.spec.model
        ),
    }
}

/// True when every device is a CPU core.
pub(crate) fn all_cpu(devices: &DeviceGraph) -> bool {
    devices.devices().iter().all(|device| device.spec.kind == DeviceKind::Cpu)
}

/// Rebuilds the model and cluster that a plan was made for.
pub(crate) fn rebuild(plan: &Plan) -> Result<(ModelGraph, DeviceGraph)> {
    let model = cutplane_zoo::build(&plan.model.source).context("field 'model.source' of the plan")?;
    let devices = DeviceGraph::build(plan.cluster.spec.clone()).context("field 'cluster.spec' of the plan")?;
    Ok((model, devices))
}

/// Verifies a plan; every violation is named.
pub(crate) fn verified<'a>(
    plan: &'a Plan,
    model: &'a ModelGraph,
    devices: &'a DeviceGraph,
) -> Result<VerifiedPlan<'a>> {
    verify(plan, model, devices).map_err(|violations| {
        let lines: Vec<String> = violations.iter().map(PlanViolation::to_string).collect();
        anyhow::anyhow!("plan '{}' is not valid:\n  {}", plan.name, lines.join("\n  "))
    })
}
