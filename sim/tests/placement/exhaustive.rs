//! Searchers against all assignments of small problems, and against each other on larger ones.

use std::time::Duration;

use cutplane_graph::placement::PlacementProblem;
use cutplane_plan::StopReason;
use cutplane_sim::placement::{PlaceError, PlaceOptions, Placed, PlacementObjective, evaluate, place};

use crate::support::{Best, best, random};

fn exact(objective: PlacementObjective, contiguous: bool) -> PlaceOptions<'static> {
    PlaceOptions { objective, contiguous, relative_gap: 0.0, ..PlaceOptions::default() }
}

/// Holds an answer against the best value of all assignments; returns whether there was one.
fn check(seed: u64, problem: &PlacementProblem, options: &PlaceOptions<'_>, best: Option<f64>) -> bool {
    match (place(problem, options), best) {
        (Ok(placed), Some(best)) => {
            let near = |value: f64| (value - best).abs() <= 2e-6 * best + 1e-9;
            assert!(near(placed.objective) && near(placed.bound), "seed {seed}: {best}, not {placed:?}");
            assert_eq!(placed.stop, StopReason::ProvenOptimal, "seed {seed}");
            true
        }
        (Err(PlaceError::Infeasible { .. }), None) => false,
        (answer, best) => panic!("seed {seed}: {best:?}, not {answer:?}"),
    }
}

/// Solved problems of the seeds, without and with a backward pass.
fn solved(
    seeds: std::ops::Range<u64>,
    options: &PlaceOptions<'_>,
    best_of: impl Fn(&Best) -> Option<f64>,
) -> [usize; 2] {
    let mut solved = [0; 2];
    for seed in seeds {
        let problem = random(seed, 3 + seed as usize % 4);
        let trains = problem.nodes().iter().any(|node| node.backward);
        solved[usize::from(trains)] += usize::from(check(seed, &problem, options, best_of(&best(&problem))));
    }
    println!("{} of inference, {} of training", solved[0], solved[1]);
    solved
}

#[test]
fn contiguous_search_equals_all_assignments() {
    let options = exact(PlacementObjective::Throughput, true);
    assert!(solved(0..1800, &options, |best| best.contiguous).into_iter().all(|count| count >= 500));
}

#[cfg(feature = "ilp")]
#[test]
fn free_search_equals_all_assignments() {
    let options = exact(PlacementObjective::Throughput, false);
    // The solver takes its time: half a second for ten.
    let [inference, training] = solved(0..600, &options, |best| best.free);
    assert!(inference + training >= 500 && training >= 150);
}

#[test]
fn latency_search_equals_all_assignments() {
    let options = exact(PlacementObjective::Latency, false);
    assert!(solved(0..700, &options, |best| best.latency).into_iter().sum::<usize>() >= 500);
}

fn quick(problem: &PlacementProblem, objective: PlacementObjective, contiguous: bool) -> Placed {
    let time_limit = Duration::from_secs(1);
    place(problem, &PlaceOptions { objective, contiguous, time_limit, ..PlaceOptions::default() }).expect("a placement")
}

#[test]
fn larger_problems_keep_all_rules_and_the_ladder_its_order() {
    for seed in (1..200).filter(|seed| seed % 23 == 1) {
        let problem = random(seed, 60);
        if problem.devices().cpus == 0 {
            continue;
        }
        let contiguous = quick(&problem, PlacementObjective::Throughput, true);
        let free = quick(&problem, PlacementObjective::Throughput, false);
        let latency = quick(&problem, PlacementObjective::Latency, false);
        let on_cpu = vec![problem.devices().accelerators; problem.nodes().len()];
        let on_cpu = evaluate(&problem, &on_cpu).expect("the CPU holds everything");
        assert!(contiguous.evaluation.contiguous, "seed {seed}");
        assert!(free.objective <= contiguous.objective * (1.0 + 1e-9), "seed {seed}");
        assert!(contiguous.objective <= on_cpu.max_load * (1.0 + 1e-9), "seed {seed}");
        assert!(Some(latency.objective) <= on_cpu.latency.map(|value| value * (1.0 + 1e-9)), "seed {seed}");
        assert!([contiguous, free, latency].iter().all(|placed| placed.bound <= placed.objective), "seed {seed}");
    }
}

#[test]
fn equal_seeds_give_equal_placements() {
    let problem = random(7, 6);
    let options = exact(PlacementObjective::Latency, false);
    let first = place(&problem, &options).expect("a placement");
    assert_eq!(place(&problem, &options).expect("a placement").assignment, first.assignment);
}
