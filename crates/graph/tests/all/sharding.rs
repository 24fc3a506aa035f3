//! Rules of splitting: Megatron's pair, sequence parallelism, experts, and laws that hold for every operator.

use cutplane_graph::sharding::{Collective, Layout, ShardRule, Sharded, Split};
use cutplane_graph::{
    AttentionInput, Dtype, InputRole, ModelGraph, ModelGraphBuilder, OpId, OpKind, Pass, TensorType, ValueId,
};

/// Norm, wide, narrow, sum: half a decoder block.
fn block() -> ModelGraph {
    let mut b = ModelGraphBuilder::new("block");
    let x = b.input("x", InputRole::Features, TensorType::batched(&[16, 8], Dtype::F32)).unwrap();
    let x = b.op("in", OpKind::linear(8, 8), &[x]).unwrap();
    let n = b.op("norm", OpKind::layer_norm(8, 1e-5), &[x]).unwrap();
    let packed = b.op("qkv", OpKind::linear(8, 24), &[n]).unwrap();
    let mixed = b.op("attention", OpKind::attention(4, 2, true, AttentionInput::Packed), &[packed]).unwrap();
    let y = b.op("out", OpKind::linear(8, 8), &[mixed]).unwrap();
    let y = b.op("sum", OpKind::Add, &[y, x]).unwrap();
    b.output(y).build().unwrap()
}

fn rule(graph: &ModelGraph, op: usize, split: Split) -> ShardRule {
    graph.shard_rules(OpId::new(op), 2).into_iter().find(|rule| rule.split == split).unwrap()
}

#[test]
fn a_column_and_a_row_need_one_reduction_in_each_pass() {
    let graph = block();
    let whole = Sharded::replicated();
    let (column, heads, row) =
        (rule(&graph, 2, Split::Column), rule(&graph, 3, Split::Heads), rule(&graph, 4, Split::Row));
    assert_eq!(column.exchange(0, whole), (Collective::None, Collective::AllReduce));
    assert_eq!(heads.exchange(0, column.output), (Collective::None, Collective::None));
    assert_eq!(row.exchange(0, heads.output), (Collective::None, Collective::None));
    // The sum wants what every rank has a part of.
    assert_eq!(Collective::between(row.output.value, Layout::Replicated), Collective::AllReduce);
    assert_eq!((column.extent, heads.extent, row.extent), (24, 4, 8));
    assert_eq!(column.params[0].value, Layout::Axis(1));
    assert_eq!(row.params, [Sharded::split(Layout::Axis(0)), whole]);
}

#[test]
fn sequence_parallelism_gathers_before_and_scatters_after() {
    let graph = block();
    let (norm, column) = (rule(&graph, 1, Split::Sequence), rule(&graph, 2, Split::Column));
    assert_eq!(column.exchange(0, norm.output), (Collective::AllGather, Collective::ReduceScatter));
    let (row, sum) = (rule(&graph, 4, Split::Row), rule(&graph, 5, Split::Sequence));
    assert_eq!(sum.exchange(0, row.output), (Collective::ReduceScatter, Collective::AllGather));
    // The norm's weights are whole on every rank and their gradients are summands.
    assert_eq!(norm.params, [Sharded::shared(); 2]);
    // Ulysses: positions to heads is an exchange of all with all.
    let heads = rule(&graph, 3, Split::Heads);
    let linear = rule(&graph, 2, Split::Sequence);
    assert_eq!(heads.exchange(0, linear.output), (Collective::AllToAll, Collective::AllToAll));
    let context = rule(&graph, 3, Split::Context);
    let inside: Vec<_> =
        context.inside.iter().map(|inside| (inside.pass, inside.collective, inside.elements)).collect();
    // Keys and values of 2 samples, 16 positions, 8 features.
    let volume = 2 * 2 * 16 * 8;
    assert_eq!(
        inside,
        [(Pass::Forward, Collective::AllGather, volume), (Pass::Backward, Collective::ReduceScatter, volume)]
    );
}

#[test]
fn data_parallelism_is_the_first_rule_of_everything() {
    let graph = block();
    for op in graph.op_ids() {
        let rule = &graph.shard_rules(op, 2)[0];
        assert_eq!(rule.split, Split::Batch);
        assert!(rule.params.iter().all(|param| *param == Sharded::shared()), "{op}");
        assert_eq!(rule.output, Sharded::split(Layout::Batch));
    }
}

/// Small values of every rank and type that an operator may take.
fn graph_of(kind: OpKind, inputs: &[TensorType]) -> Option<ModelGraph> {
    let mut b = ModelGraphBuilder::new("one");
    let ids: Vec<ValueId> = inputs
        .iter()
        .enumerate()
        .map(|(index, ty)| b.input(&format!("x{index}"), InputRole::Features, ty.clone()).unwrap())
        .collect();
    let y = b.op("op", kind, &ids).ok()?;
    b.output(y).build().ok()
}

#[test]
fn rules_fit_the_tensors_that_they_split() {
    let floats = |dims: &[u64]| TensorType::batched(dims, Dtype::F32);
    let ids = |dims: &[u64]| TensorType::batched(dims, Dtype::I32);
    let json = |text: &str| serde_json::from_str::<OpKind>(text).unwrap();
    let kinds = [
        (json(r#"{"op":"embedding","vocab":9,"dim":8,"init_std":0.1}"#), vec![ids(&[4])]),
        (json(r#"{"op":"position-embedding","positions":9,"dim":8,"init_std":0.1}"#), vec![floats(&[4, 8])]),
        (json(r#"{"op":"rms-norm","dim":8,"eps":1e-6}"#), vec![floats(&[4, 8])]),
        (json(r#"{"op":"gate","function":"silu","packed":false}"#), vec![floats(&[4, 8]); 2]),
        (json(r#"{"op":"cross-entropy","classes":8,"counted":4}"#), vec![floats(&[4, 8]), ids(&[4])]),
        (json(r#"{"op":"batch-norm","channels":4,"eps":1e-5}"#), vec![floats(&[4, 6, 6])]),
        (
            json(
                r#"{"op":"convolution","inputs":4,"outputs":6,"kernel":[3,3],"stride":[1,1],"padding":[[1,1],[1,1]],
                "dilation":[1,1],"groups":1,"bias":true}"#,
            ),
            vec![floats(&[4, 6, 6])],
        ),
        (
            json(r#"{"op":"recurrent","cell":"lstm","inputs":8,"hidden":6,"bias":"two","output":"sequence"}"#),
            vec![floats(&[4, 8])],
        ),
        (
            json(r#"{"op":"expert-linear","experts":2,"top_k":1,"inputs":8,"outputs":6,"init_std":0.1}"#),
            vec![floats(&[4, 8]), floats(&[4, 2])],
        ),
        (json(r#"{"op":"reshape","dims":[4,2,4]}"#), vec![floats(&[4, 8])]),
        (json(r#"{"op":"transpose","axes":[1,0]}"#), vec![floats(&[4, 8])]),
        (json(r#"{"op":"reduce","function":"mean","axes":[1]}"#), vec![floats(&[4, 8])]),
    ];
    for (kind, inputs) in kinds {
        let graph = graph_of(kind.clone(), &inputs).unwrap_or_else(|| panic!("{kind:?}"));
        let (op, rules) = (&graph.ops()[0], graph.shard_rules(OpId::new(0), 2));
        assert!(rules.len() > 1, "{kind:?}");
        let fits = |sharded: &Sharded, dims: &[u64]| {
            [sharded.value, sharded.gradient].iter().all(|layout| match layout {
                Layout::Axis(axis) => *axis < dims.len(),
                _ => true,
            })
        };
        for rule in rules {
            assert_eq!((rule.inputs.len(), rule.params.len()), (op.inputs.len(), op.params.len()), "{kind:?} {rule:?}");
            let inputs_fit = rule.inputs.iter().zip(&inputs).all(|(sharded, ty)| fits(sharded, &ty.dims));
            let params_fit = rule.params.iter().zip(graph.params()).all(|(sharded, param)| fits(sharded, &param.shape));
            assert!(
                inputs_fit && params_fit && fits(&rule.output, &graph.value(op.output).ty.dims),
                "{kind:?} {rule:?}"
            );
            assert!(rule.extent > 0, "{kind:?} {rule:?}");
        }
    }
}
