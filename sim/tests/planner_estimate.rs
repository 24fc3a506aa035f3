//! The closed form against the engine, which executes the plan event by event.

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
        name: None,
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

mod planner_support;
#[test]
fn zz_random() {
    use planner_support::Instance;
    let mut all = vec![];
    for seed in 0..600 {
        let i = Instance::random(seed, 4..14, 4);
        let Ok(o) = ChainDp.plan(&i.problem(), &i.cost, &SearchBudget::default()) else { continue };
        if o.plan.pipeline_degree() < 2 { continue }
        let v = verify(&o.plan, &i.model, &i.devices).unwrap();
        let p = lower(&v).unwrap();
        let t = simulate(&v, &p, &i.cost, MemoryModel::Framework).unwrap();
        all.push((o.objective.as_f64() / t.makespan().as_f64(), seed, o.plan.name.clone(), i.cost.overlaps));
    }
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    let n = all.len();
    println!("{n} min {:?} p5 {:?} p25 {:?} med {:?} p75 {:?} p95 {:?} max {:?}", all[0], all[n/20], all[n/4], all[n/2], all[3*n/4], all[n*19/20], all[n-1]);
}
