//! Growth curves of the search of layouts: the acceptance cases, devices, layers, devices of two classes.

#[path = "../../sim/tests/planner/layouts/setting.rs"]
mod setting;

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use cutplane_graph::Overrides;
use cutplane_plan::Optimizer;
use cutplane_sim::estimate::{AttentionKernel, Precision};
use cutplane_sim::footprint::Keeping;
use cutplane_sim::planner::layouts::mixed::{self, Joint, MixedClass, MixedProblem};
use cutplane_sim::planner::layouts::{LayoutBudget, Objective, Pins, search};
use setting::Setting;

/// The best step of a setting, s.
fn best(setting: &Setting) -> f64 {
    search(black_box(&setting.problem()), &LayoutBudget::default()).expect("it fits").chosen().value
}

fn acceptance(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("layouts");
    group.sample_size(10);
    let cases = [
        ("gpt3-175b", 2048, "dgx-a100:128", 1536),
        ("llama-3.1-405b", 8192, "dgx-h100:2048", 2048),
        ("bert-large", 128, "dgx-a100:8", 256),
        ("gpt2-xl", 1024, "dgx-a100:8", 512),
    ];
    for (model, sequence, cluster, batch) in cases {
        let setting = Setting::new(model, sequence, Overrides::default(), cluster, batch);
        group.bench_function(BenchmarkId::new(model, cluster), |bencher| bencher.iter(|| best(&setting)));
    }
    group.finish();
}

fn by_devices(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("layouts of gpt3-175b by machines");
    group.sample_size(10);
    for machines in [16, 32, 64, 128, 256, 512] {
        let setting = Setting::new("gpt3-175b", 2048, Overrides::default(), &format!("dgx-a100:{machines}"), 1536);
        group.bench_function(BenchmarkId::from_parameter(machines), |bencher| bencher.iter(|| best(&setting)));
    }
    group.finish();
}

/// A step of GPT-2 XL over as many V100 as A100, four samples a device.
fn by_devices_of_two_classes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("layouts of gpt2-xl over two classes by machines of each");
    group.sample_size(10);
    for machines in [1, 4, 16, 64] {
        let batch = 64 * machines;
        let setting =
            |name: &str| Setting::new("gpt2-xl", 1024, Overrides::default(), &format!("{name}:{machines}"), batch);
        let (new, old) = (setting("dgx-a100"), setting("dgx-1"));
        let classes = [("new", &new), ("old", &old)].map(|(name, setting)| MixedClass {
            name: name.to_owned(),
            gpu: &setting.gpu,
            fabric: &setting.fabric,
            stack: &setting.stack,
            device_memory: setting.device_memory,
            dollars_per_device_hour: None,
        });
        let problem = MixedProblem {
            graph: &new.graph,
            model: &new.model,
            classes: classes.to_vec(),
            joint: Joint { bandwidth: 6.25e9, latency: 6e-6 },
            keeping: &Keeping::MEGATRON_CORE,
            global_batch: batch,
            precision: Precision::AmpF16,
            attention: AttentionKernel::Flash,
            optimizer: Optimizer::AdamW,
            objective: Objective::StepTime,
            pins: Pins::default(),
        };
        let budget = LayoutBudget { relative_gap: 0.01, ..LayoutBudget::default() };
        group.bench_function(BenchmarkId::from_parameter(machines), |bencher| {
            bencher.iter(|| mixed::search(black_box(&problem), &budget).expect("it fits").objective);
        });
    }
    group.finish();
}

fn by_layers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("layouts of gpt3-175b on 32 machines by layers");
    group.sample_size(10);
    for layers in [12, 24, 48, 96, 192, 384] {
        let overrides = Overrides { layers: Some(layers), ..Overrides::default() };
        let setting = Setting::new("gpt3-175b", 2048, overrides, "dgx-a100:32", 1536);
        group.bench_function(BenchmarkId::from_parameter(layers), |bencher| bencher.iter(|| best(&setting)));
    }
    group.finish();
}

criterion_group!(benches, acceptance, by_devices, by_layers, by_devices_of_two_classes);
criterion_main!(benches);
