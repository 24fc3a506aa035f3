//! Decoders to start from: the defaults of `transformers` for each architecture, where it has them.

use cutplane_graph::{ActivationKind, AttentionInput, AttentionKernel, Rotary, RotaryScaling};

use super::Norm;
use super::decoder::{BlockForm, Decoder, Positions};
use super::dialect::Dialect;
use super::feed_forward::Experts;

/// Rotation of `dims` features as Llama has it.
pub(crate) const fn rotary(base: f64, dims: u64) -> Positions {
    Positions::Rotary(Rotary { base, dims, interleaved: false, scaling: RotaryScaling::None })
}

impl Decoder {
    /// GPT-2 small (Radford et al. 2019): 124 M parameters.
    pub fn gpt2() -> Self {
        Self {
            name: "gpt2".to_owned(),
            dialect: Dialect::Gpt2,
            layers: 12,
            hidden: 768,
            heads: 12,
            kv_heads: 0,
            head_dim: None,
            ffn_hidden: 3072,
            vocab: 50_257,
            context: 1024,
            positions: Positions::Learned { offset: 0 },
            norm: Norm::Layer { eps: 1e-5 },
            block: BlockForm::PreNorm,
            final_norm: true,
            activation: ActivationKind::GeluTanh,
            gated: false,
            qkv_bias: true,
            output_bias: true,
            ffn_bias: true,
            head_bias: false,
            tied: true,
            packing: AttentionInput::Packed,
            qk_norm: None,
            window: None,
            experts: None,
            embedding_scale: None,
            embedding_width: None,
            kernel: AttentionKernel::Materialised,
            init_std: 0.02,
        }
    }

    /// GPT-1 (Radford et al. 2018): norms after the sums, no norm at the end.
    pub fn gpt1() -> Self {
        Self {
            name: "gpt1".to_owned(),
            dialect: Dialect::Gpt1,
            vocab: 40_478,
            context: 512,
            block: BlockForm::PostNorm,
            final_norm: false,
            ..Self::gpt2()
        }
    }

    /// Llama (Touvron et al. 2023) of 7 B parameters: root-mean-square norms, SwiGLU, rotary positions, no biases.
    pub fn llama() -> Self {
        Self {
            name: "llama".to_owned(),
            dialect: Dialect::Llama,
            layers: 32,
            hidden: 4096,
            heads: 32,
            ffn_hidden: 11_008,
            vocab: 32_000,
            context: 2048,
            positions: rotary(10_000.0, 128),
            norm: Norm::Rms { eps: 1e-6 },
            activation: ActivationKind::Silu,
            gated: true,
            qkv_bias: false,
            output_bias: false,
            ffn_bias: false,
            tied: false,
            packing: AttentionInput::Separate,
            ..Self::gpt2()
        }
    }

    /// Mistral 7B (Jiang et al. 2023).
    pub fn mistral() -> Self {
        Self {
            name: "mistral".to_owned(),
            kv_heads: 8,
            ffn_hidden: 14_336,
            context: 131_072,
            window: Some(4096),
            ..Self::llama()
        }
    }

    /// Mixtral 8x7B (Jiang et al. 2024).
    pub fn mixtral() -> Self {
        Self {
            name: "mixtral".to_owned(),
            dialect: Dialect::Mixtral,
            positions: rotary(1e6, 128),
            norm: Norm::Rms { eps: 1e-5 },
            window: None,
            experts: Some(Experts { count: 8, top_k: 2, capacity_factor: None, normalised: true }),
            ..Self::mistral()
        }
    }

    /// Qwen2 (Yang et al. 2024): Llama with biases of query, key and value.
    pub fn qwen2() -> Self {
        Self {
            name: "qwen2".to_owned(),
            qkv_bias: true,
            ffn_hidden: 22_016,
            vocab: 151_936,
            context: 32_768,
            ..Self::llama()
        }
    }

    /// Qwen3 (Yang et al. 2025): norms of each head's queries and keys in place of the biases.
    pub fn qwen3() -> Self {
        Self { name: "qwen3".to_owned(), qkv_bias: false, head_dim: Some(128), qk_norm: Some(1e-6), ..Self::qwen2() }
    }

    /// Gemma 7B (Gemma Team 2024): heads wider than the stream, GeGLU, scaled and tied embedding.
    pub fn gemma() -> Self {
        Self {
            name: "gemma".to_owned(),
            layers: 28,
            hidden: 3072,
            heads: 16,
            kv_heads: 16,
            head_dim: Some(256),
            ffn_hidden: 24_576,
            vocab: 256_000,
            context: 8192,
            positions: rotary(10_000.0, 256),
            norm: Norm::RmsUnitOffset { eps: 1e-6 },
            activation: ActivationKind::GeluTanh,
            tied: true,
            embedding_scale: Some(3072f64.sqrt()),
            ..Self::llama()
        }
    }

    /// OPT-125M (Zhang et al. 2022).
    pub fn opt() -> Self {
        Self {
            name: "opt".to_owned(),
            dialect: Dialect::Opt,
            vocab: 50_272,
            context: 2048,
            positions: Positions::Learned { offset: 2 },
            activation: ActivationKind::Relu,
            packing: AttentionInput::Separate,
            ..Self::gpt2()
        }
    }

    /// GPT-NeoX-20B (Black et al. 2022): a quarter of each head rotated, both parts of a block in parallel.
    pub fn gpt_neox() -> Self {
        Self {
            name: "gpt_neox".to_owned(),
            dialect: Dialect::GptNeoX,
            layers: 44,
            hidden: 6144,
            heads: 64,
            ffn_hidden: 24_576,
            vocab: 50_432,
            context: 2048,
            positions: rotary(10_000.0, 24),
            block: BlockForm::ParallelTwoNorms,
            activation: ActivationKind::Gelu,
            tied: false,
            packing: AttentionInput::PackedByGroup,
            ..Self::gpt2()
        }
    }

    /// Phi-1 and Phi-1.5 (Li et al. 2023): half of each head rotated, one norm a block, biases everywhere.
    pub fn phi() -> Self {
        Self {
            name: "phi".to_owned(),
            dialect: Dialect::Phi,
            layers: 24,
            hidden: 2048,
            heads: 32,
            ffn_hidden: 8192,
            vocab: 51_200,
            context: 2048,
            positions: rotary(10_000.0, 32),
            block: BlockForm::Parallel,
            head_bias: true,
            tied: false,
            packing: AttentionInput::Separate,
            ..Self::gpt2()
        }
    }

    /// Falcon-7B (Almazrouei et al. 2023): one head of keys, no biases.
    pub fn falcon() -> Self {
        Self {
            name: "falcon".to_owned(),
            dialect: Dialect::Falcon,
            layers: 32,
            hidden: 4544,
            heads: 71,
            kv_heads: 1,
            ffn_hidden: 18_176,
            vocab: 65_024,
            context: 2048,
            positions: rotary(10_000.0, 64),
            block: BlockForm::Parallel,
            activation: ActivationKind::Gelu,
            qkv_bias: false,
            output_bias: false,
            ffn_bias: false,
            packing: AttentionInput::PackedByGroup,
            ..Self::gpt2()
        }
    }

    /// MPT (MosaicML 2023) of 1.3 B parameters: ALiBi, no biases at all.
    pub fn mpt() -> Self {
        Self {
            name: "mpt".to_owned(),
            dialect: Dialect::Mpt,
            layers: 24,
            hidden: 2048,
            heads: 16,
            ffn_hidden: 8192,
            vocab: 50_368,
            context: 2048,
            positions: Positions::Alibi { max_bias: 8.0 },
            norm: Norm::LayerWithoutBias { eps: 1e-5 },
            activation: ActivationKind::Gelu,
            qkv_bias: false,
            output_bias: false,
            ffn_bias: false,
            ..Self::gpt2()
        }
    }
}
