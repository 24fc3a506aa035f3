//! Max-min fair sharing of links between groups.

use cutplane_graph::{DeviceGraph, DeviceId, LinkId};
use cutplane_sim::network::{max_min_rates, ring_slowdowns, ring_use};
use cutplane_zoo::cluster;

use crate::near;

fn graph(argument: &str) -> DeviceGraph {
    DeviceGraph::build(cluster(argument).unwrap()).unwrap()
}

fn ids(indices: &[usize]) -> Vec<DeviceId> {
    indices.iter().copied().map(DeviceId::new).collect()
}

#[test]
fn the_textbook_line_of_three_links() {
    // One stream crosses all three links, one each crosses one; the second link is half as wide.
    let links: Vec<LinkId> = (0..3).map(LinkId::new).collect();
    let long: Vec<_> = links.iter().map(|link| (*link, 1.0)).collect();
    let short: Vec<_> = links.iter().map(|link| vec![(*link, 1.0)]).collect();
    let capacity = |link: LinkId| if link == links[1] { 5.0 } else { 10.0 };
    let rates = max_min_rates(&[&long, &short[0], &short[1], &short[2], &[]], capacity);
    assert_eq!(rates, [2.5, 7.5, 2.5, 7.5, f64::INFINITY]);
}

#[test]
fn a_stream_that_crosses_a_link_twice_counts_twice() {
    let link = LinkId::new(0);
    assert_eq!(max_min_rates(&[&[(link, 2.0)], &[(link, 1.0)]], |_| 30.0), [10.0, 10.0]);
}

#[test]
fn rails_of_their_own_do_not_slow_each_other() {
    // 8 cards a node: data-parallel rings over equal places never meet.
    let graph = graph("dgx-a100:2");
    let rings: Vec<_> = (0..8).map(|place| ids(&[place, place + 8])).collect();
    assert_eq!(ring_slowdowns(&rings, &graph).unwrap(), [1.0; 8]);
}

#[test]
fn groups_that_share_a_card_halve() {
    // DGX-2: 16 devices on 8 cards, so neighbours share one.
    let graph = graph("dgx-2:2");
    let rings = [ids(&[0, 16]), ids(&[1, 17]), ids(&[4, 20])];
    let slower = ring_slowdowns(&rings, &graph).unwrap();
    assert!(near(slower[0], 2.0, 1e-9) && near(slower[1], 2.0, 1e-9) && near(slower[2], 1.0, 1e-9), "{slower:?}");
}

#[test]
fn a_ring_uses_each_link_of_its_edges() {
    let graph = graph("dgx-a100:2");
    let uses = ring_use(&ids(&[0, 1, 2]), &graph).unwrap();
    // Each device into the switch and out of it, once.
    assert_eq!((uses.len(), uses.iter().map(|(_, weight)| weight).sum::<f64>()), (6, 6.0));
}
