//! What a row's software keeps in memory.

use cutplane_graph::{Architecture, DeviceSpec};
use cutplane_sim::footprint::{Keeping, Master, Recomputed};

use super::recipe::Recipe;
use crate::parse::{self, SoftwareFamily};
use crate::row::Row;
use crate::training_rows::language::reduces_narrow_gradients;

const MIB: f64 = 1_048_576.0;
/// cuBLAS's workspace for a host thread in deterministic runs (`:4096:8`), and by default on Hopper.
const LARGE_WORKSPACE: f64 = 32.0 * MIB;
/// cuBLAS's default workspace for a host thread on other devices (`:4096:2:16:8`).
const USUAL_WORKSPACE: f64 = 8.125 * MIB;
/// Streams that each thread multiplies on in Megatron's own layers, which overlap collectives with products by hand.
const LOCAL_STREAMS: f64 = 2.0;
/// Streams of products that overlap the collectives of tensor parallelism in Transformer Engine.
const OVERLAP_STREAMS: f64 = 3.0;
/// Host threads that multiply: of the forward and of the backward pass.
const THREADS: f64 = 2.0;
/// Bytes that InternEvo's allocator holds for a byte at the peak; fitted to the drawn rows with memory of
/// `internevo_7b_a100`.
const INTERNEVO_CACHED: f64 = 1.45;
/// Bytes of a logit at the peak of a fused loss.
const FUSED_LOSS: f64 = 10.0;

/// Bytes of a logit at the peak of the loss of Megatron-LM 1: 16-bit logits, their 32-bit form, its copy, and the exponentials.
const COPYING_LOSS: f64 = 14.0;

/// 16-bit numbers that a GELU keeps which is written as `x * 0.5 * (1.0 + erf(x / sqrt(2.0)))`: both factors, and the argument
/// of erf.
const WRITTEN_GELU: f64 = 3.0;

/// The reference code of BERT in PyTorch writes its GELU out in operators (until 2020 in Hugging Face's transformers and what
/// came of it).
fn writes_gelu_out(row: &Row, recipe: &Recipe) -> bool {
    let encoder = row.model.to_ascii_lowercase().contains("bert");
    let early = row.date.get(..4).and_then(|year| year.parse::<u32>().ok()).is_some_and(|year| year <= 2020);
    encoder && early && matches!(recipe.family, SoftwareFamily::Pytorch)
}

/// Megatron-LM before its second version copies the logits that its loss works on (`vocab_parallel_logits.clone()`), and
/// takes the softmax of scores in 32 bits unless its fused kernel is asked for.
fn is_first_megatron(row: &Row) -> bool {
    let lower = row.framework.to_ascii_lowercase();
    let version = lower.split_once("megatron-lm v").map(|(_, version)| version);
    version.is_some_and(|version| version.starts_with("1.") || version.starts_with("0."))
}

/// The habits of a row's software on its device.
pub(super) fn habits(row: &Row, recipe: &Recipe, device: &DeviceSpec) -> Keeping {
    let keeping = Keeping { recomputed: recomputed(row), ..by_family(recipe.family, row) };
    let keeping = Keeping {
        loss_bytes_per_logit: if is_first_megatron(row) { COPYING_LOSS } else { keeping.loss_bytes_per_logit },
        softmax_bytes: if is_first_megatron(row) { 4.0 } else { keeping.softmax_bytes },
        bf16_gradient_bytes: if reduces_narrow_gradients(row) { 2.0 } else { keeping.bf16_gradient_bytes },
        activation_values: if writes_gelu_out(row, recipe) { WRITTEN_GELU } else { keeping.activation_values },
        token_rows: if recipe.says(&["deepep"]) { Keeping::FORWARDED_TOKENS } else { keeping.token_rows },
        ..keeping
    };
    if recipe.family != SoftwareFamily::MegatronCore {
        return keeping;
    }
    let defaults = recipe.is_functional_test || (recipe.is_release_run && recipe.says(&["bert", "t5"]));
    let fused_loss = recipe.says(&["cross_entropy_loss_fusion", "cross-entropy-loss-fusion"]);
    // Release recipes that are tuned for GB200 fuse the loss.
    let fused_loss = fused_loss || (recipe.is_release_run && recipe.names(&["gb200", "gb_200"]));
    Keeping {
        dropout: defaults,
        copies_fused_output: copies_output(row, recipe, device),
        loss_bytes_per_logit: if fused_loss { FUSED_LOSS } else { keeping.loss_bytes_per_logit },
        workspace_bytes: workspaces(row, recipe, device),
        ..keeping
    }
}

fn by_family(family: SoftwareFamily, row: &Row) -> Keeping {
    let autocast = parse::precision(&row.precision).ok().flatten().is_some_and(|precision| precision.autocast);
    let pure = parse::precision(&row.precision).ok().flatten().is_some_and(|precision| precision.pure);
    let plain = match family {
        SoftwareFamily::MegatronCore => Keeping::MEGATRON_CORE,
        SoftwareFamily::MegatronLm => Keeping::MEGATRON_LM,
        SoftwareFamily::MegatronDeepSpeed | SoftwareFamily::DeepSpeed | SoftwareFamily::ColossalAi => {
            Keeping::DEEPSPEED
        }
        SoftwareFamily::InternEvo => {
            Keeping { dropout: false, loss_bytes_per_logit: 10.0, cached: INTERNEVO_CACHED, ..Keeping::DEEPSPEED }
        }
        SoftwareFamily::PytorchFsdp | SoftwareFamily::Jax => Keeping::PYTORCH_FSDP,
        _ => Keeping::PYTORCH_DDP,
    };
    match () {
        () if pure && plain.master == Master::InPlace => Keeping { name: "PyTorch, 16-bit only", ..plain },
        () if autocast => Keeping { master: Master::InPlace, ..plain },
        () => plain,
    }
}

/// Modules that the row says are recomputed on their own.
fn recomputed(row: &Row) -> Recomputed {
    let Ok(Some(parse::Recompute::Modules(modules))) = parse::recompute(&row.recompute) else {
        return Recomputed::NOTHING;
    };
    let any = |words: &[&str]| modules.iter().any(|module| words.contains(&module.as_str()));
    Recomputed {
        norms: any(&["norm", "layernorm"]),
        activations: any(&["act", "moe_act", "activation"]),
        feed_forward: any(&["mlp", "moe"]),
    }
}

fn architecture(device: &DeviceSpec) -> Option<Architecture> {
    device.accelerator.as_ref().map(|facts| facts.architecture)
}

/// Fused attention of Transformer Engine is FlashAttention 2 before Hopper, and after it in deterministic runs: cuDNN's
/// kernels take the layers' own order of axes.
fn copies_output(row: &Row, recipe: &Recipe, device: &DeviceSpec) -> bool {
    match architecture(device) {
        Some(Architecture::Hopper) => false,
        Some(Architecture::Blackwell) => recipe.is_deterministic(row),
        _ => true,
    }
}

fn workspaces(row: &Row, recipe: &Recipe, device: &DeviceSpec) -> f64 {
    let hopper = architecture(device) == Some(Architecture::Hopper);
    let later = hopper || architecture(device) == Some(Architecture::Blackwell);
    let each = if hopper || recipe.is_deterministic(row) { LARGE_WORKSPACE } else { USUAL_WORKSPACE };
    let engine = if later { LARGE_WORKSPACE } else { 4.0 * MIB };
    // Products that overlap their communication run on streams with a workspace each.
    let streams = if recipe.names(&["tp_overlap", "tp_comm_overlap"]) { OVERLAP_STREAMS } else { 1.0 };
    if recipe.has_local_layers() {
        return LOCAL_STREAMS * THREADS * each;
    }
    THREADS * each + streams * engine
}
