//! Packing of broadcast trees that reaches the least cut: Edmonds' theorem, made by peeling trees off (Lovasz 1976).

use super::Topology;
use super::flow::{dust, max_flow};

/// A broadcast tree with its share of the message.
#[derive(Clone, Debug, PartialEq)]
pub struct Tree {
    /// By device: who sends to it; the root sends to itself.
    pub parent: Vec<usize>,
    /// Rate along the tree, bytes/s.
    pub rate: f64,
}

/// Trees from one root that share the links.
#[derive(Clone, Debug, PartialEq)]
pub struct Packing {
    /// The root.
    pub root: usize,
    /// The trees; empty when some device cannot be reached.
    pub trees: Vec<Tree>,
}

impl Packing {
    /// Rate of all trees together, bytes/s.
    pub fn rate(&self) -> f64 {
        self.trees.iter().map(|tree| tree.rate).sum()
    }

    /// Time of a broadcast of `bytes`, s, split over the trees in proportion to their rates; `None` when some device cannot
    /// be reached.
    pub fn broadcast_seconds(&self, bytes: f64) -> Option<f64> {
        (self.rate() > 0.0).then(|| bytes / self.rate())
    }
}

/// Packs broadcast trees from `root` whose rates add up to [`Topology::broadcast_rate`], the most that any packing reaches
/// (Edmonds 1973): trees are grown so that no cut falls below what is still to be packed, and peeled off with the largest
/// rate that keeps it so (Lovasz 1976).
pub fn pack_trees(topology: &Topology, root: usize) -> Packing {
    let mut peel =
        Peel { left: topology.capacity.clone(), root, need: topology.broadcast_rate(root), trees: Vec::new() };
    let enough = peel.need * 1e-9;
    while peel.need > enough && peel.need.is_finite() {
        let Some(tree) = peel.next_tree() else { break };
        peel.take(tree);
    }
    Packing { root, trees: peel.trees }
}

struct Peel {
    /// Bandwidth left.
    left: Vec<Vec<f64>>,
    root: usize,
    /// Rate still to be packed: no cut of what is left is below it.
    need: f64,
    trees: Vec<Tree>,
}

impl Peel {
    /// Grows a tree link by link; a link may join if some rate along the tree with it keeps every cut.
    fn next_tree(&self) -> Option<Tree> {
        let devices = self.left.len();
        let mut parent: Vec<Option<usize>> = vec![None; devices];
        parent[self.root] = Some(self.root);
        let mut rate = f64::INFINITY;
        for _ in 1..devices {
            let (from, to, kept) = self.best_link(&parent)?;
            parent[to] = Some(from);
            rate = kept;
        }
        let parent: Option<Vec<usize>> = parent.into_iter().collect();
        parent.map(|parent| Tree { parent, rate })
    }

    /// The link out of the tree that leaves the largest rate.
    fn best_link(&self, parent: &[Option<usize>]) -> Option<(usize, usize, f64)> {
        let devices = self.left.len();
        let pairs = (0..devices).flat_map(|from| (0..devices).map(move |to| (from, to)));
        let nothing = dust(&self.left).max(self.need * 1e-9);
        let open = pairs
            .filter(|(from, to)| parent[*from].is_some() && parent[*to].is_none() && self.left[*from][*to] > nothing);
        let rated = open.map(|(from, to)| {
            let mut longer = parent.to_vec();
            longer[to] = Some(from);
            (from, to, self.rate_of(&longer))
        });
        rated.filter(|(_, _, rate)| *rate > nothing).max_by(|a, b| a.2.total_cmp(&b.2))
    }

    /// The largest rate at which a partial tree can be taken off while every cut keeps `need` less that rate: Newton's method
    /// on the cuts, which a cut that fails lowers the rate to.
    fn rate_of(&self, parent: &[Option<usize>]) -> f64 {
        let links: Vec<(usize, usize)> = parent
            .iter()
            .enumerate()
            .filter_map(|(to, from)| from.map(|from| (from, to)))
            .filter(|(a, b)| a != b)
            .collect();
        let narrowest = links.iter().map(|(from, to)| self.left[*from][*to]).fold(self.need, f64::min);
        let mut rate = narrowest;
        // Each round meets a new cut; the tree crosses each at most once a device.
        for _ in 0..=self.left.len() * self.left.len() {
            match self.failing_cut(&links, rate) {
                Some(lower) if lower < rate => rate = lower.max(0.0),
                _ => break,
            }
        }
        rate
    }

    /// The rate that the worst failing cut allows.
    fn failing_cut(&self, links: &[(usize, usize)], rate: f64) -> Option<f64> {
        let mut left = self.left.clone();
        for (from, to) in links {
            left[*from][*to] -= rate;
        }
        let slack = self.need * 1e-10;
        let cuts = (0..left.len()).filter(|target| *target != self.root).filter_map(|target| {
            let flow = max_flow(&left, self.root, target);
            (flow.value < self.need - rate - slack).then_some(flow.source_side)
        });
        let allowed = cuts.map(|inside| {
            let crosses = |from: usize, to: usize| inside[from] && !inside[to];
            let crossed = links.iter().filter(|(from, to)| crosses(*from, *to)).count() as f64;
            let whole: f64 = (0..inside.len())
                .flat_map(|from| (0..inside.len()).map(move |to| (from, to)))
                .filter(|(from, to)| crosses(*from, *to))
                .map(|(from, to)| self.left[from][to])
                .sum();
            // whole - crossed rate = need - rate
            (whole - self.need) / (crossed - 1.0).max(1.0)
        });
        allowed.min_by(f64::total_cmp)
    }

    fn take(&mut self, tree: Tree) {
        for (to, from) in tree.parent.iter().enumerate().filter(|(to, from)| to != *from) {
            self.left[*from][to] = (self.left[*from][to] - tree.rate).max(0.0);
        }
        self.need -= tree.rate;
        self.trees.push(tree);
    }
}
