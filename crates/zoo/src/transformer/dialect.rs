//! Module and parameter names of the architectures, as their Hugging Face checkpoints have them.

use cutplane_graph::WeightLayout;

/// Whose names a decoder's modules have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// `openai-gpt`: GPT-1.
    Gpt1,
    /// `gpt2`.
    Gpt2,
    /// `gpt_neox`: GPT-NeoX, Pythia.
    GptNeoX,
    /// `opt`.
    Opt,
    /// `llama`, `mistral`, `qwen2`, `qwen3`, `gemma`.
    Llama,
    /// `mixtral`.
    Mixtral,
    /// `phi`.
    Phi,
    /// `falcon`.
    Falcon,
    /// `mpt`.
    Mpt,
}

/// Names of one architecture. Names of a block's parts are below `block.{layer}`.
pub(crate) struct Names {
    pub(crate) embedding: &'static str,
    pub(crate) positions: &'static str,
    pub(crate) block: &'static str,
    pub(crate) norm_1: &'static str,
    pub(crate) norm_2: &'static str,
    /// Of a block whose two parts run in parallel, each after its own norm.
    pub(crate) parallel_norms: [&'static str; 2],
    pub(crate) attention: &'static str,
    pub(crate) qkv: &'static str,
    /// Query, key, value.
    pub(crate) projections: [&'static str; 3],
    pub(crate) output: &'static str,
    /// The module of the feed-forward layers, for their operators without parameters.
    pub(crate) ffn: &'static str,
    pub(crate) gate: &'static str,
    pub(crate) up: &'static str,
    pub(crate) down: &'static str,
    pub(crate) final_norm: &'static str,
    pub(crate) head: &'static str,
    /// Fields of a config: hidden size, heads, positions.
    pub(crate) fields: [&'static str; 3],
    pub(crate) layout: WeightLayout,
}

const MODERN_FIELDS: [&str; 3] = ["hidden_size", "num_attention_heads", "max_position_embeddings"];
const GPT_FIELDS: [&str; 3] = ["n_embd", "n_head", "n_positions"];

static GPT2: Names = Names {
    embedding: "wte",
    positions: "wpe",
    block: "h",
    norm_1: "ln_1",
    norm_2: "ln_2",
    parallel_norms: ["ln_1", "ln_2"],
    attention: "attn",
    qkv: "attn.c_attn",
    projections: ["attn.q", "attn.k", "attn.v"],
    output: "attn.c_proj",
    ffn: "mlp",
    gate: "mlp.c_gate",
    up: "mlp.c_fc",
    down: "mlp.c_proj",
    final_norm: "ln_f",
    head: "lm_head",
    fields: GPT_FIELDS,
    layout: WeightLayout::InOut,
};

static GPT1: Names = Names { embedding: "tokens_embed", positions: "positions_embed", ..GPT2 };

static LLAMA: Names = Names {
    embedding: "model.embed_tokens",
    positions: "model.embed_positions",
    block: "model.layers",
    norm_1: "input_layernorm",
    norm_2: "post_attention_layernorm",
    parallel_norms: ["input_layernorm", "post_attention_layernorm"],
    attention: "self_attn",
    qkv: "self_attn.qkv_proj",
    projections: ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
    output: "self_attn.o_proj",
    ffn: "mlp",
    gate: "mlp.gate_proj",
    up: "mlp.up_proj",
    down: "mlp.down_proj",
    final_norm: "model.norm",
    head: "lm_head",
    fields: MODERN_FIELDS,
    layout: WeightLayout::OutIn,
};

static MIXTRAL: Names = Names { ffn: "block_sparse_moe", gate: "w1", up: "w3", down: "w2", ..LLAMA };

static PHI: Names =
    Names { output: "self_attn.dense", up: "mlp.fc1", down: "mlp.fc2", final_norm: "model.final_layernorm", ..LLAMA };

static OPT: Names = Names {
    embedding: "model.decoder.embed_tokens",
    positions: "model.decoder.embed_positions",
    block: "model.decoder.layers",
    norm_1: "self_attn_layer_norm",
    norm_2: "final_layer_norm",
    output: "self_attn.out_proj",
    up: "fc1",
    down: "fc2",
    final_norm: "model.decoder.final_layer_norm",
    ..LLAMA
};

static GPT_NEOX: Names = Names {
    embedding: "gpt_neox.embed_in",
    block: "gpt_neox.layers",
    attention: "attention",
    qkv: "attention.query_key_value",
    output: "attention.dense",
    up: "mlp.dense_h_to_4h",
    down: "mlp.dense_4h_to_h",
    final_norm: "gpt_neox.final_layer_norm",
    head: "embed_out",
    ..LLAMA
};

static FALCON: Names = Names {
    embedding: "transformer.word_embeddings",
    block: "transformer.h",
    parallel_norms: ["ln_attn", "ln_mlp"],
    attention: "self_attention",
    qkv: "self_attention.query_key_value",
    output: "self_attention.dense",
    up: "mlp.dense_h_to_4h",
    down: "mlp.dense_4h_to_h",
    final_norm: "transformer.ln_f",
    ..LLAMA
};

static MPT: Names = Names {
    embedding: "transformer.wte",
    positions: "transformer.wpe",
    block: "transformer.blocks",
    norm_1: "norm_1",
    norm_2: "norm_2",
    attention: "attn",
    qkv: "attn.Wqkv",
    output: "attn.out_proj",
    ffn: "ffn",
    up: "ffn.up_proj",
    down: "ffn.down_proj",
    final_norm: "transformer.norm_f",
    fields: ["d_model", "n_heads", "max_seq_len"],
    ..LLAMA
};

impl Dialect {
    pub(crate) fn names(self) -> &'static Names {
        match self {
            Self::Gpt1 => &GPT1,
            Self::Gpt2 => &GPT2,
            Self::GptNeoX => &GPT_NEOX,
            Self::Opt => &OPT,
            Self::Llama => &LLAMA,
            Self::Mixtral => &MIXTRAL,
            Self::Phi => &PHI,
            Self::Falcon => &FALCON,
            Self::Mpt => &MPT,
        }
    }
}
