//! What is to be spread over which devices, and how long the search may take.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cutplane_graph::ModelGraph;
use cutplane_plan::Optimizer;

use super::objective::Objective;
use super::pins::Pins;
use crate::estimate::{AttentionKernel, FoldedModel, Layout, Precision, Stack};
use crate::footprint::Keeping;
use crate::kernel::GpuModel;
use crate::network::Fabric;

/// A training step to lay out over the devices of a fabric, all alike.
#[derive(Clone, Debug)]
pub struct LayoutProblem<'a> {
    /// What is trained: memory.
    pub graph: &'a ModelGraph,
    /// The same, folded: time.
    pub model: &'a FoldedModel,
    /// On which device.
    pub gpu: &'a GpuModel,
    /// Joined by what; its ranks are the devices that may be used.
    pub fabric: &'a Fabric,
    /// With which software: time.
    pub stack: &'a Stack,
    /// With which software: memory.
    pub keeping: &'a Keeping,
    /// Memory of a device, bytes.
    pub device_memory: u64,
    /// Samples of a step, over all replicas.
    pub global_batch: u64,
    /// Arithmetic.
    pub precision: Precision,
    /// Attention kernel.
    pub attention: AttentionKernel,
    /// Update rule.
    pub optimizer: Optimizer,
    /// Dollars for one device and hour, where money matters.
    pub dollars_per_device_hour: Option<f64>,
    /// What is minimised.
    pub objective: Objective,
    /// Decisions that are fixed.
    pub pins: Pins,
}

impl LayoutProblem<'_> {
    /// A layout with everything that the problem fixes, on one device.
    pub(super) fn blank(&self) -> Layout {
        Layout {
            global_batch: self.global_batch,
            precision: self.precision,
            attention: self.attention,
            optimizer: self.optimizer,
            ..Layout::default()
        }
    }

    /// Devices that may be used.
    pub fn devices(&self) -> u64 {
        self.fabric.ranks() as u64
    }
}

/// How far a search has come.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayoutProgress {
    /// Layouts priced by the estimator so far.
    pub priced: u64,
    /// Objective of the best layout so far.
    pub objective: Option<f64>,
    /// No layout is better than this.
    pub bound: f64,
}

/// Limits of a search.
#[derive(Clone, Copy)]
pub struct LayoutBudget<'a> {
    /// Wall time.
    pub time_limit: Duration,
    /// The search may end when `(objective - bound) / objective` is at most this.
    pub relative_gap: f64,
    /// How many of the best layouts are wanted; at least 1.
    pub top_k: usize,
    /// Called now and then.
    pub progress: Option<&'a (dyn Fn(&LayoutProgress) + Sync)>,
    /// Ends the search, with the best layout so far, when it becomes true.
    pub interrupt: Option<&'a AtomicBool>,
}

impl Default for LayoutBudget<'_> {
    fn default() -> Self {
        Self { time_limit: Duration::from_mins(1), relative_gap: 0.0, top_k: 5, progress: None, interrupt: None }
    }
}

impl std::fmt::Debug for LayoutBudget<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { time_limit, relative_gap, top_k, .. } = self;
        write!(f, "LayoutBudget {{ time_limit: {time_limit:?}, relative_gap: {relative_gap}, top_k: {top_k} }}")
    }
}

impl LayoutBudget<'_> {
    pub(super) fn interrupted(&self) -> bool {
        self.interrupt.is_some_and(|flag| flag.load(Ordering::Relaxed))
    }
}
