//! Attention: fused, or with its scores in memory.

use cutplane_graph::Pass;

use super::shape::{Attention, AttentionAlgorithm};
use super::{GpuModel, Precision};

/// Query rows of a block of a fused kernel.
const QUERY_BLOCK: f64 = 128.0;
/// Products of the backward pass over those of the forward pass, the scores computed again included.
const BACKWARD_PRODUCTS: f64 = 2.5;
/// Head width at which a fused kernel reaches half of what wide heads reach.
const HALF_HEAD: f64 = 24.0;
/// Throughput of FlashAttention of 2022 over FlashAttention-2, where both fill the device (Dao 2023, figure 4: 0.5-0.6).
const FLASH_1: f64 = 0.55;
/// FlashAttention-3 over FlashAttention-2 on Hopper (Shah et al. 2024, figure 5: 1.5-2.0, here with its larger heads).
const FLASH_3: f64 = 1.75;

impl GpuModel {
    /// Seconds of attention.
    pub(crate) fn attention(&self, attention: &Attention, precision: Precision) -> f64 {
        match attention.algorithm {
            AttentionAlgorithm::Materialised { softmax_passes } => {
                self.materialised(attention, softmax_passes, precision)
            }
            AttentionAlgorithm::Flash1 => self.fused(attention, FLASH_1, false, precision),
            AttentionAlgorithm::Flash2 => self.fused(attention, 1.0, true, precision),
            AttentionAlgorithm::Flash3 => self.fused(attention, FLASH_3, true, precision),
        }
    }

    /// Two batched products and the softmax between; backward, four products and twice the passes.
    fn materialised(&self, a: &Attention, passes: u32, precision: Precision) -> f64 {
        let groups = a.batch * a.heads;
        let scores = self.matmul(a.query_len, a.key_len, a.head_dim, groups, precision);
        let context = self.matmul(a.query_len, a.head_dim, a.key_len, groups, precision);
        let bytes = groups * a.query_len * a.key_len * precision.storage_bytes();
        let kernels = passes.div_ceil(2).max(1);
        let softmax = self.memory_bound(bytes * u64::from(passes), 0, kernels, None);
        match a.pass {
            Pass::Forward => scores + context + softmax,
            Pass::Backward => 2.0 * (scores + context) + 1.5 * softmax,
        }
    }

    /// One kernel: products at the family's fused throughput in whole waves, never faster than the keys and values stream.
    fn fused(&self, a: &Attention, throughput: f64, query_parallel: bool, precision: Precision) -> f64 {
        let (facts, fitted) = (&self.facts, &self.parameters);
        let backward = a.pass == Pass::Backward;
        let (share, products) = if backward {
            (fitted.flash_backward_efficiency, BACKWARD_PRODUCTS)
        } else {
            (fitted.flash_efficiency, 1.0)
        };
        let (queries, keys, width) = (a.query_len as f64, a.key_len as f64, a.head_dim as f64);
        let groups = (a.batch * a.heads) as f64;
        let wide = width / (width + HALF_HEAD) * (1.0 + HALF_HEAD / 128.0);
        let flops = 4.0 * groups * queries.max(1.0) * keys * width * seen(a) * products;
        let blocks = groups * if query_parallel { (queries / QUERY_BLOCK).ceil().max(1.0) } else { 1.0 };
        let padding = (queries / QUERY_BLOCK).ceil().max(1.0) * QUERY_BLOCK / queries.max(1.0);
        let padding = if queries < QUERY_BLOCK { padding.min(QUERY_BLOCK / 16.0) } else { padding };
        // Decoding splits the keys instead, so it fills the device.
        let waves = blocks / facts.multiprocessors;
        let idle = if queries <= 1.0 { 1.0 } else { waves.ceil() / waves };
        let peak = facts.peak(precision).flops * share * throughput * wide;
        let arithmetic = flops * padding * idle / peak;
        let element = precision.storage_bytes() as f64;
        let cached = 2.0 * (a.batch * a.kv_heads) as f64 * keys * width;
        let bytes = (cached + 2.0 * groups * queries * width) * element * if backward { 3.0 } else { 1.0 };
        let memory = bytes / (facts.bandwidth * fitted.operand_bandwidth);
        self.overlapped(arithmetic, memory)
            + fitted.matmul_us * 1e-6
            + if backward { fitted.kernel_us * 2e-6 } else { 0.0 }
    }
}

/// Share of the scores that a causal mask leaves.
fn seen(a: &Attention) -> f64 {
    let (queries, keys) = (a.query_len as f64, a.key_len as f64);
    if a.causal && keys > 0.0 { 1.0 - ((queries - 1.0) / 2.0 / keys).clamp(0.0, 0.5) } else { 1.0 }
}
