//! Experts dealt to the ranks of an axis, by plan name: lowered, priced, refused.

use cutplane_graph::sharding::Collective;
use cutplane_graph::{DeviceGraph, Dtype, ModelGraph, ModelSource, Overrides};
use cutplane_plan::{Action, Optimizer, Program, lower, verify};
use cutplane_record::Timeline;
use cutplane_sim::cost::Roofline;
use cutplane_sim::cost::memory::MemoryModel;
use cutplane_sim::engine::simulate;
use cutplane_sim::planner::{PlanError, Problem, SearchSpace, named_plan};
use cutplane_units::Bytes;

const BATCH: u64 = 4;

/// Two layers of width 16 over 8 tokens; of Mixtral with 4 experts, 2 a token.
fn twin(name: &str) -> (ModelSource, ModelGraph) {
    let is_mixture = name.starts_with("mixtral");
    let overrides = Overrides {
        layers: Some(2),
        hidden: Some(16),
        heads: Some(4),
        kv_heads: is_mixture.then_some(4),
        experts: is_mixture.then_some(4),
        vocab: Some(32),
        ..Overrides::default()
    };
    let source = ModelSource::BuiltIn { name: name.into(), overrides, sequence_length: 8 };
    let model = cutplane_zoo::build(&source).unwrap();
    (source, model)
}

fn simulated(model: &str, name: &str) -> Result<(Program, Timeline), PlanError> {
    let (model_source, model) = twin(model);
    let devices = DeviceGraph::build(cutplane_zoo::cluster("cpu:4").unwrap()).unwrap();
    let problem = Problem {
        model: &model,
        model_source,
        devices: &devices,
        memory: MemoryModel::Framework,
        global_batch: BATCH,
        optimizer: Optimizer::AdamW,
        precision: Dtype::F32,
        limits: SearchSpace::default(),
    };
    let cost = Roofline::new();
    let plan = named_plan(&problem, &cost, name)?;
    let verified = verify(&plan, &model, &devices).unwrap();
    let program = lower(&verified).unwrap();
    let timeline = simulate(&verified, &program, &cost, MemoryModel::Framework).unwrap();
    Ok((program, timeline))
}

/// Bytes and predicted time of each exchange of all with all on the first rank.
fn all_to_alls(program: &Program, timeline: &Timeline) -> Vec<(Bytes, u64)> {
    let rank = &program.ranks[0];
    let exchange = |instruction: &cutplane_plan::Instruction| match instruction.action {
        Action::Exchange { group: Some(group), collective: Collective::AllToAll, .. } => {
            let span = timeline.rank_spans(rank.rank).find(|span| span.instruction == instruction.id)?;
            Some((program.group(group).bytes, (span.end - span.start).get()))
        }
        _ => None,
    };
    rank.instructions.iter().filter_map(exchange).collect()
}

#[test]
fn rows_to_and_from_experts_are_priced() {
    let exchanges = |name: &str| {
        let (program, timeline) = simulated("mixtral-8x7b", name).unwrap();
        all_to_alls(&program, &timeline)
    };
    let (context, experts) = (exchanges("cp2"), exchanges("ep2"));
    // Beside those of the attentions: to and from the experts of two layers, forward and backward.
    assert_eq!(experts.len() - context.len(), 2 * 2 * 2);
    // Each of 4 tokens a rank has may send both its copies to either rank.
    let buffer = Bytes::new(BATCH * 2 * (4 * 2) * 16 * 4);
    let times: Vec<u64> = experts.iter().filter(|(bytes, _)| *bytes == buffer).map(|(_, time)| *time).collect();
    assert_eq!(times.len(), 8);
    let smaller = context.iter().map(|(_, time)| *time).max().unwrap();
    assert!(times.iter().all(|time| *time > smaller), "{times:?} {context:?}");
}

#[test]
fn a_rank_keeps_its_experts_only() {
    let peak = |name: &str| simulated("mixtral-8x7b", name).unwrap().1.peak_memory[0];
    // Weights, gradients and two moments of all experts, of which a rank of two keeps a half.
    let (_, model) = twin("mixtral-8x7b");
    let of_experts = model.params().iter().filter(|param| param.name.contains(".experts."));
    let state: u64 = of_experts.map(|param| 4 * param.bytes().get()).sum();
    assert!((peak("cp2") - peak("ep2")).get() > state / 4, "{} {} {state}", peak("cp2"), peak("ep2"));
    assert!(peak("ep4") < peak("ep2"));
}

#[test]
fn what_cannot_be_dealt_is_refused_by_name() {
    let refuse = |model: &str, name: &str| simulated(model, name).err().unwrap().to_string();
    let three = refuse("mixtral-8x7b", "ep3");
    assert!(three.contains("cannot deal 4 experts and 8 tokens a sample to 3 ranks: choose a number"), "{three}");
    let none = refuse("gpt2", "ep2");
    assert!(none.contains("'gpt2' has no mixture of experts to deal to 2 ranks"), "{none}");
}
