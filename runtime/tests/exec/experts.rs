//! Experts dealt to ranks train as all of them on one rank do, alone and under everything else.

use std::sync::Arc;

use cutplane_graph::{OpKind, ParamId};
use cutplane_plan::{Execution, Optimizer, Program, Recompute, Schedule, Synchronisation, TensorSplit};
use cutplane_runtime::HostTensor;
use cutplane_runtime::data::Batches;
use cutplane_runtime::exec::Run;
use cutplane_runtime::init::initial_weight;
use cutplane_zoo::transformer::{Decoder, Experts};

use crate::executions::{self, synchronised};
use crate::families::sequence;
use crate::generated::{Axis, Case, Family};
use crate::plans::{Cut, GLOBAL_BATCH, SEED, Subject, cut, options};
use crate::resume::go_round;

/// Two layers of eight experts, two a token.
fn mixtral() -> Subject {
    sequence("mixtral-8x7b", 16, Some(4), 8)
}

/// Experts that take no more than their even share: some tokens are dropped, which ones follows from those of all ranks.
fn capped() -> Subject {
    let experts = Some(Experts { count: 4, top_k: 1, capacity_factor: Some(1.0), normalised: false });
    let small = Decoder { experts, layers: 2, hidden: 16, ffn_hidden: 24, heads: 4, vocab: 37, ..Decoder::gpt2() };
    let model = Arc::new(Decoder { context: 32, ..small }.graph(8).expect("a decoder"));
    let batches = Batches::synthetic(&model, GLOBAL_BATCH, SEED).expect("tokens");
    Subject { source: mixtral().source, model, batches: Arc::new(batches) }
}

fn alone(ranks: usize) -> Case {
    let (schedule, tensor, execution) = (Schedule::OneFOneB, Axis::Experts(ranks), Execution::default());
    Case { rows: 1, replicas: 1, micro_batches: 2, schedule, tensor, execution }
}

#[test]
fn experts_of_several_ranks_train_as_on_one() {
    let case = alone(2);
    let mut cases: Vec<Case> = [2, 4, 8].map(alone).into();
    cases.extend([
        Case { rows: 2, ..case.clone() },
        Case { rows: 2, schedule: Schedule::ZeroBubble, ..case.clone() },
        Case { rows: 2, schedule: Schedule::Interleaved, ..case.clone() },
        Case { replicas: 2, micro_batches: 1, ..case.clone() },
        Case { rows: 2, replicas: 2, micro_batches: 1, ..case.clone() },
        Case { execution: Execution { recompute: Recompute::Layers, ..Execution::default() }, ..case.clone() },
    ]);
    for synchronisation in
        [Synchronisation::Zero1, Synchronisation::Zero2, Synchronisation::Zero3, Synchronisation::ParameterServer]
    {
        cases.push(Case { replicas: 2, micro_batches: 1, execution: synchronised(synchronisation), ..case.clone() });
    }
    let mut family = Family::new(mixtral(), Optimizer::AdamW);
    for case in &cases {
        family.check(case).expect("a model of experts");
    }
}

#[test]
fn experts_that_drop_tokens_train_as_on_one_rank() {
    let mut family = Family::new(capped(), Optimizer::AdamW);
    for case in [alone(2), alone(4), Case { rows: 2, ..alone(2) }] {
        family.check(&case).expect("a model of experts");
    }
}

fn program(subject: &Subject, plan: Cut, ranks: u64, how: Synchronisation) -> Arc<Program> {
    let tensor = (ranks > 1).then(|| TensorSplit::experts(&subject.model, ranks).expect("experts"));
    executions::program(subject, plan, Execution { tensor, ..synchronised(how) })
}

fn is_expert(subject: &Subject, id: ParamId) -> bool {
    let users = &subject.model.param(id).users;
    users.iter().any(|op| matches!(subject.model.op(*op).kind, OpKind::ExpertLinear(_)))
}

#[test]
fn every_rank_holds_its_share_of_the_experts_and_no_more() {
    let subject = mixtral();
    let plan = cut("ep4", 1, 1, 1, Schedule::FillDrain);
    let program = program(&subject, plan, 4, Synchronisation::AllReduce);
    let run = Run::start(subject.model.clone(), program, subject.batches.clone(), &options(Optimizer::AdamW));
    let ranks = run.expect("starts").parameters().expect("alive");
    let all = (0..subject.model.params().len()).map(ParamId::new);
    for id in all {
        let holders: Vec<&HostTensor> = ranks.iter().filter_map(|rank| rank.get(&id)).collect();
        assert_eq!(holders.len(), if is_expert(&subject, id) { 1 } else { 4 }, "{}", subject.model.param(id).name);
        assert!(holders.iter().all(|held| **held == initial_weight(subject.model.param(id), SEED)));
    }
    // Two layers, three products, two experts of eight.
    assert!(ranks.iter().all(|rank| rank.keys().filter(|id| is_expert(&subject, **id)).count() == 12));
}

#[test]
fn experts_are_saved_by_their_holders_and_dealt_anew() {
    let subject = mixtral();
    let (one, two) = (cut("experts", 1, 1, 2, Schedule::OneFOneB), cut("experts dp2", 1, 2, 2, Schedule::OneFOneB));
    let programs = [
        program(&subject, one, 2, Synchronisation::AllReduce),
        program(&subject, two, 2, Synchronisation::Zero1),
        program(&subject, one, 4, Synchronisation::AllReduce),
        program(&subject, one, 1, Synchronisation::AllReduce),
    ];
    go_round(&subject, &programs, 1);
}
