//! What the operators of a transformer layer keep for their backward passes.

use super::keeping::Keeping;
use super::shape::{ExpertShape, TransformerShape};
use crate::estimate::{AttentionKernel, Layout, Precision};

/// The tokens that a layer works on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tokens {
    /// Tokens of a micro-batch on a rank: `micro_batch x sequence / cp`.
    pub rows: f64,
    /// Tokens that each of them attends to.
    pub keys: f64,
    /// Tokens of the encoder that each attends to beside, and how many of them the micro-batch has; none where 0.
    pub crossed: [f64; 2],
}

/// What a layer keeps, bytes a micro-batch and rank.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LayerBytes {
    /// Everything, when nothing is computed again.
    pub kept: f64,
    /// What of it belongs to the core of the attention: scores, softmax, dropout.
    pub core: f64,
    /// Its input.
    pub input: f64,
    /// What its backward pass needs besides: gradients of its widest values.
    pub working: f64,
}

/// What a layer of `shape` keeps.
///
/// With materialised scores, dropout, equal heads and a feed-forward layer four times as wide, this is `s b h (34 + 5 a s / h)`
/// on one rank, `s b h (10 + 24 / t + 5 a s / h t)` on `t` tensor-parallel ranks, `s b h / t (34 + 5 a s / h)` with sequence
/// parallelism, each but for the statistics of the norms (Korthikanti et al. 2022, equations 1, 2 and 4). Fused attention
/// keeps a 32-bit number for each query and head in place of the scores (Dao et al. 2022).
pub fn layer_bytes(shape: &TransformerShape, tokens: Tokens, layout: &Layout, keeping: &Keeping) -> LayerBytes {
    let counting = Kept::new(shape, layout, keeping);
    let attention = counting.attention(tokens.rows, tokens.keys, tokens.rows);
    let crossed = match tokens.crossed {
        [_, rows] if rows <= 0.0 => [0.0; 2],
        [keys, rows] => counting.attention(tokens.rows, keys, rows),
    };
    let feed_forward = match shape.experts {
        Some(experts) => counting.experts(tokens.rows, &experts),
        None => counting.feed_forward(tokens.rows, shape.ffn_hidden as f64, counting.tp),
    };
    LayerBytes {
        kept: attention[0] + crossed[0] + counting.normed(tokens.rows) + feed_forward,
        core: attention[1] + crossed[1],
        input: counting.residual(tokens.rows),
        working: counting.working(tokens.rows),
    }
}

/// Counts bytes on a rank.
struct Kept<'a> {
    shape: &'a TransformerShape,
    keeping: &'a Keeping,
    fused: bool,
    several_samples: bool,
    element: f64,
    /// Bytes of a value that only a product reads: quantised where products are.
    operand: f64,
    tp: f64,
    expert_tp: f64,
    /// Ranks that share the tokens outside of tensor-parallel regions.
    sharers: f64,
}

impl<'a> Kept<'a> {
    fn new(shape: &'a TransformerShape, layout: &Layout, keeping: &'a Keeping) -> Self {
        let tp = layout.tp as f64;
        let own = shape.experts.and_then(|experts| experts.tensor_parallel);
        Self {
            shape,
            keeping,
            fused: layout.attention == AttentionKernel::Flash,
            several_samples: layout.micro_batch > 1,
            element: layout.precision.activation_bytes() as f64,
            operand: if layout.precision == Precision::Fp8 { 1.0 } else { layout.precision.activation_bytes() as f64 },
            tp,
            expert_tp: own.unwrap_or(layout.expert_tp()).max(1) as f64,
            sharers: if layout.sequence_parallel { tp } else { 1.0 },
        }
    }

    /// A value of the residual stream.
    fn residual(&self, rows: f64) -> f64 {
        self.element * rows * self.shape.hidden as f64 / self.sharers
    }

    /// Input, output and statistics of a norm, and the mask of the dropout at the end of its branch.
    fn normed(&self, rows: f64) -> f64 {
        let values = rows * self.shape.hidden as f64 / self.sharers;
        let mask = if self.keeping.dropout { values } else { 0.0 };
        let output = if self.keeping.recomputed.norms { 0.0 } else { self.operand * values };
        self.residual(rows) + output + mask + 8.0 * rows / self.sharers
    }

    /// `[all, core]` of an attention of `rows` queries to `keys` tokens, of which the micro-batch has `key_rows`.
    fn attention(&self, rows: f64, keys: f64, key_rows: f64) -> [f64; 2] {
        let (queries, pairs) = (self.shape.query_width(), 2.0 * self.shape.key_width());
        let projected = self.element * (rows * queries + key_rows * pairs) / self.tp;
        // The kernel keeps its output; a product of lower precision keeps its own copy of it.
        let quantised = if self.operand < self.element { self.operand } else { 0.0 };
        let output = (self.element + quantised) * rows * queries / self.tp;
        let heads = rows * self.shape.heads as f64 / self.tp;
        let (core, beside) = if self.fused {
            let copy = if self.keeping.copies_fused_output && self.several_samples { output } else { 0.0 };
            (0.0, 4.0 * heads + copy)
        } else {
            let scores = heads * keys;
            let softmax = self.element.max(self.keeping.softmax_bytes);
            // What the product with the values reads, where that is not the softmax itself.
            let multiplied = match () {
                () if self.keeping.dropout => 1.0 + self.element,
                () if softmax > self.element => self.element,
                () => 0.0,
            };
            ((softmax + multiplied) * scores, 0.0)
        };
        // Norms of queries and keys copy their inputs out of the joint projection and keep them beside their outputs.
        let normed = if self.shape.query_norms {
            2.0 * self.element * (rows * queries + key_rows * self.shape.key_width()) / self.tp
        } else {
            0.0
        };
        [self.normed(rows) + projected + normed + output + core + beside, core]
    }

    /// Output of the first products and of the activation of a feed-forward layer.
    fn feed_forward(&self, rows: f64, width: f64, ranks: f64) -> f64 {
        if self.keeping.recomputed.feed_forward {
            return 0.0;
        }
        let output = if self.keeping.recomputed.activations { 0.0 } else { self.operand };
        let before = if self.shape.gated { 2.0 } else { self.keeping.activation_values };
        rows * width * (self.element * before + output) / ranks
    }

    /// A mixture of experts: every token goes to `top_k` experts, and to all ranks that share one of them.
    fn experts(&self, rows: f64, experts: &ExpertShape) -> f64 {
        let hidden = self.shape.hidden as f64;
        let local = rows / self.sharers;
        let routed = local * experts.top_k as f64 * self.expert_tp;
        let inside = self.feed_forward(routed, experts.ffn_hidden as f64, self.expert_tp);
        let shared = self.feed_forward(rows, experts.shared_ffn_hidden as f64, self.tp);
        let [routed_rows, local_rows] = self.keeping.token_rows;
        inside + shared + self.element * hidden * (routed_rows * routed + local_rows * local)
    }

    /// Gradients that exist at once in a backward pass: around the activation of the feed-forward layer, and of two values
    /// of the residual stream.
    fn working(&self, rows: f64) -> f64 {
        let width = self.shape.experts.map_or(self.shape.ffn_hidden as f64, |experts| {
            experts.ffn_hidden as f64 * experts.top_k as f64 * self.tp / self.sharers
        });
        self.element * rows * width * (self.shape.gates() + 1.0) / self.tp + 2.0 * self.residual(rows)
    }
}
