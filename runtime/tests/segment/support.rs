//! Cuts a model at will, runs it piece by piece, and gathers what must not depend on the cut.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

use cutplane_graph::{InputRole, ModelGraph, ModelSource, OpId, ParamId, ValueId};
use cutplane_plan::{Optimizer, Segment};
use cutplane_runtime::{Backend, HostTensor, OptimizerSettings, SegmentRunner, init::initial_weight};

pub(crate) const SEED: u64 = 7;

/// Host loops, and the tensor expressions that run on a card.
pub(crate) fn backends() -> [Backend; 2] {
    [Backend::cpu(), Backend::cpu_as_card()]
}

/// A built-in model at a given depth and sequence length.
pub(crate) fn zoo(name: &str, layers: u64, sequence_length: u64) -> Arc<ModelGraph> {
    let overrides = cutplane_graph::Overrides { layers: Some(layers), ..Default::default() };
    let source = ModelSource::BuiltIn { name: name.to_owned(), overrides, sequence_length };
    Arc::new(cutplane_zoo::build(&source).expect("a built-in model"))
}

/// The operators `range` as a segment.
pub(crate) fn segment(model: &ModelGraph, range: Range<usize>) -> Segment {
    let inside = |op: &OpId| range.contains(&op.index());
    let ops: Vec<OpId> = range.clone().map(OpId::new).collect();
    let sorted = |mut ids: Vec<ValueId>| {
        ids.sort_unstable();
        ids.dedup();
        ids
    };
    let read = ops.iter().flat_map(|op| model.op(*op).inputs.clone());
    let inputs = read.filter(|value| !model.value(*value).producer.is_some_and(|op| inside(&op))).collect();
    let written = ops.iter().map(|op| model.op(*op).output);
    let outputs = written
        .filter(|value| model.outputs().contains(value) || model.value(*value).consumers.iter().any(|op| !inside(op)));
    let mut params: Vec<ParamId> = ops.iter().flat_map(|op| model.op(*op).params.clone()).collect();
    params.sort_unstable();
    params.dedup();
    Segment { stage: 0, inputs: sorted(inputs), outputs: sorted(outputs.collect()), params, ops }
}

/// Numbers that look random and are the same everywhere.
pub(crate) fn noise(count: usize, salt: u64) -> impl Iterator<Item = u64> {
    (0..count as u64).map(move |i| {
        let mixed = (i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ salt.wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed ^ (mixed >> 29)).wrapping_mul(0x94d0_49bb_1331_11eb) >> 33
    })
}

/// Inputs for a micro-batch of `batch` samples; 12 of each 80 tokens (or the counted number) are masked targets.
pub(crate) fn feeds(model: &ModelGraph, batch: usize, salt: u64) -> HashMap<ValueId, HostTensor> {
    let vocab = model.ops().iter().find_map(|op| match op.kind {
        cutplane_graph::OpKind::Embedding { vocab, .. } => Some(vocab),
        _ => None,
    });
    let counted = model.ops().iter().find_map(|op| match op.kind {
        cutplane_graph::OpKind::CrossEntropy { counted, .. } => Some(counted as usize),
        _ => None,
    });
    let feed = |id: ValueId| {
        let value = model.value(id);
        let shape: Vec<usize> = std::iter::once(batch).chain(value.ty.dims.iter().map(|d| *d as usize)).collect();
        let (count, sample) = (shape.iter().product::<usize>(), shape[1..].iter().product::<usize>());
        let ids = noise(count, salt + id.index() as u64);
        match value.role.expect("an input") {
            InputRole::Features => {
                let floats = ids.map(|x| (x % 2000) as f32 / 1000.0 - 1.0).collect();
                (id, HostTensor::f32(shape, floats))
            }
            InputRole::TokenTypes => (id, HostTensor::i32(shape, ids.map(|x| (x % 2) as i32).collect())),
            InputRole::MaskedTokens => {
                let keep = counted.unwrap_or(sample);
                let target = |(i, x): (usize, u64)| {
                    if i % sample < keep { (x % vocab.unwrap_or(2)) as i32 } else { cutplane_graph::IGNORED_TARGET }
                };
                (id, HostTensor::i32(shape, ids.enumerate().map(target).collect()))
            }
            InputRole::Tokens | InputRole::NextTokens => {
                (id, HostTensor::i32(shape, ids.map(|x| (x % vocab.unwrap_or(2)) as i32).collect()))
            }
            other => panic!("no numbers for {other:?}"),
        }
    };
    model.inputs().map(feed).collect()
}

/// The pieces of a model that is cut before each of the operators `cuts`.
pub(crate) struct Pieces {
    pub(crate) model: Arc<ModelGraph>,
    pub(crate) runners: Vec<(Segment, SegmentRunner)>,
}

impl Pieces {
    pub(crate) fn new(model: &Arc<ModelGraph>, cuts: &[usize], backend: &Backend) -> Self {
        Self::with(model, cuts, backend, OptimizerSettings::new(Optimizer::AdamW, 1e-3))
    }

    pub(crate) fn with(
        model: &Arc<ModelGraph>,
        cuts: &[usize],
        backend: &Backend,
        optimizer: OptimizerSettings,
    ) -> Self {
        let mut bounds = vec![0];
        bounds.extend(cuts);
        bounds.push(model.ops().len());
        let weights = |id| initial_weight(model.param(id), SEED);
        let runner = |pair: &[usize]| {
            let segment = segment(model, pair[0]..pair[1]);
            let runner = SegmentRunner::new(model.clone(), segment.clone(), backend, &weights, optimizer);
            (segment, runner.expect("the zoo's weights fit"))
        };
        Self { model: model.clone(), runners: bounds.windows(2).map(runner).collect() }
    }

    /// Runs a micro-batch forward through all pieces and gives the loss, if the model has one.
    pub(crate) fn forward(&mut self, micro_batch: u64, feeds: &HashMap<ValueId, HostTensor>) -> Option<f32> {
        let mut values = feeds.clone();
        let mut loss = None;
        for (segment, runner) in &mut self.runners {
            let inputs = segment.inputs.iter().map(|id| (*id, values[id].clone())).collect();
            values.extend(runner.forward(micro_batch, inputs).expect("forward"));
            loss = loss.or(runner.loss(micro_batch));
        }
        loss
    }

    /// Runs a micro-batch backward through all pieces; `seed` holds upstream gradients of the model's own outputs.
    pub(crate) fn backward(&mut self, micro_batch: u64, loss_scale: f32, seed: &[(ValueId, HostTensor)]) {
        let mut upstream: HashMap<ValueId, HostTensor> = seed.iter().cloned().collect();
        for (segment, runner) in self.runners.iter_mut().rev() {
            let given = segment.outputs.iter().filter_map(|id| Some((*id, upstream.get(id)?.clone()))).collect();
            for (id, gradient) in runner.backward(micro_batch, given, loss_scale).expect("backward") {
                match upstream.remove(&id) {
                    None => upstream.insert(id, gradient),
                    Some(other) => upstream.insert(id, sum(&other, &gradient)),
                };
            }
        }
    }

    /// Gradients of all parameters, added up over pieces that share one.
    pub(crate) fn gradients(&self) -> BTreeMap<ParamId, Vec<f32>> {
        let mut all: BTreeMap<ParamId, Vec<f32>> = BTreeMap::new();
        for (segment, runner) in &self.runners {
            for id in &segment.params {
                let mut gradient = Vec::new();
                runner.read_gradients(&[*id], &mut gradient);
                match all.get_mut(id) {
                    None => drop(all.insert(*id, gradient)),
                    Some(sum) => sum.iter_mut().zip(&gradient).for_each(|(sum, new)| *sum += new),
                }
            }
        }
        all
    }
}

fn sum(left: &HostTensor, right: &HostTensor) -> HostTensor {
    let (left_data, right_data) = (left.to_f32().expect("floats"), right.to_f32().expect("floats"));
    let sum = left_data.iter().zip(&right_data).map(|(a, b)| a + b).collect();
    HostTensor::f32(left.shape.clone(), sum)
}

/// Largest difference of two sets of gradients, relative to the largest gradient of the parameter in question or a
/// millionth of the largest of all, whichever is larger.
pub(crate) fn difference(left: &BTreeMap<ParamId, Vec<f32>>, right: &BTreeMap<ParamId, Vec<f32>>) -> f32 {
    assert!(left.keys().eq(right.keys()), "other parameters");
    let largest = |values: &[f32]| values.iter().fold(0.0f32, |max, x| max.max(x.abs()));
    let overall = left.values().map(|values| largest(values)).fold(0.0, f32::max);
    assert!(overall > 0.0, "all gradients are zero");
    let apart = |(a, b): (&Vec<f32>, &Vec<f32>)| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    left.iter().map(|(id, a)| apart((a, &right[id])) / overall).fold(0.0, f32::max)
}
