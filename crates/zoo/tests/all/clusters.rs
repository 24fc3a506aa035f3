//! Clusters by name and by file.

use std::path::PathBuf;

use cutplane_graph::{ClusterSpec, DeviceGraph, DeviceKind, Dtype, LinkKind};
use cutplane_units::{BytesPerSecond, Nanos};
use cutplane_zoo::{cluster, cluster_forms};

fn graph(argument: &str) -> DeviceGraph {
    DeviceGraph::build(cluster(argument).unwrap()).unwrap()
}

fn refusal(argument: &str) -> String {
    cluster(argument).unwrap_err().to_string()
}

/// What each hop of the route between two devices is.
fn hops(graph: &DeviceGraph, from: &str, to: &str) -> Vec<LinkKind> {
    let id = |name| graph.device_by_name(name).unwrap_or_else(|| panic!("no {name}"));
    graph.route(id(from), id(to)).unwrap().links.iter().map(|link| graph.link(*link).kind).collect()
}

#[test]
fn every_listed_form_builds_with_one_two_and_nine() {
    for form in cluster_forms() {
        let Some(name) = form.form.strip_suffix(":N") else { continue };
        for count in [1, 2, 9] {
            let graph = graph(&format!("{name}:{count}"));
            assert!(graph.devices().len() >= count, "{name}:{count} has {}", graph.devices().len());
            for id in graph.device_ids() {
                assert!(graph.route(cutplane_graph::DeviceId::new(0), id).is_some());
            }
        }
    }
}

#[test]
fn cores_of_this_machine_meet_in_shared_memory() {
    let graph = graph("cpu:2");
    let names: Vec<&str> = graph.devices().iter().map(|device| device.name.as_str()).collect();
    assert_eq!(names, ["cpu:0", "cpu:1"]);
    assert!(graph.devices().iter().all(|device| device.host == "host" && device.spec.kind == DeviceKind::Cpu));
    assert!(graph.devices()[0].spec.peak(Dtype::F32).is_some());
    assert_eq!(hops(&graph, "cpu:0", "cpu:1"), [LinkKind::SharedMemory; 2]);
}

#[test]
fn dgx_h100_has_nvlink_inside_and_infiniband_between() {
    let graph = graph("dgx-h100:16");
    assert_eq!(graph.devices().len(), 128);
    assert_eq!(graph.devices()[29].name, "dgx-h100-3/gpu5");
    assert_eq!(graph.devices()[29].host, "dgx-h100-3");
    assert_eq!(hops(&graph, "dgx-h100-3/gpu5", "dgx-h100-3/gpu0"), [LinkKind::Nvlink; 2]);
    assert_eq!(
        hops(&graph, "dgx-h100-3/gpu5", "dgx-h100-15/gpu2"),
        [LinkKind::Pcie, LinkKind::Infiniband, LinkKind::Infiniband, LinkKind::Pcie]
    );
    let id = |name| graph.device_by_name(name).unwrap();
    let near = graph.route(id("dgx-h100-0/gpu0"), id("dgx-h100-0/gpu7")).unwrap();
    assert_eq!((near.bandwidth, near.latency), (BytesPerSecond::new(450e9), Nanos::new(2_000)));
    // 400 Gb/s; a PCIe hop, two network hops, a PCIe hop.
    let far = graph.route(id("dgx-h100-0/gpu0"), id("dgx-h100-1/gpu0")).unwrap();
    assert_eq!((far.bandwidth, far.latency), (BytesPerSecond::new(50e9), Nanos::new(6_000)));
}

#[test]
fn two_devices_of_a_dgx_2_share_a_card() {
    let spec = cluster("dgx-2:2").unwrap();
    let card = |device: &str| {
        let mine = |link: &&cutplane_graph::LinkSpec| link.from == device && link.to.contains("/nic");
        spec.links.iter().find(mine).unwrap().to.clone()
    };
    assert_eq!(card("dgx-2-1/gpu6"), "dgx-2-1/nic3");
    assert_eq!(card("dgx-2-1/gpu7"), "dgx-2-1/nic3");
    assert_eq!(card("dgx-2-1/gpu15"), "dgx-2-1/nic7");
}

#[test]
fn devices_are_packed_into_machines_of_the_usual_size() {
    let graph = graph("A100-SXM-80GB:12");
    let hosts: Vec<&str> = graph.devices().iter().map(|device| device.host.as_str()).collect();
    assert_eq!(hosts.iter().filter(|host| **host == "a100-80gb-0").count(), 8);
    assert_eq!(hosts.iter().filter(|host| **host == "a100-80gb-1").count(), 4);
    assert_eq!(cluster("a100-80gb:8").unwrap().nodes.len(), 8 + 2);
}

#[test]
fn datasheet_facts_are_the_published_ones() {
    let facts = |argument| {
        let spec = graph(argument).devices()[0].spec.clone();
        let peak = |dtype| spec.peak_tflop_per_s.get(&dtype).copied();
        (spec.memory_gib, spec.memory_bandwidth_gb_per_s, peak(Dtype::F32), peak(Dtype::Bf16), spec.matmul_efficiency)
    };
    assert_eq!(facts("a100-80gb"), (80.0, 2039.0, Some(19.5), Some(312.0), 0.869));
    assert_eq!(facts("h100"), (80.0, 3350.0, Some(67.0), Some(989.0), 0.803));
    assert_eq!(facts("v100-32gb"), (32.0, 900.0, Some(15.7), None, 0.8));
    assert_eq!(facts("k80"), (12.0, 240.6, Some(4.11), None, 0.8));
}

#[test]
fn sixteen_thousand_devices_build() {
    let graph = graph("dgx-h100:2048");
    assert_eq!(graph.devices().len(), 16_384);
}

#[test]
fn wrong_arguments_say_what_to_write() {
    assert_eq!(refusal("cpu:0"), "cluster 'cpu:0': no devices: write a whole number from 1 to 1024 after the colon");
    assert_eq!(
        refusal("dgx-h100:9999999"),
        "cluster 'dgx-h100:9999999': 9999999 is too many: write a whole number from 1 to 8192 after the colon"
    );
    for bad in ["cpu:", "cpu:two", "cpu:-1", "cpu:1.5", "h100:99999999999999999999999"] {
        assert!(refusal(bad).contains("is not a whole number"), "{}", refusal(bad));
    }
    for unknown in ["", ":", ":3", "dgx-9000:2", "h100-mini:8"] {
        let text = refusal(unknown);
        assert!(text.contains("is not known") && text.contains("dgx-h100:N") && text.contains("cpu:N"), "{text}");
    }
}

struct TempFile(PathBuf);

impl TempFile {
    fn new(name: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("cutplane-zoo-{}-{name}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        Self(path)
    }

    fn argument(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

const PAIR: &str = r#"
name = "pair"
[device_models.core]
model = "core"
kind = "cpu"
memory_gib = 4
peak_tflop_per_s = { f32 = 0.1 }
memory_bandwidth_gb_per_s = 10
launch_overhead_us = 5
matmul_efficiency = 0.8
memory_efficiency = 0.85
[[nodes]]
name = "a"
kind = "device"
model = "core"
[[nodes]]
name = "b"
kind = "device"
model = "core"
[[links]]
from = "a"
to = "b"
kind = "ethernet"
bandwidth_gb_per_s = 1.25
latency_us = 20
"#;

#[test]
fn a_users_own_file_is_read() {
    let file = TempFile::new("pair.toml", PAIR);
    let spec = cluster(file.argument()).unwrap();
    assert_eq!(spec.name, "pair");
    assert_eq!(hops(&DeviceGraph::build(spec).unwrap(), "a", "b"), [LinkKind::Ethernet]);
}

#[test]
fn a_named_cluster_survives_as_a_file() {
    let spec = cluster("dgx-a100:2").unwrap();
    let file = TempFile::new("dgx.toml", &toml::to_string(&spec).unwrap());
    let again: ClusterSpec = cluster(file.argument()).unwrap();
    assert_eq!(again, spec);
}

#[test]
fn a_bad_file_names_itself_and_the_field() {
    let cases = [
        ("cut.toml", PAIR[..PAIR.len() / 2].to_owned(), "not a cluster"),
        ("text.toml", "this is not TOML".to_owned(), "not a cluster"),
        ("unknown.toml", PAIR.replace("latency_us", "latency_ms"), "latency_ms"),
        ("zero.toml", PAIR.replace("1.25", "0"), "bandwidth_gb_per_s"),
        ("model.toml", PAIR.replacen("model = \"core\"\n[[nodes]]", "model = \"gore\"\n[[nodes]]", 1), "device_models"),
        ("end.toml", PAIR.replace("to = \"b\"", "to = \"c\""), "'c', which is not a node"),
        ("none.toml", "name = \"none\"\nnodes = []\n[device_models]\n".to_owned(), "no devices"),
    ];
    for (name, text, wanted) in cases {
        let file = TempFile::new(name, &text);
        let error = refusal(file.argument());
        assert!(error.contains(name) && error.contains(wanted), "{name}: {error}");
    }
    assert!(refusal("/no/such/cluster.toml").contains("/no/such/cluster.toml: cannot read"));
}

#[test]
fn instances_have_dated_prices_and_their_own_network() {
    let spec = cluster("p4d.24xlarge:2").unwrap();
    let cards = spec.links.iter().filter(|link| link.to == "network").collect::<Vec<_>>();
    assert_eq!((cards.len(), cards[0].bandwidth_gb_per_s), (8, 12.5));
    let price = cutplane_zoo::price("p4d.24xlarge:2").unwrap();
    assert_eq!((price.region, price.date), ("AWS us-east-1", "2026-07-20"));
    assert!((price.dollars_per_device_hour - 21.958 / 8.0).abs() < 1e-12);
    assert_eq!(graph("g5.xlarge:3").devices().len(), 3);
    for form in cluster_forms().iter().filter(|form| form.description.contains("an hour")) {
        let price = cutplane_zoo::price(&form.form).unwrap();
        assert_eq!(price.date.split('-').map(str::len).collect::<Vec<_>>(), [4, 2, 2], "{}", form.form);
        assert!(price.dollars_per_device_hour > 0.0 && !price.source.is_empty(), "{}", form.form);
    }
    assert_eq!(cutplane_zoo::price("dgx-a100:2"), None);
}

#[test]
fn mixes_meet_on_one_network() {
    let graph = graph("k80-v100");
    let models: std::collections::BTreeSet<&str> =
        graph.devices().iter().map(|device| device.spec.model.as_str()).collect();
    assert_eq!(models.into_iter().collect::<Vec<_>>(), ["K80", "V100-SXM2-16GB"]);
    assert_eq!(graph.devices().len(), 16);
    let route = hops(&graph, "v100-16gb-0/gpu0", "k80-0/gpu3");
    assert!(route.contains(&LinkKind::Infiniband) && route.contains(&LinkKind::Ethernet), "{route:?}");
    assert_eq!(DeviceGraph::build(cluster("dgx-1v:2+p40:3+g5.xlarge:1").unwrap()).unwrap().devices().len(), 20);
    assert!(refusal("k80:8+k80:4").contains("a second time"), "{}", refusal("k80:8+k80:4"));
    assert!(refusal("k80:8+tpu-v99:4").contains("'tpu-v99:4' is not known"));
}

#[test]
fn machines_drawn_link_by_link_join_through_their_cards() {
    let graph = graph("dgx-1v:2");
    assert_eq!(graph.devices().len(), 16);
    assert_eq!(hops(&graph, "dgx-1v-0/gpu0", "dgx-1v-0/gpu3"), [LinkKind::Nvlink]);
    assert!(hops(&graph, "dgx-1v-0/gpu0", "dgx-1v-1/gpu5").contains(&LinkKind::Infiniband));
}

#[test]
fn a_file_may_hold_the_matrix_of_a_machine() {
    let text = "name = \"box\"\ndevice = \"a100-pcie-80gb\"\nnvlink_gb_per_s = 25\npcie_gb_per_s = 31\n\
                socket_gb_per_s = 20\nmatrix = '''\n      GPU0 GPU1\nGPU0  X    NV4\nGPU1  NV4  X\n'''\n";
    let spec = cutplane_zoo::cluster_from_text(std::path::Path::new("box.toml"), text).unwrap();
    let graph = DeviceGraph::build(spec).unwrap();
    assert_eq!(hops(&graph, "box/gpu0", "box/gpu1"), [LinkKind::Nvlink]);
    let bad = text.replace("NV4  X", "NV4  QQ");
    assert!(cutplane_zoo::cluster_from_text(std::path::Path::new("box.toml"), &bad).is_err());
}
