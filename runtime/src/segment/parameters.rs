//! The parameters of a runner: their gradients, their updates, and their ways to other ranks.

use std::collections::BTreeMap;
use std::ops::Range;

use cutplane_graph::{ParamId, ValueId};

use super::{Gradient, SegmentRunner};
use crate::backend::Residence;
use crate::ops::{Loss, TablePart};
use crate::tensor::HostTensor;

impl SegmentRunner {
    /// Micro-batches run forward but not yet backward.
    pub fn in_flight(&self) -> usize {
        self.live.len() + self.kept.len()
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

    /// Takes the gradients of `params`, laid out as [`SegmentRunner::read_gradients`] gives them.
    pub(crate) fn take_gradients(&mut self, params: &[ParamId]) -> Vec<f32> {
        let mut all = Vec::new();
        self.read_gradients(params, &mut all);
        for id in params {
            if let Some(slot) = self.slots.get_mut(id) {
                slot.gradient = None;
            }
        }
        all
    }

    /// Updates `numbers`, those of `params` end to end, which lie apart from what this rank computes with, by what the
    /// optimizer keeps here. `step` counts updates from one.
    pub(crate) fn update_apart(&mut self, params: &[ParamId], step: u32, numbers: &mut [f32], gradients: &[f32]) {
        let mut first = 0;
        for id in params {
            let end = first + self.model.param(*id).elements() as usize;
            if let Some(slot) = self.slots.get_mut(id) {
                slot.update_apart(&self.settings, step, &mut numbers[first..end], &gradients[first..end]);
            }
            first = end;
        }
    }

    /// The step is over, after `updates` of some parameters that were made apart.
    pub(crate) fn end_updates(&mut self, updates: u32) {
        self.steps = self.steps.max(updates);
        self.forget_passes();
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
        let mut gradients = gradients.into_iter();
        for id in params {
            let Some(slot) = self.slots.get_mut(id) else { continue };
            let Some(gradient) = gradients.next() else { return };
            let dims = gradient.matrix_dims();
            slot.gradient = Some(Gradient::Device(gradient.data.on_device(dims, &self.backend.in_full())));
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

    /// The gradient of a parameter, if a backward pass has reached it since the last update; flat, when it is that of the
    /// numbers alone which the rank owns.
    pub fn gradient(&self, param: ParamId) -> Option<HostTensor> {
        let slot = self.slots.get(&param)?;
        let mut data = slot.gradient.clone()?.into_host();
        if let Some(scale) = self.loss_scale {
            for x in &mut data {
                *x /= scale;
            }
        }
        let shape =
            if slot.shape.iter().product::<usize>() == data.len() { slot.shape.clone() } else { vec![data.len()] };
        Some(HostTensor::f32(shape, data))
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

    /// The parameters that are used, in the model's order.
    pub fn params(&self) -> &[ParamId] {
        &self.params
    }

    /// Updates every parameter from its gradient and forgets gradients and losses. A parameter without a gradient is
    /// updated as with a gradient of zero, so that ranks which share it stay equal.
    pub fn optimizer_step(&mut self) {
        self.steps += 1;
        self.forget_passes();
        for slot in self.slots.values_mut() {
            slot.update(&self.settings, self.steps, self.loss_scale, &self.backend);
        }
    }

    /// Forgets gradients and losses and updates nothing: what a step with an overflow ends with.
    pub(crate) fn skip_step(&mut self) {
        self.forget_passes();
        self.slots.values_mut().for_each(|slot| slot.gradient = None);
    }

    /// Forgets what is over with an update; passes may still be in flight.
    fn forget_passes(&mut self) {
        self.losses.clear();
        self.samples.clear();
    }

    /// Tells of which tables the rank holds a part.
    pub(crate) fn set_tables(&mut self, tables: BTreeMap<ValueId, TablePart>) {
        self.tables = tables;
    }

    /// Leaves parameters as they are.
    pub(crate) fn freeze(&mut self, params: &[ParamId]) {
        for id in params {
            if let Some(slot) = self.slots.get_mut(id) {
                slot.freeze();
            }
        }
    }

    /// From now on the rank updates only these numbers of a parameter, laid out flat.
    pub(crate) fn own(&mut self, param: ParamId, numbers: Range<usize>) {
        if let Some(slot) = self.slots.get_mut(&param) {
            slot.own(numbers);
        }
    }

    /// Replaces the gradient of a parameter by that of the numbers which the rank owns.
    pub(crate) fn set_owned_gradient(&mut self, param: ParamId, data: &[f32]) {
        if let Some(slot) = self.slots.get_mut(&param) {
            slot.gradient = Some(Gradient::Host(data.to_vec()));
        }
    }

    /// Appends the numbers of a parameter that the rank owns to `out`.
    pub(crate) fn read_owned(&self, param: ParamId, out: &mut Vec<f32>) {
        if let Some(slot) = self.slots.get(&param) {
            out.extend(slot.owned_numbers());
        }
    }

    /// Replaces a parameter.
    pub(crate) fn set_parameter(&mut self, param: ParamId, data: Vec<f32>) {
        if let Some(slot) = self.slots.get_mut(&param) {
            slot.set_weight(data, &self.backend);
        }
    }

    /// Keeps only the numbers of a parameter that the rank owns.
    pub(crate) fn release(&mut self, param: ParamId) {
        if let Some(slot) = self.slots.get_mut(&param) {
            slot.release();
        }
    }
}
