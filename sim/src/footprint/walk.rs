//! Any model in pieces, by a walk over its operators.

use cutplane_graph::{ActivationKind, ModelGraph, Op, OpId, OpKind, ValueId};

use super::keeping::Keeping;
use super::layer::LayerBytes;
use super::pieces::{End, Pieces, Run, expert_replicas, loss_bytes};
use super::shape::Numbers;
use crate::estimate::{AttentionKernel, Layout, Split};

/// Bytes of the place of a maximum, as PyTorch keeps it.
const POOL_INDEX: f64 = 8.0;

/// A model in pieces: operators before the first repeated layer, the layers (with what stands between them), operators
/// behind the last one. `splits` says how each operator is cut.
pub(super) fn pieces(graph: &ModelGraph, splits: &[Split], layout: &Layout, keeping: &Keeping) -> Pieces {
    let mut walk = Walk::new(graph, splits, layout, keeping);
    let layered: Vec<OpId> = graph.op_ids().filter(|id| graph.op(*id).layer.is_some()).collect();
    let (first, last) = (layered.first().copied(), layered.last().copied());
    let mut pieces = Pieces {
        before: End::default(),
        layers: Vec::new(),
        behind: End::default(),
        tied: tied(graph, layout),
        loss: 0.0,
        message: last.map_or(0.0, |id| walk.size(graph.op(id).output)),
        trained: 1.0,
        expert_replicas: expert_replicas(layout, layout.expert_tp() as f64),
    };
    let mut open = None;
    for id in graph.op_ids() {
        let step = walk.step(id);
        pieces.loss = pieces.loss.max(step.loss);
        match (first, last) {
            (Some(first), Some(last)) if (first..=last).contains(&id) => {
                let layer = graph.op(id).layer;
                if layer.is_some() && layer != open {
                    open = layer;
                    pieces.layers.push(Run { repeats: 1, ..Run::EMPTY });
                }
                if let Some(run) = pieces.layers.last_mut() {
                    step.add_to(run);
                }
            }
            (_, Some(last)) if id > last => step.end(&mut pieces.behind),
            _ => step.end(&mut pieces.before),
        }
    }
    pieces
}

/// Numbers that operators on both sides of the layers share.
fn tied(graph: &ModelGraph, layout: &Layout) -> f64 {
    let outside = |id: &&OpId| graph.op(**id).layer.is_none();
    let tied = graph.params().iter().filter(|param| param.users.iter().filter(outside).count() > 1);
    tied.map(|param| param.elements() as f64).sum::<f64>() / layout.tp as f64
}

/// What one operator adds.
#[derive(Clone, Copy, Debug, Default)]
struct Step {
    numbers: Numbers,
    kept: f64,
    core: f64,
    input: f64,
    working: f64,
    loss: f64,
}

impl Step {
    fn end(self, end: &mut End) {
        end.numbers.dense += self.numbers.dense;
        end.numbers.experts += self.numbers.experts;
        end.kept += self.kept;
    }

    fn add_to(self, run: &mut Run) {
        run.numbers.dense += self.numbers.dense;
        run.numbers.experts += self.numbers.experts;
        let bytes = &mut run.bytes;
        if bytes.input <= 0.0 {
            bytes.input = self.input;
        }
        bytes.kept += self.kept;
        bytes.core += self.core;
        bytes.working = bytes.working.max(self.working);
    }
}

impl Run {
    const EMPTY: Self = Self {
        numbers: Numbers { dense: 0.0, experts: 0.0 },
        bytes: LayerBytes { kept: 0.0, core: 0.0, input: 0.0, working: 0.0 },
        repeats: 0,
    };
}

struct Walk<'a> {
    graph: &'a ModelGraph,
    layout: &'a Layout,
    keeping: &'a Keeping,
    splits: &'a [Split],
    counted_values: Vec<bool>,
    counted_params: Vec<bool>,
}

fn first_time(counted: &mut bool) -> bool {
    !std::mem::replace(counted, true)
}

impl<'a> Walk<'a> {
    fn new(graph: &'a ModelGraph, splits: &'a [Split], layout: &'a Layout, keeping: &'a Keeping) -> Self {
        let (counted_values, counted_params) = (vec![false; graph.values().len()], vec![false; graph.params().len()]);
        Self { graph, layout, keeping, splits, counted_values, counted_params }
    }

    fn split(&self, id: OpId) -> Split {
        self.splits.get(id.index()).copied().unwrap_or(Split::Whole)
    }

    /// Bytes of a value on a rank: floats in the type of the passes, sharded as the operator that made it is.
    fn size(&self, value: ValueId) -> f64 {
        let node = self.graph.value(value);
        let element =
            if node.ty.dtype.is_float() { self.layout.precision.activation_bytes() } else { node.ty.dtype.size() };
        let bytes = node.ty.elements(self.layout.micro_batch) as f64 * element as f64 / self.layout.cp as f64;
        let features =
            node.producer.is_some_and(|id| matches!(self.split(id), Split::Columns { .. } | Split::Features));
        if features || self.layout.sequence_parallel { bytes / self.layout.tp as f64 } else { bytes }
    }

    /// Size of a value that nothing has kept yet, which is kept from now on.
    fn keep(&mut self, value: ValueId) -> f64 {
        if first_time(&mut self.counted_values[value.index()]) { self.size(value) } else { 0.0 }
    }

    fn step(&mut self, id: OpId) -> Step {
        let op = self.graph.op(id);
        let mut step = Step { numbers: self.numbers(id, op), ..Step::default() };
        step.input = op.inputs.first().map_or(0.0, |value| self.size(*value));
        let largest = op.inputs.iter().map(|value| self.size(*value)).fold(self.size(op.output), f64::max);
        step.working = 2.0 * largest;
        if matches!(op.kind, OpKind::CrossEntropy { .. }) {
            step.loss = self.loss(op);
        } else {
            let (kept, core) = self.kept(id, op);
            (step.kept, step.core) = (kept + core, core);
        }
        step
    }

    fn numbers(&mut self, id: OpId, op: &Op) -> Numbers {
        let own = op.params.iter().filter(|param| first_time(&mut self.counted_params[param.index()]));
        let numbers: f64 = own.map(|param| self.graph.param(*param).elements() as f64).sum();
        let whole = self.split(id) == Split::Whole;
        let over = |ranks: u64| if whole { 1.0 } else { ranks as f64 };
        match op.kind {
            OpKind::ExpertLinear(_) => {
                let ranks = over(self.layout.expert_tp()) * self.layout.ep as f64;
                Numbers { dense: 0.0, experts: numbers / ranks }
            }
            _ => Numbers { dense: numbers / over(self.layout.tp), experts: 0.0 },
        }
    }

    fn loss(&self, op: &Op) -> f64 {
        let element = self.layout.precision.activation_bytes() as f64;
        let logits = op.inputs.first().map_or(0.0, |value| self.size(*value)) / element;
        logits * loss_bytes(self.layout.precision, self.keeping)
    }

    /// `(values, core)` that an operator keeps, bytes: the values of the graph that nothing kept before it, and what only
    /// it knows.
    fn kept(&mut self, id: OpId, op: &Op) -> (f64, f64) {
        let saved = self.graph.saved(id, self.layout.micro_batch);
        let internal = saved.internal_elements as f64 / self.layout.cp as f64;
        let element = self.layout.precision.activation_bytes() as f64;
        let (inputs, output, beside, core) = match &op.kind {
            OpKind::Attention(_) => {
                let (beside, core) = self.core(id);
                (true, true, beside, core)
            }
            // What is computed in place leaves its output only.
            OpKind::Activation { function: ActivationKind::Relu } => (false, true, 0.0, 0.0),
            OpKind::Dropout(_) => (false, false, self.size(op.output) / element, 0.0),
            OpKind::Pool(_) => (false, false, internal * POOL_INDEX, 0.0),
            _ => (saved.inputs, saved.output, internal * element, 0.0),
        };
        let mut kept = beside;
        if inputs {
            kept += op.inputs.iter().map(|value| self.keep(*value)).sum::<f64>();
        }
        if output {
            kept += self.keep(op.output);
        }
        (kept, core)
    }

    /// `(beside, core)` of an attention: statistics of a fused kernel, or scores with their dropout.
    fn core(&self, id: OpId) -> (f64, f64) {
        let shards = (self.layout.tp * self.layout.cp) as f64;
        let op = self.graph.op(id);
        let OpKind::Attention(attention) = &op.kind else { return (0.0, 0.0) };
        if self.layout.attention == AttentionKernel::Flash {
            let rows = self.graph.value(op.output).ty.rows(self.layout.micro_batch) as f64;
            return (4.0 * rows * attention.heads as f64 / shards, 0.0);
        }
        let element = self.layout.precision.activation_bytes() as f64;
        let each = if self.keeping.dropout { 1.0 + 2.0 * element } else { element };
        (0.0, each * self.graph.attention_scores(id, self.layout.micro_batch) as f64 / shards)
    }
}
