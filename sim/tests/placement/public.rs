//! The public benchmark, where its files are at hand: contiguous optima, the best known values of the other searches, and an
//! optimum of latency that can be derived by hand.

use std::path::{Path, PathBuf};
use std::time::Duration;

use cutplane_graph::placement::PlacementNode;
use cutplane_plan::StopReason;
use cutplane_sim::placement::{PlaceOptions, PlacementObjective, place};
use cutplane_zoo::read_placement;

/// Workload, contiguous optimum, best known without contiguity.
const THROUGHPUT: [(&str, f64, f64); 10] = [
    ("LayerGraphs/bert24_inference", 17.789_906_25, 17.714_72),
    ("LayerGraphs/bert24_training", 41.745_812_5, 39.789_54),
    ("LayerGraphs/resnet50_inference", 33.774_666_02, 33.509_44),
    ("LayerGraphs/resnet50_training", 78.631_812_5, 77.013_85),
    ("OperatorGraphs/bert_l-3_inference", 27.918_567_68, 21.908_38),
    ("OperatorGraphs/bert_l-3_training", 65.303_149_12, 54.207_4),
    ("OperatorGraphs/bert_l-6_inference", 29.579_505_81, 28.332_2),
    ("OperatorGraphs/bert_l-6_training", 72.864_966_32, 71.642_27),
    ("OperatorGraphs/resnet50_inference", 124.348_849_77, 124.348_85),
    ("OperatorGraphs/resnet50_training", 255.194_416_45, 255.194_42),
];

/// Workload, best known latency. The first is below what is possible, see
/// [`the_latency_of_a_chain_is_what_memory_makes_of_it`]; it stands here as the stricter demand.
const LATENCY: [(&str, f64); 5] = [
    ("LayerGraphs/bert24_inference", 99.968),
    ("LayerGraphs/resnet50_inference", 1443.8),
    ("OperatorGraphs/bert_l-3_inference", 409.246),
    ("OperatorGraphs/bert_l-6_inference", 440.39),
    ("OperatorGraphs/resnet50_inference", 839.536),
];

fn folder(kind: &str) -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/placement").join(kind);
    if !folder.is_dir() {
        println!("skipped: {} is absent (the files are the user's to download)", folder.display());
        return None;
    }
    Some(folder)
}

#[test]
fn contiguous_optima_of_the_public_workloads() {
    let Some(folder) = folder("throughput-inputs") else { return };
    for (name, optimum, _) in THROUGHPUT {
        let problem = read_placement(&folder.join(format!("{name}.json"))).expect("a workload");
        let placed = place(&problem, &PlaceOptions { contiguous: true, ..PlaceOptions::default() }).expect("a split");
        assert!((placed.objective - optimum).abs() <= 1e-6 * optimum, "{name}: {optimum}, not {}", placed.objective);
        assert!(placed.gap() <= 1e-6 && placed.evaluation.contiguous, "{name}: gap {}", placed.gap());
    }
}

/// A short search: the values have slack for what a longer one gains.
#[test]
fn free_splits_come_near_the_best_known() {
    let Some(folder) = folder("throughput-inputs") else { return };
    for (name, _, known) in THROUGHPUT {
        let problem = read_placement(&folder.join(format!("{name}.json"))).expect("a workload");
        let options =
            PlaceOptions { time_limit: Duration::from_secs(2), relative_gap: 0.05, ..PlaceOptions::default() };
        let placed = place(&problem, &options).expect("a split");
        assert!(placed.objective <= 1.05 * known, "{name}: {known}, not {}", placed.objective);
        assert!(placed.bound <= known * (1.0 + 1e-5), "{name}: bound {} above {known}", placed.bound);
    }
}

#[test]
fn latencies_are_never_above_the_best_known() {
    let Some(folder) = folder("latency-inputs") else { return };
    for (name, known) in LATENCY {
        let problem = read_placement(&folder.join(format!("{name}.json"))).expect("a workload");
        let options = PlaceOptions {
            objective: PlacementObjective::Latency,
            time_limit: Duration::from_secs(3),
            ..PlaceOptions::default()
        };
        let placed = place(&problem, &options).expect("an assignment");
        assert!(placed.objective <= 1.02 * known, "{name}: {known}, not {}", placed.objective);
        assert!(placed.bound > 0.0 && placed.bound <= placed.objective, "{name}: bound {}", placed.bound);
    }
}

/// The layer graph of BERT: nodes that take time lie on one path, one after the other. Its layers stand in a row there; on a
/// CPU core each of them would take longer by more than four transfers of an activation, and two accelerators do not hold
/// them. So the row changes accelerators twice at least, and each time an activation goes out of one and into the next: no
/// placement is faster than all times and four transfers, and one is as fast. 99.968, which is told of this workload, is less.
#[test]
fn the_latency_of_a_chain_is_what_memory_makes_of_it() {
    let Some(folder) = folder("latency-inputs") else { return };
    let problem = read_placement(&folder.join("LayerGraphs/bert24_inference.json")).expect("a workload");
    let nodes = problem.nodes();
    let mut longest = vec![0.0_f64; nodes.len()];
    for &node in problem.topological_order() {
        longest[node] += nodes[node].accelerator_time;
        for &reader in problem.successors(node) {
            longest[reader] = longest[reader].max(longest[node]);
        }
    }
    let all: f64 = nodes.iter().map(|node| node.accelerator_time).sum();
    assert!((longest.iter().copied().fold(0.0, f64::max) - all).abs() < 1e-9, "not one path");
    let activation = 1.953_125;
    let optimum = all + 4.0 * activation;
    let slow = |node: &PlacementNode| node.cpu_time - node.accelerator_time > 4.0 * activation;
    let layers = nodes.iter().filter(|node| node.transfer_time >= activation && node.transfer_time < 2.0 && slow(node));
    let memory: f64 = layers.map(|node| node.size).sum();
    assert!(memory > 2.0 * problem.devices().accelerator_memory, "two accelerators hold {memory} bytes");
    let options = PlaceOptions { objective: PlacementObjective::Latency, relative_gap: 0.0, ..PlaceOptions::default() };
    let placed = place(&problem, &options).expect("an assignment");
    assert!((placed.objective - optimum).abs() < 1e-9, "{optimum}, not {}", placed.objective);
    assert_eq!(placed.stop, StopReason::ProvenOptimal);
}
