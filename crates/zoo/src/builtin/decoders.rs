//! OPT, MPT, GPT-NeoX, Falcon, Phi and Transformer-XL.

use super::{Blueprint, BuiltInModel, Family, gpt, llama};
use crate::transformer::{BlockForm, Decoder, TransformerXl};

fn opt([layers, hidden, heads]: [u64; 3]) -> Decoder {
    Decoder { layers, hidden, heads, ffn_hidden: 4 * hidden, ..Decoder::opt() }
}

/// The one with norms after the sums, and a word embedding half as wide as the stream.
fn opt_350m() -> Decoder {
    let (block, embedding_width) = (BlockForm::PostNorm, Some(512));
    Decoder { block, embedding_width, final_norm: false, ..opt([24, 1024, 16]) }
}

fn mpt([layers, hidden, heads]: [u64; 3]) -> Decoder {
    Decoder { layers, hidden, heads, ffn_hidden: 4 * hidden, ..Decoder::mpt() }
}

fn falcon([layers, hidden, heads]: [u64; 3]) -> Decoder {
    let (kv_heads, block) = (8, BlockForm::ParallelTwoNorms);
    Decoder { layers, hidden, heads, kv_heads, ffn_hidden: 4 * hidden, block, ..Decoder::falcon() }
}

fn phi2() -> Decoder {
    Decoder { layers: 32, hidden: 2560, ffn_hidden: 10_240, ..Decoder::phi() }
}

pub(super) fn models() -> Vec<BuiltInModel> {
    let model = BuiltInModel::new;
    let xl = |make| (Family::Gpt, Blueprint::TransformerXl(make));
    vec![
        model("opt-125m", "OPT 125M", gpt(Decoder::opt), 2048, 125_239_296),
        model("opt-350m", "OPT 350M", gpt(opt_350m), 2048, 331_196_416),
        model("opt-1.3b", "OPT 1.3B", gpt(|| opt([24, 2048, 32])), 2048, 1_315_758_080),
        model("opt-2.7b", "OPT 2.7B", gpt(|| opt([32, 2560, 32])), 2048, 2_651_596_800),
        model("opt-6.7b", "OPT 6.7B", gpt(|| opt([32, 4096, 32])), 2048, 6_658_473_984),
        model("opt-13b", "OPT 13B", gpt(|| opt([40, 5120, 40])), 2048, 12_853_473_280),
        model("opt-30b", "OPT 30B", gpt(|| opt([48, 7168, 56])), 2048, 29_974_540_288),
        model("opt-66b", "OPT 66B", gpt(|| opt([64, 9216, 72])), 2048, 0),
        model("mpt-125m", "MPT 125M", gpt(|| mpt([12, 768, 12])), 2048, 0),
        model("mpt-350m", "MPT 350M", gpt(|| mpt([24, 1024, 16])), 2048, 0),
        model("mpt-760m", "MPT 760M", gpt(|| mpt([24, 1536, 12])), 2048, 0),
        model("mpt-1b", "MPT 1B", gpt(Decoder::mpt), 2048, 0),
        model("mpt-3b", "MPT 3B", gpt(|| mpt([32, 2560, 20])), 2048, 0),
        model(
            "mpt-7b",
            "MPT 7B (vocabulary 50,368; the released file pads it to 50,432)",
            gpt(|| mpt([32, 4096, 32])),
            2048,
            0,
        ),
        model("mpt-13b", "MPT 13B", gpt(|| mpt([40, 5120, 40])), 2048, 0),
        model("mpt-30b", "MPT 30B", gpt(|| mpt([48, 7168, 56])), 2048, 0),
        model("mpt-70b", "MPT 70B", gpt(|| mpt([64, 8192, 64])), 2048, 0),
        model("gpt-neox-20b", "GPT-NeoX", llama(Decoder::gpt_neox), 2048, 20_554_567_680),
        model("falcon-7b", "Falcon 7B", llama(Decoder::falcon), 2048, 6_921_720_704),
        model("falcon-40b", "Falcon 40B", llama(|| falcon([60, 8192, 128])), 2048, 41_303_293_952),
        model("phi-1.5", "Phi-1.5", llama(Decoder::phi), 2048, 1_418_270_720),
        model("phi-2", "Phi-2", llama(phi2), 2048, 2_779_683_840),
        model("transformer-xl-base", "Transformer-XL base, plain softmax", xl(TransformerXl::base), 192, 0),
        model("transformer-xl-large", "Transformer-XL large, plain softmax", xl(TransformerXl::large), 384, 0),
    ]
}
