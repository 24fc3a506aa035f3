//! Experts dealt to the ranks of an axis: buffers, exchanges, owners, and what is refused.

use cutplane_graph::sharding::{Collective, Split};
use cutplane_graph::{
    ActivationKind, Combine, Dispatch, Dtype, ExpertLinear, InputRole, LocalGraph, ModelGraph, ModelGraphBuilder, OpId,
    OpKind, ParamId, Pass, Router, Routing, TensorType, expert_splits,
};

/// A mixture of 4 experts of width 6 over 6 tokens of width 8.
fn model(capacity: Option<u64>) -> ModelGraph {
    let routing = Routing { experts: 4, top_k: 2, capacity, dealt: None };
    let linear = |inputs, outputs| OpKind::ExpertLinear(ExpertLinear { routing, inputs, outputs, init_std: 0.02 });
    let mut b = ModelGraphBuilder::new("mixture");
    let ids = TensorType::batched(&[6], Dtype::I32);
    let tokens = b.input("tokens", InputRole::Tokens, ids.clone()).unwrap();
    let targets = b.input("targets", InputRole::NextTokens, ids).unwrap();
    let x = b.op("embed", OpKind::Embedding { vocab: 12, dim: 8, init_std: 0.02 }, &[tokens]).unwrap();
    b.layer(Some(0));
    let logits = b.op("gate", OpKind::linear(8, 4), &[x]).unwrap();
    let gates = b.op("router", OpKind::Router(Router { routing, normalised: true }), &[logits]).unwrap();
    let y = b.op("dispatch", OpKind::Dispatch(Dispatch { routing }), &[x, gates]).unwrap();
    let y = b.op("up", linear(8, 6), &[y, gates]).unwrap();
    let y = b.op("act", OpKind::Activation { function: ActivationKind::Relu }, &[y]).unwrap();
    let y = b.op("down", linear(6, 8), &[y, gates]).unwrap();
    let y = b.op("combine", OpKind::Combine(Combine { routing }), &[y, gates]).unwrap();
    let x = b.op("add", OpKind::Add, &[x, y]).unwrap();
    b.layer(None);
    let logits = b.op("head", OpKind::linear(8, 12), &[x]).unwrap();
    let loss = b.op("loss", OpKind::CrossEntropy { classes: 12, counted: 6 }, &[logits, targets]).unwrap();
    b.loss(loss).build().unwrap()
}

fn local(model: &ModelGraph) -> LocalGraph {
    LocalGraph::new(model, 2, &expert_splits(model, 2).unwrap()).unwrap()
}

fn dims<'l>(local: &'l LocalGraph, name: &str) -> &'l [u64] {
    let graph = local.graph();
    let op = graph.ops().iter().find(|op| op.name == name).unwrap();
    &graph.value(op.output).ty.dims
}

#[test]
fn rows_travel_to_the_owners_of_experts_and_back() {
    let model = model(None);
    let local = local(&model);
    let moves = local.graph().ops().iter().filter_map(|op| match &op.kind {
        OpKind::Exchange(kind) => Some((kind.forward(), kind.backward())),
        _ => None,
    });
    let there_and_back = (Collective::AllToAll, Collective::AllToAll);
    let moves: Vec<_> = moves.collect();
    assert_eq!(moves.iter().filter(|moved| **moved == there_and_back).count(), 2);
    // All ranks learn all gates, and each knows the gradient of its own tokens'.
    assert_eq!(moves.iter().filter(|moved| **moved == (Collective::AllGather, Collective::ReduceScatter)).count(), 1);
    // Each of 3 tokens may send both its copies to either rank.
    assert_eq!((dims(&local, "dispatch"), dims(&local, "up")), (&[1, 12, 8][..], &[2, 6, 6][..]));
    assert_eq!((dims(&local, "down"), dims(&local, "combine")), (&[2, 6, 8][..], &[3, 8][..]));
    let work = |graph: &ModelGraph, name: &str| {
        let op = graph.op_ids().find(|op| graph.op(*op).name == name).unwrap();
        graph.facts(op, Pass::Forward, 1).flops.get()
    };
    assert_eq!(2 * work(local.graph(), "up"), work(&model, "up"), "padding is not computed");
}

#[test]
fn a_buffer_holds_no_more_than_the_receivers_experts_take() {
    let local = local(&model(Some(1)));
    assert_eq!((dims(&local, "dispatch"), dims(&local, "up")), (&[1, 4, 8][..], &[2, 2, 6][..]));
}

#[test]
fn each_expert_has_one_owner() {
    let model = model(None);
    let local = local(&model);
    let up = local.graph().ops().iter().find(|op| op.name == "up").unwrap();
    assert_eq!(up.params.len(), 2);
    let names = |rank| {
        let held = up.params.iter().map(|id| model.param(local.held(*id, rank)).name.as_str());
        held.collect::<Vec<_>>()
    };
    assert_eq!(names(0), ["up.0.weight", "up.1.weight"]);
    assert_eq!(names(1), ["up.2.weight", "up.3.weight"]);
    let id = up.params[1];
    assert_eq!((local.graph().param(id).shape.as_slice(), local.places(id, 1)), (&[6, 8][..], None));
    let own = local.graph().op_ids().filter_map(|op| local.own_entries(op));
    assert_eq!(own.collect::<Vec<_>>(), [2; 4], "dispatch, two products, combination");
    assert_eq!(local.held(ParamId::new(0), 1), ParamId::new(0));
}

#[test]
fn impossible_deals_are_refused() {
    let model = model(None);
    let refused = |ranks| expert_splits(&model, ranks).unwrap_err().to_string();
    for ranks in [3, 4] {
        let error = refused(ranks);
        let problem = format!("operator 'dispatch' cannot deal 4 experts and 6 tokens a sample to {ranks} ranks");
        assert!(error.starts_with(&problem), "{error}");
    }
    let mut splits = expert_splits(&model, 2).unwrap();
    let error = LocalGraph::new(&model, 3, &splits).unwrap_err().to_string();
    assert!(error.contains("over 3 ranks"), "{error}");
    let act = model.op_ids().find(|op| model.op(*op).name == "act").unwrap();
    splits[act.index()] = None;
    let error = LocalGraph::new(&model, 2, &splits).unwrap_err().to_string();
    assert!(error.contains("'act' is not split as its mixture"), "{error}");
    let mut one = vec![None; model.ops().len()];
    one[OpId::new(act.index() - 1).index()] = Some(Split::Expert);
    let error = LocalGraph::new(&model, 2, &one).unwrap_err().to_string();
    assert!(error.contains("'up' is not split as its mixture"), "{error}");
}
