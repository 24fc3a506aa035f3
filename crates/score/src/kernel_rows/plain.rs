//! Products and attention in the notations that benchmarks usually write: `M=4096 N=4096 K=4096`, `4096x4096x4096`,
//! `[4096, 512] x [512, 4096]`, `batch=4 seqlen=2048 heads=16 head_dim=64 causal`.

use cutplane_graph::Pass;
use cutplane_sim::kernel::{Attention, AttentionAlgorithm, Kernel};

use super::fields::number;
use super::{Asked, KernelQuestion, time_asked};
use crate::prediction::Skip;

/// Passes over materialised scores where they are masked and normalised by one kernel each.
const SOFTMAX_PASSES: u32 = 4;

/// The kernel of a row and what its metric says; `None` for a row in no such notation.
pub(super) fn read(question: &KernelQuestion<'_>) -> Option<Result<(Vec<Kernel>, Asked), Skip>> {
    let op = question.op.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| op.contains(word));
    let (kernel, flops) = match () {
        () if says(&["gemm", "matmul", "matrix mul", "linear"]) || ["mm", "bmm"].contains(&op.as_str()) => {
            product(question)?
        }
        () if says(&["attention", "attn_core", "sdpa", "fmha"]) => attention(question, &op)?,
        () => return None,
    };
    Some(asked(question, flops).map(|asked| (vec![kernel], asked)))
}

/// A time, or work over time.
fn asked(question: &KernelQuestion<'_>, flops: f64) -> Result<Asked, Skip> {
    let unit = match question.unit.to_ascii_lowercase().trim_end_matches("/gpu") {
        "gflop/s" | "gflops" => 1e9,
        "tflop/s" | "tflops" | "teraflop/s" | "teraflops" => 1e12,
        "pflop/s" | "pflops" => 1e15,
        _ => return time_asked(question),
    };
    let best_of_search = question.metric.to_ascii_lowercase().contains("max");
    Ok(Asked::Throughput { flops, unit, best_of_search })
}

fn product(question: &KernelQuestion<'_>) -> Option<(Kernel, f64)> {
    let text = spaced(question.model);
    let named = |name| number(&text, name).filter(|extent| *extent > 0);
    let batch = ["batch", "b"].into_iter().find_map(named).unwrap_or(1);
    let (batch, [m, n, k]) = match (named("m"), named("n"), named("k")) {
        (Some(m), Some(n), Some(k)) => (batch, [m, n, k]),
        _ => (1, extents(question.model)?),
    };
    Some((Kernel::Matmul { m, n, k, batch }, 2.0 * batch as f64 * m as f64 * n as f64 * k as f64))
}

/// Three extents as rows, columns and inner one, or two matrices whose inner extents agree.
fn extents(text: &str) -> Option<[u64; 3]> {
    let only_shapes = text.chars().all(|letter| letter.is_ascii_digit() || " xX*,[]()\u{d7}".contains(letter));
    let numbers: Vec<u64> = text
        .split(|letter: char| !letter.is_ascii_digit())
        .filter_map(|part| part.parse().ok())
        .filter(|extent| *extent > 0)
        .collect();
    match numbers[..] {
        [m, n, k] if only_shapes => Some([m, n, k]),
        [m, k, inner, n] if only_shapes && k == inner => Some([m, n, k]),
        _ => None,
    }
}

fn attention(question: &KernelQuestion<'_>, op: &str) -> Option<(Kernel, f64)> {
    let text = spaced(question.model);
    let any = |names: &[&str]| names.iter().find_map(|name| number(&text, name)).filter(|extent| *extent > 0);
    let sequence = any(&["seqlen", "seq_len", "seq", "sequence", "s", "q"]).or(question.tokens)?;
    let heads = any(&["heads", "nheads", "num_heads", "nh", "h"]).or(question.heads)?;
    let head_dim = any(&["head_dim", "headdim", "hdim", "hd", "d"]).or_else(|| Some(question.hidden? / heads))?;
    let batch = any(&["batch", "batch_size", "bs", "b"]).unwrap_or(1);
    let described = format!("{} {} {}", question.model, question.notes, op).to_ascii_lowercase();
    let causal =
        described.contains("causal") && !described.contains("non-causal") && !described.contains("causal=false");
    let backward = described.contains("backward") || described.contains("bwd");
    let algorithm = match () {
        () if described.contains("flash") && described.contains('3') && described.contains("attention-3") => {
            AttentionAlgorithm::Flash3
        }
        () if described.contains("flash") || described.contains("fmha") || described.contains("sdpa") => {
            AttentionAlgorithm::Flash2
        }
        () => AttentionAlgorithm::Materialised { softmax_passes: SOFTMAX_PASSES },
    };
    let attention = Attention {
        batch,
        heads,
        kv_heads: any(&["kv_heads", "num_kv_heads", "nkv"]).or(question.kv_heads).unwrap_or(heads),
        query_len: sequence,
        key_len: sequence,
        head_dim: head_dim.max(1),
        causal,
        algorithm,
        pass: if backward { Pass::Backward } else { Pass::Forward },
    };
    // As FlashAttention's benchmarks count: half with a causal mask, two and a half times in the backward pass.
    let forward = 4.0 * (batch * heads) as f64 * (sequence * sequence) as f64 * head_dim as f64;
    let flops = forward * if causal { 0.5 } else { 1.0 } * if backward { 2.5 } else { 1.0 };
    Some((Kernel::Attention(attention), flops))
}

/// `m=1,n=2` as words.
fn spaced(text: &str) -> String {
    text.replace([',', ';'], " ")
}
