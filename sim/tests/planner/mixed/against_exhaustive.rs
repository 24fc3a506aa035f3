//! The search over classes finds what exhaustive search finds, on random small instances.

use cutplane_graph::Overrides;
use cutplane_sim::planner::layouts::mixed::{MixedProblem, MixedShape, exhaustive, search, violations};
use cutplane_sim::planner::layouts::{LayoutBudget, LayoutError, Objective};
use proptest::prelude::*;
use proptest::sample::select;

use super::setting::{Class, Setting};

const MIB: u64 = 1 << 20;

#[derive(Clone, Debug)]
struct Instance {
    layers: u64,
    width: u64,
    vocab: u64,
    classes: Vec<(&'static str, f64, u64)>,
    batch: u64,
    objective: Objective,
    pins: String,
}

fn class() -> impl Strategy<Value = (&'static str, f64, u64)> {
    let cluster = select(vec!["v100-16gb:1", "v100-16gb:2", "v100-16gb:1", "v100-16gb:3"]);
    let speed = select(vec![1.0, 0.5, 0.3, 0.8]);
    let memory = select(vec![20_u64, 30, 40, 60, 100, 400, 4000]);
    (cluster, speed, memory)
}

fn instances() -> impl Strategy<Value = Instance> {
    let objectives = vec![Objective::StepTime, Objective::StepTime, Objective::StepTime, Objective::Dollars];
    let recompute = select(vec!["recompute=none", "recompute=layers", "recompute=full", ""]);
    let tp = select(vec!["tp=1", "tp=2", "tp=1,pp=2"]);
    (
        1..=4_u64,
        select(vec![64, 128, 256]),
        select(vec![64, 512, 8192]),
        proptest::collection::vec(class(), 1..=3),
        select(vec![1, 2, 4, 6]),
        select(objectives),
        (tp, recompute),
    )
        .prop_map(|(layers, width, vocab, mut classes, batch, objective, (tp, recompute))| {
            // Names tell classes apart.
            classes.sort_by(|a, b| a.1.total_cmp(&b.1));
            classes.dedup_by(|a, b| a.1.to_bits() == b.1.to_bits());
            let pins = [tp, "cp=1", "mb=1", "offload=none", recompute].join(",");
            let pins = pins.trim_end_matches(',').to_owned();
            Instance { layers, width, vocab, classes, batch, objective, pins }
        })
}

impl Instance {
    fn setting(&self) -> Setting {
        let overrides = Overrides {
            layers: Some(self.layers),
            hidden: Some(self.width),
            heads: Some(4),
            vocab: Some(self.vocab),
            ..Overrides::default()
        };
        let class = |&(cluster, speed, memory): &(&str, f64, u64)| {
            let mut class = Class::new(cluster, speed);
            class.memory = (1024 + memory) * MIB;
            class
        };
        Setting::new("gpt2", 64, overrides, self.classes.iter().map(class).collect(), self.batch)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn search_over_classes_is_exhaustive(instance in instances()) {
        let setting = instance.setting();
        let problem = MixedProblem { objective: instance.objective, ..setting.problem(&instance.pins) };
        let all = exhaustive(&problem).expect("priced");
        match search(&problem, &LayoutBudget::default()) {
            Ok(found) => {
                let best = all.expect("the search found what exhaustive search did not");
                let near = |value: f64| (value - best).abs() <= 1e-8 * best;
                prop_assert!(near(found.objective) && near(found.bound), "{best}, not {found:?}");
                prop_assert_eq!(violations(&problem, &found.plan), Vec::<String>::new());
                if let MixedShape::Pipeline { stages, .. } = &found.plan.shape {
                    prop_assert!(!stages.is_empty());
                }
            }
            Err(LayoutError::Infeasible { .. } | LayoutError::EmptySpace { .. }) => {
                prop_assert!(all.is_none(), "nothing found, but there is {all:?}");
            }
            Err(other) => prop_assert!(false, "{other}"),
        }
    }
}
