//! Losses, gradients and parameters of every plan equal those of the unpartitioned model.
//!
//! Tolerances. f32 rounds at 6e-8; a plan changes only the order in which sums over samples, micro-batches and ranks are
//! taken. A loss is a mean of a few hundred terms of one sign: 1e-5 relative leaves two decimals of room. A gradient is a
//! sum of terms of both signs, so its rounding error follows the largest terms, not the sum: the bound is 5e-6 of the
//! largest gradient of the whole model (5e-7 was measured). SGD moves parameters by learning rate x gradient, so they keep
//! that bound, once a step. AdamW divides by the gradient's own size, so where a gradient is nearly zero its rounding
//! error decides an update of up to one learning rate; parameters are held to a tenth of the learning rate one by one
//! (1.1e-2 was measured), and to 2e-4 of it in the root mean square (3.4e-5).

use std::sync::Arc;

use cutplane_plan::{Action, Optimizer, Ownership, Program, Schedule};
use cutplane_runtime::exec::{RankTensors, Run, RunOptions, Transfers};
use cutplane_runtime::{Backend, HostTensor};

use crate::plans::{Cut, Reference, Subject, cut, options, program, reference, settings, subject, twin_options};

const STEPS: u64 = 4;
const GRADIENT_TOLERANCE: f64 = 5e-6;

const CUTS: [Cut; 14] = [
    cut("single", 1, 1, 1, Schedule::FillDrain),
    cut("single-m4", 1, 1, 4, Schedule::OneFOneB),
    cut("dp2", 1, 2, 1, Schedule::FillDrain),
    cut("dp2-m2", 1, 2, 2, Schedule::OneFOneB),
    cut("dp4", 1, 4, 1, Schedule::FillDrain),
    cut("pp2", 2, 1, 1, Schedule::FillDrain),
    cut("pp2-fill-drain-m4", 2, 1, 4, Schedule::FillDrain),
    cut("pp2-1f1b-m2", 2, 1, 2, Schedule::OneFOneB),
    cut("pp2-1f1b-m4", 2, 1, 4, Schedule::OneFOneB),
    cut("pp3-1f1b-m4", 3, 1, 4, Schedule::OneFOneB),
    cut("pp4-fill-drain-m2", 4, 1, 2, Schedule::FillDrain),
    cut("pp4-1f1b-m8", 4, 1, 8, Schedule::OneFOneB),
    cut("dp2-pp2-fill-drain-m2", 2, 2, 2, Schedule::FillDrain),
    cut("dp2-pp2-1f1b-m4", 2, 2, 4, Schedule::OneFOneB),
];

/// What training under a plan gives.
struct Trained {
    losses: Vec<f64>,
    first_gradients: Vec<RankTensors>,
    parameters: Vec<RankTensors>,
}

fn train(subject: &Subject, cut: Cut, rule: Optimizer) -> Trained {
    train_program(subject, program(subject, cut, rule), &options(rule), STEPS)
}

fn train_program(subject: &Subject, program: Arc<Program>, options: &RunOptions, steps: u64) -> Trained {
    let mut run = Run::start(subject.model.clone(), program, subject.batches.clone(), options).expect("starts");
    let (first, first_gradients) = run.step_with_gradients().expect("a step");
    let later = (1..steps).map(|_| run.step().expect("a step").loss);
    let losses = std::iter::once(first.loss).chain(later).collect();
    let parameters = run.parameters().expect("alive");
    run.finish();
    Trained { losses, first_gradients, parameters }
}

fn numbers(tensor: &HostTensor) -> &[f32] {
    tensor.as_f32().expect("f32")
}

fn largest(tensors: &RankTensors) -> f64 {
    tensors.values().flat_map(numbers).map(|x| f64::from(x.abs())).fold(0.0, f64::max)
}

/// Differences of all ranks' tensors from the reference: the largest and the root mean square.
fn difference(ranks: &[RankTensors], reference: &RankTensors) -> (f64, f64) {
    let (mut worst, mut squares, mut count) = (0.0f64, 0.0, 0usize);
    for (id, tensor) in ranks.iter().flatten() {
        let expected = &reference[id];
        assert_eq!(tensor.shape, expected.shape);
        for (x, y) in numbers(tensor).iter().zip(numbers(expected)) {
            let off = f64::from(x - y).abs();
            worst = worst.max(off);
            squares += off * off;
            count += 1;
        }
    }
    (worst, (squares / count as f64).sqrt())
}

/// Every parameter is on some rank, and on all its ranks the same, bit by bit where the ranks are alike.
fn check_coverage(ranks: &[RankTensors], reference: &RankTensors, alike: bool, plan: &str) {
    for id in reference.keys() {
        let mut holders = ranks.iter().filter_map(|rank| rank.get(id));
        let first = holders.next().unwrap_or_else(|| panic!("{plan}: no rank holds {id}"));
        assert!(holders.all(|other| !alike || other == first), "{plan}: ranks differ in {id}");
    }
}

fn check(subject: &Subject, options: &RunOptions, reference: &Reference, cut: Cut) {
    check_program(subject, options, reference, program(subject, cut, options.optimizer.rule), cut.name);
}

/// Trains as many steps as the reference and compares losses, first gradients and parameters. Gradients of which a rank
/// keeps only a share are not compared: their shares have no shape.
pub(crate) fn check_program(
    subject: &Subject,
    options: &RunOptions,
    reference: &Reference,
    program: Arc<Program>,
    plan: &str,
) {
    let rule = options.optimizer.rule;
    let whole = program.groups.iter().all(|group| group.ownership == Ownership::Everybody);
    let steps = reference.losses.len() as u64;
    let trained = train_program(subject, program, options, steps);
    for (step, (loss, expected)) in trained.losses.iter().zip(&reference.losses).enumerate() {
        let off = (loss - expected).abs() / expected;
        assert!(off <= 1e-5, "{plan}: loss {loss} instead of {expected} in step {step}");
    }
    check_coverage(&trained.parameters, &reference.parameters, options.backends.is_empty(), plan);
    let scale = largest(&reference.first_gradients);
    if whole {
        check_coverage(&trained.first_gradients, &reference.first_gradients, options.backends.is_empty(), plan);
        let (gradient, _) = difference(&trained.first_gradients, &reference.first_gradients);
        assert!(
            gradient <= GRADIENT_TOLERANCE * scale,
            "{plan}: gradients differ by {gradient:e}, the largest is {scale:e}"
        );
    }
    let (worst, mean_square) = difference(&trained.parameters, &reference.parameters);
    let rate = settings(rule).learning_rate;
    let (bound, mean_bound) = match rule {
        Optimizer::Sgd => (GRADIENT_TOLERANCE * scale * rate * steps as f64, f64::INFINITY),
        Optimizer::AdamW => (0.1 * rate, 2e-4 * rate),
    };
    assert!(worst <= bound, "{plan}: parameters differ by up to {worst:e}, allowed {bound:e}");
    assert!(mean_square <= mean_bound, "{plan}: parameters differ by {mean_square:e}, allowed {mean_bound:e}");
}

fn check_all(model: &str, options: &RunOptions, cuts: &[Cut]) {
    let (subject, rule) = (subject(model), options.optimizer.rule);
    let reference = reference(&subject, rule, STEPS);
    assert!(reference.losses[0] > reference.losses[STEPS as usize - 1], "it learns: {:?}", reference.losses);
    for cut in cuts {
        check(&subject, options, &reference, *cut);
    }
}

#[test]
fn every_plan_trains_a_decoder_as_the_unpartitioned_model_does() {
    check_all("gpt-nano", &options(Optimizer::AdamW), &CUTS);
}

#[test]
fn every_plan_trains_an_encoder_as_the_unpartitioned_model_does() {
    check_all("bert-nano", &options(Optimizer::AdamW), &CUTS);
}

#[test]
fn plain_gradient_descent_keeps_the_bound_of_the_gradients() {
    check_all("gpt-nano", &options(Optimizer::Sgd), &CUTS);
}

/// The code path of a card: tensor expressions, and gradients and messages that stay on the device, handed over on it or
/// staged through the host.
#[test]
fn ranks_on_one_card_train_as_the_unpartitioned_model_does() {
    for transfers in [Transfers::OnDevice, Transfers::Staged] {
        check_all("gpt-nano", &twin_options(Optimizer::AdamW, transfers), &CUTS);
    }
    check_all("bert-nano", &twin_options(Optimizer::AdamW, Transfers::OnDevice), &CUTS);
    check_all("gpt-nano", &twin_options(Optimizer::Sgd, Transfers::OnDevice), &CUTS);
}

/// Replicas on a core and on a card update the same gradients in their own arithmetic: equal up to rounding.
#[test]
fn ranks_on_cores_and_on_a_card_train_together() {
    let (cpu, card) = (Backend::cpu(), Backend::cpu_as_card());
    let backends = vec![card.clone(), cpu.clone(), card, cpu];
    check_all("gpt-nano", &RunOptions { backends, ..options(Optimizer::AdamW) }, &CUTS);
}

#[test]
fn the_same_plan_gives_the_same_bits() {
    let subject = subject("gpt-nano");
    let cut = cut("dp2-pp2-1f1b-m2", 2, 2, 2, Schedule::OneFOneB);
    let (first, second) = (train(&subject, cut, Optimizer::AdamW), train(&subject, cut, Optimizer::AdamW));
    assert_eq!(first.losses, second.losses);
    assert_eq!(first.parameters, second.parameters);
}

/// The bounds are tight enough to see a synchronisation that is left out.
#[test]
fn a_forgotten_all_reduce_is_noticed() {
    let subject = subject("gpt-nano");
    let reference = reference(&subject, Optimizer::AdamW, 1);
    // Replicas of a stage, and two stages that share the embedding.
    for cut in [cut("dp2", 1, 2, 1, Schedule::FillDrain), cut("pp2", 2, 1, 1, Schedule::FillDrain)] {
        let mut program = (*program(&subject, cut, Optimizer::AdamW)).clone();
        for rank in &mut program.ranks {
            rank.instructions.retain(|instruction| !matches!(instruction.action, Action::AllReduce { .. }));
        }
        let trained = train_program(&subject, Arc::new(program), &options(Optimizer::AdamW), STEPS);
        let scale = largest(&reference.first_gradients);
        let (gradient, _) = difference(&trained.first_gradients, &reference.first_gradients);
        assert!(gradient > 100.0 * GRADIENT_TOLERANCE * scale, "{}: {:e}", cut.name, gradient / scale);
    }
}
