//! How one training step is spread over devices: parallel axes, schedule, batch, precision.

use serde::{Deserialize, Serialize};

use cutplane_graph::Dtype;
use cutplane_plan::Optimizer;

use super::error::{EstimateError, inconsistent};
pub use crate::engine::step::PipelineSchedule;

/// What data-parallel ranks shard (Rajbhandari et al. 2020, table 1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ZeroStage {
    /// Every replica holds everything.
    #[default]
    None,
    /// Optimizer state is sharded (ZeRO-1, Megatron's distributed optimizer).
    One,
    /// Optimizer state and gradients are sharded (ZeRO-2, FSDP's `SHARD_GRAD_OP`).
    Two,
    /// Parameters are sharded too (ZeRO-3, FSDP's `FULL_SHARD`).
    Three,
}

/// Sharding over data-parallel ranks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Zero {
    /// What is sharded.
    pub stage: ZeroStage,
    /// Ranks that share one copy, when fewer than all data-parallel ranks (hybrid sharding); the groups keep equal
    /// copies with an all-reduce between them.
    pub shard_group: Option<u64>,
}

impl Zero {
    /// `stage` over all data-parallel ranks.
    pub const fn stage(stage: ZeroStage) -> Self {
        Self { stage, shard_group: None }
    }
}

/// Which activations are dropped and computed again in the backward pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Recompute {
    /// Nothing.
    #[default]
    None,
    /// The attention core: scores, softmax, dropout, product with the values (Korthikanti et al. 2022, section 5).
    Selective,
    /// Every repeated layer, from its input.
    Full,
    /// The first this many layers of each stage, from their inputs.
    Layers(u64),
}

/// Arithmetic of the step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// 32-bit everywhere, no tensor cores.
    F32,
    /// 32-bit storage, matrix products in TF32.
    Tf32,
    /// f16 products and activations, f32 master weights, loss scaling.
    AmpF16,
    /// bf16 products and activations, f32 master weights.
    #[default]
    Bf16,
    /// FP8 matrix products, bf16 elsewhere, f32 master weights.
    Fp8,
}

impl Precision {
    /// Bytes of an activation.
    pub const fn activation_bytes(self) -> u64 {
        match self {
            Self::F32 | Self::Tf32 => 4,
            Self::AmpF16 | Self::Bf16 | Self::Fp8 => 2,
        }
    }

    /// The storage type of activations and of the compute copy of the weights.
    pub const fn storage(self) -> Dtype {
        match self {
            Self::F32 | Self::Tf32 => Dtype::F32,
            Self::AmpF16 => Dtype::F16,
            Self::Bf16 | Self::Fp8 => Dtype::Bf16,
        }
    }

    /// The arithmetic of what stands before and behind the layers: embedding, head and loss are not computed in 8 bits.
    #[must_use]
    pub const fn outside_of_layers(self) -> Self {
        match self {
            Self::Fp8 => Self::Bf16,
            other => other,
        }
    }

    /// Whether weights have a separate f32 master copy.
    pub const fn is_mixed(self) -> bool {
        matches!(self, Self::AmpF16 | Self::Bf16 | Self::Fp8)
    }
}

/// How attention is computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AttentionKernel {
    /// Scores are written to memory.
    #[default]
    Materialised,
    /// One fused kernel (Dao et al. 2022).
    Flash,
}

/// How gradients meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GradientSync {
    /// Collectives among the replicas; whether they overlap the backward pass is the stack's matter unless it is said
    /// here.
    AllReduce {
        /// `Some(false)`: after the last backward pass; `Some(true)`: in buckets beside it; `None`: as the stack does.
        overlapped: Option<bool>,
    },
    /// Parameter servers: every replica pulls the parameters and pushes its gradients (Li et al. 2014).
    ParameterServer {
        /// Number of servers that the parameters are sharded over.
        servers: u64,
        /// Where they live.
        placement: ServerPlacement,
    },
}

impl Default for GradientSync {
    fn default() -> Self {
        Self::AllReduce { overlapped: None }
    }
}

/// Where parameter servers live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ServerPlacement {
    /// In the host memory of the machine: parameters and gradients cross PCIe.
    HostMemory,
    /// On the accelerators themselves.
    Accelerator,
    /// One on each machine, reached over the network.
    EveryMachine,
}

/// What lives in host memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Offload {
    /// Nothing.
    #[default]
    None,
    /// Optimizer state; the host updates the parameters (Ren et al. 2021).
    Optimizer,
    /// Activations between the passes.
    Activations,
}

/// One training step over devices. Abbreviations are the field's: `dp` data, `tp` tensor, `pp` pipeline, `vpp` virtual
/// pipeline (chunks a device), `cp` context, `ep` expert parallel degree.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Layout {
    /// Replicas that see different samples.
    pub dp: u64,
    /// Ranks that share every layer.
    pub tp: u64,
    /// Pipeline stages.
    pub pp: u64,
    /// Model chunks a device; above 1 with [`PipelineSchedule::Interleaved`] only.
    pub vpp: u64,
    /// Ranks that share every sequence.
    pub cp: u64,
    /// Ranks that share the experts of a layer; taken out of `dp`, not multiplied in (out of `tp dp` where experts are whole).
    pub ep: u64,
    /// Whether every expert is whole on its rank, and tensor-parallel ranks bring tokens of their own (Megatron-Core's
    /// `expert_tensor_parallel_size` 1).
    pub whole_experts: bool,
    /// Whether norms and residuals are sharded along the sequence over the `tp` ranks.
    pub sequence_parallel: bool,
    /// Sharding over data-parallel ranks.
    pub zero: Zero,
    /// Recomputation.
    pub recompute: Recompute,
    /// Order of the passes.
    pub schedule: PipelineSchedule,
    /// Samples in a micro-batch of one replica.
    pub micro_batch: u64,
    /// Samples in a step, over all replicas.
    pub global_batch: u64,
    /// Arithmetic.
    pub precision: Precision,
    /// Attention kernel.
    pub attention: AttentionKernel,
    /// How gradients meet.
    pub gradient_sync: GradientSync,
    /// What lives in host memory.
    pub offload: Offload,
    /// Repeated layers of each stage, first to last (of each chunk in pipeline order when interleaved); even if absent.
    pub stage_split: Option<Vec<u64>>,
    /// Update rule.
    pub optimizer: Optimizer,
    /// Whether the parameters are frozen and only small adapters are trained (Hu et al. 2022): no gradients of weights, none to
    /// exchange, nothing to update.
    pub frozen: bool,
}

impl Default for Layout {
    /// One device, one sample, bf16, AdamW.
    fn default() -> Self {
        Self {
            dp: 1,
            tp: 1,
            pp: 1,
            vpp: 1,
            cp: 1,
            ep: 1,
            whole_experts: false,
            sequence_parallel: false,
            zero: Zero::default(),
            recompute: Recompute::default(),
            schedule: PipelineSchedule::default(),
            micro_batch: 1,
            global_batch: 1,
            precision: Precision::default(),
            attention: AttentionKernel::default(),
            gradient_sync: GradientSync::default(),
            offload: Offload::default(),
            stage_split: None,
            optimizer: Optimizer::AdamW,
            frozen: false,
        }
    }
}

impl Layout {
    /// The same layout as what stands before and behind the layers sees it: products stay in 16 bits.
    pub(super) fn outside_of_layers(&self) -> Self {
        Self { precision: self.precision.outside_of_layers(), ..self.clone() }
    }

    /// Devices used: `dp tp pp cp`.
    pub const fn devices(&self) -> u64 {
        self.dp.saturating_mul(self.tp).saturating_mul(self.pp).saturating_mul(self.cp)
    }

    /// Ranks that share an expert's matrices.
    pub const fn expert_tp(&self) -> u64 {
        if self.whole_experts { 1 } else { self.tp }
    }

    /// Ranks that hold one expert's parameters, or a shard of them, for different samples: `tp dp cp / (expert tp, ep)`.
    pub const fn expert_replicas(&self) -> u64 {
        self.dp.saturating_mul(self.cp).saturating_mul(self.tp) / (self.expert_tp() * self.ep)
    }

    /// Micro-batches that each replica works through in a step; zero when the batch does not divide (which
    /// [`Layout::validate`] refuses).
    pub const fn micro_batches(&self) -> u64 {
        let samples = self.dp.saturating_mul(self.micro_batch);
        if samples > 0 && self.global_batch.is_multiple_of(samples) { self.global_batch / samples } else { 0 }
    }

    /// Ranks that share one copy of sharded state: the shard group, or all replicas (context-parallel ranks hold equal
    /// parameters and count as replicas here).
    pub fn shard_ranks(&self) -> u64 {
        let replicas = self.dp * self.cp;
        self.zero.shard_group.map_or(replicas, |group| group.min(replicas))
    }

    /// Micro-batches (of chunks, when interleaved) whose activations a device of stage `stage` holds at most.
    ///
    /// Fill-drain: all. 1F1B: `p - stage`. Interleaved: `p (v - 1) + 2 (p - stage) - 1` chunks (Megatron-LM's warm-up plus
    /// one), at most all `m v`. ZB-H1 keeps 1F1B's.
    pub fn in_flight(&self, stage: u64) -> u64 {
        let all = self.micro_batches();
        match self.schedule {
            PipelineSchedule::Vanilla => 1,
            PipelineSchedule::FillDrain => all,
            PipelineSchedule::OneForwardOneBackward | PipelineSchedule::ZeroBubble => all.min(self.pp - stage),
            PipelineSchedule::Interleaved => (all * self.vpp).min(self.pp * (self.vpp - 1) + 2 * (self.pp - stage) - 1),
        }
    }

    /// Checks that the fields fit together, whatever the model.
    ///
    /// # Errors
    /// [`EstimateError::Inconsistent`], naming the fields.
    pub fn validate(&self) -> Result<(), EstimateError> {
        self.check_degrees()?;
        self.check_batch()?;
        self.check_pipeline()?;
        self.check_sharding()
    }

    fn check_degrees(&self) -> Result<(), EstimateError> {
        let degrees = [
            ("dp", self.dp),
            ("tp", self.tp),
            ("pp", self.pp),
            ("vpp", self.vpp),
            ("cp", self.cp),
            ("ep", self.ep),
            ("micro_batch", self.micro_batch),
            ("global_batch", self.global_batch),
        ];
        if let Some((field, value)) = degrees.into_iter().find(|(_, value)| !(1..=1 << 24).contains(value)) {
            return inconsistent(field, format!("{value} is not between 1 and 2^24"), "choose a positive degree");
        }
        Ok(())
    }

    fn check_batch(&self) -> Result<(), EstimateError> {
        if self.micro_batches() == 0 {
            let problem = format!(
                "a batch of {} does not divide into micro-batches of {} on {} replicas",
                self.global_batch, self.micro_batch, self.dp
            );
            return inconsistent(
                "global_batch, micro_batch, dp",
                problem,
                "make the batch a multiple of micro_batch x dp",
            );
        }
        Ok(())
    }

    fn check_pipeline(&self) -> Result<(), EstimateError> {
        let interleaved = self.schedule == PipelineSchedule::Interleaved;
        if self.vpp > 1 && !interleaved {
            let problem = format!("{} chunks a device with the schedule {:?}", self.vpp, self.schedule);
            return inconsistent("vpp, schedule", problem, "choose the interleaved schedule or vpp 1");
        }
        if interleaved && self.pp > 1 && !self.micro_batches().is_multiple_of(self.pp) {
            let problem = format!("{} micro-batches on {} interleaved stages", self.micro_batches(), self.pp);
            return inconsistent(
                "schedule, pp, micro_batch",
                problem,
                "make the number of micro-batches a multiple of pp",
            );
        }
        match &self.stage_split {
            Some(split) if split.len() as u64 != self.pp * self.vpp => {
                let problem = format!("{} entries for {} stages of {} chunks", split.len(), self.pp, self.vpp);
                inconsistent("stage_split, pp, vpp", problem, "give one number of layers for each chunk")
            }
            _ => Ok(()),
        }
    }

    fn check_sharding(&self) -> Result<(), EstimateError> {
        if self.sequence_parallel && self.tp == 1 {
            let problem = "sequence parallelism shards over the tensor-parallel ranks, and tp is 1".to_owned();
            return inconsistent("sequence_parallel, tp", problem, "raise tp or switch sequence_parallel off");
        }
        let ranks = self.dp * self.cp * self.tp / self.expert_tp();
        if !ranks.is_multiple_of(self.ep) {
            let problem = format!("{} expert-parallel ranks out of {ranks} that see different samples", self.ep);
            return inconsistent("ep, dp, cp", problem, "make ep a divisor of dp x cp");
        }
        match self.zero.shard_group {
            Some(group) if group == 0 || !(self.dp * self.cp).is_multiple_of(group) => {
                let problem = format!("shard groups of {group} out of dp x cp = {}", self.dp * self.cp);
                inconsistent("zero.shard_group, dp, cp", problem, "make the group a divisor of dp x cp")
            }
            _ => Ok(()),
        }
    }
}
