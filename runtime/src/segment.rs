//! One segment of one rank: its weights, the gradients accumulated for them, and the micro-batches in flight.

mod live;
mod slot;
mod state;

use std::collections::BTreeMap;
use std::sync::Arc;

use burn::tensor::Gradients;
use cutplane_graph::{ModelGraph, ParamId, ValueId};
use cutplane_plan::Segment;

use crate::backend::{Backend, Residence};
use crate::error::RuntimeError;
use crate::ops::{self, Loss, Manner, Matrix, Output, Samples, Value, Weight, floats};
use crate::optimizer::OptimizerSettings;
use crate::tensor::{HostData, HostTensor};
use live::{Live, Values};

pub(crate) use live::seed;
pub(crate) use slot::{Gradient, Slot};

/// Runs one segment on one device.
///
/// The life of a micro-batch: [`SegmentRunner::forward`] records it, [`SegmentRunner::backward`] consumes the record and
/// adds to the parameter gradients. Any number of micro-batches may be in flight; they share the weights. After the last
/// one, gradients are exchanged with other ranks ([`SegmentRunner::read_gradients`], [`SegmentRunner::write_gradients`])
/// and [`SegmentRunner::optimizer_step`] uses them up.
pub struct SegmentRunner {
    model: Arc<ModelGraph>,
    segment: Segment,
    backend: Backend,
    settings: OptimizerSettings,
    slots: BTreeMap<ParamId, Slot>,
    live: BTreeMap<u64, Live>,
    losses: BTreeMap<u64, Loss>,
    /// Which samples a micro-batch to come holds.
    samples: BTreeMap<u64, Samples>,
    loss_scale: Option<f32>,
    steps: u32,
}

impl SegmentRunner {
    /// Puts the segment's weights on the device.
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
        for op in &segment.ops {
            ops::check(model.op(*op))?;
        }
        let mut slots = BTreeMap::new();
        for id in &segment.params {
            slots.insert(*id, slot(&model, *id, weights(*id), backend)?);
        }
        Ok(Self {
            model,
            segment,
            backend: backend.clone(),
            settings: optimizer,
            slots,
            live: BTreeMap::new(),
            losses: BTreeMap::new(),
            samples: BTreeMap::new(),
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
        if self.live.contains_key(&micro_batch) {
            return Err(RuntimeError::MicroBatch { micro_batch, problem: "it is run forward a second time" });
        }
        let mut live = Live::default();
        let mut values = self.take_inputs(inputs, Some(&mut live))?;
        let samples = self.samples.remove(&micro_batch).unwrap_or_default();
        let loss = self.run(&mut values, Some(samples), |slot| slot.weight.clone())?;
        if let Some(loss) = loss {
            self.losses.insert(micro_batch, loss.value);
            live.loss = Some((loss.logits, loss.gradient));
        }
        let outputs: Vec<_> =
            self.segment.outputs.iter().filter_map(|id| values.output(*id).map(|value| (*id, value))).collect();
        let leaving = outputs.iter().map(|(id, value)| (*id, value.leave(&self.backend))).collect();
        live.outputs = outputs.into_iter().filter_map(|(id, value)| value.float().map(|matrix| (id, matrix))).collect();
        self.live.insert(micro_batch, live);
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
        let mut values = self.take_inputs(inputs, None)?;
        if let Some(loss) = self.run(&mut values, None, |slot| slot.weight.plain())? {
            self.losses.insert(micro_batch, loss.value);
        }
        let outputs = self.segment.outputs.iter();
        Ok(outputs.filter_map(|id| values.output(*id).map(|value| (*id, value.leave(&self.backend)))).collect())
    }

    /// Runs all operators; the loss, if the segment computes it.
    fn run(
        &self,
        values: &mut Values,
        samples: Option<Samples>,
        weight: impl Fn(&Slot) -> Weight,
    ) -> Result<Option<ops::LossGradient>, RuntimeError> {
        let manner = Manner { backend: &self.backend, loss_scale: self.loss_scale.unwrap_or(1.0), samples };
        let mut loss = None;
        for op in &self.segment.ops {
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
        inputs: Vec<(ValueId, HostTensor)>,
        mut live: Option<&mut Live>,
    ) -> Result<Values, RuntimeError> {
        let mut values = Values::new(&self.model, &self.segment);
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
        match self.segment.inputs.iter().find(|id| !values.has(**id)) {
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

    /// Runs a micro-batch backward: one vector-Jacobian product of the segment's outputs with `upstream`, plus the loss
    /// times `loss_scale`. Parameter gradients are added up inside; returned are the gradients of the float inputs that
    /// come from other segments. An output without an upstream gradient counts as zero.
    ///
    /// # Errors
    /// [`RuntimeError::MicroBatch`] when the micro-batch was not run forward, [`RuntimeError::Value`] for an upstream
    /// gradient of the wrong shape or of a value that is no output.
    pub fn backward(
        &mut self,
        micro_batch: u64,
        upstream: Vec<(ValueId, HostTensor)>,
        loss_scale: f32,
    ) -> Result<Vec<(ValueId, HostTensor)>, RuntimeError> {
        let missing = RuntimeError::MicroBatch { micro_batch, problem: "it is run backward before its forward pass" };
        let mut live = self.live.remove(&micro_batch).ok_or(missing)?;
        let mut gradients_of = Vec::with_capacity(upstream.len());
        for (id, tensor) in upstream {
            self.check(id, &tensor)?;
            let Some(output) = live.take_output(id) else {
                return Err(self.refuse(id, "is no output of the segment, so it has no gradient".to_owned()));
            };
            gradients_of.push((output, tensor));
        }
        let inputs = std::mem::take(&mut live.inputs);
        let mut gradients = live.seed(gradients_of, loss_scale, &self.backend).map(|seed| seed.backward());
        if let Some(gradients) = &mut gradients {
            self.slots.values_mut().for_each(|slot| slot.gather(gradients));
        }
        let gradient = |(id, input): (ValueId, Matrix)| (id, input_gradient(&input, gradients.as_mut(), &self.backend));
        Ok(inputs.into_iter().map(gradient).collect())
    }

    /// Micro-batches run forward but not yet backward.
    pub fn in_flight(&self) -> usize {
        self.live.len()
    }

    /// Appends the gradients of `params` to `out`, flattened; zeros for a parameter that has none or is not held.
    pub fn read_gradients(&self, params: &[ParamId], out: &mut Vec<f32>) {
        for id in params {
            match self.slots.get(id).and_then(|slot| slot.gradient.as_ref()) {
                Some(gradient) => gradient.append_to(out),
                None => out.resize(out.len() + self.model.param(*id).elements() as usize, 0.0),
            }
        }
    }

    /// Replaces the gradients of `params` by `data`, laid out as [`SegmentRunner::read_gradients`] gives it.
    ///
    /// # Panics
    /// When `data` is shorter than the parameters.
    pub fn write_gradients(&mut self, params: &[ParamId], data: &[f32]) {
        let mut rest = data;
        for id in params {
            let (own, others) = rest.split_at(self.model.param(*id).elements() as usize);
            rest = others;
            if let Some(slot) = self.slots.get_mut(id) {
                slot.set_gradient(own, &self.backend);
            }
        }
    }

    /// Takes the gradients of those of `params` that the segment uses, as handles to numbers on the device.
    pub(crate) fn take_device_gradients(&mut self, params: &[ParamId]) -> Vec<HostTensor> {
        let (slots, backend) = (&mut self.slots, &self.backend);
        let take = |id: &ParamId| {
            let slot = slots.get_mut(id)?;
            let gradient = slot.take_device_gradient(backend);
            Some(HostTensor::on_device(slot.shape.clone(), gradient))
        };
        params.iter().filter_map(take).collect()
    }

    /// Puts back what [`SegmentRunner::take_device_gradients`] took, summed.
    pub(crate) fn put_device_gradients(&mut self, params: &[ParamId], gradients: Vec<HostTensor>) {
        let held = params.iter().filter(|id| self.segment.params.contains(id));
        for (id, gradient) in held.zip(gradients) {
            let dims = gradient.matrix_dims();
            let rows = gradient.data.on_device(dims, &self.backend.in_full());
            if let Some(slot) = self.slots.get_mut(id) {
                slot.gradient = Some(Gradient::Device(rows));
            }
        }
    }

    /// Whether every gradient is a finite number.
    pub(crate) fn gradients_are_finite(&self) -> bool {
        let gradients = self.slots.values().filter_map(|slot| slot.gradient.as_ref());
        let device = gradients.filter_map(|gradient| match gradient {
            Gradient::Host(_) => None,
            Gradient::Device(rows) => Some(rows.clone().abs().sum()),
        });
        // An infinity or NaN among the numbers shows in their sum.
        device.reduce(|left, right| left + right).is_none_or(|sum| Loss::Device(sum).number().is_finite())
    }

    /// The gradient of a parameter, if a backward pass has reached it since the last update.
    pub fn gradient(&self, param: ParamId) -> Option<HostTensor> {
        let slot = self.slots.get(&param)?;
        let mut data = slot.gradient.clone()?.into_host();
        if let Some(scale) = self.loss_scale {
            for x in &mut data {
                *x /= scale;
            }
        }
        Some(HostTensor::f32(slot.shape.clone(), data))
    }

    /// The gradient of a parameter, to be exchanged in place; it begins as zero. `None` when the segment does not use the
    /// parameter, or keeps its gradient on the device.
    pub fn gradient_mut(&mut self, param: ParamId) -> Option<&mut [f32]> {
        let slot = self.slots.get_mut(&param)?;
        if self.backend.residence() == Residence::Device {
            return None;
        }
        let zeros = || Gradient::Host(vec![0.0; slot.shape.iter().product()]);
        match slot.gradient.get_or_insert_with(zeros) {
            Gradient::Host(data) => Some(data),
            Gradient::Device(_) => None,
        }
    }

    /// The value of a parameter.
    ///
    /// # Panics
    /// When the segment does not use the parameter.
    pub fn parameter(&self, param: ParamId) -> HostTensor {
        let slot = &self.slots[&param];
        let data = slot.weight.clone().into_data().try_into_vec().expect("weights are f32");
        HostTensor::f32(slot.shape.clone(), data)
    }

    /// The parameters of the segment, in the model's order.
    pub fn params(&self) -> &[ParamId] {
        &self.segment.params
    }

    /// Updates every parameter from its gradient and forgets gradients and losses. A parameter without a gradient is
    /// updated as with a gradient of zero, so that ranks which share it stay equal.
    pub fn optimizer_step(&mut self) {
        self.steps += 1;
        self.losses.clear();
        for slot in self.slots.values_mut() {
            slot.update(&self.settings, self.steps, self.loss_scale, &self.backend);
        }
    }

    /// Forgets gradients and losses and updates nothing: what a step with an overflow ends with.
    pub(crate) fn skip_step(&mut self) {
        self.losses.clear();
        self.slots.values_mut().for_each(|slot| slot.gradient = None);
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

/// The gradient of a leaf; zero when no output depends on it.
fn input_gradient(input: &Matrix, gradients: Option<&mut Gradients>, backend: &Backend) -> HostTensor {
    let gradient = gradients.and_then(|gradients| input.rows.grad_remove(gradients));
    let shape = input.shape.clone();
    match (backend.residence(), gradient) {
        (Residence::Host, Some(gradient)) => HostTensor { shape, data: HostData::F32(floats(gradient)) },
        (Residence::Host, None) => HostTensor { data: HostData::F32(vec![0.0; shape.iter().product()]), shape },
        (Residence::Device, Some(gradient)) => HostTensor::on_device(shape, gradient),
        (Residence::Device, None) => HostTensor::on_device(shape, input.rows.clone().inner().zeros_like()),
    }
}
