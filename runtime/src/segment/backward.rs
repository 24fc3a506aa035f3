//! The backward passes of a runner.

use burn::tensor::Gradients;
use cutplane_graph::ValueId;
use cutplane_plan::SegmentId;

use super::deferred::Products;
use super::{ONLY, SegmentRunner, Tensors};
use crate::backend::{Backend, Residence};
use crate::error::RuntimeError;
use crate::ops::{Matrix, floats};
use crate::tensor::{HostData, HostTensor};

impl SegmentRunner {
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
        self.backward_of(ONLY, micro_batch, upstream, loss_scale)
    }

    /// The same for one of several segments. Of a pass that was run with [`Keeping::Halves`], the gradients of weights in
    /// products of matrices wait for [`SegmentRunner::backward_weights`].
    pub(crate) fn backward_of(
        &mut self,
        segment: SegmentId,
        micro_batch: u64,
        upstream: Tensors,
        loss_scale: f32,
    ) -> Result<Tensors, RuntimeError> {
        let missing = RuntimeError::MicroBatch { micro_batch, problem: "it is run backward before its forward pass" };
        let mut live = self.live.remove(&(segment, micro_batch)).ok_or(missing)?;
        let mut gradients_of = Vec::with_capacity(upstream.len());
        for (id, tensor) in upstream {
            self.check(id, &tensor)?;
            let Some(output) = live.take_output(id) else {
                return Err(self.refuse(id, "is no output of the segment, so it has no gradient".to_owned()));
            };
            gradients_of.push((output, tensor));
        }
        let (inputs, leaves) = (std::mem::take(&mut live.inputs), std::mem::take(&mut live.leaves));
        let products = std::mem::take(&mut live.products);
        let mut gradients = live.seed(gradients_of, loss_scale, &self.backend).map(|seed| seed.backward());
        if let Some(gradients) = &mut gradients {
            for (id, leaf) in leaves {
                if let Some(slot) = self.slots.get_mut(&id) {
                    slot.gather(&leaf, gradients);
                }
            }
        }
        if let Some(products) = products {
            let reached = gradients.as_mut().map(|gradients| Products::reached(products, gradients));
            self.products.insert((segment, micro_batch), reached.unwrap_or_default());
        }
        let gradient = |(id, input): (ValueId, Matrix)| (id, input_gradient(&input, gradients.as_mut(), &self.backend));
        Ok(inputs.into_iter().map(gradient).collect())
    }

    /// Adds the gradients of weights that the backward pass of a micro-batch has left for later.
    ///
    /// # Errors
    /// [`RuntimeError::MicroBatch`] when there is no such pass.
    pub(crate) fn backward_weights(&mut self, segment: SegmentId, micro_batch: u64) -> Result<(), RuntimeError> {
        let problem = "its weights are asked for gradients before its backward pass";
        let missing = RuntimeError::MicroBatch { micro_batch, problem };
        let products = self.products.remove(&(segment, micro_batch)).ok_or(missing)?;
        products.add_to(&mut self.slots, &self.backend);
        Ok(())
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
