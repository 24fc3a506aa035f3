//! Attention: fused against materialised, masks, grouped heads, decoding.

use cutplane_graph::Pass;
use cutplane_sim::kernel::{Attention, AttentionAlgorithm, Kernel};

use crate::{gpu, seconds};

fn long(algorithm: AttentionAlgorithm) -> Attention {
    Attention {
        batch: 8,
        heads: 16,
        kv_heads: 16,
        query_len: 2048,
        key_len: 2048,
        head_dim: 128,
        causal: false,
        algorithm,
        pass: Pass::Forward,
    }
}

fn time(model: &str, attention: Attention) -> f64 {
    seconds(&gpu(model), Kernel::Attention(attention))
}

/// TFLOP/s of a dense forward pass.
fn throughput(model: &str, algorithm: AttentionAlgorithm) -> f64 {
    let a = long(algorithm);
    4.0 * (a.batch * a.heads * a.query_len * a.key_len * a.head_dim) as f64 / time(model, a) / 1e12
}

#[test]
fn fused_attention_is_as_fast_as_its_papers_say() {
    // Dao 2023, figure 5: about 200-225 TFLOP/s on A100; figure 7: about 350 on H100. Shah et al. 2024: 600-650 at 2k.
    let near = |value: f64, published: f64| (value / published).ln().abs() < 0.15;
    assert!(near(throughput("A100-SXM-80GB", AttentionAlgorithm::Flash2), 215.0));
    assert!(near(throughput("H100-SXM-80GB", AttentionAlgorithm::Flash2), 350.0));
    assert!(near(throughput("H100-SXM-80GB", AttentionAlgorithm::Flash3), 620.0));
}

#[test]
fn scores_in_memory_cost_several_times_a_fused_kernel() {
    let fused = time("A100-SXM-80GB", long(AttentionAlgorithm::Flash2));
    let kept = time("A100-SXM-80GB", long(AttentionAlgorithm::Materialised { softmax_passes: 5 }));
    assert!(kept > 2.0 * fused && kept < 10.0 * fused, "{kept} {fused}");
}

#[test]
fn a_causal_mask_halves_a_fused_kernel_and_not_a_materialised_one() {
    let ratio = |algorithm| {
        let dense = time("A100-SXM-80GB", long(algorithm));
        time("A100-SXM-80GB", Attention { causal: true, ..long(algorithm) }) / dense
    };
    assert!((ratio(AttentionAlgorithm::Flash2) - 0.5).abs() < 0.05);
    assert!((ratio(AttentionAlgorithm::Materialised { softmax_passes: 2 }) - 1.0).abs() < 1e-9);
}

#[test]
fn decoding_reads_the_cache_once_for_each_group_of_heads() {
    let decode = |kv_heads| {
        let one = Attention {
            batch: 64,
            heads: 32,
            kv_heads,
            query_len: 1,
            causal: true,
            ..long(AttentionAlgorithm::Flash2)
        };
        time("A100-SXM-80GB", one)
    };
    let bytes = 2.0 * 2.0 * 64.0 * 32.0 * 2048.0 * 128.0;
    let streamed = bytes / gpu("A100-SXM-80GB").memory_bandwidth();
    assert!(decode(32) > streamed && decode(32) < 1.6 * streamed, "{} {streamed}", decode(32));
    assert!(decode(8) < 0.35 * decode(32));
}

#[test]
fn the_backward_pass_takes_two_to_four_times_as_long() {
    for algorithm in [AttentionAlgorithm::Flash1, AttentionAlgorithm::Flash2] {
        let forward = time("A100-SXM-80GB", long(algorithm));
        let backward = time("A100-SXM-80GB", Attention { pass: Pass::Backward, ..long(algorithm) });
        assert!(backward > 2.0 * forward && backward < 4.0 * forward, "{algorithm:?}");
    }
}
