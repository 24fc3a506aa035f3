use std::collections::BTreeMap;
use std::sync::Arc;

use cutplane_graph::{
    ClusterSpec, Device, DeviceGraph, DeviceId, DeviceKind, Dtype, InputRole, LinkKind, LinkSpec, ModelGraph,
    ModelGraphBuilder, NodeKind, NodeSpec, OpId, OpKind, Pass, TensorType,
};
use cutplane_plan::Optimizer;
use cutplane_record::{
    AllReducePoint, ContentionPoint, DeviceProfile, MessagePoint, OperatorCurve, OperatorPoint, OptimizerPoint,
    PROFILE_FORMAT, PROFILE_VERSION, Provenance,
};
use cutplane_sim::cost::{Contention, CostModel, Profiled, WorkTime};
use cutplane_units::{Bytes, Nanos};
use proptest::prelude::*;

use crate::models::{device, perceptron};

/// A profile of the toy device without operators.
pub(crate) fn profile() -> DeviceProfile {
    let message = |bytes, send_ns, recv_ns, latency_ns| MessagePoint { bytes, send_ns, recv_ns, latency_ns };
    let step = |elements, step_ns| OptimizerPoint { optimizer: Optimizer::AdamW, elements, step_ns, step_mad_ns: 0.0 };
    let sum = |ranks, bytes, time_ns| AllReducePoint { ranks, bytes, time_ns, time_mad_ns: 0.0 };
    let busy =
        |busy_ranks, compute_factor, memory_factor| ContentionPoint { busy_ranks, compute_factor, memory_factor };
    DeviceProfile {
        format: PROFILE_FORMAT.into(),
        version: PROFILE_VERSION,
        device_model: "toy".into(),
        backend: "test".into(),
        provenance: Provenance::default(),
        measured_in_s: 0.0,
        operators: Vec::new(),
        optimizers: vec![step(100, 50.0), step(10_000, 5_000.0)],
        contention: vec![busy(1, 1.0, 1.0), busy(2, 1.1, 1.5), busy(4, 1.3, 2.5)],
        messages: vec![message(1_000, 100.0, 50.0, 10.0), message(100_000, 10_000.0, 500.0, 10.0)],
        all_reduce: vec![sum(2, 1_000, 400.0), sum(2, 10_000, 4_000.0), sum(4, 1_000, 700.0)],
        staged: None,
        processes: Vec::new(),
        notes: Vec::new(),
    }
}

/// Points of `(axes, forward ns, backward ns)`; work is the product of the axes, twice it for linear layers; 3 bytes kept
/// and 5 bytes of workspace per work.
pub(crate) fn curve(operator: &str, points: &[(&[u64], f64, f64)]) -> OperatorCurve {
    let point = |(axes, forward_ns, backward_ns): &(&[u64], f64, f64)| {
        let unit = if operator.starts_with("linear") { 2.0 } else { 1.0 };
        let work = unit * axes.iter().product::<u64>() as f64;
        OperatorPoint {
            axes: axes.to_vec(),
            work,
            forward_ns: *forward_ns,
            forward_mad_ns: 0.0,
            backward_ns: *backward_ns,
            backward_mad_ns: 0.0,
            kept_bytes: 3.0 * work,
            workspace_bytes: 5.0 * work,
            beside_factor: None,
        }
    };
    OperatorCurve { operator: operator.into(), precision: Dtype::F32, points: points.iter().map(point).collect() }
}

fn with(operators: Vec<OperatorCurve>) -> Profiled {
    Profiled::new([Arc::new(DeviceProfile { operators, ..profile() })])
}

/// One linear layer without a sequence axis: a batch of `b` is `b` rows.
fn layer(inputs: u64, outputs: u64) -> ModelGraph {
    let mut b = ModelGraphBuilder::new("layer");
    let x = b.input("x", InputRole::Features, TensorType::batched(&[inputs], Dtype::F32)).unwrap();
    let y = b.op("fc", OpKind::linear(inputs, outputs), &[x]).unwrap();
    b.output(y).build().unwrap()
}

fn forward(cost: &Profiled, rows: u64, inputs: u64, outputs: u64) -> u64 {
    let work =
        cost.op(&layer(inputs, outputs), OpId::new(0), Pass::Forward, rows, Dtype::F32, &device(DeviceKind::Cpu));
    let work = work.unwrap();
    assert_eq!(work.memory, Nanos::ZERO, "a linear layer is bound by compute");
    work.compute.get()
}

/// Time per work falls from 4 to 1 along the rows, and is 1.5 times that for the wide outputs.
fn linear_curve() -> OperatorCurve {
    let points: [(&[u64], f64, f64); 4] = [
        (&[1, 64, 64], 4.0 * 8192.0, 9.0),
        (&[16, 64, 64], 16.0 * 8192.0, 9.0),
        (&[1, 64, 256], 6.0 * 4.0 * 8192.0, 9.0),
        (&[16, 64, 256], 1.5 * 64.0 * 8192.0, 9.0),
    ];
    curve("linear", &points)
}

#[test]
fn grid_points_come_back_exactly() {
    let cost = with(vec![linear_curve()]);
    for (rows, outputs, ns) in [(1, 64, 32_768), (16, 64, 131_072), (1, 256, 196_608), (16, 256, 786_432)] {
        assert_eq!(forward(&cost, rows, 64, outputs), ns, "{rows} rows, {outputs} outputs");
    }
    let backward = cost.op(&layer(64, 64), OpId::new(0), Pass::Backward, 1, Dtype::F32, &device(DeviceKind::Cpu));
    assert_eq!(backward, Ok(WorkTime { compute: Nanos::new(9), memory: Nanos::ZERO }));
}

#[test]
fn between_points_the_logarithms_are_interpolated() {
    let cost = with(vec![linear_curve()]);
    // Half way in the logarithm between 1 and 16 rows: the time per work is the geometric mean of 4 and 1.
    assert!(forward(&cost, 4, 64, 64).abs_diff(2 * 4 * 8192) <= 1);
    // Half way along both axes.
    let mean = (4.0f64 * 1.0 * 6.0 * 1.5).powf(0.25);
    assert!(forward(&cost, 4, 64, 128).abs_diff((mean * 4.0 * 16384.0) as u64) <= 1);
}

#[test]
fn outside_the_grid_the_edge_counts() {
    let cost = with(vec![linear_curve()]);
    // 64 rows at the time per work of 16; other widths at that of 64.
    assert!(forward(&cost, 64, 64, 64).abs_diff(64 * 8192) <= 1);
    assert!(forward(&cost, 16, 32, 64).abs_diff(16 * 4096) <= 1);
}

#[test]
fn a_hole_in_the_grid_takes_the_nearest_point() {
    let mut holed = linear_curve();
    holed.points.pop();
    let cost = with(vec![holed]);
    // Four times the outputs is nearer than a sixteenth of the rows: 1 ns per work.
    assert!(forward(&cost, 16, 64, 256).abs_diff(64 * 8192) <= 1);
}

proptest! {
    #[test]
    fn more_rows_never_take_less_time(rows in 1u64..200) {
        let cost = with(vec![linear_curve()]);
        prop_assert!(forward(&cost, rows, 64, 64) <= forward(&cost, rows + 1, 64, 64));
        let per_row = |rows| forward(&cost, rows, 64, 64) as f64 / rows as f64;
        prop_assert!(per_row(rows + 1) <= per_row(rows) + 1.0);
    }
}

#[test]
fn pointwise_operators_are_bound_by_memory() {
    let cost = with(vec![curve("activation.relu", &[(&[16], 8.0, 12.0)])]);
    let price = cost.op(&perceptron(), OpId::new(1), Pass::Backward, 2, Dtype::F32, &device(DeviceKind::Cpu));
    assert_eq!(price, Ok(WorkTime { compute: Nanos::ZERO, memory: Nanos::new(12) }));
}

#[test]
fn every_precision_has_its_own_curve() {
    let low = OperatorCurve { precision: Dtype::Bf16, ..curve("activation.relu", &[(&[16], 5.0, 7.0)]) };
    let cost = with(vec![curve("activation.relu", &[(&[16], 8.0, 12.0)]), low]);
    let price = |precision| {
        cost.op(&perceptron(), OpId::new(1), Pass::Forward, 2, precision, &device(DeviceKind::Gpu)).map(WorkTime::alone)
    };
    assert_eq!((price(Dtype::F32), price(Dtype::Bf16)), (Ok(Nanos::new(8)), Ok(Nanos::new(5))));
    let refused = price(Dtype::F16).unwrap_err().to_string();
    assert!(refused.contains("no numbers for f16: plan with one of f32, bf16"), "{refused}");
}

#[test]
fn between_ranks_on_one_card_only_the_latency_counts() {
    let (cost, devices) = (with(vec![]), cores(&[2]));
    let route = devices.route(DeviceId::new(0), DeviceId::new(1)).unwrap();
    let card = |name: &str| Device { name: name.into(), host: "card".into(), ..device(DeviceKind::Gpu) };
    let wire = |to: &str| cost.wire(Bytes::new(1_000), &route, &card("cuda:0/0"), &card(to)).unwrap();
    assert_eq!(wire("cuda:0/1"), (Nanos::new(10), Nanos::ZERO));
    assert!(wire("cuda:1/0").1 > Nanos::ZERO, "other cards are reached over links");
}

#[test]
fn what_was_not_measured_is_an_error_that_says_so() {
    let cpu = device(DeviceKind::Cpu);
    let price = |cost: &Profiled, precision| {
        cost.op(&perceptron(), OpId::new(1), Pass::Forward, 2, precision, &cpu).unwrap_err().to_string()
    };
    assert_eq!(
        price(&with(vec![linear_curve()]), Dtype::F32),
        "operator 'relu' needs the curve 'activation.relu', which the profile of 'toy' does not have: run `cutplane \
         profile` again, or price with the roofline model"
    );
    let flat = vec![curve("activation.relu", &[(&[4, 4], 1.0, 1.0)])];
    assert_eq!(
        price(&with(flat), Dtype::F32),
        "curve 'activation.relu' of the profile of 'toy' cannot price operator 'relu': it has 2 axes, 1 are needed; run \
         `cutplane profile` again"
    );
    assert!(price(&with(vec![]), Dtype::Bf16).contains("no numbers for bf16: plan with one of f32"));
    assert_eq!(
        price(&Profiled::new([]), Dtype::F32),
        "device 'd0' is a 'toy', which has no device profile: run `cutplane profile` on it, or price with the roofline \
         model"
    );
    let error = with(vec![]).segment(Pass::Forward, Bytes::ZERO, &cpu).unwrap_err().to_string();
    assert!(error.starts_with("a segment needs the curve 'boundary'"), "{error}");
    let error = with(vec![]).optimizer(Optimizer::Sgd, &[1], &cpu).unwrap_err().to_string();
    assert!(error.contains("no usable point in 'optimizers'"), "{error}");
}

#[test]
fn boundary_and_load_are_curves_over_elements() {
    let boundary = curve("boundary", &[(&[16], 7.0, 20.0), (&[64], 7.0, 40.0)]);
    let cost = with(vec![boundary, curve("load", &[(&[8], 30.0, 0.0)])]);
    let cpu = device(DeviceKind::Cpu);
    let segment = |pass, bytes| cost.segment(pass, Bytes::new(bytes), &cpu).unwrap().memory.get();
    assert_eq!((segment(Pass::Forward, 0), segment(Pass::Forward, 128)), (7, 7));
    // The last stage seeds nothing; below the first point its time; the points; above on the line.
    assert_eq!([0, 4, 64, 256, 512].map(|bytes| segment(Pass::Backward, bytes)), [0, 20, 20, 40, 67]);
    assert_eq!([4, 32, 64].map(|bytes| cost.load(Bytes::new(bytes), &cpu).unwrap().get()), [30, 30, 60]);
}

#[test]
fn messages_and_optimizers_are_interpolated() {
    let (cost, cpu) = (with(vec![]), device(DeviceKind::Cpu));
    let send = |bytes| cost.send(Bytes::new(bytes), &cpu).unwrap().get();
    // Half way in the logarithms; above the last point along the line of 0.1 ns a byte.
    assert_eq!([1, 1_000, 10_000, 100_000, 200_000].map(send), [100, 100, 1_000, 10_000, 20_000]);
    assert_eq!(cost.recv(Bytes::new(100_000), &cpu), Ok(Nanos::new(500)));
    // Each tensor by itself: 50 for the small one, 500 for 1000 elements.
    let step = cost.optimizer(Optimizer::AdamW, &[4, 1_000], &cpu).unwrap();
    assert_eq!(step, WorkTime { compute: Nanos::ZERO, memory: Nanos::new(550) });
}

#[test]
fn contention_is_that_of_the_next_smaller_measured_number() {
    let (cost, cpu) = (with(vec![]), device(DeviceKind::Cpu));
    let factors = |compute, memory| Contention { compute, memory };
    assert_eq!(cost.contention(&cpu, 1), factors(1.0, 1.0));
    assert_eq!(cost.contention(&cpu, 2), factors(1.1, 1.5));
    assert_eq!(cost.contention(&cpu, 3), factors(1.1, 1.5));
    assert_eq!(cost.contention(&cpu, 9), factors(1.3, 2.5));
    assert!(!cost.overlaps(&cpu) && cost.overlaps(&device(DeviceKind::Gpu)));
}

#[test]
fn how_far_an_operator_is_bound_by_memory_follows_from_what_its_neighbours_cost() {
    // Between 1.3 and 2.5, the factors of four busy ranks; half way in the logarithm of the rows, half of both.
    let mut points = curve("linear", &[(&[16, 4, 4], 512.0, 512.0), (&[64, 4, 4], 2048.0, 2048.0)]);
    points.points[0].beside_factor = Some(1.6);
    points.points[1].beside_factor = Some(2.8);
    let price = |curve: &OperatorCurve, rows| {
        let (cost, model) = (with(vec![curve.clone()]), layer(4, 4));
        cost.op(&model, OpId::new(0), Pass::Forward, rows, Dtype::F32, &device(DeviceKind::Cpu)).unwrap()
    };
    let work = |compute, memory| WorkTime { compute: Nanos::new(compute), memory: Nanos::new(memory) };
    assert_eq!(price(&points, 16), work(384, 128));
    assert_eq!(price(&points, 32), work(256, 768));
    assert_eq!(price(&points, 64), work(0, 2048));
    // A point without a factor leaves it to the name of the curve.
    points.points[1].beside_factor = None;
    assert_eq!(price(&points, 32), work(1024, 0));
}

/// Cores of hosts `h0`, `h1`, ..., each host joined to the next at 1 GB/s with 1 us.
pub(crate) fn cores(hosts: &[usize]) -> DeviceGraph {
    let (mut nodes, mut links) = (Vec::new(), Vec::new());
    let link = |from: String, to: String, bandwidth_gb_per_s, latency_us| LinkSpec {
        from,
        to,
        kind: LinkKind::SharedMemory,
        bandwidth_gb_per_s,
        latency_us,
    };
    for (host, cores) in hosts.iter().enumerate() {
        let name = format!("h{host}");
        nodes.push(NodeSpec { name: name.clone(), kind: NodeKind::Host, model: None, host: None });
        for core in 0..*cores {
            let core = format!("{name}.{core}");
            let (model, host) = (Some("toy".to_owned()), Some(name.clone()));
            nodes.push(NodeSpec { name: core.clone(), kind: NodeKind::Device, model, host });
            links.push(link(core, name.clone(), 100.0, 0.0));
        }
        if host > 0 {
            links.push(link(format!("h{}", host - 1), name, 1.0, 1.0));
        }
    }
    let device_models = BTreeMap::from([("toy".to_owned(), device(DeviceKind::Cpu).spec)]);
    DeviceGraph::build(ClusterSpec { name: "cores".into(), device_models, nodes, links }).unwrap()
}

#[test]
fn groups_larger_than_measured_scale_with_the_ring_volume() {
    let (cost, devices) = (with(vec![]), cores(&[8]));
    let group: Vec<DeviceId> = devices.device_ids().collect();
    let time = |ranks, bytes| cost.all_reduce(Bytes::new(bytes), &group[..ranks], &devices).unwrap().get();
    assert_eq!([time(1, 1_000), time(2, 1_000), time(3, 1_000), time(4, 1_000)], [0, 400, 700, 700]);
    // From 2 * 3/4 of the payload to 2 * 7/8 of it.
    assert_eq!(time(8, 1_000), (700.0f64 * 1.75 / 1.5).round() as u64);
    // One measured size only: in proportion to the bytes above it.
    assert_eq!(time(4, 2_000), 1_400);
}

#[test]
fn between_hosts_the_links_count_too() {
    let (cost, devices) = (with(vec![]), cores(&[2, 1]));
    let wire = |to: usize| {
        let (from, to) = (DeviceId::new(0), DeviceId::new(to));
        let route = devices.route(from, to).unwrap();
        cost.wire(Bytes::new(1_000), &route, devices.device(from), devices.device(to)).unwrap()
    };
    assert_eq!(wire(1), (Nanos::new(10), Nanos::ZERO));
    assert_eq!(wire(2), (Nanos::new(1_010), Nanos::new(1_000)));
    // Two ranks on two hosts: 2 steps of 1 us, and the payload once at 1 GB/s.
    let group = [DeviceId::new(0), DeviceId::new(2)];
    assert_eq!(cost.all_reduce(Bytes::new(1_000), &group, &devices), Ok(Nanos::new(3_000)));
}
