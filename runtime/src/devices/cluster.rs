//! The cluster that a device list of this machine stands for.

use std::collections::BTreeMap;

use cutplane_graph::{ClusterSpec, DeviceKind, DeviceSpec, Dtype, LinkKind, LinkSpec, NodeKind, NodeSpec};

use super::{Capability, Card, DeviceList, Nvlink, Place};

const HOST: &str = "host";
const NVSWITCH: &str = "nvswitch";
/// Priors where the datasheet of the card is not known, as in the catalogue.
const LATENCY_US: f64 = 1.0;
const PCIE_GB_PER_S: f64 = 15.75;
const GIB: f64 = (1u64 << 30) as f64;

impl Card {
    /// Facts of the card from what its driver tells, for a card that no catalogue knows. Peaks are clock x
    /// multiprocessors x operations a clock of the architecture, from NVIDIA's architecture white papers;
    /// efficiencies and launch overhead are priors.
    pub fn spec(&self) -> DeviceSpec {
        let tera = |per_clock: f64| {
            let clock = if self.clock_mhz == 0 { 1500.0 } else { f64::from(self.clock_mhz) };
            f64::from(self.multiprocessors.max(1)) * per_clock * clock * 1e6 / 1e12
        };
        let (vector, tensor) = operations_per_clock(self.capability);
        let mut peaks = BTreeMap::from([(Dtype::F32, tera(vector))]);
        if let Some(tensor) = tensor {
            peaks.insert(Dtype::F16, tera(tensor));
            if self.capability.major >= 8 {
                peaks.insert(Dtype::Bf16, tera(tensor));
            }
        }
        // Two transfers a clock, eight bits a byte.
        let bandwidth = f64::from(self.memory_clock_mhz) * 1e6 * 2.0 * f64::from(self.memory_bus_bits) / 8.0 / 1e9;
        DeviceSpec {
            model: self.name.clone(),
            kind: DeviceKind::Gpu,
            memory_gib: self.memory_bytes as f64 / GIB,
            peak_tflop_per_s: peaks,
            memory_bandwidth_gb_per_s: if bandwidth > 0.0 { bandwidth } else { 300.0 },
            launch_overhead_us: 5.0,
            matmul_efficiency: 0.8,
            memory_efficiency: 0.85,
            accelerator: None,
            source: "clocks and widths that the driver tells; efficiencies and launch overhead are priors".to_owned(),
        }
    }
}

/// Floating-point operations a clock of one multiprocessor: f32 vector, and dense f16 on tensor cores.
fn operations_per_clock(capability: Capability) -> (f64, Option<f64>) {
    match (capability.major, capability.minor) {
        (0..=5, _) | (6, 1..) => (256.0, None),
        (6, _) => (128.0, None),
        (7, _) => (128.0, Some(1024.0)),
        (8, 0) => (128.0, Some(2048.0)),
        (8 | 12.., _) => (256.0, Some(1024.0)),
        (9, _) => (256.0, Some(4096.0)),
        (10..=11, _) => (256.0, Some(8192.0)),
    }
}

/// The cluster of `list` on this machine: cores as `cores` describes them (a cluster of [`DeviceList::cores`] cores,
/// with its own host), cards as `spec_of` describes them. Ranks that share a card are devices of their own, named
/// `cuda:0/0`, `cuda:0/1`, ..., with an even share of its memory; they meet at a switch with the bandwidth of that
/// memory. Each card is the host of its ranks: they contend with each other for it, not with other cards.
pub fn local_cluster(
    list: &DeviceList,
    cards: &[Card],
    cores: Option<&ClusterSpec>,
    spec_of: &dyn Fn(&Card) -> DeviceSpec,
) -> ClusterSpec {
    let places = list.places(cards.len());
    let mut cluster = ClusterSpec {
        name: list.to_string(),
        device_models: cores.map(|cores| cores.device_models.clone()).unwrap_or_default(),
        nodes: vec![node(HOST, NodeKind::Host)],
        links: cores.map(|cores| cores.links.clone()).unwrap_or_default(),
    };
    let core_nodes = cores.into_iter().flat_map(|cores| &cores.nodes).filter(|node| node.kind == NodeKind::Device);
    let mut core_nodes = core_nodes.cloned();
    let used: Vec<&Card> = cards.iter().filter(|card| ranks_on(&places, card) > 0).collect();
    let specs: BTreeMap<usize, DeviceSpec> = used.iter().map(|card| (card.index, spec_of(card))).collect();
    let mut placed = BTreeMap::<usize, usize>::new();
    for place in &places {
        match place {
            Place::Cpu { .. } => cluster.nodes.extend(core_nodes.next()),
            Place::Cuda { card } => {
                let (Some(known), Some(spec)) = (cards.get(*card), specs.get(card)) else { continue };
                let sharer = placed.entry(*card).or_default();
                add_rank(&mut cluster, known, spec, *sharer, ranks_on(&places, known));
                *sharer += 1;
            }
        }
    }
    for card in &used {
        add_links(&mut cluster, card, &specs[&card.index], &used, &places);
    }
    cluster
}

fn ranks_on(places: &[Place], card: &Card) -> usize {
    places.iter().filter(|place| place.card() == Some(card.index)).count()
}

fn add_rank(cluster: &mut ClusterSpec, card: &Card, spec: &DeviceSpec, sharer: usize, ranks: usize) {
    let memory_gib = (card.memory_bytes >> 20) as f64 / 1024.0 / ranks as f64;
    let key = if ranks == 1 { spec.model.clone() } else { format!("{} / {ranks}", spec.model) };
    let name = if ranks == 1 { format!("cuda:{}", card.index) } else { format!("cuda:{}/{sharer}", card.index) };
    cluster.device_models.entry(key.clone()).or_insert_with(|| DeviceSpec { memory_gib, ..spec.clone() });
    if ranks > 1 {
        cluster.links.push(link(&name, &port(card, ranks), LinkKind::SharedMemory, spec.memory_bandwidth_gb_per_s));
    }
    let host = Some(format!("card {}", card.index));
    cluster.nodes.push(NodeSpec { name, kind: NodeKind::Device, model: Some(key), host });
}

/// The node at which links of a card end: its only rank, or the switch at which its ranks meet.
fn port(card: &Card, ranks: usize) -> String {
    if ranks == 1 { format!("cuda:{}", card.index) } else { format!("cuda:{}/memory", card.index) }
}

fn add_links(cluster: &mut ClusterSpec, card: &Card, spec: &DeviceSpec, used: &[&Card], places: &[Place]) {
    let ranks = ranks_on(places, card);
    let port_of = |card: &Card| port(card, ranks_on(places, card));
    if ranks > 1 {
        cluster.nodes.push(node(&port_of(card), NodeKind::Switch));
    }
    let pcie = card.pcie.map_or(PCIE_GB_PER_S, super::Pcie::bandwidth_gb_per_s);
    cluster.links.push(link(&port_of(card), HOST, LinkKind::Pcie, pcie.min(spec.memory_bandwidth_gb_per_s)));
    let sum = |joins: &dyn Fn(&Nvlink) -> bool| -> f64 {
        card.nvlinks.iter().filter(|nvlink| joins(nvlink)).map(Nvlink::bandwidth_gb_per_s).sum()
    };
    let to_switch = sum(&|nvlink| nvlink.to_card.is_none());
    if to_switch > 0.0 && used.len() > 1 {
        if !cluster.nodes.iter().any(|node| node.name == NVSWITCH) {
            cluster.nodes.push(node(NVSWITCH, NodeKind::Switch));
        }
        cluster.links.push(link(&port_of(card), NVSWITCH, LinkKind::Nvlink, to_switch));
    }
    // A link of two cards is drawn once, from the lower number.
    for other in used.iter().filter(|other| other.index > card.index) {
        let direct = sum(&|nvlink| same_address(nvlink.to_card.as_deref(), other.pci_bus_id.as_deref()));
        if direct > 0.0 {
            cluster.links.push(link(&port_of(card), &port_of(other), LinkKind::Nvlink, direct));
        }
    }
}

/// PCI addresses are written with domains of four or eight digits, in either case.
fn same_address(a: Option<&str>, b: Option<&str>) -> bool {
    let numbers = |text: &str| -> Option<Vec<u32>> {
        text.split([':', '.']).map(|part| u32::from_str_radix(part, 16).ok()).collect()
    };
    matches!((a.and_then(numbers), b.and_then(numbers)), (Some(a), Some(b)) if a == b)
}

fn node(name: &str, kind: NodeKind) -> NodeSpec {
    NodeSpec { name: name.to_owned(), kind, model: None, host: None }
}

fn link(from: &str, to: &str, kind: LinkKind, bandwidth_gb_per_s: f64) -> LinkSpec {
    LinkSpec { from: from.to_owned(), to: to.to_owned(), kind, bandwidth_gb_per_s, latency_us: LATENCY_US }
}
