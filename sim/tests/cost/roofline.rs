use std::collections::BTreeMap;

use cutplane_graph::{
    ClusterSpec, DeviceGraph, DeviceId, DeviceKind, Dtype, InputRole, LinkKind, LinkSpec, ModelGraph,
    ModelGraphBuilder, NodeKind, NodeSpec, OpId, OpKind, Pass, TensorType,
};
use cutplane_plan::Optimizer;
use cutplane_sim::cost::{CostModel, Roofline, WorkTime, collective};
use cutplane_units::{Bytes, Nanos};

use crate::models::device;

fn work(compute: u64, memory: u64) -> WorkTime {
    WorkTime { compute: Nanos::new(compute), memory: Nanos::new(memory) }
}

/// A linear layer of 1024 x 1024 over 1024 rows, and a sum of two values of its shape.
fn model() -> ModelGraph {
    let mut b = ModelGraphBuilder::new("rows");
    let x = b.input("x", InputRole::Features, TensorType::batched(&[1024, 1024], Dtype::F32)).unwrap();
    let y = b.op("linear", OpKind::linear(1024, 1024), &[x]).unwrap();
    let z = b.op("add", OpKind::Add, &[x, y]).unwrap();
    b.output(z).build().unwrap()
}

#[test]
fn an_operator_takes_the_longer_of_arithmetic_and_traffic() {
    let (model, device, cost) = (model(), device(DeviceKind::Gpu), Roofline::new());
    let price = |op, pass, precision| cost.op(&model, OpId::new(op), pass, 1, precision, &device).unwrap();
    // 2 * 1024^3 FLOPs at 50 TFLOP/s; two kernels of 5 us.
    assert_eq!(price(0, Pass::Forward, Dtype::F32), work(42_950, 10_000));
    assert_eq!(price(0, Pass::Backward, Dtype::F32), work(85_900, 20_000));
    assert_eq!(price(0, Pass::Forward, Dtype::Bf16), work(21_475, 10_000));
    // 3 * 4 MiB at 800 GB/s, half of it in bf16; one kernel.
    assert_eq!(price(1, Pass::Forward, Dtype::F32), work(0, 15_729 + 5_000));
    assert_eq!(price(1, Pass::Forward, Dtype::Bf16), work(0, 7_865 + 5_000));
}

#[test]
fn fixed_work_is_priced_by_its_traffic() {
    let (device, cost) = (device(DeviceKind::Gpu), Roofline::new());
    // 1500 parameters, 7 numbers of 4 bytes each for AdamW and 3 for SGD, at 800 bytes a nanosecond; two kernels.
    assert_eq!(cost.optimizer(Optimizer::AdamW, &[1000, 500], &device), Ok(work(0, 53 + 10_000)));
    assert_eq!(cost.optimizer(Optimizer::Sgd, &[1000, 500], &device), Ok(work(0, 23 + 10_000)));
    assert_eq!(cost.load(Bytes::new(4000), &device), Ok(Nanos::new(10 + 5_000)));
    assert_eq!(cost.segment(Pass::Forward, Bytes::new(800), &device), Ok(work(0, 0)));
    assert_eq!(cost.segment(Pass::Backward, Bytes::new(800), &device), Ok(work(0, 3 + 10_000)));
    assert_eq!(cost.segment(Pass::Backward, Bytes::ZERO, &device), Ok(work(0, 0)));
}

#[test]
fn an_element_type_without_a_peak_has_no_price() {
    let error = Roofline::new().op(&model(), OpId::new(0), Pass::Forward, 1, Dtype::F16, &device(DeviceKind::Gpu));
    assert_eq!(
        error.unwrap_err().to_string(),
        "device 'd0' (toy) has no numbers for f16: plan with one of f32, bf16, or add 'peak_tflop_per_s.f16' to the \
         cluster file"
    );
}

/// `hosts` switches in a line (`across` GB/s and us), each with `each` devices (`inside` GB/s and us).
fn cluster(hosts: usize, each: usize, inside: (f64, f64), across: (f64, f64)) -> DeviceGraph {
    let link = |from: String, to: String, (bandwidth_gb_per_s, latency_us)| LinkSpec {
        from,
        to,
        kind: LinkKind::Nvlink,
        bandwidth_gb_per_s,
        latency_us,
    };
    let (mut nodes, mut links) = (Vec::new(), Vec::new());
    for host in 0..hosts {
        let switch = format!("s{host}");
        nodes.push(NodeSpec { name: switch.clone(), kind: NodeKind::Switch, model: None, host: None });
        for index in 0..each {
            let (name, host) = (format!("d{host}.{index}"), Some(format!("h{host}")));
            nodes.push(NodeSpec { name: name.clone(), kind: NodeKind::Device, model: Some("toy".into()), host });
            links.push(link(name, switch.clone(), inside));
        }
        if host > 0 {
            links.push(link(format!("s{}", host - 1), switch, across));
        }
    }
    let device_models = BTreeMap::from([("toy".to_owned(), device(DeviceKind::Gpu).spec)]);
    DeviceGraph::build(ClusterSpec { name: "test".into(), device_models, nodes, links }).unwrap()
}

const PAYLOAD: Bytes = Bytes::new(100_000_000);

#[test]
fn a_ring_of_eight_moves_100_mb_in_1388_us() {
    // 14 steps of 3 us, and 14/8 of 100 MB at 130 GB/s.
    let devices = cluster(1, 8, (130.0, 1.5), (1.0, 0.0));
    let all: Vec<DeviceId> = devices.device_ids().collect();
    assert_eq!(collective::ring(PAYLOAD, &all, &devices), Ok(Nanos::new(1_388_154)));
    assert_eq!(Roofline::new().all_reduce(PAYLOAD, &all, &devices), Ok(Nanos::new(1_388_154)));
    assert_eq!(collective::all_reduce(PAYLOAD, &all[..1], &devices), Ok(Nanos::ZERO));
}

#[test]
fn over_slow_links_the_hierarchical_form_wins() {
    let devices = cluster(2, 4, (100.0, 0.5), (10.0, 5.0));
    let all: Vec<DeviceId> = devices.device_ids().collect();
    // 14 steps of 6 us and 14/8 of 100 MB at 10 GB/s.
    assert_eq!(collective::ring(PAYLOAD, &all, &devices), Ok(Nanos::new(17_584_000)));
    // Inside: 6 steps of 1 us, 6/4 of 100 MB at 100 GB/s. Across: four rings share the link, each 2 steps of 6 us and a
    // quarter of the payload at 2.5 GB/s.
    let layered = Nanos::new(6_000 + 1_500_000 + 12_000 + 10_000_000);
    assert_eq!(collective::hierarchical(PAYLOAD, &all, &devices), Ok(Some(layered)));
    assert_eq!(collective::all_reduce(PAYLOAD, &all, &devices), Ok(layered));
    // The order in which the group is named does not matter.
    let shuffled: Vec<DeviceId> = [3, 6, 1, 4, 0, 7, 2, 5].map(|index| all[index]).to_vec();
    assert_eq!(collective::all_reduce(PAYLOAD, &shuffled, &devices), Ok(layered));
    // Three devices on one host and one on the other have no such form.
    assert_eq!(collective::hierarchical(PAYLOAD, &all[1..5], &devices), Ok(None));
}

#[test]
fn many_payloads_of_one_group_take_what_each_takes_alone() {
    let (devices, cost) = (cluster(2, 4, (100.0, 0.5), (10.0, 5.0)), Roofline::new());
    let all: Vec<DeviceId> = devices.device_ids().collect();
    for group in [&all[..], &all[..4], &all[1..5], &all[..1]] {
        let many = cost.all_reduces(group.to_vec(), &devices).unwrap();
        for bytes in [0, 1, 4096, 25_000_000, PAYLOAD.get()].map(Bytes::new) {
            assert_eq!(many(bytes), cost.all_reduce(bytes, group, &devices), "{group:?} {bytes}");
        }
    }
    let larger = cost.all_reduces(all, &devices).unwrap();
    assert!(larger(Bytes::new(1)).unwrap() < larger(PAYLOAD).unwrap());
}

#[test]
fn a_message_takes_latency_and_size_over_the_narrowest_link() {
    let devices = cluster(2, 1, (100.0, 0.5), (10.0, 5.0));
    let (from, to) = (DeviceId::new(0), DeviceId::new(1));
    let route = devices.route(from, to).unwrap();
    let wire = Roofline::new().wire(Bytes::new(1000), &route, devices.device(from), devices.device(to));
    assert_eq!(wire, Ok((Nanos::new(6_000), Nanos::new(100))));
}
