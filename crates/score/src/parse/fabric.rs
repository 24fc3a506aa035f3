//! The interconnect of a row as the network model takes it.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use cutplane_graph::{Architecture, DeviceGraph, DeviceSpec};
use cutplane_sim::network::{Fabric, Interconnect as Link, Level};

use super::interconnect::{Between, BetweenKind, Inside, InsideKind, Interconnect, NetworkBandwidth, interconnect};
use crate::prediction::{Origin, Skip, TraceEntry};
use crate::row::Row;

/// Nodes of a fabric that is made for a row: no measurement has more.
const MOST_NODES: usize = 1 << 15;
/// Gb/s a node where neither the row nor the catalogue says.
const ASSUMED_NODE_GBPS: f64 = 100.0;

/// What a large message reaches between virtual machines of a cloud that has no remote direct memory access: sockets, copies
/// through host memory, bytes/s. Assumed.
const CLOUD_SOCKETS: f64 = 1.7e9;
/// What a message between two devices reaches where the virtual machine has no peer access and it crosses host memory, bytes/s.
/// Assumed.
const CLOUD_STAGED: f64 = 6e9;

/// A row's fabric and where its numbers come from.
#[derive(Clone, Debug, PartialEq)]
pub struct RowFabric {
    /// The fabric.
    pub fabric: Fabric,
    /// What was read, and what was assumed.
    pub trace: Vec<TraceEntry>,
}

/// The interconnect of a row: what its own columns say, completed by the usual machine of its device in the catalogue.
///
/// # Errors
/// [`Skip`] `unknown-hardware`, `unknown-interconnect`, `heterogeneous-interconnect`, `impossible-fabric`.
pub fn fabric(row: &Row, device: &DeviceSpec) -> Result<RowFabric, Skip> {
    let text = interconnect(&row.interconnect)?;
    let usual = usual_fabric(device);
    let usual = usual.as_deref();
    let mut trace = Vec::new();
    let node = node_size(row, &text, usual, &mut trace);
    let mut levels = inside_levels(&text, device, usual, node, &mut trace);
    levels.push(outside(&text, usual, row, node, &mut trace));
    if row.interconnect.to_ascii_lowercase().contains("ec2 network") {
        for level in &mut levels {
            virtualise(level, &mut trace);
        }
    }
    let fabric = Fabric::new(row.hardware.clone(), levels).map_err(|error| impossible(&error.to_string()))?;
    Ok(RowFabric { fabric, trace })
}

/// What a cloud's virtual machine leaves of a link without peer or remote access to devices.
fn virtualise(level: &mut Level, trace: &mut Vec<TraceEntry>) {
    let most = match level.interconnect {
        Link::Pcie(_) => CLOUD_STAGED,
        Link::Ethernet => CLOUD_SOCKETS,
        _ => return,
    };
    let line = level.bandwidth * 0.7;
    if most < line {
        level.achieved = Some(most);
        trace.push(entry("bandwidth of a virtual machine's link", format!("{:.1} GB/s", most / 1e9), Origin::Assumed));
    }
}

/// Fabrics of the catalogue's machines by device model: they are asked for once a row.
static USUAL: LazyLock<Mutex<HashMap<String, Option<Arc<Fabric>>>>> = LazyLock::new(Mutex::default);

/// Devices of the catalogue's cluster that tells the usual machine: more than most machines hold, else more than all.
const SAMPLES: [usize; 2] = [32, 288];

/// The catalogue's usual machine of a device, with the network between machines where one is known.
fn usual_fabric(device: &DeviceSpec) -> Option<Arc<Fabric>> {
    let mut known = USUAL.lock().unwrap_or_else(PoisonError::into_inner);
    known.entry(device.model.clone()).or_insert_with(|| sample_fabric(&device.model).map(Arc::new)).clone()
}

fn sample_fabric(model: &str) -> Option<Fabric> {
    let of = |devices: usize| {
        let cluster = cutplane_zoo::cluster(&format!("{model}:{devices}")).ok()?;
        Fabric::of_devices(&DeviceGraph::build(cluster).ok()?).ok()
    };
    let crosses = |fabric: &Fabric| fabric.levels().iter().any(|level| level.interconnect.crosses_nodes());
    let first = of(SAMPLES[0])?;
    if crosses(&first) {
        return Some(first);
    }
    of(SAMPLES[1]).filter(crosses).or(Some(first))
}

fn impossible(problem: &str) -> Skip {
    Skip::new("impossible-fabric", problem)
}

fn entry(name: &'static str, value: String, origin: Origin) -> TraceEntry {
    TraceEntry { name: name.into(), value, origin }
}

/// Devices of the innermost domain that one technology joins: an NVLink domain, or a node.
fn node_size(row: &Row, text: &Interconnect, usual: Option<&Fabric>, trace: &mut Vec<TraceEntry>) -> usize {
    if let Some(domain) = text.domain {
        trace.push(entry("devices of an NVLink domain", domain.to_string(), Origin::Stated));
        return domain as usize;
    }
    if let Some(stated) = row.gpus_per_node {
        return stated as usize;
    }
    let usual = usual.map_or(8, Fabric::node).max(1);
    let gpus = row.gpus.map_or(usual, |gpus| gpus as usize);
    let assumed = if gpus < usual { gpus } else { usual };
    trace.push(entry("devices of a node", assumed.to_string(), Origin::Assumed));
    assumed
}

fn inside_levels(
    text: &Interconnect,
    device: &DeviceSpec,
    usual: Option<&Fabric>,
    node: usize,
    trace: &mut Vec<TraceEntry>,
) -> Vec<Level> {
    let Some(inside) = text.inside else {
        trace.push(entry("interconnect of a node", "as the catalogue's machine".to_owned(), Origin::Datasheet));
        return usual_inside(usual, device, node);
    };
    let bandwidth = |kind: InsideKind| bandwidth(inside, kind, device);
    let (origin, rate) = match inside.gb_per_s {
        Some(rate) => (Origin::Stated, rate * 1e9),
        None => (Origin::Datasheet, bandwidth(inside.kind)),
    };
    trace.push(entry("bandwidth of a device inside its node", format!("{:.1} GB/s", rate / 1e9), origin));
    let generation = inside.generation.unwrap_or_else(|| link_generation(device));
    match inside.kind {
        InsideKind::NvLinkPairs if node > 2 && node.is_multiple_of(2) => {
            let beyond = pcie_generation(device);
            vec![
                Level::new(Link::NvLink(generation), 2, rate),
                Level::new(Link::Pcie(beyond), node, pcie_bandwidth(beyond)),
            ]
        }
        InsideKind::NvSwitch => vec![Level::new(Link::NvSwitch(generation), node, rate)],
        InsideKind::NvLink if generation >= 3 => vec![Level::new(Link::NvSwitch(generation), node, rate)],
        InsideKind::NvLink | InsideKind::NvLinkMesh | InsideKind::NvLinkPairs => {
            vec![Level::new(Link::NvLink(generation), node, rate)]
        }
        InsideKind::Pcie => {
            let generation = inside.generation.unwrap_or_else(|| pcie_generation(device));
            vec![Level::new(Link::Pcie(generation), node, rate)]
        }
        InsideKind::InfinityFabric => vec![Level::new(Link::InfinityFabric, node, rate)],
    }
}

/// Bytes a second of a device in one direction, from the generation.
fn bandwidth(inside: Inside, kind: InsideKind, device: &DeviceSpec) -> f64 {
    match kind {
        InsideKind::Pcie => pcie_bandwidth(inside.generation.unwrap_or_else(|| pcie_generation(device))),
        InsideKind::InfinityFabric => 448e9,
        // A bridge of the PCIe cards carries 12 of the links.
        _ => Link::NvLink(inside.generation.unwrap_or_else(|| link_generation(device)))
            .usual_bandwidth()
            .unwrap_or(300e9),
    }
}

fn pcie_bandwidth(generation: u8) -> f64 {
    Link::Pcie(generation).usual_bandwidth().unwrap_or(15.75e9)
}

fn architecture(device: &DeviceSpec) -> Option<Architecture> {
    device.accelerator.as_ref().map(|facts| facts.architecture)
}

/// Generation of NVLink that a family has.
fn link_generation(device: &DeviceSpec) -> u8 {
    match architecture(device) {
        Some(Architecture::Pascal) => 1,
        Some(Architecture::Volta | Architecture::Turing) => 2,
        Some(Architecture::Hopper) => 4,
        Some(Architecture::Blackwell) => 5,
        _ => 3,
    }
}

/// Generation of PCI Express that a family has.
fn pcie_generation(device: &DeviceSpec) -> u8 {
    use Architecture::{Ada, Ampere, Blackwell, Cdna2, Cdna3, Cdna4, Gaudi, Hopper};
    match architecture(device) {
        Some(Hopper | Blackwell | Cdna3 | Cdna4) => 5,
        Some(Ampere | Ada | Cdna2 | Gaudi) => 4,
        _ => 3,
    }
}

/// The catalogue's levels inside a node, cut or stretched to `node` devices.
fn usual_inside(usual: Option<&Fabric>, device: &DeviceSpec, node: usize) -> Vec<Level> {
    let known: Vec<Level> = usual
        .map(|fabric| fabric.levels().iter().filter(|level| !level.interconnect.crosses_nodes()).copied().collect())
        .unwrap_or_default();
    let inner = known.iter().filter(|level| level.ranks < node && node.is_multiple_of(level.ranks)).copied();
    let outer = known.iter().find(|level| level.ranks >= node).or(known.last()).copied();
    let generation = pcie_generation(device);
    let outer = outer.unwrap_or_else(|| Level::new(Link::Pcie(generation), node, pcie_bandwidth(generation)));
    inner.chain([Level { ranks: node, ..outer }]).collect()
}

/// What joins nodes.
fn outside(text: &Interconnect, usual: Option<&Fabric>, row: &Row, node: usize, trace: &mut Vec<TraceEntry>) -> Level {
    let ranks = node * MOST_NODES;
    let known = usual.and_then(|fabric| fabric.levels().iter().find(|level| level.interconnect.crosses_nodes()));
    let crosses = text.crosses_nodes || row.gpus.is_some_and(|gpus| gpus as usize > node);
    let mut say = |value: String, origin| {
        if crosses {
            trace.push(entry("network of a node", value, origin));
        }
    };
    let technology = |between: &Between| match between.kind {
        BetweenKind::InfiniBand => Link::InfiniBand,
        BetweenKind::Roce => Link::Roce,
        BetweenKind::Ethernet => Link::Ethernet,
        BetweenKind::Unstated => known.map_or(Link::InfiniBand, |level| level.interconnect),
    };
    if let Some((between, bandwidth)) = text.between.and_then(|between| Some((between, between.bandwidth?))) {
        let (ports, gbps) = ports_of(bandwidth, node, known);
        say(format!("{ports} x {gbps} Gb/s"), Origin::Stated);
        return Level::new(technology(&between), ranks, gbps * 1.25e8).ports(ports);
    }
    if let Some(level) = known {
        let ports = level.ports.min(node).max(1);
        say(format!("{ports} x {:.0} Gb/s, the catalogue's", level.bandwidth / 1.25e8), Origin::Assumed);
        let interconnect = text.between.map_or(level.interconnect, |between| technology(&between));
        return Level { interconnect, ranks, ports, ..*level };
    }
    say(format!("{ASSUMED_NODE_GBPS} Gb/s"), Origin::Assumed);
    let interconnect = text.between.map_or(Link::Ethernet, |between| technology(&between));
    Level::new(interconnect, ranks, ASSUMED_NODE_GBPS * 1.25e8)
}

/// Cards of a node and Gb/s of each.
fn ports_of(bandwidth: NetworkBandwidth, node: usize, known: Option<&Level>) -> (usize, f64) {
    match bandwidth {
        NetworkBandwidth::Cards(cards, gbps) => (cards.max(1) as usize, gbps),
        NetworkBandwidth::PerDevice(gbps) => (node, gbps),
        // A total says nothing of cards: those of the usual machine, unless they would be slower than 25 Gb/s.
        NetworkBandwidth::PerNode(gbps) => {
            let usual = known.map_or(1, |level| level.ports).min(node).max(1);
            let cards = (1..=usual).rev().find(|cards| gbps / *cards as f64 >= 25.0).unwrap_or(1);
            (cards, gbps / cards as f64)
        }
    }
}
