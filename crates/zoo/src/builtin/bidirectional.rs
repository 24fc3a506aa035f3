//! BERT, RoBERTa and T5.

use super::gpt::BYTES;
use super::{Blueprint, BuiltInModel, Family};
use crate::transformer::{Encoder, EncoderDecoder, EncoderHead};

/// An encoder of BERT's form: layers, hidden size, heads, vocabulary, positions.
fn sized([layers, hidden, heads, vocab, positions]: [u64; 5]) -> Encoder {
    Encoder { layers, hidden, heads, ffn_hidden: 4 * hidden, vocab, positions, ..Encoder::bert() }
}

fn large() -> Encoder {
    sized([24, 1024, 16, 30_522, 512])
}

fn roberta_large() -> Encoder {
    Encoder { layers: 24, hidden: 1024, heads: 16, ffn_hidden: 4096, ..Encoder::roberta() }
}

fn with_pooler(encoder: Encoder) -> Encoder {
    Encoder { head: EncoderHead::Pooler, ..encoder }
}

/// A T5: layers, hidden size, feed-forward width, heads, width of a head.
fn t5([layers, hidden, ffn_hidden, heads, head_dim]: [u64; 5]) -> EncoderDecoder {
    EncoderDecoder { layers, decoder_layers: layers, hidden, ffn_hidden, heads, head_dim, ..EncoderDecoder::t5_small() }
}

pub(super) fn models() -> Vec<BuiltInModel> {
    let model = BuiltInModel::new;
    let bert = |make| (Family::Bert, Blueprint::Encoder(make));
    let both = |make| (Family::T5, Blueprint::EncoderDecoder(make));
    vec![
        model("bert-nano", "0.2 M, bytes, masked LM: for tests", bert(|| sized([4, 64, 4, BYTES, 64])), 64, 0),
        model(
            "bert-mini",
            "11 M, bytes, masked LM: trains on this machine's cores",
            bert(|| sized([6, 384, 6, BYTES, 256])),
            128,
            0,
        ),
        model("bert-base", "BERT base with the masked-LM head", bert(Encoder::bert), 128, 109_514_298),
        model("bert-large", "BERT large with the masked-LM head", bert(large), 128, 335_174_458),
        model(
            "bert-base-encoder",
            "BERT base with the pooler, no loss",
            bert(|| with_pooler(Encoder::bert())),
            128,
            109_482_240,
        ),
        model(
            "bert-large-encoder",
            "BERT large with the pooler, no loss",
            bert(|| with_pooler(large())),
            128,
            335_141_888,
        ),
        model("roberta-base", "RoBERTa base with the masked-LM head", bert(Encoder::roberta), 128, 124_697_433),
        model("roberta-large", "RoBERTa large with the masked-LM head", bert(roberta_large), 128, 355_412_057),
        model("t5-small", "T5 small", both(EncoderDecoder::t5_small), 512, 60_506_624),
        model("t5-base", "T5 base", both(|| t5([12, 768, 3072, 12, 64])), 512, 222_903_552),
        model("t5-large", "T5 large", both(|| t5([24, 1024, 4096, 16, 64])), 512, 737_668_096),
        model("t5-3b", "T5 3B", both(|| t5([24, 1024, 16_384, 32, 128])), 512, 2_851_598_336),
        model("t5-11b", "T5 11B", both(|| t5([24, 1024, 65_536, 128, 128])), 512, 11_307_321_344),
    ]
}
