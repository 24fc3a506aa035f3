//! Branch and bound finds what exhaustive search finds, on random small instances.

use cutplane_graph::Overrides;
use cutplane_sim::planner::layouts::{LayoutBudget, LayoutError, LayoutProblem, Objective, Pins, exhaustive, search};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::setting::Setting;

const MIB: u64 = 1 << 20;

#[derive(Clone, Debug)]
struct Instance {
    layers: u64,
    width: u64,
    vocab: u64,
    cluster: &'static str,
    batch: u64,
    /// Beyond what the framework takes, MiB.
    memory: u64,
    objective: Objective,
    pins: String,
}

/// Pins that keep exhaustive search short; many spaces are still thousands of layouts.
fn pins() -> impl Strategy<Value = String> {
    let tp = select(vec!["tp=1", "tp=2", "sp=on", "sp=off", "tp=4"]);
    let cp = select(vec!["cp=1", "cp=2", "cp=1"]);
    let size = select(vec!["mb=1", "mb=2", "recompute=layers", "recompute=none", "recompute=full"]);
    let rest =
        subsequence(vec!["offload=none", "schedule=1f1b", "zero=1", "schedule=interleaved", "pp=2", "mb=1"], 0..3);
    (tp, cp, size, rest).prop_map(|(tp, cp, size, rest)| [&[tp, cp, size][..], &rest].concat().join(","))
}

fn instances() -> impl Strategy<Value = Instance> {
    let objectives = vec![Objective::StepTime, Objective::StepTime, Objective::Dollars, Objective::Devices];
    (
        1..=5_u64,
        select(vec![64, 128, 256]),
        select(vec![64, 512, 8192]),
        select(vec!["a100-80gb:2", "a100-80gb:4", "a100-80gb:6", "dgx-a100:1", "dgx-a100:2"]),
        select(vec![1, 2, 4, 6, 8, 12]),
        select(vec![20, 25, 30, 40, 60, 100, 400, 4000]),
        select(objectives),
        pins(),
    )
        .prop_map(|(layers, width, vocab, cluster, batch, memory, objective, pins)| Instance {
            layers,
            width,
            vocab,
            cluster,
            batch,
            memory,
            objective,
            pins,
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
        let mut setting = Setting::new("gpt2", 64, overrides, self.cluster, self.batch);
        setting.device_memory = (1024 + self.memory) * MIB;
        setting
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn branch_and_bound_is_exhaustive(instance in instances()) {
        let setting = instance.setting();
        let problem = LayoutProblem {
            objective: instance.objective,
            dollars_per_device_hour: Some(2.0),
            pins: Pins::parse(&[&instance.pins]).expect("pins of the list"),
            ..setting.problem()
        };
        let all = exhaustive(&problem).expect("priced");
        match search(&problem, &LayoutBudget::default()) {
            Ok(found) => {
                let (best, layout) = all.expect("the search found what exhaustive search did not");
                let value = found.chosen().value;
                prop_assert!((value - best).abs() <= 1e-9 * best, "{value} against {best} of {layout}");
                prop_assert!(found.gap() <= 1e-9, "gap {}", found.gap());
                prop_assert!(found.best.windows(2).all(|pair| pair[0].value <= pair[1].value));
            }
            Err(LayoutError::Infeasible { .. } | LayoutError::EmptySpace { .. }) => {
                prop_assert!(all.is_none(), "nothing found, but there is {all:?}");
            }
            Err(other) => prop_assert!(false, "{other}"),
        }
    }
}
