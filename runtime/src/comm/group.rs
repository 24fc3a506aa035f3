//! Collectives of a group over shared memory.
//!
//! Every collective has the same life: each rank shows its buffers and arrives; when all are there, all see what all have
//! shown (the *round*); they work on each other's memory; nobody leaves before all have done their part. Arriving can fail
//! (timeout, failed peer); the work cannot, because a rank inside it only copies memory.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cutplane_plan::Rank;

use super::error::CommError;
use super::gate::{Gate, Patience};

/// What a rank calls, which must be the same on all ranks of the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Call {
    /// Name of the collective.
    pub(super) name: &'static str,
    /// Numbers that each rank puts in.
    pub(super) len: usize,
    /// The root of a broadcast.
    pub(super) root: Option<Rank>,
}

/// The memory that a rank shows: `len` numbers that live until the last rank has done its part.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shown {
    pub(super) call: Call,
    pub(super) memory: *mut f32,
}

// SAFETY: the pointer is only followed between the arrival of all ranks and the departure of the first; until then the
// owner's borrow is alive, because the owner is inside the same collective.
unsafe impl Send for Shown {}
// SAFETY: as above; which rank reads and writes which part is laid down by each collective.
unsafe impl Sync for Shown {}

#[derive(Debug)]
struct Arrivals {
    shown: Vec<Option<Shown>>,
    round: Arc<[Shown]>,
    generation: u64,
}

#[derive(Debug, Default)]
struct Departures {
    done: usize,
    generation: u64,
}

/// The meeting place of a group.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) ranks: Vec<Rank>,
    arrivals: Gate<Arrivals>,
    departures: Gate<Departures>,
}

/// A group whose ranks have all arrived with the same call.
pub(super) struct Round<'a> {
    group: &'a Group,
    shown: Arc<[Shown]>,
    spin: Duration,
    /// Position of this rank in the group.
    pub(super) position: usize,
    /// Time that this rank was blocked before all were there.
    pub(super) waited: Duration,
}

impl Group {
    pub(super) fn new(ranks: Vec<Rank>) -> Self {
        let arrivals = Arrivals { shown: vec![None; ranks.len()], round: Arc::new([]), generation: 0 };
        Self { ranks, arrivals: Gate::new(arrivals), departures: Gate::new(Departures::default()) }
    }

    /// Arrives with `shown` and waits for the others. `health` ends the wait early when a peer has failed.
    pub(super) fn meet(
        &self,
        rank: Rank,
        shown: Shown,
        patience: Patience,
        health: impl Fn(&[Rank]) -> Result<(), CommError>,
    ) -> Result<Round<'_>, CommError> {
        let position = self.ranks.iter().position(|member| *member == rank).expect("groups are checked before");
        let start = Instant::now();
        let generation = self.arrivals.change(|arrivals| arrivals.arrive(position, shown));
        let there = self.arrivals.wait(patience, |arrivals| {
            if arrivals.generation != generation {
                return Some(Ok(arrivals.round.clone()));
            }
            let outcome = health(&arrivals.absent(&self.ranks)).err()?;
            arrivals.shown[position] = None;
            Some(Err(outcome))
        });
        let round = there.unwrap_or_else(|| self.give_up(rank, position, generation, shown.call, patience))?;
        let round = Round { group: self, shown: round, spin: patience.spin, position, waited: start.elapsed() };
        round.check(rank)?;
        Ok(round)
    }

    /// Time is up: withdraws, unless the last rank came in this very moment.
    fn give_up(
        &self,
        rank: Rank,
        position: usize,
        generation: u64,
        call: Call,
        patience: Patience,
    ) -> Result<Arc<[Shown]>, CommError> {
        self.arrivals.look(|arrivals| {
            if arrivals.generation != generation {
                return Ok(arrivals.round.clone());
            }
            arrivals.shown[position] = None;
            let mut peers = arrivals.absent(&self.ranks);
            peers.retain(|peer| *peer != rank);
            Err(CommError::Timeout { rank, what: call.name.into(), peers, after: patience.timeout.unwrap_or_default() })
        })
    }

    /// Wakes everybody, to look at the health of the world.
    pub(super) fn wake(&self) {
        self.arrivals.change(|_| ((), true));
    }
}

impl Arrivals {
    fn arrive(&mut self, position: usize, shown: Shown) -> (u64, bool) {
        let generation = self.generation;
        self.shown[position] = Some(shown);
        let complete = self.shown.iter().all(Option::is_some);
        if complete {
            self.round = self.shown.iter_mut().filter_map(Option::take).collect();
            self.generation += 1;
        }
        (generation, complete)
    }

    fn absent(&self, ranks: &[Rank]) -> Vec<Rank> {
        ranks.iter().zip(&self.shown).filter(|(_, shown)| shown.is_none()).map(|(rank, _)| *rank).collect()
    }
}

impl Round<'_> {
    fn check(&self, rank: Rank) -> Result<(), CommError> {
        if self.shown.iter().all(|other| other.call == self.shown[0].call) {
            return Ok(());
        }
        let call = |(rank, shown): (&Rank, &Shown)| format!("{rank} calls {} with {}", shown.call.name, shown.call.len);
        Err(CommError::Mismatch { rank, calls: self.group.ranks.iter().zip(self.shown.iter()).map(call).collect() })
    }

    /// Number of ranks.
    pub(super) fn size(&self) -> usize {
        self.shown.len()
    }

    /// Waits until every rank has done its part; after that nobody touches this rank's memory.
    pub(super) fn leave(&self) {
        let size = self.size();
        let generation = self.group.departures.change(|departures| {
            let generation = departures.generation;
            departures.done += 1;
            let complete = departures.done == size;
            if complete {
                *departures = Departures { done: 0, generation: generation + 1 };
            }
            (generation, complete)
        });
        let patience = Patience { spin: self.spin, timeout: None };
        self.group.departures.wait(patience, |departures| (departures.generation != generation).then_some(()));
    }

    /// Part `start..end` of the memory that the rank at `position` shows.
    ///
    /// # Safety
    /// The part must lie inside the memory, and no other rank may write to it meanwhile.
    pub(super) unsafe fn read(&self, position: usize, start: usize, end: usize) -> &[f32] {
        debug_assert!(start <= end && end <= self.shown[position].call.len, "a part lies inside the memory");
        // SAFETY: the owner lends its memory until it leaves; the caller keeps writers away.
        unsafe { std::slice::from_raw_parts(self.shown[position].memory.add(start), end - start) }
    }

    /// Writes `data` to the memory of the rank at `position`, from `start` on.
    ///
    /// # Safety
    /// The part must lie inside the memory, the memory must be writable, and no other rank may touch it meanwhile.
    pub(super) unsafe fn write(&self, position: usize, start: usize, data: &[f32]) {
        debug_assert!(start + data.len() <= self.shown[position].call.len, "a part lies inside the memory");
        // SAFETY: the owner lends its memory until it leaves; the caller keeps others away.
        unsafe { std::ptr::copy_nonoverlapping(data.as_ptr(), self.shown[position].memory.add(start), data.len()) }
    }
}

/// The part `index` of `parts` of `len` numbers, cut at cache lines.
pub(super) fn part(index: usize, parts: usize, len: usize) -> (usize, usize) {
    const LINE: usize = 16;
    let cut = |i: usize| if i == parts { len } else { (len * i / parts / LINE * LINE).min(len) };
    (cut(index), cut(index + 1))
}

/// Sums part `start..end` of all ranks' memory in rank order and hands each finished block to `store`. Works block by
/// block, so that what `store` overwrites is still in the nearest cache.
///
/// # Safety
/// The part must lie inside the memory of every rank, and no other rank may write to it meanwhile; `store` may.
pub(super) unsafe fn sum_blocks(round: &Round<'_>, start: usize, end: usize, mut store: impl FnMut(usize, &[f32])) {
    const BLOCK: usize = 1024;
    let mut sum = [0.0f32; BLOCK];
    for first in (start..end).step_by(BLOCK) {
        let last = (first + BLOCK).min(end);
        let sum = &mut sum[..last - first];
        // SAFETY: inside the part; the borrows end before `store` is called.
        unsafe {
            sum.copy_from_slice(round.read(0, first, last));
            for from in 1..round.size() {
                sum.iter_mut().zip(round.read(from, first, last)).for_each(|(total, x)| *total += x);
            }
        }
        store(first, sum);
    }
}
