//! What a card changes: precision, timing, warm-up, transfers, forward-only programs. Ranks compute as on a card.

use std::sync::Arc;

use cutplane_graph::Dtype;
use cutplane_plan::{Action, Optimizer, Program, Schedule, check_program};
use cutplane_runtime::exec::{Run, RunOptions, Timing, Transfers, WarmUp};
use cutplane_runtime::{Backend, RuntimeError};

use crate::plans::{Cut, Subject, cut, options, program, program_in, reference, subject, twin_options};

const RULE: Optimizer = Optimizer::AdamW;
const STEPS: usize = 6;

fn start(subject: &Subject, program: Arc<Program>, options: &RunOptions) -> Run {
    Run::start(subject.model.clone(), program, subject.batches.clone(), options).expect("starts")
}

fn losses(subject: &Subject, precision: Dtype, cut: Cut, options: &RunOptions) -> Vec<f64> {
    let mut run = start(subject, program_in(precision, subject, cut, RULE), options);
    (0..STEPS).map(|_| run.step().expect("a step").loss).collect()
}

/// Losses in 16 bits follow those in f32, and those of a partitioned run follow the whole one's. The first loss is of the
/// same weights, so it differs by rounding alone; after that AdamW, which divides by the gradient's own size, moves weights
/// with tiny gradients differently, by up to the learning rate a step: 1e-2 of the loss after six steps of 1e-3.
#[test]
fn sixteen_bits_train_under_every_kind_of_plan() {
    let subject = subject("gpt-nano");
    let exact = reference(&subject, RULE, STEPS as u64).losses;
    let whole = cut("single", 1, 1, 1, Schedule::FillDrain);
    let cuts = [
        cut("dp2-m2", 1, 2, 2, Schedule::OneFOneB),
        cut("pp2-1f1b-m4", 2, 1, 4, Schedule::OneFOneB),
        cut("dp2-pp2-1f1b-m2", 2, 2, 2, Schedule::OneFOneB),
    ];
    for precision in [Dtype::Bf16, Dtype::F16] {
        let alone = losses(&subject, precision, whole, &twin_options(RULE, Transfers::OnDevice));
        assert!(alone[STEPS - 1] < alone[0], "it learns: {alone:?}");
        for options in [twin_options(RULE, Transfers::OnDevice), twin_options(RULE, Transfers::Staged), options(RULE)] {
            for cut in cuts {
                let losses = losses(&subject, precision, cut, &options);
                let near = |other: &[f64], first: f64, later: f64| {
                    let pairs = losses.iter().zip(other).enumerate();
                    pairs.into_iter().all(|(i, (a, b))| (a / b - 1.0).abs() <= if i == 0 { first } else { later })
                };
                assert!(near(&exact, 5e-3, 1e-2), "{} in {precision}: {losses:?} for {exact:?}", cut.name);
                assert!(near(&alone, 1e-4, 1e-2), "{} in {precision}: {losses:?} for {alone:?}", cut.name);
            }
        }
    }
}

#[test]
fn the_loss_is_scaled_in_f16_alone() {
    let subject = subject("gpt-nano");
    let cut = cut("pp2-1f1b-m2", 2, 1, 2, Schedule::OneFOneB);
    for (precision, scaled) in [(Dtype::F32, false), (Dtype::Bf16, false), (Dtype::F16, true)] {
        let options = twin_options(RULE, Transfers::OnDevice);
        let report = start(&subject, program_in(precision, &subject, cut, RULE), &options).step().expect("a step");
        assert_eq!((report.loss_scale.is_some(), report.skipped), (scaled, false), "{precision}");
    }
}

#[test]
fn a_precision_that_is_none_is_refused_before_any_thread_starts() {
    let subject = subject("gpt-nano");
    let mut program = (*program(&subject, cut("single", 1, 1, 1, Schedule::FillDrain), RULE)).clone();
    program.precision = Dtype::I32;
    let run = Run::start(subject.model.clone(), Arc::new(program), subject.batches.clone(), &options(RULE));
    let error = run.expect_err("no floats");
    assert!(matches!(error, RuntimeError::Precision { .. }) && error.to_string().contains("i32"), "{error}");
}

#[test]
fn both_timings_have_every_span_and_say_what_they_are() {
    let subject = subject("gpt-nano");
    let program = program(&subject, cut("pp2-1f1b-m2", 2, 1, 2, Schedule::OneFOneB), RULE);
    let mut losses = Vec::new();
    for timing in [Timing::Step, Timing::Instruction] {
        let options = RunOptions { timing, ..twin_options(RULE, Transfers::OnDevice) };
        let mut run = start(&subject, program.clone(), &options);
        let report = run.step().expect("a step");
        assert_eq!(report.timing, timing);
        assert_eq!(report.timeline.spans.len(), program.instruction_count());
        let said = run.notes().iter().any(|note| note.contains("after every instruction"));
        assert_eq!(said, timing == Timing::Instruction, "{:?}", run.notes());
        losses.push(report.loss);
    }
    assert!((losses[0] - losses[1]).abs() <= 1e-6 * losses[0], "{losses:?}");
}

#[test]
fn a_run_says_how_ranks_share_a_card() {
    let subject = subject("gpt-nano");
    let program = program(&subject, cut("dp2", 1, 2, 1, Schedule::FillDrain), RULE);
    let notes = |options: &RunOptions| start(&subject, program.clone(), options).notes().join("; ");
    let (here, staged) = (twin_options(RULE, Transfers::OnDevice), twin_options(RULE, Transfers::Staged));
    assert!(notes(&here).contains("2 ranks on one card, each in a stream of its own; tensors handed over on the card"));
    assert!(notes(&staged).contains("staged through the host"));
    assert_eq!(notes(&options(RULE)), "");
    let mixed = RunOptions { backends: vec![Backend::cpu_as_card(), Backend::cpu()], ..options(RULE) };
    assert!(!notes(&mixed).contains("2 ranks on one card"), "{}", notes(&mixed));
}

#[test]
fn a_warm_up_ends_by_agreement_or_by_its_cap() {
    let subject = subject("gpt-nano");
    let program = program(&subject, cut("single", 1, 1, 1, Schedule::FillDrain), RULE);
    let mut run = start(&subject, program, &twin_options(RULE, Transfers::OnDevice));
    let warmed = run.warm_up(WarmUp { tolerance: f64::INFINITY, at_most: 9, ..WarmUp::default() }).expect("steps");
    assert_eq!((warmed.steps.len(), warmed.agreed, warmed.note()), (3, true, None), "the first step is no measure");
    let warmed = run.warm_up(WarmUp { tolerance: -1.0, at_most: 2, ..WarmUp::default() }).expect("steps");
    assert_eq!((warmed.steps.len(), warmed.agreed), (2, false));
    assert!(warmed.note().is_some_and(|note| note.contains("no two successive steps of 2 agreed")));
    assert_eq!(run.step().expect("a step").step, 7, "each warm-up takes one more step");
}

#[test]
fn a_forward_only_program_gives_the_loss_and_changes_nothing() {
    let subject = subject("gpt-nano");
    for cut in [cut("single", 1, 1, 1, Schedule::FillDrain), cut("dp2-pp2-1f1b-m2", 2, 2, 2, Schedule::OneFOneB)] {
        let training = program(&subject, cut, RULE);
        let forward = Arc::new(training.forward_only());
        check_program(&forward).expect("runs to its end");
        let backward = |action| matches!(action, Action::Backward { .. } | Action::AllReduce { .. });
        assert!(!forward.ranks.iter().flat_map(|rank| &rank.instructions).any(|one| backward(one.action)));
        for options in [options(RULE), twin_options(RULE, Transfers::OnDevice)] {
            let expected = start(&subject, training.clone(), &options).step().expect("a step").loss;
            let mut run = start(&subject, forward.clone(), &options);
            let before = run.parameters().expect("alive");
            let report = run.step().expect("a step");
            assert!((report.loss - expected).abs() <= 1e-6 * expected, "{}: {}", cut.name, report.loss);
            assert_eq!(report.timeline.spans.len(), forward.instruction_count());
            assert_eq!(run.parameters().expect("alive"), before);
        }
    }
}
