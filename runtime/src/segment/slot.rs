//! A parameter on the device, with its gradient and its optimizer state.

use burn::tensor::TensorData;

use crate::backend::Backend;
use crate::ops::Weight;
use crate::optimizer::{OptimizerSettings, OptimizerState};

/// A parameter of a segment.
pub(crate) struct Slot {
    pub(crate) shape: Vec<usize>,
    pub(crate) weight: Weight,
    /// Sum over the micro-batches since the last update; `None` before the first.
    pub(crate) gradient: Option<Vec<f32>>,
    state: OptimizerState,
}

impl Slot {
    /// Puts the parameter on the device, as a leaf that micro-batches share.
    pub(crate) fn new(shape: Vec<usize>, data: Vec<f32>, backend: &Backend) -> Self {
        let weight = Weight::leaf(&shape, TensorData::new(data, shape.clone()), &backend.autodiff());
        Self { shape, weight, gradient: None, state: OptimizerState::default() }
    }

    /// Updates the parameter in place and uses its gradient up.
    pub(crate) fn update(&mut self, settings: &OptimizerSettings, step: u32, backend: &Backend) {
        let gradient = self.gradient.take();
        let mut data = self.weight.take().into_data();
        let weight: &mut [f32] = data.as_mut_slice().expect("weights are f32");
        self.state.update(settings, step, weight, gradient.as_deref());
        self.weight = Weight::leaf(&self.shape, data, &backend.autodiff());
    }
}

/// Adds a micro-batch's gradient to the sum so far.
pub(crate) fn accumulate(sum: &mut Option<Vec<f32>>, new: Vec<f32>) {
    match sum {
        None => *sum = Some(new),
        Some(sum) => sum.iter_mut().zip(&new).for_each(|(sum, new)| *sum += new),
    }
}
