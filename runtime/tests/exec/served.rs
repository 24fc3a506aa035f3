//! Servers that take gradients as they come: whatever the clock makes of a step, it is what its record says, held to the same
//! updates made by hand, to the bound, and to the synchronous server where nobody may be ahead.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cutplane_graph::{Dtype, ParamId};
use cutplane_plan::{Execution, Optimizer, Program, Push, Rank, Schedule, Synchronisation, lower, verify};
use cutplane_runtime::checkpoint::{Checkpoint, CheckpointWriter};
use cutplane_runtime::comm::CommOptions;
#[cfg(feature = "mpi")]
use cutplane_runtime::comm::Processes;
use cutplane_runtime::exec::{RankTensors, Rehearsal, RehearsedFailure, Run, RunOptions, Transfers};
use cutplane_runtime::init::initial_weight;
use cutplane_runtime::{Backend, HostTensor, SegmentRunner};
use cutplane_units::Bytes;

use crate::executions::{program, synchronised};
use crate::plans::{SEED, Subject, cut, options, plan_at, settings, subject, twin_options};

const STEPS: usize = 3;
const KINDS: [Synchronisation; 4] = [
    Synchronisation::AsynchronousServer,
    Synchronisation::StaleServer { bound: 0 },
    Synchronisation::StaleServer { bound: 1 },
    Synchronisation::StaleServer { bound: 2 },
];

/// What came of some steps.
#[derive(Debug, PartialEq)]
struct Trained {
    losses: Vec<f64>,
    pushes: Vec<Vec<Push>>,
    ranks: Vec<RankTensors>,
}

fn plan(subject: &Subject, replicas: usize, micro_batches: u64, how: Synchronisation) -> Arc<Program> {
    let cut = cut("served", 1, replicas, micro_batches, Schedule::OneFOneB);
    program(subject, cut, synchronised(how))
}

fn train(subject: &Subject, program: &Arc<Program>, options: &RunOptions) -> Option<Trained> {
    let run = Run::start(subject.model.clone(), program.clone(), subject.batches.clone(), options);
    let mut run = run.expect("starts");
    if !run.leads() {
        run.serve().expect("the leading process ends the run");
        return None;
    }
    let steps: Vec<_> = (0..STEPS).map(|_| run.step().expect("a step")).collect();
    let losses = steps.iter().map(|step| step.loss).collect();
    let pushes = steps.into_iter().map(|step| step.pushes).collect();
    Some(Trained { losses, pushes, ranks: run.parameters().expect("alive") })
}

fn trained(subject: &Subject, program: &Arc<Program>) -> Trained {
    train(subject, program, &options(Optimizer::AdamW)).expect("the only process leads")
}

/// Every push is applied once, and no worker is further ahead than the bound.
fn check_record(program: &Program, pushes: &[Push], how: Synchronisation) {
    let most = match how {
        Synchronisation::StaleServer { bound } => u64::from(bound),
        _ => program.micro_batches,
    };
    assert!(pushes.iter().all(|push| push.lead() <= most && push.read <= push.before), "{how}: {pushes:?}");
    let mut all: Vec<_> = pushes.iter().map(|push| (push.group, push.worker, push.clock)).collect();
    all.sort_unstable();
    let clocks = 0..program.micro_batches;
    let groups = program.groups.iter().zip(0..);
    let expected =
        groups.flat_map(|(group, id)| group.ranks.iter().map(move |rank| (cutplane_plan::GroupId(id), *rank)));
    let expected = expected.flat_map(|(id, rank)| clocks.clone().map(move |clock| (id, rank, clock)));
    assert!(all.into_iter().eq(expected), "{how}: {pushes:?}");
}

/// The loss and the gradients of a micro-batch of a replica, at some weights.
fn pass(subject: &Subject, program: &Program, step: u64, push: &Push, weights: &RankTensors) -> (f64, Vec<f32>) {
    let segment = program.segments[0].clone();
    let (inputs, params, size) = (segment.inputs.clone(), segment.params.clone(), program.micro_batch_size);
    let weight = |id: ParamId| weights[&id].clone();
    let (model, settings) = (subject.model.clone(), settings(Optimizer::AdamW));
    let mut runner = SegmentRunner::new(model, segment, &Backend::cpu(), &weight, settings).expect("its own shapes");
    let replica = program.ranks[push.worker.index()].replica as u64;
    let first = (replica * program.micro_batches + push.clock) * size;
    runner.forward(0, subject.batches.inputs(step, first, size, &inputs).expect("inputs")).expect("forward");
    let loss = f64::from(runner.loss(0).expect("a training graph"));
    runner.backward(0, Vec::new(), 1.0 / program.replicas as f32).expect("backward");
    let mut gradients = Vec::new();
    runner.read_gradients(&params, &mut gradients);
    (loss, gradients)
}

/// The same training by hand, in the recorded order: each push from the parameters that it is said to have read.
fn by_hand(subject: &Subject, program: &Program, pushes: &[Vec<Push>]) -> (Vec<f64>, RankTensors) {
    let segment = program.segments[0].clone();
    let params = segment.params.clone();
    let weights = |id: ParamId| initial_weight(subject.model.param(id), SEED);
    let (model, settings) = (subject.model.clone(), settings(Optimizer::AdamW));
    let mut server = SegmentRunner::new(model, segment, &Backend::cpu(), &weights, settings).expect("its own shapes");
    let now =
        |server: &SegmentRunner| -> RankTensors { params.iter().map(|id| (*id, server.parameter(*id))).collect() };
    let mut losses = Vec::new();
    for (step, pushes) in (0..).zip(pushes) {
        let mut versions: BTreeMap<u64, RankTensors> = BTreeMap::from([(0, now(&server))]);
        let mut sum_of_losses = 0.0;
        for update in pushes.chunk_by(|a, b| a.before == b.before) {
            let mut sum: Option<Vec<f32>> = None;
            for push in update {
                let (loss, gradients) = pass(subject, program, step, push, &versions[&push.read]);
                sum_of_losses += loss;
                sum = Some(match sum {
                    None => gradients,
                    Some(sum) => sum.iter().zip(&gradients).map(|(a, b)| a + b).collect(),
                });
            }
            server.write_gradients(&params, &sum.expect("an update has pushes"));
            server.optimizer_step();
            versions.insert(update[0].before + update.len() as u64, now(&server));
        }
        losses.push(sum_of_losses / pushes.len() as f64);
    }
    (losses, now(&server))
}

fn check_by_hand(subject: &Subject, program: &Program, trained: &Trained, what: Synchronisation) {
    let (losses, parameters) = by_hand(subject, program, &trained.pushes);
    let near = losses.iter().zip(&trained.losses).all(|(a, b)| (a - b).abs() <= 1e-9 * b);
    assert!(near, "{what}: losses {:?} instead of {losses:?}", trained.losses);
    for (id, rank) in trained.ranks.iter().enumerate() {
        assert!(*rank == parameters, "{what}: the parameters of rank {id} are others than by hand");
    }
}

#[test]
fn every_step_is_what_its_record_says() {
    let subject = subject("gpt-nano");
    for how in KINDS {
        for (replicas, micro_batches) in [(2, 4), (4, 2)] {
            let program = plan(&subject, replicas, micro_batches, how);
            let trained = trained(&subject, &program);
            trained.pushes.iter().for_each(|pushes| check_record(&program, pushes, how));
            check_by_hand(&subject, &program, &trained, how);
        }
    }
}

#[test]
fn where_nobody_may_be_ahead_it_is_the_synchronous_server() {
    let subject = subject("gpt-nano");
    for replicas in [2, 4] {
        let synchronous = trained(&subject, &plan(&subject, replicas, 1, Synchronisation::ParameterServer));
        let bound = trained(&subject, &plan(&subject, replicas, 1, Synchronisation::StaleServer { bound: 0 }));
        assert_eq!(bound.losses, synchronous.losses, "{replicas} replicas");
        assert!(bound.ranks == synchronous.ranks, "{replicas} replicas: parameters differ");
    }
}

#[test]
fn a_recorded_run_is_repeated_to_the_last_bit() {
    let subject = subject("gpt-nano");
    for how in [Synchronisation::AsynchronousServer, Synchronisation::StaleServer { bound: 1 }] {
        let program = plan(&subject, 4, 2, how);
        let first = trained(&subject, &program);
        let again = RunOptions { pushes: first.pushes.clone(), ..options(Optimizer::AdamW) };
        assert_eq!(train(&subject, &program, &again), Some(first), "{how}");
    }
}

/// A card keeps its gradients until they are pushed. The same order gives the same numbers but for the rounding of its kernels.
#[test]
fn ranks_on_a_card_push_through_the_host() {
    let subject = subject("gpt-nano");
    let program = plan(&subject, 2, 4, Synchronisation::AsynchronousServer);
    let host = trained(&subject, &program);
    let card = RunOptions { pushes: host.pushes.clone(), ..twin_options(Optimizer::AdamW, Transfers::OnDevice) };
    let card = train(&subject, &program, &card).expect("the only process leads");
    assert_eq!(card.pushes, host.pushes);
    let near = card.losses.iter().zip(&host.losses).all(|(a, b)| (a - b).abs() <= 1e-5 * b);
    assert!(near, "losses {:?} instead of {:?}", card.losses, host.losses);
}

#[test]
fn buckets_have_servers_that_wait_for_each_other() {
    let subject = subject("gpt-nano");
    for how in KINDS {
        let execution = Execution { bucket_bytes: Some(Bytes::new(40_000)), ..synchronised(how) };
        let program = program(&subject, cut("buckets", 1, 2, 4, Schedule::OneFOneB), execution);
        assert!(program.groups.len() > 1);
        let trained = trained(&subject, &program);
        trained.pushes.iter().for_each(|pushes| check_record(&program, pushes, how));
        assert!(trained.ranks[0] == trained.ranks[1], "{how}: all have the same parameters after a step");
        assert!(trained.losses[STEPS - 1] < trained.losses[0], "{how}: {:?}", trained.losses);
    }
}

#[test]
fn a_run_goes_on_from_its_checkpoint() {
    let subject = subject("gpt-nano");
    let program = plan(&subject, 2, 4, Synchronisation::AsynchronousServer);
    let whole = trained(&subject, &program);
    let repeated = RunOptions { pushes: whole.pushes.clone(), ..options(Optimizer::AdamW) };
    let folder = tempfile::tempdir().expect("a folder");
    let mut run =
        Run::start(subject.model.clone(), program.clone(), subject.batches.clone(), &repeated).expect("starts");
    (0..2).for_each(|_| drop(run.step().expect("a step")));
    run.save(&CheckpointWriter::new(folder.path(), 1).expect("a folder")).expect("written");
    run.finish();
    let checkpoint = Arc::new(Checkpoint::open(folder.path()).expect("whole"));
    let batches = Arc::new(checkpoint.resume((*subject.batches).clone()).expect("the same samples"));
    let options = RunOptions { resume: Some(checkpoint), ..repeated };
    let mut run = Run::start(subject.model.clone(), program, batches, &options).expect("starts");
    assert_eq!(run.step().expect("a step").loss.to_bits(), whole.losses[2].to_bits());
    assert!(run.parameters().expect("alive") == whole.ranks);
}

#[test]
fn sixteen_bits_are_pushed_in_full() {
    let subject = subject("gpt-nano");
    let execution = synchronised(Synchronisation::AsynchronousServer);
    let cut = cut("served", 1, 2, 4, Schedule::OneFOneB);
    let ops = subject.model.ops().len();
    let (plan, devices) = plan_at(Dtype::Bf16, &subject, cut, Optimizer::AdamW, execution, |stage| ops * stage);
    let program = Arc::new(lower(&verify(&plan, &subject.model, &devices).expect("legal")).expect("ends"));
    let trained = trained(&subject, &program);
    let in_full = |tensor: &HostTensor| tensor.as_f32().is_some_and(|x| x.iter().any(|x| x.to_bits() & 0xFFFF != 0));
    assert!(trained.ranks[1].values().any(in_full), "weights have more bits than bf16");
    assert!(trained.losses[STEPS - 1] < trained.losses[0], "{:?}", trained.losses);
}

#[test]
fn a_worker_that_fails_is_named() {
    let subject = subject("gpt-nano");
    let program = plan(&subject, 2, 4, Synchronisation::StaleServer { bound: 1 });
    for (failure, word) in [(RehearsedFailure::Panic, "rehearsed"), (RehearsedFailure::Hang, "does not answer")] {
        let comm = CommOptions { timeout: Duration::from_millis(500), ..CommOptions::default() };
        let rehearsal = Some(Rehearsal { rank: Rank(1), step: 1, failure });
        let options = RunOptions { comm, rehearsal, ..options(Optimizer::AdamW) };
        let run = Run::start(subject.model.clone(), program.clone(), subject.batches.clone(), &options);
        let mut run = run.expect("starts");
        run.step().expect("the first step");
        let error = run.step().expect_err("fails").to_string();
        assert!(error.contains("rank 1") && error.contains(word), "{failure:?}: {error}");
        assert_eq!(run.lost(), Some(Rank(1)), "{failure:?}");
    }
}

/// The same with ranks in several processes; the one that leads compares.
#[cfg(feature = "mpi")]
pub(crate) fn check_processes(processes: &Arc<dyn Processes>) -> usize {
    let subject = subject("gpt-nano");
    let together = RunOptions { processes: Some(processes.clone()), ..options(Optimizer::AdamW) };
    for how in KINDS {
        let program = plan(&subject, processes.count(), 2, how);
        if let Some(trained) = train(&subject, &program, &together) {
            trained.pushes.iter().for_each(|pushes| check_record(&program, pushes, how));
            check_by_hand(&subject, &program, &trained, how);
        }
    }
    KINDS.len()
}
