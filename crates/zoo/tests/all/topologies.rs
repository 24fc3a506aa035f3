//! Irregular machines: the built-in ones, and what `nvidia-smi topo -m` prints.

use cutplane_graph::{DeviceGraph, LinkId, LinkKind};
use cutplane_zoo::topology::{Machine, machine, machines};

fn graph(machine: &Machine) -> DeviceGraph {
    DeviceGraph::build(machine.cluster().unwrap()).unwrap()
}

/// NVLink bandwidth out of each device, GB/s.
fn nvlink_of_each(graph: &DeviceGraph) -> Vec<f64> {
    let out = |name: &str| -> f64 {
        let links = (0..graph.link_count()).map(LinkId::new);
        let own = links.filter(|id| graph.link_ends(*id).0 == name && graph.link(*id).kind == LinkKind::Nvlink);
        own.map(|id| graph.link(id).bandwidth.get() / 1e9).sum()
    };
    graph.devices().iter().map(|device| out(&device.name)).collect()
}

fn import(matrix: &str) -> Machine {
    Machine { matrix: matrix.to_owned(), ..machine("DGX-1V").unwrap().clone() }
}

#[test]
fn every_built_in_machine_builds() {
    assert_eq!(machines().iter().map(|machine| machine.name.as_str()).collect::<Vec<_>>(), ["dgx-1p", "dgx-1v"]);
    for machine in machines() {
        assert_eq!(graph(machine).devices().len(), 8, "{}", machine.name);
    }
}

#[test]
fn a_dgx_1_has_six_or_four_links_a_device() {
    assert_eq!(nvlink_of_each(&graph(machine("dgx-1v").unwrap())), [150.0; 8]);
    assert_eq!(nvlink_of_each(&graph(machine("dgx-1p").unwrap())), [80.0; 8]);
}

#[test]
fn devices_without_nvlink_meet_across_the_sockets() {
    let graph = graph(machine("dgx-1v").unwrap());
    let id = |index: usize| graph.device_by_name(&format!("dgx-1v/gpu{index}")).unwrap();
    let kinds = |from, to| {
        let route = graph.route(id(from), id(to)).unwrap();
        route.links.iter().map(|link| graph.link(*link).kind).collect::<Vec<_>>()
    };
    assert_eq!(kinds(0, 3), [LinkKind::Nvlink]);
    assert_eq!(kinds(1, 4), [LinkKind::Pcie; 4]);
}

#[test]
fn equal_links_between_all_devices_are_a_switch() {
    let machine = import(
        "\tGPU0\tGPU1\tGPU2\tNIC0\tCPU Affinity\tNUMA Affinity\n\
         GPU0\t X \tNV12\tNV12\tPXB\t0-31\t0\n\
         GPU1\tNV12\t X \tNV12\tPXB\t0-31\t0\n\
         GPU2\tNV12\tNV12\t X \tSYS\t32-63\t1\n\
         NIC0\tPXB\tPXB\tSYS\t X \n\n\
         NIC Legend:\n\n  NIC0: mlx5_0\n",
    );
    let spec = machine.cluster().unwrap();
    assert_eq!(spec.nodes.iter().filter(|node| node.name.contains("nvswitch")).count(), 1);
    assert!(spec.nodes.iter().any(|node| node.name == "dgx-1v/socket0/pcie0"), "{:?}", spec.nodes);
    assert_eq!(nvlink_of_each(&graph(&machine)), [300.0; 3]);
}

#[test]
fn bridged_pairs_keep_their_own_links() {
    let machine = import(
        "        GPU0    GPU1    GPU2    GPU3    CPU Affinity\n\
         GPU0     X      NV4     PXB     SYS     0-7\n\
         GPU1    NV4      X      PXB     SYS     0-7\n\
         GPU2    PXB     PXB      X      SYS     0-7\n\
         GPU3    SYS     SYS     SYS      X      8-15\n",
    );
    assert_eq!(nvlink_of_each(&graph(&machine)), [100.0, 100.0, 0.0, 0.0]);
}

#[test]
fn a_wrong_matrix_is_refused_by_row() {
    let refusal = |matrix| import(matrix).cluster().unwrap_err().to_string();
    assert!(refusal("nothing").contains("no header"));
    assert!(refusal("GPU0 GPU1\nGPU0 X NV1\nGPU1 NV1").contains("row GPU1 has 1 cells of 2"));
    assert!(refusal("GPU0 GPU1\nGPU0 X NVL\nGPU1 NV1 X").contains("row GPU0 has 'NVL'"));
    assert!(refusal("GPU0 GPU1\nGPU0 X NV1\nGPU1 NV2 X").contains("GPU0 sees GPU1 otherwise"));
    assert!(refusal("GPU0 GPU1\nGPU0 X NV1").contains("1 rows for 2 devices"));
}
