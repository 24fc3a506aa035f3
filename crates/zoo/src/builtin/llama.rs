//! Llama, Mistral, Mixtral, Qwen and Gemma.

use cutplane_graph::{Rotary, RotaryScaling};

use super::{BuiltInModel, llama};
use crate::transformer::{Decoder, Experts, Norm, Positions};

/// A Llama: layers, hidden size, feed-forward width, heads, key heads.
fn sized([layers, hidden, ffn_hidden, heads, kv_heads]: [u64; 5]) -> Decoder {
    let rotary = Rotary { base: 10_000.0, dims: hidden / heads, interleaved: false, scaling: RotaryScaling::None };
    Decoder { layers, hidden, ffn_hidden, heads, kv_heads, positions: Positions::Rotary(rotary), ..Decoder::llama() }
}

/// The rotation replaced, with the same features.
fn rotated(decoder: Decoder, base: f64, scaling: RotaryScaling) -> Decoder {
    let rotary = Rotary { base, dims: decoder.head_dim(), interleaved: false, scaling };
    Decoder { positions: Positions::Rotary(rotary), ..decoder }
}

fn llama2(sizes: [u64; 5]) -> Decoder {
    Decoder { context: 4096, norm: Norm::Rms { eps: 1e-5 }, ..sized(sizes) }
}

fn llama3(sizes: [u64; 5]) -> Decoder {
    let wide = Decoder { vocab: 128_256, context: 8192, ..llama2(sizes) };
    rotated(wide, 500_000.0, RotaryScaling::None)
}

/// Llama 3.1: wavelengths stretched to 128 k tokens.
fn llama31(sizes: [u64; 5]) -> Decoder {
    let scaling =
        RotaryScaling::Llama3 { factor: 8.0, low_frequency: 1.0, high_frequency: 4.0, original_positions: 8192 };
    rotated(Decoder { context: 131_072, ..llama3(sizes) }, 500_000.0, scaling)
}

/// Llama 3.2: small and tied.
fn llama32(sizes: [u64; 5]) -> Decoder {
    let scaling =
        RotaryScaling::Llama3 { factor: 32.0, low_frequency: 1.0, high_frequency: 4.0, original_positions: 8192 };
    rotated(Decoder { context: 131_072, tied: true, ..llama3(sizes) }, 500_000.0, scaling)
}

fn mixtral_8x22b() -> Decoder {
    let experts = Some(Experts { count: 8, top_k: 2, capacity_factor: None, normalised: true });
    Decoder {
        layers: 56,
        hidden: 6144,
        ffn_hidden: 16_384,
        heads: 48,
        vocab: 32_768,
        context: 65_536,
        experts,
        ..Decoder::mixtral()
    }
}

fn qwen2([layers, hidden, ffn_hidden, heads, kv_heads]: [u64; 5], vocab: u64, tied: bool) -> Decoder {
    let decoder = Decoder { layers, hidden, heads, kv_heads, ffn_hidden, vocab, tied, ..Decoder::qwen2() };
    rotated(decoder, 1e6, RotaryScaling::None)
}

fn qwen3([layers, hidden, ffn_hidden, heads, kv_heads]: [u64; 5], tied: bool) -> Decoder {
    let decoder = Decoder { layers, hidden, ffn_hidden, heads, kv_heads, tied, context: 40_960, ..Decoder::qwen3() };
    rotated(decoder, 1e6, RotaryScaling::None)
}

fn gemma_2b() -> Decoder {
    let embedding_scale = Some(2048f64.sqrt());
    Decoder { layers: 18, hidden: 2048, ffn_hidden: 16_384, heads: 8, kv_heads: 1, embedding_scale, ..Decoder::gemma() }
}

pub(super) fn models() -> Vec<BuiltInModel> {
    let model = BuiltInModel::new;
    vec![
        model("llama-7b", "Llama 7B", llama(|| sized([32, 4096, 11_008, 32, 32])), 2048, 6_738_415_616),
        model("llama-13b", "Llama 13B", llama(|| sized([40, 5120, 13_824, 40, 40])), 2048, 13_015_864_320),
        model("llama-30b", "Llama 30B", llama(|| sized([60, 6656, 17_920, 52, 52])), 2048, 32_528_943_616),
        model("llama-65b", "Llama 65B", llama(|| sized([80, 8192, 22_016, 64, 64])), 2048, 65_285_660_672),
        model("llama-2-7b", "Llama 2 7B", llama(|| llama2([32, 4096, 11_008, 32, 32])), 4096, 6_738_415_616),
        model("llama-2-13b", "Llama 2 13B", llama(|| llama2([40, 5120, 13_824, 40, 40])), 4096, 13_015_864_320),
        model("llama-2-70b", "Llama 2 70B", llama(|| llama2([80, 8192, 28_672, 64, 8])), 4096, 68_976_648_192),
        model("llama-3-8b", "Llama 3 8B", llama(|| llama3([32, 4096, 14_336, 32, 8])), 8192, 8_030_261_248),
        model("llama-3-70b", "Llama 3 70B", llama(|| llama3([80, 8192, 28_672, 64, 8])), 8192, 70_553_706_496),
        model("llama-3.1-8b", "Llama 3.1 8B", llama(|| llama31([32, 4096, 14_336, 32, 8])), 8192, 8_030_261_248),
        model("llama-3.1-70b", "Llama 3.1 70B", llama(|| llama31([80, 8192, 28_672, 64, 8])), 8192, 70_553_706_496),
        model(
            "llama-3.1-405b",
            "Llama 3.1 405B",
            llama(|| llama31([126, 16_384, 53_248, 128, 8])),
            8192,
            405_853_388_800,
        ),
        model("llama-3.2-1b", "Llama 3.2 1B", llama(|| llama32([16, 2048, 8192, 32, 8])), 8192, 1_235_814_400),
        model("llama-3.2-3b", "Llama 3.2 3B", llama(|| llama32([28, 3072, 8192, 24, 8])), 8192, 3_212_749_824),
        model("mistral-7b", "Mistral 7B", llama(Decoder::mistral), 8192, 7_241_732_096),
        model("mixtral-8x7b", "Mixtral of 8 experts, 2 a token", llama(Decoder::mixtral), 8192, 46_702_792_704),
        model("mixtral-8x22b", "Mixtral of 8 experts, 2 a token", llama(mixtral_8x22b), 8192, 140_630_071_296),
        model("qwen2-0.5b", "Qwen2 0.5B", llama(|| qwen2([24, 896, 4864, 14, 2], 151_936, true)), 8192, 494_032_768),
        model("qwen2-7b", "Qwen2 7B", llama(|| qwen2([28, 3584, 18_944, 28, 4], 152_064, false)), 8192, 7_615_616_512),
        model("qwen3-0.6b", "Qwen3 0.6B", llama(|| qwen3([28, 1024, 3072, 16, 8], true)), 8192, 596_049_920),
        model("qwen3-8b", "Qwen3 8B", llama(|| qwen3([36, 4096, 12_288, 32, 8], false)), 8192, 8_190_735_360),
        model("gemma-2b", "Gemma 2B", llama(gemma_2b), 8192, 2_506_172_416),
        model("gemma-7b", "Gemma 7B", llama(Decoder::gemma), 8192, 8_537_680_896),
    ]
}
