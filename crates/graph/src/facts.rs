//! What an operator costs, independent of any device: floating-point operations, bytes moved, kernels launched, and what
//! it keeps for its backward pass.
//!
//! Counting rules: one multiply-add is two operations; bytes are those of an unfused kernel that reads each input once
//! and writes each output once; the backward pass of a matrix multiplication is two of its size (Narayanan et al. 2021,
//! appendix; Kaplan et al. 2020, table 1). Softmax, norms and activations count the small constants given below: they are
//! bound by memory, never by these.

use cutplane_units::{Bytes, Flops};
use serde::{Deserialize, Serialize};

use crate::ids::OpId;
use crate::model::ModelGraph;
use crate::op::{OpKind, View};
use crate::sharding::ShardRule;

/// Direction of a computation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pass {
    /// Outputs from inputs.
    Forward,
    /// Gradients of inputs and parameters from gradients of outputs.
    Backward,
}

/// Device-independent cost of one operator on one micro-batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpFacts {
    /// Floating-point operations.
    pub flops: Flops,
    /// Bytes read and written by unfused kernels.
    pub bytes: Bytes,
    /// Kernels launched.
    pub kernels: u32,
}

/// What an operator keeps between its forward and its backward pass, besides parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Saved {
    /// Whether the inputs are kept (each value once, however many operators keep it).
    pub inputs: bool,
    /// Whether the output is kept.
    pub output: bool,
    /// Elements of the operator's own intermediates that are kept.
    pub internal_elements: u64,
}

/// Where an operator stands in a device profile: the name of its curve, the extents that its time depends on, and the
/// work that the time is divided by before it is interpolated.
#[derive(Clone, Debug, PartialEq)]
pub struct ProfileKey {
    /// Name of the curve, such as `linear` or `attention.causal`.
    pub operator: &'static str,
    /// Extents, outermost first; see [`ModelGraph::profile_key`].
    pub axes: Vec<u64>,
    /// Work in the unit of the curve: floating-point operations for `linear` and `attention`, elements otherwise.
    pub work: f64,
}

impl ModelGraph {
    fn view(&self, op: OpId, batch: u64) -> View<'_> {
        View::new(self, self.op(op), batch)
    }

    /// Cost of `op` on a micro-batch of `batch` samples.
    ///
    /// | operator | forward FLOPs | backward FLOPs |
    /// |---|---|---|
    /// | linear, `r` rows | `2 r in out` | twice |
    /// | attention | `4 b s t heads head_dim + 5 b heads s t` | twice |
    /// | embedding | 0 | `r dim` |
    /// | convolution, `n` output elements | `2 n in / groups taps` | twice |
    /// | recurrent, `T` steps | `2 b T gates hidden (in + width)` and `10 b T gates hidden` | twice |
    /// | expert linear, `r` rows of all experts | `2 r in out` | twice |
    /// | layer norm, activation | `8 n` | twice |
    /// | cross-entropy | `5 r classes` | `2 r classes` |
    ///
    /// Attention is counted dense, also when causal: that is what a kernel which materialises the scores computes. A fused
    /// kernel skips masked tiles and computes the scores twice ([`crate::AttentionKernel::Fused`]). The backward pass
    /// moves twice the bytes and launches twice the kernels of the forward pass.
    pub fn facts(&self, op: OpId, pass: Pass, batch: u64) -> OpFacts {
        let view = self.view(op, batch);
        let work = self.op(op).kind.with(|operator| operator.work(&view));
        // Half of the range, so that the backward pass can have twice as many.
        let bytes = work.bytes.unwrap_or_else(|| view.moved()).min(u128::from(u64::MAX / 2));
        let bytes = Bytes::new(bytes as u64);
        match pass {
            Pass::Forward => OpFacts { flops: Flops::new(work.forward), bytes, kernels: work.kernels },
            Pass::Backward => {
                OpFacts { flops: Flops::new(work.backward), bytes: bytes * 2, kernels: work.kernels.saturating_mul(2) }
            }
        }
    }

    /// What `op` keeps for its backward pass on a micro-batch of `batch` samples. An attention that materialises its
    /// scores keeps the softmax, `b heads s^2` elements (Korthikanti et al. 2022, section 4.1, without dropout).
    pub fn saved(&self, op: OpId, batch: u64) -> Saved {
        let view = self.view(op, batch);
        self.op(op).kind.with(|operator| operator.saved(&view))
    }

    /// Elements of the score matrix of an attention: `b heads s t`; zero for other operators.
    pub fn attention_scores(&self, op: OpId, batch: u64) -> u64 {
        match &self.op(op).kind {
            OpKind::Attention(attention) => attention.scores(&self.view(op, batch)),
            _ => 0,
        }
    }

    /// The curve and the point on it that prices `op` on a micro-batch of `batch` samples.
    ///
    /// Axes: `linear` \[rows, inputs, outputs\]; `attention` \[b heads, s, head_dim\] and `attention.general` \[b heads, s,
    /// t, head_dim\]; `embedding` \[rows, vocab, dim\]; `matmul` \[matrices, m, k, n\]; `linear.experts` \[rows, experts,
    /// inputs, outputs\]; `convolution` \[output positions, inputs / groups, outputs, taps\]; `recurrent` \[b, steps,
    /// inputs, hidden\]; `batch_norm`, `group_norm` \[channels, elements a channel\]; `pool` \[elements, taps\]; norms,
    /// softmax, `position_embedding`, `cross_entropy` and all that move rows \[rows, width\]; pointwise \[elements\].
    pub fn profile_key(&self, op: OpId, batch: u64) -> ProfileKey {
        let view = self.view(op, batch);
        self.op(op).kind.with(|operator| operator.curve(&view))
    }

    /// All ways to split `op` over the ranks of one mesh axis, on a micro-batch of `batch` samples; samples first. That an
    /// operator is replicated is always possible and not listed.
    pub fn shard_rules(&self, op: OpId, batch: u64) -> Vec<ShardRule> {
        let view = self.view(op, batch);
        let node = self.op(op);
        let samples = ShardRule::batch(&view.inputs(), node.params.len(), view.output());
        samples.into_iter().chain(node.kind.with(|operator| operator.rules(&view))).collect()
    }
}
