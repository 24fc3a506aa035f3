//! A server that takes gradients as they come: what it may do when, the same in virtual and in real time.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::program::{Action, GroupId, Program, Rank};

/// The gradients that a worker has handed to a server, and what became of them. Numbers count from the begin of the step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Push {
    /// The group whose server it went to.
    pub group: GroupId,
    /// Who pushed.
    pub worker: Rank,
    /// Pushes of the worker before it.
    pub clock: u64,
    /// Pushes of all workers that the parameters held from which the gradients come.
    pub read: u64,
    /// Pushes of each worker that these parameters held, of the one with fewest.
    pub complete: u64,
    /// Pushes that had been applied before the update that applied this one. Those of the same number were summed and
    /// applied together.
    pub before: u64,
}

impl Push {
    /// Pushes of others that were applied between reading the parameters and updating them.
    pub const fn staleness(&self) -> u64 {
        self.before.saturating_sub(self.read)
    }

    /// By how many pushes the worker was ahead of what its parameters held of every worker: at most the bound of
    /// [`Synchronisation::StaleServer`](crate::Synchronisation::StaleServer).
    pub const fn lead(&self) -> u64 {
        self.clock.saturating_sub(self.complete)
    }
}

/// What a server does next. Places are those of ranks in the group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Whose gradients it sums, in this order, and applies as one update; nobody's where nothing has come since the last one.
    pub update: Vec<usize>,
    /// To whom it then sends the parameters.
    pub readers: Vec<usize>,
}

#[derive(Clone, Debug)]
struct Worker {
    rank: Rank,
    /// What its coming pulls need.
    needs: VecDeque<u64>,
    /// Pushes that have come.
    clock: u64,
    /// The last of them is not applied.
    pending: bool,
    /// It waits for parameters.
    asks: bool,
    /// What its parameters hold, as [`Push`] says it.
    read: u64,
    complete: u64,
}

/// The state of a server over one step of a program.
///
/// A worker that has pushed asks for parameters. It gets them as soon as every worker has pushed as often as its pull needs;
/// before that, all that has come is applied. What nobody reads in between is applied as one update of the sum: where everybody
/// waits for everybody, that is the synchronous server's one update of all gradients.
///
/// ```
/// # use cutplane_plan::{Answer, PushLedger};
/// // Two workers of two micro-batches, of which none may be ahead of the other by more than one.
/// let mut server = PushLedger::of_needs(&[0, 2], 2);
/// server.take(0);
/// assert_eq!(server.answer(), Some(Answer { update: vec![0], readers: vec![0] }));
/// server.take(0);
/// assert_eq!(server.answer(), None, "the last pull of a step needs everything");
/// server.take(1);
/// assert_eq!(server.answer(), Some(Answer { update: vec![0, 1], readers: vec![1] }));
/// ```
#[derive(Clone, Debug)]
pub struct PushLedger {
    group: GroupId,
    workers: Vec<Worker>,
    applied: u64,
    pushes: Vec<Push>,
}

impl PushLedger {
    /// The server of a group at the begin of a step.
    pub fn new(program: &Program, group: GroupId) -> Self {
        let needs = |rank: &Rank| -> VecDeque<u64> {
            let list = &program.ranks[rank.index()].instructions;
            let pulls = list.iter().filter_map(|instruction| match instruction.action {
                Action::Pull { group: of, needs, .. } if of == group => Some(needs),
                _ => None,
            });
            pulls.collect()
        };
        let workers = program.group(group).ranks.iter().map(|rank| Worker::new(*rank, needs(rank))).collect();
        Self { group, workers, applied: 0, pushes: Vec::new() }
    }

    /// A server of as many workers, whose pulls all have these needs.
    pub fn of_needs(needs: &[u64], workers: u32) -> Self {
        let workers = (0..workers).map(|rank| Worker::new(Rank(rank), needs.iter().copied().collect()));
        Self { group: GroupId(0), workers: workers.collect(), applied: 0, pushes: Vec::new() }
    }

    /// Whether a push of the worker at this place may come now.
    pub fn expects(&self, place: usize) -> bool {
        let worker = &self.workers[place];
        !worker.asks && !worker.needs.is_empty()
    }

    /// A push of the worker at this place has come; the worker asks for parameters.
    pub fn take(&mut self, place: usize) {
        let worker = &mut self.workers[place];
        (worker.asks, worker.pending) = (true, true);
        worker.clock += 1;
    }

    /// What is to be done now; `None` when nobody may have parameters.
    pub fn answer(&mut self) -> Option<Answer> {
        let complete = self.workers.iter().map(|worker| worker.clock).min().unwrap_or(0);
        let may_read = |worker: &Worker| worker.asks && worker.needs.front().is_some_and(|needs| *needs <= complete);
        let places = |pick: &dyn Fn(&Worker) -> bool| -> Vec<usize> {
            (0..self.workers.len()).filter(|place| pick(&self.workers[*place])).collect()
        };
        let (readers, update) = (places(&may_read), places(&|worker| worker.pending));
        if readers.is_empty() {
            return None;
        }
        let before = self.applied;
        for place in &update {
            let Worker { rank, clock, pending, read, complete, .. } = &mut self.workers[*place];
            *pending = false;
            let (group, worker, clock) = (self.group, *rank, *clock - 1);
            self.pushes.push(Push { group, worker, clock, read: *read, complete: *complete, before });
        }
        self.applied += update.len() as u64;
        for place in &readers {
            let worker = &mut self.workers[*place];
            worker.needs.pop_front();
            (worker.asks, worker.read, worker.complete) = (false, self.applied, complete);
        }
        Some(Answer { update, readers })
    }

    /// All pushes that were applied, in the order of the updates.
    pub fn pushes(&self) -> &[Push] {
        &self.pushes
    }
}

impl Worker {
    fn new(rank: Rank, needs: VecDeque<u64>) -> Self {
        Self { rank, needs, clock: 0, pending: false, asks: false, read: 0, complete: 0 }
    }
}
