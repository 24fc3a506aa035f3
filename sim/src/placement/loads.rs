//! Loads of all devices under moves of single groups.

use super::groups::Groups;

/// A split of the groups with its loads, kept up to date.
pub(super) struct Loads<'a> {
    pub(super) groups: &'a Groups,
    /// Devices in use by the search: all accelerators that could ever be needed, then CPU cores.
    pub(super) devices: usize,
    accelerators: usize,
    pub(super) device: Vec<usize>,
    pub(super) load: Vec<f64>,
    memory: Vec<f64>,
    /// Pins by net and accelerator.
    pins: Vec<u32>,
}

impl<'a> Loads<'a> {
    /// `device` of each group; accelerators `0..k`, CPU cores from `k`.
    pub(super) fn new(groups: &'a Groups, device: &[usize]) -> Self {
        let (accelerators, devices) = (groups.devices.accelerators, groups.devices.count());
        let mut loads = Self {
            groups,
            devices,
            accelerators,
            device: device.to_vec(),
            load: vec![0.0; devices],
            memory: vec![0.0; accelerators],
            pins: vec![0; groups.nets.len() * accelerators],
        };
        loads.recount();
        loads
    }

    /// Takes another split.
    pub(super) fn reset(&mut self, device: &[usize]) {
        self.device.copy_from_slice(device);
        self.recount();
    }

    /// All sums anew: nothing of the rounding of earlier moves stays.
    pub(super) fn recount(&mut self) {
        let groups = self.groups;
        self.load.fill(0.0);
        self.memory.fill(0.0);
        self.pins.fill(0);
        for (group, &device) in self.device.iter().enumerate() {
            self.load[device] += self.time(group, device);
            if device < self.accelerators {
                self.memory[device] += groups.size[group];
            }
        }
        for (net, all) in groups.nets.iter().enumerate() {
            for device in all.pins.iter().map(|pin| self.device[*pin]).filter(|device| *device < self.accelerators) {
                self.pins[net * self.accelerators + device] += 1;
            }
            for device in 0..self.accelerators {
                let here = self.pins[net * self.accelerators + device] as usize;
                self.load[device] += if (1..all.pins.len()).contains(&here) { all.cost } else { 0.0 };
            }
        }
    }

    fn time(&self, group: usize, device: usize) -> f64 {
        if device < self.accelerators { self.groups.accelerator_time[group] } else { self.groups.cpu_time[group] }
    }

    /// Whether the device can run the group and has memory for it.
    pub(super) fn may_move(&self, group: usize, to: usize) -> bool {
        let groups = self.groups;
        to >= self.accelerators
            || (groups.on_accelerator[group]
                && self.memory[to] + groups.size[group] <= groups.devices.accelerator_memory)
    }

    /// Moves a group.
    pub(super) fn shift(&mut self, group: usize, to: usize) {
        let from = self.device[group];
        if from == to {
            return;
        }
        self.load[from] -= self.time(group, from);
        self.load[to] += self.time(group, to);
        let groups = self.groups;
        if from < self.accelerators {
            self.memory[from] -= groups.size[group];
            for &net in &groups.nets_of[group] {
                let (cost, all) = (groups.nets[net].cost, groups.nets[net].pins.len() as u32);
                let here = &mut self.pins[net * self.accelerators + from];
                *here -= 1;
                self.load[from] += if *here == 0 {
                    -cost
                } else if *here + 1 == all {
                    cost
                } else {
                    0.0
                };
            }
        }
        if to < self.accelerators {
            self.memory[to] += groups.size[group];
            for &net in &groups.nets_of[group] {
                let (cost, all) = (groups.nets[net].cost, groups.nets[net].pins.len() as u32);
                let here = &mut self.pins[net * self.accelerators + to];
                *here += 1;
                self.load[to] += if *here == all {
                    -cost
                } else if *here == 1 {
                    cost
                } else {
                    0.0
                };
            }
        }
        self.device[group] = to;
    }

    /// Whether every accelerator has memory for its groups.
    #[cfg(feature = "ilp")]
    pub(super) fn fits(&self) -> bool {
        self.memory.iter().all(|memory| *memory <= self.groups.devices.accelerator_memory * (1.0 + 1e-12))
    }

    /// The largest load.
    pub(super) fn largest(&self) -> f64 {
        self.load.iter().copied().fold(0.0, f64::max)
    }
}
