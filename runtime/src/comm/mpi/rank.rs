//! One rank of a world of processes: its messages, and how it waits.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use cutplane_plan::Rank;

use super::launch::MpiProcesses;
use super::note::{Call, Note, Outline};
use super::raw::{Buffer, Channel, OnTheWay};
use super::tensors::{Coming, parts, room};
use super::world::World;
use crate::comm::rest::rest;
use crate::comm::{Arrived, CommError, CommOptions, Communicator, Payload, Pending, Processes, checks};
use crate::memory;
use crate::tensor::HostTensor;

/// Kinds of tags; the lower 16 bits name two ranks of two processes.
const TENSORS: i32 = 1 << 16;
pub(super) const SUMMANDS: i32 = 2 << 16;
pub(super) const RESULTS: i32 = 3 << 16;
/// Ranks of a process at most, so that two of them fit a tag.
const RANKS_OF_A_PROCESS: usize = 256;
/// How often a waiting rank looks whether those that it waits for have ended.
const HEALTH: Duration = Duration::from_millis(50);

/// What has come and was not asked for yet.
#[derive(Default)]
pub(super) struct Inbox {
    messages: HashMap<(Rank, u64), VecDeque<Coming>>,
    pub(super) calls: HashMap<Rank, VecDeque<Call>>,
    gone: Vec<Rank>,
}

/// One rank of a world of processes. Dropping it leaves the world.
pub struct Mpi {
    rank: Rank,
    pub(super) world: Arc<World>,
    pub(super) inbox: RefCell<Inbox>,
    leaving: RefCell<Vec<OnTheWay>>,
    /// How many of them the process has been told of.
    counted: Cell<usize>,
    /// Memory of blocks that have been sent or summed.
    pub(super) spare: RefCell<Vec<Vec<f32>>>,
}

impl std::fmt::Debug for Mpi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Mpi({} of {})", self.rank, self.world.size)
    }
}

impl Mpi {
    /// This process's ends of a new world of `ranks` ranks, dealt as [`Processes::share`] says. All processes call this
    /// together.
    ///
    /// # Errors
    /// [`CommError::Transport`].
    pub fn world(processes: &Arc<MpiProcesses>, ranks: usize, options: CommOptions) -> Result<Vec<Self>, CommError> {
        let fail = |problem| CommError::Transport { rank: Rank(0), what: "opening a world".into(), problem };
        let share = processes.share(ranks);
        if share > RANKS_OF_A_PROCESS {
            let problem =
                format!("{share} ranks in a process, which has room for {RANKS_OF_A_PROCESS}: start more processes");
            return Err(fail(problem));
        }
        let channel = Channel::open().map_err(fail)?;
        let failure = OnceLock::new();
        let world = Arc::new(World { processes: processes.clone(), channel, options, size: ranks, share, failure });
        let first = processes.index() * share;
        let end = |rank: usize| Self {
            rank: Rank(rank as u32),
            world: world.clone(),
            inbox: RefCell::default(),
            leaving: RefCell::default(),
            counted: Cell::new(0),
            spare: RefCell::default(),
        };
        Ok((first.min(ranks)..(first + share).min(ranks)).map(end).collect())
    }

    pub(super) fn failed(&self, what: &str, problem: String) -> CommError {
        CommError::Transport { rank: self.rank, what: what.into(), problem }
    }

    fn check_failure(&self) -> Result<(), CommError> {
        match self.world.failure.get() {
            None => Ok(()),
            Some((failed, reason)) => {
                Err(CommError::PeerFailed { rank: self.rank, failed: *failed, reason: reason.clone() })
            }
        }
    }

    pub(super) fn is_gone(&self, peer: Rank) -> bool {
        self.inbox.borrow().gone.contains(&peer)
    }

    /// The tag of numbers that `from` sends to `to`.
    fn tag(&self, kind: i32, from: Rank, to: Rank) -> i32 {
        kind | self.world.local(from) << 8 | self.world.local(to)
    }

    /// Tells a rank something ahead of numbers.
    pub(super) fn tell(&self, to: Rank, note: &Note) -> Result<(), CommError> {
        let words = Buffer::Words(note.encode(self.rank));
        let sent = self.world.channel.send(self.world.process(to), self.world.local(to), words);
        self.leaving.borrow_mut().push(sent.map_err(|problem| self.failed("telling a rank", problem))?);
        Ok(())
    }

    /// Starts to send numbers of a kind.
    pub(super) fn post(&self, kind: i32, to: Rank, buffer: Buffer) -> Result<(), CommError> {
        let sent = self.world.channel.send(self.world.process(to), self.tag(kind, self.rank, to), buffer);
        self.leaving.borrow_mut().push(sent.map_err(|problem| self.failed("sending", problem))?);
        Ok(())
    }

    /// Starts to receive numbers of a kind into `buffer`.
    pub(super) fn expect(&self, kind: i32, from: Rank, buffer: Buffer) -> Result<OnTheWay, CommError> {
        let coming = self.world.channel.receive(self.world.process(from), self.tag(kind, from, self.rank), buffer);
        coming.map_err(|problem| self.failed("receiving", problem))
    }

    /// Forgets what has left; blocks of numbers are kept to be used again.
    pub(super) fn sweep(&self) -> Result<(), CommError> {
        let mut leaving = self.leaving.borrow_mut();
        let mut at = 0;
        while at < leaving.len() {
            if !leaving[at].is_over().map_err(|problem| self.failed("sending", problem))? {
                at += 1;
                continue;
            }
            if let Some(Buffer::Floats(block)) = leaving.swap_remove(at).into_buffer() {
                self.recycle(block);
            }
        }
        self.count(leaving.len());
        Ok(())
    }

    /// Tells the process how many messages of this rank are on their way.
    fn count(&self, leaving: usize) {
        let (before, all) = (self.counted.replace(leaving), &self.world.processes.leaving);
        if leaving > before {
            all.fetch_add(leaving - before, Ordering::Relaxed);
        } else {
            all.fetch_sub(before - leaving, Ordering::Relaxed);
        }
    }

    /// Takes in whatever other ranks have told.
    fn pump(&self) -> Result<(), CommError> {
        let channel = &self.world.channel;
        let failed = |problem| self.failed("listening", problem);
        while let Some(noticed) = channel.notice(self.world.local(self.rank)).map_err(failed)? {
            let words = Buffer::Words(vec![0; noticed.bytes / 8]);
            let mut coming = Channel::take(noticed, words).map_err(failed)?;
            while !coming.is_over().map_err(failed)? {
                std::hint::spin_loop();
            }
            let Some(Buffer::Words(words)) = coming.into_buffer() else { continue };
            let (from, note) = Note::decode(&words).ok_or_else(|| failed("words that are no note".into()))?;
            self.take_in(from, note)?;
        }
        Ok(())
    }

    fn take_in(&self, from: Rank, note: Note) -> Result<(), CommError> {
        match note {
            Note::Message { number, tensors: outlines } => {
                let expect = |outline: &Outline| self.expect(TENSORS, from, room(outline));
                let tensors = outlines.iter().map(expect).collect::<Result<Vec<_>, _>>()?;
                let mut inbox = self.inbox.borrow_mut();
                inbox.messages.entry((from, number)).or_default().push_back(Coming { outlines, tensors });
            }
            Note::Call(call) => self.inbox.borrow_mut().calls.entry(from).or_default().push_back(call),
            Note::Gone => self.inbox.borrow_mut().gone.push(from),
            Note::Failed { reason } => {
                // The first report stands.
                let _ = self.world.failure.set((from, reason));
            }
        }
        Ok(())
    }

    /// Waits until `ready` finds something, or until time is up, a rank has failed, or one of the `peers` that are still
    /// waited for has left or ended.
    pub(super) fn wait<R>(
        &self,
        what: impl Fn() -> String,
        peers: impl Fn() -> Vec<Rank>,
        mut ready: impl FnMut() -> Result<Option<R>, CommError>,
    ) -> Result<Arrived<R>, CommError> {
        /// Rounds of asking between two of listening, which costs as much.
        const ROUNDS: u32 = 8;
        let CommOptions { timeout, spin } = self.world.options;
        let (start, mut checked) = (Instant::now(), Duration::ZERO);
        for round in 0u32.. {
            if round.is_multiple_of(ROUNDS) {
                self.pump()?;
            }
            if let Some(value) = ready()? {
                return Ok(Arrived { value, waited: start.elapsed() });
            }
            if !round.is_multiple_of(ROUNDS) {
                continue;
            }
            self.check_failure()?;
            let waited = start.elapsed();
            let lost = |peer: &Rank| self.is_gone(*peer);
            let mut missing = peers().into_iter().find(lost);
            if missing.is_none() && waited.saturating_sub(checked) > HEALTH {
                checked = waited;
                let ended = |peer: &Rank| !self.world.processes.is_alive(self.world.process(*peer));
                missing = peers().into_iter().find(ended);
            }
            if let Some(peer) = missing {
                return Err(CommError::PeerGone { rank: self.rank, peer, what: what() });
            }
            if waited > timeout {
                return Err(CommError::Timeout { rank: self.rank, what: what(), peers: peers(), after: waited });
            }
            rest(waited, spin);
        }
        Err(self.failed(&what(), "waited for too many rounds".into()))
    }

    /// Whether all of the first message of that number is there.
    fn is_there(&self, from: Rank, number: u64) -> Result<bool, CommError> {
        let mut inbox = self.inbox.borrow_mut();
        let first = inbox.messages.get_mut(&(from, number)).and_then(VecDeque::front_mut);
        first.map_or(Ok(false), Coming::is_over).map_err(|problem| self.failed("receiving", problem))
    }

    /// The first message of that number, when all of it is there.
    fn arrived(&self, from: Rank, number: u64) -> Result<Option<Payload>, CommError> {
        if !self.is_there(from, number)? {
            return Ok(None);
        }
        let mut inbox = self.inbox.borrow_mut();
        let Some(queue) = inbox.messages.get_mut(&(from, number)) else { return Ok(None) };
        let coming = queue.pop_front();
        if queue.is_empty() {
            inbox.messages.remove(&(from, number));
        }
        let payload = coming.map(Coming::into_payload);
        // The receiver takes it on its account, as it would what another thread has allocated.
        let tensors: &[HostTensor] = payload.as_deref().unwrap_or_default();
        for tensor in tensors {
            memory::release(tensor.bytes());
        }
        Ok(payload)
    }

    fn has_begun(&self, from: Rank, number: u64) -> bool {
        self.inbox.borrow().messages.contains_key(&(from, number))
    }

    fn take(&self, from: Rank, number: u64) -> Result<Arrived<Payload>, CommError> {
        // A sender may leave before all of what it has sent is here.
        let absent = || if self.has_begun(from, number) { Vec::new() } else { vec![from] };
        let come = self.wait(|| format!("message {number}"), absent, || self.arrived(from, number));
        come.map_err(|error| match error {
            CommError::Timeout { rank, what, after, .. } => CommError::Timeout { rank, what, peers: vec![from], after },
            other => other,
        })
    }

    pub(super) fn recycle(&self, block: Vec<f32>) {
        /// Blocks that are kept.
        const KEPT: usize = 64;
        let mut spare = self.spare.borrow_mut();
        if spare.len() < KEPT && block.capacity() <= super::collective::BLOCK {
            spare.push(block);
        }
    }
}

impl Communicator for Mpi {
    fn rank(&self) -> Rank {
        self.rank
    }

    fn size(&self) -> usize {
        self.world.size
    }

    fn send(&self, to: Rank, message: u64, payload: Payload) -> Result<Pending<'_, ()>, CommError> {
        checks::peer(self.rank, to, self.world.size)?;
        self.pump()?;
        self.check_failure()?;
        if self.is_gone(to) {
            return Err(CommError::PeerGone { rank: self.rank, peer: to, what: format!("message {message}") });
        }
        // This rank frees what it sends, so it stays on its account until it has left.
        for tensor in &payload {
            memory::adopt(tensor.bytes());
        }
        let (tensors, buffers): (Vec<_>, Vec<_>) = payload.into_iter().map(parts).unzip();
        self.tell(to, &Note::Message { number: message, tensors })?;
        buffers.into_iter().try_for_each(|buffer| self.post(TENSORS, to, buffer))?;
        self.sweep()?;
        Ok(Pending::new(|| Ok(Arrived { value: (), waited: Duration::ZERO })))
    }

    fn recv(&self, from: Rank, message: u64) -> Result<Pending<'_, Payload>, CommError> {
        checks::peer(self.rank, from, self.world.size)?;
        Ok(Pending::new(move || self.take(from, message)))
    }

    fn has_come(&self, from: Rank, message: u64) -> Result<bool, CommError> {
        checks::peer(self.rank, from, self.world.size)?;
        self.pump()?;
        if self.is_there(from, message)? {
            return Ok(true);
        }
        self.check_failure()?;
        let lost = || CommError::PeerGone { rank: self.rank, peer: from, what: format!("message {message}") };
        if self.is_gone(from) && !self.has_begun(from, message) { Err(lost()) } else { Ok(false) }
    }

    fn all_reduce(&self, group: &[Rank], buffer: &mut [f32]) -> Result<Duration, CommError> {
        self.sum_everywhere(group, buffer)
    }

    fn reduce_scatter(&self, group: &[Rank], input: &[f32], output: &mut [f32]) -> Result<Duration, CommError> {
        checks::sizes(self.rank, "reduce-scatter", (input.len(), output.len()), group)?;
        self.sum_in_parts(group, input, output)
    }

    fn all_gather(&self, group: &[Rank], input: &[f32], output: &mut [f32]) -> Result<Duration, CommError> {
        checks::sizes(self.rank, "all-gather", (input.len(), output.len()), group)?;
        self.gather_everywhere(group, input, output)
    }

    fn broadcast(&self, group: &[Rank], root: Rank, buffer: &mut [f32]) -> Result<Duration, CommError> {
        let place = checks::root(self.rank, group, root, self.world.size)?;
        self.copy_everywhere(group, place, buffer)
    }

    fn reduce(&self, group: &[Rank], root: Rank, buffer: &mut [f32]) -> Result<Duration, CommError> {
        let place = checks::root(self.rank, group, root, self.world.size)?;
        self.sum_at(group, place, buffer)
    }

    fn all_to_all(&self, group: &[Rank], input: &[f32], output: &mut [f32]) -> Result<Duration, CommError> {
        checks::sizes(self.rank, "all-to-all", (input.len(), output.len()), group)?;
        self.swap_parts(group, input, output)
    }

    fn agree(
        &self,
        group: &[Rank],
        what: &'static str,
        numbers: usize,
        root: Option<Rank>,
    ) -> Result<Duration, CommError> {
        Ok(self.meet(group, what, numbers, root, &[])?.waited)
    }

    fn health(&self) -> Result<(), CommError> {
        self.pump()?;
        self.check_failure()
    }

    fn abort(&self, reason: &str) {
        // A second report is dropped: the first failure is the cause.
        if self.world.failure.set((self.rank, reason.to_owned())).is_err() {
            return;
        }
        let others = (0..self.world.size as u32).map(Rank).filter(|rank| *rank != self.rank);
        for rank in others {
            // Who cannot be told will find out by waiting.
            let _ = self.tell(rank, &Note::Failed { reason: reason.to_owned() });
        }
    }
}

impl Drop for Mpi {
    fn drop(&mut self) {
        for rank in (0..self.world.size as u32).map(Rank).filter(|rank| *rank != self.rank) {
            let _ = self.tell(rank, &Note::Gone);
        }
        let mut last_words = self.world.processes.last_words.lock().unwrap_or_else(PoisonError::into_inner);
        last_words.append(&mut self.leaving.borrow_mut());
        self.count(0);
    }
}
