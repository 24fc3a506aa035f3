//! The processes that a launcher of MPI has started.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use cutplane_plan::Rank;
use mpi::Threading;
use mpi::environment::Universe;
use mpi::ffi;

use super::rank::Mpi;
use super::raw::{Buffer, Channel, OnTheWay};
use crate::comm::{CommError, CommOptions, Communicator, Processes, Talk};

/// What Open MPI reads before it starts, unless it is set: see the documentation of the room.
const SETTINGS: [(&str, &str); 1] = [("OMPI_MCA_btl_vader_single_copy_mechanism", "none")];

/// Words of a process's identity: what of it fits of its host's name, then host, process number.
const NAME: usize = 8;
const WORDS: usize = NAME + 2;

/// The processes of an MPI job. When the last handle is dropped, MPI is left, which waits for the other processes.
pub struct MpiProcesses {
    index: usize,
    identities: Vec<[u64; WORDS]>,
    universe: Mutex<Option<Universe>>,
    /// What departed ranks have sent and nobody has received yet.
    pub(super) last_words: Mutex<Vec<OnTheWay>>,
    /// Messages of this process's ranks that are on their way.
    pub(super) leaving: AtomicUsize,
}

impl std::fmt::Debug for MpiProcesses {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MpiProcesses({} of {})", self.index, self.identities.len())
    }
}

impl MpiProcesses {
    /// Whether a launcher of MPI (`mpirun`, or `srun` with PMI) has started this process as one of several.
    pub fn is_launched() -> bool {
        let several = |name: &str| std::env::var(name).ok().and_then(|count| count.parse::<usize>().ok());
        ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE"].into_iter().filter_map(several).any(|count| count > 1)
            || (std::env::var_os("PMIX_RANK").is_some() && several("SLURM_NTASKS").is_some_and(|count| count > 1))
    }

    /// Joins the other processes. To be called once, before other threads are started.
    ///
    /// # Errors
    /// [`CommError::Transport`] when MPI cannot be started, was started before, or cannot be used by several threads.
    pub fn start() -> Result<Arc<Self>, CommError> {
        let fail = |problem: String| CommError::Transport { rank: Rank(0), what: "starting MPI".into(), problem };
        for (name, value) in SETTINGS {
            if std::env::var_os(name).is_none() {
                // SAFETY: no other thread reads or writes the environment yet, by the contract of this function.
                unsafe { std::env::set_var(name, value) };
            }
        }
        let started = mpi::initialize_with_threading(Threading::Multiple);
        let (universe, threading) = started.ok_or_else(|| fail("it was started before".into()))?;
        if threading != Threading::Multiple {
            return Err(fail("this MPI was built without MPI_THREAD_MULTIPLE".into()));
        }
        let (index, count) = position();
        let identities = Channel::open().and_then(|channel| channel.gather(identity(), count)).map_err(fail)?;
        let (universe, last_words) = (Mutex::new(Some(universe)), Mutex::default());
        Ok(Arc::new(Self { index, identities, universe, last_words, leaving: AtomicUsize::new(0) }))
    }

    fn host(&self, process: usize) -> u64 {
        self.identities[process][NAME]
    }

    fn pid(&self, process: usize) -> u64 {
        self.identities[process][NAME + 1]
    }

    /// Moves what is on its way, and forgets what has arrived.
    pub(super) fn sweep(&self) {
        let mut last_words = self.last_words.lock().unwrap_or_else(PoisonError::into_inner);
        last_words.retain_mut(|message| !message.is_over().unwrap_or(true));
    }
}

fn position() -> (usize, usize) {
    let (mut index, mut count) = (0, 0);
    // SAFETY: MPI is initialised, and both places are on this stack.
    unsafe {
        ffi::MPI_Comm_rank(ffi::RSMPI_COMM_WORLD, &raw mut index);
        ffi::MPI_Comm_size(ffi::RSMPI_COMM_WORLD, &raw mut count);
    }
    (index as usize, count as usize)
}

/// Host name, a number that only processes of one host have in common which can see each other, and the process's own.
fn identity() -> [u64; WORDS] {
    let mut words = [0; WORDS];
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    for (word, bytes) in words[..NAME].iter_mut().zip(host.trim().as_bytes().chunks(8)) {
        let mut eight = [0; 8];
        eight[..bytes.len()].copy_from_slice(bytes);
        *word = u64::from_le_bytes(eight);
    }
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let space = std::fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    words[NAME] = fingerprint(&format!("{host}{boot}{}", space.display()));
    words[NAME + 1] = u64::from(std::process::id());
    words
}

/// FNV-1a: processes of one host must agree on it, whatever their build.
fn fingerprint(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

impl Processes for Arc<MpiProcesses> {
    fn index(&self) -> usize {
        self.index
    }

    fn count(&self) -> usize {
        self.identities.len()
    }

    fn neighbours(&self) -> usize {
        (0..self.count()).filter(|process| self.host(*process) == self.host(self.index)).count()
    }

    fn hosts(&self) -> Vec<usize> {
        let mut known: Vec<u64> = Vec::new();
        let number = |process: usize| {
            let host = self.host(process);
            known.iter().position(|other| *other == host).unwrap_or_else(|| {
                known.push(host);
                known.len() - 1
            })
        };
        (0..self.count()).map(number).collect()
    }

    fn describe(&self, process: usize) -> String {
        let bytes: Vec<u8> = self.identities[process][..NAME].iter().flat_map(|word| word.to_le_bytes()).collect();
        let name = String::from_utf8_lossy(&bytes);
        format!("process {} on {}", self.pid(process), name.trim_end_matches('\0'))
    }

    fn is_alive(&self, process: usize) -> bool {
        if self.host(process) != self.host(self.index) {
            return true;
        }
        // The third field, after the name in brackets, is the state: a process that has ended and that nobody has asked
        // after yet is Z or X.
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{}/stat", self.pid(process))) else { return false };
        let state = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().next());
        !matches!(state, Some("Z" | "X"))
    }

    fn world(&self, ranks: usize, options: CommOptions) -> Result<Vec<Box<dyn Communicator>>, CommError> {
        let ends = Mpi::world(self, ranks, options)?;
        Ok(ends.into_iter().map(|end| Box::new(end) as Box<dyn Communicator>).collect())
    }

    fn talk(&self) -> Result<Box<dyn Talk>, CommError> {
        let what = "opening a channel";
        let fail = |problem| CommError::Transport { rank: Rank(self.index as u32), what: what.into(), problem };
        let channel = Channel::open().map_err(fail)?;
        Ok(Box::new(Conversation { processes: self.clone(), channel, leaving: Vec::new(), coming: VecDeque::new() }))
    }

    fn abort(&self) {
        // SAFETY: MPI is initialised, since a handle exists.
        unsafe { ffi::MPI_Abort(ffi::RSMPI_COMM_WORLD, 1) };
    }
}

impl Drop for MpiProcesses {
    fn drop(&mut self) {
        self.sweep();
        drop(self.universe.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

#[derive(Debug)]
struct Conversation {
    processes: Arc<MpiProcesses>,
    channel: Channel,
    leaving: Vec<OnTheWay>,
    /// In the order in which they were noticed, which is that of their senders.
    coming: VecDeque<(usize, OnTheWay)>,
}

impl Conversation {
    fn failed(&self, what: &str, problem: String) -> CommError {
        CommError::Transport { rank: Rank(self.processes.index as u32), what: what.into(), problem }
    }

    fn next(&mut self) -> Result<Option<(usize, Vec<u8>)>, String> {
        self.processes.sweep();
        self.leaving.retain_mut(|message| !message.is_over().unwrap_or(true));
        while let Some(noticed) = self.channel.notice(0)? {
            let (from, buffer) = (noticed.from, Buffer::Bytes(vec![0; noticed.bytes]));
            self.coming.push_back((from, Channel::take(noticed, buffer)?));
        }
        let Some((_, first)) = self.coming.front_mut() else { return Ok(None) };
        if !first.is_over()? {
            return Ok(None);
        }
        let come = self.coming.pop_front().and_then(|(from, message)| Some((from, message.into_buffer()?)));
        Ok(come.and_then(|(from, buffer)| match buffer {
            Buffer::Bytes(bytes) => Some((from, bytes)),
            _ => None,
        }))
    }
}

impl Talk for Conversation {
    fn tell(&mut self, process: usize, words: Vec<u8>) -> Result<(), CommError> {
        let sent = self.channel.send(process, 0, Buffer::Bytes(words));
        self.leaving.push(sent.map_err(|problem| self.failed("telling a process", problem))?);
        Ok(())
    }

    fn hear(&mut self) -> Result<Option<(usize, Vec<u8>)>, CommError> {
        self.next().map_err(|problem| self.failed("listening to the processes", problem))
    }

    fn is_busy(&self) -> bool {
        self.processes.leaving.load(Ordering::Relaxed) > 0
    }
}

impl Drop for Conversation {
    fn drop(&mut self) {
        let mut last_words = self.processes.last_words.lock().unwrap_or_else(PoisonError::into_inner);
        last_words.append(&mut self.leaving);
    }
}
