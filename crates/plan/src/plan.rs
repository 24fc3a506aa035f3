//! The plan as data.

use cutplane_graph::{ClusterSpec, Dtype, ModelSource};
use cutplane_units::{Bytes, Nanos};
use serde::{Deserialize, Serialize};

use crate::execution::Execution;
use crate::opset::OpSet;

/// What the `format` field of a plan file must hold.
pub const PLAN_FORMAT: &str = "cutplane-plan";
/// The version of the plan format that this build reads and writes.
pub const PLAN_VERSION: u32 = 2;

/// How a model is cut, where the pieces go, and in which order they work.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Always [`PLAN_FORMAT`].
    pub format: String,
    /// Always [`PLAN_VERSION`].
    pub version: u32,
    /// Short name for tables: `single`, `dp2`, `pp2-1f1b-m8`.
    pub name: String,
    /// The model.
    pub model: ModelRef,
    /// The devices.
    pub cluster: ClusterRef,
    /// The work of one step.
    pub workload: Workload,
    /// Pipeline stages, first to last. All have the same number of devices: the data-parallel
    /// degree, times that of the tensor axis if there is one. Under
    /// [`Schedule::Interleaved`] stage `i` has the devices of stage `i - p` again, with `p` the number of device groups.
    pub stages: Vec<Stage>,
    /// Micro-batches that each replica's share of the batch is cut into.
    pub micro_batches: u64,
    /// Order of forward and backward passes.
    pub schedule: Schedule,
    /// What else is asked of the ranks; left out where it is plain training.
    #[serde(default, skip_serializing_if = "Execution::is_plain")]
    pub execution: Execution,
    /// How the plan was found, when a searcher made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub search: Option<SearchRecord>,
}

impl Plan {
    /// Number of pipeline stages.
    pub fn pipeline_degree(&self) -> usize {
        self.stages.len()
    }

    /// Groups of devices that stages lie on: the pipeline degree, unless stages are interleaved.
    pub fn pipeline_ranks(&self) -> usize {
        let Some(first) = self.stages.first() else { return 0 };
        let again = |stage: &Stage| stage.devices == first.devices;
        self.stages.iter().skip(1).position(again).map_or(self.stages.len(), |position| position + 1)
    }

    /// Number of replicas of each stage.
    pub fn data_degree(&self) -> usize {
        self.stages.first().map_or(0, |stage| stage.devices.len() / self.execution.tensor_degree())
    }

    /// Samples in one micro-batch; zero when the batch does not divide (which [`crate::verify`] refuses).
    pub fn micro_batch_size(&self) -> u64 {
        let parts = self.micro_batches.saturating_mul(self.data_degree() as u64);
        let batch = self.workload.global_batch;
        if parts > 0 && batch.is_multiple_of(parts) { batch / parts } else { 0 }
    }

    /// Whether it updates after every micro-batch rather than once a step, so that it trains otherwise than one device would.
    pub const fn updates_often(&self) -> bool {
        self.schedule.updates_often() || self.execution.synchronisation.is_pushed()
    }

    /// A digest of what is executed: everything but the name and the search record.
    pub fn digest(&self) -> String {
        cutplane_graph::digest_of(&(
            &self.model.digest,
            &self.cluster.digest,
            &self.workload,
            &self.stages,
            self.micro_batches,
            self.schedule,
            &self.execution,
        ))
    }
}

/// The model that a plan was made for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelRef {
    /// How to rebuild the graph.
    pub source: ModelSource,
    /// Digest of the graph, so that a changed model is noticed.
    pub digest: String,
}

/// The cluster that a plan was made for, carried whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterRef {
    /// The cluster.
    pub spec: ClusterSpec,
    /// Its digest.
    pub digest: String,
}

/// The work of one training step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// Samples in one optimizer step, over all replicas.
    pub global_batch: u64,
    /// Update rule, which decides the optimizer state.
    pub optimizer: Optimizer,
    /// Element type of the computation.
    pub precision: Dtype,
}

/// Update rule of the parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Optimizer {
    /// Adam with decoupled weight decay (Loshchilov and Hutter 2019): two moments a parameter.
    AdamW,
    /// Plain stochastic gradient descent: no state.
    Sgd,
}

impl Optimizer {
    /// Numbers of state kept for each parameter.
    pub const fn state_per_parameter(self) -> u64 {
        match self {
            Self::AdamW => 2,
            Self::Sgd => 0,
        }
    }
}

/// A pipeline stage: some operators, and the devices that each hold a replica of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// Its operators.
    pub ops: OpSet,
    /// Names of its devices, one a replica, or with a tensor axis of `t` devices `t` a replica; each device talks to the
    /// one at its place in the next stage.
    pub devices: Vec<String>,
}

/// Order in which a stage works through its micro-batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Schedule {
    /// All forward passes, then all backward passes in reverse (GPipe; Huang et al. 2019). With one micro-batch it is
    /// vanilla model parallelism.
    #[serde(rename = "fill-drain")]
    FillDrain,
    /// Warm-up forwards, then one forward and one backward in turn (PipeDream-Flush; Narayanan et al. 2021): stage `i`
    /// of `p` holds at most `p - i` micro-batches.
    #[serde(rename = "1f1b")]
    OneFOneB,
    /// 1F1B over several stages a rank (Narayanan et al. 2021, section 2.2): with `p` device groups, a rank holds every
    /// `p`-th stage. The micro-batches must be a multiple of `p`.
    #[serde(rename = "interleaved-1f1b")]
    Interleaved,
    /// 1F1B whose backward passes are split: gradients of the inputs, which the stage before waits for, and later, in what
    /// would be idle time, gradients of the weights (schedule ZB-H1 of Qi et al. 2023).
    #[serde(rename = "zero-bubble")]
    ZeroBubble,
    /// 1F1B that updates after every micro-batch and never drains (PipeDream; Narayanan et al. 2019): a backward pass uses
    /// the weights that its forward pass has used, and updates newer ones. Each micro-batch is a batch of its own; the
    /// numbers are those of training with delayed gradients, not those of one device.
    #[serde(rename = "async-1f1b")]
    Asynchronous,
}

impl Schedule {
    /// Micro-batches whose activations stage `stage` of `stages` holds at most, out of `micro_batches`; an upper bound for
    /// interleaved stages.
    pub fn in_flight(self, stage: usize, stages: usize, micro_batches: u64) -> u64 {
        match self {
            Self::FillDrain | Self::Interleaved => micro_batches,
            Self::OneFOneB | Self::Asynchronous => micro_batches.min((stages - stage) as u64),
            Self::ZeroBubble => micro_batches.min(stages as u64),
        }
    }

    /// Whether it updates after every micro-batch rather than once a step.
    pub const fn updates_often(self) -> bool {
        matches!(self, Self::Asynchronous)
    }

    /// Its name in tables and on the command line.
    pub const fn label(self) -> &'static str {
        match self {
            Self::FillDrain => "fill-drain",
            Self::OneFOneB => "1f1b",
            Self::Interleaved => "interleaved-1f1b",
            Self::ZeroBubble => "zero-bubble",
            Self::Asynchronous => "async-1f1b",
        }
    }
}

/// Why a search ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StopReason {
    /// Proved: nothing is better.
    ProvenOptimal,
    /// The incumbent is within the asked gap of the bound.
    GapReached,
    /// Time ran out.
    TimeLimit,
    /// A heuristic searcher looked at all that it looks at; no bound follows.
    CandidatesExhausted,
    /// The user interrupted the search.
    Interrupted,
}

/// How a plan was found, and what is known of its optimality, in the searcher's own cost model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SearchRecord {
    /// Name of the searcher: `ilp`, `chain-dp`, `greedy`, `even-split`.
    pub planner: String,
    /// Predicted step time of the plan, ns.
    pub objective_ns: Nanos,
    /// No plan of the searched space is faster than this, ns; absent when nothing was proved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lower_bound_ns: Option<Nanos>,
    /// `(objective - bound) / objective`; absent when nothing was proved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap: Option<f64>,
    /// Why the search ended.
    pub stop_reason: StopReason,
    /// Configurations (data degree, stages, micro-batches, schedule) in the searched space.
    pub configurations: u64,
    /// Wall time of the search, seconds.
    pub search_seconds: f64,
    /// Predicted peak memory of the fullest device.
    pub peak_memory_bytes: Bytes,
    /// What binds, and what the runner-up would have cost: one line each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub why: Vec<String>,
}
