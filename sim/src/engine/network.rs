//! Messages on the links: concurrent flows share by max-min fairness.

use std::collections::BTreeMap;

use cutplane_graph::{DeviceGraph, LinkId};
use cutplane_plan::MessageId;
use cutplane_units::Nanos;

use super::prices::Wire;

/// A message on its way.
#[derive(Clone, Debug)]
struct Flow {
    links: Vec<LinkId>,
    /// Bandwidth when alone, bytes a second.
    bandwidth: f64,
    /// What is left at `since`, in nanoseconds at full bandwidth.
    remaining: f64,
    /// Share of the full bandwidth from `since` on; zero before the first [`Network::settle`].
    share: f64,
    since: Nanos,
    version: u64,
}

/// All messages on their way.
pub(super) struct Network<'a> {
    devices: &'a DeviceGraph,
    flows: BTreeMap<MessageId, Flow>,
    changed: bool,
}

impl<'a> Network<'a> {
    pub(super) fn new(devices: &'a DeviceGraph) -> Self {
        Self { devices, flows: BTreeMap::new(), changed: false }
    }

    pub(super) fn start(&mut self, message: MessageId, wire: &Wire, now: Nanos) {
        let flow = Flow {
            links: wire.links.clone(),
            bandwidth: wire.bandwidth,
            remaining: wire.time.as_f64(),
            share: 0.0,
            since: now,
            version: 0,
        };
        self.flows.insert(message, flow);
        self.changed = true;
    }

    /// Takes the message off the links, if `version` is still the current one.
    pub(super) fn finish(&mut self, message: MessageId, version: u64) -> bool {
        if self.flows.get(&message).is_none_or(|flow| flow.version != version) {
            return false;
        }
        self.flows.remove(&message);
        self.changed = true;
        true
    }

    /// Applies the shares that hold from `now` on, and returns `(end, message, version)` of every flow whose end has
    /// moved.
    pub(super) fn settle(&mut self, now: Nanos) -> Vec<(Nanos, MessageId, u64)> {
        if !std::mem::take(&mut self.changed) {
            return Vec::new();
        }
        let rates = self.max_min_rates();
        let mut moved = Vec::new();
        for ((message, flow), rate) in self.flows.iter_mut().zip(rates) {
            let share = rate / flow.bandwidth;
            if share.to_bits() == flow.share.to_bits() {
                continue;
            }
            flow.remaining = (flow.remaining - (now - flow.since).as_f64() * flow.share).max(0.0);
            (flow.share, flow.since) = (share, now);
            flow.version += 1;
            moved.push((now + Nanos::from_nanos_f64(flow.remaining / share), *message, flow.version));
        }
        moved
    }

    /// Progressive filling: again and again the link with the least bandwidth left for each of its flows sets the rate of
    /// those flows. In the order of the flows, bytes a second.
    fn max_min_rates(&self) -> Vec<f64> {
        let routes: Vec<&[LinkId]> = self.flows.values().map(|flow| flow.links.as_slice()).collect();
        // Left bandwidth and flows without a rate, by link.
        let mut links: BTreeMap<LinkId, (f64, usize)> = BTreeMap::new();
        for link in routes.iter().flat_map(|route| route.iter()) {
            links.entry(*link).or_insert_with(|| (self.devices.link(*link).bandwidth.get(), 0)).1 += 1;
        }
        let mut rates: Vec<Option<f64>> = vec![None; routes.len()];
        loop {
            let open = links.iter().filter(|(_, (_, flows))| *flows > 0);
            let narrowest = open.map(|(link, (left, flows))| (*link, left / *flows as f64));
            let Some((narrowest, rate)) = narrowest.min_by(|a, b| a.1.total_cmp(&b.1)) else { break };
            let waiting =
                routes.iter().zip(&mut rates).filter(|(route, rate)| rate.is_none() && route.contains(&narrowest));
            for (route, slot) in waiting {
                *slot = Some(rate);
                for link in *route {
                    let (left, flows) = links.get_mut(link).expect("every link of a route is listed");
                    *left = (*left - rate).max(0.0);
                    *flows -= 1;
                }
            }
        }
        rates.into_iter().map(|rate| rate.expect("every flow crosses a link")).collect()
    }
}
