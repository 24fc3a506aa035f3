//! What a kernel computes: shapes and passes.

use cutplane_graph::Pass;
use serde::Serialize;

/// Which of a layer's products a kernel computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Product {
    /// The output.
    Forward,
    /// The gradient of the input, from the gradient of the output.
    InputGradient,
    /// The gradient of the weights, from the input and the gradient of the output.
    WeightGradient,
}

/// How attention is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AttentionAlgorithm {
    /// Scores, softmax and context are kernels of their own; the scores lie in memory, masked in `softmax_passes` passes over
    /// them (2: fused scale, mask and softmax; 5: one kernel each, with dropout).
    Materialised {
        /// Passes over the scores, a read or a write each.
        softmax_passes: u32,
    },
    /// FlashAttention of 2022 (Dao et al.): one kernel, parallel over batch and heads.
    Flash1,
    /// FlashAttention-2 (Dao 2023): parallel over the query as well.
    Flash2,
    /// FlashAttention-3 or cuDNN's fused attention on Hopper and later (Shah et al. 2024).
    Flash3,
}

/// Recurrent cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RecurrentCell {
    /// One gate.
    Rnn,
    /// Three gates.
    Gru,
    /// Four gates.
    Lstm,
}

impl RecurrentCell {
    /// Matrices of the cell.
    pub const fn gates(self) -> u64 {
        match self {
            Self::Rnn => 1,
            Self::Gru => 3,
            Self::Lstm => 4,
        }
    }
}

/// Blocks of threads that walk a row each: a row's reads follow one another, so few rows wait on latency, not bandwidth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct RowBlocks {
    /// Rows, one block each.
    pub rows: u64,
    /// Elements of a row that are computed.
    pub width: u64,
    /// Reads of memory that wait for each other within a row: elements of the row over the threads of a block.
    pub round_trips: u64,
}

/// Attention of one layer: `softmax(q k^T) v`, masked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Attention {
    /// Sequences.
    pub batch: u64,
    /// Query heads on this device.
    pub heads: u64,
    /// Key and value heads on this device.
    pub kv_heads: u64,
    /// Query positions of each sequence; 1 when a token is decoded.
    pub query_len: u64,
    /// Key positions of each sequence.
    pub key_len: u64,
    /// Width of a head.
    pub head_dim: u64,
    /// Whether a query sees only keys up to its own position.
    pub causal: bool,
    /// How it is computed.
    pub algorithm: AttentionAlgorithm,
    /// Forward, or the whole backward pass.
    pub pass: Pass,
}

/// A two-dimensional convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Convolution {
    /// Images.
    pub batch: u64,
    /// Channels in.
    pub in_channels: u64,
    /// Channels out.
    pub out_channels: u64,
    /// Height of the input.
    pub height: u64,
    /// Width of the input.
    pub width: u64,
    /// Height of the filter.
    pub filter_height: u64,
    /// Width of the filter.
    pub filter_width: u64,
    /// Steps down and across.
    pub stride: (u64, u64),
    /// Zeros around the input: above and below, left and right.
    pub padding: (u64, u64),
    /// Spacing of the filter's taps, both ways; 1 for a dense filter.
    pub dilation: u64,
    /// Groups of channels that do not mix; the number of input channels for a depthwise convolution.
    pub groups: u64,
    /// Which product.
    pub product: Product,
}

impl Convolution {
    /// Height and width of the output.
    pub fn output(&self) -> (u64, u64) {
        let side = |extent: u64, filter: u64, stride: u64, padding: u64| {
            let reach = self.dilation.max(1) * filter.saturating_sub(1) + 1;
            (extent + 2 * padding).saturating_sub(reach) / stride.max(1) + 1
        };
        (
            side(self.height, self.filter_height, self.stride.0, self.padding.0),
            side(self.width, self.filter_width, self.stride.1, self.padding.1),
        )
    }

    /// Multiplications and additions of the direct sum, the same for all three products.
    pub fn flops(&self) -> f64 {
        let (height, width) = self.output();
        let taps = self.filter_height * self.filter_width * self.in_channels / self.groups.max(1);
        2.0 * (self.batch * self.out_channels * height * width) as f64 * taps as f64
    }
}

/// One direction of one recurrent layer over a sequence. The product with the layer's input is left out: it is a
/// [`Kernel::Matmul`] over all steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Recurrent {
    /// The cell.
    pub cell: RecurrentCell,
    /// Sequences.
    pub batch: u64,
    /// Steps that follow one another.
    pub steps: u64,
    /// Width of the state.
    pub hidden: u64,
    /// Which product.
    pub product: Product,
}

impl Recurrent {
    /// Multiplications and additions of the recurrent products.
    pub fn flops(&self) -> f64 {
        2.0 * (self.batch * self.steps * self.cell.gates()) as f64 * (self.hidden * self.hidden) as f64
    }
}

/// One kernel, or a fixed set of kernels that a library launches for one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kernel {
    /// `batch` products of `[m, k]` with `[k, n]`.
    Matmul {
        /// Rows: tokens, for a linear layer.
        m: u64,
        /// Columns: output features.
        n: u64,
        /// Inner extent: input features.
        k: u64,
        /// Independent products of this shape.
        batch: u64,
    },
    /// Attention of one layer.
    Attention(Attention),
    /// Kernels whose time is their traffic: activations, normalisations, optimizers, copies.
    MemoryBound {
        /// Bytes read, of all kernels together.
        bytes_read: u64,
        /// Bytes written, of all kernels together.
        bytes_written: u64,
        /// Kernels.
        kernels: u32,
        /// For kernels that give each row to one block: normalisations, gated activations, rotary positions.
        rows: Option<RowBlocks>,
    },
    /// Rows picked by index, as an embedding does; spends instructions on addresses.
    Gather {
        /// Rows picked.
        indices: u64,
        /// Elements of a row.
        width: u64,
    },
    /// A convolution, by the fastest of the library's algorithms.
    Convolution(Convolution),
    /// A recurrent layer.
    Recurrent(Recurrent),
}

impl Kernel {
    /// One product.
    pub const fn matmul(m: u64, n: u64, k: u64) -> Self {
        Self::Matmul { m, n, k, batch: 1 }
    }

    /// One pointwise kernel.
    pub const fn pointwise(bytes_read: u64, bytes_written: u64) -> Self {
        Self::MemoryBound { bytes_read, bytes_written, kernels: 1, rows: None }
    }
}
