//! Irregular topologies: what the direct links of a few devices carry.
//!
//! [`Topology`] is the graph of direct links among a group. Its bounds are exact: the rate of a broadcast is the least cut
//! that parts the root from a device (Edmonds 1973), that of an all-reduce over trees the least density of a partition
//! (Nash-Williams, Tutte 1961). [`pack_trees`] finds trees that reach the first (Blink, Wang et al. 2020), and
//! [`find_rings`] the rings that NCCL would use.

mod flow;
mod hybrid;
#[cfg(feature = "ilp")]
mod lp;
mod rings;
mod trees;

use cutplane_graph::{DeviceGraph, DeviceId, LinkId, LinkKind};

use super::error::NetworkError;

pub use hybrid::{Channel, Split, split_over_channels};
#[cfg(feature = "ilp")]
pub use lp::broadcast_rate_by_lp;
pub use rings::{RingSearch, find_rings};
pub use trees::{Packing, Tree, pack_trees};

/// Most devices of a topology: bounds over partitions and ring searches grow fast.
pub const MOST_DEVICES: usize = 64;
/// Most devices whose partitions are enumerated.
const MOST_PARTITIONED: usize = 10;

/// The direct links among a group of devices.
#[derive(Clone, Debug, PartialEq)]
pub struct Topology {
    /// Bandwidth from one device to another, bytes/s, by position in the group; zero without a link.
    capacity: Vec<Vec<f64>>,
}

impl Topology {
    /// The direct links of a kind among `group`, in the order of the group.
    ///
    /// # Errors
    /// [`NetworkError::Topology`] for fewer than two devices, too many, or one listed twice.
    pub fn of(group: &[DeviceId], kind: LinkKind, devices: &DeviceGraph) -> Result<Self, NetworkError> {
        let refuse = |problem: String| Err(NetworkError::Topology { cluster: devices.name().to_owned(), problem });
        if group.len() < 2 || group.len() > MOST_DEVICES {
            return refuse(format!("{} devices: name 2 to {MOST_DEVICES} of them", group.len()));
        }
        if let Some(twice) = group.iter().enumerate().find(|(at, id)| group[..*at].contains(id)) {
            return refuse(format!("'{}' is listed twice: name each device once", devices.device(*twice.1).name));
        }
        let names: Vec<&str> = group.iter().map(|id| devices.device(*id).name.as_str()).collect();
        let mut capacity = vec![vec![0.0; group.len()]; group.len()];
        for id in (0..devices.link_count()).map(LinkId::new) {
            let (from, to) = devices.link_ends(id);
            let place = |name: &str| names.iter().position(|known| *known == name);
            if let (Some(from), Some(to), true) = (place(from), place(to), devices.link(id).kind == kind) {
                capacity[from][to] += devices.link(id).bandwidth.get();
            }
        }
        Ok(Self { capacity })
    }

    /// The links among some of the devices, by position, in the order given.
    #[must_use]
    pub fn among(&self, group: &[usize]) -> Self {
        let row = |from: &usize| group.iter().map(|to| self.capacity[*from][*to]).collect();
        Self { capacity: group.iter().map(row).collect() }
    }

    /// Number of devices.
    pub fn len(&self) -> usize {
        self.capacity.len()
    }

    /// Whether there are no devices; never so for one that [`Topology::of`] made.
    pub fn is_empty(&self) -> bool {
        self.capacity.is_empty()
    }

    /// Bandwidth of the direct links between two devices in one direction, bytes/s.
    pub fn capacity(&self, from: usize, to: usize) -> f64 {
        self.capacity[from][to]
    }

    /// Upper bound, which trees reach, of a broadcast's rate from `root`, bytes/s: the least cut that parts the root from
    /// any device (Edmonds 1973). Zero when some device cannot be reached.
    pub fn broadcast_rate(&self, root: usize) -> f64 {
        let targets = (0..self.len()).filter(|target| *target != root);
        targets.map(|target| flow::max_flow(&self.capacity, root, target).value).fold(f64::INFINITY, f64::min)
    }

    /// Rate of the best all-reduce over spanning trees that reduce upwards and broadcast downwards, bytes/s of buffer: the
    /// least bandwidth between the parts of a partition over the number of parts less one (Nash-Williams, Tutte 1961).
    ///
    /// Exact for up to 10 devices; above, half the broadcast rate, which is always reached. Links are taken to be as wide
    /// in one direction as in the other.
    pub fn all_reduce_rate(&self) -> f64 {
        if self.len() > MOST_PARTITIONED {
            return self.broadcast_rate(0) / 2.0;
        }
        let mut part = vec![0; self.len()];
        self.least_density(1, 1, &mut part)
    }

    /// Least density of the partitions that extend `part[..next]` with `parts` parts.
    fn least_density(&self, next: usize, parts: usize, part: &mut Vec<usize>) -> f64 {
        if next == self.len() {
            return self.density(parts, part);
        }
        let mut least = f64::INFINITY;
        for choice in 0..=parts {
            part[next] = choice;
            least = least.min(self.least_density(next + 1, parts.max(choice + 1), part));
        }
        least
    }

    fn density(&self, parts: usize, part: &[usize]) -> f64 {
        if parts < 2 {
            return f64::INFINITY;
        }
        let pairs = (0..self.len()).flat_map(|from| (0..from).map(move |to| (from, to)));
        let between = pairs.filter(|(from, to)| part[*from] != part[*to]);
        between.map(|(from, to)| self.capacity[from][to].min(self.capacity[to][from])).sum::<f64>() / (parts - 1) as f64
    }
}
