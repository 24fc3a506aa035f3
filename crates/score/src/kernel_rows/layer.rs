//! Operators of one transformer layer's shard: names as Vidur's profiler gives them.

use cutplane_sim::kernel::{Kernel, RowBlocks};

use super::KernelQuestion;
use crate::prediction::Skip;

/// Bytes of an element: these profiles are of 16-bit models.
const ELEMENT: u64 = 2;
/// Threads of a block in vLLM's normalisation and activation kernels.
const THREADS: u64 = 1024;
/// Threads of a block in vLLM's rotary kernel.
const ROTARY_THREADS: u64 = 512;

/// The shapes that a row must state.
struct Layer {
    tokens: u64,
    hidden: u64,
    heads: u64,
    kv_heads: u64,
    ffn: u64,
    shards: u64,
}

impl Layer {
    fn of(question: &KernelQuestion<'_>) -> Result<Self, Skip> {
        let stated = |value: Option<u64>, column: &'static str| {
            value.filter(|value| *value > 0).ok_or_else(|| Skip::new("missing-shape", format!("column '{column}'")))
        };
        let heads = stated(question.heads, "heads")?;
        Ok(Self {
            tokens: stated(question.tokens, "seq_len")?,
            hidden: stated(question.hidden, "hidden")?,
            heads,
            kv_heads: question.kv_heads.unwrap_or(heads),
            ffn: stated(question.ffn_hidden, "ffn_hidden")?,
            shards: question.tensor_parallel.unwrap_or(1).max(1),
        })
    }

    fn head_dim(&self) -> u64 {
        self.hidden / self.heads
    }

    /// Width of queries, keys and values on this device.
    fn projected(&self) -> u64 {
        (self.heads + 2 * self.kv_heads) * self.head_dim() / self.shards
    }

    fn rows(&self, read: u64, width: u64, round_trips: u64) -> Kernel {
        self.rows_of(read, width, width, round_trips)
    }

    fn rows_of(&self, read: u64, written: u64, width: u64, round_trips: u64) -> Kernel {
        let rows = Some(RowBlocks { rows: self.tokens, width, round_trips: round_trips.max(1) });
        let bytes = |elements: u64| self.tokens * elements * ELEMENT;
        Kernel::MemoryBound { bytes_read: bytes(read), bytes_written: bytes(written), kernels: 1, rows }
    }

    /// Rotates queries and keys in place; pairs of elements over the threads of a block, first the queries, then the keys. Two
    /// reads of three wait: the next pair's does not; a pair shares the arithmetic of its address.
    fn rotary(&self) -> Kernel {
        let (queries, keys) = (self.heads / self.shards, self.kv_heads.div_ceil(self.shards));
        let trips = |heads: u64| (heads * self.head_dim() / 2).div_ceil(ROTARY_THREADS);
        let width = (queries + keys) * self.head_dim();
        self.rows_of(width, width, width * 4 / 5, (2 * (trips(queries) + trips(keys))).div_ceil(3))
    }
}

/// The kernels of an operator.
pub(super) fn read(question: &KernelQuestion<'_>) -> Result<Vec<Kernel>, Skip> {
    let layer = Layer::of(question)?;
    let (hidden, shards) = (layer.hidden, layer.shards);
    let gates = if question.notes.contains("gated MLP=False") { 1 } else { 2 };
    let kernel = match question.op {
        "attn_pre_proj" => Kernel::matmul(layer.tokens, layer.projected(), hidden),
        "attn_post_proj" => Kernel::matmul(layer.tokens, hidden, hidden / shards),
        "mlp_up_proj" => Kernel::matmul(layer.tokens, gates * layer.ffn / shards, hidden),
        "mlp_down_proj" => Kernel::matmul(layer.tokens, hidden, layer.ffn / shards),
        "mlp_act" => {
            let width = layer.ffn / shards;
            layer.rows(gates * width, width, width.div_ceil(THREADS))
        }
        "input_layernorm" | "post_attention_layernorm" | "norm" => {
            // Two more trips add up the row and hand the sum out.
            layer.rows(hidden, hidden, hidden.div_ceil(THREADS) + 2)
        }
        "attn_rope" => layer.rotary(),
        "add" => Kernel::pointwise(2 * layer.tokens * hidden * ELEMENT, layer.tokens * hidden * ELEMENT),
        "emb" => Kernel::Gather { indices: layer.tokens, width: hidden },
        other => return Err(Skip::new("unknown-operator", format!("'{other}'"))),
    };
    Ok(vec![kernel])
}
