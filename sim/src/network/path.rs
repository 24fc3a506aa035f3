//! How a group uses the levels of a fabric.

use super::fabric::{Fabric, Level, MOST_LEVELS};
use super::group::Group;
use super::library::Library;

/// What a group finds on one level.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Crossing {
    /// Members in one domain of the level.
    pub(super) members: usize,
    /// Domains of the level below that a domain's members sit in; 1 when the group does not use the level.
    pub(super) children: usize,
    /// Bandwidth that the members of one child have into the level together, bytes/s.
    pub(super) bandwidth: f64,
    /// The same for one member alone, bytes/s.
    pub(super) single: f64,
}

/// The levels of a fabric as one group uses them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Path<'a> {
    pub(super) levels: &'a [Level],
    pub(super) crossings: [Crossing; MOST_LEVELS],
    /// Whether the group is larger than the fabric.
    pub(super) outside: bool,
}

impl<'a> Path<'a> {
    pub(super) fn of(group: &Group, fabric: &'a Fabric, library: &Library) -> Self {
        let levels = fabric.levels();
        let mut crossings = [Crossing::default(); MOST_LEVELS];
        let (mut below, mut size_below) = (1, 1);
        let last = levels.len() - 1;
        for (index, level) in levels.iter().enumerate() {
            let members =
                if index == last { group.ranks } else { members_in(level.ranks, group, fabric.node()).max(below) };
            let reach = Reach { members: below, child: size_below, group, node: fabric.node() };
            crossings[index] = Crossing {
                members,
                children: members.div_ceil(below),
                bandwidth: reach.bandwidth(below, level, library.share(level.interconnect)),
                single: reach.bandwidth(1, level, library.share_of_message(level.interconnect)),
            };
            (below, size_below) = (members, level.ranks);
        }
        let room = members_in(fabric.ranks(), group, fabric.node());
        Self { levels, crossings, outside: group.ranks > room }
    }

    /// The levels that the group uses, innermost first.
    pub(super) fn used(&self) -> impl DoubleEndedIterator<Item = (&Level, &Crossing)> {
        self.levels.iter().zip(&self.crossings).filter(|(_, crossing)| crossing.children > 1)
    }

    /// Bandwidth of the narrowest level for a ring through all members, bytes/s.
    pub(super) fn ring_bandwidth(&self) -> f64 {
        self.used().map(|(_, crossing)| crossing.bandwidth).fold(f64::INFINITY, f64::min)
    }

    /// The narrowest level: the one that sets [`Path::ring_bandwidth`].
    pub(super) fn narrowest(&self) -> Option<&Level> {
        self.used().min_by(|a, b| a.1.bandwidth.total_cmp(&b.1.bandwidth)).map(|(level, _)| level)
    }

    /// Sum over the edges of a ring through all members of what an edge costs by the highest level that it crosses.
    ///
    /// A domain with `c` occupied children has `c - 1` edges between them, and one more closes the ring at the top.
    pub(super) fn ring_edges(&self, ranks: usize, cost: impl Fn(&Level) -> f64) -> f64 {
        let inner = |(level, crossing): (&Level, &Crossing)| {
            (ranks / crossing.members.max(1)).max(1) as f64 * (crossing.children - 1) as f64 * cost(level)
        };
        let closing = self.used().next_back().map_or(0.0, |(level, _)| cost(level));
        self.used().map(inner).sum::<f64>() + closing
    }
}

/// Members of the group in an aligned domain of `ranks` ranks.
fn members_in(ranks: usize, group: &Group, node: usize) -> usize {
    if ranks <= node {
        return group.ranks_per_node.min(ranks.div_ceil(group.stride)).max(1);
    }
    let nodes = (ranks / node.max(1)).div_ceil(group.node_stride).max(1);
    group.ranks.min(nodes * group.ranks_per_node)
}

/// The members of a group in one child domain, as they reach for the ports of the level above.
struct Reach<'a> {
    members: usize,
    /// Ranks of the child domain.
    child: usize,
    group: &'a Group,
    node: usize,
}

impl Reach<'_> {
    /// Bandwidth that `members` of the child have into the level while the groups beside it want the same.
    fn bandwidth(&self, members: usize, level: &Level, share: f64) -> f64 {
        let rate = level.achieved.unwrap_or(level.bandwidth * share);
        let ports = self.ports(members, level.ports);
        let claims = self.claims() as f64 * ports;
        let fair = (level.ports as f64 / claims).min(1.0);
        ports * fair * rate / level.oversubscription
    }

    /// Ports near `members` members: each rank has its even share of them, and neighbours share one where they are few.
    fn ports(&self, members: usize, ports: usize) -> f64 {
        let each = ports as f64 / self.child as f64;
        let span = (members * self.group.stride).min(self.child) as f64;
        let most = members as f64 * each.max(1.0);
        (span * each).ceil().min(most).clamp(1.0, ports as f64)
    }

    /// Groups that leave the same child domain at once: as many of the simultaneous ones as have members in it.
    fn claims(&self) -> usize {
        let share = self.group.simultaneous * self.child / self.node.max(self.child);
        share.clamp(1, (self.child / self.members.max(1)).max(1))
    }
}
