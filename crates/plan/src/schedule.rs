//! Pipeline schedules as lists of slots.

use crate::plan::Schedule;

/// One pass of one micro-batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Slot {
    /// Forward pass of a micro-batch.
    Forward(u64),
    /// Backward pass of a micro-batch.
    Backward(u64),
    /// The part of the backward pass that gives gradients of the inputs.
    BackwardInput(u64),
    /// The part of the backward pass that gives gradients of the weights.
    BackwardWeight(u64),
    /// Update after the micro-batch before it.
    Update,
}

/// The order in which stage `stage` of `stages` works through `micro_batches`, each rank holding one stage.
///
/// Fill-drain runs the backwards in reverse order of the forwards. 1F1B starts with `stages - 1 - stage` forwards.
///
/// ```
/// use cutplane_plan::{Schedule, Slot::{Backward as B, Forward as F}, schedule_slots};
/// assert_eq!(schedule_slots(Schedule::OneFOneB, 0, 2, 3), [F(0), F(1), B(0), F(2), B(1), B(2)]);
/// assert_eq!(schedule_slots(Schedule::OneFOneB, 1, 2, 3), [F(0), B(0), F(1), B(1), F(2), B(2)]);
/// ```
pub fn schedule_slots(schedule: Schedule, stage: usize, stages: usize, micro_batches: u64) -> Vec<Slot> {
    rank_slots(schedule, stage, stages, 1, micro_batches).into_iter().map(|(_, slot)| slot).collect()
}

/// The order in which pipeline rank `rank` of `ranks` works through `micro_batches` of its `chunks` stages: each slot with
/// the number of the chunk. Chunk `c` of rank `r` is stage `c * ranks + r`.
///
/// Interleaved 1F1B takes `ranks` micro-batches through one chunk, then through the next (Narayanan et al. 2021, figure 4):
/// `2 (ranks - 1 - rank) + (chunks - 1) ranks` forwards come first. Zero-bubble is 1F1B whose weight gradients come `rank`
/// micro-batches late, so that all ranks hold as many micro-batches as the first one does under 1F1B.
///
/// ```
/// use cutplane_plan::{Schedule, Slot::{Backward as B, BackwardInput as I, BackwardWeight as W, Forward as F}, rank_slots};
/// let interleaved = rank_slots(Schedule::Interleaved, 1, 2, 2, 2);
/// assert_eq!(interleaved, [(0, F(0)), (0, F(1)), (1, F(0)), (1, B(0)), (1, F(1)), (1, B(1)), (0, B(0)), (0, B(1))]);
/// let zero_bubble: Vec<_> = rank_slots(Schedule::ZeroBubble, 1, 2, 1, 2).into_iter().map(|(_, slot)| slot).collect();
/// assert_eq!(zero_bubble, [F(0), I(0), F(1), I(1), W(0), W(1)]);
/// ```
pub fn rank_slots(
    schedule: Schedule,
    rank: usize,
    ranks: usize,
    chunks: usize,
    micro_batches: u64,
) -> Vec<(usize, Slot)> {
    let m = micro_batches;
    let one_chunk = |slots: Vec<Slot>| slots.into_iter().map(|slot| (0, slot)).collect();
    match schedule {
        Schedule::FillDrain => one_chunk((0..m).map(Slot::Forward).chain((0..m).rev().map(Slot::Backward)).collect()),
        Schedule::OneFOneB => one_chunk(one_forward_one_backward(rank, ranks, m)),
        Schedule::Interleaved => interleaved(rank, ranks, chunks, m),
        Schedule::ZeroBubble => one_chunk(zero_bubble(rank, ranks, m)),
        Schedule::Asynchronous => {
            let updated = |slot| match slot {
                Slot::Backward(_) => vec![slot, Slot::Update],
                other => vec![other],
            };
            one_chunk(one_forward_one_backward(rank, ranks, m).into_iter().flat_map(updated).collect())
        }
    }
}

fn one_forward_one_backward(rank: usize, ranks: usize, micro_batches: u64) -> Vec<Slot> {
    let warm_up = micro_batches.min((ranks - 1 - rank) as u64);
    let steady = (warm_up..micro_batches).flat_map(|i| [Slot::Forward(i), Slot::Backward(i - warm_up)]);
    let cool_down = (micro_batches - warm_up..micro_batches).map(Slot::Backward);
    (0..warm_up).map(Slot::Forward).chain(steady).chain(cool_down).collect()
}

fn interleaved(rank: usize, ranks: usize, chunks: usize, micro_batches: u64) -> Vec<(usize, Slot)> {
    let (p, v) = (ranks as u64, chunks as u64);
    let total = micro_batches * v;
    let ahead = total.min(2 * (p - 1 - rank as u64) + (v - 1) * p);
    // Number `k` of the passes: which chunk in forward order, and which micro-batch.
    let place = |k: u64| ((k % (p * v) / p) as usize, k / (p * v) * p + k % p);
    let forward = |k| {
        let (chunk, micro_batch) = place(k);
        (chunk, Slot::Forward(micro_batch))
    };
    let backward = |k| {
        let (chunk, micro_batch) = place(k);
        (chunks - 1 - chunk, Slot::Backward(micro_batch))
    };
    let steady = (ahead..total).flat_map(|k| [forward(k), backward(k - ahead)]);
    (0..ahead).map(forward).chain(steady).chain((total - ahead..total).map(backward)).collect()
}

fn zero_bubble(rank: usize, ranks: usize, micro_batches: u64) -> Vec<Slot> {
    let late = rank as u64;
    let split = |slot| match slot {
        Slot::Backward(mb) if mb >= late => vec![Slot::BackwardInput(mb), Slot::BackwardWeight(mb - late)],
        Slot::Backward(mb) => vec![Slot::BackwardInput(mb)],
        other => vec![other],
    };
    let slots = one_forward_one_backward(rank, ranks, micro_batches).into_iter().flat_map(split);
    slots.chain((micro_batches.saturating_sub(late)..micro_batches).map(Slot::BackwardWeight)).collect()
}
