//! Repeated blocks, recognised by their structure alone: operators, types and wiring, never names. A planner decides once
//! for a class of identical blocks; a reader sees one of them.
//!
//! A stretch of operators is repeated where it follows itself: equal operators on equal types, whose inputs come from
//! equally far back, or from one common value such as an encoder's output. Stretches that no repetition covers are cut
//! where the builder named a new layer.

mod runs;

use std::collections::HashMap;
use std::ops::Range;

use crate::ids::{OpId, ValueId};
use crate::model::ModelGraph;
use runs::{Run, repeated_runs};

/// A stretch of consecutive operators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Its class in [`Folded::classes`].
    pub class: usize,
    /// Indices of its operators.
    pub ops: Range<usize>,
}

/// Blocks that differ in nothing but their parameters' values and names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockClass {
    /// Indices into [`Folded::blocks`], ascending. Operator `k` of one of them is operator `k` of all.
    pub blocks: Vec<usize>,
}

/// A model as a sequence of blocks, of which equal ones share a class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folded {
    /// All blocks in order; together they cover every operator once.
    pub blocks: Vec<Block>,
    /// Classes, in the order of their first blocks.
    pub classes: Vec<BlockClass>,
    /// For every operator the number of its kind and types: operators of one number cost the same.
    pub op_classes: Vec<u32>,
}

/// Folds a model, in time `n log n` for `n` operators.
pub fn fold(model: &ModelGraph) -> Folded {
    let op_classes = op_classes(model);
    let crossing = crossing_values(model);
    let mut bounds: Vec<Range<usize>> = Vec::new();
    let mut at = 0;
    for run in repeated_runs(model, &op_classes) {
        let run = aligned(model, &crossing, run);
        layers_of(model, at..run.start, &mut bounds);
        bounds.extend(run.blocks());
        at = run.end();
    }
    layers_of(model, at..model.ops().len(), &mut bounds);
    classified(model, &op_classes, bounds, op_classes.clone())
}

/// Numbers operators by kind and by types of inputs and output.
fn op_classes(model: &ModelGraph) -> Vec<u32> {
    let mut numbers: HashMap<String, u32> = HashMap::new();
    let number = |op: OpId| {
        let node = model.op(op);
        let kind = serde_json::to_string(&node.kind).unwrap_or_default();
        let types: Vec<String> =
            node.inputs.iter().chain([&node.output]).map(|id| model.value(*id).ty.to_string()).collect();
        let next = numbers.len() as u32;
        *numbers.entry(format!("{kind} {}", types.join(" "))).or_insert(next)
    };
    model.op_ids().map(number).collect()
}

/// For each cut position, the number of values that operators before it write and operators after it read.
fn crossing_values(model: &ModelGraph) -> Vec<i64> {
    let mut changes = vec![0i64; model.ops().len() + 2];
    for value in model.values() {
        if let (Some(from), Some(last)) = (value.producer, value.consumers.iter().max()) {
            changes[from.index() + 1] += 1;
            changes[last.index() + 1] -= 1;
        }
    }
    let mut sum = 0;
    changes
        .iter()
        .map(|change| {
            sum += change;
            sum
        })
        .collect()
}

/// A run can begin a few operators later than it is found, as long as two blocks are left: at a named layer if there is one,
/// so that blocks are modules; else with as many blocks, where the fewest values cross.
fn aligned(model: &ModelGraph, crossing: &[i64], run: Run) -> Run {
    let layer = |op: usize| model.ops()[op].layer;
    let blocks = |shift: usize| (run.length - shift) / run.period;
    let most = (run.length - 2 * run.period).min(run.period - 1);
    let best = (0..=most).min_by_key(|shift| {
        let start = run.start + shift;
        let is_inside_a_layer = start > 0 && layer(start).is_some() && layer(start) == layer(start - 1);
        (is_inside_a_layer, std::cmp::Reverse(blocks(*shift)), crossing[start], *shift)
    });
    let shift = best.unwrap_or(0);
    Run { start: run.start + shift, length: blocks(shift) * run.period, ..run }
}

/// Cuts a stretch where the layer changes.
fn layers_of(model: &ModelGraph, ops: Range<usize>, bounds: &mut Vec<Range<usize>>) {
    let mut start = ops.start;
    for op in ops.start + 1..=ops.end {
        if op == ops.end || model.ops()[op].layer != model.ops()[op - 1].layer {
            bounds.push(start..op);
            start = op;
        }
    }
}

/// Gives equal stretches one class: equal operators, and inside the stretch equal wiring.
fn classified(model: &ModelGraph, numbers: &[u32], bounds: Vec<Range<usize>>, op_classes: Vec<u32>) -> Folded {
    let mut known: HashMap<Vec<u32>, usize> = HashMap::new();
    let mut classes: Vec<BlockClass> = Vec::new();
    let mut blocks = Vec::with_capacity(bounds.len());
    for ops in bounds {
        let class = *known.entry(wiring(model, numbers, &ops)).or_insert_with(|| {
            classes.push(BlockClass { blocks: Vec::new() });
            classes.len() - 1
        });
        classes[class].blocks.push(blocks.len());
        blocks.push(Block { class, ops });
    }
    Folded { blocks, classes, op_classes }
}

/// Every operator's number, and for each of its inputs the distance inside the block, or which value from outside it is,
/// counted in the order in which the block reads them.
fn wiring(model: &ModelGraph, numbers: &[u32], block: &Range<usize>) -> Vec<u32> {
    let mut outside: HashMap<ValueId, u32> = HashMap::new();
    let mut key = Vec::new();
    for op in block.clone() {
        key.push(numbers[op]);
        for input in &model.ops()[op].inputs {
            let next = u32::MAX - outside.len() as u32;
            key.push(match model.value(*input).producer.map(OpId::index) {
                Some(producer) if block.contains(&producer) => (op - producer) as u32,
                _ => *outside.entry(*input).or_insert(next),
            });
        }
    }
    key
}

impl Folded {
    /// Operators of the first block of a class.
    pub fn ops_of(&self, class: usize) -> Range<usize> {
        self.blocks[self.classes[class].blocks[0]].ops.clone()
    }

    /// The name of a class for people: the module that its operators have in common, with the first and last number of
    /// its blocks: `h.0..11`; the operator's own name for a block of one, first and last operator where they
    /// have no module in common.
    pub fn name(&self, model: &ModelGraph, class: usize) -> String {
        let blocks = &self.classes[class].blocks;
        self.name_of(model, blocks[0], blocks[blocks.len() - 1])
    }

    /// The name of the blocks from `first` to `last`, two indices into [`Folded::blocks`].
    pub fn name_of(&self, model: &ModelGraph, first: usize, last: usize) -> String {
        let first = module(model, &self.blocks[first].ops);
        let last = module(model, &self.blocks[last].ops);
        let (mut from, mut to) = (first.split('.').collect::<Vec<_>>(), last.split('.').collect::<Vec<_>>());
        let parts = from.len().max(to.len());
        from.resize(parts, "");
        to.resize(parts, "");
        let range = |(from, to): (&&str, &&str)| if from == to { (*from).to_owned() } else { format!("{from}..{to}") };
        let joined = from.iter().zip(&to).map(range);
        joined.collect::<Vec<_>>().join(".")
    }
}

/// The longest path that all operators of a stretch begin with; where there is none, its first and last operator.
fn module(model: &ModelGraph, ops: &Range<usize>) -> String {
    let names = &model.ops()[ops.clone()];
    let Some(first) = names.first() else { return String::new() };
    if names.len() == 1 {
        return first.name.clone();
    }
    let mut common: Vec<&str> = first.name.split('.').collect();
    for op in names {
        let same = common.iter().zip(op.name.split('.')).take_while(|(a, b)| *a == b).count();
        common.truncate(same);
    }
    match (common.is_empty(), names.last()) {
        (true, Some(last)) => format!("{} … {}", first.name, last.name),
        _ => common.join("."),
    }
}
