//! Latency of whole and of partial assignments of colour classes; the model is that of [`super::super::evaluate()`].

use cutplane_graph::placement::PlacementProblem;

use super::super::groups::Groups;

/// The device of a class that is not decided yet.
pub(super) const OPEN: usize = usize::MAX;

/// A latency problem over colour classes.
pub(super) struct LatencyModel<'a> {
    pub(super) problem: &'a PlacementProblem,
    /// Colour classes; one device stands for all CPU cores: the first after the accelerators.
    pub(super) classes: Groups,
    pub(super) accelerators: usize,
    pub(super) has_cpu: bool,
    /// By node: its time wherever it is fastest.
    least: Vec<f64>,
    /// By node: how many edges end there.
    inputs: Vec<u32>,
}

/// Buffers of [`LatencyModel::latency`], kept between calls.
#[derive(Clone, Debug, Default)]
pub(super) struct Scratch {
    unit: Vec<usize>,
    takes: Vec<f64>,
    waits: Vec<u32>,
    start: Vec<f64>,
    stamp: Vec<usize>,
    members: Vec<Vec<usize>>,
    ready: Vec<usize>,
}

impl<'a> LatencyModel<'a> {
    pub(super) fn new(problem: &'a PlacementProblem) -> Self {
        let classes = Groups::of_classes(problem);
        let (accelerators, has_cpu) = (problem.devices().accelerators, problem.devices().cpus > 0);
        let least = |(node, class): (usize, &usize)| {
            let node = &problem.nodes()[node];
            let accelerator = accelerators > 0 && classes.on_accelerator[*class];
            match (accelerator, has_cpu) {
                (true, true) => node.accelerator_time.min(node.cpu_time),
                (true, false) => node.accelerator_time,
                (false, _) => node.cpu_time,
            }
        };
        let least = classes.of_node.iter().enumerate().map(least).collect();
        let mut inputs = vec![0; problem.nodes().len()];
        for node in 0..inputs.len() {
            problem.successors(node).iter().for_each(|reader| inputs[*reader] += 1);
        }
        Self { problem, classes, accelerators, has_cpu, least, inputs }
    }

    /// Devices that may hold the class: accelerators, then the CPU cores as one.
    pub(super) fn may_hold(&self, class: usize, device: usize) -> bool {
        if device < self.accelerators { self.classes.on_accelerator[class] } else { self.has_cpu }
    }

    /// Completion of one sample; infinite when blocks wait for each other. Classes that are [`OPEN`] cost their least time
    /// and no transfers, so that with some of them the value is a lower bound for all ways to decide them — provided that
    /// no open node lies between nodes of one block (see [`super::branch`]).
    pub(super) fn latency(&self, device: &[usize], scratch: &mut Scratch) -> f64 {
        self.enter(device, scratch);
        self.transfers(device, scratch);
        self.complete(scratch)
    }

    /// Units: the blocks `2 q + pass` of the accelerators, then every other node by itself.
    fn enter(&self, device: &[usize], scratch: &mut Scratch) {
        let nodes = self.problem.nodes();
        let blocks = 2 * self.accelerators;
        let units = blocks + nodes.len();
        scratch.unit.resize(nodes.len(), 0);
        for (buffer, fill) in [(&mut scratch.takes, 0.0), (&mut scratch.start, 0.0)] {
            buffer.clear();
            buffer.resize(units, fill);
        }
        scratch.waits.clear();
        scratch.waits.resize(units, 0);
        scratch.stamp.clear();
        scratch.stamp.resize(blocks, usize::MAX);
        scratch.members.resize(blocks, Vec::new());
        scratch.members.iter_mut().for_each(Vec::clear);
        for (index, node) in nodes.iter().enumerate() {
            let place = device[self.classes.of_node[index]];
            if place < self.accelerators {
                let block = 2 * place + usize::from(node.backward);
                scratch.unit[index] = block;
                scratch.takes[block] += node.accelerator_time;
                scratch.members[block].push(index);
            } else {
                scratch.unit[index] = blocks + index;
                scratch.takes[blocks + index] = if place == OPEN { self.least[index] } else { node.cpu_time };
                scratch.waits[blocks + index] = self.inputs[index];
            }
        }
    }

    fn transfers(&self, device: &[usize], scratch: &mut Scratch) {
        let blocks = 2 * self.accelerators;
        for (index, node) in self.problem.nodes().iter().enumerate() {
            let home = scratch.unit[index];
            let known = device[self.classes.of_node[index]] != OPEN;
            let mut leaves = false;
            for &reader in self.problem.successors(index) {
                let side = scratch.unit[reader];
                if side == home {
                    continue;
                }
                leaves |= side < blocks || device[self.classes.of_node[reader]] != OPEN;
                if side < blocks {
                    scratch.waits[side] += 1;
                    if known && scratch.stamp[side] != index {
                        scratch.stamp[side] = index;
                        scratch.takes[side] += node.transfer_time;
                    }
                }
            }
            if home < blocks && leaves {
                scratch.takes[home] += node.transfer_time;
            }
        }
    }

    fn complete(&self, scratch: &mut Scratch) -> f64 {
        let blocks = 2 * self.accelerators;
        let Scratch { unit, takes, waits, start, members, ready, .. } = scratch;
        ready.clear();
        ready.extend((0..blocks).filter(|block| waits[*block] == 0 && !members[*block].is_empty()));
        ready.extend(
            (0..unit.len()).filter(|node| unit[*node] >= blocks && waits[unit[*node]] == 0).map(|n| n + blocks),
        );
        let (mut done, mut last) = (0, 0.0_f64);
        while let Some(next) = ready.pop() {
            let end = start[next] + takes[next];
            last = last.max(end);
            let single = [next.wrapping_sub(blocks)];
            let nodes = if next < blocks { members[next].as_slice() } else { &single };
            done += nodes.len();
            for &node in nodes {
                for &reader in self.problem.successors(node) {
                    let side = unit[reader];
                    if side != next {
                        start[side] = start[side].max(end);
                        waits[side] -= 1;
                        if waits[side] == 0 {
                            ready.push(side);
                        }
                    }
                }
            }
        }
        if done == unit.len() { last } else { f64::INFINITY }
    }
}
