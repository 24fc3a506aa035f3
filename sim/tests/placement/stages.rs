//! Stages of unequal replication: against every plan of small chains, and on the public workload.

use std::collections::BTreeMap;
use std::path::Path;

use cutplane_sim::placement::stages::{
    LayerVariant, Stage, StagedLayer, StagesError, StagesProblem, read_stages_problem, search_stages,
    stages_problem_from_str,
};
use proptest::prelude::*;

fn variant(seconds: f64, weights: f64, memory: (f64, f64)) -> LayerVariant {
    LayerVariant {
        name: "plain".to_owned(),
        seconds,
        weight_bytes: weights,
        bytes_per_micro_batch: memory.0,
        bytes: memory.1,
        sync_in: BTreeMap::new(),
        sync_out: BTreeMap::new(),
    }
}

/// A chain of layers of so many seconds, weights, output bytes, memory; a second variant recomputes where `two`.
fn chain(layers: &[(u32, u32, u32, u32)], devices: u64, memory: f64, two: bool) -> StagesProblem {
    let layer = |(seconds, weights, _, kept): &(u32, u32, u32, u32)| {
        let (seconds, weights, kept) = (f64::from(*seconds), f64::from(*weights), f64::from(*kept));
        let mut one = vec![variant(seconds, weights, (kept, weights))];
        if two {
            one.push(variant(1.3 * seconds, weights, (0.2 * kept, weights)));
        }
        let halved: Vec<LayerVariant> = one
            .iter()
            .map(|own| LayerVariant {
                seconds: 0.6 * own.seconds,
                weight_bytes: own.weight_bytes / 2.0,
                bytes_per_micro_batch: own.bytes_per_micro_batch / 2.0,
                bytes: own.bytes / 2.0,
                ..own.clone()
            })
            .collect();
        StagedLayer { name: "layer".to_owned(), variants: BTreeMap::from([(1, one), (2, halved)]) }
    };
    let edges = layers.windows(2).enumerate().map(|(at, pair)| (at, at + 1, f64::from(pair[0].2))).collect();
    let layers = layers.iter().map(layer).collect();
    StagesProblem { devices, memory, bandwidth: 2.0, micro_batches: Some(4), layers, edges }
}

/// The least slowest stage of all plans of a chain.
fn exhaustive(problem: &StagesProblem) -> Option<f64> {
    let mut best: Option<f64> = None;
    let mut todo: Vec<Vec<Stage>> = vec![Vec::new()];
    while let Some(stages) = todo.pop() {
        let start: usize = stages.iter().map(|stage| stage.layers.len()).sum();
        let used: u64 = stages.iter().map(|stage| stage.replicas * stage.tensor).sum();
        if start == problem.layers.len() {
            let uses = problem.evaluate(&stages).expect("a plan");
            if uses.iter().all(|own| own.bytes <= problem.memory) {
                let slowest = uses.iter().map(|own| own.seconds).fold(0.0, f64::max);
                best = Some(best.map_or(slowest, |known| known.min(slowest)));
            }
            continue;
        }
        for end in start + 1..=problem.layers.len() {
            for (replicas, tensor) in [(1, 1), (2, 1), (4, 1), (1, 2), (2, 2)] {
                if used + replicas * tensor > problem.devices {
                    continue;
                }
                let count = problem.layers[start].variants[&tensor].len();
                for code in 0..count.pow((end - start) as u32) {
                    let pick = |at: usize| code / count.pow((at - start) as u32) % count;
                    let layers = (start..end).map(|at| (at, pick(at))).collect();
                    let stage = Stage { layers, replicas, tensor };
                    todo.push(stages.iter().cloned().chain(std::iter::once(stage)).collect());
                }
            }
        }
    }
    best
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn the_search_finds_what_all_plans_have_at_best(
        layers in prop::collection::vec((1_u32..9, 0_u32..6, 0_u32..6, 0_u32..9), 1..5),
        devices in 1_u64..6,
        memory in 4.0_f64..60.0,
        two in any::<bool>(),
    ) {
        let problem = chain(&layers, devices, memory, two);
        match (search_stages(&problem), exhaustive(&problem)) {
            (Err(StagesError::Infeasible { .. }), None) => {}
            (Ok(found), Some(best)) => {
                prop_assert!(found.bound <= best * (1.0 + 1e-9), "bound {} of {best}", found.bound);
                prop_assert!(best <= found.seconds * (1.0 + 1e-9), "{} below {best}", found.seconds);
                prop_assert!(found.uses.iter().all(|own| own.bytes <= memory + 1e-3));
                // With one variant there is no knapsack.
                prop_assert!(two || found.seconds <= best * (1.0 + 3e-6), "{} above {best}", found.seconds);
            }
            (found, best) => prop_assert!(false, "{found:?} against {best:?}"),
        }
    }
}

#[test]
fn a_heavy_first_layer_is_replicated_as_pipedream_does() {
    // Seconds 3 and 1: three replicas of the first make both stages equal. Its weights are few, those of the last many.
    let four = chain(&[(3, 0, 0, 0), (1, 100, 0, 0)], 4, 1e3, false);
    // Three replicas of the first do not divide four micro-batches: two of them, or two halves of a layer.
    let found = search_stages(&four).expect("a plan");
    assert!(found.seconds > 1.0 && found.stages.iter().all(|stage| stage.replicas != 3), "{found:?}");
    // In rounds without a step's end every degree goes.
    let found = search_stages(&StagesProblem { micro_batches: None, ..four }).expect("a plan");
    assert_eq!((found.stages[0].replicas, found.stages[1].replicas), (3, 1));
    assert!((found.seconds - 1.0).abs() < 1e-5);
}

#[test]
fn wrong_problems_are_named() {
    let text =
        r#"{"maxDevices": 2, "maxMemoryPerDevice": 1e9, "bandwidth": 1e9, "mbsInBatch": 4, "nodes": [], "edges": []}"#;
    assert!(matches!(stages_problem_from_str("t", text), Err(StagesError::Layers { count: 0 })));
    let missing = stages_problem_from_str("t", "{}").expect_err("no fields").to_string();
    assert!(missing.contains("maxDevices") && missing.starts_with("t: not a workload"), "{missing}");
    let mut circle = chain(&[(1, 0, 0, 0), (1, 0, 0, 0)], 2, 1e3, false);
    circle.edges.push((1, 0, 0.0));
    assert!(matches!(search_stages(&circle), Err(StagesError::Cycle)));
    let tight = chain(&[(1, 9, 0, 0)], 1, 4.0, false);
    assert!(matches!(search_stages(&tight), Err(StagesError::Infeasible { devices: 1, .. })));
    let edge = StagesProblem { edges: vec![(0, 7, 1.0)], ..chain(&[(1, 0, 0, 0)], 1, 1e3, false) };
    assert_eq!(
        edge.check().expect_err("nowhere").to_string().split(':').next(),
        Some("the edge from layer 0 to layer 7")
    );
}

#[test]
fn bert_32_is_cut_within_a_hundredth_of_the_reference() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/placement/piper/bert32a100.json");
    if !file.exists() {
        println!("skipped: {} is absent", file.display());
        return;
    }
    let mut problem = read_stages_problem(&file).expect("a workload");
    // The reference's 8 GB are 8 GiB.
    (problem.devices, problem.memory) = (8, 8.0 * f64::from(1 << 30));
    let found = search_stages(&problem).expect("a plan");
    assert!((found.seconds / 0.16586 - 1.0).abs() < 1e-2, "{}", found.seconds);
    assert!(found.bound <= found.seconds && found.seconds <= 1.001 * found.bound, "{}", found.bound);
}
