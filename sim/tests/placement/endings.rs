//! Endings: infeasible with its remedy, interrupted, out of time, and wrong assignments named.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use cutplane_graph::placement::{PlacementDevices, PlacementNode, PlacementProblem};
use cutplane_plan::StopReason;
use cutplane_sim::placement::{PlaceError, PlaceOptions, PlacementObjective, PlacementViolation, evaluate, place};

use crate::support::random;

fn chain(sizes: &[f64], devices: PlacementDevices) -> PlacementProblem {
    let node = |(id, size): (usize, &f64)| PlacementNode {
        id: id as i64,
        on_accelerator: true,
        cpu_time: 10.0,
        accelerator_time: 1.0,
        transfer_time: 0.5,
        size: *size,
        backward: false,
        color: None,
    };
    let edges: Vec<(i64, i64)> = (1..sizes.len() as i64).map(|to| (to - 1, to)).collect();
    PlacementProblem::new(devices, sizes.iter().enumerate().map(node).collect(), &edges).expect("valid")
}

fn message(problem: &PlacementProblem, options: &PlaceOptions<'_>) -> String {
    match place(problem, options) {
        Err(error @ PlaceError::Infeasible { .. }) => error.to_string(),
        other => panic!("not infeasible: {other:?}"),
    }
}

#[test]
fn infeasible_names_the_limit_and_the_smallest_change() {
    let devices = PlacementDevices { accelerators: 2, cpus: 0, accelerator_memory: 10.0 };
    let options = PlaceOptions::default();
    let large = message(&chain(&[4.0, 12.0], devices), &options);
    assert!(large.contains("node 1") && large.contains("maxSizePerFPGA to 12"), "{large}");
    let much = message(&chain(&[8.0, 8.0, 8.0], devices), &options);
    assert!(much.contains("at least 3 accelerators") && much.contains("12 bytes"), "{much}");
    // 6 + 4 fill one accelerator, 4 + 6 the other, but neighbours alone do not.
    let contiguous = PlaceOptions { contiguous: true, ..options };
    let torn = chain(&[6.0, 5.0, 5.0, 4.0], devices);
    let tight = message(&torn, &contiguous);
    assert!(tight.contains("3 accelerators"), "{tight}");
    #[cfg(feature = "ilp")]
    assert!(place(&torn, &options).is_ok_and(|placed| !placed.evaluation.contiguous));
}

#[cfg(feature = "ilp")]
#[test]
fn what_only_the_solver_can_refute_is_infeasible_too() {
    let devices = PlacementDevices { accelerators: 2, cpus: 0, accelerator_memory: 10.0 };
    let tight =
        message(&chain(&[6.0, 6.0, 6.0], PlacementDevices { accelerators: 2, ..devices }), &PlaceOptions::default());
    assert!(tight.contains("3 accelerators"), "{tight}");
    let latency = PlaceOptions { objective: PlacementObjective::Latency, ..PlaceOptions::default() };
    assert!(message(&chain(&[6.0, 5.0, 5.0, 4.0], devices), &latency).contains("latency"));
}

#[test]
fn no_time_still_gives_a_placement_and_says_so() {
    let problem =
        (0..99).map(|seed| random(seed, 40)).find(|problem| problem.devices().cpus > 0).expect("one with a CPU");
    for objective in [PlacementObjective::Throughput, PlacementObjective::Latency] {
        let options = PlaceOptions { objective, time_limit: Duration::ZERO, ..PlaceOptions::default() };
        let placed = place(&problem, &options).expect("a placement");
        assert_eq!(placed.stop, StopReason::TimeLimit);
        assert!(placed.bound <= placed.objective);
        let raised = AtomicBool::new(true);
        let options = PlaceOptions { interrupt: Some(&raised), ..options };
        match place(&problem, &options) {
            Ok(placed) => assert_eq!(placed.stop, StopReason::Interrupted),
            Err(error) => assert_eq!(error, PlaceError::Interrupted),
        }
    }
}

/// Twenty chains side by side have 4^20 ideals: no lattice is built, and the orders are what is left.
#[test]
fn a_huge_lattice_falls_back_on_orders() {
    let (chains, length) = (20, 3);
    let node = |id: i64| PlacementNode {
        id,
        on_accelerator: true,
        cpu_time: 30.0,
        accelerator_time: 1.0 + (id % 3) as f64,
        transfer_time: 0.1,
        size: 1.0,
        backward: false,
        color: None,
    };
    let edges: Vec<(i64, i64)> =
        (0..chains * length).filter(|id| id % length + 1 < length).map(|id| (id, id + 1)).collect();
    let devices = PlacementDevices { accelerators: 4, cpus: 0, accelerator_memory: 30.0 };
    let problem = PlacementProblem::new(devices, (0..chains * length).map(node).collect(), &edges).expect("valid");
    let options = PlaceOptions { contiguous: true, time_limit: Duration::from_secs(2), ..PlaceOptions::default() };
    let placed = place(&problem, &options).expect("a placement");
    assert!(placed.evaluation.contiguous && placed.bound <= placed.objective, "{placed:?}");
    // 20 times 1 + 2 + 3 over 4 devices: whole chains need no transfers.
    assert!((30.0..=31.0).contains(&placed.objective) && placed.bound >= 30.0 - 1e-9, "{placed:?}");
    assert_ne!(placed.searcher, "ideal-dp");
    // What fits on no order is not called infeasible without a proof.
    let tight = PlacementDevices { accelerators: 2, cpus: 0, accelerator_memory: 29.0 };
    let problem = PlacementProblem::new(tight, problem.nodes().to_vec(), &edges).expect("valid");
    assert!(matches!(place(&problem, &options), Err(PlaceError::Infeasible { .. })), "60 bytes on 58 are too many");
}

#[test]
fn wrong_assignments_are_named() {
    let devices = PlacementDevices { accelerators: 1, cpus: 1, accelerator_memory: 10.0 };
    let problem = chain(&[6.0, 6.0], devices);
    assert_eq!(evaluate(&problem, &[0]), Err(PlacementViolation::Length { nodes: 2, given: 1 }));
    assert_eq!(evaluate(&problem, &[0, 2]), Err(PlacementViolation::Device { id: 1, device: 2, devices: 2 }));
    assert!(matches!(evaluate(&problem, &[0, 0]), Err(PlacementViolation::Memory { device: 0, .. })));
    let split = evaluate(&problem, &[0, 1]).expect("fits");
    // The accelerator computes 1 and sends 0.5; then the CPU takes 10.
    assert_eq!((split.max_load, split.latency, split.contiguous), (10.0, Some(11.5), true));
    assert!((split.devices[0].load - 1.5).abs() < 1e-12);
}
