//! Operator facts against numbers worked out by hand.

use cutplane_graph::facts::Saved;
use cutplane_graph::{
    ActivationKind, AttentionInput, Dtype, InputRole, ModelGraph, ModelGraphBuilder, OpFacts, OpId, OpKind, Pass,
    TensorType, WeightLayout,
};
use cutplane_units::{Bytes, Flops};

fn floats(dims: &[u64]) -> TensorType {
    TensorType::batched(dims, Dtype::F32)
}

/// A graph of one operator.
fn single(kind: OpKind, inputs: &[TensorType]) -> ModelGraph {
    let mut b = ModelGraphBuilder::new("one");
    let ids: Vec<_> = inputs
        .iter()
        .enumerate()
        .map(|(index, ty)| b.input(&format!("x{index}"), InputRole::Features, ty.clone()).unwrap())
        .collect();
    let y = b.op("op", kind, &ids).unwrap();
    b.output(y).build().unwrap()
}

fn facts(graph: &ModelGraph, pass: Pass, batch: u64) -> OpFacts {
    graph.facts(OpId::new(0), pass, batch)
}

fn expect(flops: u128, bytes: u64, kernels: u32) -> OpFacts {
    OpFacts { flops: Flops::new(flops), bytes: Bytes::new(bytes), kernels }
}

#[test]
fn linear() {
    let graph = single(OpKind::linear(4, 5), &[floats(&[3, 4])]);
    // 6 rows: 2 x 6 x 4 x 5; 24 numbers in, 30 out, 25 parameters, 4 bytes each.
    assert_eq!(facts(&graph, Pass::Forward, 2), expect(240, 4 * (24 + 30 + 25), 2));
    assert_eq!(facts(&graph, Pass::Backward, 2), expect(480, 8 * (24 + 30 + 25), 4));
    assert_eq!(graph.saved(OpId::new(0), 2), Saved { inputs: true, output: false, internal_elements: 0 });
    let key = graph.profile_key(OpId::new(0), 2);
    assert_eq!((key.operator, key.axes.as_slice(), key.work), ("linear", &[6, 4, 5][..], 240.0));
}

#[test]
fn a_linear_without_bias_on_a_transposed_weight_has_its_own_curve() {
    let kind = OpKind::Linear { inputs: 4, outputs: 5, bias: false, layout: WeightLayout::OutIn, init_std: 0.02 };
    let graph = single(kind, &[floats(&[3, 4])]);
    assert_eq!(facts(&graph, Pass::Forward, 1), expect(120, 4 * (12 + 15 + 20), 1));
    assert_eq!(graph.profile_key(OpId::new(0), 1).operator, "linear.transposed");
    assert_eq!(graph.params()[0].shape, [5, 4]);
}

#[test]
fn attention() {
    let kind = OpKind::attention(2, 4, true, AttentionInput::Packed);
    let graph = single(kind, &[floats(&[3, 24])]);
    // b = 5: scores 5 x 2 x 3 x 3 = 90; two products of 2 x 90 x 4, softmax 5 x 90.
    assert_eq!(graph.attention_scores(OpId::new(0), 5), 90);
    let bytes = 4 * (5 * 3 * 24 + 5 * 3 * 8) + 4 * 90 * 4;
    assert_eq!(facts(&graph, Pass::Forward, 5), expect(4 * 90 * 4 + 5 * 90, bytes, 4));
    assert_eq!(facts(&graph, Pass::Backward, 5), expect(2 * (4 * 90 * 4 + 5 * 90), 2 * bytes, 8));
    assert_eq!(graph.saved(OpId::new(0), 5), Saved { inputs: true, output: false, internal_elements: 90 });
    let key = graph.profile_key(OpId::new(0), 5);
    assert_eq!((key.operator, key.axes.as_slice(), key.work), ("attention.causal.packed", &[10, 3, 4][..], 1440.0));
}

#[test]
fn attention_over_three_inputs_reads_the_same_bytes() {
    let kind = OpKind::attention(2, 4, false, AttentionInput::Separate);
    let graph = single(kind, &[floats(&[3, 8]), floats(&[3, 8]), floats(&[3, 8])]);
    let bytes = 4 * (3 * 24 + 3 * 8) + 4 * 18 * 4;
    assert_eq!(facts(&graph, Pass::Forward, 1), expect(4 * 18 * 4 + 5 * 18, bytes, 4));
    assert_eq!(graph.profile_key(OpId::new(0), 1).operator, "attention");
}

#[test]
fn operators_that_memory_bounds() {
    let norm = single(OpKind::layer_norm(8, 1e-5), &[floats(&[3, 8])]);
    // 48 numbers in, 48 out, weight and bias of 8.
    assert_eq!(facts(&norm, Pass::Forward, 2), expect(8 * 48, 4 * (48 + 48 + 16), 1));
    assert_eq!(norm.saved(OpId::new(0), 2).internal_elements, 2 * 6);
    let gelu = single(OpKind::Activation { function: ActivationKind::GeluTanh }, &[floats(&[3, 8])]);
    assert_eq!(facts(&gelu, Pass::Backward, 2), expect(16 * 48, 2 * 4 * 96, 2));
    assert_eq!(gelu.profile_key(OpId::new(0), 2).operator, "activation.gelu-tanh");
    let add = single(OpKind::Add, &[floats(&[3, 8]), floats(&[3, 8])]);
    assert_eq!(facts(&add, Pass::Forward, 2), expect(48, 4 * 144, 1));
    assert_eq!(add.saved(OpId::new(0), 2), Saved { inputs: false, output: false, internal_elements: 0 });
    let select = single(OpKind::SelectToken { index: 0 }, &[floats(&[3, 8])]);
    assert_eq!(facts(&select, Pass::Forward, 2), expect(0, 4 * (48 + 16), 1));
}

#[test]
fn an_embedding_touches_the_rows_that_it_reads_not_the_table() {
    let ids = TensorType::batched(&[3], Dtype::I32);
    let graph = single(OpKind::Embedding { vocab: 1000, dim: 8, init_std: 0.02 }, &[ids]);
    // 6 ids, 48 numbers out, 48 numbers of the table.
    assert_eq!(facts(&graph, Pass::Forward, 2), expect(0, 4 * (6 + 48 + 48), 1));
    assert_eq!(facts(&graph, Pass::Backward, 2), expect(48, 8 * (6 + 48 + 48), 2));
}

#[test]
fn cross_entropy() {
    let targets = TensorType::batched(&[3], Dtype::I32);
    let graph = single(OpKind::CrossEntropy { classes: 9, counted: 3 }, &[floats(&[3, 9]), targets]);
    // 6 rows of 9 classes, 6 targets, one number out.
    assert_eq!(facts(&graph, Pass::Forward, 2), expect(5 * 54, 4 * (54 + 6 + 1), 2));
    assert_eq!(facts(&graph, Pass::Backward, 2), expect(2 * 54, 8 * (54 + 6 + 1), 4));
    assert_eq!(graph.saved(OpId::new(0), 2).internal_elements, 54);
}

/// Matrix products of a decoder of `layers` blocks, as GPT-2 has them.
fn decoder(layers: u64, hidden: u64, heads: u64, vocab: u64, s: u64) -> ModelGraph {
    let mut b = ModelGraphBuilder::new("decoder");
    let mut x = b.input("x", InputRole::Features, floats(&[s, hidden])).unwrap();
    let attention = OpKind::attention(heads, hidden / heads, true, AttentionInput::Packed);
    for layer in 0..layers {
        let packed = b.op(&format!("{layer}.qkv"), OpKind::linear(hidden, 3 * hidden), &[x]).unwrap();
        let mixed = b.op(&format!("{layer}.attn"), attention.clone(), &[packed]).unwrap();
        let y = b.op(&format!("{layer}.proj"), OpKind::linear(hidden, hidden), &[mixed]).unwrap();
        let wide = b.op(&format!("{layer}.up"), OpKind::linear(hidden, 4 * hidden), &[y]).unwrap();
        x = b.op(&format!("{layer}.down"), OpKind::linear(4 * hidden, hidden), &[wide]).unwrap();
    }
    let logits = b.op("head", OpKind::linear(hidden, vocab), &[x]).unwrap();
    b.output(logits).build().unwrap()
}

#[test]
fn gpt2s_forward_flops_follow_the_published_formula() {
    let (layers, hidden, heads, vocab, s, batch) = (12u128, 768u128, 12u128, 50_257u128, 1024u128, 8u128);
    let graph = decoder(12, 768, 12, 50_257, 1024);
    let total: u128 = graph.op_ids().map(|op| graph.facts(op, Pass::Forward, 8).flops.get()).sum();
    // Narayanan et al. 2021, appendix: 24 b s L h^2 (1 + s / 6h) + 2 b s h V, here with the softmax of the scores.
    let layers_flops = 24 * batch * s * layers * hidden * hidden + 4 * batch * s * s * layers * hidden;
    let softmax = 5 * batch * heads * s * s * layers;
    assert_eq!(total, layers_flops + 2 * batch * s * hidden * vocab + softmax);
    // The rule of thumb: 2 P tokens plus 4 s h L a token of attention, P the 124 M parameters without biases, norms
    // and positions (the tied embedding is the head). Softmax adds under half a percent.
    let parameters = 12 * layers * hidden * hidden + hidden * vocab;
    let rule = 2 * parameters * batch * s + 4 * s * hidden * layers * batch * s;
    assert!(total > rule && (total - rule) * 200 < total, "{total} {rule}");
}
