//! What must hold of every answer, whatever the constants.

use cutplane_sim::network::{
    Algorithm, Collective, Fabric, Group, Interconnect, Level, Library, LibraryKind, Protocol, explain,
    hierarchical_all_reduce, time,
};
use proptest::prelude::*;

use crate::near;

fn dgx(nodes: usize) -> Fabric {
    let inside = Level::new(Interconnect::NvSwitch(3), 8, 300e9);
    let across = Level::new(Interconnect::InfiniBand, 8 * nodes, 25e9).ports(8);
    Fabric::new("dgx-a100", if nodes > 1 { vec![inside, across] } else { vec![inside] }).unwrap()
}

const COLLECTIVES: [Collective; 10] = [
    Collective::AllReduce,
    Collective::AllGather,
    Collective::ReduceScatter,
    Collective::Broadcast,
    Collective::Reduce,
    Collective::AllToAll,
    Collective::SendRecv,
    Collective::Gather,
    Collective::ParameterServer { servers: 2, colocated: false },
    Collective::ParameterServer { servers: 4, colocated: true },
];
const LIBRARIES: [Library; 6] =
    [Library::NCCL, Library::MPI, Library::STAGED_MPI, Library::GLOO, Library::MLSL, Library::GRPC];

proptest! {
    #[test]
    fn time_is_finite_positive_and_grows_with_the_message(
        collective in proptest::sample::select(&COLLECTIVES[..]),
        library in proptest::sample::select(&LIBRARIES[..]),
        nodes in 1usize..20, each in 1usize..=8, bytes in 1.0..1e9f64, more in 1.0..8.0f64,
    ) {
        prop_assume!(nodes * each > 1);
        let group = Group::new(nodes * each, each).unwrap();
        let seconds = |bytes| time(collective, bytes, &group, &dgx(nodes), &library);
        let (small, large) = (seconds(bytes), seconds(bytes * more));
        prop_assert!(small.seconds > 0.0 && small.seconds.is_finite());
        prop_assert!(small.low <= small.seconds && small.seconds <= small.high);
        prop_assert!(small.seconds <= large.seconds * (1.0 + 1e-12));
        prop_assert!(!small.extrapolates);
    }

    #[test]
    fn no_library_beats_the_line_rate(
        each in 1usize..=8, nodes in 2usize..20, bytes in 1e3..1e10f64,
        library in proptest::sample::select(&LIBRARIES[..]),
    ) {
        let group = Group::new(nodes * each, each).unwrap();
        let explained = explain(Collective::AllReduce, bytes, &group, &dgx(nodes), &library);
        prop_assert!(explained.bus_bandwidth <= 25e9 * each as f64, "{explained:?}");
    }
}

#[test]
fn one_rank_and_no_bytes_take_no_time() {
    let alone = Group::new(1, 1).unwrap();
    assert_eq!(time(Collective::AllReduce, 1e9, &alone, &dgx(1), &Library::NCCL).seconds, 0.0);
    let pair = Group::new(2, 2).unwrap();
    assert_eq!(time(Collective::AllReduce, 0.0, &pair, &dgx(1), &Library::NCCL.isolated(1e-5)).seconds, 0.0);
}

#[test]
fn an_isolated_call_has_a_floor() {
    let pair = Group::new(2, 2).unwrap();
    let floored = time(Collective::AllReduce, 8.0, &pair, &dgx(1), &Library::NCCL.isolated(60e-6));
    assert_eq!(floored.seconds, 60e-6);
}

#[test]
fn small_messages_take_trees_and_low_latency_and_large_ones_rings() {
    let group = Group::new(128, 8).unwrap();
    let choice = |bytes| {
        let explained = explain(Collective::AllReduce, bytes, &group, &dgx(16), &Library::NCCL);
        (explained.algorithm, explained.protocol)
    };
    assert_eq!(choice(1e3), (Algorithm::DoubleBinaryTree, Protocol::Ll));
    assert_eq!(choice(1e6), (Algorithm::DoubleBinaryTree, Protocol::Ll128));
    assert_eq!(choice(4e9), (Algorithm::Ring, Protocol::Simple));
}

#[test]
fn an_old_nccl_knows_rings_only() {
    let group = Group::new(128, 8).unwrap();
    let explained = explain(Collective::AllReduce, 1e3, &group, &dgx(16), &Library::nccl(2, 0));
    assert_eq!((explained.algorithm, explained.protocol), (Algorithm::Ring, Protocol::Simple));
}

#[test]
fn nvlink_sharp_serves_hopper_nodes_with_a_recent_nccl() {
    let hopper = Fabric::new("hgx-h100", vec![Level::new(Interconnect::NvSwitch(4), 8, 450e9)]).unwrap();
    let chosen = |library| explain(Collective::AllReduce, 1e9, &Group::new(8, 8).unwrap(), &hopper, &library).algorithm;
    assert_eq!(chosen(Library::NCCL), Algorithm::NvlinkSharp);
    assert_eq!(chosen(Library::nccl(2, 14)), Algorithm::Ring);
    assert_eq!(Library::NCCL.kind, LibraryKind::Nccl { major: 2, minor: 18 });
}

#[test]
fn groups_side_by_side_share_the_cards() {
    // Tensor parallelism 8 inside: each of 8 data-parallel groups has its own card. With 4 cards two share one.
    let own = Group::strided(16, 8, 8).unwrap();
    assert_eq!((own.ranks_per_node, own.simultaneous), (1, 8));
    let cards = |ports| {
        let inside = Level::new(Interconnect::NvSwitch(3), 8, 300e9);
        let across = Level::new(Interconnect::InfiniBand, 128, 25e9).ports(ports);
        Fabric::new("cards", vec![inside, across]).unwrap()
    };
    let bus =
        |ports, group: &Group| explain(Collective::AllGather, 4e9, group, &cards(ports), &Library::NCCL).bus_bandwidth;
    assert!(near(bus(8, &own), 25e9 * 0.92, 0.05), "{}", bus(8, &own));
    assert!(near(bus(4, &own), bus(8, &own) / 2.0, 0.05), "{}", bus(4, &own));
    assert!(near(bus(4, &own.beside(1)), bus(8, &own), 0.05));
    // All eight ranks of a node together have all its cards.
    let whole = Group::new(128, 8).unwrap();
    assert!(near(bus(8, &whole), 8.0 * bus(8, &own), 0.05), "{}", bus(8, &whole));
}

#[test]
fn oversubscription_halves_the_bandwidth_between_racks() {
    let fabric = |oversubscription| {
        Fabric::new(
            "racks",
            vec![
                Level::new(Interconnect::NvSwitch(3), 8, 300e9),
                Level::new(Interconnect::InfiniBand, 32, 25e9).ports(8),
                Level::new(Interconnect::InfiniBand, 128, 25e9).ports(32).oversubscribed(oversubscription),
            ],
        )
        .unwrap()
    };
    let seconds = |ranks, oversubscription| {
        let group = Group::new(ranks, 8).unwrap();
        time(Collective::AllToAll, 4e9, &group, &fabric(oversubscription), &Library::NCCL).seconds
    };
    assert_eq!(seconds(32, 4.0), seconds(32, 1.0));
    assert!(seconds(128, 4.0) > 2.0 * seconds(128, 1.0));
}

#[test]
fn a_group_larger_than_the_fabric_is_marked() {
    let group = Group::new(32, 8).unwrap();
    assert!(time(Collective::AllReduce, 1e6, &group, &dgx(2), &Library::NCCL).extrapolates);
}

#[test]
fn impossible_groups_and_fabrics_are_refused() {
    assert!(Group::new(0, 1).is_err() && Group::new(6, 4).is_err() && Group::strided(4, 3, 8).is_err());
    let refusal = |level: Level| Fabric::new("wrong", vec![level]).unwrap_err().to_string();
    let good = Level::new(Interconnect::Pcie(4), 8, 31.5e9);
    assert!(refusal(Level { bandwidth: 0.0, ..good }).contains("'wrong', level 0: 'bandwidth' is 0"));
    assert!(refusal(good.oversubscribed(0.5)).contains("'oversubscription' is 0.5"));
    assert!(refusal(good.ports(0)).contains("'ports' is 0"));
    assert!(Fabric::new("none", Vec::new()).unwrap_err().to_string().contains("0 levels"));
}

#[test]
fn a_hierarchy_needs_no_more_than_the_cards_and_the_inside_together() {
    let (group, fabric) = (Group::new(32, 8).unwrap(), dgx(4));
    let stepwise = hierarchical_all_reduce(4e9, &group, &fabric, &Library::NCCL);
    let (inside, across) = (300e9 * 0.78, 25e9 * 0.92);
    let golden = 2.0 * 7.0 / 8.0 * 4e9 / inside + 2.0 * 3.0 / 4.0 * 0.5e9 / across;
    assert!(near(stepwise.seconds, golden, 0.05), "{} against {golden}", stepwise.seconds);
    // A ring overlaps the two parts.
    let ring = time(Collective::AllReduce, 4e9, &group, &fabric, &Library::NCCL);
    assert!(ring.seconds < stepwise.seconds);
}
