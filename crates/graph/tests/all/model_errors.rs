//! One failing example for each way in which a model graph can be malformed.

use cutplane_graph::{
    AttentionInput, Dtype, InputRole, ModelError, ModelGraphBuilder, OpKind, TensorType, ValueId, WeightLayout,
};

fn builder() -> (ModelGraphBuilder, ValueId) {
    let mut b = ModelGraphBuilder::new("m");
    let x = b.input("x", InputRole::Features, TensorType::batched(&[4, 8], Dtype::F32)).unwrap();
    (b, x)
}

#[test]
fn empty() {
    assert_eq!(ModelGraphBuilder::new("m").build().unwrap_err(), ModelError::Empty { model: "m".into() });
}

#[test]
fn duplicate_name() {
    let (mut b, x) = builder();
    b.op("a", OpKind::linear(8, 8), &[x]).unwrap();
    let twice = ModelError::DuplicateName { name: "a".into() };
    assert_eq!(b.op("a", OpKind::linear(8, 8), &[x]).unwrap_err(), twice);
    let input = b.input("x", InputRole::Features, TensorType::batched(&[1], Dtype::F32)).unwrap_err();
    assert_eq!(input, ModelError::DuplicateName { name: "x".into() });
}

#[test]
fn unknown_value() {
    let (mut b, _) = builder();
    let error = b.op("a", OpKind::linear(8, 8), &[ValueId::new(7)]).unwrap_err();
    assert_eq!(error, ModelError::UnknownValue { op: "a".into(), value: "value7".into() });
}

#[test]
fn arity() {
    let (mut b, x) = builder();
    let error = b.op("sum", OpKind::Add, &[x]).unwrap_err();
    assert_eq!(error, ModelError::Arity { op: "sum".into(), expected: 2, got: 1 });
}

fn refused_shape(kind: OpKind, inputs: &[TensorType]) -> String {
    let mut b = ModelGraphBuilder::new("m");
    let ids: Vec<ValueId> = inputs
        .iter()
        .enumerate()
        .map(|(index, ty)| b.input(&format!("x{index}"), InputRole::Features, ty.clone()).unwrap())
        .collect();
    match b.op("op", kind, &ids).unwrap_err() {
        ModelError::Shape { op, reason } if op == "op" => reason,
        other => panic!("{other}"),
    }
}

#[test]
fn shape_of_every_operator() {
    let floats = |dims: &[u64]| TensorType::batched(dims, Dtype::F32);
    let ids = |dims: &[u64]| TensorType::batched(dims, Dtype::I32);
    let linear = OpKind::linear(8, 16);
    assert_eq!(refused_shape(linear.clone(), &[floats(&[4, 9])]), "takes [.., 8], got f32[b, 4, 9]");
    assert_eq!(refused_shape(linear.clone(), &[floats(&[])]), "takes [.., 8], got f32[b]");
    assert_eq!(refused_shape(linear, &[ids(&[4, 8])]), "takes floats, got i32[b, 4, 8]");
    let embedding = OpKind::Embedding { vocab: 9, dim: 8, init_std: 0.02 };
    assert_eq!(refused_shape(embedding, &[floats(&[4])]), "takes i32 ids, got f32[b, 4]");
    let position = OpKind::position_embedding(4, 8, 0.02);
    assert_eq!(refused_shape(position.clone(), &[floats(&[5, 8])]), "5 tokens, but only 4 positions");
    assert_eq!(refused_shape(position, &[floats(&[4, 7])]), "takes [s, 8], got f32[b, 4, 7]");
    let norm = OpKind::layer_norm(8, 1e-5);
    assert_eq!(refused_shape(norm, &[floats(&[4, 7])]), "takes [.., 8], got f32[b, 4, 7]");
    let packed = OpKind::attention(2, 4, true, AttentionInput::Packed);
    assert_eq!(refused_shape(packed, &[floats(&[4, 8])]), "takes [s, 24] with 2 heads of 4, got f32[b, 4, 8]");
    let separate = OpKind::attention(2, 4, false, AttentionInput::Separate);
    let uneven = [floats(&[4, 8]), floats(&[4, 8]), floats(&[5, 8])];
    assert!(refused_shape(separate, &uneven).starts_with("takes [s, 8]"));
    assert_eq!(
        refused_shape(OpKind::Add, &[floats(&[4, 8]), floats(&[8, 4])]),
        "adds values of one shape, got f32[b, 4, 8] and f32[b, 8, 4]"
    );
    let select = OpKind::SelectToken { index: 4 };
    assert_eq!(refused_shape(select, &[floats(&[4, 8])]), "takes [s, h] with s above 4, got f32[b, 4, 8]");
}

#[test]
fn shape_of_a_loss() {
    let logits = TensorType::batched(&[4, 9], Dtype::F32);
    let targets = |dims: &[u64], dtype| TensorType::batched(dims, dtype);
    let loss = |classes, counted| OpKind::CrossEntropy { classes, counted };
    let wrong = [
        (loss(8, 4), targets(&[4], Dtype::I32)),
        (loss(9, 4), targets(&[5], Dtype::I32)),
        (loss(9, 4), targets(&[4], Dtype::F32)),
        (loss(9, 0), targets(&[4], Dtype::I32)),
        (loss(9, 5), targets(&[4], Dtype::I32)),
    ];
    for (kind, targets) in wrong {
        assert!(refused_shape(kind, &[logits.clone(), targets]).starts_with("takes logits"));
    }
}

#[test]
fn a_loss_must_be_one_number() {
    let (mut b, x) = builder();
    let y = b.op("a", OpKind::linear(8, 8), &[x]).unwrap();
    let error = b.loss(y).build().unwrap_err();
    assert_eq!(error.to_string(), "operator 'a': the loss must be one number, got f32[b, 4, 8]");
}

#[test]
fn parameter_names_must_be_as_many_as_parameters() {
    let (mut b, x) = builder();
    let error = b.op_with_params("a", OpKind::linear(8, 8), &[x], &["only.weight"]).unwrap_err();
    assert_eq!(error.to_string(), "operator 'a': owns 2 parameters, 1 names were given");
}

#[test]
fn impossible_shape() {
    let mut b = ModelGraphBuilder::new("m");
    for dims in [&[4, 0][..], &[1 << 40], &[1 << 33, 1 << 33]] {
        let error = b.input(&format!("x{dims:?}"), InputRole::Features, TensorType::batched(dims, Dtype::F32));
        assert!(matches!(error.unwrap_err(), ModelError::ImpossibleShape { .. }), "{dims:?}");
    }
    let (mut b, x) = builder();
    let error = b.op("a", OpKind::linear(8, 0), &[x]).unwrap_err();
    assert_eq!(error, ModelError::ImpossibleShape { name: "a.weight".into(), shape: "[8, 0]".into() });
}

#[test]
fn shared_parameter_of_two_shapes() {
    let (mut b, x) = builder();
    let layout = WeightLayout::OutIn;
    let kind = |outputs| OpKind::Linear { inputs: 8, outputs, bias: false, layout, init_std: 0.02 };
    b.op_with_params("a", kind(8), &[x], &["w"]).unwrap();
    let error = b.op_with_params("b", kind(9), &[x], &["w"]).unwrap_err();
    assert_eq!(error, ModelError::SharedParamShape { param: "w".into(), first: vec![8, 8], second: vec![9, 8] });
}

#[test]
fn dead_value_and_dead_input() {
    let (mut b, x) = builder();
    let y = b.op("used", OpKind::linear(8, 8), &[x]).unwrap();
    b.op("lost", OpKind::linear(8, 8), &[x]).unwrap();
    assert_eq!(b.output(y).build().unwrap_err(), ModelError::DeadValue { op: "lost".into() });
    let (mut b, x) = builder();
    b.input("idle", InputRole::Features, TensorType::batched(&[1], Dtype::F32)).unwrap();
    let y = b.op("used", OpKind::linear(8, 8), &[x]).unwrap();
    assert_eq!(b.output(y).build().unwrap_err(), ModelError::DeadInput { input: "idle".into() });
}

#[test]
fn a_tied_parameter_is_counted_once_and_knows_its_users() {
    let (mut b, x) = builder();
    let layout = WeightLayout::OutIn;
    let kind = OpKind::Linear { inputs: 8, outputs: 8, bias: false, layout, init_std: 0.02 };
    let y = b.op_with_params("a", kind.clone(), &[x], &["w"]).unwrap();
    let z = b.op_with_params("b", kind, &[y], &["w"]).unwrap();
    let graph = b.output(z).build().unwrap();
    assert_eq!(graph.parameter_count(), 64);
    assert_eq!(graph.params()[0].users, [graph.ops()[0].output, z].map(|v| graph.value(v).producer.unwrap()));
}

#[test]
fn the_dag_has_an_edge_for_each_use() {
    let (mut b, x) = builder();
    let y = b.op("up", OpKind::linear(8, 8), &[x]).unwrap();
    let z = b.op("sum", OpKind::Add, &[y, y]).unwrap();
    let w = b.op("last", OpKind::Add, &[z, y]).unwrap();
    let dag = b.output(w).build().unwrap().dag();
    let mut edges: Vec<(usize, usize)> =
        dag.raw_edges().iter().map(|edge| (edge.source().index(), edge.target().index())).collect();
    edges.sort_unstable();
    assert_eq!(edges, [(0, 1), (0, 1), (0, 2), (1, 2)]);
}
