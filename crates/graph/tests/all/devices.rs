//! Device graphs: one failing example for each error, and routes.

use std::collections::BTreeMap;

use cutplane_graph::{
    ClusterSpec, DeviceGraph, DeviceGraphError, DeviceId, DeviceKind, DeviceSpec, Dtype, LinkKind, LinkSpec, NodeKind,
    NodeSpec, Route,
};
use cutplane_units::{Bytes, BytesPerSecond, Nanos};

fn core() -> DeviceSpec {
    DeviceSpec {
        model: "core".into(),
        kind: DeviceKind::Cpu,
        memory_gib: 4.0,
        peak_tflop_per_s: BTreeMap::from([(Dtype::F32, 0.1)]),
        memory_bandwidth_gb_per_s: 10.0,
        launch_overhead_us: 5.0,
        matmul_efficiency: 0.8,
        memory_efficiency: 0.85,
        accelerator: None,
        source: String::new(),
    }
}

fn node(name: &str, kind: NodeKind) -> NodeSpec {
    let model = (kind == NodeKind::Device).then(|| "core".to_owned());
    NodeSpec { name: name.into(), kind, model, host: None }
}

fn link(from: &str, to: &str, gb_per_s: f64, latency_us: f64) -> LinkSpec {
    let kind = LinkKind::Ethernet;
    LinkSpec { from: from.into(), to: to.into(), kind, bandwidth_gb_per_s: gb_per_s, latency_us }
}

fn spec(devices: &[&str], switches: &[&str], links: &[LinkSpec]) -> ClusterSpec {
    let nodes = devices.iter().map(|name| node(name, NodeKind::Device));
    ClusterSpec {
        name: "c".into(),
        device_models: BTreeMap::from([("core".to_owned(), core())]),
        nodes: nodes.chain(switches.iter().map(|name| node(name, NodeKind::Switch))).collect(),
        links: links.to_vec(),
    }
}

fn pair() -> ClusterSpec {
    spec(&["a", "b"], &[], &[link("a", "b", 1.0, 10.0)])
}

fn refusal(change: impl FnOnce(&mut ClusterSpec)) -> DeviceGraphError {
    let mut spec = pair();
    change(&mut spec);
    DeviceGraph::build(spec).unwrap_err()
}

#[test]
fn the_unchanged_pair_builds() {
    let graph = DeviceGraph::build(pair()).unwrap();
    assert_eq!((graph.devices().len(), graph.link_count(), graph.name()), (2, 2, "c"));
    assert_eq!(graph.device_by_name("b"), Some(DeviceId::new(1)));
    assert_eq!(graph.devices()[1].host, "b");
}

#[test]
fn no_devices() {
    let error = refusal(|spec| {
        spec.nodes.clear();
        spec.links.clear();
    });
    assert_eq!(error, DeviceGraphError::NoDevices { cluster: "c".into() });
}

#[test]
fn duplicate_name() {
    let error = refusal(|spec| spec.nodes.push(node("a", NodeKind::Switch)));
    assert_eq!(error, DeviceGraphError::DuplicateName { cluster: "c".into(), name: "a".into() });
}

#[test]
fn unknown_node() {
    let error = refusal(|spec| spec.links.push(link("a", "z", 1.0, 1.0)));
    let (cluster, from, to, missing) = ("c".into(), "a".into(), "z".into(), "z".into());
    assert_eq!(error, DeviceGraphError::UnknownNode { cluster, from, to, missing });
}

#[test]
fn self_link() {
    let error = refusal(|spec| spec.links.push(link("a", "a", 1.0, 1.0)));
    assert_eq!(error, DeviceGraphError::SelfLink { cluster: "c".into(), name: "a".into() });
}

#[test]
fn not_positive() {
    type Change = fn(&mut ClusterSpec);
    let cases: [(Change, &str, &str, &str); 9] = [
        (|spec| spec.links[0].bandwidth_gb_per_s = 0.0, "bandwidth_gb_per_s", "a - b", "0"),
        (|spec| spec.links[0].bandwidth_gb_per_s = f64::NAN, "bandwidth_gb_per_s", "a - b", "NaN"),
        (|spec| spec.links[0].latency_us = -1.0, "latency_us", "a - b", "-1"),
        (|spec| core_of(spec).memory_gib = 0.0, "memory_gib", "core", "0"),
        (|spec| core_of(spec).memory_bandwidth_gb_per_s = f64::INFINITY, "memory_bandwidth_gb_per_s", "core", "inf"),
        (|spec| core_of(spec).matmul_efficiency = -0.5, "matmul_efficiency", "core", "-0.5"),
        (|spec| core_of(spec).memory_efficiency = 0.0, "memory_efficiency", "core", "0"),
        (|spec| core_of(spec).launch_overhead_us = f64::NAN, "launch_overhead_us", "core", "NaN"),
        (
            |spec| {
                core_of(spec).peak_tflop_per_s.insert(Dtype::F32, 0.0);
            },
            "peak_tflop_per_s",
            "core",
            "0",
        ),
    ];
    for (change, field, at, found) in cases {
        match refusal(change) {
            DeviceGraphError::NotPositive { what, name, value, .. } => {
                assert_eq!((what, name.as_str(), value.as_str()), (field, at, found));
            }
            other => panic!("{field}: {other}"),
        }
    }
}

fn core_of(spec: &mut ClusterSpec) -> &mut DeviceSpec {
    spec.device_models.get_mut("core").unwrap()
}

#[test]
fn device_facts() {
    let problem = |change: fn(&mut ClusterSpec)| match refusal(change) {
        DeviceGraphError::DeviceFacts { name, problem, .. } => (name, problem),
        other => panic!("{other}"),
    };
    assert_eq!(problem(|spec| spec.nodes[1].model = None), ("b".into(), "is a device without a 'model'"));
    let (name, text) = problem(|spec| spec.nodes[0].model = Some("gore".into()));
    assert_eq!((name.as_str(), text), ("a", "has a 'model' that [device_models] does not list"));
    let (name, text) = problem(|spec| spec.nodes[0].kind = NodeKind::Host);
    assert_eq!((name.as_str(), text), ("a", "has a 'model' but is no device"));
}

#[test]
fn disconnected() {
    let error = refusal(|spec| spec.links.clear());
    assert_eq!(error, DeviceGraphError::Disconnected { cluster: "c".into(), from: "a".into(), to: "b".into() });
}

#[test]
fn a_path_through_a_device_does_not_connect() {
    let links = [link("a", "b", 1.0, 1.0), link("b", "c", 1.0, 1.0)];
    let error = DeviceGraph::build(spec(&["a", "b", "c"], &[], &links)).unwrap_err();
    assert_eq!(error, DeviceGraphError::Disconnected { cluster: "c".into(), from: "a".into(), to: "c".into() });
}

fn route(spec: ClusterSpec, from: usize, to: usize) -> (Route, Vec<String>) {
    let graph = DeviceGraph::build(spec).unwrap();
    let route = graph.route(DeviceId::new(from), DeviceId::new(to)).unwrap();
    let stops = route.links.iter().map(|link| graph.link_ends(*link).1.to_owned()).collect();
    (route, stops)
}

#[test]
fn a_route_never_passes_through_a_device() {
    // The way over b is far faster, but b is a device.
    let links = [
        link("a", "b", 1000.0, 0.0),
        link("b", "c", 1000.0, 0.0),
        link("a", "s", 1.0, 10.0),
        link("b", "s", 1.0, 10.0),
        link("c", "s", 0.5, 5.0),
    ];
    let (route, stops) = route(spec(&["a", "b", "c"], &["s"], &links), 0, 2);
    assert_eq!(stops, ["s", "c"]);
    assert_eq!((route.latency, route.bandwidth), (Nanos::new(15_000), BytesPerSecond::new(0.5e9)));
    // 15 us and 1,000,000 bytes at 0.5 GB/s.
    assert_eq!(route.transfer_time(Bytes::new(1_000_000)), Nanos::new(2_015_000));
}

#[test]
fn a_route_takes_the_way_that_moves_a_mebibyte_soonest() {
    // Over s: 1 us, 1 GB/s: about 2.1 ms for both hops. Over t: 50 us, 10 GB/s: about 0.3 ms.
    let links =
        [link("a", "s", 1.0, 1.0), link("s", "b", 1.0, 1.0), link("a", "t", 10.0, 50.0), link("t", "b", 10.0, 50.0)];
    let (route, stops) = route(spec(&["a", "b"], &["s", "t"], &links), 0, 1);
    assert_eq!(stops, ["t", "b"]);
    assert_eq!(route.latency, Nanos::new(100_000));
}

#[test]
fn of_parallel_links_the_faster_is_taken() {
    let links = [link("a", "b", 1.0, 10.0), link("b", "a", 25.0, 2.0)];
    let (route, stops) = route(spec(&["a", "b"], &[], &links), 0, 1);
    assert_eq!(stops, ["b"]);
    assert_eq!((route.latency, route.bandwidth), (Nanos::new(2_000), BytesPerSecond::new(25e9)));
}

#[test]
fn a_device_reaches_itself_for_free() {
    let (route, stops) = route(pair(), 1, 1);
    assert!(stops.is_empty());
    assert_eq!(route.transfer_time(Bytes::new(1 << 30)), Nanos::ZERO);
}

#[test]
fn the_digest_follows_every_number() {
    let digest = |spec: ClusterSpec| DeviceGraph::build(spec).unwrap().digest();
    let mut faster = pair();
    faster.links[0].bandwidth_gb_per_s = 2.0;
    assert_eq!(digest(pair()), digest(pair()));
    assert_ne!(digest(pair()), digest(faster));
}
