//! Growth curves of the planner: devices, layers, operators; what nothing fits costs.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use cutplane_benches::plans::Setting;
use cutplane_graph::Overrides;
use cutplane_sim::cost::Roofline;
use cutplane_sim::planner::{ChainDp, Ilp, Planner, SearchBudget};

fn by_devices(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("plan gpt2 by devices");
    group.sample_size(10);
    for devices in [2, 4, 8, 16, 32, 64] {
        let setting = Setting::new("gpt2", Overrides::default(), &format!("a100-80gb:{devices}"), 1024, 64);
        for planner in [&Ilp as &dyn Planner, &ChainDp] {
            let id = BenchmarkId::new(planner.name(), devices);
            group.bench_function(id, |bencher| {
                bencher
                    .iter(|| planner.plan(black_box(&setting.problem()), &Roofline::new(), &SearchBudget::default()));
            });
        }
    }
    group.finish();
}

fn by_layers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("plan gpt2 on 8 devices by layers");
    group.sample_size(10);
    for layers in [6, 12, 24, 48, 96, 384] {
        let overrides = Overrides { layers: Some(layers), ..Overrides::default() };
        let setting = Setting::new("gpt2", overrides, "a100-80gb:8", 1024, 64);
        group.bench_function(BenchmarkId::new("ilp", layers), |bencher| {
            bencher.iter(|| Ilp.plan(black_box(&setting.problem()), &Roofline::new(), &SearchBudget::default()));
        });
    }
    group.finish();
}

fn by_operators(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("plan image models on 8 devices by operators");
    group.sample_size(10);
    for model in ["resnet18", "resnet50", "resnet101", "resnet152", "resnet200", "amoebanetd-18-256"] {
        let setting = Setting::new(model, Overrides::default(), "v100-16gb:8", 1, 64);
        let id = BenchmarkId::new(model, setting.model.ops().len());
        group.bench_function(id, |bencher| {
            bencher.iter(|| Ilp.plan(black_box(&setting.problem()), &Roofline::new(), &SearchBudget::default()));
        });
    }
    group.finish();
}

fn refused(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("refuse gpt2 that does not fit by layers");
    group.sample_size(10);
    for layers in [500, 1000, 2000] {
        let overrides = Overrides { layers: Some(layers), ..Overrides::default() };
        let setting = Setting::new("gpt2", overrides, "v100-16gb:8", 1024, 8);
        group.bench_function(BenchmarkId::from_parameter(layers), |bencher| {
            bencher.iter(|| ChainDp.plan(black_box(&setting.problem()), &Roofline::new(), &SearchBudget::default()));
        });
    }
    group.finish();
}

criterion_group!(benches, by_devices, by_layers, by_operators, refused);
criterion_main!(benches);
