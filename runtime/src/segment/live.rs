//! A micro-batch between its forward and its backward pass, and the values inside a forward pass.

use std::collections::HashMap;

use burn::tensor::Tensor;
use cutplane_graph::{ModelGraph, ParamId, ValueId};
use cutplane_plan::Segment;

use super::DeferredProduct;
use crate::backend::{Backend, Residence};
use crate::ops::{Matrix, Value, Weight};
use crate::tensor::HostTensor;

/// What is kept of a micro-batch until its backward pass; Burn keeps the rest in the history of these tensors.
#[derive(Default)]
pub(crate) struct Live {
    /// Float inputs from other segments: leaves.
    pub(crate) inputs: Vec<(ValueId, Matrix)>,
    /// Outputs that leave the segment.
    pub(crate) outputs: Vec<(ValueId, Matrix)>,
    /// The weights that it went through.
    pub(crate) leaves: Vec<(ParamId, Weight)>,
    /// Products whose weight gradients come later, of a pass that goes back in two halves.
    pub(crate) products: Option<Vec<DeferredProduct>>,
    /// Logits, and the gradient of the loss with respect to them.
    pub(crate) loss: Option<(Tensor<2>, Tensor<2>)>,
}

impl Live {
    pub(crate) fn take_output(&mut self, id: ValueId) -> Option<Tensor<2>> {
        let index = self.outputs.iter().position(|(output, _)| *output == id)?;
        Some(self.outputs.swap_remove(index).1.rows)
    }

    /// One number whose gradient is the segment's vector-Jacobian product: the sum of all outputs times their upstream
    /// gradients. `None` when nothing flows back.
    pub(crate) fn seed(
        self,
        upstream: Vec<(Tensor<2>, HostTensor)>,
        share: f32,
        backend: &Backend,
    ) -> Option<Tensor<1>> {
        let loss = self.loss.map(|(logits, gradient)| seed_loss(logits, gradient, share, backend));
        let outputs = upstream.into_iter().map(|(output, gradient)| {
            let gradient = gradient.data.on_device(output.dims(), backend);
            seed(output, gradient)
        });
        outputs.chain(loss).reduce(|left, right| left + right)
    }
}

/// One number whose gradient with respect to `output` is `upstream`.
pub(crate) fn seed(output: Tensor<2>, upstream: Tensor<2>) -> Tensor<1> {
    (output * upstream).sum()
}

/// The same for the logits of a loss, of which the micro-batch has this share. In 16 bits the share, which need not be a
/// power of two, is multiplied in before rounding.
fn seed_loss(logits: Tensor<2>, gradient: Tensor<2>, share: f32, backend: &Backend) -> Tensor<1> {
    match backend.residence() {
        Residence::Host => seed(logits, gradient) * share,
        Residence::Device => {
            let gradient = backend.full(gradient) * share;
            let like = logits.dtype();
            seed(logits, gradient.cast(like))
        }
    }
}

/// The values of one forward pass. A value is handed out with its last reference when its last reader takes it.
pub(crate) struct Values {
    values: HashMap<ValueId, Value>,
    readers: HashMap<ValueId, usize>,
}

impl Values {
    pub(crate) fn new(model: &ModelGraph, segment: &Segment) -> Self {
        let mut readers: HashMap<ValueId, usize> = HashMap::new();
        let read = segment.ops.iter().flat_map(|op| &model.op(*op).inputs);
        for id in read.chain(&segment.outputs) {
            *readers.entry(*id).or_default() += 1;
        }
        Self { values: HashMap::with_capacity(readers.len()), readers }
    }

    pub(crate) fn has(&self, id: ValueId) -> bool {
        self.values.contains_key(&id)
    }

    pub(crate) fn put(&mut self, id: ValueId, value: Value) {
        self.values.insert(id, value);
    }

    /// The value, for one of its readers.
    pub(crate) fn take(&mut self, id: ValueId) -> Value {
        let left = self.readers.get_mut(&id).expect("counted from the same segment");
        *left -= 1;
        let value = if *left == 0 { self.values.remove(&id) } else { self.values.get(&id).cloned() };
        value.expect("operators stand in topological order")
    }

    /// An output; `None` for the loss, which is no value.
    pub(crate) fn output(&mut self, id: ValueId) -> Option<Value> {
        self.values.remove(&id)
    }
}
