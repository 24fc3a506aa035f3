//! Arguments that verbs share, and what they stand for: a model, a cluster, the work of a step.

use anyhow::{Context as _, Result};
use clap::Args;
use cutplane_graph::{DeviceGraph, Dtype, ModelGraph, ModelSource, Overrides};
use cutplane_plan::{Optimizer, Plan, PlanViolation, VerifiedPlan, verify};

/// Which model, at which size.
#[derive(Clone, Debug, Args)]
pub(crate) struct ModelArgs {
    /// Built-in name (see `cutplane models`), a Hugging Face config.json or the folder that holds one, or an ONNX file.
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
    /// Replaces the vocabulary size, or the number of classes.
    #[arg(long)]
    pub(crate) vocab: Option<u64>,
    /// Replaces the number of heads of keys and values.
    #[arg(long)]
    pub(crate) kv_heads: Option<u64>,
    /// Replaces the width of the feed-forward layers.
    #[arg(long)]
    pub(crate) ffn_hidden: Option<u64>,
    /// Replaces the number of experts.
    #[arg(long)]
    pub(crate) experts: Option<u64>,
    /// Replaces the height and width of an image model's input.
    #[arg(long, value_name = "PIXELS")]
    pub(crate) image: Option<u64>,
    /// Length of an open axis of an ONNX file, by its name or as input.axis; may be given several times.
    #[arg(long, value_name = "NAME=LENGTH", value_parser = parse_dim)]
    pub(crate) dim: Vec<(String, u64)>,
}

fn parse_dim(text: &str) -> Result<(String, u64), String> {
    let (name, length) = text.rsplit_once('=').ok_or("write NAME=LENGTH")?;
    let length = length.parse().map_err(|_| format!("'{length}' is no length"))?;
    Ok((name.to_owned(), length))
}

impl ModelArgs {
    /// The source that a plan carries, and the graph.
    pub(crate) fn load(&self) -> Result<(ModelSource, ModelGraph)> {
        let overrides = Overrides {
            layers: self.layers,
            hidden: self.hidden,
            heads: self.heads,
            vocab: self.vocab,
            kv_heads: self.kv_heads,
            ffn_hidden: self.ffn_hidden,
            experts: self.experts,
            image: self.image,
        };
        let source = if self.dim.is_empty() {
            cutplane_zoo::source_from_argument(&self.model, self.seq, overrides)?
        } else {
            let dims = self.dim.iter().cloned().collect();
            cutplane_zoo::onnx_source(self.model.as_ref(), self.seq, dims)?
        };
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

/// Builds the device graph that `--devices` names: devices of this machine as in
/// [`cutplane_runtime::devices::DeviceList`], or a cluster of the zoo.
pub(crate) fn devices(argument: &str) -> Result<DeviceGraph> {
    #[cfg(feature = "runtime")]
    if cutplane_runtime::devices::DeviceList::is_meant(argument) {
        return Ok(DeviceGraph::build(crate::local::cluster(argument)?)?);
    }
    let spec = cutplane_zoo::cluster(argument)?;
    Ok(DeviceGraph::build(spec)?)
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
