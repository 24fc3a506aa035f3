//! What is to be planned, how long the search may take, and what comes out.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cutplane_graph::{DeviceGraph, Dtype, ModelGraph, ModelSource};
use cutplane_plan::{Optimizer, Plan, Schedule, StopReason};
use cutplane_units::Nanos;

use super::error::PlanError;
use crate::cost::memory::MemoryModel;

/// A planning problem: train `model` on `devices`, `global_batch` samples a step.
#[derive(Clone, Debug)]
pub struct Problem<'a> {
    /// The model; it must have a loss.
    pub model: &'a ModelGraph,
    /// Where the model comes from; the plan carries it.
    pub model_source: ModelSource,
    /// The cluster.
    pub devices: &'a DeviceGraph,
    /// Where sizes of kept activations and workspaces come from.
    pub memory: MemoryModel<'a>,
    /// Samples of one optimizer step, over all replicas.
    pub global_batch: u64,
    /// Update rule.
    pub optimizer: Optimizer,
    /// Element type of the computation.
    pub precision: Dtype,
    /// What the search may choose from.
    pub limits: SearchSpace,
}

/// Restrictions of the searched space. The default searches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SearchSpace {
    /// Micro-batches a replica; by default all divisors of a replica's share of the batch up to [`MAX_MICRO_BATCHES`].
    pub micro_batches: Option<Vec<u64>>,
    /// Data-parallel degrees; by default all that divide the batch and fit the cluster.
    pub data_degrees: Option<Vec<usize>>,
    /// Numbers of pipeline stages; by default all that fit the cluster.
    pub stage_counts: Option<Vec<usize>>,
    /// Schedules; by default all.
    pub schedules: Option<Vec<Schedule>>,
    /// Layers whose device is fixed.
    pub layer_pins: Vec<LayerPin>,
    /// Name of the plan; by default made from the chosen configuration, such as `dp2-pp2-1f1b-m4`.
    pub name: Option<String>,
}

/// A layer that must lie on a device, in every replica's stage that the device belongs to. Where devices are of several
/// classes, any device of the same class will do: they are counted, not named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LayerPin {
    /// Number of the repeated layer, from 0.
    pub layer: u32,
    /// Place of the device in the cluster, from 0.
    pub device: usize,
}

impl LayerPin {
    /// Reads `layer.3=device:1`.
    ///
    /// ```
    /// use cutplane_sim::planner::LayerPin;
    /// assert_eq!(LayerPin::parse("layer.3=device:1")?, LayerPin { layer: 3, device: 1 });
    /// assert!(LayerPin::parse("layer.x=device:1").is_err());
    /// # Ok::<(), cutplane_sim::planner::PlanError>(())
    /// ```
    ///
    /// # Errors
    /// [`PlanError::EmptySpace`], with what to write.
    pub fn parse(text: &str) -> Result<Self, PlanError> {
        let (layer, device) =
            text.strip_prefix("layer.").and_then(|rest| rest.split_once("=device:")).unwrap_or_default();
        match (layer.parse(), device.parse()) {
            (Ok(layer), Ok(device)) => Ok(Self { layer, device }),
            _ => Err(PlanError::EmptySpace { reason: format!("pin '{text}' is not read: write layer.3=device:1") }),
        }
    }
}

/// Largest number of micro-batches that a search tries by itself.
pub const MAX_MICRO_BATCHES: u64 = 64;

/// How far the search has come.
#[derive(Clone, Debug, PartialEq)]
pub struct SearchProgress {
    /// Configurations dealt with.
    pub done: u64,
    /// Configurations in the space.
    pub configurations: u64,
    /// Best step time so far.
    pub objective: Option<Nanos>,
}

/// Limits of a search.
#[derive(Clone, Copy)]
pub struct SearchBudget<'a> {
    /// Wall time. The chain DP that makes the first plans gets at least a second.
    pub time_limit: Duration,
    /// The search may end when `(objective - bound) / objective` is at most this.
    pub relative_gap: f64,
    /// Seed of the solver's own randomness.
    pub seed: u32,
    /// Called now and then.
    pub progress: Option<&'a (dyn Fn(&SearchProgress) + Sync)>,
    /// Ends the search, with the best plan so far, when it becomes true.
    pub interrupt: Option<&'a AtomicBool>,
}

impl Default for SearchBudget<'_> {
    fn default() -> Self {
        Self { time_limit: Duration::from_mins(1), relative_gap: 1e-3, seed: 0, progress: None, interrupt: None }
    }
}

impl std::fmt::Debug for SearchBudget<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { time_limit, relative_gap, seed, .. } = self;
        write!(f, "SearchBudget {{ time_limit: {time_limit:?}, relative_gap: {relative_gap}, seed: {seed} }}")
    }
}

impl SearchBudget<'_> {
    /// Whether the user asked to stop.
    pub(crate) fn interrupted(&self) -> bool {
        self.interrupt.is_some_and(|flag| flag.load(Ordering::Relaxed))
    }

    pub(crate) fn report(&self, done: usize, configurations: usize, objective: Option<u64>) {
        if let Some(progress) = self.progress {
            let objective = objective.map(Nanos::new);
            progress(&SearchProgress { done: done as u64, configurations: configurations as u64, objective });
        }
    }

    /// Why the search must end now, if it must.
    pub(crate) fn must_stop(&self, started: Instant, limit: Duration) -> Option<StopReason> {
        if self.interrupted() {
            Some(StopReason::Interrupted)
        } else {
            (started.elapsed() >= limit).then_some(StopReason::TimeLimit)
        }
    }
}

/// A plan, and what is known of it.
#[derive(Clone, Debug, PartialEq)]
pub struct PlanOutcome {
    /// The plan, with its search record filled in.
    pub plan: Plan,
    /// Its step time by the estimator ([`super::estimate`]).
    pub objective: Nanos,
    /// No plan of the searched space is faster by the estimator; `None` when nothing was proved.
    pub lower_bound: Option<Nanos>,
    /// Why the search ended.
    pub stop: StopReason,
    /// Wall time, seconds.
    pub search_seconds: f64,
    /// The best plan found of every other pair of data degree and number of stages, fastest first: name and step time.
    pub alternatives: Vec<(String, Nanos)>,
}

impl PlanOutcome {
    /// `(objective - bound) / objective`, when a bound was proved.
    pub fn gap(&self) -> Option<f64> {
        self.lower_bound.map(|bound| relative_gap(self.objective.get(), bound.get()))
    }
}

pub(crate) fn relative_gap(objective: u64, bound: u64) -> f64 {
    if objective == 0 { 0.0 } else { objective.saturating_sub(bound) as f64 / objective as f64 }
}
