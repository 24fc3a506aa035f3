//! Interconnects.

use serde::Serialize;

use super::words::{is_unstated, leading_number, says};
use crate::prediction::Skip;

/// How the devices of a node are joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum InsideKind {
    /// NVLink through NVSwitch.
    NvSwitch,
    /// NVLink from device to device: cube mesh.
    NvLinkMesh,
    /// NVLink between the two devices of a pair, PCIe beyond.
    NvLinkPairs,
    /// NVLink; the row does not say whether through a switch.
    NvLink,
    /// PCI Express.
    Pcie,
    /// AMD's links.
    InfinityFabric,
}

/// What joins the devices of a node.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Inside {
    /// Technology.
    pub kind: InsideKind,
    /// Its generation.
    pub generation: Option<u8>,
    /// Bandwidth of a device in one direction, GB/s.
    pub gb_per_s: Option<f64>,
}

/// What joins nodes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Between {
    /// Technology.
    pub kind: BetweenKind,
    /// Bandwidth, where the row says.
    pub bandwidth: Option<NetworkBandwidth>,
}

/// Technology of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum BetweenKind {
    /// InfiniBand.
    InfiniBand,
    /// Remote direct memory access over Ethernet, and cloud fabrics alike.
    Roce,
    /// Ethernet through sockets.
    Ethernet,
    /// The row does not say.
    Unstated,
}

/// Bandwidth of a network.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum NetworkBandwidth {
    /// So many cards a node of so many Gb/s each.
    Cards(u64, f64),
    /// So many Gb/s a device.
    PerDevice(f64),
    /// So many Gb/s a node.
    PerNode(f64),
}

/// What an interconnect text says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Interconnect {
    /// Inside a node.
    pub inside: Option<Inside>,
    /// Between nodes.
    pub between: Option<Between>,
    /// Devices of one NVLink domain, where it is larger than a node: 72 of an NVL72 rack.
    pub domain: Option<u64>,
    /// Whether the ranks sit on different nodes even where one node would hold them.
    pub crosses_nodes: bool,
}

/// Reads the column `interconnect`; nothing known of an empty one.
///
/// # Errors
/// [`Skip`] `heterogeneous-interconnect` when nodes differ, `unknown-interconnect` when nothing of a text is understood.
pub fn interconnect(text: &str) -> Result<Interconnect, Skip> {
    let lower = text.trim().to_ascii_lowercase();
    if is_unstated(&lower) || says(&lower, &["not given", "not stated in"]) {
        return Ok(Interconnect::default());
    }
    if says(&lower, &["last node", "first node", "nodes 0..", "heterogeneous"]) {
        return Err(Skip::new("heterogeneous-interconnect", format!("'{text}'")));
    }
    let mut read = Interconnect {
        domain: lower.match_indices("nvl").find_map(|(at, _)| leading_number(&lower[at + 3..])),
        crosses_nodes: says(&lower, &["crosses nodes", "across nodes"]),
        ..Interconnect::default()
    };
    for part in lower.split([';', ',']).flat_map(|part| part.split(" and ")) {
        read.inside = read.inside.or_else(|| inside(part));
        read.between = read.between.or_else(|| between(part));
    }
    if read == Interconnect::default() {
        // A bare rate is the network's.
        read.between = rate_alone(&lower);
    }
    if read == Interconnect::default() {
        return Err(Skip::new("unknown-interconnect", format!("'{text}'")));
    }
    Ok(read)
}

fn rate_alone(lower: &str) -> Option<Between> {
    let figure = figures(lower).next().filter(|_| lower.starts_with(|letter: char| letter.is_ascii_digit()))?;
    let bandwidth = figure
        .count
        .map_or(NetworkBandwidth::PerNode(figure.value), |count| NetworkBandwidth::Cards(count, figure.value));
    Some(Between { kind: BetweenKind::Unstated, bandwidth: Some(bandwidth) })
}

fn inside(part: &str) -> Option<Inside> {
    let nvlink = says(part, &["nvlink", "nvswitch"]);
    let kind = match () {
        () if nvlink && says(part, &["pairwise", "pairs", "bridge"]) => InsideKind::NvLinkPairs,
        () if says(part, &["nvswitch", "nvl72", "nvl36"]) => InsideKind::NvSwitch,
        () if nvlink && says(part, &["mesh"]) => InsideKind::NvLinkMesh,
        () if nvlink => InsideKind::NvLink,
        () if says(part, &["pcie", "pci-e", "pci express"]) => InsideKind::Pcie,
        () if says(part, &["infinity fabric", "xgmi"]) => InsideKind::InfinityFabric,
        () => return None,
    };
    let names: &[&str] = if nvlink { &["nvlink", "nvswitch"] } else { &["pcie", "pci-e", "pci express"] };
    Some(Inside { kind, generation: generation(part, names), gb_per_s: device_gb_per_s(part, nvlink) })
}

/// `nvlink3`, `pcie gen4`, `pcie 4.0 x16`.
fn generation(part: &str, names: &[&str]) -> Option<u8> {
    let after = names.iter().find_map(|name| part.split_once(name).map(|(_, rest)| rest))?;
    let digits = after.trim_start_matches([' ', '-']).trim_start_matches("gen").trim_start();
    leading_number(digits).and_then(|number| u8::try_from(number).ok()).filter(|number| (1..=7).contains(number))
}

/// GB/s of a device in one direction. Vendors count both directions of NVLink unless the text says otherwise.
fn device_gb_per_s(part: &str, nvlink: bool) -> Option<f64> {
    let figure = figures(part).find(|figure| figure.unit == RateUnit::Bytes)?;
    let one_way = says(part, &["per dir", "unidirectional", "each direction", "one direction"]);
    Some(if nvlink && !one_way { figure.value / 2.0 } else { figure.value })
}

/// InfiniBand generations by their four-lane rate, Gb/s.
const INFINIBAND: [(&str, f64); 6] =
    [("xdr", 800.0), ("ndr", 400.0), ("hdr", 200.0), ("edr", 100.0), ("fdr", 56.0), ("qdr", 40.0)];

fn between(part: &str) -> Option<Between> {
    let generation = INFINIBAND.iter().find(|(name, _)| part.contains(name)).map(|(_, rate)| *rate);
    let word = |wanted: &str| part.split(|letter: char| !letter.is_ascii_alphanumeric()).any(|word| word == wanted);
    let kind = match () {
        () if generation.is_some() || says(part, &["infiniband"]) || word("ib") => BetweenKind::InfiniBand,
        () if says(part, &["roce", "rdma", "efa", "gpudirect", "tcpx", "connectx", "slingshot"]) => BetweenKind::Roce,
        () if says(part, &["ethernet", "ec2 network", "gbe", "tcp"]) => BetweenKind::Ethernet,
        () if says(part, &["between", "inter-node", "node-node", "per node", "network", "per gpu"]) => {
            BetweenKind::Unstated
        }
        () => return None,
    };
    // A rate beside NVLink or PCIe is theirs, unless it counts bits.
    let bits = figures(part).find(|figure| figure.unit == RateUnit::Bits);
    let bytes = || {
        let own = !says(part, &["nvlink", "nvswitch", "pcie"]);
        figures(part).find(|_| own).map(|figure| Figure { value: figure.value * 8.0, ..figure })
    };
    let figure = bits.or_else(bytes).or_else(|| {
        let count = count_before_generation(part);
        generation.map(|value| Figure { count, value, unit: RateUnit::Bits, rest: "" })
    });
    let bandwidth = figure.map(|figure| {
        let count = figure.count.or_else(|| count_before_generation(part));
        match count {
            Some(count) => NetworkBandwidth::Cards(count, figure.value),
            None if says(figure.rest, &["per gpu", "/gpu", "per device", "per-gpu"]) => {
                NetworkBandwidth::PerDevice(figure.value)
            }
            None => NetworkBandwidth::PerNode(figure.value),
        }
    });
    Some(Between { kind, bandwidth })
}

/// `8x hdr infiniband`, `4xedr ib`.
fn count_before_generation(part: &str) -> Option<u64> {
    let words: Vec<&str> = part.split([' ', '(', ')']).collect();
    words.iter().find_map(|word| {
        let (count, rest) = word.split_once('x')?;
        let named = rest.is_empty() || INFINIBAND.iter().any(|(name, _)| rest.starts_with(name)) || rest == "ib";
        count.parse().ok().filter(|_| named)
    })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RateUnit {
    Bits,
    Bytes,
}

/// A rate in a text: `8x200 gb/s per node`. The letter B is lost in lower case, so `gb/s` alone counts bytes only beside
/// NVLink, PCIe or `per dir`; networks are stated in bits.
#[derive(Clone, Copy, Debug)]
struct Figure<'a> {
    count: Option<u64>,
    /// In 1e9 bits or bytes a second.
    value: f64,
    unit: RateUnit,
    rest: &'a str,
}

fn figures(part: &str) -> impl Iterator<Item = Figure<'_>> {
    let starts = part.char_indices().filter(|(at, letter)| {
        letter.is_ascii_digit()
            && !part[..*at].ends_with(|before: char| before.is_ascii_alphanumeric() || before == '.')
    });
    starts.filter_map(|(at, _)| figure(&part[at..], says(part, &["nvlink", "nvswitch", "pcie"])))
}

fn figure(text: &str, links: bool) -> Option<Figure<'_>> {
    let number = |text: &str| {
        let end = text.find(|letter: char| !(letter.is_ascii_digit() || letter == '.')).unwrap_or(text.len());
        Some((text[..end].parse::<f64>().ok()?, end))
    };
    let (first, end) = number(text)?;
    let mut rest = text[end..].trim_start();
    let mut count = None;
    let mut value = first;
    if let Some(after) = rest.strip_prefix('x') {
        let after = after.trim_start();
        let (second, end) = number(after)?;
        (count, value, rest) = (Some(first as u64), second, after[end..].trim_start());
    }
    let (scale, unit) = match rest {
        _ if rest.starts_with("tb") => (1000.0, RateUnit::Bits),
        _ if rest.starts_with("gbps") || rest.starts_with("gbe") || rest.starts_with("gbit") => (1.0, RateUnit::Bits),
        _ if rest.starts_with("gb/s") && links => (1.0, RateUnit::Bytes),
        _ if rest.starts_with("gb") => (1.0, RateUnit::Bits),
        _ if rest.starts_with('g') => (1.0, RateUnit::Bits),
        _ => return None,
    };
    Some(Figure { count, value: value * scale, unit, rest })
}
