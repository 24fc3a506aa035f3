//! What a framework keeps in memory: traits of its code, and a few named constants.

use serde::Serialize;

use crate::estimate::Precision;

/// Where the 32-bit weights of 16-bit training live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Master {
    /// In the optimizer, beside the 16-bit weights of the passes (Megatron, DeepSpeed, apex O2).
    Separate,
    /// The weights are 32-bit and cast for each product (`torch.autocast`, FSDP's mixed precision): 32-bit gradients.
    InPlace,
    /// There are none: everything is 16-bit.
    Absent,
}

/// Modules of a layer whose outputs are dropped and computed again, each on its own (Megatron-Core's
/// `--recompute-modules`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct Recomputed {
    /// Norms.
    pub norms: bool,
    /// The function between the feed-forward products.
    pub activations: bool,
    /// The feed-forward layer, from its input.
    pub feed_forward: bool,
}

impl Recomputed {
    /// None.
    pub const NOTHING: Self = Self { norms: false, activations: false, feed_forward: false };
}

/// Memory traits of a training framework. A trait is a fact of the framework's code, or a constant with its unit;
/// [`Keeping::source`] says where the constants come from.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Keeping {
    /// Name.
    pub name: &'static str,
    /// Whether training drops out residuals and attention: masks of a byte an element are kept, and of scores that are
    /// written to memory the softmax, a mask and the dropped product.
    pub dropout: bool,
    /// Modules of a layer that are computed again on their own.
    pub recomputed: Recomputed,
    /// Whether fused attention works on another order of axes than the layers do, so that its output is kept twice when
    /// there is more than one sample (FlashAttention 2 in Transformer Engine).
    pub copies_fused_output: bool,
    /// Bytes of a score that is written to memory which its softmax keeps for its own backward pass: those of the type of the
    /// passes, or 4 where it is taken in 32 bits.
    pub softmax_bytes: f64,
    /// 16-bit numbers that the activation of a feed-forward layer without gate keeps, besides its result: its input, where it
    /// is one kernel; every factor and argument, where it is written out in operators.
    pub activation_values: f64,
    /// Numbers of the hidden width that a token of a mixture of experts keeps: on each rank that one of its experts lies on,
    /// and on the rank that it comes from, besides the input and output of its norm.
    pub token_rows: [f64; 2],
    /// Bytes of a logit and its gradients at the peak of the loss in 16-bit training: 4 of the 32-bit logits that become
    /// the softmax in place, and 2 of the 16-bit ones.
    pub loss_bytes_per_logit: f64,
    /// The vocabulary is padded to a multiple of this times the tensor-parallel ranks.
    pub vocabulary_multiple: u64,
    /// Where 32-bit weights live.
    pub master: Master,
    /// Bytes of a gradient of a bf16 weight.
    pub bf16_gradient_bytes: f64,
    /// Bytes of a gradient of an f16 weight.
    pub f16_gradient_bytes: f64,
    /// Whether the optimizer's step copies 16-bit gradients to 32 bits.
    pub casts_gradients: bool,
    /// Bytes of gradients in communication buckets, a byte of gradient (1 where they are copied into buckets).
    pub bucket_share: f64,
    /// Bytes of communication buckets of fixed size.
    pub bucket_bytes: f64,
    /// Messages of a pipeline rank that exist at once, of the size of a layer's output: an activation and a gradient, each
    /// on its way in and out.
    pub pipeline_messages: f64,
    /// Workspaces of libraries, bytes.
    pub workspace_bytes: f64,
    /// Numbers that are gathered at once at most where every rank owns a shard of the weights; no bound where absent.
    pub live_numbers: Option<f64>,
    /// Bytes that the allocator cannot do without for a byte in tensors: sizes are rounded up and blocks are split.
    pub fragmentation: f64,
    /// Bytes that the allocator holds in the end for a byte in tensors at the peak: blocks that are free, which it gives
    /// back before it runs out.
    pub cached: f64,
    /// Bytes that the driver counts besides the allocator's: context, kernels, communication library.
    pub context_bytes: f64,
    /// Where the constants come from.
    pub source: &'static str,
}

const MIB: f64 = 1_048_576.0;

impl Keeping {
    /// [`Keeping::token_rows`] where tokens are sorted by their experts, sent, gathered and put together again, with copies:
    /// the input of the first product and what is left of the output; all others. Fitted by a search on a grid on the drawn
    /// rows with experts of `megatron_ci_golden` and `megatron_ci_golden_tiny`.
    pub const COPIED_TOKENS: [f64; 2] = [1.5, 6.0];
    /// The same where kernels send tokens from where they lie and put them together on arrival (DeepEP): the input of the first
    /// product, and the sum of what the experts made.
    pub const FORWARDED_TOKENS: [f64; 2] = [1.0, 1.0];

    /// Megatron-Core with Transformer Engine's layers.
    ///
    /// Workspaces: cuBLAS has one for each host thread, of the forward and of the backward pass (8.1 MiB by default before
    /// Hopper), Transformer Engine one of 4 MiB (32 MiB from Hopper on).
    pub const MEGATRON_CORE: Self = Self {
        name: "Megatron-Core",
        dropout: false,
        recomputed: Recomputed::NOTHING,
        copies_fused_output: true,
        softmax_bytes: 2.0,
        activation_values: 1.0,
        token_rows: Self::COPIED_TOKENS,
        loss_bytes_per_logit: 6.0,
        vocabulary_multiple: 128,
        master: Master::Separate,
        bf16_gradient_bytes: 4.0,
        f16_gradient_bytes: 2.0,
        casts_gradients: true,
        bucket_share: 0.0,
        bucket_bytes: 0.0,
        pipeline_messages: 4.0,
        workspace_bytes: 2.0 * 8.125 * MIB + 4.0 * MIB,
        live_numbers: None,
        fragmentation: 1.03,
        cached: 1.06,
        context_bytes: 600.0 * MIB,
        source: "facts of the code; fragmentation and context assumed",
    };

    /// Megatron-LM before its core: dropout; the loss does not work in place, so that 32-bit logits and their exponentials
    /// exist at once.
    pub const MEGATRON_LM: Self = Self {
        name: "Megatron-LM",
        dropout: true,
        copies_fused_output: false,
        loss_bytes_per_logit: 10.0,
        ..Self::MEGATRON_CORE
    };

    /// DeepSpeed's engine: 16-bit gradients; of sharded weights at most 1e9 numbers are whole at once (its default
    /// `stage3_max_live_parameters`).
    pub const DEEPSPEED: Self = Self {
        name: "DeepSpeed",
        bf16_gradient_bytes: 2.0,
        vocabulary_multiple: 1,
        live_numbers: Some(1e9),
        ..Self::MEGATRON_LM
    };

    /// PyTorch FSDP with mixed precision: 32-bit shards, 16-bit whole units, no dropout; a fused loss reads 16-bit logits
    /// and writes their gradients in their place (llm-foundry).
    pub const PYTORCH_FSDP: Self = Self {
        name: "PyTorch FSDP",
        dropout: false,
        copies_fused_output: false,
        loss_bytes_per_logit: 6.0,
        vocabulary_multiple: 1,
        master: Master::InPlace,
        bf16_gradient_bytes: 4.0,
        f16_gradient_bytes: 4.0,
        casts_gradients: false,
        ..Self::MEGATRON_CORE
    };

    /// PyTorch DDP, eager, with autocast: gradients are copied into buckets; the loss keeps 32-bit logits, their logarithms
    /// of the softmax, and a gradient.
    pub const PYTORCH_DDP: Self = Self {
        name: "PyTorch DDP",
        dropout: true,
        loss_bytes_per_logit: 10.0,
        bucket_share: 1.0,
        pipeline_messages: 2.0,
        ..Self::PYTORCH_FSDP
    };

    /// The accounting of papers: state and activations, no workspaces, no loss, no messages (Rajbhandari et al. 2020;
    /// Korthikanti et al. 2022).
    pub const PAPER: Self = Self {
        name: "paper accounting",
        dropout: true,
        recomputed: Recomputed::NOTHING,
        copies_fused_output: false,
        softmax_bytes: 2.0,
        activation_values: 1.0,
        token_rows: Self::COPIED_TOKENS,
        loss_bytes_per_logit: 0.0,
        vocabulary_multiple: 1,
        master: Master::Separate,
        bf16_gradient_bytes: 2.0,
        f16_gradient_bytes: 2.0,
        casts_gradients: false,
        bucket_share: 0.0,
        bucket_bytes: 0.0,
        pipeline_messages: 0.0,
        workspace_bytes: 0.0,
        live_numbers: None,
        fragmentation: 1.0,
        cached: 1.0,
        context_bytes: 0.0,
        source: "definition",
    };

    /// Bytes of a gradient.
    pub const fn gradient_bytes(&self, precision: Precision) -> f64 {
        match (precision, self.master) {
            (Precision::F32 | Precision::Tf32, _) | (_, Master::InPlace) => 4.0,
            (_, Master::Absent) => 2.0,
            (Precision::AmpF16, Master::Separate) => self.f16_gradient_bytes,
            (Precision::Bf16 | Precision::Fp8, Master::Separate) => self.bf16_gradient_bytes,
        }
    }

    /// The vocabulary as it is stored.
    pub const fn padded_vocabulary(&self, vocabulary: u64, tp: u64) -> u64 {
        let multiple = self.vocabulary_multiple.saturating_mul(tp);
        if multiple == 0 { vocabulary } else { vocabulary.div_ceil(multiple).saturating_mul(multiple) }
    }
}
