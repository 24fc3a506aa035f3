//! Segments of one rank: weights, the gradients accumulated for them, and the micro-batches in flight.

mod backward;
mod deferred;
mod live;
mod parameters;
mod slot;
mod state;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use cutplane_graph::{ModelGraph, ParamId, ValueId};
use cutplane_plan::{Segment, SegmentId};

use crate::backend::Backend;
use crate::error::RuntimeError;
use crate::ops::{self, Loss, Manner, Output, Samples, TablePart, Value, Weight};
use crate::optimizer::OptimizerSettings;
use crate::tensor::{HostData, HostTensor};
use deferred::Products;
use live::{Live, Values};

pub(crate) use deferred::DeferredProduct;
pub(crate) use live::seed;
pub(crate) use slot::{Gradient, Slot};

/// Values by id.
pub(crate) type Tensors = Vec<(ValueId, HostTensor)>;

/// What a forward pass leaves behind for the backward pass; of two demands the later one holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Keeping {
    /// Nothing, since no backward pass follows.
    Nothing,
    /// Its history.
    History,
    /// Its history, in which the products that give the gradients of weights wait for a second call.
    Halves,
    /// Its inputs: it is run again before the backward pass.
    Inputs,
}

/// What was kept of a pass that is to be run again.
struct Kept {
    inputs: Tensors,
    samples: Samples,
}

/// A segment and a micro-batch.
type Pass = (SegmentId, u64);

/// The segment of a runner that holds one.
const ONLY: SegmentId = SegmentId(0);

/// Runs segments of one rank on one device.
///
/// The life of a micro-batch: [`SegmentRunner::forward`] records it, [`SegmentRunner::backward`] consumes the record and
/// adds to the parameter gradients. Any number of micro-batches may be in flight; each goes back through the weights that
/// it went forward through, also when they have been updated since. After the last one, gradients are exchanged with other
/// ranks ([`SegmentRunner::read_gradients`], [`SegmentRunner::write_gradients`]) and [`SegmentRunner::optimizer_step`] uses
/// them up.
pub struct SegmentRunner {
    model: Arc<ModelGraph>,
    segments: BTreeMap<SegmentId, Segment>,
    /// Parameters of all segments, in id order.
    params: Vec<ParamId>,
    backend: Backend,
    settings: OptimizerSettings,
    slots: BTreeMap<ParamId, Slot>,
    live: BTreeMap<Pass, Live>,
    kept: BTreeMap<Pass, Kept>,
    products: BTreeMap<Pass, Products>,
    losses: BTreeMap<u64, Loss>,
    /// Which samples a micro-batch to come holds.
    samples: BTreeMap<u64, Samples>,
    tables: BTreeMap<ValueId, TablePart>,
    loss_scale: Option<f32>,
    steps: u32,
}

impl SegmentRunner {
    /// Puts the weights of one segment on the device.
    ///
    /// # Errors
    /// [`RuntimeError::Value`] when `weights` gives a parameter another shape than the model, or when this runtime does
    /// not execute one of the segment's operators.
    pub fn new(
        model: Arc<ModelGraph>,
        segment: Segment,
        backend: &Backend,
        weights: &dyn Fn(ParamId) -> HostTensor,
        optimizer: OptimizerSettings,
    ) -> Result<Self, RuntimeError> {
        Self::of_segments(model, BTreeMap::from([(ONLY, segment)]), backend, weights, optimizer)
    }

    /// The same for all segments of a rank, which share the parameters that several of them use.
    pub(crate) fn of_segments(
        model: Arc<ModelGraph>,
        segments: BTreeMap<SegmentId, Segment>,
        backend: &Backend,
        weights: &dyn Fn(ParamId) -> HostTensor,
        optimizer: OptimizerSettings,
    ) -> Result<Self, RuntimeError> {
        for op in segments.values().flat_map(|segment| &segment.ops) {
            ops::check(model.op(*op))?;
        }
        let mut slots = BTreeMap::new();
        for id in segments.values().flat_map(|segment| &segment.params) {
            if !slots.contains_key(id) {
                slots.insert(*id, slot(&model, *id, weights(*id), backend)?);
            }
        }
        Ok(Self {
            model,
            segments,
            params: slots.keys().copied().collect(),
            backend: backend.clone(),
            settings: optimizer,
            slots,
            live: BTreeMap::new(),
            kept: BTreeMap::new(),
            products: BTreeMap::new(),
            losses: BTreeMap::new(),
            samples: BTreeMap::new(),
            tables: BTreeMap::new(),
            loss_scale: None,
            steps: 0,
        })
    }

    /// Tells which samples the next micro-batch of this number holds: `first`, counted over all steps and replicas, and
    /// those after it. Dropout depends on them and on `seed` alone, so that it is the same under every plan. A micro-batch
    /// of which nothing is told begins at sample 0.
    pub fn set_samples(&mut self, micro_batch: u64, seed: u64, first: u64) {
        self.samples.insert(micro_batch, Samples { seed, first });
    }

    /// Runs a micro-batch forward and keeps what its backward pass needs. `inputs` are the segment's inputs; returned are
    /// its outputs, without the loss, which [`SegmentRunner::loss`] tells. Where numbers stay on the device, the outputs
    /// are handles to them.
    ///
    /// # Errors
    /// [`RuntimeError::Value`] for a missing input, a wrong shape or type, or an id outside the vocabulary;
    /// [`RuntimeError::MicroBatch`] when the micro-batch is in flight already.
    pub fn forward(
        &mut self,
        micro_batch: u64,
        inputs: Vec<(ValueId, HostTensor)>,
    ) -> Result<Vec<(ValueId, HostTensor)>, RuntimeError> {
        self.forward_of(ONLY, micro_batch, inputs, Keeping::History)
    }

    /// The same for one of several segments; what is kept says `keeping`.
    pub(crate) fn forward_of(
        &mut self,
        segment: SegmentId,
        micro_batch: u64,
        inputs: Tensors,
        keeping: Keeping,
    ) -> Result<Tensors, RuntimeError> {
        let pass = (segment, micro_batch);
        if self.live.contains_key(&pass) || self.kept.contains_key(&pass) {
            return Err(RuntimeError::MicroBatch { micro_batch, problem: "it is run forward a second time" });
        }
        let samples = self.samples.get(&micro_batch).copied().unwrap_or_default();
        match keeping {
            Keeping::History | Keeping::Halves => self.record(pass, inputs, samples, keeping == Keeping::Halves),
            Keeping::Inputs => {
                self.kept.insert(pass, Kept { inputs: inputs.clone(), samples });
                self.pass_through(pass, inputs, Some(samples))
            }
            Keeping::Nothing => self.pass_through(pass, inputs, Some(samples)),
        }
    }

    /// Runs a micro-batch that has kept its inputs forward again, and keeps its history.
    pub(crate) fn recompute(&mut self, segment: SegmentId, micro_batch: u64) -> Result<(), RuntimeError> {
        let pass = (segment, micro_batch);
        let missing = RuntimeError::MicroBatch { micro_batch, problem: "it is run again before its forward pass" };
        let Kept { inputs, samples } = self.kept.remove(&pass).ok_or(missing)?;
        self.record(pass, inputs, samples, false).map(drop)
    }

    /// Runs a micro-batch forward and keeps its history.
    fn record(&mut self, pass: Pass, inputs: Tensors, samples: Samples, halves: bool) -> Result<Tensors, RuntimeError> {
        let segment = &self.segments[&pass.0];
        let leaves = segment.params.iter().map(|id| (*id, self.slots[id].weight.clone()));
        let mut live = Live { leaves: leaves.collect(), ..Live::default() };
        let mut values = self.take_inputs(segment, inputs, Some(&mut live))?;
        let products = RefCell::default();
        let manner = self.manner(Some(samples), halves.then_some(&products));
        let loss = self.run(segment, &mut values, manner, |slot| slot.weight.clone())?;
        if let Some(loss) = loss {
            self.losses.insert(pass.1, loss.value);
            live.loss = Some((loss.logits, loss.gradient));
        }
        let outputs: Vec<_> =
            segment.outputs.iter().filter_map(|id| values.output(*id).map(|value| (*id, value))).collect();
        let leaving = outputs.iter().map(|(id, value)| (*id, value.leave(&self.backend))).collect();
        live.outputs = outputs.into_iter().filter_map(|(id, value)| value.float().map(|matrix| (id, matrix))).collect();
        live.products = halves.then(|| products.into_inner());
        self.live.insert(pass, live);
        Ok(leaving)
    }

    /// Runs a micro-batch forward and keeps nothing: inference. Otherwise as [`SegmentRunner::forward`].
    ///
    /// # Errors
    /// [`RuntimeError::Value`] as [`SegmentRunner::forward`].
    pub fn infer(
        &mut self,
        micro_batch: u64,
        inputs: Vec<(ValueId, HostTensor)>,
    ) -> Result<Vec<(ValueId, HostTensor)>, RuntimeError> {
        self.infer_of(ONLY, micro_batch, inputs)
    }

    /// The same for one of several segments.
    pub(crate) fn infer_of(
        &mut self,
        segment: SegmentId,
        micro_batch: u64,
        inputs: Tensors,
    ) -> Result<Tensors, RuntimeError> {
        self.pass_through((segment, micro_batch), inputs, None)
    }

    /// Runs a micro-batch forward without a history; of a training pass when its samples are given.
    fn pass_through(&mut self, pass: Pass, inputs: Tensors, samples: Option<Samples>) -> Result<Tensors, RuntimeError> {
        let segment = &self.segments[&pass.0];
        let mut values = self.take_inputs(segment, inputs, None)?;
        let loss = self.run(segment, &mut values, self.manner(samples, None), |slot| slot.weight.plain())?;
        if let Some(loss) = loss {
            self.losses.insert(pass.1, loss.value);
        }
        let outputs = segment.outputs.iter();
        Ok(outputs.filter_map(|id| values.output(*id).map(|value| (*id, value.leave(&self.backend)))).collect())
    }

    fn manner<'a>(
        &'a self,
        samples: Option<Samples>,
        deferred: Option<&'a RefCell<Vec<DeferredProduct>>>,
    ) -> Manner<'a> {
        let loss_scale = self.loss_scale.unwrap_or(1.0);
        Manner { backend: &self.backend, loss_scale, samples, deferred, tables: Some(&self.tables) }
    }

    /// Runs all operators; the loss, if the segment computes it.
    fn run(
        &self,
        segment: &Segment,
        values: &mut Values,
        manner: Manner<'_>,
        weight: impl Fn(&Slot) -> Weight,
    ) -> Result<Option<ops::LossGradient>, RuntimeError> {
        let mut loss = None;
        for op in &segment.ops {
            let op = self.model.op(*op);
            let inputs = op.inputs.iter().map(|id| values.take(*id)).collect();
            let weights: Vec<Weight> = op.params.iter().map(|id| weight(&self.slots[id])).collect();
            let weights: Vec<&Weight> = weights.iter().collect();
            match ops::forward(&self.model, op, inputs, &weights, manner)? {
                Output::Value(value) => values.put(op.output, value),
                Output::Loss(gradient) => loss = Some(gradient),
            }
        }
        Ok(loss)
    }

    /// The inputs on the device: leaves of a history for a micro-batch that goes back, plain tensors otherwise.
    fn take_inputs(
        &self,
        segment: &Segment,
        inputs: Tensors,
        mut live: Option<&mut Live>,
    ) -> Result<Values, RuntimeError> {
        let mut values = Values::new(&self.model, segment);
        for (id, tensor) in inputs {
            self.check(id, &tensor)?;
            let from_segment = self.model.value(id).producer.is_some();
            let mut value = Value::enter(tensor, &self.backend);
            if let Some(live) = &mut live {
                value = value.recorded(from_segment);
                if let (true, Value::Float(matrix)) = (from_segment, &value) {
                    live.inputs.push((id, matrix.clone()));
                }
            }
            values.put(id, value);
        }
        match segment.inputs.iter().find(|id| !values.has(**id)) {
            None => Ok(values),
            Some(missing) => Err(self.refuse(*missing, "is read by the segment but was not given".to_owned())),
        }
    }

    fn refuse(&self, value: ValueId, problem: String) -> RuntimeError {
        RuntimeError::Value { value: self.model.value(value).name.clone(), problem }
    }

    /// Checks a tensor from outside against the graph, for any batch size.
    fn check(&self, id: ValueId, tensor: &HostTensor) -> Result<(), RuntimeError> {
        let ty = &self.model.value(id).ty;
        let dims = if ty.batched { tensor.shape.get(1..) } else { Some(&tensor.shape[..]) };
        let same = dims.is_some_and(|dims| dims.iter().map(|dim| *dim as u64).eq(ty.dims.iter().copied()));
        if same && ty.dtype.is_float() == tensor.is_float() {
            return Ok(());
        }
        Err(self.refuse(id, format!("expected {ty}, got the shape {:?}", tensor.shape)))
    }

    /// The loss of a micro-batch since the last update, when this segment computes it.
    pub fn loss(&self, micro_batch: u64) -> Option<f32> {
        self.losses.get(&micro_batch).map(Loss::number)
    }

    /// The loss of a micro-batch, without waiting for the device that computes it.
    pub(crate) fn loss_handle(&self, micro_batch: u64) -> Option<Loss> {
        self.losses.get(&micro_batch).cloned()
    }

    /// By what losses are multiplied in the passes to come, and gradients divided in the update.
    pub(crate) fn set_loss_scale(&mut self, loss_scale: Option<f32>) {
        self.loss_scale = loss_scale;
    }
}

fn slot(model: &ModelGraph, id: ParamId, initial: HostTensor, backend: &Backend) -> Result<Slot, RuntimeError> {
    let param = model.param(id);
    let shape: Vec<usize> = param.shape.iter().map(|dim| *dim as usize).collect();
    match initial.data {
        HostData::F32(data) if initial.shape == shape => Ok(Slot::new(shape, data, backend)),
        _ => {
            let problem = format!("expected f32 weights of the shape {shape:?}, got {:?}", initial.shape);
            Err(RuntimeError::Value { value: param.name.clone(), problem })
        }
    }
}
