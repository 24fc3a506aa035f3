//! What does not fit, runs out of time, or cannot be asked.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use cutplane_graph::Overrides;
use cutplane_plan::StopReason;
use cutplane_sim::planner::layouts::mixed::{MixedProblem, MixedShape, search, violations};
use cutplane_sim::planner::layouts::{LayoutBudget, LayoutError, Objective};

use super::setting::{Class, Setting};

fn small(memory_mib: u64) -> Setting {
    small_on("v100-16gb:2", memory_mib)
}

fn small_on(fast: &str, memory_mib: u64) -> Setting {
    let sizes =
        Overrides { layers: Some(4), hidden: Some(256), heads: Some(4), vocab: Some(512), ..Overrides::default() };
    let mut classes = vec![Class::new(fast, 1.0), Class::new("v100-16gb:1", 0.5)];
    for class in &mut classes {
        class.memory = memory_mib << 20;
    }
    Setting::new("gpt2", 128, sizes, classes, 8)
}

#[test]
fn limits_and_interrupts_are_told_apart() {
    let setting = small(4096);
    let problem = setting.problem("");
    let none = LayoutBudget { time_limit: Duration::ZERO, ..LayoutBudget::default() };
    assert!(matches!(search(&problem, &none), Err(LayoutError::NoIncumbent { .. })));
    let raised = AtomicBool::new(true);
    let interrupted = LayoutBudget { interrupt: Some(&raised), ..LayoutBudget::default() };
    assert!(matches!(search(&problem, &interrupted), Err(LayoutError::NoIncumbent { .. })));
    let loose = LayoutBudget { relative_gap: 0.9, ..LayoutBudget::default() };
    let found = search(&problem, &loose).expect("it fits");
    assert_eq!(found.stop_reason, StopReason::GapReached);
    let whole = search(&problem, &LayoutBudget::default()).expect("it fits");
    assert_eq!(whole.stop_reason, StopReason::ProvenOptimal);
    assert!(found.bound <= whole.objective && whole.objective <= found.objective);
}

#[test]
fn what_does_not_fit_names_the_class_and_what_would_do() {
    let setting = small(620);
    let error = search(&setting.problem("cp=1"), &LayoutBudget::default()).expect_err("620 MiB").to_string();
    assert!(error.contains("no layout fits: a V100") && error.contains("needs"), "{error}");
    assert!(error.contains("would do") || error.contains("more memory"), "{error}");
    let sizes = Overrides { layers: Some(8), ..Overrides::default() };
    let classes = vec![Class::new("v100-16gb:1", 1.0), Class::new("v100-16gb:1", 0.5)];
    let large = Setting::new("gpt3-6.7b", 512, sizes, classes, 8);
    let error =
        search(&large.problem("offload=none"), &LayoutBudget::default()).expect_err("30 GB of state").to_string();
    assert!(error.contains("beside the other devices would do"), "{error}");
}

#[test]
fn what_unlike_devices_do_not_have_is_refused() {
    let setting = small(4096);
    for pins in ["schedule=interleaved", "vpp=2", "devices=2"] {
        let error = search(&setting.problem(pins), &LayoutBudget::default()).expect_err(pins);
        assert!(matches!(error, LayoutError::EmptySpace { .. }), "{error}");
    }
    let mut free = setting.problem("");
    (free.classes[0].dollars_per_device_hour, free.objective) = (None, Objective::Dollars);
    assert!(matches!(search(&free, &LayoutBudget::default()), Err(LayoutError::Objective { .. })));
}

#[test]
fn objectives_choose_different_devices() {
    let setting = small(4096);
    let with = |objective| MixedProblem { objective, ..setting.problem("") };
    let find = |objective| search(&with(objective), &LayoutBudget::default()).expect("it fits");
    let (fast, cheap, few) = (find(Objective::StepTime), find(Objective::Dollars), find(Objective::Devices));
    let devices = |found: &cutplane_sim::planner::layouts::mixed::MixedOutcome| -> u64 {
        found.plan.devices.iter().map(|(_, devices)| devices).sum()
    };
    assert_eq!(devices(&few), 1);
    assert!(fast.plan.predicted_step_s <= cheap.plan.predicted_step_s);
    assert!(cheap.plan.predicted_dollars <= fast.plan.predicted_dollars);
}

#[test]
fn wrong_plans_are_named() {
    let setting = small_on("v100-16gb:1", 4096);
    let problem = setting.problem("tp=1,dp=1,pp=2,cp=1");
    let mut plan = search(&problem, &LayoutBudget::default()).expect("it fits").plan;
    let MixedShape::Pipeline { stages, .. } = &mut plan.shape else { panic!("two stages on two devices") };
    stages[0].layers += 1;
    assert!(violations(&problem, &plan).iter().any(|wrong| wrong.contains("5 layers of 4")));
    plan.global_batch = 9;
    assert!(violations(&problem, &plan).iter().any(|wrong| wrong.contains("global_batch")));
}
