//! Fabrics of clusters of the catalogue.

use cutplane_graph::DeviceGraph;
use cutplane_sim::network::{Fabric, Interconnect, Level};
use cutplane_zoo::{cluster, topology};

fn fabric(argument: &str) -> Fabric {
    Fabric::of_devices(&DeviceGraph::build(cluster(argument).unwrap()).unwrap()).unwrap()
}

fn summary(fabric: &Fabric) -> Vec<(Interconnect, usize, usize, f64)> {
    let line = |level: &Level| (level.interconnect, level.ranks, level.ports, level.bandwidth / 1e9);
    fabric.levels().iter().map(line).collect()
}

#[test]
fn a_dgx_a100_cluster_has_two_levels() {
    let fabric = fabric("dgx-a100:4");
    let expected = [(Interconnect::NvSwitch(3), 8, 1, 300.0), (Interconnect::InfiniBand, 32, 8, 25.0)];
    assert_eq!(summary(&fabric), expected);
    assert_eq!((fabric.ranks(), fabric.node()), (32, 8));
}

#[test]
fn one_machine_has_no_network() {
    assert_eq!(summary(&fabric("dgx-h100")), [(Interconnect::NvSwitch(4), 8, 1, 450.0)]);
}

#[test]
fn a_cube_mesh_is_one_level_of_all_its_links() {
    let machine = topology::machine("dgx-1v").unwrap();
    let graph = DeviceGraph::build(machine.cluster().unwrap()).unwrap();
    assert_eq!(summary(&Fabric::of_devices(&graph).unwrap()), [(Interconnect::NvLink(2), 8, 1, 150.0)]);
}

#[test]
fn cores_share_memory() {
    let fabric = fabric("cpu:4");
    assert_eq!(fabric.levels()[0].interconnect, Interconnect::SharedMemory);
    assert_eq!(fabric.ranks(), 4);
}

#[test]
fn bridged_pairs_lie_under_pcie() {
    let machine = topology::Machine {
        name: "pairs".to_owned(),
        nvlink_gb_per_s: 25.0,
        pcie_gb_per_s: 31.5,
        matrix: "     GPU0 GPU1 GPU2 GPU3 CPU Affinity\n\
                 GPU0 X    NV12 PHB  PHB  0-31\n\
                 GPU1 NV12 X    PHB  PHB  0-31\n\
                 GPU2 PHB  PHB  X    NV12 0-31\n\
                 GPU3 PHB  PHB  NV12 X    0-31\n"
            .to_owned(),
        ..topology::machine("dgx-1v").unwrap().clone()
    };
    let graph = DeviceGraph::build(machine.cluster().unwrap()).unwrap();
    let expected = [(Interconnect::NvLink(3), 2, 1, 300.0), (Interconnect::Pcie(4), 4, 1, 31.5)];
    assert_eq!(summary(&Fabric::of_devices(&graph).unwrap()), expected);
}

#[test]
fn unequal_hosts_are_refused() {
    let graph = DeviceGraph::build(cluster("a100-80gb:9").unwrap()).unwrap();
    let refusal = Fabric::of_devices(&graph).unwrap_err().to_string();
    assert!(refusal.contains("holds 1 devices"), "{refusal}");
}
