//! Ideals: sets of groups that hold all groups before each of theirs. Any contiguous split is a path through their lattice.

use std::collections::{BTreeSet, HashMap};

use super::groups::Groups;
use super::watch::Watch;

/// Some ideals and the single groups that lead from one to the next.
pub(super) struct Lattice {
    /// By ideal: the group to add and the ideal that results. Ideals stand in order of size, the empty one first.
    pub(super) next: Vec<Vec<(u32, u32)>>,
    /// By ideal: accelerator time of the groups outside that accelerators can run.
    pub(super) time_left: Vec<f64>,
    /// By ideal: size of all groups outside, bytes.
    pub(super) size_left: Vec<f64>,
    /// By ideal: an ideal with one group less, and that group; unused for the empty one.
    made: Vec<(u32, u32)>,
}

impl Lattice {
    /// The ideals along one order of the groups.
    pub(super) fn chain(groups: &Groups, order: &[usize]) -> Self {
        let mut lattice = Self::start(groups);
        for (position, &group) in order.iter().enumerate() {
            lattice.add(groups, position, group);
        }
        lattice
    }

    /// All ideals; `None` when there are more than `most` or time runs out.
    pub(super) fn full(groups: &Groups, most: usize, watch: &Watch<'_>) -> Option<Self> {
        let mut before = vec![Vec::new(); groups.count()];
        for (group, later) in groups.later.iter().enumerate() {
            for next in later {
                before[*next].push(group);
            }
        }
        let mut lattice = Self::start(groups);
        let mut sets = vec![vec![0_u64; groups.count().div_ceil(64)]];
        let mut layer: HashMap<Vec<u64>, u32> = HashMap::new();
        let (mut at, mut layer_end) = (0, 1);
        while at < sets.len() {
            if at == layer_end {
                (layer_end, layer) = (sets.len(), HashMap::new());
            }
            if sets.len() > most || (at % 256 == 0 && watch.must_stop()) {
                return None;
            }
            // Sets of layers that are done are not looked up again.
            let set = std::mem::take(&mut sets[at]);
            for group in (0..groups.count()).filter(|group| !has(&set, *group)) {
                if before[group].iter().all(|other| has(&set, *other)) {
                    let mut larger = set.clone();
                    larger[group / 64] |= 1 << (group % 64);
                    if let Some(&known) = layer.get(&larger) {
                        lattice.next[at].push((group as u32, known));
                    } else {
                        layer.insert(larger.clone(), sets.len() as u32);
                        lattice.add(groups, at, group);
                        sets.push(larger);
                    }
                }
            }
            at += 1;
        }
        Some(lattice)
    }

    fn start(groups: &Groups) -> Self {
        let time = |group: usize| if groups.on_accelerator[group] { groups.accelerator_time[group] } else { 0.0 };
        Self {
            next: vec![Vec::new()],
            time_left: vec![(0..groups.count()).map(time).sum()],
            size_left: vec![groups.size.iter().sum()],
            made: vec![(0, 0)],
        }
    }

    /// A new ideal: one group more than the one at `from`.
    fn add(&mut self, groups: &Groups, from: usize, group: usize) {
        let ideal = self.next.len() as u32;
        self.next[from].push((group as u32, ideal));
        let time = if groups.on_accelerator[group] { groups.accelerator_time[group] } else { 0.0 };
        self.time_left.push(self.time_left[from] - time);
        self.size_left.push(self.size_left[from] - groups.size[group]);
        self.made.push((from as u32, group as u32));
        self.next.push(Vec::new());
    }

    /// The groups of `larger` that are not in `smaller`.
    pub(super) fn between(&self, smaller: usize, larger: usize) -> Vec<usize> {
        let inner = self.members(smaller);
        self.members(larger).into_iter().filter(|group| !inner.contains(group)).collect()
    }

    fn members(&self, ideal: usize) -> BTreeSet<usize> {
        let mut at = ideal;
        let walk = std::iter::from_fn(|| {
            let (from, group) = self.made[at];
            let step = (at > 0).then_some(group as usize);
            at = from as usize;
            step
        });
        walk.collect()
    }

    /// Number of ideals.
    pub(super) fn len(&self) -> usize {
        self.next.len()
    }
}

fn has(set: &[u64], group: usize) -> bool {
    set[group / 64] >> (group % 64) & 1 == 1
}
