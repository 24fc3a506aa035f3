//! How far the searched splits are from the best of all splits.

use cutplane_graph::Overrides;
use cutplane_sim::estimate::{Estimator, Layout};
use cutplane_sim::planner::layouts::{LayoutBudget, LayoutProblem, Pins, search};

use super::setting::Setting;

const LAYERS: u64 = 9;

/// Every way to give each of `stages` stages at least one of `layers` layers.
fn compositions(layers: u64, stages: u64) -> Vec<Vec<u64>> {
    if stages == 1 {
        return vec![vec![layers]];
    }
    let first = 1..=layers + 1 - stages;
    let rest =
        |first: u64| compositions(layers - first, stages - 1).into_iter().map(move |rest| [vec![first], rest].concat());
    first.flat_map(rest).collect()
}

fn setting(vocab: u64, batch: u64) -> Setting {
    let sizes = Overrides {
        layers: Some(LAYERS),
        hidden: Some(512),
        heads: Some(8),
        vocab: Some(vocab),
        ..Overrides::default()
    };
    Setting::new("gpt2", 256, sizes, "a100-80gb:4", batch)
}

#[test]
fn no_split_is_much_better_than_the_searched_ones() {
    for (vocab, batch) in [(512, 4), (512, 32), (8_192, 8), (50_257, 8), (50_257, 64)] {
        for schedule in ["1f1b", "fill-drain", "zero-bubble"] {
            let setting = setting(vocab, batch);
            let pins = format!("pp=4,dp=1,mb=1,zero=0,offload=none,recompute=none,schedule={schedule}");
            let problem = LayoutProblem { pins: Pins::parse(&[pins]).expect("pins"), ..setting.problem() };
            let found = search(&problem, &LayoutBudget::default()).expect("it fits");
            let chosen = &found.chosen().layout;
            let estimator = Estimator::new(&setting.model, &setting.gpu, &setting.fabric, &setting.stack);
            let price = |split: Vec<u64>| {
                let layout = Layout { stage_split: Some(split), ..chosen.clone() };
                estimator.estimate(&layout).expect("priced").predicted.seconds
            };
            let all = compositions(LAYERS, 4).into_iter().map(|split| (price(split.clone()), split));
            let (best, split) = all.min_by(|a, b| a.0.total_cmp(&b.0)).expect("there are splits");
            let lost = found.chosen().seconds() / best - 1.0;
            println!("vocab {vocab} batch {batch} {schedule}: {lost:.5} above {split:?} with {:?}", chosen.stage_split);
            assert!(lost <= 0.01, "{lost} with {:?}", chosen.stage_split);
        }
    }
}
