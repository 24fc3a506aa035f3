//! The largest models of the acceptance list, and habits that must follow from prices.

use cutplane_graph::Overrides;
use cutplane_plan::StopReason;
use cutplane_sim::planner::layouts::{LayoutBudget, LayoutOutcome, label, search, split_label};

use super::setting::Setting;

/// Plans and prints what was found; the time is for people to read.
fn planned(model: &str, sequence: u64, cluster: &str, batch: u64) -> LayoutOutcome {
    let setting = Setting::new(model, sequence, Overrides::default(), cluster, batch);
    let outcome = search(&setting.problem(), &LayoutBudget::default()).expect("it fits");
    println!("{model} on {cluster}: gap {:.4} in {:.2} s, {:?}", outcome.gap(), outcome.search_seconds, outcome.counts);
    for best in &outcome.best {
        let split = split_label(&best.layout).unwrap_or_default();
        println!("  {:.4} s  {}  {split}  {}", best.seconds(), label(&best.layout), best.footprint.device());
    }
    assert!(outcome.gap() <= 0.02, "{}", outcome.gap());
    outcome
}

#[test]
fn gpt3_on_128_dgx_a100_keeps_tensor_parallelism_inside_the_node() {
    let outcome = planned("gpt3-175b", 2048, "dgx-a100:128", 1536);
    let layout = &outcome.chosen().layout;
    assert_eq!(outcome.stop, StopReason::ProvenOptimal);
    // 96 heads would allow 16, 24, 32, 48 and 96 ranks too.
    assert!((2..=8).contains(&layout.tp), "{}", label(layout));
    assert!(layout.dp > 1 && layout.devices() == 1024, "{}", label(layout));
}

#[test]
fn llama_405b_on_16384_h100_is_planned_with_a_proof() {
    let outcome = planned("llama-3.1-405b", 8192, "dgx-h100:2048", 2048);
    let layout = &outcome.chosen().layout;
    assert!((2..=8).contains(&layout.tp) && layout.pp > 1, "{}", label(layout));
    assert!(outcome.chosen().footprint.verdict(80 << 30).fits);
}

#[test]
fn what_fits_on_a_device_is_replicated() {
    for (model, sequence, cluster) in [("bert-large", 128, "dgx-a100:1"), ("bert-large", 128, "dgx-a100:8")] {
        let layout = planned(model, sequence, cluster, 256).chosen().layout.clone();
        assert_eq!((layout.tp, layout.pp), (1, 1), "{}", label(&layout));
    }
    planned("gpt2-xl", 1024, "dgx-a100:1", 512);
    planned("gpt2-xl", 1024, "dgx-a100:8", 512);
}
