//! Contraction: nodes that must share a device become one group, outputs become nets between groups.
//!
//! A *net* is the output of a source with all that read it. Its cost falls on an accelerator that holds some of its pins but
//! not all of them: with the source outside it is paid for coming in, with the source inside for going out, once either way.
//! So nets with equal pins add up, whatever their source.

use std::collections::BTreeMap;

use cutplane_graph::placement::{PlacementDevices, PlacementProblem};
use petgraph::algo::tarjan_scc;
use petgraph::graph::{DiGraph, NodeIndex};

/// An output and its readers.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Net {
    /// Time to move it, more than 0.
    pub(super) cost: f64,
    /// Groups, ascending, at least two.
    pub(super) pins: Vec<usize>,
    /// The pin that a source stands in.
    pub(super) source: usize,
}

/// A contracted problem.
#[derive(Clone, Debug)]
pub(super) struct Groups {
    pub(super) devices: PlacementDevices,
    /// Group of each node.
    pub(super) of_node: Vec<usize>,
    pub(super) accelerator_time: Vec<f64>,
    pub(super) cpu_time: Vec<f64>,
    pub(super) size: Vec<f64>,
    /// Whether accelerators can run all of it.
    pub(super) on_accelerator: Vec<bool>,
    pub(super) nets: Vec<Net>,
    /// Positions in `nets`, by group.
    pub(super) nets_of: Vec<Vec<usize>>,
    /// Groups that come later, by group; acyclic, used by contiguous searches alone.
    pub(super) later: Vec<Vec<usize>>,
}

impl Groups {
    /// Colour classes as groups: for splits without contiguity. `later` holds the joined edges only where they are acyclic.
    pub(super) fn of_classes(problem: &PlacementProblem) -> Self {
        let (class, count) = classes(problem);
        Self::new(problem, class, count, Vec::new())
    }

    /// Groups for contiguous splits: classes on a common cycle of the order can never be parted.
    ///
    /// The order of a training graph joins both passes: forward edges as they are, backward edges turned round, because a
    /// backward pass mirrors its forward pass. Some published graphs list their backward edges in forward direction; the
    /// direction that leaves more groups is taken.
    pub(super) fn of_order(problem: &PlacementProblem) -> Self {
        let (class, count) = classes(problem);
        let turned = order_components(problem, &class, count, true);
        let straight = order_components(problem, &class, count, false);
        let (components, turn) = if straight.len() > turned.len() { (straight, false) } else { (turned, true) };
        let mut component = vec![0; count];
        // Tarjan's order is reversed: the last component comes first.
        for (position, members) in components.iter().rev().enumerate() {
            for class in members {
                component[class.index()] = position;
            }
        }
        let group: Vec<usize> = class.iter().map(|class| component[*class]).collect();
        let mut edges = order_edges(problem, &group, turn);
        edges.sort_unstable();
        edges.dedup();
        Self::new(problem, group, components.len(), edges)
    }

    fn new(problem: &PlacementProblem, group: Vec<usize>, count: usize, edges: Vec<(usize, usize)>) -> Self {
        let mut groups = Self {
            devices: *problem.devices(),
            accelerator_time: vec![0.0; count],
            cpu_time: vec![0.0; count],
            size: vec![0.0; count],
            on_accelerator: vec![true; count],
            nets: nets(problem, &group),
            nets_of: vec![Vec::new(); count],
            later: vec![Vec::new(); count],
            of_node: group,
        };
        for (node, &group) in problem.nodes().iter().zip(&groups.of_node) {
            groups.accelerator_time[group] += node.accelerator_time;
            groups.cpu_time[group] += node.cpu_time;
            groups.size[group] += node.size;
            groups.on_accelerator[group] &= node.on_accelerator;
        }
        for group in 0..count {
            groups.on_accelerator[group] &= groups.size[group] <= groups.devices.accelerator_memory;
        }
        for (position, net) in groups.nets.iter().enumerate() {
            net.pins.iter().for_each(|pin| groups.nets_of[*pin].push(position));
        }
        for (from, to) in edges {
            groups.later[from].push(to);
        }
        groups
    }

    pub(super) fn count(&self) -> usize {
        self.size.len()
    }

    /// The device of each node from the device of each group.
    pub(super) fn spread(&self, device: &[usize]) -> Vec<usize> {
        self.of_node.iter().map(|group| device[*group]).collect()
    }
}

/// Class of each node, and how many there are; a node without colour is its own class.
fn classes(problem: &PlacementProblem) -> (Vec<usize>, usize) {
    let mut of_color = BTreeMap::new();
    let mut count = 0;
    let mut fresh = || {
        count += 1;
        count - 1
    };
    let class = problem.nodes().iter().map(|node| match node.color {
        Some(color) => *of_color.entry(color).or_insert_with(&mut fresh),
        None => fresh(),
    });
    let class = class.collect();
    (class, count)
}

/// Edges of the order between groups, without loops. Edges from the forward to the backward pass order nothing: either pass
/// is contiguous by itself.
fn order_edges(problem: &PlacementProblem, group: &[usize], turn: bool) -> Vec<(usize, usize)> {
    let mut edges = Vec::new();
    for (source, node) in problem.nodes().iter().enumerate() {
        for &reader in problem.successors(source) {
            let same_pass = node.backward == problem.nodes()[reader].backward;
            if same_pass && group[source] != group[reader] {
                let edge = (group[source], group[reader]);
                edges.push(if node.backward && turn { (edge.1, edge.0) } else { edge });
            }
        }
    }
    edges
}

fn order_components(problem: &PlacementProblem, class: &[usize], count: usize, turn: bool) -> Vec<Vec<NodeIndex>> {
    let edges = order_edges(problem, class, turn).into_iter().map(|(from, to)| (from as u32, to as u32));
    let mut graph: DiGraph<(), ()> = DiGraph::from_edges(edges);
    while graph.node_count() < count {
        graph.add_node(());
    }
    tarjan_scc(&graph)
}

fn nets(problem: &PlacementProblem, group: &[usize]) -> Vec<Net> {
    let mut by_pins: BTreeMap<Vec<usize>, (f64, usize)> = BTreeMap::new();
    for (source, node) in problem.nodes().iter().enumerate() {
        let readers = problem.successors(source).iter().map(|reader| group[*reader]);
        let mut pins: Vec<usize> = readers.chain([group[source]]).collect();
        pins.sort_unstable();
        pins.dedup();
        if pins.len() > 1 && node.transfer_time > 0.0 {
            by_pins.entry(pins).or_insert((0.0, group[source])).0 += node.transfer_time;
        }
    }
    by_pins.into_iter().map(|(pins, (cost, source))| Net { cost, pins, source }).collect()
}
