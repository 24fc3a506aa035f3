//! The graph that one rank of a tensor axis computes.
//!
//! Every operator of a model is split by one of its rules ([`ModelGraph::shard_rules`]) or computed whole. Where a producer
//! gives a value in another layout than a consumer takes it, an [`crate::Exchange`] stands between them; a program ends a segment
//! there, forward and backward, so no collective hides inside a segment. The ranks of an axis share one local graph: they
//! differ in which slices of parameters and tables they hold.

mod builder;
mod choose;
mod kind;

use std::collections::BTreeMap;

use crate::error::ModelError;
use crate::ids::{OpId, ParamId, ValueId};
use crate::model::ModelGraph;
use crate::op::OpKind;
use crate::sharding::{Layout, Sharded, Split};

use builder::Builder;
pub use choose::{Splits, context_splits, expert_splits, tensor_splits};

/// How a rank holds a parameter.
#[derive(Clone, Debug, PartialEq)]
pub struct LocalParam {
    /// The layout of its values, and that of the gradient which a rank computes.
    pub sharded: Sharded,
    /// Extents of the parts that the split axis is packed of.
    parts: Vec<u64>,
    /// The whole shape.
    shape: Vec<u64>,
    /// By rank, the parameter that it holds in this one's place; none where all hold this one.
    owners: Vec<ParamId>,
}

impl LocalParam {
    fn new(sharded: Sharded, parts: Vec<u64>, shape: &[u64]) -> Self {
        Self { sharded, parts, shape: shape.to_vec(), owners: Vec::new() }
    }
}

/// The graph that each of `ranks` ranks computes, and how it relates to the model.
#[derive(Clone, Debug)]
pub struct LocalGraph {
    graph: ModelGraph,
    ranks: u64,
    /// The model's operator that each operator stands for; for an exchange the one on whose side it stands.
    op_origin: Vec<OpId>,
    /// The model's value for each value that is a graph input.
    value_origin: Vec<Option<ValueId>>,
    params: Vec<LocalParam>,
    /// Operators of which a rank has some of the entries that they number.
    tables: Vec<OpId>,
}

impl LocalGraph {
    /// Splits a model over `ranks` ranks.
    ///
    /// # Errors
    /// [`ModelError::Split`] for a split that an operator does not have or that is not executed, or for a shared parameter
    /// that its users split differently.
    pub fn new(model: &ModelGraph, ranks: u64, splits: &Splits) -> Result<Self, ModelError> {
        Builder::new(model, ranks, splits)?.build()
    }

    /// The graph, with local shapes.
    pub fn graph(&self) -> &ModelGraph {
        &self.graph
    }

    /// Number of ranks.
    pub fn ranks(&self) -> u64 {
        self.ranks
    }

    /// The model's operator that a local one is part of.
    pub fn origin(&self, op: OpId) -> OpId {
        self.op_origin[op.index()]
    }

    /// The model's input for a local graph input.
    pub fn input_origin(&self, value: ValueId) -> Option<ValueId> {
        self.value_origin[value.index()]
    }

    /// How ranks hold a parameter, which has the same id in both graphs.
    pub fn param(&self, id: ParamId) -> &LocalParam {
        &self.params[id.index()]
    }

    /// The parameter of the model that rank number `rank` holds as the local one `id`: the same, or where experts are dealt to
    /// the ranks that of an expert of its own.
    pub fn held(&self, id: ParamId, rank: u64) -> ParamId {
        self.param(id).owners.get(rank as usize).copied().unwrap_or(id)
    }

    /// Entries that each rank has of what an operator numbers: rows of an embedding's table, classes of a loss, experts of a
    /// mixture. Rank number `rank` has those from `rank` times as many on. `None` for an operator of which a rank has all.
    pub fn own_entries(&self, op: OpId) -> Option<u64> {
        let kind = self.tables.contains(&op).then(|| &self.graph.op(op).kind)?;
        match kind {
            OpKind::Embedding { vocab, .. } => Some(*vocab),
            OpKind::CrossEntropyShare(kind) => Some(kind.classes),
            OpKind::Dispatch(kind) => Some(kind.routing.own_experts()),
            OpKind::ExpertLinear(kind) => Some(kind.routing.own_experts()),
            OpKind::Combine(kind) => Some(kind.routing.own_experts()),
            _ => None,
        }
    }

    /// The axis of a parameter that is split, and the places on it that rank number `rank` holds, ascending; `None` when
    /// every rank holds all of it.
    pub fn places(&self, id: ParamId, rank: u64) -> Option<(usize, Vec<usize>)> {
        let LocalParam { sharded, parts, shape, .. } = self.param(id);
        let Layout::Axis(axis) = sharded.value else { return None };
        Some((axis, axis_places(shape[axis], parts, self.ranks, rank)))
    }

    /// The numbers of a whole parameter, the one that it holds ([`Self::held`]), that rank number `rank` of the axis holds, in row-major order.
    pub fn slice_param(&self, id: ParamId, rank: u64, whole: &[f32]) -> Vec<f32> {
        let Some((axis, places)) = self.places(id, rank) else { return whole.to_vec() };
        let shape = &self.param(id).shape;
        let (extent, inner) = (shape[axis] as usize, shape[axis + 1..].iter().product::<u64>() as usize);
        let rows = whole.chunks_exact((extent * inner).max(1));
        rows.flat_map(|row| places.iter().flat_map(move |place| row[place * inner..][..inner].iter().copied()))
            .collect()
    }
}

/// Which places of an axis of `extent` rank number `rank` of `ranks` holds: an equal part of every one of `parts`.
pub fn axis_places(extent: u64, parts: &[u64], ranks: u64, rank: u64) -> Vec<usize> {
    let whole = [extent];
    let parts = if parts.is_empty() { &whole[..] } else { parts };
    let (mut first, mut places) = (0, Vec::with_capacity((extent / ranks.max(1)) as usize));
    for part in parts {
        let share = part / ranks.max(1);
        places.extend((first + rank * share..first + (rank + 1) * share).map(|place| place as usize));
        first += part;
    }
    places
}

/// The splits as sets of operators.
pub fn by_split(splits: &Splits) -> BTreeMap<Split, Vec<OpId>> {
    let mut sets: BTreeMap<Split, Vec<OpId>> = BTreeMap::new();
    for (index, split) in splits.iter().enumerate() {
        if let Some(split) = split {
            sets.entry(*split).or_default().push(OpId::new(index));
        }
    }
    sets
}
