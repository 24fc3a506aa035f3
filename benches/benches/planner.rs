//! Growth curves of the planner: devices and layers.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use cutplane_benches::plans::Setting;
use cutplane_graph::Overrides;
use cutplane_sim::cost::Roofline;
use cutplane_sim::planner::{ChainDp, Ilp, Planner, SearchBudget};

fn by_devices(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("plan gpt2 by devices");
    group.sample_size(10);
    for devices in [2, 4, 8, 16] {
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
    for layers in [6, 12, 24, 48] {
        let overrides = Overrides { layers: Some(layers), ..Overrides::default() };
        let setting = Setting::new("gpt2", overrides, "a100-80gb:8", 1024, 64);
        group.bench_function(BenchmarkId::new("ilp", layers), |bencher| {
            bencher.iter(|| Ilp.plan(black_box(&setting.problem()), &Roofline::new(), &SearchBudget::default()));
        });
    }
    group.finish();
}

criterion_group!(benches, by_devices, by_layers);
criterion_main!(benches);
