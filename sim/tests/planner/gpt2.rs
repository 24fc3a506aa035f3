//! GPT-2 small on simulated A100s: planned to a proven gap of 0.1%. How fast, the bench `planner` says.

use cutplane_graph::{DeviceGraph, Dtype, ModelSource, Overrides};
use cutplane_plan::{Optimizer, StopReason, lower, verify};
use cutplane_sim::cost::Roofline;
use cutplane_sim::cost::memory::MemoryModel;
use cutplane_sim::planner::{Ilp, Planner, Problem, SearchBudget, SearchSpace};

fn plan_on(devices: usize, limits: SearchSpace, optimizer: Optimizer) {
    let source =
        ModelSource::BuiltIn { name: "gpt2".to_owned(), overrides: Overrides::default(), sequence_length: 1024 };
    let model = cutplane_zoo::build(&source).expect("a built-in model");
    let spec = cutplane_zoo::cluster(&format!("a100-80gb:{devices}")).expect("a known device");
    let devices_graph = DeviceGraph::build(spec).expect("a sound cluster");
    let problem = Problem {
        model: &model,
        model_source: source,
        devices: &devices_graph,
        memory: MemoryModel::Framework,
        global_batch: 64,
        optimizer,
        precision: Dtype::Bf16,
        limits,
    };
    let outcome = Ilp.plan(&problem, &Roofline::new(), &SearchBudget::default()).expect("a plan");
    let gap = outcome.gap().expect("a bound");
    let verified = verify(&outcome.plan, &model, &devices_graph).expect("a sound plan");
    lower(&verified).expect("a program");
    assert!(gap <= 1e-3, "gap {gap}");
    assert!(matches!(outcome.stop, StopReason::ProvenOptimal | StopReason::GapReached));
}

#[test]
fn gpt2_small_is_planned_to_a_proven_gap() {
    for devices in [2, 4, 8, 16] {
        plan_on(devices, SearchSpace::default(), Optimizer::AdamW);
    }
}

#[test]
fn pipelines_alone_are_planned_to_a_proven_gap() {
    for devices in [2, 4, 8, 16] {
        let limits = SearchSpace { data_degrees: Some(vec![1]), ..SearchSpace::default() };
        plan_on(devices, limits, Optimizer::Sgd);
        let limits = SearchSpace { stage_counts: Some(vec![devices / 2, devices]), ..SearchSpace::default() };
        plan_on(devices, limits, Optimizer::AdamW);
    }
}
