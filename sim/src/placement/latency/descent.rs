//! Annealing for latency. Moves keep what matters: a class goes to the device of a neighbour, a block is cut in two at a class,
//! a class takes a connected patch of its block along. Every move is scored in full; blocks that would wait for each other
//! are never accepted.

use super::super::orders::Random;
use super::super::watch::Watch;
use super::model::{LatencyModel, Scratch};

/// Largest patch that moves at once.
const LARGEST_PATCH: usize = 48;

/// Length and temperatures of one descent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    pub(super) moves: usize,
    /// First and last temperature, as fractions of the latency.
    pub(super) hot: f64,
    pub(super) cold: f64,
}

/// Anneals from `start`; returns the best assignment seen and its latency.
pub(super) fn anneal(
    model: &LatencyModel<'_>,
    near: &Neighbours,
    start: &[usize],
    schedule: Schedule,
    random: &mut Random,
    watch: &Watch<'_>,
) -> (Vec<usize>, f64) {
    let mut scratch = Scratch::default();
    let value = model.latency(start, &mut scratch);
    let memory = memory(model, start);
    let mut descent = Descent {
        model,
        near,
        device: start.to_vec(),
        memory,
        value,
        best: (start.to_vec(), value),
        undo: Vec::new(),
        queue: Vec::new(),
        scratch,
    };
    for step in 0..schedule.moves {
        if step % 256 == 0 && watch.must_stop() {
            break;
        }
        let progress = step as f64 / schedule.moves as f64;
        let temperature = schedule.hot * (schedule.cold / schedule.hot).powf(progress) * descent.best.1;
        descent.step(temperature, random);
    }
    descent.best
}

fn memory(model: &LatencyModel<'_>, device: &[usize]) -> Vec<f64> {
    let mut memory = vec![0.0; model.accelerators];
    for (class, &device) in device.iter().enumerate().filter(|(_, device)| **device < model.accelerators) {
        memory[device] += model.classes.size[class];
    }
    memory
}

/// Classes that share an edge.
pub(super) struct Neighbours {
    /// By class: what reads from it, what it reads from, and both.
    lists: [Vec<Vec<usize>>; 3],
}

impl Neighbours {
    pub(super) fn new(model: &LatencyModel<'_>) -> Self {
        let mut lists = [(); 3].map(|()| vec![Vec::new(); model.classes.count()]);
        for (node, &class) in model.classes.of_node.iter().enumerate() {
            let readers = model.problem.successors(node).iter().map(|reader| model.classes.of_node[*reader]);
            for other in readers.filter(|other| *other != class) {
                lists[0][class].push(other);
                lists[1][other].push(class);
                lists[2][class].push(other);
                lists[2][other].push(class);
            }
        }
        for list in lists.iter_mut().flatten() {
            list.sort_unstable();
            list.dedup();
        }
        Self { lists }
    }
}

struct Descent<'m, 'a> {
    model: &'m LatencyModel<'a>,
    near: &'m Neighbours,
    device: Vec<usize>,
    memory: Vec<f64>,
    value: f64,
    best: (Vec<usize>, f64),
    /// Classes moved in this step, with their device before.
    undo: Vec<(usize, usize)>,
    queue: Vec<usize>,
    scratch: Scratch,
}

impl Descent<'_, '_> {
    fn step(&mut self, temperature: f64, random: &mut Random) {
        self.undo.clear();
        self.propose(random);
        let limit = self.model.classes.devices.accelerator_memory * (1.0 + 1e-12);
        if self.undo.is_empty() || self.undo.iter().any(|(class, _)| self.over(*class, limit)) {
            return self.take_back();
        }
        let value = self.model.latency(&self.device, &mut self.scratch);
        let worse = value - self.value;
        // Also refuses an infinite latency.
        if worse > 0.0 && random.unit() >= (-worse / temperature).exp() {
            return self.take_back();
        }
        self.value = value;
        if value < self.best.1 * (1.0 - 1e-12) {
            self.best.0.clone_from(&self.device);
            self.best.1 = value;
        }
    }

    fn over(&self, class: usize, limit: f64) -> bool {
        let device = self.device[class];
        device < self.model.accelerators && self.memory[device] > limit
    }

    fn take_back(&mut self) {
        while let Some((class, from)) = self.undo.pop() {
            self.put(class, from);
        }
    }

    fn put(&mut self, class: usize, to: usize) {
        let (from, size) = (self.device[class], self.model.classes.size[class]);
        if from < self.model.accelerators {
            self.memory[from] -= size;
        }
        if to < self.model.accelerators {
            self.memory[to] += size;
        }
        self.device[class] = to;
    }

    fn shift(&mut self, class: usize, to: usize) -> bool {
        let from = self.device[class];
        let allowed = from != to && self.model.may_hold(class, to);
        if allowed {
            self.put(class, to);
            self.undo.push((class, from));
        }
        allowed
    }

    fn propose(&mut self, random: &mut Random) {
        let class = random.below(self.device.len());
        let to = self.target(class, random);
        match random.below(8) {
            0..4 => {
                self.shift(class, to);
            }
            4 => {
                // An exchange keeps full memories full.
                let from = self.device[class];
                let other =
                    self.near.lists[2][class].get(random.below(self.near.lists[2][class].len().max(1))).copied();
                if let Some(other) = other.filter(|other| self.device[*other] == to) {
                    self.shift(class, to);
                    self.shift(other, from);
                }
            }
            5 => self.patch(class, to, (2, 2 + random.below(LARGEST_PATCH - 1)), random),
            // All of the block that follows, or all that comes before: cuts the block in two.
            _ => self.patch(class, to, (random.below(2), usize::MAX), random),
        }
    }

    /// Mostly a neighbour's device.
    fn target(&self, class: usize, random: &mut Random) -> usize {
        let devices = self.model.accelerators + usize::from(self.model.has_cpu);
        let near = &self.near.lists[2][class];
        match random.below(10) {
            0..7 if !near.is_empty() => self.device[near[random.below(near.len())]],
            7 | 8 if self.model.has_cpu => self.model.accelerators,
            _ => random.below(devices),
        }
    }

    /// Moves a patch of one device that grows along one of the lists of neighbours, of at most `most` classes and no further
    /// than memory allows.
    fn patch(&mut self, seed: usize, to: usize, (along, most): (usize, usize), random: &mut Random) {
        let from = self.device[seed];
        let limit = self.model.classes.devices.accelerator_memory * (1.0 + 1e-12);
        self.queue.clear();
        self.queue.push(seed);
        while self.undo.len() < most && !self.queue.is_empty() {
            let class = self.queue.swap_remove(random.below(self.queue.len()));
            if self.device[class] != from || !self.shift(class, to) {
                continue;
            }
            if self.over(class, limit) {
                self.put(class, from);
                self.undo.pop();
                break;
            }
            let near = self.near;
            self.queue.extend(near.lists[along][class].iter().filter(|other| self.device[**other] == from));
        }
    }
}
