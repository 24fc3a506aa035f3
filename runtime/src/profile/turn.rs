//! One turn of measuring one operator, under the conditions that it meets inside a segment.

use std::time::Instant;

use burn::tensor::{Device, Tensor};
use cutplane_graph::{OpId, OpKind, TensorType};

use super::batch::timed;
use super::cases::Case;
use crate::backend::Backend;
use crate::error::RuntimeError;
use crate::memory::RankMemory;
use crate::ops::{self, Manner, Output, Samples, Tokens, Value, Weight, from_floats};
use crate::segment::{Slot, seed};
use crate::tensor::HostTensor;

/// What is read before a pass, bytes. Inside a model, the weights, the gradients and what the forward pass has left are no
/// longer in the caches when an operator comes to its turn; only its input is.
const EVICT: usize = 16 << 20;

/// Numbers between -1 and 1 to fill tensors with.
pub(crate) struct Pool {
    noise: Vec<f32>,
    other: Vec<f32>,
}

impl Pool {
    pub(crate) fn new() -> Self {
        let noise = |i: u32| (i.wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 23) as f32 - 1.0;
        Self { noise: (0..1 << 16).map(noise).collect(), other: vec![1.0; EVICT / 4] }
    }

    /// Fills the caches with other things.
    fn evict(&self) {
        let lines = self.other.iter().step_by(16);
        std::hint::black_box(lines.sum::<f32>());
    }

    pub(crate) fn floats(&self, count: usize) -> Vec<f32> {
        let mut data = Vec::with_capacity(count);
        while data.len() < count {
            data.extend_from_slice(&self.noise[..self.noise.len().min(count - data.len())]);
        }
        data
    }
}

/// What one run of an operator took.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sample {
    pub(crate) forward_ns: f64,
    /// Without the seed of the vector-Jacobian product; may be negative by noise.
    pub(crate) backward_ns: f64,
    /// Kept beyond inputs, output and parameters.
    pub(crate) kept: i64,
    /// Most that was allocated beyond what is kept, parameter gradients left out.
    pub(crate) workspace: i64,
}

/// An operator with its weights and inputs on the device, ready to run.
pub(crate) struct Bench<'a> {
    pub(super) case: &'a Case,
    pub(super) backend: &'a Backend,
    slots: Vec<Slot>,
    /// Floats that require gradients, and integers.
    leaves: Vec<Value>,
    pub(super) pool: &'a Pool,
    memory: Option<RankMemory>,
}

/// A forward pass whose backward pass is still to come.
struct Recorded {
    sample: Sample,
    output: Output,
}

/// Where a backward pass starts: an output with its upstream gradient, and the share of a loss.
pub(super) struct Start {
    pub(super) rows: Tensor<2>,
    upstream: Tensor<2>,
    pub(super) share: Option<f32>,
}

impl<'a> Bench<'a> {
    pub(crate) fn new(case: &'a Case, backend: &'a Backend, pool: &'a Pool, memory: Option<RankMemory>) -> Self {
        let model = &case.model;
        let op = model.op(OpId::new(0));
        let slot = |id: &cutplane_graph::ParamId| {
            let shape: Vec<usize> = model.param(*id).shape.iter().map(|dim| *dim as usize).collect();
            let data = pool.floats(shape.iter().product());
            Slot::new(shape, data, backend)
        };
        let leaf = |id: &cutplane_graph::ValueId| {
            let ty = &model.value(*id).ty;
            let shape: Vec<usize> = ty.shape(case.batch).into_iter().map(|dim| dim as usize).collect();
            let count = shape.iter().product();
            if ty.dtype.is_float() {
                Value::enter(HostTensor::f32(shape, pool.floats(count)), backend).recorded(true)
            } else {
                let ids =
                    (0..count as u64).map(|i| (i * 7919 % ids_below(&op.kind, &model.value(op.inputs[0]).ty)) as i32);
                Value::Int(Tokens { shape, ids: ids.collect() })
            }
        };
        let (slots, leaves) = (op.params.iter().map(slot).collect(), op.inputs.iter().map(leaf).collect());
        Self { case, backend, slots, leaves, pool, memory }
    }

    /// Runs `count` micro-batches forward, then all of them backward in reverse, so that a backward pass meets what its
    /// forward pass has left behind as a segment leaves it.
    pub(super) fn turn(&mut self, count: usize) -> Result<Vec<Sample>, RuntimeError> {
        let mut recorded: Vec<Recorded> = (0..count).map(|_| self.forward()).collect();
        let mut samples = Vec::with_capacity(count);
        while let Some(record) = recorded.pop() {
            samples.push(self.backward(record)?);
        }
        Ok(samples)
    }

    /// One micro-batch forward and backward, untimed, with what the caches hold: what a busy neighbour does.
    pub(super) fn warm_turn(&mut self) {
        let output = self.run(self.inputs());
        let start = self.start(output);
        self.run_backward(start);
    }

    fn live(&self) -> i64 {
        self.memory.map_or(0, |memory| memory.current() as i64)
    }

    fn peak(&self) -> i64 {
        self.memory.map_or(0, |memory| memory.peak() as i64)
    }

    /// A value that has just been computed, with no other reference to it: what an operator gets inside a segment.
    fn fresh(&self, leaf: &Value) -> Value {
        match leaf {
            Value::Float(matrix) => {
                let plain = self.numbers(matrix.rows.dims());
                // The sum is written over `plain`; its backward pass hands the gradient on as it is.
                Value::Float(matrix.clone().map(|rows| rows + plain))
            }
            Value::Int(tokens) => Value::Int(tokens.clone()),
        }
    }

    /// A plain tensor in the precision of the backend.
    pub(super) fn numbers(&self, dims: [usize; 2]) -> Tensor<2> {
        self.backend.low(from_floats(self.pool.floats(dims[0] * dims[1]), dims, &self.backend.device()))
    }

    /// Inputs that have just been computed.
    pub(super) fn inputs(&self) -> Vec<Value> {
        self.leaves.iter().map(|leaf| self.fresh(leaf)).collect()
    }

    /// Runs the operator.
    pub(super) fn run(&self, inputs: Vec<Value>) -> Output {
        let model = &self.case.model;
        let weights: Vec<&Weight> = self.slots.iter().map(|slot| &slot.weight).collect();
        let manner = Manner {
            backend: self.backend,
            loss_scale: 1.0,
            samples: Some(Samples::default()),
            deferred: None,
            tables: None,
        };
        ops::forward(model, model.op(OpId::new(0)), inputs, &weights, manner)
            .expect("the case was built for the operator")
    }

    /// Bytes of the output, in the precision of the backend.
    pub(super) fn output_bytes(&self) -> i64 {
        let ty = &self.case.model.value(self.case.model.op(OpId::new(0)).output).ty;
        ty.bytes_in(self.case.batch, self.backend.precision()).get() as i64
    }

    fn forward(&self) -> Recorded {
        self.pool.evict();
        let inputs = self.inputs();
        let before = self.live();
        self.memory.inspect(RankMemory::reset_peak);
        let started = Instant::now();
        let output = self.run(inputs);
        let forward_ns = started.elapsed().as_nanos() as f64;
        let after = self.live();
        let kept = after - before - self.output_bytes();
        let workspace = self.peak() - after.max(before);
        Recorded { sample: Sample { forward_ns, kept, workspace, ..Sample::default() }, output }
    }

    fn backward(&mut self, record: Recorded) -> Result<Sample, RuntimeError> {
        let mut sample = record.sample;
        self.pool.evict();
        let before = self.live();
        self.memory.inspect(RankMemory::reset_peak);
        let start = self.start(record.output);
        let seed_ns = if start.share.is_none() { time_seed(start.rows.dims(), self.pool, self.backend)? } else { 0.0 };
        self.memory.inspect(RankMemory::reset_peak);
        let started = Instant::now();
        self.run_backward(start);
        sample.backward_ns = started.elapsed().as_nanos() as f64 - seed_ns + self.time_joining();
        let of_params: i64 = self.slots.iter().filter(|slot| slot.gradient.is_some()).map(Slot::bytes).sum();
        sample.workspace = sample.workspace.max(self.peak() - before - of_params);
        Ok(sample)
    }

    /// Where the backward pass of an output starts.
    pub(super) fn start(&self, output: Output) -> Start {
        match output {
            Output::Loss(loss) => Start { rows: loss.logits, upstream: loss.gradient, share: Some(0.5) },
            Output::Value(Value::Float(matrix)) => {
                Start { upstream: self.numbers(matrix.rows.dims()), rows: matrix.rows, share: None }
            }
            Output::Value(Value::Int(_)) => unreachable!("no operator gives integers"),
        }
    }

    /// A vector-Jacobian product, and the gradients of weights and inputs.
    pub(super) fn run_backward(&mut self, start: Start) {
        let seed = seed(start.rows, start.upstream);
        let seed = start.share.map_or(seed.clone(), |share| seed * share);
        let mut gradients = seed.backward();
        for slot in &mut self.slots {
            let leaf = slot.weight.clone();
            slot.gather(&leaf, &mut gradients);
        }
        for leaf in &self.leaves {
            if let Value::Float(matrix) = leaf {
                drop(matrix.rows.grad_remove(&mut gradients));
            }
        }
    }

    /// An addition stands at the end of a residual branch: where the branch starts, two gradients are summed. That sum
    /// belongs to no operator, so it is priced with the addition.
    fn time_joining(&self) -> f64 {
        let Some(dims) = self.joined() else { return 0.0 };
        let (left, right) = (self.numbers(dims), self.numbers(dims));
        let started = Instant::now();
        drop(left + right);
        started.elapsed().as_nanos() as f64
    }

    /// Extents of the two gradients that are summed beside an addition.
    pub(super) fn joined(&self) -> Option<[usize; 2]> {
        match (&self.case.model.op(OpId::new(0)).kind, &self.leaves[0]) {
            (OpKind::Add, Value::Float(matrix)) => Some(matrix.rows.dims()),
            _ => None,
        }
    }
}

/// Time of a vector-Jacobian product through nothing, ns: its seed, and the gradient of one leaf.
pub(crate) fn time_seed(dims: [usize; 2], pool: &Pool, backend: &Backend) -> Result<f64, RuntimeError> {
    let (leaf, value, upstream) = seed_parts(dims, pool, backend);
    Ok(timed(backend, || run_seed(&leaf, value, upstream))?.1)
}

/// A leaf, a value computed from it, and an upstream gradient.
pub(super) fn seed_parts(dims: [usize; 2], pool: &Pool, backend: &Backend) -> (Tensor<2>, Tensor<2>, Tensor<2>) {
    let numbers = |device: &Device| backend.low(from_floats(pool.floats(dims[0] * dims[1]), dims, device));
    let leaf = Tensor::from_inner(numbers(&backend.device())).require_grad();
    let upstream = numbers(&backend.device());
    let value = leaf.clone() + numbers(&backend.device());
    (leaf, value, upstream)
}

/// The vector-Jacobian product through nothing.
pub(super) fn run_seed(leaf: &Tensor<2>, value: Tensor<2>, upstream: Tensor<2>) {
    let mut gradients = seed(value, upstream).backward();
    drop(leaf.grad_remove(&mut gradients));
    drop(gradients);
}

fn ids_below(kind: &OpKind, first: &TensorType) -> u64 {
    match kind {
        OpKind::Embedding { vocab, .. } => *vocab,
        OpKind::CrossEntropy { classes, .. } => *classes,
        OpKind::Gather(_) => first.dims[0],
        _ => 1,
    }
}
