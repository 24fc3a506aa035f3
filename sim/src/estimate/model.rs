//! A model as the estimator sees it: runs of equal layers, each operator with the way tensor parallelism cuts it.

use std::collections::HashSet;

use cutplane_graph::{ModelGraph, OpId, OpKind, ParamId, TensorType, ValueId};

/// How tensor parallelism cuts an operator (Shoeybi et al. 2019, section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Split {
    /// Every rank computes it whole; its tokens are sharded under sequence parallelism.
    Whole,
    /// A linear layer whose output features are sharded. `gathers` marks the first of those that read one value: it
    /// carries the collective on the input.
    Columns {
        /// Whether the collective of the shared input is counted here.
        gathers: bool,
    },
    /// A linear layer whose input features are sharded: the outputs are partial sums.
    Rows,
    /// Rows of a table: an embedding whose vocabulary is sharded; the outputs are partial sums.
    Table,
    /// Works on sharded features without communication.
    Features,
    /// A loss over sharded classes.
    Classes,
}

/// An operator with everything that decides its kernels.
#[derive(Clone, Debug, PartialEq)]
pub struct Operator {
    /// Name of its first instance.
    pub name: String,
    /// What it computes.
    pub kind: OpKind,
    /// Types of its inputs.
    pub inputs: Vec<TensorType>,
    /// Type of its output.
    pub output: TensorType,
    /// How tensor parallelism cuts it.
    pub split: Split,
    /// Trainable numbers that it owns; a shared parameter counts at its first user.
    pub parameters: u64,
    /// Tensors that those are.
    pub tensors: u64,
}

/// Operators that are repeated.
#[derive(Clone, Debug, PartialEq)]
pub struct Block {
    /// One instance.
    pub operators: Vec<Operator>,
    /// How often it stands in a row.
    pub repeats: u64,
    /// Whether it is a repeated layer of the model: what a pipeline is cut between.
    pub is_layer: bool,
}

impl Block {
    /// Trainable numbers of one instance.
    pub fn parameters(&self) -> u64 {
        self.operators.iter().map(|operator| operator.parameters).sum()
    }

    /// Trainable numbers of one instance on each rank, `(dense, of experts)`: `tp` ranks shard all but what every rank
    /// computes whole, `experts` ranks the experts.
    pub fn parameters_of_rank(&self, tp: u64, experts: u64) -> (u64, u64) {
        let mut sums = (0, 0);
        for operator in &self.operators {
            let sharded = if operator.split == Split::Whole { 1 } else { tp };
            match operator.kind {
                OpKind::ExpertLinear(_) => sums.1 += operator.parameters.div_ceil(experts),
                _ => sums.0 += operator.parameters.div_ceil(sharded),
            }
        }
        sums
    }

    /// Parameter tensors of one instance.
    pub fn tensors(&self) -> u64 {
        self.operators.iter().map(|operator| operator.tensors).sum()
    }

    /// What decides its price; names do not.
    fn same_as(&self, other: &Self) -> bool {
        let equal = |a: &Operator, b: &Operator| {
            a.kind == b.kind
                && a.inputs == b.inputs
                && a.output == b.output
                && a.split == b.split
                && a.parameters == b.parameters
        };
        self.is_layer == other.is_layer
            && self.operators.len() == other.operators.len()
            && self.operators.iter().zip(&other.operators).all(|(a, b)| equal(a, b))
    }
}

/// A model folded into runs of equal blocks, in order.
#[derive(Clone, Debug, PartialEq)]
pub struct FoldedModel {
    /// Name of the model.
    pub name: String,
    /// Its blocks.
    pub blocks: Vec<Block>,
    /// Trainable numbers that operators before the first and behind the last layer share: a tied embedding.
    pub tied_parameters: u64,
    /// Tokens of a sample: the longest input of integers; 1 where there is none.
    pub sequence_length: u64,
}

impl FoldedModel {
    /// Folds a graph.
    pub fn new(graph: &ModelGraph) -> Self {
        let splits = splits(graph);
        let mut counted = HashSet::new();
        let mut blocks: Vec<Block> = Vec::new();
        let mut open: Option<(Option<u32>, Vec<Operator>)> = None;
        for id in graph.op_ids() {
            let operator = operator(graph, id, splits[id.index()], &mut counted);
            let layer = graph.op(id).layer;
            match &mut open {
                Some((known, operators)) if *known == layer => operators.push(operator),
                _ => {
                    close(open.take(), &mut blocks);
                    open = Some((layer, vec![operator]));
                }
            }
        }
        close(open, &mut blocks);
        let length = |value: ValueId| {
            let ty = &graph.value(value).ty;
            if ty.dtype.is_float() { 1 } else { ty.dims.first().copied().unwrap_or(1) }
        };
        Self {
            name: graph.name().to_owned(),
            blocks,
            tied_parameters: tied_parameters(graph),
            sequence_length: graph.inputs().map(length).max().unwrap_or(1),
        }
    }

    /// Trainable numbers, shared ones counted once.
    pub fn parameters(&self) -> u64 {
        self.blocks.iter().map(|block| block.parameters() * block.repeats).sum()
    }

    /// Number of repeated layers.
    pub fn layers(&self) -> u64 {
        self.blocks.iter().filter(|block| block.is_layer).map(|block| block.repeats).sum()
    }

    /// Elements of the largest value between two layers, a sample: what a pipeline hands over.
    pub fn boundary_elements(&self) -> u64 {
        let last = |block: &Block| block.operators.last().map(|operator| operator.output.elements(1));
        self.blocks.iter().filter(|block| block.is_layer).filter_map(last).max().unwrap_or(0)
    }
}

fn operator(graph: &ModelGraph, id: OpId, split: Split, counted: &mut HashSet<ParamId>) -> Operator {
    let op = graph.op(id);
    let own: Vec<ParamId> = op.params.iter().copied().filter(|param| counted.insert(*param)).collect();
    Operator {
        name: op.name.clone(),
        kind: op.kind.clone(),
        inputs: op.inputs.iter().map(|value| graph.value(*value).ty.clone()).collect(),
        output: graph.value(op.output).ty.clone(),
        split,
        parameters: own.iter().map(|param| graph.param(*param).elements()).sum(),
        tensors: own.len() as u64,
    }
}

fn close(open: Option<(Option<u32>, Vec<Operator>)>, blocks: &mut Vec<Block>) {
    let Some((layer, operators)) = open else { return };
    let block = Block { operators, repeats: 1, is_layer: layer.is_some() };
    match blocks.last_mut() {
        Some(last) if last.is_layer && last.same_as(&block) => last.repeats += 1,
        _ => blocks.push(block),
    }
}

fn tied_parameters(graph: &ModelGraph) -> u64 {
    let outside = |id: &OpId| graph.op(*id).layer.is_none();
    let tied = graph.params().iter().filter(|param| param.users.iter().filter(|id| outside(id)).count() > 1);
    tied.map(cutplane_graph::Param::elements).sum()
}

/// How tensor parallelism cuts each operator: a linear layer whose output reaches another one, attention or the loss by
/// pointwise steps alone is cut by columns, the one that it reaches by rows.
pub(crate) fn splits(graph: &ModelGraph) -> Vec<Split> {
    let mut sharded = vec![false; graph.values().len()];
    let mut gathered = HashSet::new();
    let mut splits = Vec::with_capacity(graph.ops().len());
    for op in graph.ops() {
        let shards_in = op.inputs.iter().any(|value| sharded[value.index()]);
        let split = match op.kind {
            OpKind::Embedding { .. } => Split::Table,
            OpKind::Linear { .. } | OpKind::ExpertLinear(_) if shards_in => Split::Rows,
            OpKind::Linear { .. } | OpKind::ExpertLinear(_) if stays_sharded(graph, op.output) => {
                Split::Columns { gathers: op.inputs.first().is_some_and(|value| gathered.insert(*value)) }
            }
            OpKind::CrossEntropy { .. } if shards_in => Split::Classes,
            _ if shards_in => Split::Features,
            _ => Split::Whole,
        };
        sharded[op.output.index()] = matches!(split, Split::Columns { .. } | Split::Features);
        splits.push(split);
    }
    splits
}

/// Whether everything that reads a value can work on a shard of its features.
fn stays_sharded(graph: &ModelGraph, value: ValueId) -> bool {
    let consumers = &graph.value(value).consumers;
    !consumers.is_empty()
        && consumers.iter().all(|id| match graph.op(*id).kind {
            OpKind::Attention(_) | OpKind::CrossEntropy { .. } | OpKind::Linear { .. } | OpKind::ExpertLinear(_) => {
                true
            }
            OpKind::Activation { .. } | OpKind::Gate(_) | OpKind::Dropout(_) => {
                stays_sharded(graph, graph.op(*id).output)
            }
            _ => false,
        })
}
