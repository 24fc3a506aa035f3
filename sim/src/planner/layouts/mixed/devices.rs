//! The classes of a cluster's devices.

use std::collections::{BTreeMap, BTreeSet};

use cutplane_graph::{ClusterSpec, DeviceGraph, DeviceId, DeviceSpec, NodeKind};

use super::problem::Joint;
use crate::network::{Fabric, NetworkError};

/// Devices of one model in hosts that hold equally many of them.
#[derive(Clone, Debug)]
pub struct DeviceClass {
    /// The device model; with the number a host where another class has the same model.
    pub name: String,
    /// The device.
    pub spec: DeviceSpec,
    /// What joins the devices of the class.
    pub fabric: Fabric,
}

/// The classes of a cluster, in the order of their first devices, and what joins devices of different classes: each host's
/// devices send at once to devices of the other class, and share the links that their routes have in common.
///
/// # Errors
/// [`NetworkError`] when the devices of one class are not joined as nested domains.
pub fn device_classes(devices: &DeviceGraph) -> Result<(Vec<DeviceClass>, Joint), NetworkError> {
    let members = members(devices);
    let mut classes = Vec::with_capacity(members.len());
    for (each, ids) in &members {
        let spec = devices.device(ids[0]).spec.clone();
        let twin = members.iter().any(|(_, other)| other != ids && devices.device(other[0]).spec.model == spec.model);
        let name = if twin { format!("{} ({each} a host)", spec.model) } else { spec.model.clone() };
        let fabric = if members.len() == 1 { Fabric::of_devices(devices)? } else { alone(devices, ids, &name)? };
        classes.push(DeviceClass { name, spec, fabric });
    }
    Ok((classes, joint(devices, &members)))
}

/// The devices of each class, with how many of them each host holds.
fn members(devices: &DeviceGraph) -> Vec<(usize, Vec<DeviceId>)> {
    let mut hosts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for id in devices.device_ids() {
        let device = devices.device(id);
        *hosts.entry((&device.host, &device.spec.model)).or_default() += 1;
    }
    let mut classes: Vec<(usize, Vec<DeviceId>)> = Vec::new();
    for id in devices.device_ids() {
        let device = devices.device(id);
        let each = hosts[&(device.host.as_str(), device.spec.model.as_str())];
        let same = |class: &(usize, Vec<DeviceId>)| class.0 == each && devices.device(class.1[0]).spec == device.spec;
        match classes.iter().position(same) {
            Some(class) => classes[class].1.push(id),
            None => classes.push((each, vec![id])),
        }
    }
    classes
}

/// The fabric of some devices, as if the others were not there.
fn alone(devices: &DeviceGraph, ids: &[DeviceId], name: &str) -> Result<Fabric, NetworkError> {
    let whole = devices.spec();
    let kept: BTreeSet<&str> = ids.iter().map(|id| devices.device(*id).name.as_str()).collect();
    let hosts: BTreeSet<&str> = ids.iter().map(|id| devices.device(*id).host.as_str()).collect();
    let stays = |node: &&cutplane_graph::NodeSpec| match node.kind {
        NodeKind::Device => kept.contains(node.name.as_str()),
        NodeKind::Host => hosts.contains(node.name.as_str()),
        _ => node.host.as_deref().is_none_or(|host| hosts.contains(host)),
    };
    let nodes: Vec<_> = whole.nodes.iter().filter(stays).cloned().collect();
    let names: BTreeSet<&str> = nodes.iter().map(|node| node.name.as_str()).collect();
    let stays =
        |link: &&cutplane_graph::LinkSpec| names.contains(link.from.as_str()) && names.contains(link.to.as_str());
    let links: Vec<_> = whole.links.iter().filter(stays).cloned().collect();
    let model = &devices.device(ids[0]).spec.model;
    let device_models = whole.device_models.iter().filter(|(name, _)| *name == model);
    let device_models = device_models.map(|(name, spec)| (name.clone(), spec.clone())).collect();
    let spec = ClusterSpec { name: format!("{}: {name}", devices.name()), device_models, nodes: nodes.clone(), links };
    let graph = DeviceGraph::build(spec)
        .map_err(|error| NetworkError::NotUniform { cluster: devices.name().to_owned(), problem: error.to_string() })?;
    Fabric::of_devices(&graph)
}

/// The narrowest and the slowest of the routes between classes.
fn joint(devices: &DeviceGraph, members: &[(usize, Vec<DeviceId>)]) -> Joint {
    let mut joint = Joint { bandwidth: f64::INFINITY, latency: 0.0 };
    for (at, (each, from)) in members.iter().enumerate() {
        for (_, to) in &members[at + 1..] {
            let together = &from[..(*each).min(from.len())];
            let routes: Vec<_> =
                together.iter().zip(to.iter().cycle()).filter_map(|(a, b)| devices.route(*a, *b)).collect();
            let mut users: BTreeMap<_, usize> = BTreeMap::new();
            for link in routes.iter().flat_map(|route| &route.links) {
                *users.entry(link.index()).or_default() += 1;
            }
            for route in &routes {
                for link in &route.links {
                    let share = devices.link(*link).bandwidth.get() / users[&link.index()] as f64;
                    joint.bandwidth = joint.bandwidth.min(share);
                }
                joint.latency = joint.latency.max(route.latency.as_secs_f64());
            }
        }
    }
    joint
}
