//! Dynamic programming over ideals: the best contiguous split.
//!
//! A split is a path from the empty ideal to the full one; each step `I -> J` is a device that holds `J \ I`:
//!
//! ```text
//! best(I, a, c) = least largest load of a accelerators and c CPU cores that hold I
//! best(J, a+1, c) = min over I of max(best(I, a, c), accelerator load of J \ I), and alike for a CPU core
//! ```
//!
//! From every ideal all larger ones are visited once, with the load of the difference kept up to date group by group; a visit
//! goes no further when the processing time alone reaches the target on either kind of device (transfers may shrink as a
//! set grows, processing never does). An ideal is of no use when what is left cannot be done below the target. Over the
//! chain of one order this is the classic pipeline DP; over all ideals it is exact (Tarnawski et al., NeurIPS 2020, section 5.1).

use super::groups::Groups;
use super::lattice::Lattice;
use super::relax::host_relief;
use super::watch::Watch;

/// How a search over a lattice ended.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Searched {
    /// The best split below the target: device of each group, and its largest load.
    Found(Vec<usize>, f64),
    /// No split over this lattice is below the target.
    NothingBelow,
    /// Time ran out, or the table would be too large.
    GaveUp,
}

/// Most bytes of the table of best loads.
const LARGEST_TABLE: usize = 1 << 30;

#[derive(Clone, Copy)]
struct Cell {
    load: f64,
    /// The ideal before; its top bit tells that the last device is a CPU core.
    from: u32,
}

const CPU_BIT: u32 = 1 << 31;

/// The best split over a lattice with all loads below `target`.
pub(super) fn search(groups: &Groups, lattice: &Lattice, target: f64, watch: &Watch<'_>) -> Searched {
    let accelerators = groups.devices.accelerators.min(groups.count());
    let cpus = groups.devices.cpus.min(groups.count());
    let states = (accelerators + 1) * (cpus + 1);
    if lattice.len().saturating_mul(states).saturating_mul(size_of::<Cell>()) > LARGEST_TABLE {
        return Searched::GaveUp;
    }
    let empty = Cell { load: f64::INFINITY, from: 0 };
    let relief: Vec<f64> = (0..=cpus).map(|cpus| host_relief(groups, target * cpus as f64)).collect();
    let mut search = Search {
        groups,
        lattice,
        accelerators,
        cpus,
        target,
        relief,
        table: vec![empty; lattice.len() * states],
        stamp: vec![u32::MAX; lattice.len()],
        part: Part::new(groups),
        visits: 0,
    };
    search.table[0].load = 0.0;
    for ideal in 0..lattice.len() {
        if !search.extend(ideal, watch) {
            return Searched::GaveUp;
        }
    }
    search.answer()
}

struct Search<'a> {
    groups: &'a Groups,
    lattice: &'a Lattice,
    accelerators: usize,
    cpus: usize,
    target: f64,
    /// By number of CPU cores: most accelerator time that they can take over.
    relief: Vec<f64>,
    table: Vec<Cell>,
    /// By ideal: the ideal from which it was visited last.
    stamp: Vec<u32>,
    part: Part<'a>,
    visits: usize,
}

impl Search<'_> {
    fn states(&self) -> usize {
        (self.accelerators + 1) * (self.cpus + 1)
    }

    /// Visits all larger ideals from `ideal`; `false` when time ran out.
    fn extend(&mut self, ideal: usize, watch: &Watch<'_>) -> bool {
        let states = self.states();
        let first = ideal * states;
        let live: Vec<(usize, f64)> = (0..states)
            .map(|state| (state, self.table[first + state].load))
            .filter(|(_, load)| *load < self.target)
            .collect();
        let width = self.cpus + 1;
        let more_accelerators = live.iter().any(|(state, _)| state / width < self.accelerators);
        let more_cpus = live.iter().any(|(state, _)| state % width < self.cpus);
        if !more_accelerators && !more_cpus {
            return true;
        }
        let lattice = self.lattice;
        let mut path: Vec<(usize, usize, f64)> = vec![(ideal, 0, 0.0)];
        while let Some((at, tried, transfers)) = path.pop() {
            let Some(&(group, larger)) = lattice.next[at].get(tried) else {
                if let Some(&(below, tried, transfers)) = path.last() {
                    let (group, _) = lattice.next[below][tried - 1];
                    self.part.remove(group as usize, transfers);
                }
                continue;
            };
            path.push((at, tried + 1, transfers));
            let (group, larger) = (group as usize, larger as usize);
            if self.stamp[larger] == ideal as u32 {
                continue;
            }
            self.stamp[larger] = ideal as u32;
            self.visits += 1;
            if self.visits.is_multiple_of(4096) && watch.must_stop() {
                return false;
            }
            let before = self.part.transfers;
            if let Some(last) = path.last_mut() {
                last.2 = before;
            }
            self.part.add(group);
            let on_accelerator = more_accelerators && self.part.may_fit_accelerator(self.target);
            let on_cpu = more_cpus && self.part.cpu_time < self.target;
            if !on_accelerator && !on_cpu {
                self.part.remove(group, before);
                continue;
            }
            self.offer(&live, (ideal, larger), (on_accelerator, on_cpu));
            path.push((larger, 0, 0.0));
        }
        true
    }

    /// Enters a device with the part at hand.
    fn offer(&mut self, live: &[(usize, f64)], (ideal, larger): (usize, usize), (accelerator, cpu): (bool, bool)) {
        let width = self.cpus + 1;
        let accelerator_load = self.part.accelerator_time + self.part.transfers;
        for &(state, load) in live {
            if accelerator && accelerator_load < self.target && state / width < self.accelerators {
                self.enter(larger, state + width, load.max(accelerator_load), ideal as u32);
            }
            if cpu && state % width < self.cpus {
                self.enter(larger, state + 1, load.max(self.part.cpu_time), ideal as u32 | CPU_BIT);
            }
        }
    }

    fn enter(&mut self, ideal: usize, state: usize, load: f64, from: u32) {
        let width = self.cpus + 1;
        let (accelerators, cpus) = (self.accelerators - state / width, self.cpus - state % width);
        let time = accelerators as f64 * self.target + self.relief[cpus];
        let size = accelerators as f64 * self.groups.devices.accelerator_memory;
        // Sums taken in another order differ in their last digits.
        let slack = 1e-9 * self.lattice.time_left[0];
        let hopeless = self.lattice.time_left[ideal] > time + slack
            || (cpus == 0 && self.lattice.size_left[ideal] > size * (1.0 + 1e-9));
        let cell = &mut self.table[ideal * (self.accelerators + 1) * width + state];
        if !hopeless && load < cell.load {
            *cell = Cell { load, from };
        }
    }

    /// Walks back from the best state of the full ideal.
    fn answer(&self) -> Searched {
        let (states, width) = (self.states(), self.cpus + 1);
        let mut ideal = self.lattice.len() - 1;
        let best = (0..states)
            .min_by(|a, b| self.table[ideal * states + a].load.total_cmp(&self.table[ideal * states + b].load));
        let Some(mut state) = best.filter(|state| self.table[ideal * states + state].load < self.target) else {
            return Searched::NothingBelow;
        };
        let load = self.table[ideal * states + state].load;
        let mut device = vec![0; self.groups.count()];
        while ideal > 0 {
            let cell = self.table[ideal * states + state];
            let (from, cpu) = ((cell.from & !CPU_BIT) as usize, cell.from & CPU_BIT != 0);
            state -= if cpu { 1 } else { width };
            let place = if cpu { self.groups.devices.accelerators + state % width } else { state / width };
            for group in self.lattice.between(from, ideal) {
                device[group] = place;
            }
            ideal = from;
        }
        Searched::Found(device, load)
    }
}

/// A set of groups with its load, kept up to date.
pub(super) struct Part<'a> {
    groups: &'a Groups,
    pub(super) accelerator_time: f64,
    cpu_time: f64,
    size: f64,
    pub(super) transfers: f64,
    /// Groups in the set that no accelerator can run.
    unsupported: usize,
    members: usize,
    pins: Vec<u32>,
}

impl<'a> Part<'a> {
    pub(super) fn new(groups: &'a Groups) -> Self {
        let pins = vec![0; groups.nets.len()];
        let (accelerator_time, cpu_time, size, transfers) = (0.0, 0.0, 0.0, 0.0);
        Self { groups, accelerator_time, cpu_time, size, transfers, unsupported: 0, members: 0, pins }
    }

    pub(super) fn add(&mut self, group: usize) {
        self.count(group, 1.0);
        for &net in &self.groups.nets_of[group] {
            let all = &self.groups.nets[net];
            self.pins[net] += 1;
            if self.pins[net] == 1 {
                self.transfers += all.cost;
            } else if self.pins[net] as usize == all.pins.len() {
                self.transfers -= all.cost;
            }
        }
    }

    /// Takes back the last addition; `transfers` is what they were before it.
    fn remove(&mut self, group: usize, transfers: f64) {
        self.count(group, -1.0);
        for &net in &self.groups.nets_of[group] {
            self.pins[net] -= 1;
        }
        self.transfers = transfers;
        if self.members == 0 {
            // No rounding is carried from one visit to the next.
            (self.accelerator_time, self.cpu_time, self.size) = (0.0, 0.0, 0.0);
        }
    }

    fn count(&mut self, group: usize, sign: f64) {
        let groups = self.groups;
        self.accelerator_time += sign * groups.accelerator_time[group];
        self.cpu_time += sign * groups.cpu_time[group];
        self.size += sign * groups.size[group];
        let unsupported = usize::from(!groups.on_accelerator[group]);
        if sign > 0.0 {
            (self.members, self.unsupported) = (self.members + 1, self.unsupported + unsupported);
        } else {
            (self.members, self.unsupported) = (self.members - 1, self.unsupported - unsupported);
        }
    }

    pub(super) fn may_fit_accelerator(&self, target: f64) -> bool {
        self.unsupported == 0
            && self.accelerator_time < target
            && self.size <= self.groups.devices.accelerator_memory * (1.0 + 1e-12)
    }
}
