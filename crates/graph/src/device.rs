//! The device graph: devices, hosts, switches and network cards, joined by links with bandwidth and latency.
//!
//! Routes are paths of least cost for a message of 1 MiB that pass through hosts, switches and cards, but never through
//! another device: accelerators do not forward traffic.

use std::collections::{HashMap, HashSet};

use cutplane_units::{Bytes, BytesPerSecond, Nanos};
use petgraph::algo::astar;
use petgraph::graph::{DiGraph, EdgeIndex, NodeIndex};
use petgraph::visit::{EdgeFiltered, EdgeRef};

use crate::accelerator::AcceleratorFacts;
use crate::cluster::{ClusterSpec, DeviceSpec, LinkKind, LinkSpec, NodeKind, NodeSpec};
use crate::error::DeviceGraphError;
use crate::ids::{DeviceId, LinkId};

/// A compute device.
#[derive(Clone, Debug, PartialEq)]
pub struct Device {
    /// Its name.
    pub name: String,
    /// Facts of its model.
    pub spec: DeviceSpec,
    /// Name of the host that it sits in; a device without one is its own host.
    pub host: String,
}

/// A directed link.
#[derive(Clone, Debug, PartialEq)]
pub struct Link {
    /// Technology.
    pub kind: LinkKind,
    /// Bandwidth of this direction.
    pub bandwidth: BytesPerSecond,
    /// Latency.
    pub latency: Nanos,
}

/// A path between two devices.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// Links in order; empty from a device to itself.
    pub links: Vec<LinkId>,
    /// Sum of the links' latencies.
    pub latency: Nanos,
    /// The narrowest link's bandwidth.
    pub bandwidth: BytesPerSecond,
}

impl Route {
    /// Time for one message alone on the route: latency plus size over bandwidth.
    pub fn transfer_time(&self, payload: Bytes) -> Nanos {
        if self.links.is_empty() { Nanos::ZERO } else { self.latency + payload.transfer_time(self.bandwidth) }
    }
}

#[derive(Clone, Debug)]
struct Node {
    name: String,
    device: Option<DeviceId>,
}

/// Devices and what joins them; built once from a [`ClusterSpec`], never changed.
#[derive(Clone, Debug)]
pub struct DeviceGraph {
    spec: ClusterSpec,
    graph: DiGraph<Node, Link>,
    devices: Vec<Device>,
    nodes: Vec<NodeIndex>,
}

impl DeviceGraph {
    /// Checks a cluster and builds its graph.
    ///
    /// # Errors
    /// [`DeviceGraphError`], naming the node or link.
    pub fn build(spec: ClusterSpec) -> Result<Self, DeviceGraphError> {
        let mut graph = DiGraph::new();
        let mut by_name = HashMap::new();
        let (mut devices, mut nodes) = (Vec::new(), Vec::new());
        for model in spec.device_models.values() {
            check_device_model(&spec.name, model)?;
        }
        for node in &spec.nodes {
            let device = device_of(&spec, node)?;
            let id = device.is_some().then(|| DeviceId::new(devices.len()));
            let index = graph.add_node(Node { name: node.name.clone(), device: id });
            if by_name.insert(node.name.as_str(), index).is_some() {
                return Err(DeviceGraphError::DuplicateName { cluster: spec.name.clone(), name: node.name.clone() });
            }
            if let Some(device) = device {
                devices.push(device);
                nodes.push(index);
            }
        }
        if devices.is_empty() {
            return Err(DeviceGraphError::NoDevices { cluster: spec.name.clone() });
        }
        for link in &spec.links {
            let (from, to, directed) = check_link(&spec, link, &by_name)?;
            graph.add_edge(from, to, directed.clone());
            graph.add_edge(to, from, directed);
        }
        let built = Self { spec, graph, devices, nodes };
        built.check_connected()?;
        Ok(built)
    }

    /// One search from the first device; like a route, it never passes through another device.
    fn check_connected(&self) -> Result<(), DeviceGraphError> {
        let start = self.nodes[0];
        let mut reached = HashSet::from([start]);
        let mut frontier = vec![start];
        while let Some(node) = frontier.pop() {
            for next in self.graph.neighbors(node) {
                if reached.insert(next) && self.graph[next].device.is_none() {
                    frontier.push(next);
                }
            }
        }
        match self.device_ids().find(|id| !reached.contains(&self.nodes[id.index()])) {
            None => Ok(()),
            Some(id) => Err(DeviceGraphError::Disconnected {
                cluster: self.spec.name.clone(),
                from: self.devices[0].name.clone(),
                to: self.device(id).name.clone(),
            }),
        }
    }

    /// The data that the graph was built from.
    pub fn spec(&self) -> &ClusterSpec {
        &self.spec
    }

    /// Name of the cluster.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// A digest of the whole cluster.
    pub fn digest(&self) -> String {
        crate::digest_of(&self.spec)
    }

    /// All devices.
    pub fn devices(&self) -> &[Device] {
        &self.devices
    }

    /// All device ids.
    pub fn device_ids(&self) -> impl DoubleEndedIterator<Item = DeviceId> + ExactSizeIterator + use<> {
        (0..self.devices.len()).map(DeviceId::new)
    }

    /// One device.
    pub fn device(&self, id: DeviceId) -> &Device {
        &self.devices[id.index()]
    }

    /// The device of this name.
    pub fn device_by_name(&self, name: &str) -> Option<DeviceId> {
        self.devices.iter().position(|device| device.name == name).map(DeviceId::new)
    }

    /// One directed link.
    pub fn link(&self, id: LinkId) -> &Link {
        &self.graph[EdgeIndex::new(id.index())]
    }

    /// The names of a link's two ends.
    pub fn link_ends(&self, id: LinkId) -> (&str, &str) {
        let (from, to) = self.graph.edge_endpoints(EdgeIndex::new(id.index())).expect("links are never removed");
        (&self.graph[from].name, &self.graph[to].name)
    }

    /// Number of directed links.
    pub fn link_count(&self) -> usize {
        self.graph.edge_count()
    }

    /// The path from one device to another that moves 1 MiB soonest, or `None` when nothing joins them.
    pub fn route(&self, from: DeviceId, to: DeviceId) -> Option<Route> {
        if from == to {
            return Some(Route {
                links: Vec::new(),
                latency: Nanos::ZERO,
                bandwidth: BytesPerSecond::new(f64::INFINITY),
            });
        }
        let (start, goal) = (self.nodes[from.index()], self.nodes[to.index()]);
        let cost =
            |link: &Link| link.latency.get().saturating_add(Bytes::new(1 << 20).transfer_time(link.bandwidth).get());
        let forwards = |node: NodeIndex| self.graph[node].device.is_none();
        let ways = EdgeFiltered::from_fn(&self.graph, |edge| {
            let (from, to) = (edge.source(), edge.target());
            (from == start || forwards(from)) && (to == goal || forwards(to))
        });
        let (_, path) = astar(&ways, start, |node| node == goal, |edge| cost(edge.weight()), |_| 0)?;
        let hop = |pair: &[NodeIndex]| {
            let parallel = self.graph.edges_connecting(pair[0], pair[1]);
            parallel.min_by_key(|edge| cost(edge.weight())).map(|edge| edge.id())
        };
        let edges: Option<Vec<EdgeIndex>> = path.windows(2).map(hop).collect();
        let links: Vec<LinkId> = edges?.into_iter().map(|edge| LinkId::new(edge.index())).collect();
        let latency = links.iter().map(|id| self.link(*id).latency).sum();
        let narrowest = links.iter().map(|id| self.link(*id).bandwidth.get()).fold(f64::INFINITY, f64::min);
        Some(Route { links, latency, bandwidth: BytesPerSecond::new(narrowest) })
    }
}

fn positive(cluster: &str, name: &str, what: &'static str, value: f64) -> Result<(), DeviceGraphError> {
    if value.is_finite() && value > 0.0 {
        return Ok(());
    }
    let (cluster, name) = (cluster.to_owned(), name.to_owned());
    Err(DeviceGraphError::NotPositive { cluster, what, name, value: value.to_string() })
}

fn check_device_model(cluster: &str, spec: &DeviceSpec) -> Result<(), DeviceGraphError> {
    let check = |(what, value): (&'static str, f64)| positive(cluster, &spec.model, what, value);
    [
        ("memory_gib", spec.memory_gib),
        ("memory_bandwidth_gb_per_s", spec.memory_bandwidth_gb_per_s),
        ("matmul_efficiency", spec.matmul_efficiency),
        ("memory_efficiency", spec.memory_efficiency),
        // No overhead at all is possible.
        ("launch_overhead_us", if spec.launch_overhead_us == 0.0 { 1.0 } else { spec.launch_overhead_us }),
    ]
    .into_iter()
    .chain(spec.peak_tflop_per_s.values().map(|peak| ("peak_tflop_per_s", *peak)))
    .chain(spec.accelerator.iter().flat_map(AcceleratorFacts::numbers))
    .try_for_each(check)
}

fn device_of(spec: &ClusterSpec, node: &NodeSpec) -> Result<Option<Device>, DeviceGraphError> {
    let refuse =
        |problem| Err(DeviceGraphError::DeviceFacts { cluster: spec.name.clone(), name: node.name.clone(), problem });
    match (node.kind, &node.model) {
        (NodeKind::Device, None) => refuse("is a device without a 'model'"),
        (NodeKind::Device, Some(model)) => match spec.device_models.get(model) {
            None => refuse("has a 'model' that [device_models] does not list"),
            Some(facts) => {
                let host = node.host.clone().unwrap_or_else(|| node.name.clone());
                Ok(Some(Device { name: node.name.clone(), spec: facts.clone(), host }))
            }
        },
        (_, Some(_)) => refuse("has a 'model' but is no device"),
        (_, None) => Ok(None),
    }
}

fn check_link(
    spec: &ClusterSpec,
    link: &LinkSpec,
    nodes: &HashMap<&str, NodeIndex>,
) -> Result<(NodeIndex, NodeIndex, Link), DeviceGraphError> {
    let cluster = || spec.name.clone();
    let end = |name: &str| {
        nodes.get(name).copied().ok_or_else(|| DeviceGraphError::UnknownNode {
            cluster: cluster(),
            from: link.from.clone(),
            to: link.to.clone(),
            missing: name.to_owned(),
        })
    };
    let (from, to) = (end(&link.from)?, end(&link.to)?);
    if from == to {
        return Err(DeviceGraphError::SelfLink { cluster: cluster(), name: link.from.clone() });
    }
    let name = format!("{} - {}", link.from, link.to);
    positive(&spec.name, &name, "bandwidth_gb_per_s", link.bandwidth_gb_per_s)?;
    if !(link.latency_us.is_finite() && link.latency_us >= 0.0) {
        let value = link.latency_us.to_string();
        return Err(DeviceGraphError::NotPositive { cluster: cluster(), what: "latency_us", name, value });
    }
    let bandwidth = BytesPerSecond::new(link.bandwidth_gb_per_s * 1e9);
    Ok((from, to, Link { kind: link.kind, bandwidth, latency: Nanos::from_secs_f64(link.latency_us * 1e-6) }))
}
