//! One turn of measuring one operator, under the conditions that it meets inside a segment.

use std::time::Instant;

use burn::tensor::{Device, Tensor, TensorData};
use cutplane_graph::{OpId, OpKind};

use super::cases::Case;
use crate::backend::Backend;
use crate::memory::RankMemory;
use crate::ops::{self, Matrix, Output, Tokens, Value, Weight, from_floats};
use crate::segment::{accumulate, seed};

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
    case: &'a Case,
    device: Device,
    weights: Vec<Weight>,
    gradients: Vec<Option<Vec<f32>>>,
    /// Floats that require gradients, and integers.
    leaves: Vec<Value>,
    pool: &'a Pool,
    memory: Option<RankMemory>,
}

/// A forward pass whose backward pass is still to come.
struct Recorded {
    sample: Sample,
    output: Output,
}

impl<'a> Bench<'a> {
    pub(crate) fn new(case: &'a Case, backend: &Backend, pool: &'a Pool, memory: Option<RankMemory>) -> Self {
        let (model, device) = (&case.model, backend.autodiff());
        let op = model.op(OpId::new(0));
        let weight = |id: &cutplane_graph::ParamId| {
            let shape: Vec<usize> = model.param(*id).shape.iter().map(|dim| *dim as usize).collect();
            let data = pool.floats(shape.iter().product());
            Weight::leaf(&shape, TensorData::new(data, shape.clone()), &device)
        };
        let leaf = |id: &cutplane_graph::ValueId| {
            let ty = &model.value(*id).ty;
            let dims = std::iter::once(case.batch).chain(ty.dims.iter().copied());
            let shape: Vec<usize> = dims.map(|dim| dim as usize).collect();
            let count = shape.iter().product();
            if ty.dtype.is_float() {
                Value::Float(Matrix::from_host(shape, pool.floats(count), &device).map(Tensor::require_grad))
            } else {
                let ids = (0..count as u64).map(|i| (i * 7919 % ids_below(&op.kind)) as i32);
                Value::Int(Tokens { shape, ids: ids.collect() })
            }
        };
        Self {
            weights: op.params.iter().map(weight).collect(),
            gradients: vec![None; op.params.len()],
            leaves: op.inputs.iter().map(leaf).collect(),
            case,
            device,
            pool,
            memory,
        }
    }

    /// Runs `count` micro-batches forward, then all of them backward in reverse, so that a backward pass meets what its
    /// forward pass has left behind as a segment leaves it.
    pub(crate) fn turn(&mut self, count: usize) -> Vec<Sample> {
        let mut recorded: Vec<Recorded> = (0..count).map(|_| self.forward()).collect();
        let mut samples = Vec::with_capacity(count);
        while let Some(record) = recorded.pop() {
            samples.push(self.backward(record));
        }
        samples
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
                let dims = matrix.rows.dims();
                let plain = from_floats(self.pool.floats(dims[0] * dims[1]), dims, &self.device.clone().inner());
                // The sum is written over `plain`; its backward pass hands the gradient on as it is.
                Value::Float(matrix.clone().map(|rows| rows + plain))
            }
            Value::Int(tokens) => Value::Int(tokens.clone()),
        }
    }

    fn forward(&self) -> Recorded {
        self.pool.evict();
        let inputs: Vec<Value> = self.leaves.iter().map(|leaf| self.fresh(leaf)).collect();
        let model = &self.case.model;
        let op = model.op(OpId::new(0));
        let weights: Vec<&Weight> = self.weights.iter().collect();
        let before = self.live();
        self.memory.inspect(RankMemory::reset_peak);
        let started = Instant::now();
        let output = ops::forward(model, op, inputs, &weights).expect("the case was built for the operator");
        let forward_ns = started.elapsed().as_nanos() as f64;
        let after = self.live();
        let kept = after - before - model.value(op.output).ty.bytes(self.case.batch).get() as i64;
        let workspace = self.peak() - after.max(before);
        Recorded { sample: Sample { forward_ns, kept, workspace, ..Sample::default() }, output }
    }

    fn backward(&mut self, record: Recorded) -> Sample {
        let mut sample = record.sample;
        self.pool.evict();
        let (before, plain) = (self.live(), self.device.clone().inner());
        self.memory.inspect(RankMemory::reset_peak);
        let upstream = |rows: &Tensor<2>| {
            let dims = rows.dims();
            from_floats(self.pool.floats(dims[0] * dims[1]), dims, &plain)
        };
        let (rows, upstream, scale, seed_ns) = match record.output {
            Output::Loss(loss) => (loss.logits, loss.gradient, Some(0.5), 0.0),
            Output::Value(Value::Float(matrix)) => {
                let upstream = upstream(&matrix.rows);
                let seed_ns = time_seed(matrix.rows.dims(), self.pool, &self.device);
                (matrix.rows, upstream, None, seed_ns)
            }
            Output::Value(Value::Int(_)) => unreachable!("no operator gives integers"),
        };
        self.memory.inspect(RankMemory::reset_peak);
        let started = Instant::now();
        self.run_backward(rows, upstream, scale);
        sample.backward_ns = started.elapsed().as_nanos() as f64 - seed_ns + self.time_joining();
        let of_params: i64 = self.gradients.iter().flatten().map(|sum| sum.len() as i64 * 4).sum();
        sample.workspace = sample.workspace.max(self.peak() - before - of_params);
        sample
    }

    fn run_backward(&mut self, rows: Tensor<2>, upstream: Tensor<2>, scale: Option<f32>) {
        let seed = seed(rows, upstream);
        let seed = scale.map_or(seed.clone(), |scale| seed * scale);
        let mut gradients = seed.backward();
        for (weight, sum) in self.weights.iter().zip(&mut self.gradients) {
            if let Some(new) = weight.take_gradient(&mut gradients) {
                accumulate(sum, new);
            }
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
        let (OpKind::Add, Value::Float(matrix)) = (&self.case.model.op(OpId::new(0)).kind, &self.leaves[0]) else {
            return 0.0;
        };
        let [rows, width] = matrix.rows.dims();
        let plain = || from_floats(self.pool.floats(rows * width), [rows, width], &self.device.clone().inner());
        let (left, right) = (plain(), plain());
        let started = Instant::now();
        drop(left + right);
        started.elapsed().as_nanos() as f64
    }
}

/// Time of a vector-Jacobian product through nothing, ns: its seed, and the gradient of one leaf.
pub(crate) fn time_seed(dims: [usize; 2], pool: &Pool, device: &Device) -> f64 {
    let numbers = |device: &Device| from_floats(pool.floats(dims[0] * dims[1]), dims, device);
    let (leaf, upstream) = (numbers(device).require_grad(), numbers(&device.clone().inner()));
    let value = leaf.clone() + numbers(&device.clone().inner());
    let started = Instant::now();
    let mut gradients = seed(value, upstream).backward();
    drop(leaf.grad_remove(&mut gradients));
    drop(gradients);
    started.elapsed().as_nanos() as f64
}

fn ids_below(kind: &OpKind) -> u64 {
    match kind {
        OpKind::Embedding { vocab, .. } => *vocab,
        OpKind::CrossEntropy { classes, .. } => *classes,
        _ => 1,
    }
}
