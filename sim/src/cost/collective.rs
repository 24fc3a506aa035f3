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

/// All-reduces of a group of devices, its routes looked up once: the cheaper of [`ring`] and, where every host holds equally
/// many of the devices, [`hierarchical`].
#[derive(Clone, Debug)]
pub struct AllReduce {
    flat: Option<Rings>,
    layered: Option<Layers>,
}

impl AllReduce {
    /// Finds the routes of a group.
    ///
    /// # Errors
    /// [`CostError::NoRoute`].
    pub fn new(group: &[DeviceId], devices: &DeviceGraph) -> Result<Self, CostError> {
        let hosts: Vec<Vec<DeviceId>> = by_host(group, devices).into_values().collect();
        Ok(Self { flat: Rings::flat(&hosts, devices)?, layered: Layers::new(&hosts, devices)? })
    }

    /// Time with `payload` bytes on each device; one device has nothing to do.
    pub fn time(&self, payload: Bytes) -> Nanos {
        let flat = time(self.flat.as_ref(), payload, Rings::seconds).unwrap_or_default();
        time(self.layered.as_ref(), payload, Layers::seconds).map_or(flat, |layered| layered.min(flat))
    }
}

/// The time of a way to reduce; `None` without a way, or without a payload.
fn time<W>(way: Option<&W>, payload: Bytes, seconds: fn(&W, f64) -> f64) -> Option<Nanos> {
    let way = way.filter(|_| !payload.is_zero())?;
    Some(Nanos::from_secs_f64(seconds(way, payload.as_f64())))
}

/// Rings of equally many devices that run at the same time.
#[derive(Clone, Copy, Debug)]
struct Rings {
    hops: Hops,
    ranks: usize,
}

impl Rings {
    /// One ring over all devices, host by host; `None` for a single device.
    fn flat(hosts: &[Vec<DeviceId>], devices: &DeviceGraph) -> Result<Option<Self>, CostError> {
        let order = hosts.concat();
        if order.len() < 2 {
            return Ok(None);
        }
        Ok(Some(Self { hops: Hops::of(&neighbours(&order), devices)?, ranks: order.len() }))
    }

    fn seconds(&self, bytes: f64) -> f64 {
        self.hops.ring_seconds(bytes, self.ranks)
    }
}

/// Rings inside each host, and across them.
#[derive(Clone, Copy, Debug)]
struct Layers {
    inner: Rings,
    outer: Rings,
}

impl Layers {
    /// `None` when the devices sit on one host, or hosts hold unequal numbers of them, or one each.
    fn new(hosts: &[Vec<DeviceId>], devices: &DeviceGraph) -> Result<Option<Self>, CostError> {
        let each = hosts.first().map_or(0, Vec::len);
        if hosts.len() < 2 || each < 2 || hosts.iter().any(|host| host.len() != each) {
            return Ok(None);
        }
        let inside: Vec<_> = hosts.iter().flat_map(|host| neighbours(host)).collect();
        let across: Vec<_> =
            (0..each).flat_map(|index| neighbours(&hosts.iter().map(|host| host[index]).collect::<Vec<_>>())).collect();
        let inner = Rings { hops: Hops::of(&inside, devices)?, ranks: each };
        let outer = Rings { hops: Hops::of(&across, devices)?, ranks: hosts.len() };
        Ok(Some(Self { inner, outer }))
    }

    fn seconds(&self, bytes: f64) -> f64 {
        self.inner.seconds(bytes) + self.outer.seconds(bytes / self.inner.ranks as f64)
    }
}

/// All-reduce of `payload` bytes on each device of `group`: see [`AllReduce`].
///
/// # Errors
/// [`CostError::NoRoute`].
pub fn all_reduce(payload: Bytes, group: &[DeviceId], devices: &DeviceGraph) -> Result<Nanos, CostError> {
    if payload.is_zero() {
        return Ok(Nanos::ZERO);
    }
    Ok(AllReduce::new(group, devices)?.time(payload))
}

/// Ring all-reduce (Patarasu and Yuan 2009): `2 (p - 1) a + 2 (p - 1) / p n / B`, with `a` the largest latency and `B` the
/// narrowest bandwidth between ring neighbours. The ring visits one host after the other; hops that share a link share
/// its bandwidth.
///
/// # Errors
/// [`CostError::NoRoute`].
pub fn ring(payload: Bytes, group: &[DeviceId], devices: &DeviceGraph) -> Result<Nanos, CostError> {
    let hosts: Vec<Vec<DeviceId>> = by_host(group, devices).into_values().collect();
    Ok(time(Rings::flat(&hosts, devices)?.as_ref(), payload, Rings::seconds).unwrap_or_default())
}

/// Hierarchical all-reduce over `h` hosts with `g` devices each: reduce-scatter inside each host, one ring over the hosts
/// for each `1 / g` of the payload, all-gather inside each host (Cho et al. 2019). `None` when the devices sit on one
/// host, or hosts hold unequal numbers of them, or one each.
///
/// # Errors
/// [`CostError::NoRoute`].
pub fn hierarchical(payload: Bytes, group: &[DeviceId], devices: &DeviceGraph) -> Result<Option<Nanos>, CostError> {
    let hosts: Vec<Vec<DeviceId>> = by_host(group, devices).into_values().collect();
    Ok(time(Layers::new(&hosts, devices)?.as_ref(), payload, Layers::seconds))
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
