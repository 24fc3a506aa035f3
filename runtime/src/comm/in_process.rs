//! The world of threads in one process: messages are moved, collectives run over shared memory.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use cutplane_plan::Rank;

use super::checks;
use super::error::CommError;
use super::gate::{Gate, Patience};
use super::group::{Call, Group, Round, Shown, part, sum_blocks};
use super::{Arrived, Communicator, Payload, Pending};

/// How a world waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommOptions {
    /// After this time a wait ends with [`CommError::Timeout`].
    pub timeout: Duration,
    /// Time of busy looking before a waiting rank sleeps. Looking notices a message in well under a microsecond, waking
    /// up takes tens; but it takes a core, so it should be zero when there are more ranks than cores.
    pub spin: Duration,
}

impl Default for CommOptions {
    fn default() -> Self {
        Self { timeout: Duration::from_mins(1), spin: Duration::from_micros(50) }
    }
}

type Mailbox = HashMap<(Rank, u64), VecDeque<Payload>>;

#[derive(Debug)]
struct World {
    options: CommOptions,
    mailboxes: Vec<Gate<Mailbox>>,
    groups: Mutex<HashMap<Vec<Rank>, Arc<Group>>>,
    failure: OnceLock<(Rank, String)>,
    gone: Vec<AtomicBool>,
}

impl World {
    fn patience(&self) -> Patience {
        Patience { spin: self.options.spin, timeout: Some(self.options.timeout) }
    }

    fn check_failure(&self, rank: Rank) -> Result<(), CommError> {
        match self.failure.get() {
            None => Ok(()),
            Some((failed, reason)) => Err(CommError::PeerFailed { rank, failed: *failed, reason: reason.clone() }),
        }
    }

    fn is_gone(&self, rank: Rank) -> bool {
        self.gone[rank.index()].load(Ordering::Acquire)
    }

    fn wake_all(&self) {
        self.mailboxes.iter().for_each(|mailbox| mailbox.change(|_| ((), true)));
        self.groups.lock().unwrap_or_else(PoisonError::into_inner).values().for_each(|group| group.wake());
    }

    fn group(&self, ranks: &[Rank]) -> Arc<Group> {
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        groups.entry(ranks.to_vec()).or_insert_with(|| Arc::new(Group::new(ranks.to_vec()))).clone()
    }
}

/// One rank of a world of threads. Dropping it leaves the world.
#[derive(Debug)]
pub struct InProcess {
    rank: Rank,
    world: Arc<World>,
    groups: RefCell<HashMap<Vec<Rank>, Arc<Group>>>,
}

impl InProcess {
    /// A world of `ranks` ranks; each is to be moved to its thread.
    ///
    /// ```
    /// use cutplane_runtime::comm::{CommOptions, Communicator, InProcess};
    /// let world = InProcess::world(2, CommOptions::default());
    /// let group: Vec<_> = world.iter().map(Communicator::rank).collect();
    /// let ranks: Vec<_> = world.into_iter().zip([1.0, 2.0]).map(|(comm, x)| {
    ///     let group = group.clone();
    ///     std::thread::spawn(move || {
    ///         let mut buffer = [x; 3];
    ///         comm.all_reduce(&group, &mut buffer).map(|_| buffer)
    ///     })
    /// }).collect();
    /// for rank in ranks {
    ///     assert_eq!(rank.join().expect("no panic"), Ok([3.0; 3]));
    /// }
    /// ```
    pub fn world(ranks: usize, options: CommOptions) -> Vec<Self> {
        let world = Arc::new(World {
            options,
            mailboxes: (0..ranks).map(|_| Gate::new(Mailbox::new())).collect(),
            groups: Mutex::default(),
            failure: OnceLock::new(),
            gone: (0..ranks).map(|_| AtomicBool::new(false)).collect(),
        });
        let member = |rank| Self { rank: Rank(rank as u32), world: world.clone(), groups: RefCell::default() };
        (0..ranks).map(member).collect()
    }

    fn take(&self, from: Rank, message: u64) -> Result<Arrived<Payload>, CommError> {
        let start = Instant::now();
        let world = &self.world;
        let what = || format!("message {message}");
        let come = world.mailboxes[self.rank.index()].wait(world.patience(), |mailbox| {
            if let Some(payload) = take_first(mailbox, (from, message)) {
                return Some(Ok(payload));
            }
            let gone = world.is_gone(from);
            let lost = || CommError::PeerGone { rank: self.rank, peer: from, what: what() };
            world.check_failure(self.rank).err().or_else(|| gone.then(lost)).map(Err)
        });
        let waited = start.elapsed();
        let timeout = || CommError::Timeout { rank: self.rank, what: what(), peers: vec![from], after: waited };
        come.unwrap_or_else(|| Err(timeout())).map(|value| Arrived { value, waited })
    }

    fn group(&self, ranks: &[Rank]) -> Result<Arc<Group>, CommError> {
        if let Some(group) = self.groups.borrow().get(ranks) {
            return Ok(group.clone());
        }
        checks::group(self.rank, ranks, self.size())?;
        let group = self.world.group(ranks);
        self.groups.borrow_mut().insert(ranks.to_vec(), group.clone());
        Ok(group)
    }

    /// Meets the group, lends it `memory`, does this rank's `work`, and leaves when all have done theirs.
    fn collective(
        &self,
        ranks: &[Rank],
        call: Call,
        memory: *mut f32,
        work: impl FnOnce(&Round<'_>),
    ) -> Result<Duration, CommError> {
        let group = self.group(ranks)?;
        let round = group.meet(self.rank, Shown { call, memory }, self.world.patience(), |absent| {
            self.world.check_failure(self.rank)?;
            match absent.iter().find(|peer| self.world.is_gone(**peer)) {
                None => Ok(()),
                Some(peer) => Err(CommError::PeerGone { rank: self.rank, peer: *peer, what: call.name.into() }),
            }
        })?;
        work(&round);
        round.leave();
        Ok(round.waited)
    }
}

fn take_first(mailbox: &mut Mailbox, key: (Rank, u64)) -> Option<Payload> {
    let queue = mailbox.get_mut(&key)?;
    let payload = queue.pop_front();
    if queue.is_empty() {
        mailbox.remove(&key);
    }
    payload
}

impl Communicator for InProcess {
    fn rank(&self) -> Rank {
        self.rank
    }

    fn size(&self) -> usize {
        self.world.mailboxes.len()
    }

    fn carries_handles(&self) -> bool {
        true
    }

    fn send(&self, to: Rank, message: u64, payload: Payload) -> Result<Pending<'_, ()>, CommError> {
        checks::peer(self.rank, to, self.size())?;
        self.world.check_failure(self.rank)?;
        if self.world.is_gone(to) {
            return Err(CommError::PeerGone { rank: self.rank, peer: to, what: format!("message {message}") });
        }
        self.world.mailboxes[to.index()].change(|mailbox| {
            mailbox.entry((self.rank, message)).or_default().push_back(payload);
            ((), true)
        });
        Ok(Pending::new(|| Ok(Arrived { value: (), waited: Duration::ZERO })))
    }

    fn recv(&self, from: Rank, message: u64) -> Result<Pending<'_, Payload>, CommError> {
        checks::peer(self.rank, from, self.size())?;
        Ok(Pending::new(move || self.take(from, message)))
    }

    fn has_come(&self, from: Rank, message: u64) -> Result<bool, CommError> {
        checks::peer(self.rank, from, self.size())?;
        let mailbox = &self.world.mailboxes[self.rank.index()];
        // What was sent before leaving is there before the sender is gone.
        let gone = self.world.is_gone(from);
        if mailbox.look(|mailbox| mailbox.contains_key(&(from, message))) {
            return Ok(true);
        }
        self.world.check_failure(self.rank)?;
        let lost = || CommError::PeerGone { rank: self.rank, peer: from, what: format!("message {message}") };
        if gone { Err(lost()) } else { Ok(false) }
    }

    fn all_reduce(&self, group: &[Rank], buffer: &mut [f32]) -> Result<Duration, CommError> {
        let call = Call { name: "all-reduce", len: buffer.len(), root: None };
        self.collective(group, call, buffer.as_mut_ptr(), |round| {
            let (start, end) = part(round.position, round.size(), call.len);
            let everywhere = |first: usize, sum: &[f32]| {
                // SAFETY: as below.
                (0..round.size()).for_each(|to| unsafe { round.write(to, first, sum) });
            };
            // SAFETY: all memories are exclusively borrowed buffers of `len` numbers, and each rank reads and writes only
            // part `position` of each of them.
            unsafe { sum_blocks(round, start, end, everywhere) };
        })
    }

    fn reduce_scatter(&self, group: &[Rank], input: &[f32], output: &mut [f32]) -> Result<Duration, CommError> {
        checks::sizes(self.rank, "reduce-scatter", (input.len(), output.len()), group)?;
        let call = Call { name: "reduce-scatter", len: input.len(), root: None };
        self.collective(group, call, input.as_ptr().cast_mut(), |round| {
            let start = round.position * output.len();
            let keep =
                |first: usize, sum: &[f32]| output[first - start..first - start + sum.len()].copy_from_slice(sum);
            // SAFETY: nobody writes to any input.
            unsafe { sum_blocks(round, start, call.len / round.size() + start, keep) };
        })
    }

    fn all_gather(&self, group: &[Rank], input: &[f32], output: &mut [f32]) -> Result<Duration, CommError> {
        checks::sizes(self.rank, "all-gather", (input.len(), output.len()), group)?;
        let call = Call { name: "all-gather", len: input.len(), root: None };
        self.collective(group, call, input.as_ptr().cast_mut(), |round| {
            for (from, part) in output.chunks_exact_mut(call.len.max(1)).enumerate() {
                // SAFETY: nobody writes to any input.
                part.copy_from_slice(unsafe { round.read(from, 0, call.len) });
            }
        })
    }

    fn broadcast(&self, group: &[Rank], root: Rank, buffer: &mut [f32]) -> Result<Duration, CommError> {
        let call = Call { name: "broadcast", len: buffer.len(), root: Some(root) };
        let source = checks::root(self.rank, group, root, self.size())?;
        self.collective(group, call, buffer.as_mut_ptr(), |round| {
            if round.position != source {
                // SAFETY: nobody writes to the root's buffer.
                buffer.copy_from_slice(unsafe { round.read(source, 0, call.len) });
            }
        })
    }

    fn reduce(&self, group: &[Rank], root: Rank, buffer: &mut [f32]) -> Result<Duration, CommError> {
        let call = Call { name: "reduce", len: buffer.len(), root: Some(root) };
        let target = checks::root(self.rank, group, root, self.size())?;
        self.collective(group, call, buffer.as_mut_ptr(), |round| {
            let (start, end) = part(round.position, round.size(), call.len);
            // SAFETY: all memories are exclusively borrowed buffers of `len` numbers, and each rank reads and writes only
            // part `position` of each of them.
            unsafe { sum_blocks(round, start, end, |first, sum| round.write(target, first, sum)) };
        })
    }

    fn all_to_all(&self, group: &[Rank], input: &[f32], output: &mut [f32]) -> Result<Duration, CommError> {
        checks::sizes(self.rank, "all-to-all", (input.len(), output.len()), group)?;
        let call = Call { name: "all-to-all", len: input.len(), root: None };
        self.collective(group, call, input.as_ptr().cast_mut(), |round| {
            let part = call.len / round.size();
            let mine = round.position * part;
            for (from, place) in output.chunks_exact_mut(part.max(1)).enumerate() {
                // SAFETY: nobody writes to any input.
                place.copy_from_slice(unsafe { round.read(from, mine, mine + part) });
            }
        })
    }

    fn agree(
        &self,
        group: &[Rank],
        what: &'static str,
        numbers: usize,
        root: Option<Rank>,
    ) -> Result<Duration, CommError> {
        // Nobody follows the pointer.
        self.collective(group, Call { name: what, len: numbers, root }, std::ptr::null_mut(), |_| ())
    }

    fn health(&self) -> Result<(), CommError> {
        self.world.check_failure(self.rank)
    }

    fn abort(&self, reason: &str) {
        // A second report is dropped: the first failure is the cause.
        let _ = self.world.failure.set((self.rank, reason.to_owned()));
        self.world.wake_all();
    }
}

impl Drop for InProcess {
    fn drop(&mut self) {
        self.world.gone[self.rank.index()].store(true, Ordering::Release);
        self.world.wake_all();
    }
}
