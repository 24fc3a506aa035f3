//! Traffic on the links: concurrent flows share by max-min fairness.

use std::collections::BTreeMap;

use cutplane_graph::{DeviceGraph, LinkId};
use cutplane_plan::{GroupId, MessageId};
use cutplane_units::Nanos;

use super::served::Worker;
use crate::network::{Use, max_min_rates};

/// Whose traffic a flow is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum FlowId {
    /// A message from one rank to another.
    Message(MessageId),
    /// An all-reduce of a group, as a ring: slowed by the edge that has least.
    Group(GroupId),
    /// Gradients on their way to a server, by worker.
    Push(Worker),
    /// Parameters on their way back.
    Pull(Worker),
}

/// What a flow asks of the links.
#[derive(Clone, Debug, Default)]
pub(super) struct Load {
    /// Time when it has the links for itself.
    pub(super) time: Nanos,
    /// The links that it crosses, and how often.
    pub(super) uses: Vec<Use>,
}

/// Traffic on its way.
#[derive(Clone, Debug)]
struct Flow {
    uses: Vec<Use>,
    /// Rate when alone, bytes a second.
    alone: f64,
    /// What is left at `since`, in nanoseconds of being alone.
    remaining: f64,
    /// Share of the rate alone from `since` on; zero before the first [`Network::settle`].
    share: f64,
    since: Nanos,
    version: u64,
}

/// All traffic on its way.
pub(super) struct Network<'a> {
    devices: &'a DeviceGraph,
    flows: BTreeMap<FlowId, Flow>,
    changed: bool,
}

impl<'a> Network<'a> {
    pub(super) fn new(devices: &'a DeviceGraph) -> Self {
        Self { devices, flows: BTreeMap::new(), changed: false }
    }

    /// Puts a load that crosses a link and takes time on the links.
    pub(super) fn start(&mut self, id: FlowId, load: &Load, now: Nanos) {
        let alone = self.rates(&[&load.uses])[0];
        let (uses, remaining) = (load.uses.clone(), load.time.as_f64());
        self.flows.insert(id, Flow { uses, alone, remaining, share: 0.0, since: now, version: 0 });
        self.changed = true;
    }

    /// Takes the flow off the links, if `version` is still the current one.
    pub(super) fn finish(&mut self, id: FlowId, version: u64) -> bool {
        if self.flows.get(&id).is_none_or(|flow| flow.version != version) {
            return false;
        }
        self.flows.remove(&id);
        self.changed = true;
        true
    }

    /// Applies the shares that hold from `now` on, and returns `(end, flow, version)` of every flow whose end has moved.
    pub(super) fn settle(&mut self, now: Nanos) -> Vec<(Nanos, FlowId, u64)> {
        if !std::mem::take(&mut self.changed) {
            return Vec::new();
        }
        let uses: Vec<&[Use]> = self.flows.values().map(|flow| flow.uses.as_slice()).collect();
        let rates = self.rates(&uses);
        let mut moved = Vec::new();
        for ((id, flow), rate) in self.flows.iter_mut().zip(rates) {
            let share = rate / flow.alone;
            if share.to_bits() == flow.share.to_bits() {
                continue;
            }
            flow.remaining = (flow.remaining - (now - flow.since).as_f64() * flow.share).max(0.0);
            (flow.share, flow.since) = (share, now);
            flow.version += 1;
            moved.push((now + Nanos::from_nanos_f64(flow.remaining / share), *id, flow.version));
        }
        moved
    }

    fn rates(&self, uses: &[&[Use]]) -> Vec<f64> {
        max_min_rates(uses, |link: LinkId| self.devices.link(link).bandwidth.get())
    }
}
