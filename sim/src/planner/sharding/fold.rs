//! A model folded to one node for all copies of an operator in equal blocks.

use std::collections::{BTreeSet, HashMap};

use cutplane_graph::{Folded, ModelGraph, OpId, ParamId, ValueId, fold};

/// A node of the folded model.
#[derive(Clone, Debug)]
pub(super) struct FoldedOp {
    /// Its copies; the first one stands for all.
    pub(super) ops: Vec<OpId>,
    /// For each parameter, how many copies are its first user: they hold its state, one for each parameter.
    pub(super) owned: Vec<u64>,
}

impl FoldedOp {
    pub(super) fn first(&self) -> OpId {
        self.ops[0]
    }
}

/// Values alike: written by copies of one node, read at the same places.
#[derive(Clone, Debug)]
pub(super) struct FoldedValue {
    pub(super) value: ValueId,
    pub(super) producer: usize,
    /// Reading node and index of its input.
    pub(super) readers: Vec<(usize, usize)>,
    pub(super) count: u64,
}

/// A parameter that nodes share: owner and other user, each with the index of its parameter.
pub(super) type Tie = [(usize, usize); 2];

/// The folded model: every copy of a block is treated alike, so its size does not depend on their number.
#[derive(Clone, Debug)]
pub(super) struct FoldedGraph {
    pub(super) folded: Folded,
    pub(super) nodes: Vec<FoldedOp>,
    /// Node of each operator.
    pub(super) node_of: Vec<usize>,
    pub(super) values: Vec<FoldedValue>,
    pub(super) ties: Vec<Tie>,
}

impl FoldedGraph {
    pub(super) fn new(graph: &ModelGraph) -> Self {
        let folded = fold(graph);
        let mut nodes: Vec<FoldedOp> = Vec::new();
        let mut node_of = vec![0; graph.ops().len()];
        for class in 0..folded.classes.len() {
            for at in 0..folded.ops_of(class).len() {
                let blocks = folded.classes[class].blocks.iter();
                let ops: Vec<OpId> = blocks.map(|block| OpId::new(folded.blocks[*block].ops.start + at)).collect();
                for op in &ops {
                    node_of[op.index()] = nodes.len();
                }
                nodes.push(FoldedOp { owned: owned(graph, &ops), ops });
            }
        }
        let values = values(graph, &node_of);
        let ties = ties(graph, &node_of);
        Self { folded, nodes, node_of, values, ties }
    }
}

/// For each parameter of some copies, how many of them are its first user.
fn owned(graph: &ModelGraph, ops: &[OpId]) -> Vec<u64> {
    let params = 0..graph.op(ops[0]).params.len();
    let owns = |op: &OpId, at: usize| graph.param(graph.op(*op).params[at]).users.first() == Some(op);
    params.map(|at| ops.iter().filter(|op| owns(op, at)).count() as u64).collect()
}

fn values(graph: &ModelGraph, node_of: &[usize]) -> Vec<FoldedValue> {
    let mut known: HashMap<(usize, Vec<(usize, usize)>), usize> = HashMap::new();
    let mut values: Vec<FoldedValue> = Vec::new();
    for index in 0..graph.values().len() {
        let id = ValueId::new(index);
        let value = graph.value(id);
        let Some(producer) = value.producer.map(|op| node_of[op.index()]) else { continue };
        let reads = |op: &OpId| {
            let inputs = graph.op(*op).inputs.iter().enumerate();
            let node = node_of[op.index()];
            inputs.filter(|(_, input)| **input == id).map(move |(at, _)| (node, at)).collect::<Vec<_>>()
        };
        let mut readers: Vec<(usize, usize)> = value.consumers.iter().flat_map(reads).collect();
        readers.sort_unstable();
        readers.dedup();
        let at = *known.entry((producer, readers.clone())).or_insert_with(|| {
            values.push(FoldedValue { value: id, producer, readers, count: 0 });
            values.len() - 1
        });
        values[at].count += 1;
    }
    values
}

fn ties(graph: &ModelGraph, node_of: &[usize]) -> Vec<Tie> {
    let place = |param: usize, op: OpId| {
        let at = graph.op(op).params.iter().position(|owned| *owned == ParamId::new(param));
        (node_of[op.index()], at.unwrap_or_default())
    };
    let mut ties: BTreeSet<Tie> = BTreeSet::new();
    for (index, param) in graph.params().iter().enumerate() {
        for user in param.users.iter().skip(1) {
            let tie = [place(index, param.users[0]), place(index, *user)];
            if tie[0].0 != tie[1].0 {
                ties.insert(tie);
            }
        }
    }
    ties.into_iter().collect()
}
