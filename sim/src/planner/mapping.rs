//! Which physical device each rank of a host takes, where devices are joined irregularly.
//!
//! The ranks of a layout are numbered tensor axis innermost. On a switch any numbering is as good as another; on a hybrid cube
//! mesh, on pairs of bridges or under PCIe switches it is not. [`map_host`] looks at every division of a host's devices into
//! groups of the inner axis, takes the one whose slowest group is fastest, and then orders the groups, and the ranks in
//! them, so that neighbours of the outer axis meet on their widest links.

use cutplane_graph::{DeviceGraph, DeviceId, LinkKind};
use serde::{Deserialize, Serialize};

use crate::network::NetworkError;
use crate::network::topology::Topology;

/// Most devices whose divisions are enumerated; larger hosts keep their own order.
pub const MOST_MAPPED: usize = 8;

/// How the groups of the outer axis talk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outer {
    /// Each with the next, the last with the first: replicas that sum gradients.
    Ring,
    /// Each with the next: pipeline stages.
    Chain,
}

/// The devices of one host in the order of its ranks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostMapping {
    /// Names of the devices, rank by rank, a list for each group of the inner axis.
    pub groups: Vec<Vec<String>>,
    /// Rate of an all-reduce over the direct links of the slowest group, bytes/s; zero where they do not join it.
    pub inner_all_reduce_bytes_per_s: f64,
    /// Narrowest path between neighbours of the outer axis, bytes/s; zero with one group.
    pub outer_bytes_per_s: f64,
}

/// Maps the ranks of one host: groups of `inner` ranks that talk all to all, and equal ranks of neighbouring groups.
///
/// Groups are exact: all divisions are compared, first by the all-reduce rate of the slowest group over direct links, then
/// by its narrowest pair, then by all links inside groups. The order of groups is exact for two of them; of more, every order
/// is tried, and each group's ranks follow those of the group before it.
///
/// # Errors
/// [`NetworkError::Topology`] when `inner` does not divide the devices, or there are none.
pub fn map_host(
    devices: &DeviceGraph,
    host: &[DeviceId],
    inner: usize,
    outer: Outer,
) -> Result<HostMapping, NetworkError> {
    if host.is_empty() || inner == 0 || !host.len().is_multiple_of(inner) {
        let problem = format!("{} devices do not divide into groups of {inner}: choose a divisor", host.len());
        return Err(NetworkError::Topology { cluster: devices.name().to_owned(), problem });
    }
    let mesh = Mesh::new(devices, host)?;
    let groups = if host.len() > MOST_MAPPED || mesh.is_even() {
        (0..host.len() / inner).map(|group| (group * inner..(group + 1) * inner).collect()).collect()
    } else {
        mesh.arrange(mesh.divide(inner), outer)
    };
    let slowest = groups.iter().map(|group| mesh.quality(group).0).fold(f64::INFINITY, f64::min);
    let name = |device: &usize| devices.device(host[*device]).name.clone();
    Ok(HostMapping {
        outer_bytes_per_s: mesh.outer(&groups, outer).0,
        groups: groups.iter().map(|group| group.iter().map(name).collect()).collect(),
        inner_all_reduce_bytes_per_s: if inner > 1 { slowest } else { 0.0 },
    })
}

type Groups = Vec<Vec<usize>>;

/// What joins the devices of a host.
struct Mesh {
    /// Direct links, bytes/s.
    direct: Option<Topology>,
    /// The path between two devices, direct or not, bytes/s.
    path: Vec<Vec<f64>>,
}

impl Mesh {
    fn new(devices: &DeviceGraph, host: &[DeviceId]) -> Result<Self, NetworkError> {
        let direct = if host.len() > 1 { Some(Topology::of(host, LinkKind::Nvlink, devices)?) } else { None };
        let path = |from: usize, to: usize| {
            let straight = direct.as_ref().map_or(0.0, |direct| direct.capacity(from, to));
            let route = || devices.route(host[from], host[to]).map_or(0.0, |route| route.bandwidth.get());
            if from == to || straight > 0.0 { straight } else { route() }
        };
        let all = 0..host.len();
        let path = all.clone().map(|from| all.clone().map(|to| path(from, to)).collect()).collect();
        Ok(Self { direct, path })
    }

    /// Whether all pairs are joined alike.
    fn is_even(&self) -> bool {
        let pairs = (0..self.path.len()).flat_map(|from| (0..from).map(move |to| self.path[from][to]));
        let mut pairs = pairs.map(f64::to_bits);
        let first = pairs.next();
        pairs.all(|pair| Some(pair) == first)
    }

    /// All-reduce rate over direct links, narrowest pair, sum of the pairs.
    fn quality(&self, group: &[usize]) -> (f64, f64, f64) {
        let pairs: Vec<f64> = group
            .iter()
            .enumerate()
            .flat_map(|(at, from)| group[..at].iter().map(|to| self.path[*from][*to]))
            .collect();
        let narrowest = pairs.iter().copied().fold(f64::INFINITY, f64::min);
        let among = self.direct.as_ref().map(|direct| direct.among(group));
        (among.map_or(0.0, |direct| direct.all_reduce_rate()), narrowest, pairs.iter().sum())
    }

    /// The division whose slowest group is fastest.
    fn divide(&self, inner: usize) -> Groups {
        if inner == 1 {
            return (0..self.path.len()).map(|device| vec![device]).collect();
        }
        let mut best: Option<((f64, f64, f64), Groups)> = None;
        let mut known = std::collections::HashMap::new();
        for groups in divisions(&(0..self.path.len()).collect::<Vec<_>>(), inner) {
            let mut worst = (f64::INFINITY, f64::INFINITY, 0.0);
            for group in &groups {
                let (rate, narrowest, sum) = *known.entry(group.clone()).or_insert_with(|| self.quality(group));
                worst = (rate.min(worst.0), narrowest.min(worst.1), worst.2 + sum);
            }
            if best.as_ref().is_none_or(|(known, _)| worst > *known) {
                best = Some((worst, groups));
            }
        }
        best.map_or_else(Vec::new, |(_, groups)| groups)
    }

    /// Orders groups, and ranks in all but the first.
    fn arrange(&self, groups: Groups, outer: Outer) -> Groups {
        if groups.len() < 2 {
            return groups;
        }
        let mut best: Option<((f64, f64), Groups)> = None;
        for order in permutations(&(1..groups.len()).collect::<Vec<_>>()) {
            let mut arranged = vec![groups[0].clone()];
            for group in order {
                let before = &arranged[arranged.len() - 1];
                let facing = permutations(&groups[group]).into_iter().max_by(|a, b| {
                    let (a, b) = (self.facing(before, a), self.facing(before, b));
                    a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1))
                });
                arranged.extend(facing);
            }
            let quality = self.outer(&arranged, outer);
            if best.as_ref().is_none_or(|(known, _)| quality > *known) {
                best = Some((quality, arranged));
            }
        }
        best.map_or(groups, |(_, arranged)| arranged)
    }

    /// Narrowest path and sum of the paths between equal ranks of two groups.
    fn facing(&self, one: &[usize], other: &[usize]) -> (f64, f64) {
        let paths = one.iter().zip(other).map(|(from, to)| self.path[*from][*to]);
        paths.fold((f64::INFINITY, 0.0), |(least, sum), path| (path.min(least), sum + path))
    }

    /// The same over all neighbours of the outer axis; zero with one group.
    fn outer(&self, groups: &[Vec<usize>], outer: Outer) -> (f64, f64) {
        let closes = outer == Outer::Ring && groups.len() > 2;
        let pairs = groups.windows(2).map(|pair| (&pair[0], &pair[1]));
        let back = groups.last().zip(groups.first()).filter(|_| closes);
        let facing = pairs.chain(back).map(|(one, other)| self.facing(one, other));
        let all = facing.fold((f64::INFINITY, 0.0), |(least, sum), one| (one.0.min(least), sum + one.1));
        if groups.len() < 2 { (0.0, 0.0) } else { all }
    }
}

/// Every division of `rest` into groups of `size`, each once.
fn divisions(rest: &[usize], size: usize) -> Vec<Groups> {
    let Some((first, others)) = rest.split_first() else { return vec![Vec::new()] };
    let mut all = Vec::new();
    for chosen in subsets(others, size - 1) {
        let left: Vec<usize> = others.iter().copied().filter(|device| !chosen.contains(device)).collect();
        let group = [&[*first], chosen.as_slice()].concat();
        all.extend(divisions(&left, size).into_iter().map(|tail| [vec![group.clone()], tail].concat()));
    }
    all
}

fn subsets(of: &[usize], size: usize) -> Vec<Vec<usize>> {
    if size == 0 {
        return vec![Vec::new()];
    }
    let with = |at: usize| subsets(&of[at + 1..], size - 1).into_iter().map(move |tail| [vec![of[at]], tail].concat());
    (0..of.len()).flat_map(with).collect()
}

fn permutations(of: &[usize]) -> Vec<Vec<usize>> {
    if of.is_empty() {
        return vec![Vec::new()];
    }
    let with = |first: usize| {
        let rest: Vec<usize> = of.iter().copied().filter(|other| *other != first).collect();
        permutations(&rest).into_iter().map(move |tail| [vec![first], tail].concat())
    };
    of.iter().copied().flat_map(with).collect()
}
