//! A K80 at half of a V100's speed gets a third of the layers, and batches split N : 2N.

use cutplane_graph::Overrides;
use cutplane_sim::planner::layouts::LayoutBudget;
use cutplane_sim::planner::layouts::mixed::{MixedShape, search, violations};

use super::setting::{Class, Setting};

/// Twelve equal layers so wide that embedding, head and messages hardly count; a fast device and one of half its speed.
fn halves(batch: u64) -> Setting {
    let sizes =
        Overrides { layers: Some(12), hidden: Some(2048), heads: Some(16), vocab: Some(64), ..Overrides::default() };
    let mut classes = vec![Class::new("v100-16gb:1", 1.0), Class::new("v100-16gb:1", 0.5)];
    for class in &mut classes {
        class.memory = 64 << 30;
    }
    Setting::new("gpt2", 1024, sizes, classes, batch)
}

#[test]
fn the_slow_device_gets_four_of_twelve_layers() {
    let setting = halves(32);
    let problem = setting.problem("tp=1,cp=1,dp=1,pp=2,mb=1,zero=0,offload=none,recompute=none");
    let found = search(&problem, &LayoutBudget::default()).expect("it fits");
    assert_eq!(violations(&problem, &found.plan), Vec::<String>::new());
    let MixedShape::Pipeline { stages, .. } = &found.plan.shape else { panic!("{:?}", found.plan) };
    let layers =
        |slow: bool| stages.iter().find(|stage| stage.class.contains(" at ") == slow).map(|stage| stage.layers);
    assert_eq!((layers(false), layers(true)), (Some(8), Some(4)), "{:?}", found.plan.lines());
    assert!(found.gap() <= 1e-9);
}

#[test]
fn batches_split_one_to_two() {
    let setting = halves(12);
    let mut problem = setting.problem("pp=1,recompute=none,offload=none");
    // A network that hardly counts.
    problem.joint.bandwidth = 1e13;
    let found = search(&problem, &LayoutBudget::default()).expect("it fits");
    assert_eq!(violations(&problem, &found.plan), Vec::<String>::new());
    let MixedShape::Replicas { shares, .. } = &found.plan.shape else { panic!("{:?}", found.plan.lines()) };
    let samples: Vec<(bool, u64)> = shares.iter().map(|share| (share.class.contains(" at "), share.samples)).collect();
    assert_eq!(samples, [(false, 8), (true, 4)], "{:?}", found.plan.lines());
}

/// Two classes of 64 devices each: devices are counted, so sixteen times as many cost the search little.
#[test]
fn counts_grow_without_names() {
    let classes = || vec![Class::new("dgx-1:8", 1.0), Class::new("dgx-1:8", 0.5)];
    let setting = Setting::new("gpt2-xl", 1024, Overrides::default(), classes(), 256);
    let problem = setting.problem("cp=1");
    let found = search(&problem, &LayoutBudget { relative_gap: 0.01, ..LayoutBudget::default() }).expect("it fits");
    println!(
        "{:.2} s, gap {:.4}, {} pipelines, {} class searches",
        found.search_seconds,
        found.gap(),
        found.pipelines,
        found.class_searches
    );
    found.plan.lines().iter().for_each(|line| println!("  {line}"));
    assert_eq!(violations(&problem, &found.plan), Vec::<String>::new());
    assert!(found.gap() <= 0.02, "{}", found.gap());
    let one = Setting::new("gpt2-xl", 1024, Overrides::default(), vec![Class::new("dgx-1:8", 1.0)], 256);
    let alone = search(&one.problem("cp=1"), &LayoutBudget::default()).expect("it fits");
    assert!(
        found.objective < 0.8 * alone.objective,
        "half as much again computes: {} {}",
        found.objective,
        alone.objective
    );
}
