//! Compute work as a fluid: ranks of one host slow each other down while they compute.

use std::collections::{BTreeSet, HashMap};

use cutplane_graph::{DeviceGraph, DeviceId};
use cutplane_units::Nanos;

use crate::cost::{CostModel, WorkTime};

/// Work that a rank has begun.
#[derive(Clone, Copy, Debug)]
struct Task {
    work: WorkTime,
    /// What is left at `since`, in nanoseconds of running alone.
    remaining: f64,
    /// Slowdown from `since` on; zero before the first [`Workers::settle`].
    factor: f64,
    since: Nanos,
}

/// The computing ranks of all hosts.
pub(super) struct Workers<'a> {
    cost: &'a dyn CostModel,
    devices: &'a DeviceGraph,
    /// By rank.
    device: Vec<DeviceId>,
    host: Vec<usize>,
    tasks: Vec<Option<Task>>,
    /// Counts the changes of a rank's task, so that an outdated end is recognised.
    versions: Vec<u64>,
    /// Computing ranks by host.
    busy: Vec<BTreeSet<usize>>,
    changed: BTreeSet<usize>,
}

impl<'a> Workers<'a> {
    pub(super) fn new(device: Vec<DeviceId>, devices: &'a DeviceGraph, cost: &'a dyn CostModel) -> Self {
        let mut names: HashMap<&str, usize> = HashMap::new();
        let mut host_of = |id: &DeviceId| {
            let next = names.len();
            *names.entry(devices.device(*id).host.as_str()).or_insert(next)
        };
        let host: Vec<usize> = device.iter().map(&mut host_of).collect();
        let (ranks, hosts) = (device.len(), names.len());
        Self {
            cost,
            devices,
            device,
            host,
            tasks: vec![None; ranks],
            versions: vec![0; ranks],
            busy: vec![BTreeSet::new(); hosts],
            changed: BTreeSet::new(),
        }
    }

    pub(super) fn start(&mut self, rank: usize, work: WorkTime, now: Nanos) {
        self.tasks[rank] = Some(Task { work, remaining: work.alone().as_f64(), factor: 0.0, since: now });
        self.busy[self.host[rank]].insert(rank);
        self.changed.insert(self.host[rank]);
    }

    /// Ends the task of `rank`, if `version` is still the current one.
    pub(super) fn finish(&mut self, rank: usize, version: u64) -> bool {
        if self.versions[rank] != version || self.tasks[rank].take().is_none() {
            return false;
        }
        self.busy[self.host[rank]].remove(&rank);
        self.changed.insert(self.host[rank]);
        true
    }

    /// Applies the rates that hold from `now` on, and returns `(end, rank, version)` of every task whose end has moved.
    pub(super) fn settle(&mut self, now: Nanos) -> Vec<(Nanos, usize, u64)> {
        let mut moved = Vec::new();
        for host in std::mem::take(&mut self.changed) {
            let busy = self.busy[host].len();
            for rank in self.busy[host].iter().copied() {
                let device = self.devices.device(self.device[rank]);
                let contention = self.cost.contention(device, busy);
                let task = self.tasks[rank].as_mut().expect("a busy rank has a task");
                let (compute, memory) = (task.work.compute.as_f64(), task.work.memory.as_f64());
                let stretched = compute * contention.compute + memory * contention.memory;
                let factor = stretched / (compute + memory);
                if factor.to_bits() == task.factor.to_bits() {
                    continue;
                }
                if task.factor > 0.0 {
                    task.remaining = (task.remaining - (now - task.since).as_f64() / task.factor).max(0.0);
                }
                (task.factor, task.since) = (factor, now);
                self.versions[rank] += 1;
                moved.push((now + Nanos::from_nanos_f64(task.remaining * factor), rank, self.versions[rank]));
            }
        }
        moved
    }
}
