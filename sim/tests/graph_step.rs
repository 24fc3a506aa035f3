//! The graph step model: what must hold whatever its numbers are.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::ops::Range;

use cutplane_graph::{ModelGraph, ModelSource, Overrides};
use cutplane_sim::graph_step::{
    Checkpoint, Exchange, Fuses, GpipeStep, GradientGroup, GraphCalibration, GraphStack, GraphStepError, Images, Mode,
    Numerics, OperatorCharge, Replica, Speeds, balanced_stages, data_parallel, operator_charges, pipeline,
};
use cutplane_sim::kernel::{GpuModel, Precision};
use cutplane_sim::network::{Fabric, Interconnect, Level, Library};

fn graph(name: &str) -> ModelGraph {
    let source = ModelSource::BuiltIn { name: name.to_owned(), overrides: Overrides::default(), sequence_length: 1 };
    cutplane_zoo::build(&source).unwrap()
}

fn gpu(name: &str) -> GpuModel {
    GpuModel::from_spec(cutplane_zoo::device_from_hardware_text(name).unwrap())
}

/// A stack without any time of its own.
fn bare() -> GraphStack {
    GraphStack {
        launch_us: 1e-6,
        step_ms: 1e-6,
        jitter: 1e-9,
        ..GraphCalibration::known().stack("pytorch").unwrap().clone()
    }
}

fn speeds(stack: &GraphStack, gpu: &GpuModel, numerics: Numerics) -> Speeds {
    GraphCalibration::known().speeds(stack, gpu, numerics)
}

fn charges(graph: &ModelGraph, batch: u64, stack: &GraphStack, mode: Mode) -> Vec<OperatorCharge> {
    operator_charges(graph, batch, &gpu("V100-SXM2-16GB"), Numerics::single(false), stack, mode).unwrap()
}

fn replica(batch: u64, micro_batches: u64, stack: &GraphStack) -> Replica {
    let (gpu, numerics) = (gpu("V100-SXM2-16GB"), Numerics::single(false));
    let charges = charges(&graph("resnet50"), batch, stack, Mode::Training);
    Replica::of(&charges, micro_batches, numerics, &gpu, stack, speeds(stack, &gpu, numerics))
}

fn fabric() -> Fabric {
    let levels = vec![Level::new(Interconnect::Pcie(3), 8, 15.75e9), Level::new(Interconnect::Ethernet, 64, 1.25e9)];
    Fabric::new("eight cards a machine", levels).unwrap()
}

#[test]
fn every_parameter_has_its_gradient_once() {
    for name in ["resnet50", "vgg16", "inception_v3", "densenet161", "unet-5-64", "amoebanetd-18-256", "vit_b_16"] {
        let graph = graph(name);
        let total: u64 = charges(&graph, 2, &bare(), Mode::Training).iter().map(|op| op.parameters).sum();
        assert_eq!(total, graph.parameter_count(), "{name}");
    }
}

#[test]
fn evaluation_has_no_backward_pass_and_a_shorter_forward_pass() {
    let graph = graph("resnet50");
    let (training, evaluation) =
        (charges(&graph, 8, &bare(), Mode::Training), charges(&graph, 8, &bare(), Mode::Evaluation));
    assert!(evaluation.iter().all(|op| op.backward.launches == 0.0 && op.backward.products == 0.0));
    let passes = |all: &[OperatorCharge]| all.iter().map(|op| op.forward.passes).sum::<f64>();
    assert!(passes(&evaluation) < passes(&training));
}

#[test]
fn what_a_stack_fuses_or_need_not_turn_saves_time() {
    let (gpu, graph) = (gpu("V100-SXM2-16GB"), graph("resnet50"));
    let passes = |stack: &GraphStack| -> f64 {
        let all = operator_charges(&graph, 32, &gpu, Numerics::mixed(Precision::F16), stack, Mode::Training).unwrap();
        all.iter().map(|op| op.forward.passes + op.backward.passes).sum()
    };
    let plain = bare();
    let channels_last = GraphStack { images: Images::ChannelsLast, ..bare() };
    let fused = GraphStack { fuses: Fuses::Norms, ..channels_last.clone() };
    let compiled = GraphStack { fuses: Fuses::Pointwise, ..fused.clone() };
    assert!(passes(&channels_last) < passes(&plain));
    assert!(passes(&fused) < passes(&channels_last));
    assert!(passes(&compiled) < passes(&fused));
}

#[test]
fn a_slow_host_binds_a_small_batch_alone() {
    let slow = GraphStack { launch_us: 100.0, ..bare() };
    let launches: f64 = charges(&graph("resnet50"), 1, &slow, Mode::Training)
        .iter()
        .map(|op| op.forward.launches + op.backward.launches)
        .sum();
    let small = replica(1, 1, &slow).backward_end;
    assert!((small / (launches * 100e-6) - 1.0).abs() < 0.05, "{small}");
    let large = replica(256, 1, &slow).backward_end / replica(256, 1, &bare()).backward_end;
    assert!(large < 1.02, "{large}");
}

#[test]
fn micro_batches_add_up_before_one_update() {
    let (one, four) = (replica(32, 1, &bare()), replica(32, 4, &bare()));
    assert!((four.backward_end / (4.0 * one.backward_end) - 1.0).abs() < 0.02);
    assert!((four.update - one.update).abs() < 1e-12);
    assert_eq!(four.parameters(), one.parameters());
}

#[test]
fn overlap_hides_the_exchange_and_servers_suffer_from_many_workers() {
    let fabric = fabric();
    let time = |replicas: u64, exchange: Exchange, overlap: f64| {
        let stack = GraphStack { exchange_overlap: overlap, ..bare() };
        let group = GradientGroup { replicas, fabric: &fabric, exchange, gradient_bytes: 4, deviation: 0.0 };
        data_parallel(&replica(32, 1, &stack), &group, &stack).unwrap()
    };
    let reduce = Exchange::AllReduce(Library::NCCL);
    assert!((time(1, reduce, 0.0) - replica(32, 1, &bare()).seconds()).abs() < 1e-9);
    assert!(time(8, reduce, 1.0) < time(8, reduce, 0.5) && time(8, reduce, 0.5) < time(8, reduce, 0.0));
    assert!(time(1, Exchange::HostServer, 0.0) < time(8, Exchange::HostServer, 0.0));
    assert!(time(8, Exchange::DeviceServers, 0.0) < time(16, Exchange::MachineServers, 0.0));
    // Two machines of eight: each pushes and pulls half of 102 MB over 1.25 GB/s.
    let across = time(16, Exchange::MachineServers, 0.0) - time(8, Exchange::DeviceServers, 0.0);
    assert!((across / (2.0 * 102.2e6 * 0.5 / 1.25e9) - 1.0).abs() < 0.01, "{across}");
}

fn piped(stages: &[Range<usize>], micro_batches: u64, checkpoint: Checkpoint) -> Result<f64, GraphStepError> {
    let (gpu, graph, numerics) = (gpu("Tesla P40"), graph("resnet101"), Numerics::single(false));
    let charges = operator_charges(&graph, 8, &gpu, numerics, &bare(), Mode::Training).unwrap();
    let step = GpipeStep { stages, micro_batches, checkpoint, activation_bytes: 4, link: 12e9 };
    pipeline(&graph, 8, &charges, &step, speeds(&bare(), &gpu, numerics))
}

fn stages(count: usize) -> Vec<Range<usize>> {
    let (gpu, numerics) = (gpu("Tesla P40"), Numerics::single(false));
    let charges = operator_charges(&graph("resnet101"), 8, &gpu, numerics, &bare(), Mode::Training).unwrap();
    balanced_stages(&charges, count, speeds(&bare(), &gpu, numerics))
}

#[test]
fn a_pipeline_lies_between_its_ideal_and_no_pipeline_at_all() {
    let one = stages(1);
    let alone = piped(&one, 32, Checkpoint::Never).unwrap();
    for count in [2, 4, 8] {
        let cut = stages(count);
        assert_eq!((cut.len(), cut[0].start), (count, 0));
        let time = piped(&cut, 32, Checkpoint::Never).unwrap();
        // GPipe's bubble of K - 1 in M + K - 1 slots, stages that are not quite even, copies between them.
        let ideal = alone / count as f64;
        let bubble = (32 + count - 1) as f64 / 32.0;
        assert!(time > ideal * bubble * 0.98 && time < 1.35 * ideal * bubble, "{count}: {time} of {ideal}");
    }
    let times = [Checkpoint::Never, Checkpoint::ExceptLast, Checkpoint::Always].map(|all| piped(&one, 4, all).unwrap());
    assert!(times[0] < times[1] && times[1] < times[2]);
    assert!(((times[2] - times[0]) / (times[1] - times[0]) - 4.0 / 3.0).abs() < 1e-6);
}

#[test]
fn long_pipelines_grow_linearly() {
    let cut = stages(4);
    let time = |micro_batches| piped(&cut, micro_batches, Checkpoint::ExceptLast).unwrap();
    let step = time(128) - time(127);
    assert!(((time(1000) - time(128)) / (872.0 * step) - 1.0).abs() < 1e-3);
}

#[test]
fn impossible_stages_are_refused_by_field() {
    let refused = |cut: &[Range<usize>], micro_batches| match piped(cut, micro_batches, Checkpoint::Never) {
        Err(GraphStepError::Field { field, .. }) => field,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(std::slice::from_ref(&(0..10)), 1), "stages");
    assert_eq!(refused(&[0..10, 12..20], 1), "stages");
    assert_eq!(refused(&[], 1), "stages");
    assert_eq!(refused(&stages(2), 0), "micro_batches, link");
}

#[test]
fn operators_without_a_price_are_named() {
    let source = ModelSource::BuiltIn {
        name: "mixtral-8x22b".to_owned(),
        overrides: Overrides { layers: Some(1), ..Overrides::default() },
        sequence_length: 8,
    };
    let Ok(graph) = cutplane_zoo::build(&source) else { return };
    let numerics = Numerics::single(false);
    let refused = operator_charges(&graph, 1, &gpu("A100-SXM-80GB"), numerics, &bare(), Mode::Training);
    assert!(matches!(refused, Err(GraphStepError::Operator { .. })), "{refused:?}");
}
