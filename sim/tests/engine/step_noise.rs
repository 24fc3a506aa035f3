//! Jitter and stragglers: what draws of a noisy step have in common.

use cutplane_sim::engine::step::PipelineSchedule::{Interleaved, OneForwardOneBackward};
use cutplane_sim::engine::step::{Noise, StepProgram, draws, simulate_step};
use cutplane_units::Nanos;

use crate::step_support::equal;

/// `p` ranks that compute one pass each and meet: a bulk-synchronous step.
fn bulk_synchronous(p: u64) -> StepProgram {
    let mut program = equal(OneForwardOneBackward, 1, 1, 1, [1_000_000, 0, 0]);
    program.replicas = p;
    program
}

#[test]
fn no_noise_is_the_step_itself() {
    let mut program = equal(Interleaved, 4, 2, 8, [500, 900, 0]);
    program.replicas = 3;
    let exact = simulate_step(&program).unwrap().makespan();
    let spread = draws(&program, &Noise::NONE, 20).unwrap();
    assert!(spread.makespans.iter().all(|makespan| *makespan == exact));
    let nobody = Noise { straggler_slowdown: 9.0, ..Noise::NONE };
    assert_eq!(draws(&program, &nobody, 3).unwrap().percentile(99.0), exact);
}

#[test]
fn a_seed_repeats_and_another_differs() {
    let program = equal(OneForwardOneBackward, 4, 1, 16, [50_000, 100_000, 0]);
    let noise = |seed| Noise { jitter: 0.1, straggler_share: 0.05, straggler_slowdown: 1.5, seed };
    let run = |seed| draws(&program, &noise(seed), 50).unwrap();
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
    let spread = run(3);
    let [p50, p95, p99] = [50.0, 95.0, 99.0].map(|percent| spread.percentile(percent));
    assert!(p50 < p95 && p95 <= p99, "{p50} {p95} {p99}");
}

#[test]
fn a_bulk_synchronous_step_is_the_expected_maximum() {
    let noise = Noise { jitter: 0.2, seed: 7, ..Noise::NONE };
    let mean = |p| draws(&bulk_synchronous(p), &noise, 4000).unwrap().mean_ns * 1e-6;
    assert!((mean(1) - 1.0).abs() < 0.01, "{}", mean(1));
    // The larger of two log-normal variables of mean 1: 2 Phi(s / sqrt(2)).
    assert!((mean(2) - 1.112_46).abs() < 0.01, "{}", mean(2));
    let means: Vec<f64> = [1, 2, 4, 16, 64].map(mean).to_vec();
    assert!(means.is_sorted(), "{means:?}");
}

#[test]
fn ranks_in_step_are_as_slow_as_their_slowest() {
    let noise = Noise { jitter: 0.2, seed: 7, ..Noise::NONE };
    let mut program = bulk_synchronous(1);
    program.ranks_in_step = 2;
    let mean = draws(&program, &noise, 4000).unwrap().mean_ns * 1e-6;
    assert!((mean - 1.112_46).abs() < 0.01, "{mean}");
}

#[test]
fn one_straggler_is_enough() {
    let share = 0.01;
    let noise = Noise { straggler_share: share, straggler_slowdown: 2.0, seed: 11, ..Noise::NONE };
    let p = 32;
    let spread = draws(&bulk_synchronous(p), &noise, 4000).unwrap();
    let slow = spread.makespans.iter().filter(|makespan| **makespan == Nanos::new(2_000_000)).count() as f64 / 4000.0;
    let expected = 1.0 - (1.0 - share).powi(p as i32);
    assert!((slow - expected).abs() < 0.03, "{slow} {expected}");
    assert_eq!(spread.percentile(50.0), Nanos::new(1_000_000));
    assert_eq!(spread.percentile(95.0), Nanos::new(2_000_000));
}

#[test]
fn impossible_noise_is_refused_by_field() {
    let program = bulk_synchronous(1);
    let refused = |noise| draws(&program, &noise, 1).unwrap_err().field;
    assert_eq!(refused(Noise { jitter: -1.0, ..Noise::NONE }), "jitter");
    assert_eq!(refused(Noise { straggler_share: 1.5, ..Noise::NONE }), "straggler_share");
    assert_eq!(refused(Noise { straggler_slowdown: f64::NAN, ..Noise::NONE }), "straggler_slowdown");
    assert_eq!(draws(&program, &Noise::NONE, 0).unwrap_err().field, "draws");
}
