//! Runs whose ranks are in several processes: one leads, the others do what it says.
//!
//! The leading process has a [`Run`] as if all ranks were its own: a thread carries its commands to the other processes and
//! their answers back, and notices when one of them ends or falls silent. Another process calls [`Run::serve`] instead of
//! taking steps. Every process tells the others ten times a second that it lives, from a thread that computes nothing.
//!
//! Clocks are compared as Cristian does ("Probabilistic clock synchronization", 1989): the other's time, told in answer to
//! a question, belongs to the middle between question and answer; of several tries the quickest counts, and its half is
//! the bound of the error. Clocks drift, so this is done again before a step when the last time was ten seconds ago.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use cutplane_plan::Rank;

use super::rank::{Command, Failure, Reply};
use super::run::{Run, unreachable_processes};
use super::step::Shared;
use super::word::{Clocks, Word, count};
use crate::comm::{Processes, Talk};
use crate::error::RuntimeError;

/// How often a process says that it lives.
const PULSE: Duration = Duration::from_millis(100);
/// Between two looks for words: while a message is on its way whose sender may be computing, while ranks are at work, and
/// when there is nothing to do.
const NAPS: [Duration; 3] = [Duration::from_micros(100), Duration::from_millis(1), Duration::from_millis(5)];
/// For how long a process that was asked for the time looks for the next question without a nap.
const ATTENTION: Duration = Duration::from_millis(1);
/// How old a comparison of clocks may be, and how many questions one takes.
const DRIFT: Duration = Duration::from_secs(10);
const QUESTIONS: usize = 20;
/// For how long the ranks that wait for a lost process may still say so.
const TESTIMONY: Duration = Duration::from_millis(300);

/// Processes that have been lost, with the moment when that was noticed, and how.
type Lost = Arc<Mutex<BTreeMap<usize, (Instant, String)>>>;

/// The other processes, seen from the leading one.
#[derive(Debug)]
pub(super) struct Others {
    orders: Sender<Word>,
    lost: Lost,
    /// Ranks of a process.
    share: usize,
    thread: Option<JoinHandle<()>>,
}

impl Others {
    /// Starts to listen to the other processes; their answers go to `replies`.
    pub(super) fn lead(
        processes: Arc<dyn Processes>,
        shared: Arc<Shared>,
        replies: Sender<Reply>,
    ) -> Result<Self, RuntimeError> {
        let talk = processes.talk().map_err(|error| unreachable_processes(&error))?;
        let (orders, orders_of_run) = channel();
        let (lost, share) = (Lost::default(), processes.share(shared.program.ranks.len()));
        let now = Instant::now();
        let clocks = Clocks { origin: now, ahead: 0 };
        let leader = Leader {
            clocks: vec![clocks; processes.count()],
            heard: vec![now; processes.count()],
            compared: None,
            awaited: 0,
            processes,
            talk,
            shared,
            replies,
            lost: lost.clone(),
        };
        let body = move || leader.work(&orders_of_run);
        let thread = std::thread::Builder::new().name("processes".into()).spawn(body);
        let thread = thread.map_err(|error| RuntimeError::Thread { rank: 0, problem: error.to_string() })?;
        Ok(Self { orders, lost, share, thread: Some(thread) })
    }

    /// Has the ranks of all other processes do something.
    pub(super) fn order(&self, command: &Command) {
        // A thread that has ended has noticed that all is lost.
        let _ = self.orders.send(Word::of(command));
    }

    /// How the process of a rank was lost, once those that wait for it have had time to say so.
    pub(super) fn lost(&self, rank: Rank) -> Option<String> {
        let lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, how) = lost.get(&(rank.index() / self.share))?;
        (since.elapsed() >= TESTIMONY).then(|| how.clone())
    }
}

impl Drop for Others {
    fn drop(&mut self) {
        let _ = self.orders.send(Word::End);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// For how long a process may leave its words and messages alone.
fn nap(talk: &dyn Talk, awaited: usize) -> Duration {
    NAPS[if talk.is_busy() {
        0
    } else if awaited > 0 {
        1
    } else {
        2
    }]
}

/// What the thread of the leading process knows.
struct Leader {
    processes: Arc<dyn Processes>,
    talk: Box<dyn Talk>,
    shared: Arc<Shared>,
    replies: Sender<Reply>,
    lost: Lost,
    clocks: Vec<Clocks>,
    heard: Vec<Instant>,
    compared: Option<Instant>,
    /// Answers that have not come.
    awaited: usize,
}

impl Leader {
    fn work(mut self, orders: &Receiver<Word>) {
        let mut said = Instant::now();
        loop {
            match orders.recv_timeout(nap(&*self.talk, self.awaited)) {
                Ok(Word::End) | Err(RecvTimeoutError::Disconnected) => {
                    self.tell_all(&Word::End);
                    return;
                }
                Ok(order) => {
                    if matches!(order, Word::Step { .. }) {
                        self.compare_clocks();
                    }
                    self.tell_all(&order);
                    self.awaited += self.ranks_elsewhere();
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            if said.elapsed() > PULSE {
                said = Instant::now();
                self.tell_all(&Word::Alive);
                self.look_after();
            }
            while self.listen() {}
        }
    }

    fn ranks_elsewhere(&self) -> usize {
        let ranks = self.shared.progress.len();
        ranks - self.processes.share(ranks).min(ranks)
    }

    fn tell_all(&mut self, word: &Word) {
        let bytes = word.encode();
        for process in 1..self.processes.count() {
            if let Err(error) = self.talk.tell(process, bytes.clone()) {
                self.lose(process, error.to_string());
            }
        }
    }

    /// Hears one word, if there is one; false when there is none.
    fn listen(&mut self) -> bool {
        match self.talk.hear() {
            Ok(None) => false,
            Ok(Some((process, bytes))) => {
                self.heard[process] = Instant::now();
                match Word::decode(&bytes) {
                    Some(Word::Answer(rank, said)) => {
                        self.awaited = self.awaited.saturating_sub(1);
                        // Nobody listens any more when the run has been dropped.
                        let _ = self.replies.send(said.reply(rank, self.clocks[process]));
                    }
                    Some(Word::Progress(places)) => self.note_progress(process, &places),
                    _ => {}
                }
                true
            }
            Err(error) => {
                (1..self.processes.count()).for_each(|process| self.lose(process, error.to_string()));
                false
            }
        }
    }

    fn note_progress(&self, process: usize, places: &[usize]) {
        let first = process * self.processes.share(self.shared.progress.len());
        for (place, progress) in places.iter().zip(self.shared.progress.iter().skip(first)) {
            progress.store(*place, Ordering::Relaxed);
        }
    }

    /// Notices processes that have ended, or that have said nothing for too long.
    fn look_after(&mut self) {
        for process in 1..self.processes.count() {
            let (silent, name) = (self.heard[process].elapsed(), self.processes.describe(process));
            if !self.processes.is_alive(process) {
                self.lose(process, format!("{name} has ended"));
            } else if silent > self.shared.patience {
                self.lose(process, format!("{name} has been silent for {:.1} s", silent.as_secs_f64()));
            }
        }
    }

    fn lose(&self, process: usize, how: String) {
        let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        lost.entry(process).or_insert_with(|| (Instant::now(), how));
    }

    fn compare_clocks(&mut self) {
        if self.compared.is_some_and(|when| when.elapsed() < DRIFT) {
            return;
        }
        for process in 1..self.processes.count() {
            let tries = (0..QUESTIONS).map_while(|_| self.ask_time(process));
            if let Some((_, ahead)) = tries.min_by_key(|(took, _)| *took) {
                self.clocks[process].ahead = ahead;
            }
        }
        self.compared = Some(Instant::now());
    }

    /// How long question and answer took, and by how much the process is ahead; `None` when it does not answer soon.
    fn ask_time(&mut self, process: usize) -> Option<(Duration, i64)> {
        let asked = Instant::now();
        self.talk.tell(process, Word::Ping.encode()).ok()?;
        while asked.elapsed() < PULSE {
            let Some((from, bytes)) = self.talk.hear().ok()? else { continue };
            self.heard[from] = Instant::now();
            match Word::decode(&bytes) {
                Some(Word::Pong(time)) if from == process => {
                    let took = asked.elapsed();
                    let middle = count(self.clocks[process].origin, asked + took / 2);
                    return Some((took, time as i64 - middle as i64));
                }
                Some(Word::Progress(places)) => self.note_progress(from, &places),
                _ => {}
            }
        }
        None
    }
}

impl Run {
    /// Whether this process gives the orders: always, but for all processes of a launcher except the first.
    pub fn leads(&self) -> bool {
        self.processes().is_none_or(|processes| processes.index() == 0)
    }

    /// In a process that does not lead: lets its ranks do what the leading process says, until that ends the run.
    ///
    /// # Errors
    /// [`RuntimeError::Rank`] when the leading process has ended or is silent for longer than the timeout of the
    /// communicator; with the failure of a rank of this process, if there was one.
    pub fn serve(mut self) -> Result<(), RuntimeError> {
        let (Some(processes), Some(mut talk)) = (self.processes().cloned(), self.take_leader()) else { return Ok(()) };
        let (origin, ranks) = (Instant::now(), self.program().ranks.len());
        let mine = |process: usize| (process * processes.share(ranks)).min(ranks);
        let mine = mine(processes.index())..mine(processes.index() + 1);
        let (mut heard, mut said, mut asked) = (origin, origin, None::<Instant>);
        let mut awaited = mine.len();
        let mut failure: Option<String> = None;
        loop {
            while let Ok(reply) = self.replies().try_recv() {
                awaited = awaited.saturating_sub(1);
                if let (_, Err(Failure { error, .. })) = &reply {
                    failure.get_or_insert_with(|| error.to_string());
                }
                talk.tell(0, Word::answer(reply, origin).encode()).map_err(|error| unreachable_processes(&error))?;
            }
            if said.elapsed() > PULSE {
                said = Instant::now();
                let places = self.shared().progress[mine.clone()].iter().map(|place| place.load(Ordering::Relaxed));
                talk.tell(0, Word::Progress(places.collect()).encode())
                    .map_err(|error| unreachable_processes(&error))?;
                self.check_leader(&*processes, heard, failure.as_deref())?;
            }
            let Some((_, bytes)) = talk.hear().map_err(|error| unreachable_processes(&error))? else {
                if asked.is_none_or(|asked| asked.elapsed() > ATTENTION) {
                    std::thread::sleep(nap(&*talk, awaited));
                }
                continue;
            };
            heard = Instant::now();
            match Word::decode(&bytes) {
                Some(Word::End) => return Ok(()),
                Some(Word::Ping) => {
                    asked = Some(heard);
                    talk.tell(0, Word::Pong(count(origin, Instant::now())).encode())
                        .map_err(|error| unreachable_processes(&error))?;
                }
                Some(word) => {
                    if let Some(command) = word.command() {
                        self.order_local(&command?);
                        awaited += mine.len();
                    }
                }
                None => {}
            }
        }
    }

    fn check_leader(
        &self,
        processes: &dyn Processes,
        heard: Instant,
        failure: Option<&str>,
    ) -> Result<(), RuntimeError> {
        let silent = heard.elapsed();
        let how =
            if processes.is_alive(0) { format!("silent for {:.1} s", silent.as_secs_f64()) } else { "gone".into() };
        if processes.is_alive(0) && silent <= self.patience() {
            return Ok(());
        }
        // A rank of this process that waits for one of the leading process may say so now.
        std::thread::sleep(TESTIMONY);
        let late = self.replies().try_iter().find_map(|(_, answer)| Some(answer.err()?.error.to_string()));
        let failure = failure.map(str::to_owned).or(late).map(|failure| format!("; {failure}")).unwrap_or_default();
        let problem = format!("the leading {} is {how}{failure}", processes.describe(0));
        Err(RuntimeError::Rank { rank: 0, problem })
    }
}
