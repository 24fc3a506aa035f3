//! Tree packings and rings on the two DGX-1 machines.

use cutplane_graph::{DeviceGraph, DeviceId, LinkKind};
use cutplane_sim::network::topology::{Packing, Topology, find_rings, pack_trees};
use cutplane_zoo::topology::machine;

use crate::near;

fn machine_graph(name: &str) -> DeviceGraph {
    DeviceGraph::build(machine(name).unwrap().cluster().unwrap()).unwrap()
}

fn among(graph: &DeviceGraph, group: &[usize]) -> Topology {
    let ids: Vec<DeviceId> = group.iter().copied().map(DeviceId::new).collect();
    Topology::of(&ids, LinkKind::Nvlink, graph).unwrap()
}

/// Every tree reaches every device from the root, and no link carries more than it can.
fn check_packing(topology: &Topology, packing: &Packing) {
    let devices = topology.len();
    let mut load = vec![vec![0.0; devices]; devices];
    for tree in &packing.trees {
        for device in 0..devices {
            let mut at = device;
            for _ in 0..devices {
                at = tree.parent[at];
            }
            assert_eq!(at, packing.root, "device {device} hangs off the tree {tree:?}");
            if device != packing.root {
                load[tree.parent[device]][device] += tree.rate;
            }
        }
    }
    for (from, to) in (0..devices).flat_map(|from| (0..devices).map(move |to| (from, to))) {
        assert!(load[from][to] <= topology.capacity(from, to) * (1.0 + 1e-6), "{from} to {to}: {}", load[from][to]);
    }
}

#[test]
fn eight_v100_broadcast_at_150_and_eight_p100_at_80_gb_per_s() {
    for (name, golden) in [("dgx-1v", 150e9), ("dgx-1p", 80e9)] {
        let topology = among(&machine_graph(name), &[0, 1, 2, 3, 4, 5, 6, 7]);
        for root in 0..8 {
            assert!(near(topology.broadcast_rate(root), golden, 1e-9), "{name} from {root}");
            let packing = pack_trees(&topology, root);
            check_packing(&topology, &packing);
            assert!(near(packing.rate(), golden, 1e-6), "{name} from {root}: {}", packing.rate());
            assert!(near(packing.broadcast_seconds(golden).unwrap(), 1.0, 1e-6));
        }
    }
}

#[test]
fn trees_reach_the_least_cut_on_every_subset() {
    for name in ["dgx-1v", "dgx-1p"] {
        let graph = machine_graph(name);
        for mask in (0u32..256).filter(|mask| mask.count_ones() >= 2) {
            let group: Vec<usize> = (0..8).filter(|index| mask & (1 << index) != 0).collect();
            let topology = among(&graph, &group);
            let packing = pack_trees(&topology, 0);
            check_packing(&topology, &packing);
            let bound = topology.broadcast_rate(0);
            assert!((packing.rate() - bound).abs() <= 1e3, "{name} {group:?}: {} of {bound}", packing.rate());
        }
    }
}

#[test]
fn blinks_three_devices_have_trees_but_no_ring() {
    let topology = among(&machine_graph("dgx-1v"), &[0, 1, 4]);
    assert_eq!([topology.capacity(0, 1), topology.capacity(0, 2), topology.capacity(1, 2)], [25e9, 50e9, 0.0]);
    assert!(find_rings(&topology, 25e9).rings.is_empty());
    assert!(near(pack_trees(&topology, 0).rate(), 25e9, 1e-6));
    assert!(near(topology.all_reduce_rate(), 25e9, 1e-9));
}

#[test]
fn nccl_finds_three_rings_on_v100_and_two_on_p100() {
    for (name, link, rings, bus) in [("dgx-1v", 25e9, 3, 150e9), ("dgx-1p", 20e9, 2, 80e9)] {
        let topology = among(&machine_graph(name), &[0, 1, 2, 3, 4, 5, 6, 7]);
        let found = find_rings(&topology, link);
        assert_eq!((found.rings.len(), found.proved), (rings, true), "{name}");
        assert!(near(found.bus_bandwidth(), bus, 1e-9));
        for ring in &found.rings {
            let mut sorted = ring.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, [0, 1, 2, 3, 4, 5, 6, 7]);
        }
    }
}

#[test]
fn an_all_reduce_over_trees_matches_three_rings_on_v100() {
    // 24 links over 7 edges a tree; rings of 8 give 150 GB/s of bus bandwidth over a bus factor of 7 / 4.
    let topology = among(&machine_graph("dgx-1v"), &[0, 1, 2, 3, 4, 5, 6, 7]);
    assert!(near(topology.all_reduce_rate(), 24.0 * 25e9 / 7.0, 1e-9));
}

#[test]
fn devices_without_links_have_no_tree() {
    let topology = among(&machine_graph("dgx-1v"), &[1, 4]);
    assert_eq!(topology.broadcast_rate(0), 0.0);
    let packing = pack_trees(&topology, 0);
    assert_eq!((packing.trees.len(), packing.broadcast_seconds(1.0)), (0, None));
}

#[test]
fn a_group_is_refused_by_its_fault() {
    let graph = machine_graph("dgx-1v");
    let refusal = |group: &[usize]| {
        let ids: Vec<DeviceId> = group.iter().copied().map(DeviceId::new).collect();
        Topology::of(&ids, LinkKind::Nvlink, &graph).unwrap_err().to_string()
    };
    assert!(refusal(&[0]).contains("1 devices: name 2 to"));
    assert!(refusal(&[0, 1, 0]).contains("'dgx-1v/gpu0' is listed twice"));
}

#[cfg(feature = "ilp")]
#[test]
fn the_linear_program_agrees_with_cut_and_trees() {
    use cutplane_sim::network::topology::broadcast_rate_by_lp;
    let graph = machine_graph("dgx-1v");
    for group in [&[0, 1, 2, 3, 4, 5, 6, 7][..], &[0, 1, 4], &[0, 3, 4, 7, 5], &[1, 4]] {
        let topology = among(&graph, group);
        let (cut, lp) = (topology.broadcast_rate(0), broadcast_rate_by_lp(&topology, 0).unwrap());
        assert!((lp - cut).abs() <= 1e-6 * 150e9, "{group:?}: {lp} against {cut}");
    }
}
