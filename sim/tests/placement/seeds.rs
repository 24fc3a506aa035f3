//! Seeds: equal ones give equal searches, and others give others.

use std::collections::BTreeSet;

use cutplane_graph::placement::{PlacementDevices, PlacementNode, PlacementProblem};
use cutplane_sim::placement::{PlaceOptions, PlacementObjective, place};

use crate::support::random;

/// A chain with free transfers whose best splits are balanced and not contiguous: there are many of them.
fn uneven_chain() -> PlacementProblem {
    let times = [9.0, 1.0, 8.0, 2.0, 7.0, 3.0, 11.0, 5.0, 13.0, 4.0, 12.0, 6.0, 10.0, 9.0];
    let node = |(id, time): (usize, &f64)| PlacementNode {
        id: id as i64,
        on_accelerator: true,
        cpu_time: 100.0,
        accelerator_time: *time,
        transfer_time: 0.0,
        size: 0.0,
        backward: false,
        color: None,
    };
    let devices = PlacementDevices { accelerators: 2, cpus: 0, accelerator_memory: 1.0 };
    let edges: Vec<(i64, i64)> = (1..times.len() as i64).map(|to| (to - 1, to)).collect();
    PlacementProblem::new(devices, times.iter().enumerate().map(node).collect(), &edges).expect("valid")
}

#[test]
fn equal_seeds_give_equal_placements_and_others_give_others() {
    let problem = uneven_chain();
    let with = |seed| place(&problem, &PlaceOptions { seed, ..PlaceOptions::default() }).expect("a split");
    let mut found = BTreeSet::new();
    for seed in 0..6 {
        let (one, again) = (with(seed), with(seed));
        assert_eq!((&one.assignment, one.objective, one.bound), (&again.assignment, again.objective, again.bound));
        assert_eq!((one.objective, one.searcher), (50.0, "annealing"));
        found.insert(one.assignment);
    }
    assert!(found.len() > 1, "every seed gave the same of many equal splits");
}

#[test]
fn latency_is_reproducible() {
    for number in [1, 5, 7] {
        let problem = random(number, 9);
        let options = PlaceOptions {
            objective: PlacementObjective::Latency,
            seed: 3,
            relative_gap: 0.0,
            ..PlaceOptions::default()
        };
        let (one, again) = (place(&problem, &options), place(&problem, &options));
        let told = |placed: cutplane_sim::placement::Placed| (placed.assignment, placed.objective, placed.bound);
        assert_eq!(one.map(told).ok(), again.map(told).ok(), "problem {number}");
    }
}
