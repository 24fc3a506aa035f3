//! Closed forms of collectives on a device graph.

use std::collections::{BTreeMap, HashMap};

use cutplane_graph::{DeviceGraph, DeviceId, LinkId};
use cutplane_units::{Bytes, Nanos};

use super::CostError;
use crate::network::{Use, ring_use};

/// The slowest of a set of messages that run at the same time.
#[derive(Clone, Copy, Debug)]
struct Hops {
    /// Largest latency of a route, seconds.
    latency: f64,
    /// Narrowest share of a link, bytes a second; a link is shared by the hops that cross it.
    bandwidth: f64,
}

impl Hops {
    fn of(pairs: &[(DeviceId, DeviceId)], devices: &DeviceGraph) -> Result<Self, CostError> {
        let mut users: HashMap<LinkId, usize> = HashMap::new();
        let mut latency = Nanos::ZERO;
        for &(from, to) in pairs {
            let route =
                devices.route(from, to).ok_or_else(|| CostError::no_route(devices.device(from), devices.device(to)))?;
            latency = latency.max(route.latency);
            route.links.into_iter().for_each(|link| *users.entry(link).or_default() += 1);
        }
        let share = |(link, users): (&LinkId, &usize)| devices.link(*link).bandwidth.get() / *users as f64;
        let bandwidth = users.iter().map(share).fold(f64::INFINITY, f64::min);
        Ok(Self { latency: latency.as_secs_f64(), bandwidth })
    }

    /// Reduce-scatter and all-gather of `bytes` on each of `ranks` devices around the ring, in seconds:
    /// `2 (p - 1) a + 2 (p - 1) / p n / B`.
    fn ring_seconds(self, bytes: f64, ranks: usize) -> f64 {
        let steps = 2.0 * (ranks - 1) as f64;
        steps * self.latency + steps / ranks as f64 * bytes / self.bandwidth
    }
}

/// All-reduce of `payload` bytes on each device of `group`: the cheaper of [`ring`] and, where every host holds equally
/// many of the devices, [`hierarchical`]. One device has nothing to do.
///
/// # Errors
/// [`CostError::NoRoute`].
pub fn all_reduce(payload: Bytes, group: &[DeviceId], devices: &DeviceGraph) -> Result<Nanos, CostError> {
    let flat = ring(payload, group, devices)?;
    Ok(hierarchical(payload, group, devices)?.map_or(flat, |layered| layered.min(flat)))
}

/// Ring all-reduce (Patarasu and Yuan 2009): `2 (p - 1) a + 2 (p - 1) / p n / B`, with `a` the largest latency and `B` the
/// narrowest bandwidth between ring neighbours. The ring visits one host after the other; hops that share a link share
/// its bandwidth.
///
/// # Errors
/// [`CostError::NoRoute`].
pub fn ring(payload: Bytes, group: &[DeviceId], devices: &DeviceGraph) -> Result<Nanos, CostError> {
    let order: Vec<DeviceId> = by_host(group, devices).into_values().flatten().collect();
    if order.len() < 2 || payload.is_zero() {
        return Ok(Nanos::ZERO);
    }
    let hops = Hops::of(&neighbours(&order), devices)?;
    Ok(Nanos::from_secs_f64(hops.ring_seconds(payload.as_f64(), order.len())))
}

/// Hierarchical all-reduce over `h` hosts with `g` devices each: reduce-scatter inside each host, one ring over the hosts
/// for each `1 / g` of the payload, all-gather inside each host (Cho et al. 2019). `None` when the devices sit on one
/// host, or hosts hold unequal numbers of them, or one each.
///
/// # Errors
/// [`CostError::NoRoute`].
pub fn hierarchical(payload: Bytes, group: &[DeviceId], devices: &DeviceGraph) -> Result<Option<Nanos>, CostError> {
    let hosts: Vec<Vec<DeviceId>> = by_host(group, devices).into_values().collect();
    let each = hosts.first().map_or(0, Vec::len);
    if hosts.len() < 2 || each < 2 || hosts.iter().any(|host| host.len() != each) || payload.is_zero() {
        return Ok(None);
    }
    let inside: Vec<_> = hosts.iter().flat_map(|host| neighbours(host)).collect();
    let across: Vec<_> =
        (0..each).flat_map(|index| neighbours(&hosts.iter().map(|host| host[index]).collect::<Vec<_>>())).collect();
    let inner = Hops::of(&inside, devices)?.ring_seconds(payload.as_f64(), each);
    let outer = Hops::of(&across, devices)?.ring_seconds(payload.as_f64() / each as f64, hosts.len());
    Ok(Some(Nanos::from_secs_f64(inner + outer)))
}

/// The links that a ring through `group` crosses and how often; it visits one host after the other, as [`ring`] does.
///
/// # Errors
/// [`CostError::Network`] when two neighbours are not joined.
pub fn ring_links(group: &[DeviceId], devices: &DeviceGraph) -> Result<Vec<Use>, CostError> {
    let order: Vec<DeviceId> = by_host(group, devices).into_values().flatten().collect();
    Ok(ring_use(&order, devices)?)
}

fn by_host<'a>(group: &[DeviceId], devices: &'a DeviceGraph) -> BTreeMap<&'a str, Vec<DeviceId>> {
    let mut hosts: BTreeMap<&str, Vec<DeviceId>> = BTreeMap::new();
    for id in group {
        hosts.entry(devices.device(*id).host.as_str()).or_default().push(*id);
    }
    hosts
}

fn neighbours(order: &[DeviceId]) -> Vec<(DeviceId, DeviceId)> {
    let next = order.iter().cycle().skip(1);
    order.iter().copied().zip(next.copied()).collect()
}
