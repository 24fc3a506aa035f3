//! Stages cut into segments, and which of them a backward pass has to reach.

use std::collections::BTreeMap;

use cutplane_graph::{Exchange, ModelGraph, OpId, OpKind, ParamId, ValueId};

use crate::execution::Recompute;
use crate::program::{Segment, SegmentId};
use crate::verify::VerifiedPlan;

/// The segments of all stages.
pub(super) struct Stages {
    pub(super) segments: Vec<Segment>,
    /// The segments of each stage, in topological order.
    pub(super) of_stage: Vec<Vec<SegmentId>>,
    /// The segment of each operator.
    pub(super) segment_of: Vec<SegmentId>,
    /// Whether a segment keeps only its inputs.
    pub(super) recomputed: Vec<bool>,
    /// Whether a segment has a backward pass.
    pub(super) goes_back: Vec<bool>,
    /// Whether the gradient of a value is needed.
    pub(super) needs_gradient: Vec<bool>,
    /// Parameters that are not trained, in id order.
    pub(super) frozen: Vec<ParamId>,
    /// The segments that hold nothing but an exchange.
    pub(super) exchanges: BTreeMap<SegmentId, Exchange>,
}

impl Stages {
    pub(super) fn new(plan: &VerifiedPlan<'_>) -> Self {
        let model = plan.model();
        let frozen = plan.frozen_params();
        let needs_gradient = needs_gradient(model, &frozen);
        let first_trained = model.op_ids().find(|op| needs_gradient[model.op(*op).output.index()]);
        let first_trained = first_trained.filter(|_| !frozen.is_empty());
        let mut segment_of = vec![SegmentId(0); model.ops().len()];
        let (mut of_stage, mut pieces, mut recomputed) = (Vec::new(), Vec::new(), Vec::new());
        for stage in 0..plan.plan().stages.len() {
            let mut ids = Vec::new();
            for (ops, again) in cut(plan, stage, first_trained) {
                let id = SegmentId(pieces.len() as u32);
                for op in &ops {
                    segment_of[op.index()] = id;
                }
                pieces.push((stage, ops));
                recomputed.push(again);
                ids.push(id);
            }
            of_stage.push(ids);
        }
        let ranks = plan.plan().pipeline_ranks();
        let segment = |(stage, ops): (usize, Vec<OpId>)| segment(model, stage % ranks, ops, &segment_of);
        let segments: Vec<Segment> = pieces.into_iter().map(segment).collect();
        let kind = |segment: &Segment| match &model.op(segment.ops[0]).kind {
            OpKind::Exchange(exchange) => Some(exchange.clone()),
            _ => None,
        };
        let exchanges = segments.iter().enumerate();
        let exchanges = exchanges.filter_map(|(id, segment)| Some((SegmentId(id as u32), kind(segment)?))).collect();
        let goes_back = segments.iter().map(|segment| goes_back(segment, &frozen, &needs_gradient)).collect();
        Self { segments, of_stage, segment_of, recomputed, goes_back, needs_gradient, frozen, exchanges }
    }

    /// The segment that writes a value; `None` for a graph input.
    pub(super) fn producer(&self, model: &ModelGraph, value: ValueId) -> Option<SegmentId> {
        model.value(value).producer.map(|op| self.segment_of[op.index()])
    }
}

/// The operators of a stage in stretches, and whether each is recomputed. A stage is one stretch, unless it is recomputed
/// in parts or exchanges its gradients in buckets, which leave layer by layer. An exchange over a tensor axis stands alone; what
/// comes before `first_trained` is a stretch of its own, since it has no backward pass.
fn cut(plan: &VerifiedPlan<'_>, stage: usize, first_trained: Option<OpId>) -> Vec<(Vec<OpId>, bool)> {
    let (model, execution) = (plan.model(), &plan.plan().execution);
    let mut stretches: Vec<(Vec<OpId>, bool)> = Vec::new();
    let (mut last_layer, mut last_exchanges) = (None, false);
    for op in model.op_ids().filter(|op| plan.stage_of(*op) == stage) {
        let (layer, exchanges) = (model.op(op).layer, matches!(model.op(op).kind, OpKind::Exchange(_)));
        let (again, apart) = match &execution.recompute {
            Recompute::None => (false, false),
            Recompute::Stages => (true, false),
            Recompute::Layers => (layer.is_some(), true),
            Recompute::Ops(ops) => (ops.contains(plan.origin(op)), false),
        };
        let again = again && !exchanges;
        let by_layer = apart || execution.bucket_bytes.is_some();
        match stretches.last_mut() {
            Some((ops, same))
                if *same == again
                    && (!by_layer || last_layer == Some(layer))
                    && !exchanges
                    && !last_exchanges
                    && first_trained != Some(op) =>
            {
                ops.push(op);
            }
            _ => stretches.push((vec![op], again)),
        }
        (last_layer, last_exchanges) = (Some(layer), exchanges);
    }
    stretches
}

fn segment(model: &ModelGraph, stage: usize, ops: Vec<OpId>, segment_of: &[SegmentId]) -> Segment {
    let id = segment_of[ops[0].index()];
    let inside = |op: OpId| segment_of[op.index()] == id;
    let mut inputs: Vec<ValueId> = ops.iter().flat_map(|op| model.op(*op).inputs.iter().copied()).collect();
    inputs.retain(|value| !model.value(*value).producer.is_some_and(inside));
    let mut params: Vec<ParamId> = ops.iter().flat_map(|op| model.op(*op).params.iter().copied()).collect();
    let mut outputs: Vec<ValueId> = ops.iter().map(|op| model.op(*op).output).collect();
    outputs.retain(|value| {
        model.outputs().contains(value) || model.value(*value).consumers.iter().any(|consumer| !inside(*consumer))
    });
    for list in [&mut inputs, &mut outputs] {
        list.sort_unstable();
        list.dedup();
    }
    params.sort_unstable();
    params.dedup();
    Segment { stage, ops, inputs, outputs, params }
}

/// Which values a gradient has to come back for: all floats that operators write, but those before which nothing is
/// trained when some parameters are frozen.
fn needs_gradient(model: &ModelGraph, frozen: &[ParamId]) -> Vec<bool> {
    let mut needs = vec![false; model.values().len()];
    for op in model.ops() {
        let trains = op.params.iter().any(|param| frozen.binary_search(param).is_err());
        let reached = frozen.is_empty() || trains || op.inputs.iter().any(|value| needs[value.index()]);
        needs[op.output.index()] = reached && model.value(op.output).ty.dtype.is_float();
    }
    needs
}

fn goes_back(segment: &Segment, frozen: &[ParamId], needs_gradient: &[bool]) -> bool {
    let trains = segment.params.iter().any(|param| frozen.binary_search(param).is_err());
    frozen.is_empty() || trains || segment.inputs.iter().any(|value| needs_gradient[value.index()])
}
