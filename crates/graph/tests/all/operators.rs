//! Shapes, parameters, work and memory of the operators beyond GPT and BERT, against numbers worked out by hand.

use cutplane_graph::facts::Saved;
use cutplane_graph::{
    ActivationKind, AdditiveAttention, Arithmetic, Attention, AttentionInput, AttentionKernel, BatchNorm, Binary, Cell,
    Combine, Concat, Convolution, Dispatch, Dtype, ExpertLinear, Gate, InputRole, MatMul, ModelGraph,
    ModelGraphBuilder, OpId, OpKind, Pad, Pass, Pool, PoolKind, PositionScheme, PrependTokens, Recurrent,
    RecurrentBias, RecurrentOutput, Reduce, Reduction, Reshape, RmsNorm, Rotary, RotaryScaling, Router, Routing, Slice,
    TensorType, Transpose, Window,
};

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

fn forward(graph: &ModelGraph, batch: u64) -> u128 {
    graph.facts(OpId::new(0), Pass::Forward, batch).flops.get()
}

fn backward(graph: &ModelGraph, batch: u64) -> u128 {
    graph.facts(OpId::new(0), Pass::Backward, batch).flops.get()
}

fn output(graph: &ModelGraph) -> &[u64] {
    &graph.value(graph.ops()[0].output).ty.dims
}

fn refusal(kind: &OpKind, inputs: &[TensorType]) -> String {
    kind.infer("op", &inputs.iter().collect::<Vec<_>>()).unwrap_err().to_string()
}

#[test]
fn convolution() {
    let kind = Convolution { groups: 2, ..Convolution::new(4, 6, Window::new(&[3, 5], 2, &[1, 2]), true) };
    let graph = single(OpKind::Convolution(kind.clone()), &[floats(&[4, 9, 11])]);
    // (9 + 2 - 3) / 2 + 1 = 5, (11 + 4 - 5) / 2 + 1 = 6; 3 samples of 6 x 5 x 6 outputs of 2 channels x 15 taps.
    assert_eq!(output(&graph), [6, 5, 6]);
    assert_eq!(forward(&graph, 3), 3 * 180 * 2 * 2 * 15);
    assert_eq!(backward(&graph, 3), 2 * forward(&graph, 3));
    assert_eq!((graph.params()[0].shape.as_slice(), graph.params()[1].shape.as_slice()), (&[6, 2, 3, 5][..], &[6][..]));
    let key = graph.profile_key(OpId::new(0), 3);
    assert_eq!((key.operator, key.axes), ("convolution.grouped", vec![90, 2, 6, 15]));
    let dilated = Window { dilation: vec![3], ..Window::line(3, 1, 0) };
    let graph = single(OpKind::Convolution(Convolution::new(2, 2, dilated.clone(), false)), &[floats(&[2, 10])]);
    assert_eq!(output(&graph), [2, 4]);
    let narrow = OpKind::Convolution(Convolution::new(2, 2, dilated, false));
    assert_eq!(
        refusal(&narrow, &[floats(&[2, 6])]),
        "operator 'op': a window that reaches over 7 does not fit 6 with 0 + 0 zeros"
    );
    let uneven = OpKind::Convolution(Convolution { groups: 4, ..kind });
    assert!(refusal(&uneven, &[floats(&[4, 9, 11])]).contains("4 groups do not divide 4 and 6 channels"));
}

#[test]
fn pools_round_up_only_where_the_last_window_begins_inside() {
    let pool = |ceil, padding| {
        OpKind::Pool(Pool { function: PoolKind::Max, window: Window { ceil, ..Window::square(3, 2, padding) } })
    };
    let extent = |kind, n| output(&single(kind, &[floats(&[2, n, n])]))[1];
    assert_eq!((extent(pool(false, 0), 8), extent(pool(true, 0), 8)), (3, 4));
    assert_eq!((extent(pool(false, 1), 6), extent(pool(true, 1), 6)), (3, 4));
    let window = Window { ceil: true, ..Window::square(2, 3, 0) };
    let pool = OpKind::Pool(Pool { function: PoolKind::Average, window });
    // The window that would begin at 6 begins outside of 6 elements.
    assert_eq!(extent(pool, 6), 2);
    let graph =
        single(OpKind::Pool(Pool { function: PoolKind::Max, window: Window::square(2, 2, 0) }), &[floats(&[3, 8, 8])]);
    assert_eq!(forward(&graph, 2), 2 * 48 * 4);
    assert_eq!(graph.saved(OpId::new(0), 2).internal_elements, 96);
}

#[test]
fn recurrent_layers_have_the_parameters_of_pytorch() {
    let count =
        |cell, i, h| single(OpKind::Recurrent(Recurrent::new(cell, i, h)), &[floats(&[5, i])]).parameter_count();
    assert_eq!(count(Cell::RnnTanh, 1024, 1024), 2_099_200);
    assert_eq!(count(Cell::Gru, 1024, 1024), 6_297_600);
    assert_eq!(count(Cell::Lstm, 1024, 1024), 8_396_800);
    assert_eq!((count(Cell::RnnRelu, 256, 512), count(Cell::Gru, 256, 512)), (394_240, 1_182_720));
    assert_eq!(count(Cell::Lstm, 256, 512), 1_576_960);
    let kind = Recurrent { bias: RecurrentBias::One, projection: Some(3), ..Recurrent::new(Cell::Lstm, 7, 5) };
    let graph = single(OpKind::Recurrent(kind.clone()), &[floats(&[4, 7])]);
    // 4 h (i + r) + 4 h + h r.
    assert_eq!(graph.parameter_count(), 4 * 5 * (7 + 3) + 4 * 5 + 5 * 3);
    assert_eq!(output(&graph), [4, 3]);
    // 2 samples, 4 steps: products, and ten operations a gate.
    assert_eq!(forward(&graph, 2), 8 * (2 * (20 * 10 + 15) + 10 * 20));
    let reversed = single(OpKind::Recurrent(Recurrent { reverse: true, ..kind }), &[floats(&[4, 7])]);
    assert_eq!(reversed.params()[1].name, "op.weight_hh_l0_reverse");
}

#[test]
fn a_recurrent_layer_hands_its_state_on() {
    let lstm = Recurrent { output: RecurrentOutput::States, initial_state: true, ..Recurrent::new(Cell::Lstm, 3, 4) };
    let graph = single(OpKind::Recurrent(lstm.clone()), &[floats(&[6, 3]), floats(&[8])]);
    assert_eq!(output(&graph), [6, 8]);
    assert!(refusal(&OpKind::Recurrent(lstm), &[floats(&[6, 3]), floats(&[4])]).contains("takes the state f32[b, 8]"));
    let gru = Recurrent { output: RecurrentOutput::Last, ..Recurrent::new(Cell::Gru, 3, 4) };
    let graph = single(OpKind::Recurrent(gru), &[floats(&[6, 3])]);
    assert_eq!(output(&graph), [4]);
    // Gates at 6 steps of 2 samples, and the hidden states that are no output.
    assert_eq!(graph.saved(OpId::new(0), 2).internal_elements, 12 * (12 + 4));
    let projected = Recurrent { projection: Some(2), ..Recurrent::new(Cell::Gru, 3, 4) };
    assert!(refusal(&OpKind::Recurrent(projected), &[floats(&[6, 3])]).contains("only an LSTM"));
}

fn grouped(kernel: AttentionKernel) -> Attention {
    let rotary = Rotary { base: 1e4, dims: 4, interleaved: false, scaling: RotaryScaling::None };
    Attention {
        kv_heads: Some(2),
        position: PositionScheme::Rotary(rotary),
        kernel,
        ..Attention::new(4, 8, true, AttentionInput::Separate)
    }
}

#[test]
fn grouped_attention() {
    let inputs = [floats(&[6, 32]), floats(&[6, 16]), floats(&[6, 16])];
    let graph = single(OpKind::Attention(grouped(AttentionKernel::Materialised)), &inputs);
    // 4 heads of 6 x 6 scores: two products of 2 x 8, softmax 5; rotation 3 x 4 features of 6 heads at 6 positions.
    let dense = 144 * (2 * 2 * 8 + 5) + 3 * 6 * 6 * 4;
    assert_eq!(forward(&graph, 1), dense);
    assert_eq!(graph.saved(OpId::new(0), 1), Saved { inputs: true, output: false, internal_elements: 144 });
    // A fused kernel computes 21 of 36 scores, and once more backward.
    let graph = single(OpKind::Attention(grouped(AttentionKernel::Fused)), &inputs);
    let fused = 84 * (2 * 2 * 8 + 5) + 3 * 6 * 6 * 4;
    assert_eq!(forward(&graph, 1), fused);
    assert_eq!(backward(&graph, 1), 2 * fused + 84 * 2 * 8);
    assert_eq!(graph.saved(OpId::new(0), 1), Saved { inputs: true, output: true, internal_elements: 24 });
    let windowed = Attention { window: Some(2), position: PositionScheme::None, ..grouped(AttentionKernel::Fused) };
    let graph = single(OpKind::Attention(windowed), &inputs);
    // One key, then two for each of five queries.
    assert_eq!(forward(&graph, 1), 4 * 11 * (2 * 2 * 8 + 5));
    assert_eq!(graph.profile_key(OpId::new(0), 1).operator, "attention.general.causal");
}

#[test]
fn attention_over_keys_of_another_length() {
    let cross = OpKind::attention(2, 4, false, AttentionInput::Separate);
    let graph = single(cross, &[floats(&[3, 8]), floats(&[5, 8]), floats(&[5, 8])]);
    assert_eq!(output(&graph), [3, 8]);
    assert_eq!(graph.attention_scores(OpId::new(0), 2), 2 * 2 * 3 * 5);
    let causal = OpKind::attention(2, 4, true, AttentionInput::Separate);
    assert!(refusal(&causal, &[floats(&[5, 8]), floats(&[3, 8]), floats(&[3, 8])]).contains("keys and values [t, 8]"));
    let shared = Attention { kv_heads: Some(3), ..Attention::new(4, 8, true, AttentionInput::Packed) };
    assert!(refusal(&OpKind::Attention(shared), &[floats(&[5, 80])]).contains("4 heads cannot share 3"));
    let group = Attention { kv_heads: Some(1), ..Attention::new(71, 64, true, AttentionInput::PackedByGroup) };
    assert_eq!(output(&single(OpKind::Attention(group), &[floats(&[5, 73 * 64])])), [5, 4544]);
    let odd = Rotary { base: 1e4, dims: 10, interleaved: false, scaling: RotaryScaling::None };
    let odd = Attention { position: PositionScheme::Rotary(odd), ..Attention::new(4, 8, true, AttentionInput::Packed) };
    assert!(refusal(&OpKind::Attention(odd), &[floats(&[5, 96])]).contains("10 rotated features"));
}

#[test]
fn additive_attention() {
    let kind = AdditiveAttention { units: 4, normed: true, bias: true };
    let graph = single(OpKind::AdditiveAttention(kind), &[floats(&[2, 4]), floats(&[3, 4]), floats(&[3, 7])]);
    assert_eq!((output(&graph), graph.parameter_count()), (&[2, 7][..], 4 + 1 + 4));
    assert_eq!(forward(&graph, 5), 5 * 6 * (10 * 4 + 5 + 2 * 7));
}

#[test]
fn a_mixture_computes_the_rows_that_were_routed() {
    let routing = Routing { experts: 4, top_k: 2, capacity: None, dealt: None };
    let gates = floats(&[6, 4]);
    let route = OpKind::Router(Router { routing, normalised: true });
    assert_eq!(output(&single(route, std::slice::from_ref(&gates))), [6, 4]);
    let dispatch = OpKind::Dispatch(Dispatch { routing });
    assert_eq!(output(&single(dispatch, &[floats(&[6, 5]), gates.clone()])), [12, 5]);
    let linear = ExpertLinear { routing, inputs: 5, outputs: 3, init_std: 0.02 };
    let graph = single(OpKind::ExpertLinear(linear), &[floats(&[12, 5]), gates.clone()]);
    assert_eq!((graph.parameter_count(), graph.active_parameter_count()), (60, 30));
    assert_eq!(graph.params()[3].name, "op.3.weight");
    assert_eq!(forward(&graph, 2), 2 * 24 * 5 * 3);
    let combine = OpKind::Combine(Combine { routing });
    assert_eq!(output(&single(combine, &[floats(&[12, 3]), gates.clone()])), [6, 3]);
    let capped = Routing { capacity: Some(2), ..routing };
    assert_eq!(
        output(&single(OpKind::Dispatch(Dispatch { routing: capped }), &[floats(&[6, 5]), gates.clone()])),
        [8, 5]
    );
    let greedy = OpKind::Router(Router { routing: Routing { top_k: 5, ..routing }, normalised: true });
    assert!(refusal(&greedy, &[gates]).contains("a token goes to 1 to 4 experts"));
}

#[test]
fn products_gates_and_arithmetic() {
    let product = OpKind::MatMul(MatMul { transpose_right: true });
    let graph = single(product.clone(), &[floats(&[2, 3, 4]), floats(&[2, 5, 4])]);
    assert_eq!((output(&graph), forward(&graph, 7)), (&[2, 3, 5][..], 7 * 2 * 2 * 3 * 4 * 5));
    assert!(refusal(&product, &[floats(&[2, 3, 4]), floats(&[2, 4, 5])]).contains("[.., n, k]"));
    let packed = OpKind::Gate(Gate { function: ActivationKind::Silu, packed: true });
    assert_eq!(output(&single(packed.clone(), &[floats(&[3, 8])])), [3, 4]);
    assert!(refusal(&packed, &[floats(&[3, 7])]).contains("takes [.., 2 width]"));
    let sum = OpKind::Binary(Binary { function: Arithmetic::Add });
    let graph = single(sum.clone(), &[floats(&[3, 1, 5]), floats(&[4, 1])]);
    assert_eq!(output(&graph), [3, 4, 5]);
    assert!(refusal(&sum, &[floats(&[3]), floats(&[4])]).contains("broadcast"));
    let rms = single(OpKind::RmsNorm(RmsNorm { dim: 8, eps: 1e-6, unit_offset: false }), &[floats(&[3, 8])]);
    assert_eq!((rms.parameter_count(), rms.saved(OpId::new(0), 2).internal_elements), (8, 6));
    let norm = single(OpKind::BatchNorm(BatchNorm { channels: 3, eps: 1e-5 }), &[floats(&[3, 2, 2])]);
    assert_eq!((norm.parameter_count(), norm.saved(OpId::new(0), 9).internal_elements), (6, 6));
    let bare = OpKind::LayerNorm { dim: 8, eps: 1e-5, bias: false };
    assert_eq!(single(bare, &[floats(&[3, 8])]).parameter_count(), 8);
}

#[test]
fn shapes_move_without_work() {
    let one = |kind, dims: &[u64]| output(&single(kind, &[floats(dims)])).to_vec();
    assert_eq!(one(OpKind::Reshape(Reshape { dims: vec![6, 2] }), &[3, 4]), [6, 2]);
    assert_eq!(one(OpKind::Transpose(Transpose { axes: vec![2, 0, 1] }), &[3, 4, 5]), [5, 3, 4]);
    assert_eq!(one(OpKind::Slice(Slice { axis: 1, start: 1, end: 7, step: 2 }), &[3, 8]), [3, 3]);
    assert_eq!(one(OpKind::Pad(Pad { axis: 0, before: 1, after: 2 }), &[3, 8]), [6, 8]);
    assert_eq!(one(OpKind::Reduce(Reduce { function: Reduction::Mean, axes: vec![1, 2] }), &[3, 4, 5]), [3]);
    assert_eq!(one(OpKind::PrependTokens(PrependTokens { count: 1, dim: 4, init_std: 0.02 }), &[3, 4]), [4, 4]);
    let join = OpKind::Concat(Concat { axis: 1, values: 3 });
    let graph = single(join.clone(), &[floats(&[3, 1]), floats(&[3, 2]), floats(&[3, 4])]);
    assert_eq!((output(&graph), forward(&graph, 2)), (&[3, 7][..], 0));
    assert!(refusal(&join, &[floats(&[3, 1]), floats(&[2, 2]), floats(&[3, 4])]).contains("differ along axis 1 only"));
    assert!(refusal(&OpKind::Reshape(Reshape { dims: vec![5] }), &[floats(&[3])]).contains("not as many elements"));
    assert!(refusal(&OpKind::Transpose(Transpose { axes: vec![0, 0] }), &[floats(&[3, 3])]).contains("no order"));
    let view = single(OpKind::Reshape(Reshape { dims: vec![12] }), &[floats(&[3, 4])]);
    assert_eq!(view.facts(OpId::new(0), Pass::Forward, 1).kernels, 0);
}

#[test]
fn every_operator_survives_hostile_sizes() {
    let huge = u64::MAX / 2;
    let window = Window {
        kernel: vec![huge, 3],
        stride: vec![1, huge],
        padding: vec![[huge; 2]; 2],
        dilation: vec![huge; 2],
        ceil: true,
    };
    let kinds = [
        OpKind::Convolution(Convolution { inputs: 4, outputs: huge, window: window.clone(), groups: 1, bias: true }),
        OpKind::Pool(Pool { function: PoolKind::Max, window }),
        OpKind::Recurrent(Recurrent { projection: Some(huge), ..Recurrent::new(Cell::Lstm, 4, huge) }),
        OpKind::Attention(Attention { kv_heads: Some(0), ..Attention::new(huge, huge, true, AttentionInput::Packed) }),
        OpKind::Pad(Pad { axis: 0, before: huge, after: huge }),
        OpKind::Reshape(Reshape { dims: vec![huge, huge] }),
        OpKind::PrependTokens(PrependTokens { count: huge, dim: 4, init_std: 0.0 }),
        OpKind::Upsample(cutplane_graph::Upsample { factor: huge }),
        OpKind::Slice(Slice { axis: 9, start: 0, end: huge, step: 0 }),
    ];
    for kind in kinds {
        let mut b = ModelGraphBuilder::new("m");
        let x = b.input("x", InputRole::Features, floats(&[4, 4, 4])).unwrap();
        assert!(b.op("op", kind.clone(), &[x]).is_err(), "{kind:?}");
    }
}
