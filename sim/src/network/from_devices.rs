//! A fabric from a device graph.

use std::collections::BTreeMap;

use cutplane_graph::{DeviceGraph, DeviceId, LinkId, LinkKind, NodeKind, Route};

use super::error::NetworkError;
use super::fabric::{Fabric, Interconnect, Level};

impl Fabric {
    /// The levels of a cluster whose hosts are alike: devices joined directly or by a fabric switch, devices under one PCIe
    /// switch, devices of one host, and hosts.
    ///
    /// Routes decide: devices `a` and `b` share a domain when the route between them stays inside it, and a level's
    /// bandwidth and latency are those of its widest route. The number of network cards of a host is counted. Ranks follow
    /// the order of the devices.
    ///
    /// # Errors
    /// [`NetworkError::NotUniform`] when hosts hold unequal numbers of devices or the devices of one host are not
    /// consecutive.
    pub fn of_devices(devices: &DeviceGraph) -> Result<Self, NetworkError> {
        let hosts = hosts(devices)?;
        let first = &hosts[0];
        let mut levels = inside(first, devices);
        if hosts.len() > 1 {
            levels.push(across(&hosts, devices)?);
        }
        if levels.is_empty() {
            // One device alone: a level that nothing crosses.
            levels.push(Level::new(Interconnect::SharedMemory, 1, 1e9));
        }
        Self::new(devices.name(), levels)
    }
}

/// The devices that direct links join to a host's first one, over any number of hops.
struct Mesh {
    members: Vec<DeviceId>,
    /// What the member with the fewest links has to all others together, bytes/s: rings through all members can use it.
    bandwidth: f64,
}

impl Mesh {
    fn of(host: &[DeviceId], devices: &DeviceGraph) -> Self {
        let direct = direct_links(devices);
        let mut members = vec![host[0]];
        let mut next = 0;
        while let Some(from) = members.get(next).copied() {
            next += 1;
            for (_, to, _) in direct.iter().filter(|(start, ..)| *start == from) {
                if !members.contains(to) && host.contains(to) {
                    members.push(*to);
                }
            }
        }
        let total = |of: &DeviceId| -> f64 { direct.iter().filter(|(from, ..)| from == of).map(|link| link.2).sum() };
        let bandwidth = members.iter().map(total).fold(f64::INFINITY, f64::min);
        Self { members, bandwidth }
    }
}

/// Links whose two ends are devices: from, to, bytes/s.
fn direct_links(devices: &DeviceGraph) -> Vec<(DeviceId, DeviceId, f64)> {
    let by_name: BTreeMap<&str, DeviceId> =
        devices.device_ids().map(|id| (devices.device(id).name.as_str(), id)).collect();
    let link = |id: LinkId| {
        let (from, to) = devices.link_ends(id);
        Some((*by_name.get(from)?, *by_name.get(to)?, devices.link(id).bandwidth.get()))
    };
    (0..devices.link_count()).filter_map(|index| link(LinkId::new(index))).collect()
}

/// Devices by host, each host's consecutive and all hosts alike in number.
fn hosts(devices: &DeviceGraph) -> Result<Vec<Vec<DeviceId>>, NetworkError> {
    let refuse = |problem: String| Err(NetworkError::NotUniform { cluster: devices.name().to_owned(), problem });
    let mut hosts: Vec<(&str, Vec<DeviceId>)> = Vec::new();
    for id in devices.device_ids() {
        let host = devices.device(id).host.as_str();
        match hosts.iter().rposition(|(name, _)| *name == host) {
            None => hosts.push((host, vec![id])),
            Some(index) if index + 1 == hosts.len() => hosts[index].1.push(id),
            Some(_) => return refuse(format!("the devices of host '{host}' are not listed one after the other")),
        }
    }
    let each = hosts[0].1.len();
    if let Some((name, members)) = hosts.iter().find(|(_, members)| members.len() != each) {
        return refuse(format!("host '{name}' holds {} devices, '{}' {each}", members.len(), hosts[0].0));
    }
    Ok(hosts.into_iter().map(|(_, members)| members).collect())
}

/// How near two devices of one host are: the smaller, the nearer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Nearness {
    Fabric,
    PcieSwitch,
    Host,
}

fn nearness(route: &Route, devices: &DeviceGraph) -> Nearness {
    let is_fabric = |link: &LinkId| devices.link(*link).kind == LinkKind::Nvlink;
    let through_host = route.links.iter().any(|link| {
        let (from, _) = devices.link_ends(*link);
        devices.spec().nodes.iter().any(|node| node.name == from && node.kind == NodeKind::Host)
    });
    match (route.links.iter().all(is_fabric), through_host) {
        (true, _) => Nearness::Fabric,
        (false, false) => Nearness::PcieSwitch,
        (false, true) => Nearness::Host,
    }
}

/// Levels of one host: the devices near its first one, nearer levels first.
fn inside(host: &[DeviceId], devices: &DeviceGraph) -> Vec<Level> {
    let mut by_nearness: BTreeMap<Nearness, Vec<Route>> = BTreeMap::new();
    let mesh = Mesh::of(host, devices);
    for other in host[1..].iter().filter(|other| !mesh.members.contains(other)) {
        if let Some(route) = devices.route(host[0], *other) {
            by_nearness.entry(nearness(&route, devices)).or_default().push(route);
        }
    }
    let mut ranks = mesh.members.len();
    let mut levels = Vec::new();
    if ranks > 1 {
        let generation = nvlink_generation(mesh.bandwidth);
        levels.push(Level::new(Interconnect::NvLink(generation), ranks, mesh.bandwidth));
    }
    for (_, routes) in by_nearness {
        let Some(widest) = widest(&routes) else { continue };
        let below = ranks;
        ranks += routes.len();
        // Domains of unequal size have no description by levels: they become one domain.
        if ranks.is_multiple_of(below) && host.len().is_multiple_of(ranks) {
            levels.push(level_of(&widest, ranks, devices));
        } else {
            levels.clear();
            levels.push(level_of(&widest, host.len(), devices));
        }
    }
    levels
}

fn widest(routes: &[Route]) -> Option<Route> {
    routes.iter().max_by(|a, b| a.bandwidth.get().total_cmp(&b.bandwidth.get())).cloned()
}

fn level_of(route: &Route, ranks: usize, devices: &DeviceGraph) -> Level {
    let interconnect = interconnect_of(route, devices);
    // What the library's own hop contains already is not counted again.
    let latency = (route.latency.as_secs_f64() - 2e-6).max(0.0);
    Level { latency, ..Level::new(interconnect, ranks, route.bandwidth.get()) }
}

/// The generation whose usual rate is nearest.
fn nearest(rate: f64, rates: &[(f64, u8)]) -> u8 {
    let distance = |of: f64| (rate / of).ln().abs();
    rates.iter().min_by(|a, b| distance(a.0).total_cmp(&distance(b.0))).map_or(3, |(_, generation)| *generation)
}

fn nvlink_generation(rate: f64) -> u8 {
    nearest(rate, &[(80e9, 1), (150e9, 2), (300e9, 3), (450e9, 4), (900e9, 5)])
}

/// Technology of the narrowest link, with the generation that its rate tells.
fn interconnect_of(route: &Route, devices: &DeviceGraph) -> Interconnect {
    let by_rate =
        |a: &&LinkId, b: &&LinkId| devices.link(**a).bandwidth.get().total_cmp(&devices.link(**b).bandwidth.get());
    let Some(narrowest) = route.links.iter().min_by(by_rate) else { return Interconnect::SharedMemory };
    let rate = devices.link(*narrowest).bandwidth.get();
    match devices.link(*narrowest).kind {
        LinkKind::SharedMemory => Interconnect::SharedMemory,
        LinkKind::Pcie => Interconnect::Pcie(nearest(rate, &[(15.75e9, 3), (31.5e9, 4), (63e9, 5), (121e9, 6)])),
        LinkKind::Infiniband => Interconnect::InfiniBand,
        LinkKind::Ethernet => Interconnect::Ethernet,
        LinkKind::Nvlink => {
            let generation = nvlink_generation(rate);
            if route.links.len() > 1 { Interconnect::NvSwitch(generation) } else { Interconnect::NvLink(generation) }
        }
    }
}

/// The level between hosts: as many ports as a host has network cards.
fn across(hosts: &[Vec<DeviceId>], devices: &DeviceGraph) -> Result<Level, NetworkError> {
    let (here, there) = (hosts[0][0], hosts[1][0]);
    let host = devices.device(here).host.as_str();
    let route = devices.route(here, there).ok_or_else(|| NetworkError::NotUniform {
        cluster: devices.name().to_owned(),
        problem: format!("nothing joins '{}' and '{}'", devices.device(here).name, devices.device(there).name),
    })?;
    let cards = devices.spec().nodes.iter().filter(|node| node.kind == NodeKind::Nic);
    let own = cards.filter(|card| card.host.as_deref() == Some(host)).count();
    let ranks = hosts.len() * hosts[0].len();
    let kinds = route.links.iter().map(|link| devices.link(*link).kind);
    let interconnect = if kinds.into_iter().any(|kind| kind == LinkKind::Infiniband) {
        Interconnect::InfiniBand
    } else {
        Interconnect::Ethernet
    };
    Ok(Level::new(interconnect, ranks, route.bandwidth.get()).ports(own.max(1)))
}
