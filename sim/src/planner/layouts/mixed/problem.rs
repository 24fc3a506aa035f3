//! What is to be spread over which classes of devices.

use cutplane_graph::ModelGraph;
use cutplane_plan::Optimizer;

use super::super::objective::Objective;
use super::super::pins::Pins;
use super::super::problem::LayoutProblem;
use crate::estimate::{AttentionKernel, FoldedModel, Layout, Precision, Stack};
use crate::footprint::Keeping;
use crate::kernel::GpuModel;
use crate::network::Fabric;

/// Most classes of a problem: the dynamic program counts devices of each.
pub const MOST_CLASSES: usize = 4;
/// Shares of the batch are multiples of the batch over its largest divisor up to this.
pub const MOST_SHARES: u64 = 64;
/// Most stages of a pipeline over classes.
pub const MOST_STAGES: u64 = 64;

/// Devices that are alike: of one model, in hosts that hold equally many of them.
#[derive(Clone, Debug)]
pub struct MixedClass<'a> {
    /// Its name: the device model, with the hosts' size where two classes have the same.
    pub name: String,
    /// The device.
    pub gpu: &'a GpuModel,
    /// What joins the devices of this class; its ranks are their number.
    pub fabric: &'a Fabric,
    /// With which software.
    pub stack: &'a Stack,
    /// Memory of a device, bytes.
    pub device_memory: u64,
    /// Dollars for one device and hour, where money matters.
    pub dollars_per_device_hour: Option<f64>,
}

impl MixedClass<'_> {
    /// How many devices.
    pub fn devices(&self) -> u64 {
        self.fabric.ranks() as u64
    }
}

/// What joins devices of different classes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Joint {
    /// What each device has of it in one direction when all use it, bytes/s.
    pub bandwidth: f64,
    /// Latency of a message, s.
    pub latency: f64,
}

/// A training step to spread over classes of devices.
#[derive(Clone, Debug)]
pub struct MixedProblem<'a> {
    /// What is trained: memory.
    pub graph: &'a ModelGraph,
    /// The same, folded: time.
    pub model: &'a FoldedModel,
    /// The classes; at most [`MOST_CLASSES`].
    pub classes: Vec<MixedClass<'a>>,
    /// What joins them.
    pub joint: Joint,
    /// With which software: memory.
    pub keeping: &'a Keeping,
    /// Samples of a step, over all replicas.
    pub global_batch: u64,
    /// Arithmetic; every class has it.
    pub precision: Precision,
    /// Attention kernel.
    pub attention: AttentionKernel,
    /// Update rule.
    pub optimizer: Optimizer,
    /// What is minimised.
    pub objective: Objective,
    /// Decisions that are fixed.
    pub pins: Pins,
}

impl<'a> MixedProblem<'a> {
    /// Layouts of one class alone, over `samples` samples a step.
    pub(super) fn class(&self, class: usize, samples: u64) -> LayoutProblem<'a> {
        let MixedClass { gpu, fabric, stack, device_memory, dollars_per_device_hour, .. } = self.classes[class];
        LayoutProblem {
            graph: self.graph,
            model: self.model,
            gpu,
            fabric,
            stack,
            keeping: self.keeping,
            device_memory,
            global_batch: samples,
            precision: self.precision,
            attention: self.attention,
            optimizer: self.optimizer,
            dollars_per_device_hour,
            objective: Objective::StepTime,
            pins: self.pins.clone(),
        }
    }

    /// Devices of a class that a search under `caps` may use.
    pub(super) fn devices(&self, class: usize, caps: &[u64]) -> u64 {
        self.classes[class].devices().min(caps[class])
    }

    /// Samples that shares of the batch are multiples of.
    pub fn share_step(&self) -> u64 {
        let divides = |parts: &u64| self.global_batch.is_multiple_of(*parts);
        self.global_batch / (1..=MOST_SHARES).rev().find(divides).unwrap_or(1)
    }

    /// Activation from a stage of one class to the next of another, and its gradient back alike, s: the joint carries what
    /// each rank of the stage sends.
    pub(super) fn crossing_seconds(&self, layout: &Layout) -> f64 {
        let elements = (layout.micro_batch * self.model.boundary_elements()) as f64;
        let bytes = elements * layout.precision.activation_bytes() as f64 / (layout.cp * layout.tp) as f64;
        bytes / self.joint.bandwidth + self.joint.latency
    }

    /// All-reduce of all gradients between classes whose devices are `devices`, s: a ring of the classes, over which each
    /// class sends with all of its devices at once.
    pub(super) fn exchange_seconds(&self, devices: &[u64]) -> f64 {
        let classes = devices.iter().filter(|devices| **devices > 0).count() as f64;
        let fewest = devices.iter().copied().filter(|devices| *devices > 0).min().unwrap_or(1) as f64;
        if classes < 2.0 {
            return 0.0;
        }
        let largest = self.classes.iter().map(|class| class.stack.gradient_bytes).fold(0.0, f64::max);
        let each = if self.precision.is_mixed() { largest } else { 4.0 };
        let bytes = self.graph.parameter_count() as f64 * each;
        2.0 * (classes - 1.0) * (bytes / classes / (fewest * self.joint.bandwidth) + self.joint.latency)
    }

    /// Fixed cost of a step, s.
    pub(super) fn overhead_seconds(&self) -> f64 {
        self.classes.iter().map(|class| class.stack.step_ms).fold(0.0, f64::max) * 1e-3
    }

    /// All-reduce of tied parameters between the first and the last stage, s.
    pub(super) fn tied_seconds(&self, layout: &Layout) -> f64 {
        if self.model.tied_parameters == 0 {
            return 0.0;
        }
        let bytes = self.model.tied_parameters as f64 * 4.0 / layout.tp as f64;
        bytes / self.joint.bandwidth + 2.0 * self.joint.latency
    }

    /// Dollars an hour of `devices` of each class; `None` where a price is missing.
    pub(super) fn dollars_per_hour(&self, devices: &[u64]) -> Option<f64> {
        let used = self.classes.iter().zip(devices).filter(|(_, devices)| **devices > 0);
        used.map(|(class, devices)| class.dollars_per_device_hour.map(|price| price * *devices as f64)).sum()
    }
}

/// Seconds as whole nanoseconds, rounded up.
pub(super) fn nanos(seconds: f64) -> u64 {
    (seconds * 1e9).ceil() as u64
}
