//! Branch and bound for latency: exact where it ends, a lower bound where it does not.
//!
//! A node of the tree is a partial assignment of colour classes. Its bound is [`LatencyModel::latency`] with the open classes at
//! their least time: blocks only grow, and transfers between decided classes stay. An open node between two nodes of one
//! block would make the block wait for itself, so its class has to join the block; that is done before the bound is taken.
//! The tree is searched best bound first; accelerators are alike, so an empty one is tried once.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use super::super::watch::Watch;
use super::model::{LatencyModel, OPEN, Scratch};

/// Most bytes of open tree nodes.
const LARGEST_TREE: usize = 512 << 20;

/// How the search ended.
pub(super) struct Branched {
    /// The best assignment, if it is better than the known one.
    pub(super) better: Option<(Vec<usize>, f64)>,
    /// No assignment has a smaller latency; infinite when there is none at all.
    pub(super) bound: f64,
}

#[derive(PartialEq)]
struct Open {
    bound: f64,
    decided: usize,
    device: Vec<u16>,
}

impl Eq for Open {}

impl Ord for Open {
    fn cmp(&self, other: &Self) -> Ordering {
        // The heap gives its greatest: the least bound, then the deepest.
        other.bound.total_cmp(&self.bound).then(self.decided.cmp(&other.decided))
    }
}

impl PartialOrd for Open {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Searches below `known` until the gap is at most `gap`, time runs out or the tree grows too large.
pub(super) fn search(model: &LatencyModel<'_>, known: f64, gap: f64, watch: &Watch<'_>) -> Branched {
    let count = model.classes.count();
    let mut tree = Tree {
        model,
        order: order(model),
        scratch: Scratch::default(),
        known,
        better: None,
        heap: BinaryHeap::new(),
        pruned: f64::INFINITY,
    };
    tree.push(vec![OPEN; count]);
    let most = LARGEST_TREE / (2 * count + 64);
    while let Some(open) = tree.heap.pop() {
        let enough = tree.known * (1.0 - gap);
        if open.bound >= enough || tree.heap.len() > most || watch.must_stop() {
            tree.pruned = tree.pruned.min(open.bound);
            break;
        }
        tree.branch(&open);
    }
    let bound = tree.pruned.min(tree.known);
    Branched { better: tree.better, bound }
}

/// Classes by what they can change, most first.
fn order(model: &LatencyModel<'_>) -> Vec<usize> {
    let classes = &model.classes;
    let weight = |class: usize| {
        let transfers: f64 = classes.nets_of[class].iter().map(|net| classes.nets[*net].cost).sum();
        let memory = classes.size[class] / classes.devices.accelerator_memory.max(f64::MIN_POSITIVE);
        (classes.cpu_time[class] - classes.accelerator_time[class]).abs() + transfers + memory
    };
    let mut order: Vec<usize> = (0..classes.count()).collect();
    order.sort_by(|a, b| weight(*b).total_cmp(&weight(*a)));
    order
}

struct Tree<'m, 'a> {
    model: &'m LatencyModel<'a>,
    order: Vec<usize>,
    scratch: Scratch,
    known: f64,
    better: Option<(Vec<usize>, f64)>,
    heap: BinaryHeap<Open>,
    /// Least bound of what was left unsearched.
    pruned: f64,
}

impl Tree<'_, '_> {
    fn branch(&mut self, open: &Open) {
        let wide = |device: &u16| if *device == u16::MAX { OPEN } else { usize::from(*device) };
        let device: Vec<usize> = open.device.iter().map(wide).collect();
        let Some(&class) = self.order.iter().find(|class| device[**class] == OPEN) else { return };
        let accelerators = self.model.accelerators;
        let used = device.iter().filter(|device| **device < accelerators).max().map_or(0, |device| device + 1);
        let choices = (0..accelerators.min(used + 1)).chain(self.model.has_cpu.then_some(accelerators));
        for choice in choices.filter(|choice| self.model.may_hold(class, *choice)) {
            let mut child = device.clone();
            child[class] = choice;
            self.push(child);
        }
    }

    /// Enters a partial assignment unless it can lead to nothing better.
    fn push(&mut self, mut device: Vec<usize>) {
        if !self.close(&mut device) {
            return;
        }
        let bound = self.model.latency(&device, &mut self.scratch);
        if bound >= self.known {
            return;
        }
        let decided = device.iter().filter(|device| **device != OPEN).count();
        if decided == device.len() {
            self.known = bound;
            self.better = Some((device, bound));
            return;
        }
        let narrow = |device: usize| if device == OPEN { u16::MAX } else { device as u16 };
        self.heap.push(Open { bound, decided, device: device.into_iter().map(narrow).collect() });
    }

    /// Puts classes between nodes of one block into it; `false` when that cannot be, or memory does not suffice.
    fn close(&self, device: &mut [usize]) -> bool {
        let model = self.model;
        loop {
            let mut changed = false;
            for accelerator in 0..model.accelerators {
                for backward in [false, true] {
                    let Some(between) = between(model, device, (accelerator, backward)) else { return false };
                    for class in between {
                        if !model.may_hold(class, accelerator) {
                            return false;
                        }
                        device[class] = accelerator;
                        changed = true;
                    }
                }
            }
            if !changed {
                return fits(model, device);
            }
        }
    }
}

fn fits(model: &LatencyModel<'_>, device: &[usize]) -> bool {
    let mut memory = vec![0.0; model.accelerators];
    for (class, &device) in device.iter().enumerate().filter(|(_, device)| **device < model.accelerators) {
        memory[device] += model.classes.size[class];
    }
    memory.iter().all(|memory| *memory <= model.classes.devices.accelerator_memory * (1.0 + 1e-12))
}

/// Open classes with a node between two nodes of the block; `None` when a decided one of elsewhere is there, or one of the
/// other pass, which no block of this pass can take in.
fn between(model: &LatencyModel<'_>, device: &[usize], (accelerator, backward): (usize, bool)) -> Option<Vec<usize>> {
    let (nodes, of_node) = (model.problem.nodes(), &model.classes.of_node);
    let inside = |node: usize| device[of_node[node]] == accelerator && nodes[node].backward == backward;
    if !(0..nodes.len()).any(inside) {
        return Some(Vec::new());
    }
    let mut behind: Vec<bool> = (0..nodes.len()).map(inside).collect();
    let mut ahead = vec![false; nodes.len()];
    let order = model.problem.topological_order();
    for &node in order {
        if behind[node] {
            model.problem.successors(node).iter().for_each(|reader| behind[*reader] = true);
        }
    }
    for &node in order.iter().rev() {
        ahead[node] = inside(node) || model.problem.successors(node).iter().any(|reader| ahead[*reader]);
    }
    let mut found = Vec::new();
    for node in (0..nodes.len()).filter(|node| behind[*node] && ahead[*node] && !inside(*node)) {
        let class = of_node[node];
        if device[class] != OPEN || nodes[node].backward != backward {
            return None;
        }
        found.push(class);
    }
    found.sort_unstable();
    found.dedup();
    Some(found)
}
