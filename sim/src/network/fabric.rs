//! A cluster's interconnect as nested domains: what the closed forms price on.

use serde::{Deserialize, Serialize};

use super::error::NetworkError;

/// Most levels of a fabric: for instance NVLink pairs, PCIe switches, host bridges, racks, rows, buildings.
pub const MOST_LEVELS: usize = 6;

/// Technology of a level, which decides the library's overheads and the share of the line rate that it reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Interconnect {
    /// Memory of one host: ranks that are processor cores.
    SharedMemory,
    /// NVLink of a generation (1 Pascal .. 5 Blackwell) between devices: a mesh or a bridge between two.
    #[serde(rename = "nvlink")]
    NvLink(u8),
    /// NVLink of a generation through NVSwitch: every rank reaches every other at its full rate.
    #[serde(rename = "nvswitch")]
    NvSwitch(u8),
    /// AMD's links between accelerators.
    InfinityFabric,
    /// PCI Express of a generation: peer to peer under one switch or root complex.
    Pcie(u8),
    /// Between the sockets of one host: QPI, UPI, xGMI.
    HostBridge,
    /// InfiniBand, with remote direct memory access.
    #[serde(rename = "infiniband")]
    InfiniBand,
    /// Remote direct memory access over converged Ethernet, and cloud fabrics alike.
    Roce,
    /// Ethernet through the kernel's sockets.
    Ethernet,
    /// Intel Omni-Path.
    OmniPath,
}

impl Interconnect {
    /// Whether this level joins machines.
    pub fn crosses_nodes(self) -> bool {
        matches!(self, Self::InfiniBand | Self::Roce | Self::Ethernet | Self::OmniPath)
    }

    /// Line rate of one direction of the usual port, bytes/s: all NVLinks of a device (coverage of
    /// `stas00/ml-engineering`: 80, 150, 300, 450, 900 GB/s by generation), sixteen PCIe lanes; `None` where a port has no
    /// usual rate.
    pub fn usual_bandwidth(self) -> Option<f64> {
        let gigabytes = match self {
            Self::NvLink(1) | Self::NvSwitch(1) => 80.0,
            Self::NvLink(2) | Self::NvSwitch(2) => 150.0,
            Self::NvLink(3) | Self::NvSwitch(3) => 300.0,
            Self::NvLink(4) | Self::NvSwitch(4) => 450.0,
            Self::NvLink(5) | Self::NvSwitch(5) => 900.0,
            Self::Pcie(3) => 15.75,
            Self::Pcie(4) => 31.5,
            Self::Pcie(5) => 63.0,
            Self::Pcie(6) => 121.0,
            _ => return None,
        };
        Some(gigabytes * 1e9)
    }
}

/// One level of a fabric: what joins the domains of the level below.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Level {
    /// Technology.
    pub interconnect: Interconnect,
    /// Ranks in one domain of this level; a multiple of the level below's.
    pub ranks: usize,
    /// Ports that each domain below has into this level: 1 for a device or a PCIe switch, the number of network cards for a
    /// node.
    pub ports: usize,
    /// Line rate of one port in one direction, bytes/s.
    pub bandwidth: f64,
    /// Latency of the wires and switches of this level, s, above what the library's own hop costs.
    pub latency: f64,
    /// Line rate into the level over what its core carries; at least 1.
    pub oversubscription: f64,
    /// What a large message was measured to reach on one port, bytes/s, where it was: it replaces the line rate times the
    /// library's usual share of it.
    pub achieved: Option<f64>,
}

impl Level {
    /// A level that is not oversubscribed, with one port and no latency of its own.
    pub fn new(interconnect: Interconnect, ranks: usize, bandwidth: f64) -> Self {
        Self { interconnect, ranks, ports: 1, bandwidth, latency: 0.0, oversubscription: 1.0, achieved: None }
    }

    /// The same level with `ports` ports into it from each domain below.
    #[must_use]
    pub fn ports(self, ports: usize) -> Self {
        Self { ports, ..self }
    }

    /// The same level with its own latency, s.
    #[must_use]
    pub fn latency(self, latency: f64) -> Self {
        Self { latency, ..self }
    }

    /// The same level, oversubscribed.
    #[must_use]
    pub fn oversubscribed(self, oversubscription: f64) -> Self {
        Self { oversubscription, ..self }
    }

    /// The same level with a measured bandwidth of one port, bytes/s.
    #[must_use]
    pub fn achieving(self, bandwidth: f64) -> Self {
        Self { achieved: Some(bandwidth), ..self }
    }
}

/// A cluster's interconnect as nested domains, innermost first; ranks are numbered domain by domain.
///
/// ```
/// use cutplane_sim::network::{Fabric, Interconnect, Level};
/// // 16 DGX A100: NVSwitch inside, 8 cards of 200 Gb/s to each.
/// let fabric = Fabric::new("dgx-a100 x16", vec![
///     Level::new(Interconnect::NvSwitch(3), 8, 300e9),
///     Level::new(Interconnect::InfiniBand, 128, 25e9).ports(8),
/// ])?;
/// assert_eq!((fabric.ranks(), fabric.node()), (128, 8));
/// # Ok::<(), cutplane_sim::network::NetworkError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Fabric {
    name: String,
    levels: Vec<Level>,
    node: usize,
}

impl Fabric {
    /// Checks levels, innermost first.
    ///
    /// # Errors
    /// [`NetworkError::Levels`] or [`NetworkError::Level`], naming the field.
    pub fn new(name: impl Into<String>, levels: Vec<Level>) -> Result<Self, NetworkError> {
        let name = name.into();
        if levels.is_empty() || levels.len() > MOST_LEVELS {
            return Err(NetworkError::Levels { fabric: name, levels: levels.len(), most: MOST_LEVELS });
        }
        let mut below = 1;
        for (index, level) in levels.iter().enumerate() {
            check(&name, index, level, below)?;
            below = level.ranks;
        }
        let inside = levels.iter().take_while(|level| !level.interconnect.crosses_nodes());
        let node = inside.last().map_or(1, |level| level.ranks);
        Ok(Self { name, levels, node })
    }

    /// The same fabric with other measured bandwidths: `achieved` gets the index of a level and what it has.
    pub(super) fn with_achieved(&self, achieved: impl Fn(usize, Option<f64>) -> Option<f64>) -> Self {
        let levels = self.levels.iter().enumerate();
        let levels = levels.map(|(at, level)| Level { achieved: achieved(at, level.achieved), ..*level }).collect();
        Self { name: self.name.clone(), levels, node: self.node }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its levels, innermost first.
    pub fn levels(&self) -> &[Level] {
        &self.levels
    }

    /// Ranks of the whole fabric.
    pub fn ranks(&self) -> usize {
        self.levels.last().map_or(1, |level| level.ranks)
    }

    /// Ranks of one node: of the widest level that does not cross nodes.
    pub fn node(&self) -> usize {
        self.node
    }
}

fn check(fabric: &str, index: usize, level: &Level, below: usize) -> Result<(), NetworkError> {
    let refuse = |field, value: String, remedy| {
        Err(NetworkError::Level { fabric: fabric.to_owned(), level: index, field, value, remedy })
    };
    let positive = |value: f64| value.is_finite() && value > 0.0;
    if level.ranks < below || !level.ranks.is_multiple_of(below) {
        return refuse("ranks", level.ranks.to_string(), "it must be a multiple of the ranks of the level below");
    }
    if level.ports == 0 {
        return refuse("ports", level.ports.to_string(), "at least one port joins a domain to the level");
    }
    if !positive(level.bandwidth) {
        return refuse("bandwidth", level.bandwidth.to_string(), "write bytes a second above zero");
    }
    if level.achieved.is_some_and(|achieved| !positive(achieved)) {
        return refuse("achieved", format!("{:?}", level.achieved), "write bytes a second above zero, or nothing");
    }
    if !(level.latency.is_finite() && level.latency >= 0.0) {
        return refuse("latency", level.latency.to_string(), "write seconds, zero or more");
    }
    if !(level.oversubscription.is_finite() && level.oversubscription >= 1.0) {
        return refuse("oversubscription", level.oversubscription.to_string(), "write 1 for none, 2 for 2:1");
    }
    Ok(())
}
