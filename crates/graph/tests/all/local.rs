//! The graph of one rank of a tensor axis: shapes, slices, exchanges, and what is refused.

use cutplane_graph::sharding::{Collective, Split};
use cutplane_graph::{
    ActivationKind, AttentionInput, Dtype, InputRole, LocalGraph, ModelGraph, ModelGraphBuilder, OpId, OpKind, ParamId,
    TensorType, WeightLayout, axis_places, context_splits, tensor_splits,
};

/// A transformer layer of width 8 with 2 heads between an embedding of 12 words and the head that shares it.
fn model() -> ModelGraph {
    let mut b = ModelGraphBuilder::new("layer");
    let ids = TensorType::batched(&[4], Dtype::I32);
    let tokens = b.input("tokens", InputRole::Tokens, ids.clone()).unwrap();
    let targets = b.input("targets", InputRole::NextTokens, ids).unwrap();
    let x = b.op("embed", OpKind::Embedding { vocab: 12, dim: 8, init_std: 0.02 }, &[tokens]).unwrap();
    b.layer(Some(0));
    let y = b.op("norm", OpKind::layer_norm(8, 1e-5), &[x]).unwrap();
    let y = b.op("qkv", OpKind::linear(8, 24), &[y]).unwrap();
    let y = b.op("attention", OpKind::attention(2, 4, true, AttentionInput::Packed), &[y]).unwrap();
    let y = b.op("proj", OpKind::linear(8, 8), &[y]).unwrap();
    let x = b.op("add", OpKind::Add, &[x, y]).unwrap();
    let y = b.op("up", OpKind::linear(8, 16), &[x]).unwrap();
    let y = b.op("act", OpKind::Activation { function: ActivationKind::Relu }, &[y]).unwrap();
    let y = b.op("down", OpKind::linear(16, 8), &[y]).unwrap();
    let x = b.op("add2", OpKind::Add, &[x, y]).unwrap();
    b.layer(None);
    let layout = WeightLayout::OutIn;
    let head = OpKind::Linear { inputs: 8, outputs: 12, bias: false, layout, init_std: 0.02 };
    let logits = b.op_with_params("head", head, &[x], &["embed.weight"]).unwrap();
    let loss = b.op("loss", OpKind::CrossEntropy { classes: 12, counted: 4 }, &[logits, targets]).unwrap();
    b.loss(loss).build().unwrap()
}

fn exchanges(local: &LocalGraph) -> Vec<(Collective, Collective)> {
    let exchange = |op: &cutplane_graph::Op| match &op.kind {
        OpKind::Exchange(exchange) => Some((exchange.forward(), exchange.backward())),
        _ => None,
    };
    local.graph().ops().iter().filter_map(exchange).collect()
}

#[test]
fn a_layer_exchanges_as_its_authors_say() {
    use Collective::{AllGather, AllReduce, AllToAll, None, ReduceScatter};
    let model = model();
    let of = |splits| exchanges(&LocalGraph::new(&model, 2, &splits).unwrap());
    // Megatron: the input's gradient and the output's sum of attention and feed-forward layer; the shared table's sum, its
    // gradient, and the logits.
    let tensor = [(AllReduce, None), (None, AllReduce), (AllReduce, None)];
    assert_eq!(of(tensor_splits(&model, 2, false))[..3], tensor);
    let sequence = of(tensor_splits(&model, 2, true));
    assert_eq!(sequence.iter().filter(|moves| **moves == (AllGather, ReduceScatter)).count(), 3);
    assert_eq!(sequence.iter().filter(|moves| **moves == (ReduceScatter, AllGather)).count(), 3);
    let context = of(context_splits(&model, 2));
    assert_eq!(context.iter().filter(|moves| **moves == (AllToAll, AllToAll)).count(), 2);
}

#[test]
fn slices_of_all_ranks_make_the_parameter() {
    let model = model();
    let local = LocalGraph::new(&model, 2, &tensor_splits(&model, 2, false)).unwrap();
    for (index, param) in model.params().iter().enumerate() {
        let id = ParamId::new(index);
        let whole: Vec<f32> = (0..param.elements()).map(|x| x as f32).collect();
        let slices: Vec<Vec<f32>> = (0..2).map(|rank| local.slice_param(id, rank, &whole)).collect();
        assert!(slices.iter().all(|slice| slice.len() as u64 == local.graph().param(id).elements()), "{}", param.name);
        let mut all: Vec<f32> = slices.concat();
        all.sort_unstable_by(f32::total_cmp);
        all.dedup();
        assert_eq!(all, whole, "{}", param.name);
    }
    assert_eq!(local.graph().param(ParamId::new(0)).shape, [6, 8], "half of the table");
}

#[test]
fn packed_axes_are_split_part_by_part() {
    assert_eq!(axis_places(6, &[], 2, 1), [3, 4, 5]);
    // Queries, keys and values of two heads: the second rank has the second half of each.
    assert_eq!(axis_places(12, &[4, 4, 4], 2, 1), [2, 3, 6, 7, 10, 11]);
}

#[test]
fn what_no_rank_can_compute_is_refused() {
    let model = model();
    let mut splits = vec![None; model.ops().len()];
    splits[11] = Some(Split::Column);
    let refused = |splits| LocalGraph::new(&model, 2, &splits).unwrap_err().to_string();
    assert!(refused(splits.clone()).contains("cannot be split"), "{}", refused(splits.clone()));
    // The head alone: the embedding has the table whole.
    splits[11] = None;
    splits[10] = Some(Split::Column);
    assert!(refused(splits.clone()).contains("splits differently"), "{}", refused(splits));
    let three = tensor_splits(&model, 3, false);
    assert_eq!(three[3], None, "two heads do not go over three ranks");
    assert_eq!(model.op(OpId::new(3)).name, "attention");
}
