//! Laws of lowering, over random chains with skip connections and tied parameters, random cuts, schedules and degrees.

use std::collections::BTreeSet;

use crate::common::{cores, plan};
use cutplane_graph::{Dtype, InputRole, ModelGraph, ModelGraphBuilder, OpKind, TensorType, ValueId};
use cutplane_plan::{Action, Program, RankProgram, Schedule, check_program, lower, verify};
use proptest::prelude::*;

/// One operator of the chain: what it does besides reading the value before it.
#[derive(Clone, Copy, Debug)]
enum Link {
    Linear,
    /// A linear layer that shares the first one's parameters.
    Tied,
    /// Adds the value this many steps (modulo what there is) earlier.
    Skip(usize),
}

fn link() -> impl Strategy<Value = Link> {
    prop_oneof![3 => Just(Link::Linear), 1 => Just(Link::Tied), 2 => (0usize..20).prop_map(Link::Skip)]
}

fn chain(links: &[Link]) -> ModelGraph {
    let mut b = ModelGraphBuilder::new("chain");
    let x = b.input("x", InputRole::Features, TensorType::batched(&[3, 8], Dtype::F32)).unwrap();
    let targets = b.input("targets", InputRole::NextTokens, TensorType::batched(&[3], Dtype::I32)).unwrap();
    let mut values: Vec<ValueId> = vec![x];
    for (index, link) in links.iter().enumerate() {
        let (name, last) = (format!("op{index}"), *values.last().unwrap());
        let value = match link {
            Link::Linear => b.op(&name, OpKind::linear(8, 8), &[last]),
            Link::Tied => b.op_with_params(&name, OpKind::linear(8, 8), &[last], &["shared.weight", "shared.bias"]),
            Link::Skip(back) => b.op(&name, OpKind::Add, &[last, values[back % values.len()]]),
        };
        values.push(value.unwrap());
    }
    let logits = *values.last().unwrap();
    let loss = b.op("loss", OpKind::CrossEntropy { classes: 8, counted: 3 }, &[logits, targets]).unwrap();
    b.loss(loss).build().unwrap()
}

/// A random legal problem: links, cut positions (as a set), replicas, schedule, micro-batches.
fn problem() -> impl Strategy<Value = (Vec<Link>, Vec<usize>, usize, Schedule, u64)> {
    let schedule = prop_oneof![Just(Schedule::FillDrain), Just(Schedule::OneFOneB)];
    (prop::collection::vec(link(), 1..24), prop::collection::vec(any::<usize>(), 0..5), 1usize..4, schedule, 1u64..8)
}

fn lowered(
    links: &[Link],
    cuts: &[usize],
    replicas: usize,
    schedule: Schedule,
    micro_batches: u64,
) -> (ModelGraph, Program) {
    let model = chain(links);
    let count = model.ops().len();
    // A cut before operator c, for 1 <= c < count.
    let cuts: BTreeSet<usize> = cuts.iter().map(|cut| 1 + cut % (count - 1)).collect();
    let bounds: Vec<usize> = std::iter::once(0).chain(cuts).chain([count]).collect();
    let stages: Vec<_> = bounds.windows(2).map(|pair| pair[0]..pair[1]).collect();
    let devices = cores(stages.len() * replicas, 1.0);
    let plan = plan(&model, &devices, &stages, replicas, schedule, micro_batches);
    let program = lower(&verify(&plan, &model, &devices).unwrap()).unwrap();
    (model, program)
}

/// Passes of a rank in order: micro-batch and whether it is the forward one.
fn passes(rank: &RankProgram) -> Vec<(u64, bool)> {
    let pass = |action| match action {
        Action::Forward { micro_batch, .. } => Some((micro_batch, true)),
        Action::Backward { micro_batch, .. } => Some((micro_batch, false)),
        _ => None,
    };
    rank.instructions.iter().filter_map(|instruction| pass(instruction.action)).collect()
}

/// Most micro-batches that have gone forward and not yet backward; every backward must follow its forward.
fn most_in_flight(rank: &RankProgram) -> usize {
    let (mut alive, mut most) = (BTreeSet::new(), 0);
    for (micro_batch, forward) in passes(rank) {
        let fresh = if forward { alive.insert(micro_batch) } else { alive.remove(&micro_batch) };
        assert!(fresh, "{}: micro-batch {micro_batch} runs out of order", rank.rank);
        most = most.max(alive.len());
    }
    assert!(alive.is_empty(), "{}: forwards without backward: {alive:?}", rank.rank);
    most
}

/// Values that a rank has received or loaded before the forward pass of a micro-batch.
fn at_hand(model: &ModelGraph, program: &Program, rank: &RankProgram, micro_batch: u64) -> BTreeSet<ValueId> {
    let mut values = BTreeSet::new();
    for instruction in &rank.instructions {
        match instruction.action {
            Action::Load { micro_batch: mb, .. } if mb == micro_batch => values.extend(model.inputs()),
            Action::Recv { message } if program.message(message).micro_batch == micro_batch => {
                values.extend(program.message(message).values.iter().copied());
            }
            Action::Forward { micro_batch: mb, .. } if mb == micro_batch => break,
            _ => {}
        }
    }
    values
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_legal_plan_lowers_to_a_program_that_ends((links, cuts, replicas, schedule, micro_batches) in problem()) {
        let (_, program) = lowered(&links, &cuts, replicas, schedule, micro_batches);
        prop_assert_eq!(check_program(&program), Ok(()));
        let stages = program.segments.len();
        for rank in &program.ranks {
            prop_assert_eq!(passes(rank).len() as u64, 2 * micro_batches);
            let most = most_in_flight(rank) as u64;
            prop_assert_eq!(most, schedule.in_flight(rank.stage, stages, micro_batches));
            prop_assert_eq!(rank.instructions.last().map(|last| last.action), Some(Action::OptimizerStep));
        }
    }

    #[test]
    fn every_segment_has_its_inputs_at_hand((links, cuts, replicas, schedule, micro_batches) in problem()) {
        let (model, program) = lowered(&links, &cuts, replicas, schedule, micro_batches);
        for rank in &program.ranks {
            for micro_batch in 0..micro_batches {
                let there = at_hand(&model, &program, rank, micro_batch);
                let missing = program.segments[rank.stage].inputs.iter().find(|value| !there.contains(*value));
                prop_assert_eq!(missing, None, "{} micro-batch {}", rank.rank, micro_batch);
            }
        }
    }

    #[test]
    fn every_parameter_is_summed_over_exactly_its_holders((links, cuts, replicas, schedule, micro_batches) in problem()) {
        let (model, program) = lowered(&links, &cuts, replicas, schedule, micro_batches);
        for param in (0..model.params().len()).map(cutplane_graph::ParamId::new) {
            let holds = |rank: &&RankProgram| program.segments[rank.stage].params.contains(&param);
            let holders: Vec<_> = program.ranks.iter().filter(holds).map(|rank| rank.rank).collect();
            let groups: Vec<_> = program.groups.iter().filter(|group| group.params.contains(&param)).collect();
            if holders.len() == 1 {
                prop_assert!(groups.is_empty());
            } else {
                prop_assert_eq!(groups.len(), 1);
                prop_assert_eq!(&groups[0].ranks, &holders);
            }
        }
    }
}
