//! A parameter on the device, with its gradient and its optimizer state.

use std::ops::Range;

use burn::tensor::{Gradients, Tensor, TensorData};

use crate::backend::{Backend, Residence};
use crate::ops::Weight;
use crate::optimizer::{DeviceState, OptimizerSettings, OptimizerState};
use crate::tensor::{matrix_dims, numbers};

/// The gradient of a parameter, in f32. There is one a parameter: the larger variant is not boxed.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant)]
pub(crate) enum Gradient {
    /// On the host.
    Host(Vec<f32>),
    /// On the device, as a matrix.
    Device(Tensor<2>),
}

impl Gradient {
    /// Adds a micro-batch's gradient to the sum so far.
    pub(crate) fn accumulate(sum: &mut Option<Self>, new: Self) {
        *sum = Some(match (sum.take(), new) {
            (Some(Self::Host(mut sum)), Self::Host(new)) => {
                sum.iter_mut().zip(&new).for_each(|(sum, new)| *sum += new);
                Self::Host(sum)
            }
            (Some(Self::Device(sum)), Self::Device(new)) => Self::Device(sum + new),
            (_, new) => new,
        });
    }

    /// The numbers.
    pub(crate) fn into_host(self) -> Vec<f32> {
        match self {
            Self::Host(data) => data,
            Self::Device(rows) => numbers(rows),
        }
    }

    /// The numbers as a matrix on the device.
    fn into_device(self, dims: [usize; 2], backend: &Backend) -> Tensor<2> {
        match self {
            Self::Host(data) => Tensor::from_data(TensorData::new(data, dims), &backend.device()),
            Self::Device(rows) => rows,
        }
    }

    /// Appends the numbers to `out`.
    pub(crate) fn append_to(&self, out: &mut Vec<f32>) {
        match self {
            Self::Host(data) => out.extend_from_slice(data),
            Self::Device(rows) => out.extend(numbers(rows.clone())),
        }
    }
}

/// What an update rule keeps, where the gradients are.
#[expect(clippy::large_enum_variant)]
enum State {
    Host(OptimizerState),
    Device(DeviceState),
}

/// A parameter of a segment.
pub(crate) struct Slot {
    pub(crate) shape: Vec<usize>,
    pub(crate) weight: Weight,
    /// Sum over the micro-batches since the last update; `None` before the first.
    pub(crate) gradient: Option<Gradient>,
    /// The numbers that this rank updates, laid out flat; all when `None`. A gradient on the host may be of these alone.
    owned: Option<Range<usize>>,
    /// The owned numbers, while the others are not here.
    alone: Option<Vec<f32>>,
    trained: bool,
    state: State,
}

impl Slot {
    /// Puts the parameter on the device, as a leaf that micro-batches share.
    pub(crate) fn new(shape: Vec<usize>, data: Vec<f32>, backend: &Backend) -> Self {
        let weight = Weight::leaf(&shape, TensorData::new(data, shape.clone()), &backend.autodiff());
        let state = match backend.residence() {
            Residence::Host => State::Host(OptimizerState::default()),
            Residence::Device => State::Device(DeviceState::default()),
        };
        Self { shape, weight, gradient: None, owned: None, alone: None, trained: true, state }
    }

    /// Whether the optimizer keeps anything of the parameter.
    pub(crate) fn has_moments(&self) -> bool {
        match &self.state {
            State::Host(state) => state.moments().is_some(),
            State::Device(state) => state.moments().is_some(),
        }
    }

    /// The means of gradients and of squared gradients that the optimizer keeps.
    pub(crate) fn moments(&self) -> Option<(Vec<f32>, Vec<f32>)> {
        match &self.state {
            State::Host(state) => state.moments().map(|[mean, square]| (mean.to_vec(), square.to_vec())),
            State::Device(state) => {
                state.moments().map(|[mean, square]| (numbers(mean.clone()), numbers(square.clone())))
            }
        }
    }

    /// Replaces them by those of all numbers; kept are those of the numbers that this rank updates.
    pub(crate) fn set_moments(&mut self, mean: Vec<f32>, square: Vec<f32>, backend: &Backend) {
        if !self.trained {
            return;
        }
        let own = |all: Vec<f32>| self.owned.clone().map_or_else(|| all.clone(), |owned| all[owned].to_vec());
        self.state = match self.state {
            State::Host(_) => State::Host(OptimizerState::with_moments(own(mean), own(square))),
            State::Device(_) => {
                let dims = matrix_dims(&self.shape);
                let place = |data| Tensor::from_data(TensorData::new(data, dims), &backend.in_full().device());
                State::Device(DeviceState::with_moments(place(mean), place(square)))
            }
        };
    }

    /// Size of the parameter in f32, bytes.
    pub(crate) fn bytes(&self) -> i64 {
        self.shape.iter().product::<usize>() as i64 * 4
    }

    /// Adds what a backward pass has left of this parameter to its gradient; `leaf` is the weight that the pass went
    /// through, which may be older than the weight of now.
    pub(crate) fn gather(&mut self, leaf: &Weight, gradients: &mut Gradients) {
        if !self.trained {
            return;
        }
        let new = match self.state {
            State::Host(_) => leaf.take_host_gradient(gradients).map(Gradient::Host),
            State::Device(_) => leaf.take_gradient(gradients).map(Gradient::Device),
        };
        if let Some(new) = new {
            Gradient::accumulate(&mut self.gradient, new);
        }
    }

    /// Replaces the gradient by numbers of the host.
    pub(crate) fn set_gradient(&mut self, data: &[f32], backend: &Backend) {
        match (&self.state, &mut self.gradient) {
            (State::Host(_), Some(Gradient::Host(gradient))) => gradient.copy_from_slice(data),
            (State::Host(_), gradient) => *gradient = Some(Gradient::Host(data.to_vec())),
            (State::Device(_), gradient) => {
                let rows = Gradient::Host(data.to_vec()).into_device(matrix_dims(&self.shape), backend);
                *gradient = Some(Gradient::Device(rows));
            }
        }
    }

    /// Takes the gradient out as a matrix on the device; zeros where no backward pass has reached the parameter.
    pub(crate) fn take_device_gradient(&mut self, backend: &Backend) -> Tensor<2> {
        let dims = matrix_dims(&self.shape);
        match self.gradient.take() {
            None => Tensor::zeros(dims, &backend.device()),
            Some(gradient) => gradient.into_device(dims, backend),
        }
    }

    /// From now on this rank updates only these numbers.
    pub(crate) fn own(&mut self, numbers: Range<usize>) {
        self.owned = Some(numbers);
        self.state = State::Host(OptimizerState::default());
    }

    /// Leaves the parameter as it is from now on: no history is recorded for it.
    pub(crate) fn freeze(&mut self) {
        self.trained = false;
        self.weight = self.weight.fixed();
    }

    /// Whether updates reach the parameter.
    pub(crate) fn is_trained(&self) -> bool {
        self.trained
    }

    /// Which numbers this rank updates, laid out flat; all when `None`.
    pub(crate) fn owned(&self) -> Option<Range<usize>> {
        self.owned.clone()
    }

    /// The owned numbers.
    pub(crate) fn owned_numbers(&self) -> Vec<f32> {
        match (&self.alone, &self.owned) {
            (Some(alone), _) => alone.clone(),
            (None, Some(owned)) => numbers(self.weight.plain().into_rows())[owned.clone()].to_vec(),
            (None, None) => numbers(self.weight.plain().into_rows()),
        }
    }

    /// Replaces all numbers.
    pub(crate) fn set_weight(&mut self, data: Vec<f32>, backend: &Backend) {
        self.alone = None;
        self.weight = Weight::leaf(&self.shape, TensorData::new(data, self.shape.clone()), &backend.autodiff());
    }

    /// Forgets all numbers but the owned ones.
    pub(crate) fn release(&mut self) {
        if self.alone.is_none() {
            self.alone = Some(self.owned_numbers());
            drop(self.weight.take());
        }
    }

    /// Updates what this rank owns of the parameter in place and uses its gradient up, divided by `loss_scale`.
    pub(crate) fn update(
        &mut self,
        settings: &OptimizerSettings,
        step: u32,
        loss_scale: Option<f32>,
        backend: &Backend,
    ) {
        let gradient = self.gradient.take();
        if !self.trained {
            return;
        }
        if self.owned.is_some() {
            return self.update_owned(settings, step, loss_scale, gradient, backend);
        }
        match &mut self.state {
            State::Host(state) => {
                let gradient = gradient.map(Gradient::into_host);
                let mut data = self.weight.take().into_data();
                let weight: &mut [f32] = data.as_mut_slice().expect("weights are f32");
                state.update(settings, step, weight, gradient.as_deref());
                self.weight = Weight::leaf(&self.shape, data, &backend.autodiff());
            }
            State::Device(state) => {
                let gradient = gradient.map(|gradient| gradient.into_device(matrix_dims(&self.shape), backend));
                let gradient = gradient.map(|gradient| loss_scale.map_or(gradient.clone(), |scale| gradient / scale));
                let rows = state.update(settings, step, self.weight.take().into_rows(), gradient);
                self.weight = Weight::leaf_of_rows(&self.shape, rows);
            }
        }
    }

    /// Updates numbers that lie apart from the parameter by what the optimizer keeps of it.
    pub(crate) fn update_apart(
        &mut self,
        settings: &OptimizerSettings,
        step: u32,
        numbers: &mut [f32],
        gradient: &[f32],
    ) {
        if let State::Host(state) = &mut self.state {
            state.update(settings, step, numbers, Some(gradient));
        }
    }

    /// The owned numbers are updated on the host, wherever the parameter lives: they go to other ranks next.
    fn update_owned(
        &mut self,
        settings: &OptimizerSettings,
        step: u32,
        loss_scale: Option<f32>,
        gradient: Option<Gradient>,
        backend: &Backend,
    ) {
        let owned = self.owned.clone().unwrap_or_default();
        let whole = self.alone.is_none().then(|| numbers(self.weight.take().into_rows()));
        let mut own =
            whole.as_ref().map_or_else(|| self.alone.take().unwrap_or_default(), |all| all[owned.clone()].to_vec());
        let gradient = gradient.map(Gradient::into_host).map(|mut gradient| {
            if gradient.len() > owned.len() {
                gradient = gradient[owned.clone()].to_vec();
            }
            for x in &mut gradient {
                *x /= loss_scale.unwrap_or(1.0);
            }
            gradient
        });
        if let State::Host(state) = &mut self.state {
            state.update(settings, step, &mut own, gradient.as_deref());
        }
        match whole {
            Some(mut all) => {
                all[owned].copy_from_slice(&own);
                self.set_weight(all, backend);
            }
            None => self.alone = Some(own),
        }
    }
}
