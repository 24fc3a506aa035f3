//! Simulated annealing over all splits, contiguous or not (Kirkpatrick, Gelatt, Vecchi, Science 220, 1983).
//!
//! The energy is the logarithm of a `p`-norm of the loads, a smooth stand-in for the largest load; `p` grows while the
//! temperature falls. A move takes one group, two groups in exchange, all pins of a net, or a patch of the graph that grows
//! along nets to another device: operator graphs are full of chains whose single links are too dear to cut one by one.

use super::groups::Groups;
use super::loads::Loads;
use super::orders::Random;
use super::watch::Watch;

/// Moves between two looks at the clock and two recounts.
const STRETCH: usize = 4096;

/// Largest patch that moves at once.
const LARGEST_PATCH: usize = 24;

/// Length and temperatures of one descent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    pub(super) moves: usize,
    /// First and last temperature, as fractions of the largest load.
    pub(super) hot: f64,
    pub(super) cold: f64,
}

/// Anneals from `start`; returns the best split seen and its largest load, `start` itself if nothing is better.
pub(super) fn anneal(
    groups: &Groups,
    start: &[usize],
    schedule: Schedule,
    random: &mut Random,
    watch: &Watch<'_>,
) -> (Vec<usize>, f64) {
    let loads = Loads::new(groups, start);
    let best = (start.to_vec(), loads.largest());
    let unit = best.1.max(f64::MIN_POSITIVE);
    let mut annealing = Annealing { loads, best, unit, power: 8, energy: 0.0, undo: Vec::new(), queue: Vec::new() };
    let stretches = schedule.moves.div_ceil(STRETCH).max(1);
    for stretch in 0..stretches {
        let progress = stretch as f64 / stretches as f64;
        let temperature = schedule.hot * (schedule.cold / schedule.hot).powf(progress);
        annealing.power = if progress < 0.5 { 8 } else { 32 };
        annealing.recount();
        for _ in 0..STRETCH {
            annealing.step(temperature, random);
        }
        if watch.must_stop() {
            break;
        }
    }
    // The running sums may be off by rounding: the best is counted anew.
    annealing.loads.reset(&annealing.best.0);
    let load = annealing.loads.largest();
    (annealing.best.0, load)
}

struct Annealing<'a> {
    loads: Loads<'a>,
    best: (Vec<usize>, f64),
    unit: f64,
    power: i32,
    energy: f64,
    /// Groups moved in this step, with their device before.
    undo: Vec<(usize, usize)>,
    queue: Vec<usize>,
}

impl Annealing<'_> {
    fn recount(&mut self) {
        self.loads.recount();
        self.energy = self.measure();
    }

    /// About the largest load in units of the first one.
    fn measure(&self) -> f64 {
        let sum: f64 = self.loads.load.iter().map(|load| (load / self.unit).powi(self.power)).sum();
        if sum > 0.0 { (sum.ln() / f64::from(self.power)).exp() } else { 0.0 }
    }

    fn step(&mut self, temperature: f64, random: &mut Random) {
        self.undo.clear();
        let group = random.below(self.loads.device.len());
        let to = random.below(self.loads.devices);
        if !self.propose(group, to, random) || self.undo.is_empty() {
            return self.take_back();
        }
        let energy = self.measure();
        if energy > self.energy && random.unit() >= ((self.energy - energy) / temperature).exp() {
            return self.take_back();
        }
        self.energy = energy;
        if energy < self.best.1 / self.unit * 1.2 {
            let largest = self.loads.largest();
            if largest < self.best.1 * (1.0 - 1e-12) {
                self.best.0.clone_from(&self.loads.device);
                self.best.1 = largest;
            }
        }
    }

    fn take_back(&mut self) {
        while let Some((group, from)) = self.undo.pop() {
            self.loads.shift(group, from);
        }
    }

    /// Makes a move; `false` when a part of it is not allowed.
    fn propose(&mut self, group: usize, to: usize, random: &mut Random) -> bool {
        let from = self.loads.device[group];
        match random.below(8) {
            0..3 => self.shift(group, to),
            3 => {
                let other = random.below(self.loads.device.len());
                let back = self.loads.device[other];
                back != from && self.shift(group, back) && self.shift(other, from)
            }
            4 | 5 => {
                let nets = &self.loads.groups.nets_of[group];
                if nets.is_empty() {
                    return self.shift(group, to);
                }
                let net = nets[random.below(nets.len())];
                let groups = self.loads.groups;
                groups.nets[net].pins.len() <= 4 * LARGEST_PATCH
                    && groups.nets[net].pins.iter().all(|pin| self.shift(*pin, to))
            }
            _ => self.patch(group, to, random),
        }
    }

    fn shift(&mut self, group: usize, to: usize) -> bool {
        let from = self.loads.device[group];
        if from == to {
            return true;
        }
        if !self.loads.may_move(group, to) {
            return false;
        }
        self.loads.shift(group, to);
        self.undo.push((group, from));
        true
    }

    /// Moves a connected patch of one device.
    fn patch(&mut self, seed: usize, to: usize, random: &mut Random) -> bool {
        let from = self.loads.device[seed];
        let wanted = 2 + random.below(LARGEST_PATCH - 1);
        let groups = self.loads.groups;
        self.queue.clear();
        self.queue.push(seed);
        while self.undo.len() < wanted {
            if self.queue.is_empty() {
                break;
            }
            let group = self.queue.swap_remove(random.below(self.queue.len()));
            if self.loads.device[group] != from || from == to {
                continue;
            }
            if !self.shift(group, to) {
                return false;
            }
            for net in groups.nets_of[group].iter().map(|net| &groups.nets[*net]) {
                if net.pins.len() <= 16 {
                    self.queue.extend(net.pins.iter().filter(|pin| self.loads.device[**pin] == from));
                }
            }
        }
        true
    }
}
