//! The small models, with the sizes of `tools/golden_models.py`.

use cutplane_graph::{
    Cell, Concat, Convolution, Dtype, InputRole, ModelError, ModelGraph, ModelGraphBuilder, OpKind, Pool, PoolKind,
    Reduce, Reduction, Rotary, RotaryScaling, TensorType, ValueId, WeightLayout, Window,
};
use cutplane_zoo::recurrent::{Elmo, Gnmt, Network, Shape};
use cutplane_zoo::transformer::{Decoder, Encoder, EncoderDecoder, Experts, Norm, Positions};
use cutplane_zoo::{ZooError, vision};

const VOCAB: u64 = 37;
const TOKENS: u64 = 10;

/// All models that have a file.
pub(crate) const NAMES: [&str; 31] = [
    "gpt2",
    "gpt1",
    "llama",
    "mistral",
    "mixtral",
    "qwen2",
    "qwen3",
    "gemma",
    "phi",
    "gpt_neox",
    "falcon",
    "opt",
    "mpt",
    "bert",
    "roberta",
    "t5",
    "t5-gated",
    "rnn",
    "rnn-many-to-one",
    "gru",
    "lstm",
    "lstm-bidirectional",
    "lstm-projected",
    "lstm-encoder-decoder",
    "lstm-one-to-many",
    "one-to-one",
    "elmo",
    "gnmt",
    "resnet18",
    "resnet50",
    "inception-block",
];

/// The model of a file.
pub(crate) fn graph(name: &str) -> ModelGraph {
    let built = decoder(name).map(|decoder| decoder.graph(TOKENS)).or_else(|| other(name));
    built.unwrap_or_else(|| panic!("no model {name}")).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Two layers of 16 with 4 heads.
fn small(decoder: Decoder) -> Decoder {
    let (ffn_hidden, head_dim) = (24, None);
    Decoder { layers: 2, hidden: 16, heads: 4, vocab: VOCAB, context: 32, ffn_hidden, head_dim, ..decoder }
}

/// Two heads of keys and a rotation of `dims` features.
fn grouped(decoder: Decoder, dims: u64, base: f64, scaling: RotaryScaling) -> Decoder {
    let positions = Positions::Rotary(Rotary { base, dims, interleaved: false, scaling });
    Decoder { kv_heads: 2, positions, ..small(decoder) }
}

fn decoder(name: &str) -> Option<Decoder> {
    let plain = |decoder, dims| grouped(decoder, dims, 10_000.0, RotaryScaling::None);
    let rms = |eps| Norm::Rms { eps };
    let llama3 = RotaryScaling::Llama3 { factor: 8.0, low_frequency: 1.0, high_frequency: 4.0, original_positions: 16 };
    let experts = Some(Experts { count: 4, top_k: 2, capacity_factor: None, normalised: true });
    Some(match name {
        "gpt2" => Decoder { ffn_hidden: 64, ..small(Decoder::gpt2()) },
        "gpt1" => Decoder { ffn_hidden: 64, ..small(Decoder::gpt1()) },
        "llama" => Decoder { norm: rms(1e-6), ..grouped(Decoder::llama(), 4, 500_000.0, llama3) },
        "mistral" => Decoder { norm: rms(1e-6), window: Some(4), ..plain(Decoder::mistral(), 4) },
        "mixtral" => Decoder { norm: rms(1e-5), window: None, experts, ..plain(Decoder::mixtral(), 4) },
        "qwen2" => Decoder { norm: rms(1e-6), ..plain(Decoder::qwen2(), 4) },
        "qwen3" => Decoder { norm: rms(1e-6), head_dim: Some(8), ..plain(Decoder::qwen3(), 8) },
        "gemma" => Decoder { kv_heads: 1, head_dim: Some(8), embedding_scale: Some(4.0), ..plain(Decoder::gemma(), 8) },
        "phi" => Decoder { kv_heads: 4, ..plain(Decoder::phi(), 2) },
        "gpt_neox" => Decoder { kv_heads: 4, ..plain(Decoder::gpt_neox(), 2) },
        "falcon" => Decoder { kv_heads: 1, ffn_hidden: 64, ..plain(Decoder::falcon(), 4) },
        "opt" => small(Decoder::opt()),
        "mpt" => Decoder { ffn_hidden: 64, ..small(Decoder::mpt()) },
        _ => return None,
    })
}

fn other(name: &str) -> Option<Result<ModelGraph, ZooError>> {
    let bert = |encoder: Encoder, positions| Encoder {
        layers: 2,
        hidden: 16,
        heads: 4,
        ffn_hidden: 24,
        vocab: VOCAB,
        positions,
        norm_eps: 1e-12,
        ..encoder
    };
    Some(match name {
        "bert" => bert(Encoder::bert(), 32).graph(14),
        "roberta" => bert(Encoder::roberta(), 32).graph(14),
        "t5" => t5(EncoderDecoder::t5_small()).graph(TOKENS),
        "t5-gated" => {
            let activation = cutplane_graph::ActivationKind::GeluTanh;
            t5(EncoderDecoder { gated: true, tied: false, activation, ..EncoderDecoder::t5_small() }).graph(TOKENS)
        }
        "resnet18" | "resnet50" => image(name),
        "elmo" => elmo().graph(TOKENS),
        "gnmt" => Gnmt { layers: 2, hidden: 10, vocab: VOCAB, ..Gnmt::wmt16() }.graph(5),
        "inception-block" => Ok(inception_block().expect("a block")),
        _ => return network(name),
    })
}

fn t5(model: EncoderDecoder) -> EncoderDecoder {
    EncoderDecoder {
        layers: 2,
        decoder_layers: 2,
        hidden: 16,
        heads: 4,
        head_dim: 6,
        ffn_hidden: 24,
        vocab: VOCAB,
        buckets: 8,
        max_distance: 12,
        target_length: Some(7),
        ..model
    }
}

fn network(name: &str) -> Option<Result<ModelGraph, ZooError>> {
    let (shape, cell, layers, steps) = match name {
        "rnn" => (Shape::Aligned, Cell::RnnTanh, 1, TOKENS),
        "rnn-many-to-one" => (Shape::ManyToOne, Cell::RnnTanh, 2, TOKENS),
        "gru" => (Shape::Aligned, Cell::Gru, 2, TOKENS),
        "lstm" | "lstm-bidirectional" | "lstm-projected" => (Shape::Aligned, Cell::Lstm, 2, TOKENS),
        "lstm-encoder-decoder" => (Shape::EncoderDecoder, Cell::Lstm, 2, TOKENS),
        "lstm-one-to-many" => (Shape::OneToMany, Cell::Lstm, 2, 6),
        "one-to-one" => (Shape::OneToOne, Cell::RnnTanh, 2, 1),
        _ => return None,
    };
    let network = Network::new(shape, cell, layers, 8, 12);
    // Pieces over time change nothing: the projected network has three.
    let (projection, time_chunks) = if name == "lstm-projected" { (Some(6), 3) } else { (None, 1) };
    let bidirectional = name == "lstm-bidirectional";
    Some(Network { projection, time_chunks, bidirectional, vocab: VOCAB, ..network }.graph(steps))
}

fn elmo() -> Elmo {
    Elmo {
        characters: 20,
        character_dim: 4,
        word_length: 6,
        filters: vec![(1, 4), (3, 6)],
        layers: 2,
        hidden: 12,
        projection: 8,
        vocab: Some(VOCAB),
        ..Elmo::original()
    }
}

fn image(name: &str) -> Result<ModelGraph, ZooError> {
    let mut model = vision::by_name(name, Some(48))?;
    let hidden = if name == "resnet18" { 4 } else { 2 };
    (model.classes, model.hidden, model.depth) = (7, hidden, Some(1));
    model.graph()
}

/// Mixed_5b and Mixed_6a of Inception-v3, an eighth as wide, and a classifier.
fn inception_block() -> Result<ModelGraph, ModelError> {
    let mut b = ModelGraphBuilder::new("inception-block");
    let x = b.input("image", InputRole::Image, TensorType::batched(&[6, 9, 9], Dtype::F32))?;
    let targets = b.input("targets", InputRole::Classes, TensorType::batched(&[], Dtype::I32))?;
    let x = first_module(&mut b, x)?;
    let x = second_module(&mut b, x)?;
    let x = b.op("avgpool", OpKind::Reduce(Reduce { function: Reduction::Mean, axes: vec![1, 2] }), &[x])?;
    let fc = OpKind::Linear { inputs: 56, outputs: 7, bias: true, layout: WeightLayout::OutIn, init_std: 0.01 };
    let logits = b.op("fc", fc, &[x])?;
    let loss = b.op("loss", OpKind::CrossEntropy { classes: 7, counted: 1 }, &[logits, targets])?;
    b.loss(loss).build()
}

/// Convolutions below `at`, one after the other: name, channels, window.
fn chain(
    b: &mut ModelGraphBuilder,
    at: &str,
    mut x: ValueId,
    parts: &[(&str, u64, Window)],
) -> Result<ValueId, ModelError> {
    for (name, outputs, window) in parts {
        let (at, inputs) = (format!("{at}.{name}"), b.type_of(x).dims[0]);
        let kind = Convolution::new(inputs, *outputs, window.clone(), false);
        x = b.op(&format!("{at}.conv"), OpKind::Convolution(kind), &[x])?;
        let norm = cutplane_graph::BatchNorm { channels: *outputs, eps: 1e-3 };
        x = b.op(&format!("{at}.bn"), OpKind::BatchNorm(norm), &[x])?;
        let function = cutplane_graph::ActivationKind::Relu;
        x = b.op(&format!("{at}.relu"), OpKind::Activation { function }, &[x])?;
    }
    Ok(x)
}

fn first_module(b: &mut ModelGraphBuilder, x: ValueId) -> Result<ValueId, ModelError> {
    let (at, same) = ("Mixed_5b", |kernel| Window::square(kernel, 1, kernel / 2));
    let first = chain(b, at, x, &[("branch1x1", 8, same(1))])?;
    let second = chain(b, at, x, &[("branch5x5_1", 6, same(1)), ("branch5x5_2", 8, same(5))])?;
    let third = [("branch3x3dbl_1", 8, same(1)), ("branch3x3dbl_2", 12, same(3)), ("branch3x3dbl_3", 12, same(3))];
    let third = chain(b, at, x, &third)?;
    let pool = Pool { function: PoolKind::Average, window: same(3) };
    let pooled = b.op("Mixed_5b.branch_pool.pool", OpKind::Pool(pool), &[x])?;
    let fourth = chain(b, at, pooled, &[("branch_pool", 4, same(1))])?;
    b.op("Mixed_5b.concat", OpKind::Concat(Concat { axis: 0, values: 4 }), &[first, second, third, fourth])
}

fn second_module(b: &mut ModelGraphBuilder, x: ValueId) -> Result<ValueId, ModelError> {
    let (at, halve) = ("Mixed_6a", || Window::square(3, 2, 0));
    let first = chain(b, at, x, &[("branch3x3", 12, halve())])?;
    let inner = [("branch3x3dbl_1", 8, Window::square(1, 1, 0)), ("branch3x3dbl_2", 12, Window::square(3, 1, 1))];
    let second = chain(b, at, x, &inner)?;
    let second = chain(b, at, second, &[("branch3x3dbl_3", 12, halve())])?;
    let pool = Pool { function: PoolKind::Max, window: halve() };
    let third = b.op("Mixed_6a.branch_pool", OpKind::Pool(pool), &[x])?;
    b.op("Mixed_6a.concat", OpKind::Concat(Concat { axis: 0, values: 3 }), &[first, second, third])
}
