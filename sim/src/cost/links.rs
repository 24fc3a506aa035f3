//! Measured links between ranks.

use std::collections::BTreeMap;

use cutplane_record::{AllReducePoint, MessagePoint};
use cutplane_units::{Bytes, Nanos};

use super::curve::Line;

/// Measured links between ranks.
#[derive(Clone, Debug)]
pub(super) struct Links {
    pub(super) send: Option<Line>,
    pub(super) recv: Option<Line>,
    pub(super) latency: Option<Line>,
    /// Smallest message that was measured, bytes.
    pub(super) shortest: Bytes,
    all_reduce: BTreeMap<u32, Line>,
}

impl Links {
    pub(super) fn new(messages: &[MessagePoint], sums: &[AllReducePoint]) -> Self {
        let line = |ns: fn(&MessagePoint) -> f64| Line::new(messages.iter().map(|point| (point.bytes, ns(point))));
        let mut by_ranks: BTreeMap<u32, Vec<(u64, f64)>> = BTreeMap::new();
        for point in sums.iter().filter(|point| point.ranks > 1) {
            by_ranks.entry(point.ranks).or_default().push((point.bytes, point.time_ns));
        }
        Self {
            send: line(|point| point.send_ns),
            recv: line(|point| point.recv_ns),
            latency: line(|point| point.latency_ns),
            shortest: Bytes::new(messages.iter().map(|point| point.bytes).min().unwrap_or(0)),
            all_reduce: by_ranks.into_iter().filter_map(|(ranks, list)| Some((ranks, Line::new(list)?))).collect(),
        }
    }

    /// From the beginning of sending until the receiver has it; `None` of links without messages.
    pub(super) fn one_way(&self, payload: Bytes) -> Option<Nanos> {
        let at = |line: &Option<Line>| line.as_ref().map(|line| nanos(line.at(payload.get())));
        Some(at(&self.send)? + at(&self.latency)? + at(&self.recv)?)
    }

    /// Time of the measured group size nearest from above; of the largest one, in proportion to `2 (p - 1) / p`, where
    /// the group is larger. `None` of links without sums.
    pub(super) fn all_reduce(&self, payload: Bytes, ranks: usize) -> Option<Nanos> {
        let ranks = ranks as u32;
        let larger = self.all_reduce.range(ranks..).next();
        let (profiled, line) = larger.or_else(|| self.all_reduce.last_key_value())?;
        let volume = |p: u32| 2.0 * f64::from(p - 1) / f64::from(p);
        let factor = (volume(ranks) / volume(*profiled)).max(1.0);
        Some(nanos(line.at(payload.get()) * factor))
    }
}

/// Rounds to the nearest nanosecond: a measured time is no bound of physics.
pub(super) fn nanos(ns: f64) -> Nanos {
    Nanos::new(ns.round() as u64)
}
