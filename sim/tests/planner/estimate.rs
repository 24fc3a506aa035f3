//! The closed form against the engine, which executes the plan event by event.

use crate::support::Instance;
use cutplane_graph::{DeviceGraph, Dtype, ModelSource, Overrides};
use cutplane_plan::{Optimizer, Schedule, lower, verify};
use cutplane_sim::cost::Roofline;
use cutplane_sim::cost::memory::MemoryModel;
use cutplane_sim::engine::simulate;
use cutplane_sim::planner::{ChainDp, Planner, Problem, SearchBudget, SearchSpace};

/// Estimated over simulated step time of the best split of one configuration.
fn ratio((model, cluster): (&str, &str), degrees: (usize, usize), micro_batches: u64, schedule: Schedule) -> f64 {
    let source = ModelSource::BuiltIn { name: model.to_owned(), overrides: Overrides::default(), sequence_length: 256 };
    let model = cutplane_zoo::build(&source).expect("a built-in model");
    let devices = DeviceGraph::build(cutplane_zoo::cluster(cluster).expect("a known device")).expect("a sound cluster");
    let limits = SearchSpace {
        micro_batches: Some(vec![micro_batches]),
        data_degrees: Some(vec![degrees.0]),
        stage_counts: Some(vec![degrees.1]),
        schedules: Some(vec![schedule]),
        ..SearchSpace::default()
    };
    let problem = Problem {
        model: &model,
        model_source: source,
        devices: &devices,
        memory: MemoryModel::Framework,
        global_batch: 32,
        optimizer: Optimizer::AdamW,
        precision: Dtype::F32,
        limits,
    };
    let cost = Roofline::new();
    let outcome = ChainDp.plan(&problem, &cost, &SearchBudget::default()).expect("a plan");
    let verified = verify(&outcome.plan, &model, &devices).expect("a sound plan");
    let program = lower(&verified).expect("a program");
    let timeline = simulate(&verified, &program, &cost, MemoryModel::Framework).expect("a timeline");
    let ratio = outcome.objective.as_f64() / timeline.makespan().as_f64();
    println!("{cluster} {}: {} / {} = {ratio:.3}", outcome.plan.name, outcome.objective, timeline.makespan());
    ratio
}

#[test]
fn the_closed_form_is_near_the_engine() {
    for at in [("gpt2", "a100-80gb:8"), ("gpt-mini", "cpu:4"), ("gpt2", "k80:4")] {
        for schedule in [Schedule::OneFOneB, Schedule::FillDrain] {
            for (degrees, micro_batches) in [
                ((1, 1), 4),
                ((2, 1), 1),
                ((4, 1), 2),
                ((1, 2), 1),
                ((1, 2), 8),
                ((1, 4), 8),
                ((1, 4), 32),
                ((2, 2), 4),
            ] {
                let ratio = ratio(at, degrees, micro_batches, schedule);
                assert!((0.98..=1.02).contains(&ratio), "{at:?} {degrees:?} {micro_batches} {schedule:?}: {ratio}");
            }
        }
    }
}

#[test]
fn random_pipelines_are_near_and_seldom_far() {
    let mut ratios = Vec::new();
    for seed in 0..600 {
        let instance = Instance::random(seed, 4..14, 4);
        let Ok(outcome) = ChainDp.plan(&instance.problem(), &instance.cost, &SearchBudget::default()) else { continue };
        if outcome.plan.pipeline_degree() > 1 {
            let verified = verify(&outcome.plan, &instance.model, &instance.devices).expect("a sound plan");
            let program = lower(&verified).expect("a program");
            let timeline = simulate(&verified, &program, &instance.cost, MemoryModel::Framework).expect("a timeline");
            ratios.push(outcome.objective.as_f64() / timeline.makespan().as_f64());
        }
    }
    ratios.sort_by(f64::total_cmp);
    let (least, median, most) = (ratios[0], ratios[ratios.len() / 2], ratios[ratios.len() - 1]);
    // Those beyond are fill-drain with forward and backward slowest at different places, and 1F1B with two micro-batches.
    let far = ratios.iter().filter(|ratio| !(0.85..=1.15).contains(*ratio)).count();
    println!("{} pipelines: {least:.3} .. {median:.3} .. {most:.3}, {far} far", ratios.len());
    assert!(ratios.len() > 200 && (0.99..=1.01).contains(&median) && far * 20 < ratios.len());
}
