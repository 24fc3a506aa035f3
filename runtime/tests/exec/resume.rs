//! A run goes on from a checkpoint as if it had not stopped, on the same plan or another.

use std::path::Path;
use std::sync::Arc;

use cutplane_graph::Dtype;
use cutplane_plan::{Execution, Optimizer, Program, Schedule, Synchronisation, TensorSplit};
use cutplane_runtime::checkpoint::{Checkpoint, CheckpointWriter};
use cutplane_runtime::data::Batches;
use cutplane_runtime::exec::{Run, RunOptions, Transfers};

use crate::executions;
use crate::plans::{Subject, cut, options, program, program_in, subject, twin_options};

fn writer(folder: &Path) -> CheckpointWriter {
    CheckpointWriter::new(folder, 2).expect("a folder")
}

fn start(subject: &Subject, program: &Arc<Program>, options: &RunOptions) -> Run {
    Run::start(subject.model.clone(), program.clone(), subject.batches.clone(), options).expect("starts")
}

fn losses(run: &mut Run, steps: usize) -> Vec<f64> {
    (0..steps).map(|_| run.step().expect("a step").loss).collect()
}

/// The losses of four steps, of which a checkpoint is written after the second.
fn whole(subject: &Subject, program: &Arc<Program>, options: &RunOptions, folder: &Path) -> Vec<f64> {
    let mut run = start(subject, program, options);
    let mut all = losses(&mut run, 2);
    run.save(&writer(folder)).expect("written");
    all.extend(losses(&mut run, 2));
    all
}

/// A run from the newest checkpoint of a folder.
fn resumed(subject: &Subject, program: &Arc<Program>, options: &RunOptions, folder: &Path) -> Run {
    let checkpoint = Arc::new(Checkpoint::open(folder).expect("whole"));
    let batches = checkpoint.resume((*subject.batches).clone()).expect("the same samples");
    let options = RunOptions { resume: Some(checkpoint), ..options.clone() };
    Run::start(subject.model.clone(), program.clone(), Arc::new(batches), &options).expect("starts")
}

/// Goes on from a checkpoint of `from` under `to`: as far from the run that did not stop as the plans are from each other when
/// none of them stops, by rounding in another order.
fn goes_on_nearly(subject: &Subject, from: &Program, to: &Arc<Program>, folder: &Path, all: &[f64]) {
    let rest = losses(&mut resumed(subject, to, &options(Optimizer::AdamW), folder), 2);
    for (resumed, whole) in rest.iter().zip(&all[2..]) {
        let (from, to) = (&from.plan_name, &to.plan_name);
        assert!((resumed - whole).abs() < 2e-5 * whole, "{from} to {to}: {rest:?} {all:?}");
    }
}

/// Each plan goes on from its own checkpoint to the last bit, and under the plan `further` places on.
pub(crate) fn go_round(subject: &Subject, programs: &[Arc<Program>], further: usize) {
    let options = options(Optimizer::AdamW);
    for (index, from) in programs.iter().enumerate() {
        let dir = tempfile::tempdir().expect("a folder");
        let all = whole(subject, from, &options, dir.path());
        let same = losses(&mut resumed(subject, from, &options, dir.path()), 2);
        assert_eq!(same[..], all[2..], "{}", from.plan_name);
        goes_on_nearly(subject, from, &programs[(index + further) % programs.len()], dir.path(), &all);
    }
}

#[test]
fn the_same_plan_goes_on_to_the_last_bit() {
    let subject = subject("gpt-nano");
    let plans = [
        cut("single", 1, 1, 1, Schedule::FillDrain),
        cut("dp2", 1, 2, 1, Schedule::FillDrain),
        cut("pp2", 2, 1, 2, Schedule::OneFOneB),
    ];
    for plan in plans {
        for rule in [Optimizer::AdamW, Optimizer::Sgd] {
            let (dir, program) = (tempfile::tempdir().expect("a folder"), program(&subject, plan, rule));
            let all = whole(&subject, &program, &options(rule), dir.path());
            let mut run = resumed(&subject, &program, &options(rule), dir.path());
            assert_eq!(run.next_step(), 2);
            let rest = losses(&mut run, 2);
            assert_eq!(rest[..], all[2..], "{} {rule:?}", plan.name);
            assert_ne!(rest[0].to_bits(), rest[1].to_bits(), "something is learnt");
        }
    }
}

#[test]
fn a_run_that_keeps_numbers_on_its_device_goes_on_to_the_last_bit() {
    let subject = subject("gpt-nano");
    for (precision, rule) in [(Dtype::F32, Optimizer::AdamW), (Dtype::F16, Optimizer::AdamW)] {
        let plan = cut("pp2", 2, 1, 2, Schedule::OneFOneB);
        let (dir, program) = (tempfile::tempdir().expect("a folder"), program_in(precision, &subject, plan, rule));
        let options = twin_options(rule, Transfers::OnDevice);
        let all = whole(&subject, &program, &options, dir.path());
        let saved = Checkpoint::open(dir.path()).expect("whole");
        assert_eq!(saved.manifest().loss_scale.is_some(), precision == Dtype::F16);
        let rest = losses(&mut resumed(&subject, &program, &options, dir.path()), 2);
        assert_eq!(rest[..], all[2..], "{precision}");
    }
}

#[test]
fn any_other_plan_goes_on_with_the_same_samples() {
    let subject = subject("gpt-nano");
    let (single, dp2, pp2, both) = (
        cut("single", 1, 1, 1, Schedule::FillDrain),
        cut("dp2", 1, 2, 1, Schedule::FillDrain),
        cut("pp2", 2, 1, 4, Schedule::OneFOneB),
        cut("pp2 dp2", 2, 2, 2, Schedule::OneFOneB),
    );
    for (from, to) in [(dp2, pp2), (pp2, single), (single, dp2), (both, pp2)] {
        let [from, to] = [from, to].map(|plan| program(&subject, plan, Optimizer::AdamW));
        let (dir, options) = (tempfile::tempdir().expect("a folder"), options(Optimizer::AdamW));
        let all = whole(&subject, &from, &options, dir.path());
        goes_on_nearly(&subject, &from, &to, dir.path(), &all);
    }
}

#[test]
fn shares_of_the_optimizer_are_put_together_and_cut_anew() {
    let subject = subject("gpt-nano");
    let shared = |name, synchronisation| {
        let execution = executions::synchronised(synchronisation);
        executions::program(&subject, cut(name, 1, 2, 2, Schedule::OneFOneB), execution)
    };
    let programs = [
        shared("zero-1", Synchronisation::Zero1),
        shared("zero-2", Synchronisation::Zero2),
        shared("zero-3", Synchronisation::Zero3),
        shared("server", Synchronisation::ParameterServer),
        program(&subject, cut("pp2", 2, 1, 2, Schedule::OneFOneB), Optimizer::AdamW),
    ];
    go_round(&subject, &programs, 2);
}

#[test]
fn schedules_with_several_stages_or_updates_a_rank_go_on_to_the_last_bit() {
    let subject = subject("gpt-nano");
    for (stages, schedule) in [(4, Schedule::Interleaved), (2, Schedule::ZeroBubble), (2, Schedule::Asynchronous)] {
        let plan = cut("schedule", stages, 1, 4, schedule);
        let program = executions::program(&subject, plan, Execution::default());
        let (dir, options) = (tempfile::tempdir().expect("a folder"), options(Optimizer::AdamW));
        let all = whole(&subject, &program, &options, dir.path());
        let rest = losses(&mut resumed(&subject, &program, &options, dir.path()), 2);
        assert_eq!(rest[..], all[2..], "{schedule:?}");
    }
}

#[test]
fn slices_of_layers_are_put_together_and_cut_anew() {
    let subject = subject("gpt-nano");
    let tensor = |ranks| Some(TensorSplit::tensor(&subject.model, ranks, false));
    let split = |name, replicas, execution| {
        executions::program(&subject, cut(name, 1, replicas, 2, Schedule::OneFOneB), execution)
    };
    let programs = [
        split("tp2", 1, Execution { tensor: tensor(2), ..Execution::default() }),
        // A slice of a layer, of which each replica updates a share.
        split("tp2 zero-1", 2, Execution { tensor: tensor(2), ..executions::synchronised(Synchronisation::Zero1) }),
        split("tp4", 1, Execution { tensor: tensor(4), ..Execution::default() }),
        program(&subject, cut("single", 1, 1, 1, Schedule::FillDrain), Optimizer::AdamW),
    ];
    go_round(&subject, &programs, 1);
}

#[test]
fn every_number_is_written_once() {
    let subject = subject("gpt-nano");
    let plan = cut("pp2 dp2", 2, 2, 2, Schedule::OneFOneB);
    let (dir, program) = (tempfile::tempdir().expect("a folder"), program(&subject, plan, Optimizer::AdamW));
    whole(&subject, &program, &options(Optimizer::AdamW), dir.path());
    let saved = Checkpoint::open(dir.path()).expect("whole");
    let manifest = saved.manifest();
    assert_eq!(manifest.files.len(), 4, "every rank writes its share");
    let pieces = || manifest.files.iter().flat_map(|file| &file.pieces);
    let numbers: u64 = pieces().map(cutplane_runtime::checkpoint::Piece::elements).sum();
    let model: u64 = subject.model.params().iter().map(cutplane_graph::Param::elements).sum();
    assert_eq!(numbers, 3 * model, "weights and two means");
    assert_eq!((manifest.step, manifest.optimizer_steps, manifest.data.next_sample), (2, 2, 16));
}

#[test]
fn another_global_batch_goes_on_at_the_next_sample() {
    let subject = subject("gpt-nano");
    let plan = cut("single", 1, 1, 1, Schedule::FillDrain);
    let dir = tempfile::tempdir().expect("a folder");
    let program = program(&subject, plan, Optimizer::Sgd);
    whole(&subject, &program, &options(Optimizer::Sgd), dir.path());
    let saved = Checkpoint::open(dir.path()).expect("whole");
    let wanted: Vec<_> = subject.model.inputs().collect();
    let again = saved.resume((*subject.batches).clone()).expect("the same samples");
    let direct = subject.batches.inputs(2, 0, 4, &wanted).expect("a text in memory");
    assert_eq!(again.inputs(2, 0, 4, &wanted).expect("a text in memory"), direct);
    assert_eq!(again.first_sample(2), 16);
    let made_up = Batches::synthetic(&subject.model, 8, subject.batches.seed()).expect("any model");
    let error = saved.resume(made_up).expect_err("other samples").to_string();
    assert!(error.contains("words") && error.contains("--data"), "{error}");
}

#[test]
fn a_checkpoint_of_another_model_does_not_start() {
    let (small, other) = (subject("gpt-nano"), subject("bert-nano"));
    let plan = cut("single", 1, 1, 1, Schedule::FillDrain);
    let dir = tempfile::tempdir().expect("a folder");
    whole(&small, &program(&small, plan, Optimizer::Sgd), &options(Optimizer::Sgd), dir.path());
    let checkpoint = Some(Arc::new(Checkpoint::open(dir.path()).expect("whole")));
    let options = RunOptions { resume: checkpoint, ..options(Optimizer::Sgd) };
    let program = program(&other, plan, Optimizer::Sgd);
    let error = Run::start(other.model.clone(), program, other.batches.clone(), &options).expect_err("another model");
    assert!(error.to_string().contains("of the model gpt-nano"), "{error}");
}
