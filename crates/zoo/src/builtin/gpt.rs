//! GPT-1, GPT-2, GPT-3 (Brown et al. 2020, table 2.1) and larger graphs of the same form.

use super::{BuiltInModel, gpt};
use crate::transformer::Decoder;

/// One token a byte; no text holds byte 0, so it can stand for a masked token.
pub(super) const BYTES: u64 = 256;

/// A decoder of GPT-2's form: layers, hidden size, heads, vocabulary, context.
fn sized([layers, hidden, heads, vocab, context]: [u64; 5]) -> Decoder {
    Decoder { layers, hidden, heads, ffn_hidden: 4 * hidden, vocab, context, ..Decoder::gpt2() }
}

fn gpt2(sizes: [u64; 3]) -> Decoder {
    let [layers, hidden, heads] = sizes;
    sized([layers, hidden, heads, 50_257, 1024])
}

fn gpt3(sizes: [u64; 3]) -> Decoder {
    Decoder { context: 2048, ..gpt2(sizes) }
}

pub(super) fn models() -> Vec<BuiltInModel> {
    let model = BuiltInModel::new;
    vec![
        model("gpt-nano", "0.2 M, bytes: for tests", gpt(|| sized([4, 64, 4, BYTES, 64])), 64, 0),
        model(
            "gpt-mini",
            "14 M, bytes: trains on this machine's cores",
            gpt(|| sized([8, 384, 6, BYTES, 256])),
            256,
            0,
        ),
        model("gpt1", "GPT-1", gpt(Decoder::gpt1), 512, 116_534_784),
        model("gpt2", "GPT-2 small", gpt(|| gpt2([12, 768, 12])), 1024, 124_439_808),
        model("gpt2-medium", "GPT-2 medium", gpt(|| gpt2([24, 1024, 16])), 1024, 354_823_168),
        model("gpt2-large", "GPT-2 large", gpt(|| gpt2([36, 1280, 20])), 1024, 774_030_080),
        model("gpt2-xl", "GPT-2 extra large", gpt(|| gpt2([48, 1600, 25])), 1024, 1_557_611_200),
        model("gpt3-125m", "GPT-3 small", gpt(|| gpt3([12, 768, 12])), 2048, 125_226_240),
        model("gpt3-350m", "GPT-3 medium", gpt(|| gpt3([24, 1024, 16])), 2048, 355_871_744),
        model("gpt3-760m", "GPT-3 large", gpt(|| gpt3([24, 1536, 16])), 2048, 760_300_032),
        // As printed it has 24 heads of 128, which is not its hidden size; the count does not depend on the heads.
        model("gpt3-1.3b", "GPT-3 XL, 16 heads", gpt(|| gpt3([24, 2048, 16])), 2048, 1_315_723_264),
        model("gpt3-2.7b", "GPT-3 2.7B", gpt(|| gpt3([32, 2560, 32])), 2048, 2_651_553_280),
        model("gpt3-6.7b", "GPT-3 6.7B", gpt(|| gpt3([32, 4096, 32])), 2048, 6_658_404_352),
        // 5140 as printed is not a multiple of 40 heads.
        model("gpt3-13b", "GPT-3 13B, hidden size 5120", gpt(|| gpt3([40, 5120, 40])), 2048, 12_853_386_240),
        model("gpt3-175b", "GPT-3", gpt(|| gpt3([96, 12_288, 96])), 2048, 174_604_259_328),
        model("megatron-22b", "Megatron 22B", gpt(|| gpt3([48, 6144, 64])), 2048, 0),
        model("turing-530b", "Megatron-Turing 530B", gpt(|| gpt3([105, 20_480, 128])), 2048, 0),
        model("megatron-1t", "Megatron 1T", gpt(|| gpt3([128, 25_600, 160])), 2048, 0),
    ]
}
