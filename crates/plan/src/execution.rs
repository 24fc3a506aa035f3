//! What a plan asks of its ranks beyond where the stages are and in which order they work.

use std::collections::BTreeMap;
use std::fmt;

use cutplane_graph::sharding::Split;
use cutplane_graph::{
    LocalGraph, ModelError, ModelGraph, ParamId, Splits, by_split, context_splits, expert_splits, tensor_splits,
};
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
    /// How operators are split over the devices of a tensor axis; every device computes all of its stage when absent. With
    /// a degree of `t`, each replica of a stage has `t` devices, one after another in the stage's list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tensor: Option<TensorSplit>,
    /// Operators whose parameters stay as they are. Stages before which nothing is trained run no backward pass.
    #[serde(skip_serializing_if = "OpSet::is_empty")]
    pub frozen: OpSet,
}

impl Execution {
    /// Whether nothing is asked for.
    pub fn is_plain(&self) -> bool {
        is_default(self)
    }

    /// Devices of the tensor axis: 1 without one.
    pub fn tensor_degree(&self) -> usize {
        self.tensor.as_ref().map_or(1, |tensor| usize::try_from(tensor.degree).unwrap_or(usize::MAX).max(1))
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

/// Operators split over a tensor axis, by what is split; the others are computed whole on every rank of the axis.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TensorSplit {
    /// Devices of the axis.
    pub degree: u64,
    /// The operators of each split.
    pub splits: BTreeMap<Split, OpSet>,
}

impl TensorSplit {
    /// Tensor parallelism, with sequence parallelism beside it if asked for: see [`cutplane_graph::tensor_splits`].
    pub fn tensor(model: &ModelGraph, degree: u64, sequence: bool) -> Self {
        Self::of(degree, &tensor_splits(model, degree, sequence))
    }

    /// Context parallelism: see [`cutplane_graph::context_splits`].
    pub fn context(model: &ModelGraph, degree: u64) -> Self {
        Self::of(degree, &context_splits(model, degree))
    }

    /// Expert parallelism: see [`cutplane_graph::expert_splits`].
    ///
    /// # Errors
    /// [`ModelError::Split`] when the model has no experts, or the degree does not divide them or the tokens of a sample.
    pub fn experts(model: &ModelGraph, degree: u64) -> Result<Self, ModelError> {
        Ok(Self::of(degree, &expert_splits(model, degree)?))
    }

    fn of(degree: u64, splits: &Splits) -> Self {
        let sets = by_split(splits).into_iter().map(|(split, ops)| (split, ops.into_iter().collect()));
        Self { degree, splits: sets.collect() }
    }

    /// The graph that each rank of the axis computes.
    ///
    /// # Errors
    /// [`ModelError::Split`] for an operator that is unknown, listed twice, or cannot be split so.
    pub fn local(&self, model: &ModelGraph) -> Result<LocalGraph, ModelError> {
        let mut splits = vec![None; model.ops().len()];
        for (split, ops) in &self.splits {
            for op in ops.iter() {
                let name = || model.ops().get(op.index()).map_or_else(|| op.to_string(), |op| op.name.clone());
                let refuse = |reason: &str| ModelError::Split { op: name(), reason: reason.to_owned() };
                let place = splits.get_mut(op.index()).ok_or_else(|| refuse("is not in the model"))?;
                if place.replace(*split).is_some() {
                    return Err(refuse("is split twice"));
                }
            }
        }
        LocalGraph::new(model, self.degree, &splits)
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
    /// The server updates as soon as gradients come, and whoever has pushed goes on with the parameters of that moment (Dean et
    /// al. 2012, "Large scale distributed deep networks", section 4.1: Downpour SGD). Each micro-batch has an update of its own;
    /// at the end of a step all have the same parameters. [`crate::PushLedger`] has the rules.
    AsynchronousServer,
    /// The same, but nobody computes with parameters that lack gradients of more than `bound` micro-batches of any worker (Ho et
    /// al. 2013, "More effective distributed ML via a stale synchronous parallel parameter server", section 2). With a bound
    /// of 0 all wait for all, as under [`Synchronisation::ParameterServer`].
    StaleServer {
        /// Micro-batches by which a worker may be ahead of the slowest.
        bound: u32,
    },
}

impl Synchronisation {
    /// Whether a server takes the gradients of each micro-batch as they come, worker by worker.
    pub const fn is_pushed(self) -> bool {
        matches!(self, Self::AsynchronousServer | Self::StaleServer { .. })
    }

    /// Micro-batches of every worker whose gradients the parameters must hold before a worker begins its micro-batch number
    /// `clock`.
    pub(crate) const fn needs(self, clock: u64) -> u64 {
        match self {
            Self::AsynchronousServer => 0,
            Self::StaleServer { bound } => clock.saturating_sub(bound as u64),
            _ => clock,
        }
    }

    /// Who updates a parameter that several ranks hold.
    pub(crate) const fn ownership(self) -> Ownership {
        match self {
            Self::AllReduce => Ownership::Everybody,
            Self::Zero1 | Self::Zero2 | Self::Zero3 => Ownership::Shares,
            Self::ParameterServer | Self::AsynchronousServer | Self::StaleServer { .. } => Ownership::Server,
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
            Self::AsynchronousServer => "asynchronous-server",
            Self::StaleServer { bound } => return f.pad(&format!("stale-server {bound}")),
        })
    }
}
