//! One segment of one rank: its weights, the gradients accumulated for them, and the micro-batches in flight.

mod live;
mod slot;

use std::collections::BTreeMap;
use std::sync::Arc;

use burn::tensor::Gradients;
use cutplane_graph::{ModelGraph, ParamId, ValueId};
use cutplane_plan::Segment;

use crate::backend::Backend;
use crate::error::RuntimeError;
use crate::ops::{self, Matrix, Output, Value, Weight, floats};
use crate::optimizer::OptimizerSettings;
use crate::tensor::{HostData, HostTensor};
use live::Live;

pub(crate) use live::seed;
pub(crate) use slot::{Slot, accumulate};

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
    losses: BTreeMap<u64, f32>,
    steps: u32,
}

impl SegmentRunner {
    /// Puts the segment's weights on the device.
    ///
    /// # Errors
    /// [`RuntimeError::Value`] when `weights` gives a parameter another shape than the model.
    pub fn new(
        model: Arc<ModelGraph>,
        segment: Segment,
        backend: &Backend,
        weights: &dyn Fn(ParamId) -> HostTensor,
        optimizer: OptimizerSettings,
    ) -> Result<Self, RuntimeError> {
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
            steps: 0,
        })
    }

    /// Runs a micro-batch forward and keeps what its backward pass needs. `inputs` are the segment's inputs; returned are
    /// its outputs, without the loss, which [`SegmentRunner::loss`] tells.
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
        let mut values = self.take_inputs(inputs, &mut live)?;
        for op in &self.segment.ops {
            let op = self.model.op(*op);
            let inputs = op.inputs.iter().map(|id| values.take(*id)).collect();
            let weights: Vec<&Weight> = op.params.iter().map(|id| &self.slots[id].weight).collect();
            match ops::forward(&self.model, op, inputs, &weights)? {
                Output::Value(value) => values.put(op.output, value),
                Output::Loss(loss) => {
                    self.losses.insert(micro_batch, loss.value);
                    live.loss = Some((loss.logits, loss.gradient));
                }
            }
        }
        let outputs = self.segment.outputs.iter().filter_map(|id| values.output(*id).map(|matrix| (*id, matrix)));
        live.outputs = outputs.collect();
        let leaving = live.outputs.iter().map(|(id, matrix)| (*id, matrix.to_host())).collect();
        self.live.insert(micro_batch, live);
        Ok(leaving)
    }

    fn take_inputs(&self, inputs: Vec<(ValueId, HostTensor)>, live: &mut Live) -> Result<live::Values, RuntimeError> {
        let mut values = live::Values::new(&self.model, &self.segment);
        let device = self.backend.autodiff();
        for (id, tensor) in inputs {
            self.check(id, &tensor)?;
            let from_segment = self.model.value(id).producer.is_some();
            let value = Value::from_host(tensor, &device, from_segment);
            if let (true, Value::Float(matrix)) = (from_segment, &value) {
                live.inputs.push((id, matrix.clone()));
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
        if same && ty.dtype.is_float() == matches!(tensor.data, HostData::F32(_)) {
            return Ok(());
        }
        Err(self.refuse(id, format!("expected {ty}, got the shape {:?}", tensor.shape)))
    }

    /// The loss of a micro-batch since the last update, when this segment computes it.
    pub fn loss(&self, micro_batch: u64) -> Option<f32> {
        self.losses.get(&micro_batch).copied()
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
        let mut gradients = live.seed(gradients_of, loss_scale, &self.backend.device()).map(|seed| seed.backward());
        for slot in self.slots.values_mut() {
            if let Some(new) = gradients.as_mut().and_then(|gradients| slot.weight.take_gradient(gradients)) {
                accumulate(&mut slot.gradient, new);
            }
        }
        Ok(inputs.into_iter().map(|(id, input)| (id, input_gradient(&input, gradients.as_mut()))).collect())
    }

    /// Micro-batches run forward but not yet backward.
    pub fn in_flight(&self) -> usize {
        self.live.len()
    }

    /// Appends the gradients of `params` to `out`, flattened; zeros for a parameter that has none or is not held.
    pub fn read_gradients(&self, params: &[ParamId], out: &mut Vec<f32>) {
        for id in params {
            match self.slots.get(id).and_then(|slot| slot.gradient.as_ref()) {
                Some(gradient) => out.extend_from_slice(gradient),
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
            let Some(slot) = self.slots.get_mut(id) else { continue };
            match &mut slot.gradient {
                Some(gradient) => gradient.copy_from_slice(own),
                None => slot.gradient = Some(own.to_vec()),
            }
        }
    }

    /// The gradient of a parameter, if a backward pass has reached it since the last update.
    pub fn gradient(&self, param: ParamId) -> Option<HostTensor> {
        let slot = self.slots.get(&param)?;
        slot.gradient.as_ref().map(|gradient| HostTensor::f32(slot.shape.clone(), gradient.clone()))
    }

    /// The gradient of a parameter, to be exchanged in place; it begins as zero. `None` when the segment does not use the
    /// parameter.
    pub fn gradient_mut(&mut self, param: ParamId) -> Option<&mut [f32]> {
        let slot = self.slots.get_mut(&param)?;
        Some(slot.gradient.get_or_insert_with(|| vec![0.0; slot.shape.iter().product()]))
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
            slot.update(&self.settings, self.steps, &self.backend);
        }
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
fn input_gradient(input: &Matrix, gradients: Option<&mut Gradients>) -> HostTensor {
    let data = match gradients.and_then(|gradients| input.rows.grad_remove(gradients)) {
        Some(gradient) => floats(gradient),
        None => vec![0.0; input.shape.iter().product()],
    };
    HostTensor { shape: input.shape.clone(), data: HostData::F32(data) }
}
