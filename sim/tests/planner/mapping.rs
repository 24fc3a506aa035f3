//! Ranks on the devices of hybrid cube meshes: islands of four, pairs, rings.

use cutplane_graph::{DeviceGraph, DeviceId};
use cutplane_sim::planner::mapping::{HostMapping, Outer, map_host};

fn mapped(cluster: &str, inner: usize, outer: Outer) -> HostMapping {
    let devices = DeviceGraph::build(cutplane_zoo::cluster(cluster).expect("a cluster")).expect("valid");
    let host: Vec<DeviceId> = devices.device_ids().collect();
    map_host(&devices, &host, inner, outer).expect("divides")
}

/// Numbers of the devices of each group.
fn numbers(mapping: &HostMapping) -> Vec<Vec<u32>> {
    let number = |name: &String| name.rsplit("gpu").next().and_then(|digits| digits.parse().ok()).expect("a number");
    mapping.groups.iter().map(|group| group.iter().map(number).collect()).collect()
}

fn sorted(mapping: &HostMapping) -> Vec<Vec<u32>> {
    let mut groups = numbers(mapping);
    for group in &mut groups {
        group.sort_unstable();
    }
    groups.sort_unstable();
    groups
}

#[test]
fn islands_of_four_are_the_quads_of_a_dgx_1() {
    // P100: a full mesh of single links of 20 GB/s has the density 6 x 20 / 3.
    let pascal = mapped("dgx-1p:1", 4, Outer::Ring);
    assert_eq!(sorted(&pascal), [[0, 1, 2, 3], [4, 5, 6, 7]]);
    assert_eq!((pascal.inner_all_reduce_bytes_per_s, pascal.outer_bytes_per_s), (40e9, 20e9));
    // Rank r of one island has a link of its own to rank r of the other.
    assert_eq!(numbers(&pascal), [[0, 1, 2, 3], [4, 5, 6, 7]]);
    // V100: nine links of 25 GB/s in each quad.
    let volta = mapped("dgx-1v:1", 4, Outer::Ring);
    assert_eq!(sorted(&volta), [[0, 1, 2, 3], [4, 5, 6, 7]]);
    assert!((volta.inner_all_reduce_bytes_per_s - 75e9).abs() < 1.0, "{volta:?}");
    assert!((volta.outer_bytes_per_s - 25e9).abs() < 1.0);
}

#[test]
fn pairs_of_a_dgx_1v_have_two_links() {
    let pairs = mapped("dgx-1v:1", 2, Outer::Chain);
    assert!((pairs.inner_all_reduce_bytes_per_s - 50e9).abs() < 1.0, "{pairs:?}");
    // Neighbours along the chain have links too, none goes over PCIe.
    assert!(pairs.outer_bytes_per_s >= 25e9, "{pairs:?}");
}

#[test]
fn a_chain_and_a_ring_of_single_devices_stay_on_nvlink() {
    for cluster in ["dgx-1v:1", "dgx-1p:1"] {
        for outer in [Outer::Chain, Outer::Ring] {
            let mapping = mapped(cluster, 1, outer);
            let least = if cluster == "dgx-1p:1" { 20e9 } else { 50e9 };
            assert!(mapping.outer_bytes_per_s >= least, "{cluster} {outer:?}: {mapping:?}");
        }
    }
}

#[test]
fn a_switch_keeps_the_order_of_its_devices() {
    let mapping = mapped("dgx-a100:1", 4, Outer::Ring);
    assert_eq!(numbers(&mapping), [[0, 1, 2, 3], [4, 5, 6, 7]]);
}

#[test]
fn what_does_not_divide_is_refused() {
    let devices = DeviceGraph::build(cutplane_zoo::cluster("dgx-1v:1").expect("a cluster")).expect("valid");
    let host: Vec<DeviceId> = devices.device_ids().collect();
    for inner in [0, 3] {
        let error = map_host(&devices, &host, inner, Outer::Ring).expect_err("no divisor").to_string();
        assert!(error.contains("choose a divisor"), "{error}");
    }
}
