//! One rank's failure ends the run on all ranks, soon, and is named.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use cutplane_graph::{ModelSource, Overrides};
use cutplane_plan::{Action, GroupId, Optimizer, Program, Rank, Schedule};
use cutplane_runtime::RuntimeError;
use cutplane_runtime::comm::CommOptions;
use cutplane_runtime::data::{Batches, TextData};
use cutplane_runtime::exec::{Rehearsal, RehearsedFailure, Run, RunOptions};

use crate::plans::{GLOBAL_BATCH, Subject, cut, options, program, subject};

fn impatient() -> RunOptions {
    let comm = CommOptions { timeout: Duration::from_millis(500), ..CommOptions::default() };
    RunOptions { comm, ..options(Optimizer::Sgd) }
}

fn start(subject: &Subject, program: Arc<Program>, options: &RunOptions) -> Run {
    Run::start(subject.model.clone(), program, subject.batches.clone(), options).expect("starts")
}

fn pipeline(subject: &Subject) -> Program {
    (*program(subject, cut("pp2-1f1b-m2", 2, 1, 2, Schedule::OneFOneB), Optimizer::Sgd)).clone()
}

#[test]
fn a_message_that_is_never_sent_is_a_timeout_with_names() {
    let subject = subject("gpt-nano");
    let mut program = pipeline(&subject);
    program.ranks[0].instructions.retain(|instruction| !matches!(instruction.action, Action::Send { .. }));
    let mut run = start(&subject, Arc::new(program), &impatient());
    let begin = Instant::now();
    let RuntimeError::Rank { rank, problem } = run.step().expect_err("a message is missing") else { panic!("a rank") };
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
    let names = ["recv of message", "waited 0.5", "from rank"];
    assert!(names.iter().all(|name| problem.contains(name)), "rank {rank}: {problem}");
    let again = run.step().expect_err("the run is over").to_string();
    assert!(again.contains("the run is over"), "{again}");
}

#[test]
fn a_failed_instruction_ends_the_other_ranks_at_once() {
    let subject = subject("gpt-nano");
    let mut program = pipeline(&subject);
    // The last stage works on a micro-batch that nobody has loaded.
    for instruction in &mut program.ranks[1].instructions {
        if let Action::Forward { micro_batch, .. } = &mut instruction.action {
            *micro_batch = 7;
        }
    }
    let mut run = start(&subject, Arc::new(program), &options(Optimizer::Sgd));
    let begin = Instant::now();
    let error = run.step().expect_err("fails").to_string();
    assert!(begin.elapsed() < Duration::from_secs(20), "long before the timeout of a minute");
    assert!(error.starts_with("rank 1: instruction i") && error.contains("forward of micro-batch 7: value"), "{error}");
}

#[test]
fn a_panic_is_an_error_of_its_rank() {
    let subject = subject("gpt-nano");
    let mut program = (*program(&subject, cut("dp2", 1, 2, 1, Schedule::FillDrain), Optimizer::Sgd)).clone();
    for instruction in &mut program.ranks[1].instructions {
        if let Action::AllReduce { group } = &mut instruction.action {
            // No such group: the index is out of bounds.
            *group = GroupId(99);
        }
    }
    let mut run = start(&subject, Arc::new(program), &options(Optimizer::Sgd));
    let begin = Instant::now();
    let error = run.step().expect_err("panics").to_string();
    assert!(begin.elapsed() < Duration::from_secs(20), "rank 0 does not wait for the timeout");
    assert!(
        error.starts_with("rank 1: instruction i") && error.contains("all-reduce of group 99: panicked: "),
        "{error}"
    );
}

#[test]
fn a_bad_token_id_is_the_error_of_the_first_stage() {
    // Batches made for a larger vocabulary than the model that runs.
    let overrides = Overrides { vocab: Some(100_000), ..Overrides::default() };
    let large = ModelSource::BuiltIn { name: "gpt-nano".into(), overrides, sequence_length: 32 };
    let large = cutplane_zoo::build(&large).expect("a built-in model");
    let overrides = Overrides { vocab: Some(64), ..Overrides::default() };
    let source = ModelSource::BuiltIn { name: "gpt-nano".into(), overrides, sequence_length: 32 };
    let model = Arc::new(cutplane_zoo::build(&source).expect("a built-in model"));
    let text = Arc::new(TextData::from_text("zzz", &"z".repeat(1000)).expect("not empty"));
    let batches = Arc::new(Batches::new(text, &large, GLOBAL_BATCH, 0).expect("fits the large model"));
    let subject = Subject { source, model, batches };
    let mut run = start(&subject, Arc::new(pipeline(&subject)), &options(Optimizer::Sgd));
    let error = run.step().expect_err("id 122 in a vocabulary of 64").to_string();
    assert!(error.starts_with("rank 0: instruction i") && error.contains("forward of micro-batch 0"), "{error}");
}

#[test]
fn a_set_stop_flag_ends_training_between_steps() {
    let subject = subject("gpt-nano");
    let options = options(Optimizer::Sgd);
    let mut run = start(&subject, Arc::new(pipeline(&subject)), &options);
    assert!(run.step().is_ok());
    options.stop.store(true, Ordering::Relaxed);
    assert!(matches!(run.step(), Err(RuntimeError::Interrupted)));
    options.stop.store(false, Ordering::Relaxed);
    assert_eq!(run.step().expect("an interrupted run is whole").step, 1);
}

#[test]
fn a_run_that_is_dropped_leaves_no_threads() {
    let subject = subject("gpt-nano");
    drop(start(&subject, Arc::new(pipeline(&subject)), &options(Optimizer::Sgd)));
    let weak = Arc::downgrade(&subject.batches);
    drop(subject);
    assert_eq!(weak.strong_count(), 0, "every rank has let go of the data");
}

/// Fails on purpose in the second step, after one that works; returned are the error and the rank that was lost.
fn rehearsed(failure: RehearsedFailure, options: RunOptions, replicas: usize) -> (String, Option<Rank>) {
    let subject = subject("gpt-nano");
    let plan = match replicas {
        1 => cut("single", 1, 1, 1, Schedule::FillDrain),
        2 => cut("pp2-1f1b-m2", 2, 1, 2, Schedule::OneFOneB),
        _ => cut("dp2", 1, 2, 1, Schedule::FillDrain),
    };
    let rank = Rank(u32::from(replicas > 1));
    let options = RunOptions { rehearsal: Some(Rehearsal { rank, step: 1, failure }), ..options };
    let mut run = start(&subject, program(&subject, plan, Optimizer::Sgd), &options);
    run.step().expect("not yet");
    assert_eq!(run.lost(), None);
    let begin = Instant::now();
    let error = run.step().expect_err("rehearsed").to_string();
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
    (error, run.lost())
}

#[test]
fn a_rank_that_panics_is_lost() {
    let (error, lost) = rehearsed(RehearsedFailure::Panic, options(Optimizer::Sgd), 2);
    assert!(error.starts_with("rank 1: instruction i") && error.contains("panicked: rehearsed"), "{error}");
    assert_eq!(lost, Some(Rank(1)));
}

#[test]
fn a_rank_that_hangs_is_named_with_its_instruction_and_who_waited() {
    for ranks in [2, 3] {
        let (error, lost) = rehearsed(RehearsedFailure::Hang, impatient(), ranks);
        assert!(error.starts_with("rank 1: does not answer; it is in instruction i"), "{error}");
        assert!(error.contains("rank 0: instruction i") && error.contains("waited 0.5"), "{error}");
        assert_eq!(lost, Some(Rank(1)));
    }
}

#[test]
fn a_hang_that_nobody_waits_for_is_noticed_by_the_watchdog() {
    let options = RunOptions { watchdog: Some(Duration::from_millis(500)), ..impatient() };
    let (error, lost) = rehearsed(RehearsedFailure::Hang, options, 1);
    assert!(error.starts_with("rank 0: does not answer; it is in instruction i"), "{error}");
    assert_eq!(lost, Some(Rank(0)));
}

#[test]
fn a_cut_link_is_named_with_both_ends() {
    // Whichever end has waited first reports the other.
    let (error, lost) = rehearsed(RehearsedFailure::Mute, impatient(), 2);
    let reported = |reporter: &str, peer: &str| {
        error.starts_with(&format!("{reporter}: instruction i")) && error.contains(&format!("from {peer}"))
    };
    match lost {
        Some(Rank(1)) => assert!(reported("rank 0", "rank 1"), "{error}"),
        Some(Rank(0)) => assert!(reported("rank 1", "rank 0"), "{error}"),
        other => panic!("{other:?}: {error}"),
    }
}
