//! Pins, objectives, stop reasons, and what is said when nothing fits.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use cutplane_graph::Overrides;
use cutplane_plan::StopReason;
use cutplane_sim::planner::layouts::{
    LayoutBudget, LayoutError, LayoutProblem, Objective, Pins, pareto, search, sensitivities,
};

use super::setting::Setting;

fn gpt2_xl(cluster: &str) -> Setting {
    Setting::new("gpt2-xl", 1024, Overrides::default(), cluster, 64)
}

fn pinned<'a>(setting: &'a Setting, pins: &str) -> LayoutProblem<'a> {
    LayoutProblem { pins: Pins::parse(&[pins]).expect("known pins"), ..setting.problem() }
}

#[test]
fn pins_hold_and_cost_time() {
    let setting = gpt2_xl("dgx-a100:2");
    let free = search(&setting.problem(), &LayoutBudget::default()).expect("it fits");
    let pinned = search(&pinned(&setting, "tp=5,pp=2,recompute=full,schedule=1f1b"), &LayoutBudget::default());
    let Err(LayoutError::EmptySpace { reason }) = pinned else {
        panic!("25 heads on 5 ranks do not lie on nodes of 8")
    };
    assert!(reason.contains("tp=5"), "{reason}");
    let problem = self::pinned(&setting, "pp=2,recompute=full,schedule=1f1b");
    let pinned = search(&problem, &LayoutBudget::default()).expect("it fits");
    assert_eq!(pinned.chosen().layout.pp, 2);
    assert!(pinned.chosen().value > free.chosen().value);
    assert_eq!((free.stop, free.gap()), (StopReason::ProvenOptimal, 0.0));
}

#[test]
fn unknown_pins_are_refused_with_a_remedy() {
    for text in ["tp", "tp=0", "tp=x", "speed=9", "zero=4", "schedule=fastest"] {
        let error = Pins::parse(&[text]).expect_err(text).to_string();
        assert!(error.contains(text) && error.contains("write tp=8"), "{error}");
    }
    let pins = Pins::parse(&["tp=8,zero=3/8,sp=on,recompute=full,schedule=zero-bubble"]).expect("known");
    assert_eq!(Pins::parse(&pins.texts()), Ok(pins));
}

#[test]
fn objectives_choose_different_layouts() {
    let setting = gpt2_xl("dgx-a100:2");
    let with = |objective| LayoutProblem { objective, dollars_per_device_hour: Some(2.0), ..setting.problem() };
    let find = |objective| search(&with(objective), &LayoutBudget::default()).expect("it fits");
    let (fast, cheap, small) = (find(Objective::StepTime), find(Objective::Dollars), find(Objective::Devices));
    assert_eq!(small.chosen().layout.devices(), 1);
    assert!(fast.chosen().seconds() < cheap.chosen().seconds());
    let dollars = cheap.chosen().layout.devices() as f64 * cheap.chosen().seconds() * 2.0 / 3600.0;
    assert!((cheap.chosen().value - dollars).abs() < 1e-12);
    let free = LayoutProblem { objective: Objective::Dollars, ..setting.problem() };
    assert!(matches!(search(&free, &LayoutBudget::default()), Err(LayoutError::Objective { .. })));
}

#[test]
fn the_front_trades_devices_for_time() {
    let setting = gpt2_xl("dgx-a100:2");
    let front = pareto(&setting.problem(), &LayoutBudget::default()).expect("it fits");
    assert!(front.len() > 2, "{} points", front.len());
    assert!(front.windows(2).all(|pair| pair[0].devices < pair[1].devices && pair[0].seconds > pair[1].seconds));
}

#[test]
fn what_does_not_fit_says_what_binds_and_what_would_do() {
    let setting = Setting::new("gpt3-175b", 2048, Overrides::default(), "a100-80gb:2", 64);
    let problem = pinned(&setting, "cp=1");
    let Err(LayoutError::Infeasible { shortfall, remedy }) = search(&problem, &LayoutBudget::default()) else {
        panic!("175 G parameters do not fit on 2 devices")
    };
    assert!(shortfall.device_model.contains("A100") && shortfall.needed > shortfall.available, "{shortfall}");
    assert!(remedy.contains("devices would do"), "{remedy}");
    let (memory, _) = remedy.split_once(" GiB of memory a device would do").expect("so much memory");
    let memory = memory.rsplit(' ').next().and_then(|text| text.parse::<f64>().ok()).expect("whole GiB") as u64;
    let enough = LayoutProblem { device_memory: memory << 30, ..problem.clone() };
    assert!(search(&enough, &LayoutBudget::default()).is_ok(), "{remedy}");
    let short = LayoutProblem { device_memory: (memory << 30) / 100 * 97, ..problem };
    assert!(search(&short, &LayoutBudget::default()).is_err(), "{remedy}");
    let small = gpt2_xl("a100-40gb:1");
    let problem = LayoutProblem { device_memory: 30 << 30, ..pinned(&small, "mb=64,recompute=none") };
    let error = search(&problem, &LayoutBudget::default()).expect_err("64 samples at once").to_string();
    assert!(error.contains("activations of the layers") && error.contains("drop micro-batch=64"), "{error}");
}

#[test]
fn limits_and_interrupts_are_told_apart() {
    let setting = gpt2_xl("dgx-a100:2");
    let none = LayoutBudget { time_limit: Duration::ZERO, ..LayoutBudget::default() };
    assert!(matches!(search(&setting.problem(), &none), Err(LayoutError::NoIncumbent { .. })));
    let raised = AtomicBool::new(true);
    let interrupted = LayoutBudget { interrupt: Some(&raised), ..LayoutBudget::default() };
    assert!(matches!(search(&setting.problem(), &interrupted), Err(LayoutError::NoIncumbent { .. })));
    let loose = LayoutBudget { relative_gap: 0.9, ..LayoutBudget::default() };
    let outcome = search(&setting.problem(), &loose).expect("it fits");
    assert_eq!(outcome.stop, StopReason::GapReached);
    assert!(outcome.gap() <= 0.9);
}

#[test]
fn an_interrupt_keeps_the_incumbent() {
    let setting = gpt2_xl("dgx-a100:8");
    let flag = AtomicBool::new(false);
    let seen = |progress: &cutplane_sim::planner::layouts::LayoutProgress| {
        flag.store(progress.objective.is_some(), std::sync::atomic::Ordering::Relaxed);
    };
    let budget = LayoutBudget { progress: Some(&seen), interrupt: Some(&flag), ..LayoutBudget::default() };
    let outcome = search(&setting.problem(), &budget).expect("an incumbent");
    assert_eq!(outcome.stop, StopReason::Interrupted);
    let whole = search(&setting.problem(), &LayoutBudget::default()).expect("it fits");
    assert!(outcome.bound <= whole.chosen().value && outcome.chosen().value >= whole.chosen().value);
}

#[test]
fn alternatives_are_never_better_unless_the_hardware_is() {
    let setting = gpt2_xl("dgx-a100:2");
    let problem = setting.problem();
    let chosen = search(&problem, &LayoutBudget::default()).expect("it fits");
    let all = sensitivities(&problem, chosen.chosen(), &LayoutBudget::default()).expect("priced");
    assert!(all.len() >= 6);
    for one in all.iter().filter(|one| one.change != "a tenth more memory") {
        assert!(one.relative.is_none_or(|relative| relative >= -1e-12), "{one:?}");
    }
    assert!(all.iter().any(|one| one.change.contains("half the bandwidth")));
}
