//! ONNX files that `torch.onnx` wrote, and what is wrong with others.

use std::path::PathBuf;

use crate::support::{FAMILIES, Golden, golden, importers};
use cutplane_graph::{ModelGraph, OpKind, PositionScheme, TensorType, fold};
use cutplane_zoo::{OnnxOptions, ZooError, onnx_from_bytes, onnx_operators, read_onnx};

fn options() -> OnnxOptions {
    OnnxOptions { sequence_length: Some(8), ..OnnxOptions::default() }
}

fn files(family: &str, golden: &Golden) -> Vec<PathBuf> {
    golden.exports.iter().map(|file| importers().join(family).join(file)).collect()
}

fn count(graph: &ModelGraph, label: &str) -> usize {
    graph.ops().iter().filter(|op| op.kind.label() == label).count()
}

/// Whatever exporter, operator set and attention kernel: the parameters of the model, its attention as one operator a
/// layer, its norms and activations joined.
#[test]
fn exports_become_the_models_that_they_were() {
    for (family, attentions) in FAMILIES.into_iter().zip([2, 2, 2, 6]) {
        let golden = golden(family);
        for file in files(family, &golden) {
            let found = read_onnx(&file, &OnnxOptions { dims: decoder_length(), ..options() }).expect("a graph");
            let (graph, name) = (&found.graph, file.display());
            assert_eq!(graph.parameter_count(), golden.parameters, "{name}");
            assert_eq!(count(graph, "attention"), attentions, "{name}");
            assert_eq!(count(graph, "softmax") + count(graph, "matrix product"), 0, "{name}");
            assert_eq!(graph.layer_count(), if family == "t5" { 4 } else { 2 }, "{name}");
            let vocab = *golden.logits_shape.last().expect("a shape");
            let length = golden.logits_shape[1];
            let logits = &graph.value(graph.outputs()[0]).ty;
            assert_eq!(*logits, TensorType::batched(&[length, vocab], cutplane_graph::Dtype::F32), "{name}");
            found.weights.check(graph).expect("every parameter has its numbers");
        }
    }
}

fn decoder_length() -> std::collections::BTreeMap<String, u64> {
    [("decoder_sequence".to_owned(), 6)].into()
}

#[test]
fn attention_keeps_its_mask_heads_and_positions() {
    let attention = |family: &str, layer: usize| {
        let file = files(family, &golden(family)).remove(0);
        let graph = read_onnx(&file, &OnnxOptions { dims: decoder_length(), ..options() }).expect("a graph").graph;
        let kinds = graph.ops().iter().filter_map(|op| match &op.kind {
            OpKind::Attention(kind) => Some(kind.clone()),
            _ => None,
        });
        kinds.collect::<Vec<_>>().remove(layer)
    };
    let gpt2 = attention("gpt2", 0);
    assert!(gpt2.causal && gpt2.is_plain() && gpt2.heads == 2);
    assert!(!attention("bert", 1).causal);
    let llama = attention("llama", 1);
    assert_eq!((llama.causal, llama.heads, llama.kv_heads), (true, 4, Some(2)));
    assert!(
        matches!(llama.position, PositionScheme::Rotary(rotary) if (rotary.base - 500_000.0).abs() < 1e-9 && rotary.dims == 4)
    );
    let bias = PositionScheme::RelativeBias { buckets: 8, max_distance: 20 };
    let (encoder, decoder, cross) = (attention("t5", 0), attention("t5", 2), attention("t5", 3));
    assert_eq!((encoder.position, encoder.causal, encoder.scale), (bias, false, Some(1.0)));
    // Distances up to 5 do not show where the last bucket begins.
    assert!(matches!(decoder.position, PositionScheme::RelativeBias { buckets: 8, .. }) && decoder.causal);
    assert_eq!((cross.position, cross.causal), (PositionScheme::None, false));
}

#[test]
fn blocks_are_folded_without_their_names() {
    let file = files("gpt2", &golden("gpt2")).remove(0);
    let mut bytes = std::fs::read(file).expect("the file");
    // All names of modules begin so; without it nothing tells layers apart but their structure.
    while let Some(at) = bytes.windows(13).position(|window| window == b"transformer.h") {
        bytes[at..at + 13].copy_from_slice(b"transformer_h");
    }
    let graph = onnx_from_bytes("unnamed.onnx", &bytes, &options()).expect("a graph").graph;
    let folded = fold(&graph);
    let repeated = folded.classes.iter().map(|class| class.blocks.len()).max();
    assert_eq!(repeated, Some(2), "two equal blocks");
}

#[test]
fn a_loss_makes_the_model_trainable() {
    let file = files("llama", &golden("llama")).remove(0);
    let graph = read_onnx(&file, &OnnxOptions { loss: true, ..options() }).expect("a graph").graph;
    assert!(graph.loss().is_some_and(|loss| graph.value(loss).ty.dims.is_empty()));
    assert_eq!(graph.inputs().count(), 2, "tokens and targets; the mask is taken to be ones");
}

#[test]
fn refusals_name_file_and_remedy() {
    let refuse = |bytes: &[u8], options: &OnnxOptions| {
        onnx_from_bytes("x.onnx", bytes, options).expect_err("refused").to_string()
    };
    assert!(refuse(b"", &options()).contains("holds no graph"));
    assert!(refuse(&[0xff; 40], &options()).contains("is the file whole?"));
    let file = files("gpt2", &golden("gpt2")).remove(0);
    let bytes = std::fs::read(&file).expect("the file");
    assert!(refuse(&bytes[..bytes.len() / 2], &options()).contains("x.onnx: node (whole file)"));
    let open = refuse(&bytes, &OnnxOptions::default());
    assert!(open.contains("sequence length") && open.contains("input_ids.1"), "{open}");
    let zero = refuse(&bytes, &OnnxOptions { sequence_length: Some(0), ..options() });
    assert!(zero.contains("has 0 elements on axis 1"), "{zero}");
    let huge = refuse(&bytes, &OnnxOptions { sequence_length: Some(1 << 40), ..options() });
    assert!(huge.contains("are possible"), "{huge}");
    let long = refuse(&bytes, &OnnxOptions { sequence_length: Some(17), ..options() });
    assert!(long.contains("17 tokens, but only 16 positions"), "{long}");
    let unknown = refuse(&bytes, &OnnxOptions { outputs: vec!["hidden".to_owned()], ..options() });
    assert!(unknown.contains("declared are logits"), "{unknown}");
    assert!(matches!(read_onnx("no/such.onnx".as_ref(), &options()), Err(ZooError::Io { .. })));
}

#[test]
fn an_unsupported_operator_is_named_with_its_node() {
    let file = files("gpt2", &golden("gpt2")).remove(0);
    let mut bytes = std::fs::read(file).expect("the file");
    let at = bytes.windows(4).position(|window| window == b"Tanh").expect("an activation");
    bytes[at..at + 4].copy_from_slice(b"Tunh");
    let error = onnx_from_bytes("x.onnx", &bytes, &options()).expect_err("refused").to_string();
    assert!(error.contains("(Tunh)") && error.contains("node_") && error.contains("known are"), "{error}");
    assert!(onnx_operators().is_sorted() && onnx_operators().contains(&"MatMul"));
}

/// Bytes replaced, cut out, doubled and exchanged: an answer or an error, never a panic, and soon.
#[test]
fn mutations_never_panic() {
    let sources: Vec<Vec<u8>> = FAMILIES
        .into_iter()
        .flat_map(|family| files(family, &golden(family)))
        .map(|file| std::fs::read(file).expect("the file"))
        .collect();
    let mut random = crate::support::Random::new(11);
    let mut read = 0;
    for round in 0..crate::support::rounds(100_000) {
        let source = &sources[round % sources.len()];
        let mutated = random.mutated(source);
        read += usize::from(onnx_from_bytes("m.onnx", &mutated, &options()).is_ok());
    }
    assert!(read > 0, "some mutations are harmless");
}
