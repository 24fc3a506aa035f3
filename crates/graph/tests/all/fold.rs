//! Repeated blocks, found without names.

use cutplane_graph::{
    ActivationKind, Dtype, InputRole, ModelGraph, ModelGraphBuilder, OpKind, TensorType, ValueId, fold,
};

struct Chain {
    b: ModelGraphBuilder,
    next: usize,
}

impl Chain {
    fn new() -> (Self, ValueId) {
        let mut b = ModelGraphBuilder::new("chain");
        let x = b.input("x", InputRole::Features, TensorType::batched(&[4, 8], Dtype::F32)).unwrap();
        (Self { b, next: 0 }, x)
    }

    /// An operator without a telling name.
    fn op(&mut self, kind: OpKind, inputs: &[ValueId]) -> ValueId {
        self.next += 1;
        self.b.op(&format!("node_{}", self.next), kind, inputs).unwrap()
    }

    fn activation(&mut self, x: ValueId) -> ValueId {
        self.op(OpKind::Activation { function: ActivationKind::Gelu }, &[x])
    }

    /// Norm, up, GELU, down, sum.
    fn block(&mut self, x: ValueId) -> ValueId {
        let n = self.op(OpKind::layer_norm(8, 1e-5), &[x]);
        let u = self.op(OpKind::linear(8, 16), &[n]);
        let g = self.activation(u);
        let d = self.op(OpKind::linear(16, 8), &[g]);
        self.op(OpKind::Add, &[d, x])
    }

    fn build(mut self, y: ValueId) -> ModelGraph {
        self.b.output(y).build().unwrap()
    }
}

fn shape(graph: &ModelGraph) -> Vec<(usize, usize)> {
    let folded = fold(graph);
    assert_eq!(folded.blocks.iter().map(|block| block.ops.len()).sum::<usize>(), graph.ops().len());
    folded.blocks.iter().map(|block| (block.class, block.ops.len())).collect()
}

#[test]
fn blocks_in_a_row_share_a_class() {
    let (mut chain, mut x) = Chain::new();
    x = chain.op(OpKind::linear(8, 8), &[x]);
    for _ in 0..4 {
        x = chain.block(x);
    }
    x = chain.op(OpKind::layer_norm(8, 1e-5), &[x]);
    let graph = chain.build(x);
    assert_eq!(shape(&graph), [(0, 1), (1, 5), (1, 5), (1, 5), (1, 5), (2, 1)]);
    let folded = fold(&graph);
    assert_eq!(folded.classes[1].blocks, [1, 2, 3, 4]);
    // The norm of a block and the last norm are one operator, priced once.
    assert_eq!(folded.op_classes[1], *folded.op_classes.last().unwrap());
}

#[test]
fn different_wiring_is_a_different_block() {
    let (mut chain, first) = Chain::new();
    let mut x = chain.block(first);
    x = chain.block(x);
    // The same operators, but the sum skips one block more.
    let n = chain.op(OpKind::layer_norm(8, 1e-5), &[x]);
    let u = chain.op(OpKind::linear(8, 16), &[n]);
    let g = chain.activation(u);
    let d = chain.op(OpKind::linear(16, 8), &[g]);
    let y = chain.op(OpKind::Add, &[d, first]);
    let graph = chain.build(y);
    let shape = shape(&graph);
    assert_eq!(shape.iter().filter(|(class, len)| *class == shape[0].0 && *len == 5).count(), 2, "{shape:?}");
}

#[test]
fn a_common_source_does_not_hide_repetition() {
    let (mut chain, x) = Chain::new();
    let memory = chain.op(OpKind::linear(8, 8), &[x]);
    let mut y = chain.activation(memory);
    for _ in 0..6 {
        let left = chain.op(OpKind::linear(8, 8), &[y]);
        y = chain.op(OpKind::Add, &[left, memory]);
    }
    assert_eq!(shape(&chain.build(y)), [(0, 2), (1, 2), (1, 2), (1, 2), (1, 2), (1, 2), (1, 2)]);
}

#[test]
fn equal_blocks_apart_from_each_other_share_a_class_where_layers_are_named() {
    let (mut chain, mut x) = Chain::new();
    for layer in 0..3 {
        chain.b.layer(Some(layer));
        x = if layer == 1 { chain.op(OpKind::linear(8, 8), &[x]) } else { chain.block(x) };
    }
    assert_eq!(shape(&chain.build(x)), [(0, 5), (1, 1), (0, 5)]);
}

#[test]
fn a_hundred_thousand_operators_fold() {
    let (mut chain, mut x) = Chain::new();
    for _ in 0..20_000 {
        x = chain.block(x);
    }
    let folded = fold(&chain.build(x));
    assert_eq!((folded.classes.len(), folded.blocks.len()), (1, 20_000));
}
