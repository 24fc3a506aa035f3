//! A lower bound from single groups: whatever device holds a group has at least its cheapest company to bear.
//!
//! An accelerator that holds group `g` has a load of at least `min over S with g in S of time(S) + cut(S)`, where `cut(S)` is the
//! cost of the nets with pins on both sides. That function is submodular: the minimum is a minimum cut, with two nodes a net
//! (Lawler, "Cutsets and partitions of hypergraphs", Networks 3, 1973). A CPU core bears the group's CPU time.

use petgraph::algo::dinics;
use petgraph::graph::{DiGraph, NodeIndex};

use super::groups::Groups;
use super::watch::Watch;

/// Groups that are tried, the most costly first.
const MOST_GROUPS: usize = 24;

/// Capacities are whole: rounded down to this fraction of the sum of all costs.
const STEPS: f64 = 1e12;

/// Cannot be cut.
const UNCUT: u64 = 1 << 60;

/// No split, contiguous or not, has a smaller largest load.
pub(super) fn bottleneck_bound(groups: &Groups, watch: &Watch<'_>) -> f64 {
    let devices = groups.devices;
    let alone = |group: usize| {
        let transfers: f64 = groups.nets_of[group].iter().map(|net| groups.nets[*net].cost).sum();
        let accelerator = groups.accelerator_time[group] + transfers;
        let on_cpu = if devices.cpus > 0 { groups.cpu_time[group] } else { f64::INFINITY };
        let on_accelerator = groups.on_accelerator[group] && devices.accelerators > 0;
        if on_accelerator { on_cpu.min(accelerator) } else { on_cpu }
    };
    let mut order: Vec<(f64, usize)> = (0..groups.count()).map(|group| (alone(group), group)).collect();
    order.sort_by(|a, b| b.0.total_cmp(&a.0));
    let total: f64 = groups.accelerator_time.iter().chain(groups.nets.iter().map(|net| &net.cost)).sum();
    let mut bound = 0.0_f64;
    for (alone, group) in order.into_iter().take(MOST_GROUPS) {
        if alone <= bound || !alone.is_finite() || total <= 0.0 || watch.must_stop() {
            break;
        }
        let on_cpu = if devices.cpus > 0 { groups.cpu_time[group] } else { f64::INFINITY };
        if groups.on_accelerator[group] && devices.accelerators > 0 {
            bound = bound.max(on_cpu.min(company(groups, group, total / STEPS)));
        } else {
            bound = bound.max(on_cpu);
        }
    }
    bound
}

/// Least load of an accelerator that holds the group.
fn company(groups: &Groups, group: usize, unit: f64) -> f64 {
    let whole = |cost: f64| (cost / unit).floor() as u64;
    let count = groups.count();
    let mut network: DiGraph<(), u64> = DiGraph::new();
    for _ in 0..=count + 2 * groups.nets.len() {
        network.add_node(());
    }
    let node = NodeIndex::new;
    for other in 0..count {
        let time = if groups.on_accelerator[other] { whole(groups.accelerator_time[other]) } else { UNCUT };
        network.add_edge(node(other), node(count), time);
    }
    for (index, net) in groups.nets.iter().enumerate() {
        let (inward, outward) = (count + 1 + 2 * index, count + 2 + 2 * index);
        network.add_edge(node(inward), node(outward), whole(net.cost));
        for &pin in &net.pins {
            network.add_edge(node(pin), node(inward), UNCUT);
            network.add_edge(node(outward), node(pin), UNCUT);
        }
    }
    let (flow, _) = dinics(&network, node(group), node(count));
    flow as f64 * unit * (1.0 - 1e-9)
}
