//! The next best plans, the front over devices, and what alternatives cost.

use cutplane_graph::Overrides;
use cutplane_sim::planner::layouts::mixed::{MixedOutcome, MixedProblem, pareto, search, sensitivities, violations};
use cutplane_sim::planner::layouts::{LayoutBudget, Objective};

use super::setting::{Class, Setting};

fn small() -> Setting {
    let sizes =
        Overrides { layers: Some(4), hidden: Some(256), heads: Some(4), vocab: Some(512), ..Overrides::default() };
    let classes = vec![Class::new("v100-16gb:2", 1.0), Class::new("v100-16gb:1", 0.5)];
    Setting::new("gpt2", 128, sizes, classes, 8)
}

#[test]
fn the_next_best_are_those_of_the_whole_list() {
    let setting = small();
    for objective in [Objective::StepTime, Objective::Dollars] {
        let problem = MixedProblem { objective, ..setting.problem("cp=1,offload=none") };
        let with = |top_k| search(&problem, &LayoutBudget { top_k, ..LayoutBudget::default() }).expect("it fits");
        let (one, few, all) = (with(1), with(4), with(100_000));
        assert!(one.runners_up.is_empty() && few.runners_up.len() == 3 && all.runners_up.len() > 10);
        let values = |found: &MixedOutcome| found.runners_up.iter().map(|(_, value)| *value).collect::<Vec<_>>();
        assert_eq!(values(&few), values(&all)[..3]);
        assert_eq!((one.objective, one.bound), (all.objective, all.bound));
        assert!(all.runners_up.windows(2).all(|pair| pair[0].1 <= pair[1].1));
        assert!(all.objective <= all.runners_up[0].1);
    }
}

#[test]
fn the_front_ends_at_the_fastest_and_at_the_fewest_devices() {
    let setting = small();
    let problem = setting.problem("cp=1");
    let front = pareto(&problem, &LayoutBudget::default()).expect("it fits");
    assert!(front.len() > 1, "{front:?}");
    assert!(front.iter().all(|point| violations(&problem, &point.plan).is_empty()));
    let best = |objective| {
        search(&MixedProblem { objective, ..problem.clone() }, &LayoutBudget::default()).expect("it fits").plan
    };
    let steps = || front.iter().map(|point| point.plan.predicted_step_s);
    let (front_s, best_s) = (steps().fold(f64::INFINITY, f64::min), best(Objective::StepTime).predicted_step_s);
    assert!((front_s - best_s).abs() <= 1e-12, "{front_s} against {best_s}");
    let single = front.iter().find(|point| point.plan.devices == best(Objective::Devices).devices);
    assert!(single.is_some(), "{front:?}");
    // No dollars can be saved beside the front.
    let dollars = front.iter().filter_map(|point| point.plan.predicted_dollars).fold(f64::INFINITY, f64::min);
    let cheapest = best(Objective::Dollars).predicted_dollars.expect("prices are given");
    assert!(dollars <= cheapest * (1.0 + 1e-9), "{dollars} against {cheapest}");
}

#[test]
fn alternatives_are_searches_with_one_thing_changed() {
    let setting = small();
    let problem = setting.problem("cp=1");
    let budget = LayoutBudget::default();
    let chosen = search(&problem, &budget).expect("it fits");
    let all = sensitivities(&problem, &chosen, &budget).expect("priced");
    let of = |word: &str| all.iter().find(|one| one.change.contains(word)).unwrap_or_else(|| panic!("{word}: {all:?}"));
    let mut alone = problem.clone();
    alone.classes.remove(1);
    let without = search(&alone, &budget).expect("it fits");
    assert_eq!(of("without V100-SXM2-16GB at 0.5").value, Some(without.objective));
    for worse in ["half the bandwidth between classes", "less memory of V100-SXM2-16GB at", "recomputation", "tensor"] {
        assert!(of(worse).relative.is_none_or(|relative| relative >= -1e-9), "{worse}: {all:?}");
    }
    assert!(of("a tenth more memory").relative.is_some_and(|relative| relative <= 1e-9), "{all:?}");
    assert!(all.iter().all(|one| one.layout.is_some() == one.value.is_some()));
}
