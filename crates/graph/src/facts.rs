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
use crate::op::{AttentionInput, OpKind, WeightLayout};

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

const LAYER_NORM_OPS: u64 = 8;
const ACTIVATION_OPS: u64 = 8;
const SOFTMAX_OPS: u64 = 5;

impl ModelGraph {
    /// Cost of `op` on a micro-batch of `batch` samples.
    ///
    /// | operator | forward FLOPs | backward FLOPs |
    /// |---|---|---|
    /// | linear, `r` rows | `2 r in out` | twice |
    /// | attention | `4 b s^2 heads head_dim + 5 b heads s^2` | twice |
    /// | embedding | 0 | `r dim` |
    /// | layer norm, activation | `8 n` | twice |
    /// | cross-entropy | `5 r classes` | `2 r classes` |
    ///
    /// Attention is counted dense, also when causal: that is what a kernel which materialises the scores computes.
    pub fn facts(&self, op: OpId, pass: Pass, batch: u64) -> OpFacts {
        let node = self.op(op);
        let input_bytes: Bytes = node.inputs.iter().map(|v| self.value(*v).ty.bytes(batch)).sum();
        let output = &self.value(node.output).ty;
        let output_bytes = output.bytes(batch);
        let param_bytes: Bytes = node.params.iter().map(|p| self.param(*p).bytes()).sum();
        let touched_params = match node.kind {
            OpKind::Embedding { .. } => output_bytes,
            _ => param_bytes,
        };
        let moved = input_bytes + output_bytes + touched_params;
        let elements = u128::from(output.elements(batch));
        let (forward, backward, kernels) = match node.kind {
            OpKind::Linear { inputs, outputs, bias, .. } => {
                let rows = u128::from(output.rows(batch));
                let matmul = 2 * rows * u128::from(inputs) * u128::from(outputs);
                (matmul, 2 * matmul, 1 + u32::from(bias))
            }
            OpKind::Attention { head_dim, .. } => {
                let scores = u128::from(self.attention_scores(op, batch));
                let matmul = 4 * scores * u128::from(head_dim);
                let softmax = u128::from(SOFTMAX_OPS) * scores;
                (matmul + softmax, 2 * (matmul + softmax), 4)
            }
            OpKind::Embedding { .. } | OpKind::SelectToken { .. } => (0, elements, 1),
            OpKind::PositionEmbedding { .. } | OpKind::Add => (elements, elements, 1),
            OpKind::LayerNorm { .. } => {
                (u128::from(LAYER_NORM_OPS) * elements, 2 * u128::from(LAYER_NORM_OPS) * elements, 1)
            }
            OpKind::Activation { .. } => {
                (u128::from(ACTIVATION_OPS) * elements, 2 * u128::from(ACTIVATION_OPS) * elements, 1)
            }
            OpKind::CrossEntropy { classes, .. } => {
                let logits = u128::from(self.value(node.inputs[0]).ty.rows(batch)) * u128::from(classes);
                (u128::from(SOFTMAX_OPS) * logits, 2 * logits, 2)
            }
        };
        let score_bytes = match node.kind {
            // Written by QK^T, read and written by the softmax, read by the product with V.
            OpKind::Attention { .. } => {
                Bytes::new(4 * self.attention_scores(op, batch).saturating_mul(output.dtype.size()))
            }
            _ => Bytes::ZERO,
        };
        match pass {
            Pass::Forward => OpFacts { flops: Flops::new(forward), bytes: moved + score_bytes, kernels },
            Pass::Backward => {
                OpFacts { flops: Flops::new(backward), bytes: (moved + score_bytes) * 2, kernels: 2 * kernels }
            }
        }
    }

    /// What `op` keeps for its backward pass on a micro-batch of `batch` samples. An attention that materialises its
    /// scores keeps the softmax, `b heads s^2` elements (Korthikanti et al. 2022, section 4.1, without dropout).
    pub fn saved(&self, op: OpId, batch: u64) -> Saved {
        let node = self.op(op);
        let rows = self.value(node.output).ty.rows(batch);
        match node.kind {
            OpKind::Linear { .. } | OpKind::Activation { .. } | OpKind::Embedding { .. } => {
                Saved { inputs: true, output: false, internal_elements: 0 }
            }
            // Mean and reciprocal standard deviation of each row.
            OpKind::LayerNorm { .. } => Saved { inputs: true, output: false, internal_elements: 2 * rows },
            OpKind::Attention { .. } => {
                Saved { inputs: true, output: false, internal_elements: self.attention_scores(op, batch) }
            }
            // The softmax of the logits.
            OpKind::CrossEntropy { .. } => {
                let logits = self.value(node.inputs[0]).ty.elements(batch);
                Saved { inputs: false, output: false, internal_elements: logits }
            }
            OpKind::PositionEmbedding { .. } | OpKind::Add | OpKind::SelectToken { .. } => {
                Saved { inputs: false, output: false, internal_elements: 0 }
            }
        }
    }

    /// Elements of the score matrix of an attention: `b heads s^2`; zero for other operators.
    pub fn attention_scores(&self, op: OpId, batch: u64) -> u64 {
        let node = self.op(op);
        match node.kind {
            OpKind::Attention { heads, .. } => {
                let ty = &self.value(node.output).ty;
                let s = ty.dims[0];
                let b = if ty.batched { batch } else { 1 };
                b.saturating_mul(heads).saturating_mul(s).saturating_mul(s)
            }
            _ => 0,
        }
    }

    /// The curve and the point on it that prices `op` on a micro-batch of `batch` samples.
    ///
    /// Axes: `linear` \[rows, inputs, outputs\]; `attention` \[b heads, s, head_dim\]; `embedding` \[rows, vocab, dim\];
    /// `layer_norm`, `position_embedding`, `cross_entropy` \[rows, width\]; pointwise \[elements\].
    pub fn profile_key(&self, op: OpId, batch: u64) -> ProfileKey {
        let node = self.op(op);
        let output = &self.value(node.output).ty;
        let input = &self.value(node.inputs[0]).ty;
        let (rows, elements) = (output.rows(batch), output.elements(batch));
        let key = |operator, axes: &[u64], work: f64| ProfileKey { operator, axes: axes.to_vec(), work };
        match node.kind {
            OpKind::Linear { inputs, outputs, layout, .. } => {
                let operator = if layout == WeightLayout::InOut { "linear" } else { "linear.transposed" };
                key(operator, &[rows, inputs, outputs], 2.0 * rows as f64 * inputs as f64 * outputs as f64)
            }
            OpKind::Attention { heads, head_dim, causal, input } => {
                let s = output.dims[0];
                let groups = heads * if output.batched { batch } else { 1 };
                let operator = match (causal, input) {
                    (true, AttentionInput::Packed) => "attention.causal.packed",
                    (true, AttentionInput::Separate) => "attention.causal",
                    (false, AttentionInput::Packed) => "attention.packed",
                    (false, AttentionInput::Separate) => "attention",
                };
                key(operator, &[groups, s, head_dim], 4.0 * groups as f64 * (s * s) as f64 * head_dim as f64)
            }
            OpKind::Embedding { vocab, dim, .. } => {
                key("embedding", &[rows, vocab, dim], elements as f64 + vocab as f64 * dim as f64)
            }
            OpKind::PositionEmbedding { .. } => key("position_embedding", &[rows, output.last()], elements as f64),
            OpKind::LayerNorm { .. } => key("layer_norm", &[rows, output.last()], elements as f64),
            OpKind::Activation { function } => key(function.key(), &[elements], elements as f64),
            OpKind::Add => key("add", &[elements], elements as f64),
            OpKind::SelectToken { .. } => key("select_token", &[input.elements(batch)], input.elements(batch) as f64),
            OpKind::CrossEntropy { classes, .. } => {
                let rows = input.rows(batch);
                key("cross_entropy", &[rows, classes], rows as f64 * classes as f64)
            }
        }
    }
}
