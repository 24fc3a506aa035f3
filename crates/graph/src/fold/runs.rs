//! Stretches of operators that repeat with a period.

use std::collections::HashMap;
use std::ops::Range;

use crate::ids::OpId;
use crate::model::ModelGraph;

/// Operators `start..start + length`, each like the one `period` further on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) start: usize,
    pub(super) length: usize,
    pub(super) period: usize,
}

impl Run {
    pub(super) const fn end(&self) -> usize {
        self.start + self.length
    }

    /// The whole blocks of the run.
    pub(super) fn blocks(self) -> impl Iterator<Item = Range<usize>> {
        (0..self.length / self.period).map(move |block| {
            let start = self.start + block * self.period;
            start..start + self.period
        })
    }

    /// Operators that folding hides.
    const fn saved(&self) -> usize {
        (self.length / self.period - 1) * self.period
    }
}

/// Disjoint runs of at least two blocks, in order: those that hide the most operators first.
pub(super) fn repeated_runs(model: &ModelGraph, classes: &[u32]) -> Vec<Run> {
    let mut candidates = candidates(model, classes);
    candidates.sort_by_key(|run| (std::cmp::Reverse(run.saved()), run.period, run.start));
    let mut taken = vec![false; classes.len()];
    let mut chosen: Vec<Run> = Vec::new();
    for run in candidates {
        let Some(run) = free_part(run, &taken).filter(|run| !is_inside_a_layer(model, run)) else { continue };
        taken[run.start..run.end()].iter_mut().for_each(|taken| *taken = true);
        chosen.push(run);
    }
    chosen.sort_by_key(|run| run.start);
    chosen
}

/// Whether a named layer holds the whole run: it is one module for people, and stays whole.
fn is_inside_a_layer(model: &ModelGraph, run: &Run) -> bool {
    let layers = model.ops()[run.start..run.end()].iter().map(|op| op.layer);
    let first = model.ops()[run.start].layer;
    first.is_some() && layers.into_iter().all(|layer| layer == first)
}

/// The first stretch of the run that nothing has taken, if it has two blocks.
fn free_part(run: Run, taken: &[bool]) -> Option<Run> {
    let start = (run.start..run.end()).find(|op| !taken[*op])?;
    let end = (start..run.end()).find(|op| taken[*op]).unwrap_or(run.end());
    (end - start >= 2 * run.period).then_some(Run { start, length: end - start, ..run })
}

/// Every run whose period shows as the distance between two occurrences of a window at least half as long: windows of one,
/// two, four, ... operators are numbered by doubling (Karp, Miller and Rosenberg 1972).
fn candidates(model: &ModelGraph, classes: &[u32]) -> Vec<Run> {
    let mut windows = classes.to_vec();
    let (mut length, mut runs) = (1, Vec::new());
    while length <= classes.len() / 2 {
        let mut next_of: HashMap<u32, usize> = HashMap::new();
        let mut periods = vec![0; windows.len()];
        for start in (0..windows.len()).rev() {
            periods[start] = next_of.insert(windows[start], start).map_or(0, |next| next - start);
        }
        let mut seen: HashMap<usize, usize> = HashMap::new();
        for (start, period) in periods.into_iter().enumerate() {
            let is_new = seen.get(&period).is_none_or(|end| start >= *end);
            if (length..2 * length).contains(&period) && is_new {
                let run = extended(model, classes, start, period);
                seen.insert(period, run.end() - period + 1);
                if run.length >= 2 * period {
                    runs.push(run);
                }
            }
        }
        windows = doubled(&windows, length);
        length *= 2;
    }
    runs
}

/// Numbers windows of twice the length.
fn doubled(windows: &[u32], length: usize) -> Vec<u32> {
    let mut numbers: HashMap<(u32, u32), u32> = HashMap::new();
    let pairs = windows.iter().zip(windows.iter().skip(length));
    let number = |(left, right): (&u32, &u32)| {
        let next = numbers.len() as u32;
        *numbers.entry((*left, *right)).or_insert(next)
    };
    pairs.map(number).collect()
}

/// The longest run of this period around `start`.
fn extended(model: &ModelGraph, classes: &[u32], start: usize, period: usize) -> Run {
    let alike = |op: usize| is_alike(model, classes, op, op + period);
    let after = (start..classes.len() - period).find(|op| !alike(*op)).unwrap_or(classes.len() - period);
    let before = (0..start).rev().find(|op| !alike(*op)).map_or(0, |op| op + 1);
    let first = if after == start { start } else { before };
    Run { start: first, length: after + period - first, period }
}

/// Whether two operators are of one class, and each input comes from equally far back, from the same value, or from graph
/// inputs of the same role.
fn is_alike(model: &ModelGraph, classes: &[u32], a: usize, b: usize) -> bool {
    let (left, right) = (&model.ops()[a].inputs, &model.ops()[b].inputs);
    classes[a] == classes[b]
        && left.iter().zip(right).all(|(left, right)| {
            let (from, to) = (model.value(*left), model.value(*right));
            match (from.producer.map(OpId::index), to.producer.map(OpId::index)) {
                (Some(from), Some(to)) => from == to || a - from == b - to,
                (None, None) => left == right || from.role == to.role,
                // The first block may read the graph's input where the others read the block before.
                (None, Some(_)) => true,
                (Some(_), None) => false,
            }
        })
}
