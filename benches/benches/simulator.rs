//! Growth curves of the simulator: micro-batches, stages, replicas.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use cutplane_benches::plans::Setting;
use cutplane_graph::Overrides;
use cutplane_plan::verify;
use cutplane_sim::cost::Roofline;
use cutplane_sim::cost::memory::MemoryModel;
use cutplane_sim::engine::simulate;

fn engine(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("simulate gpt2");
    for (devices, name) in [(2, "pp2-1f1b-m8"), (2, "pp2-1f1b-m64"), (8, "pp8-1f1b-m64"), (16, "dp2-pp8-1f1b-m32")] {
        let setting = Setting::new("gpt2", Overrides::default(), &format!("a100-80gb:{devices}"), 1024, 64);
        let plan = setting.plan(name);
        let program = setting.program(&plan);
        let verified = verify(&plan, &setting.model, &setting.devices).expect("a valid plan");
        group.throughput(Throughput::Elements(program.instruction_count() as u64));
        group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
            bencher.iter(|| simulate(black_box(&verified), &program, &Roofline::new(), MemoryModel::Framework));
        });
    }
    group.finish();
}

criterion_group!(benches, engine);
criterion_main!(benches);
