//! How many layers each chunk of a pipeline may hold.
//!
//! The searched splits of a pipeline with one chunk a device: even ones, with what is left over at the front or at the
//! back; the one whose longest chunk is shortest (exact: a limit is feasible when filling chunks up to it takes all layers,
//! and bisection finds the least); and those whose first and last chunk are even or differ by at most one layer from it while
//! all between are even, which gives room to the embedding and the head. With several chunks a device: even ones, where the head, or the
//! embedding and the head, may stand for a layer.

use std::collections::BTreeSet;

use super::times::Times;

/// Most ends of the model that stand for a layer: the embedding and the head.
const MOST_ENDS: u64 = 2;

/// Whether the layers, with none, one or both ends of the model as a layer, divide into equal chunks.
pub(super) fn is_even(layers: u64, chunks: u64) -> bool {
    (0..=MOST_ENDS).any(|ends| (layers + ends).is_multiple_of(chunks))
}

/// The searched splits of the layers over `pp` devices of `vpp` chunks, without repetition; empty when there are too few
/// layers.
pub(super) fn family(times: &Times, layers: u64, pp: u64, vpp: u64) -> Vec<Vec<u64>> {
    match (pp, vpp) {
        (1, 1) => vec![vec![layers]],
        (_, 1) => one_chunk_each(times, layers, pp),
        _ => several_chunks_each(layers, pp * vpp),
    }
}

fn several_chunks_each(layers: u64, chunks: u64) -> Vec<Vec<u64>> {
    let ends = (0..=MOST_ENDS).filter(|ends| (layers + ends).is_multiple_of(chunks));
    let split = |ends: u64| {
        let mut split = vec![(layers + ends) / chunks; chunks as usize];
        let last = split.len() - 1;
        split[last] -= u64::from(ends > 0);
        split[0] -= u64::from(ends > 1);
        split
    };
    ends.map(split).collect()
}

fn one_chunk_each(times: &Times, layers: u64, chunks: u64) -> Vec<Vec<u64>> {
    let mut all: Vec<Vec<u64>> = Vec::new();
    let mut offer = |split: Vec<u64>| {
        let only_the_last_is_empty = split[..split.len() - 1].iter().all(|layers| *layers > 0);
        if only_the_last_is_empty && !all.contains(&split) {
            all.push(split);
        }
    };
    if layers >= chunks {
        offer(even(layers, chunks, true));
        offer(even(layers, chunks, false));
    }
    let balanced = balanced(times, layers, chunks);
    let (first, last) = (balanced[0], balanced[balanced.len() - 1]);
    offer(balanced);
    let ends = |balanced: u64| -> BTreeSet<u64> {
        let near = balanced.saturating_sub(1)..=balanced + 1;
        near.chain([layers / chunks, layers.div_ceil(chunks)]).collect()
    };
    for first in ends(first) {
        for last in ends(last) {
            for front in [false, true] {
                if let Some(split) = between(layers, chunks, (first, last), front) {
                    offer(split);
                }
            }
        }
    }
    all
}

/// Even; what is left over at the front, or else at the back.
fn even(layers: u64, chunks: u64, front: bool) -> Vec<u64> {
    let (each, left) = (layers / chunks, layers % chunks);
    let more = |chunk: u64| if front { chunk < left } else { chunk >= chunks - left };
    (0..chunks).map(|chunk| each + u64::from(more(chunk))).collect()
}

/// `first` and `last` given, the chunks between even, what is left over at their front or back.
fn between(layers: u64, chunks: u64, (first, last): (u64, u64), front: bool) -> Option<Vec<u64>> {
    let rest = layers.checked_sub(first + last)?;
    if chunks == 2 {
        return (rest == 0).then(|| vec![first, last]);
    }
    let mut split = vec![first];
    split.extend(even(rest, chunks - 2, front));
    split.push(last);
    Some(split)
}

/// The split whose longest chunk is shortest; of those, the one with the fewest layers at the front.
fn balanced(times: &Times, layers: u64, chunks: u64) -> Vec<u64> {
    let runs: Vec<(u64, f64)> = times.runs.iter().map(|(count, span)| (*count, span.both())).collect();
    let ends = (times.front.both(), times.back.both());
    let (mut low, mut high) = (0.0, times.total);
    let mut best = None;
    for _ in 0..50 {
        let middle = f64::midpoint(low, high);
        match filled(&runs, ends, chunks, middle) {
            Some(split) => {
                best = Some(split);
                high = middle;
            }
            None => low = middle,
        }
    }
    best.unwrap_or_else(|| even(layers, chunks, true))
}

/// Fills chunks from the back up to a limit with runs of equal layers, leaving each chunk before at least one layer; `None`
/// when layers are left over.
fn filled(runs: &[(u64, f64)], (front, back): (f64, f64), chunks: u64, limit: f64) -> Option<Vec<u64>> {
    let mut split = vec![0; chunks as usize];
    let mut left: u64 = runs.iter().map(|run| run.0).sum();
    let mut behind = runs.iter().rev();
    let (mut here, mut each) = behind.next().copied().unwrap_or_default();
    for chunk in (0..chunks).rev() {
        let mut load = if chunk + 1 == chunks { back } else { 0.0 };
        load += if chunk == 0 { front } else { 0.0 };
        if load > limit {
            return None;
        }
        while left > chunk {
            // The hair against rounding where so many layers are just the limit.
            let fitting = if each > 0.0 { ((limit - load) / each * (1.0 + 1e-12)) as u64 } else { here };
            let taken = fitting.min(here).min(left - chunk);
            split[chunk as usize] += taken;
            (left, here, load) = (left - taken, here - taken, load + taken as f64 * each);
            match behind.clone().next().filter(|_| here == 0) {
                Some(run) => (here, each) = *run,
                None => break,
            }
            behind.next();
        }
    }
    (left == 0).then_some(split)
}

#[cfg(test)]
mod tests {
    use super::super::times::{Span, Times};
    use super::family;

    fn times(front: f64, layers: u64, back: f64) -> Times {
        let span = |both: f64| Span { forward: both / 3.0, backward: both * 2.0 / 3.0, weight: both / 3.0 };
        let total = front + layers as f64 + back;
        Times { front: span(front), back: span(back), runs: vec![(layers, span(1.0))], total, shorter: 1.0 / 3.0 }
    }

    #[test]
    fn a_heavy_head_leaves_the_last_stage_fewer_layers() {
        // 8 layers and a head worth 2: 3 + 3 + 2 with the head is 3, 3, 4; even would be 3, 3, 2 + 2.
        let splits = family(&times(0.0, 10, 2.0), 10, 3, 1);
        assert!(splits.contains(&vec![4, 4, 2]), "{splits:?}");
        assert!(splits.contains(&vec![4, 3, 3]), "{splits:?}");
    }

    #[test]
    fn only_the_last_chunk_may_be_empty() {
        let splits = family(&times(0.0, 3, 1.0), 3, 4, 1);
        assert_eq!(splits, [[1, 1, 1, 0]]);
        assert!(family(&times(0.0, 2, 1.0), 2, 4, 1).is_empty());
    }

    #[test]
    fn the_ends_may_stand_for_a_layer_of_interleaved_chunks() {
        assert_eq!(family(&times(0.0, 8, 1.0), 8, 2, 2), [[2, 2, 2, 2]]);
        assert_eq!(family(&times(0.0, 7, 1.0), 7, 2, 2), [[2, 2, 2, 1]]);
        assert_eq!(family(&times(1.0, 6, 1.0), 6, 2, 2), [[1, 2, 2, 1]]);
        assert!(super::is_even(126, 128) && !super::is_even(126, 96));
    }

    #[test]
    fn one_chunk_holds_all() {
        assert_eq!(family(&times(1.0, 5, 1.0), 5, 1, 1), [[5]]);
    }
}
