//! What is to be sharded, and the limits of a search.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use cutplane_graph::facts::Saved;
use cutplane_graph::{AttentionKernel, Dtype, ModelGraph, OpId, OpKind};
use cutplane_plan::Optimizer;
use cutplane_units::Bytes;

use super::error::ShardError;
use super::exchange::StateBytes;
use super::mesh::Mesh;
use crate::kernel::GpuModel;

/// A training step of a model on a mesh of equal devices, no pipeline.
#[derive(Clone, Copy, Debug)]
pub struct ShardProblem<'a> {
    /// The model.
    pub graph: &'a ModelGraph,
    /// The devices.
    pub mesh: &'a Mesh<'a>,
    /// One device.
    pub gpu: &'a GpuModel,
    /// Samples of one optimizer step, over all devices.
    pub batch: u64,
    /// Micro-batches, one after the other, whose gradients are added up; they divide the batch.
    pub micro_batches: u64,
    /// Element type of computation and activations.
    pub precision: Dtype,
    /// Update rule.
    pub optimizer: Optimizer,
    /// Whether attention is one fused kernel, whatever the graph says of its own.
    pub fused_attention: bool,
    /// Memory of a device for parameters, gradients, optimizer state, kept activations and workspace; `None` for no limit.
    pub memory_limit: Option<Bytes>,
}

impl ShardProblem<'_> {
    /// Checks the batch.
    ///
    /// # Errors
    /// [`ShardError::Batch`].
    pub fn check(&self) -> Result<(), ShardError> {
        let refuse = |field, value, remedy| Err(ShardError::Batch { field, value, remedy });
        if self.batch == 0 {
            return refuse("batch", 0, "train on at least one sample");
        }
        if self.micro_batches == 0 || !self.batch.is_multiple_of(self.micro_batches) {
            return refuse("micro_batches", self.micro_batches, "it must divide the batch");
        }
        Ok(())
    }

    /// Samples of a micro-batch, over all devices.
    pub const fn micro_batch(&self) -> u64 {
        self.batch / self.micro_batches
    }

    /// Whether an operator is an attention in one fused kernel.
    pub(super) fn is_fused(&self, op: OpId) -> bool {
        match &self.graph.op(op).kind {
            OpKind::Attention(kind) => self.fused_attention || kind.kernel == AttentionKernel::Fused,
            _ => false,
        }
    }

    /// What an operator keeps between its passes on one micro-batch. A fused attention keeps its output and a number a row and
    /// head, not its scores (Dao et al. 2022).
    pub(super) fn saved(&self, op: OpId) -> Saved {
        let saved = self.graph.saved(op, self.micro_batch());
        match &self.graph.op(op).kind {
            OpKind::Attention(kind) if self.is_fused(op) => {
                let rows = self.graph.value(self.graph.op(op).output).ty.rows(self.micro_batch());
                Saved { output: true, internal_elements: rows.saturating_mul(kind.heads), ..saved }
            }
            _ => saved,
        }
    }

    /// Mixed precision keeps 32-bit weights beside the 16-bit ones (Micikevicius et al. 2018): 2 + 2 + 12 bytes with Adam
    /// (Rajbhandari et al. 2020, section 3.1). In 32 bits: 4 + 4 + 8.
    pub(super) fn state_bytes(&self) -> StateBytes {
        let own = self.precision.size() as f64;
        let moments = 4.0 * self.optimizer.state_per_parameter() as f64;
        let master = if self.precision == Dtype::F32 { 0.0 } else { 4.0 };
        StateBytes { weight: own, gradient: own, optimizer: master + moments }
    }
}

/// Limits of a search.
#[derive(Clone, Copy, Debug)]
pub struct ShardBudget<'a> {
    /// Wall time.
    pub time_limit: Duration,
    /// The search may end when `(objective - bound) / objective` is at most this.
    pub relative_gap: f64,
    /// Seed of the solver's own randomness.
    pub seed: u32,
    /// Ends the search between its steps when it becomes true.
    pub interrupt: Option<&'a AtomicBool>,
}

impl Default for ShardBudget<'_> {
    fn default() -> Self {
        Self { time_limit: Duration::from_mins(1), relative_gap: 1e-3, seed: 0, interrupt: None }
    }
}

impl ShardBudget<'_> {
    pub(super) fn interrupted(&self) -> bool {
        self.interrupt.is_some_and(|flag| flag.load(std::sync::atomic::Ordering::Relaxed))
    }
}
