//! What a plan asks of its ranks beyond where the stages are and in which order they work.

use std::fmt;

use cutplane_graph::{ModelGraph, ParamId};
use cutplane_units::Bytes;
use serde::{Deserialize, Serialize};

use crate::opset::OpSet;
use crate::program::Ownership;

/// How ranks compute, keep and exchange; the default is plain synchronous training.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Execution {
    /// What is computed a second time in the backward pass instead of being kept.
    #[serde(skip_serializing_if = "is_default")]
    pub recompute: Recompute,
    /// How gradients are summed, and who keeps the optimizer state.
    #[serde(skip_serializing_if = "is_default")]
    pub synchronisation: Synchronisation,
    /// Gradients are exchanged in buckets of at least this size, each as soon as the backward pass is through with it; in
    /// one piece after the last backward pass when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bucket_bytes: Option<Bytes>,
    /// Operators whose parameters stay as they are. Stages before which nothing is trained run no backward pass.
    #[serde(skip_serializing_if = "OpSet::is_empty")]
    pub frozen: OpSet,
}

impl Execution {
    /// Whether nothing is asked for.
    pub fn is_plain(&self) -> bool {
        is_default(self)
    }

    /// Parameters that only frozen operators use, in id order.
    pub fn frozen_params(&self, model: &ModelGraph) -> Vec<ParamId> {
        let frozen = |id: &ParamId| model.param(*id).users.iter().all(|op| self.frozen.contains(*op));
        let all = (0..model.params().len()).map(ParamId::new);
        if self.frozen.is_empty() { Vec::new() } else { all.filter(frozen).collect() }
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// What a backward pass computes again from the input that was kept, in place of keeping all intermediate values (Chen et
/// al. 2016, "Training deep nets with sublinear memory cost").
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Recompute {
    /// Nothing.
    #[default]
    None,
    /// Whole stages.
    Stages,
    /// Each repeated layer from its own input.
    Layers,
    /// These operators; each unbroken stretch of them from its own input.
    Ops(OpSet),
}

impl Recompute {
    /// Its name in tables.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Stages => "stages",
            Self::Layers => "layers",
            Self::Ops(_) => "ops",
        }
    }

    /// The operators that are named one by one.
    pub(crate) fn ops(&self) -> Option<&OpSet> {
        match self {
            Self::Ops(ops) => Some(ops),
            _ => None,
        }
    }
}

/// How the holders of a parameter agree on its update.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Synchronisation {
    /// All sum the gradients and all update.
    #[default]
    AllReduce,
    /// All sum the gradients; each updates its share of every group and gathers the others' (ZeRO stage 1; Rajbhandari et
    /// al. 2020, section 5.1).
    #[serde(rename = "zero-1")]
    Zero1,
    /// Each gets the sum of its share of the gradients only (ZeRO stage 2).
    #[serde(rename = "zero-2")]
    Zero2,
    /// Each keeps its share of the parameters only, gathers the others' before a pass and forgets them after it (ZeRO
    /// stage 3). Parameters that several stages share are treated as under stage 2. Needs [`Recompute::Stages`], or the
    /// history of a pass would keep the gathered parameters.
    #[serde(rename = "zero-3")]
    Zero3,
    /// Each group of parameters has a server among its holders: it sums the gradients, updates, and sends the parameters
    /// out (Li et al. 2014, synchronous).
    ParameterServer,
}

impl Synchronisation {
    /// Who updates a parameter that several ranks hold.
    pub(crate) const fn ownership(self) -> Ownership {
        match self {
            Self::AllReduce => Ownership::Everybody,
            Self::Zero1 | Self::Zero2 | Self::Zero3 => Ownership::Shares,
            Self::ParameterServer => Ownership::Server,
        }
    }
}

impl fmt::Display for Synchronisation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::AllReduce => "all-reduce",
            Self::Zero1 => "zero-1",
            Self::Zero2 => "zero-2",
            Self::Zero3 => "zero-3",
            Self::ParameterServer => "parameter-server",
        })
    }
}
