//! Known answers: what the field does by rule comes out of the program.

use cutplane_graph::Overrides;
use cutplane_graph::sharding::Split;
use cutplane_sim::estimate::ZeroStage;
use cutplane_sim::planner::sharding::{ShardError, Sharding, Strategy};
use cutplane_units::Bytes;

use super::setting::{Setting, Work};

/// Splits of the operator whose name ends like this in the first block.
fn splits(sharding: &Sharding, operator: &str) -> [Option<Split>; 2] {
    strategy(sharding, operator).splits
}

fn strategy(sharding: &Sharding, operator: &str) -> Strategy {
    let operators = sharding.blocks.iter().flat_map(|block| &block.operators);
    operators.into_iter().find(|known| known.name.ends_with(operator)).unwrap().strategy
}

/// Narayanan et al. 2021: tensor parallelism inside the node, data parallelism across nodes; Shoeybi et al. 2019: a column
/// and a row split, heads between them; Korthikanti et al. 2022: sequence parallelism between the pairs, whose inputs are
/// kept in slices.
#[test]
fn gpt3_is_tensor_parallel_in_the_node_and_data_parallel_across() {
    let setting = Setting::new("gpt3-175b", 2048, Overrides::default(), "dgx-a100:128");
    let memory_limit = Some(setting.memory);
    let work = Work { mesh: &[128, 8], batch: 1536, micro_batches: 12, memory_limit };
    let found = setting.shard(work).unwrap();
    for (operator, inner) in [
        ("ln_1", Split::Sequence),
        ("attn.c_attn", Split::Column),
        (".attn", Split::Heads),
        ("attn.c_proj", Split::Row),
        ("ln_2", Split::Sequence),
        ("mlp.c_fc", Split::Column),
        ("mlp.act", Split::Width),
        ("mlp.c_proj", Split::Row),
    ] {
        assert_eq!(splits(&found, operator), [Some(Split::Batch), Some(inner)], "{operator}");
    }
    assert_eq!(strategy(&found, "mlp.c_fc").stash, [false, true]);
    assert!(found.outcome.gap() <= 1e-3 && found.outcome.gap_of_unequal().unwrap() <= 0.03, "{:?}", found.outcome);
    assert!(found.account.memory() <= setting.memory.as_f64() * (1.0 + 1e-8));
    // Gradients cross nodes, activations do not.
    assert!(found.account.outer.resharding_s == 0.0 && found.account.inner.resharding_s > 1.0, "{:?}", found.account);
}

#[test]
fn a_small_model_with_a_large_batch_is_data_parallel() {
    let overrides = Overrides { layers: Some(4), ..Overrides::default() };
    let setting = Setting::new("gpt2", 1024, overrides, "dgx-a100:2");
    let work = Work { mesh: &[2, 8], batch: 256, micro_batches: 1, memory_limit: Some(setting.memory) };
    let found = setting.shard(work).unwrap();
    let batch = [Some(Split::Batch); 2];
    assert!(found.strategies.iter().all(|strategy| strategy.splits == batch), "{:?}", found.blocks);
    let moved = found.account;
    assert!(moved.outer.resharding_s + moved.inner.resharding_s + moved.both.resharding_s == 0.0, "{moved:?}");
    assert!(found.strategies.iter().all(|strategy| strategy.zero != ZeroStage::Three));
}

/// Mixtral's experts are dealt to the devices of a node where their weights are larger than the tokens; without experts in
/// the way, the rest of the block stays data parallel.
#[test]
fn experts_are_dealt_where_their_weights_outweigh_the_tokens() {
    let overrides = Overrides { layers: Some(2), ..Overrides::default() };
    let setting = Setting::new("mixtral-8x7b", 512, overrides, "dgx-a100:1");
    let few = Work { mesh: &[8], batch: 32, micro_batches: 1, memory_limit: Some(setting.memory) };
    let found = setting.shard(few).unwrap();
    let experts: Vec<_> = found
        .blocks
        .iter()
        .flat_map(|block| &block.operators)
        .filter(|operator| operator.kind == "expert linear")
        .map(|operator| operator.strategy.splits[1])
        .collect();
    assert!(experts.len() >= 2 && experts.iter().all(|split| *split == Some(Split::Expert)), "{:?}", found.blocks);
    assert!(found.account.inner.inside_s > 0.0, "tokens travel");
}

/// Rajbhandari et al. 2020: the less memory, the more state is sharded, and the slower the step.
#[test]
fn state_is_sharded_when_memory_is_short() {
    let overrides = Overrides { layers: Some(8), ..Overrides::default() };
    let setting = Setting::new("gpt2-xl", 256, overrides, "dgx-a100:1");
    let work =
        |limit: f64| Work { mesh: &[8], batch: 256, micro_batches: 1, memory_limit: Some(Bytes::new(limit as u64)) };
    let ample = setting.shard(work(40e9)).unwrap();
    let stages = |found: &Sharding, stage| found.strategies.iter().filter(|one| one.zero == stage).count();
    assert_eq!(stages(&ample, ZeroStage::Two) + stages(&ample, ZeroStage::Three), 0, "{:?}", ample.blocks);
    let state = |found: &Sharding| found.account.parameter_bytes + found.account.gradient_bytes;
    let Err(ShardError::Infeasible { smallest, .. }) = setting.shard(work(1e9)) else { panic!("it fits") };
    let room = ample.account.memory() - smallest.as_f64();
    let mut known = ample;
    for share in [0.5, 0.1] {
        let limit = smallest.as_f64() + share * room;
        let found = setting.shard(work(limit)).unwrap();
        assert!(found.account.seconds() > known.account.seconds(), "{:?}", found.account);
        assert!(found.account.memory() <= limit * (1.0 + 1e-8) && state(&found) < state(&known));
        known = found;
    }
    assert!(stages(&known, ZeroStage::Three) >= 8, "{:?}", known.blocks);
    assert!(known.strategies.iter().all(|one| one.splits[1] == Some(Split::Batch)), "{:?}", known.blocks);
}
