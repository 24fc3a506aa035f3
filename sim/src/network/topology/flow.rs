//! Maximum flow by shortest augmenting paths (Edmonds and Karp 1972) on a dense matrix of capacities.

use std::collections::VecDeque;

/// Bandwidth below which a link counts as used up, as a share of the widest link: rounding leaves dust.
const DUST: f64 = 1e-9;

/// A maximum flow and the least cut that proves it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Flow {
    /// Value of the flow, in the unit of the capacities.
    pub(super) value: f64,
    /// Whether a node is on the source's side of the cut.
    pub(super) source_side: Vec<bool>,
}

/// What counts as nothing beside these capacities.
pub(super) fn dust(capacity: &[Vec<f64>]) -> f64 {
    capacity.iter().flatten().copied().fold(0.0, f64::max) * DUST
}

/// The maximum flow from `source` to `target`.
pub(super) fn max_flow(capacity: &[Vec<f64>], source: usize, target: usize) -> Flow {
    let dust = dust(capacity);
    let mut left = capacity.to_vec();
    let mut value = 0.0;
    loop {
        let parent = search(&left, source, dust);
        if parent[target].is_none() {
            return Flow { value, source_side: parent.iter().map(Option::is_some).collect() };
        }
        let mut path = vec![target];
        while let Some(before) = path.last().and_then(|last| parent[*last]).filter(|_| path.last() != Some(&source)) {
            path.push(before);
        }
        let steps: Vec<(usize, usize)> = path.windows(2).map(|pair| (pair[1], pair[0])).collect();
        let pushed = steps.iter().map(|(from, to)| left[*from][*to]).fold(f64::INFINITY, f64::min);
        for (from, to) in steps {
            left[from][to] -= pushed;
            left[to][from] += pushed;
        }
        value += pushed;
    }
}

/// Breadth-first search over what is left; the source is its own parent.
fn search(left: &[Vec<f64>], source: usize, dust: f64) -> Vec<Option<usize>> {
    let mut parent = vec![None; left.len()];
    parent[source] = Some(source);
    let mut queue = VecDeque::from([source]);
    while let Some(from) = queue.pop_front() {
        for (to, room) in left[from].iter().enumerate() {
            if *room > dust && parent[to].is_none() {
                parent[to] = Some(from);
                queue.push_back(to);
            }
        }
    }
    parent
}
