//! Growth curves of cluster-scale steps: the step engine with its full timeline, and the closed form in plans a second; by
//! devices, layers and micro-batches.
//!
//! A plan is priced by the closed form as the planner prices it: one [`Estimator`] for all plans, which keeps the prices of
//! blocks for each micro-batch size and each way to cut a layer. What stays for every plan is checking it, deciding what each
//! device holds, adding up blocks with their recomputation, sharding, gradient synchronisation, update, and the pipeline.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use cutplane_graph::{DeviceGraph, Overrides};
use cutplane_sim::engine::step::{Detail, StepProgram, simulate_step};
use cutplane_sim::estimate::{
    AttentionKernel, Estimator, FoldedModel, Layout, PipelineSchedule, Stack, Zero, ZeroStage,
};
use cutplane_sim::kernel::GpuModel;
use cutplane_sim::network::Fabric;

struct Setting {
    model: FoldedModel,
    gpu: GpuModel,
    fabric: Fabric,
    stack: &'static Stack,
}

impl Setting {
    fn new(model: &str, layers: Option<u64>, cluster: &str) -> Self {
        let overrides = Overrides { layers, ..Overrides::default() };
        let source = cutplane_zoo::source_from_argument(model, Some(2048), overrides).expect("a known model");
        let graph = cutplane_zoo::build(&source).expect("a valid model");
        let devices = DeviceGraph::build(cutplane_zoo::cluster(cluster).expect("a cluster")).expect("a valid cluster");
        let spec = &devices.devices()[0].spec;
        let family = spec.accelerator.as_ref().map(|facts| facts.architecture);
        Self {
            model: FoldedModel::new(&graph),
            gpu: GpuModel::from_spec(spec),
            fabric: Fabric::of_devices(&devices).expect("equal hosts"),
            stack: Stack::named("megatron-core", family).expect("a known stack"),
        }
    }

    fn estimator(&self) -> Estimator<'_> {
        Estimator::new(&self.model, &self.gpu, &self.fabric, self.stack)
    }

    fn program(&self, layout: &Layout) -> StepProgram {
        self.estimator().program(layout).expect("a layout that fits the model")
    }
}

fn layout(tp: u64, pp: u64, dp: u64, vpp: u64, micro_batches: u64) -> Layout {
    let schedule = if vpp > 1 { PipelineSchedule::Interleaved } else { PipelineSchedule::OneForwardOneBackward };
    Layout {
        tp,
        pp,
        dp,
        vpp,
        schedule,
        sequence_parallel: tp > 1,
        zero: Zero::stage(ZeroStage::One),
        attention: AttentionKernel::Flash,
        global_batch: dp * micro_batches,
        ..Layout::default()
    }
}

/// The acceptance cases, and growth in devices (replicas are one class; stages are not), layers and micro-batches.
fn engine(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("step engine");
    let one_t = Setting::new("megatron-1t", None, "dgx-a100:384");
    let large = Setting::new("megatron-1t", None, "dgx-a100:2048");
    let mut run = |name: &str, program: &StepProgram| {
        let timeline = simulate_step(program).expect("a valid program");
        group.throughput(Throughput::Elements(timeline.passes()));
        group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
            bencher.iter(|| simulate_step(black_box(program)).map(|timeline| timeline.makespan()));
        });
    };
    run("1T, 3072 devices, interleaved", &one_t.program(&layout(8, 64, 6, 2, 512)));
    run("1T, 16384 devices, interleaved", &large.program(&layout(8, 64, 32, 2, 512)));
    for pp in [2, 4, 8, 16, 32, 64] {
        run(&format!("{} devices as pp {pp}", pp * 48), &one_t.program(&layout(8, pp, 6, 1, 128)));
    }
    for micro_batches in [64, 256, 1024, 4096] {
        run(&format!("{micro_batches} micro-batches"), &one_t.program(&layout(8, 16, 6, 2, micro_batches)));
    }
    for layers in [32, 64, 128, 256] {
        let setting = Setting::new("megatron-1t", Some(layers), "dgx-a100:384");
        run(&format!("{layers} layers"), &setting.program(&layout(8, 16, 6, 2, 128)));
    }
    group.finish();
}

/// The acceptance cases with their full timeline: a step is simulated and every span of every class is visited, folded
/// stretches unfolded and passes in pieces.
fn timeline(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("full timeline");
    for (devices, cluster, dp) in [(3072, "dgx-a100:384", 6), (16384, "dgx-a100:2048", 32)] {
        let program = Setting::new("megatron-1t", None, cluster).program(&layout(8, 64, dp, 2, 512));
        let visit = || {
            let (mut spans, mut latest) = (0_u64, 0);
            let timeline = simulate_step(black_box(&program)).expect("a valid program");
            for device in 0..program.devices.len() {
                timeline.for_each_span(device, Detail::Pieces, &mut |span| {
                    spans += 1;
                    latest = latest.max(span.end.get());
                });
            }
            (spans, latest)
        };
        group.throughput(Throughput::Elements(visit().0));
        group.bench_function(BenchmarkId::from_parameter(format!("1T, {devices} devices")), |bencher| {
            bencher.iter(visit);
        });
    }
    group.finish();
}

/// Plans a second: each iteration prices one plan with known blocks.
fn closed_form(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("closed form");
    group.throughput(Throughput::Elements(1));
    let one_t = Setting::new("megatron-1t", None, "dgx-a100:384");
    let estimator = one_t.estimator();
    let mut run = |name: &str, estimator: &Estimator<'_>, layout: &Layout| {
        group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
            bencher.iter(|| estimator.estimate(black_box(layout)).expect("a valid layout").predicted.seconds);
        });
    };
    for pp in [1, 2, 4, 8, 16, 32, 64] {
        run(&format!("{} devices as pp {pp}", pp * 48), &estimator, &layout(8, pp, 6, 1, 128));
    }
    for pp in [4, 16, 64] {
        run(&format!("interleaved pp {pp}"), &estimator, &layout(8, pp, 6, 2, 512));
    }
    for micro_batches in [16, 64, 256, 1024, 4096] {
        run(&format!("{micro_batches} micro-batches"), &estimator, &layout(8, 16, 6, 1, micro_batches));
    }
    for layers in [16, 32, 64, 128, 256] {
        let setting = Setting::new("megatron-1t", Some(layers), "dgx-a100:384");
        run(&format!("{layers} layers"), &setting.estimator(), &layout(8, 16, 6, 1, 128));
    }
    group.finish();
}

criterion_group!(benches, engine, timeline, closed_form);
criterion_main!(benches);
