//! One replica's step on one device.

use super::charge::{Charge, OperatorCharge};
use super::numerics::Numerics;
use super::stack::{GraphStack, Speeds};
use crate::kernel::{GpuModel, Kernel, Precision};

/// Parameters whose gradient is whole at a moment of the backward pass.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GradientReady {
    /// When, s after the start of the step.
    pub at: f64,
    /// Elements.
    pub elements: u64,
    /// Tensors.
    pub tensors: u64,
}

/// The moments of one replica's step, s after its start, before any exchange.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Replica {
    /// End of the forward passes, and with one micro-batch of the loss.
    pub forward_end: f64,
    /// End of the backward pass.
    pub backward_end: f64,
    /// Update of the parameters, of all replicas alike.
    pub update: f64,
    /// Gradients in the order in which they are whole.
    pub gradients: Vec<GradientReady>,
    /// Host time of a step that the device does not hide.
    pub fixed: f64,
}

/// Device and host while a queue of kernels is filled and drained.
#[derive(Clone, Copy, Debug, Default)]
struct Queue {
    host: f64,
    device: f64,
}

impl Queue {
    /// The host launches, then the device runs, each after what it did before.
    fn run(&mut self, charge: Charge, speeds: Speeds) {
        self.host += charge.launches * speeds.launch;
        self.device = self.device.max(self.host) + speeds.device(charge);
    }

    fn run_all(&mut self, charges: impl Iterator<Item = Charge>, speeds: Speeds) {
        for charge in charges {
            self.run(charge, speeds);
        }
    }
}

impl Replica {
    /// Runs `micro_batches` times the charges of a graph forward and backward, with the gradients whole in the last pass.
    pub fn of(
        charges: &[OperatorCharge],
        micro_batches: u64,
        numerics: Numerics,
        gpu: &GpuModel,
        stack: &GraphStack,
        speeds: Speeds,
    ) -> Self {
        let mut queue = Queue::default();
        let before = micro_batches.saturating_sub(1) as f64;
        queue.run_all(charges.iter().map(|op| op.forward), speeds);
        queue.run_all(charges.iter().rev().map(|op| op.backward), speeds);
        // Micro-batches before the last take as long as each other.
        let earlier = queue.device * before;
        let mut queue = Queue { host: earlier, device: earlier };
        queue.run_all(charges.iter().map(|op| op.forward), speeds);
        let forward_end = queue.device;
        let mut gradients = Vec::new();
        for op in charges.iter().rev() {
            queue.run(op.backward, speeds);
            if op.parameters > 0 {
                gradients.push(GradientReady { at: queue.device, elements: op.parameters, tensors: op.tensors });
            }
        }
        let update = update(&gradients, numerics, gpu, stack, speeds);
        Self { forward_end, backward_end: queue.device, update, gradients, fixed: stack.step_ms * 1e-3 }
    }

    /// The whole step of a lone replica, s.
    pub fn seconds(&self) -> f64 {
        self.backward_end + self.update + self.fixed
    }

    /// Elements of all parameters.
    pub fn parameters(&self) -> u64 {
        self.gradients.iter().map(|ready| ready.elements).sum()
    }
}

/// Reading gradients and states, writing states and parameters; with mixed precision also a cast of each parameter for the
/// next step and of each gradient from this one.
fn update(gradients: &[GradientReady], numerics: Numerics, gpu: &GpuModel, stack: &GraphStack, speeds: Speeds) -> f64 {
    let elements: u64 = gradients.iter().map(|ready| ready.elements).sum();
    let tensors: u64 = gradients.iter().map(|ready| ready.tensors).sum();
    let casts = if numerics.casts_weights { CAST_BYTES } else { 0 };
    let bytes = elements.saturating_mul(numerics.update_bytes + casts);
    let kernel = Kernel::pointwise(bytes / 5 * 3, bytes / 5 * 2);
    let launches = if stack.multi_tensor_update { MULTI_TENSOR_KERNELS } else { tensors as f64 };
    (gpu.seconds(&kernel, Precision::F32) / speeds.passes).max(launches * speeds.launch)
}

/// Bytes a parameter to cast it to 16 bits and its gradient from 16 bits: 4 + 2 and 2 + 4.
const CAST_BYTES: u64 = 12;
/// Kernels of an update that takes many tensors at once.
const MULTI_TENSOR_KERNELS: f64 = 8.0;
