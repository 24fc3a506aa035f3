//! Machines of accelerators: devices on a fabric switch and on PCIe, network cards, one network switch.

use std::collections::BTreeMap;

use cutplane_graph::{ClusterSpec, DeviceSpec, LinkSpec, NodeKind, NodeSpec};

use super::catalogue::{Chassis, Port};

/// The network switch that joins the machines; non-blocking.
pub(super) const NETWORK: &str = "network";

/// A kind of machine.
pub(super) struct Machines<'a> {
    /// Machines are named `{prefix}-0`, `{prefix}-1`, ...
    pub(super) prefix: &'a str,
    pub(super) spec: &'a DeviceSpec,
    pub(super) chassis: &'a Chassis,
}

impl Machines<'_> {
    /// A cluster of `devices` devices in full machines, the last one perhaps partly filled. Cards and the network
    /// switch are left out of a cluster of one machine.
    pub(super) fn of(&self, devices: usize, name: &str) -> ClusterSpec {
        self.joined(devices, name, devices > self.chassis.devices)
    }

    /// As [`Machines::of`], with cards and the network switch where `joined`.
    pub(super) fn joined(&self, devices: usize, name: &str, joined: bool) -> ClusterSpec {
        let machines = devices.div_ceil(self.chassis.devices);
        let mut cluster = ClusterSpec {
            name: name.to_owned(),
            device_models: BTreeMap::from([(self.spec.model.clone(), self.spec.clone())]),
            nodes: Vec::new(),
            links: Vec::new(),
        };
        for machine in 0..machines {
            let filled = self.chassis.devices.min(devices - machine * self.chassis.devices);
            let host = format!("{}-{machine}", self.prefix);
            self.add_machine(&mut cluster, &host, filled);
            if joined {
                self.add_cards(&mut cluster, &host, filled);
            }
        }
        if joined {
            cluster.nodes.push(node(NETWORK, NodeKind::Switch));
        }
        cluster
    }

    fn add_machine(&self, cluster: &mut ClusterSpec, host: &str, devices: usize) {
        let switch = format!("{host}/switch");
        cluster.nodes.push(node(host, NodeKind::Host));
        cluster.nodes.push(node(&switch, NodeKind::Switch));
        for index in 0..devices {
            let device = format!("{host}/gpu{index}");
            cluster.links.push(link(&device, &switch, &self.chassis.fabric));
            cluster.links.push(link(&device, host, &self.chassis.host_link));
            let model = Some(self.spec.model.clone());
            cluster.nodes.push(NodeSpec { name: device, kind: NodeKind::Device, model, host: Some(host.to_owned()) });
        }
    }

    /// Neighbouring devices share a card when there are fewer cards than devices.
    fn add_cards(&self, cluster: &mut ClusterSpec, host: &str, devices: usize) {
        let share = self.chassis.devices.div_ceil(self.chassis.nics);
        for card in 0..devices.div_ceil(share) {
            let name = format!("{host}/nic{card}");
            for device in card * share..devices.min((card + 1) * share) {
                cluster.links.push(link(&format!("{host}/gpu{device}"), &name, &self.chassis.host_link));
            }
            cluster.links.push(link(&name, NETWORK, &self.chassis.network));
            cluster.nodes.push(NodeSpec { host: Some(host.to_owned()), ..node(&name, NodeKind::Nic) });
        }
    }
}

pub(super) fn node(name: &str, kind: NodeKind) -> NodeSpec {
    NodeSpec { name: name.to_owned(), kind, model: None, host: None }
}

pub(super) fn link(from: &str, to: &str, port: &Port) -> LinkSpec {
    LinkSpec {
        from: from.to_owned(),
        to: to.to_owned(),
        kind: port.kind,
        bandwidth_gb_per_s: port.bandwidth_gb_per_s,
        latency_us: port.latency_us,
    }
}
