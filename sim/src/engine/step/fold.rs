//! Steady states are run once and repeated.
//!
//! What the rounds from a round on will do depends on the [`State`] before it and on the kinds of passes of the rounds
//! alone. In a steady stretch ([`Steady`]) those repeat with the stretch's period. Max-plus recurrences commute with a shift
//! of all times: so when the state before round `t + q` is the state before round `t` moved by `s` ns, every further `q`
//! rounds of the stretch repeat those `q` rounds, `s` ns later each time. States are compared as whole numbers: nothing is
//! folded that does not repeat to the nanosecond. That a state does come back is the cyclicity theorem of max-plus algebra
//! (Baccelli, Cohen, Olsder and Quadrat 1992, theorem 3.112).

use super::schedule::{Rounds, Steady};
use super::sweep::{PassRecord, State};

/// `rounds` rounds that come `times` more times, `shift` ns later each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Repeats {
    pub(super) rounds: u64,
    pub(super) times: u64,
    pub(super) shift: u64,
    /// Passes of the first device when they began.
    anchor: usize,
}

/// A stretch of records that stands for many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fold {
    pub(super) times: u64,
    /// Time between two of them, ns.
    pub(super) shift: u64,
    /// By device: the records that repeat end before this one, and are so many.
    pub(super) until: Vec<usize>,
    pub(super) length: Vec<usize>,
    /// Micro-batches between two of them: forward, and backward passes.
    pub(super) forward: i64,
    pub(super) backward: i64,
}

impl Fold {
    pub(super) fn new(repeats: Repeats, passes: &[Vec<PassRecord>], rounds: &Rounds) -> Self {
        // Every device does the same number of passes in the rounds of a steady stretch.
        let length = passes.first().map_or(0, |first| first.len() - repeats.anchor);
        Self {
            times: repeats.times,
            shift: repeats.shift,
            until: passes.iter().map(Vec::len).collect(),
            length: vec![length; passes.len()],
            forward: rounds.micro_batches_in(repeats.rounds, false),
            backward: rounds.micro_batches_in(repeats.rounds, true),
        }
    }
}

/// Looks for a state that has been there before (Brent 1980: one state is kept, and replaced at doubling distances).
pub(super) struct Folder {
    steady: Steady,
    kept: Option<(u64, State)>,
    /// Passes of the first device when the state was kept.
    anchor: usize,
    /// Rounds after which the kept state is replaced.
    patience: u64,
    folded: bool,
}

impl Folder {
    pub(super) fn new(steady: Steady) -> Self {
        Self { steady, kept: None, anchor: 0, patience: steady.period, folded: false }
    }

    /// What repeats from `round` on, before which `state` holds and the first device has done `passes` passes.
    pub(super) fn look(&mut self, round: u64, state: &State, passes: usize) -> Option<Repeats> {
        if self.folded || !(round - self.steady.from).is_multiple_of(self.steady.period) {
            return None;
        }
        let Some((since, kept)) = &self.kept else {
            self.keep(round, state, passes);
            return None;
        };
        let rounds = round - since;
        let times = (self.steady.until - round) / rounds;
        match shift(kept, state) {
            Some(shift) if times > 0 => {
                self.folded = true;
                Some(Repeats { rounds, times, shift, anchor: self.anchor })
            }
            _ => {
                if rounds >= self.patience {
                    self.patience *= 2;
                    self.keep(round, state, passes);
                }
                None
            }
        }
    }

    fn keep(&mut self, round: u64, state: &State, passes: usize) {
        self.kept = Some((round, state.clone()));
        self.anchor = passes;
    }
}

/// By how much `later` is `earlier` moved; times that are still zero are those of nothing.
fn shift(earlier: &State, later: &State) -> Option<u64> {
    let mut moved = None;
    for (before, after) in earlier.times().zip(later.times()) {
        if before == 0 && after == 0 {
            continue;
        }
        let by = after.checked_sub(before).filter(|_| before > 0)?;
        if *moved.get_or_insert(by) != by {
            return None;
        }
    }
    moved
}
