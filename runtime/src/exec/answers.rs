//! Waiting for the answers of all ranks, and finding out who is to blame when one does not come.

use std::sync::atomic::Ordering;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use cutplane_plan::Rank;

use super::rank::{Answer, Blame, Failure, Reply, place};
use super::run::Run;
use crate::error::RuntimeError;

/// What has come so far.
struct Gathered {
    answers: Vec<Option<Answer>>,
    failed: Vec<bool>,
    /// The failure that is no consequence of another, else the first.
    failure: Option<Failure>,
}

impl Gathered {
    fn new(ranks: usize) -> Self {
        Self { answers: (0..ranks).map(|_| None).collect(), failed: vec![false; ranks], failure: None }
    }

    fn take(&mut self, (rank, answer): Reply) {
        match answer {
            Ok(answer) => self.answers[rank.index()] = Some(answer),
            Err(next) => {
                self.failed[rank.index()] = true;
                if self.failure.as_ref().is_none_or(|known| known.follows && !next.follows) {
                    self.failure = Some(next);
                }
            }
        }
    }

    /// Ranks that have said nothing.
    fn silent(&self) -> impl Iterator<Item = Rank> + '_ {
        let silent = |rank: &usize| self.answers[*rank].is_none() && !self.failed[*rank];
        (0..self.answers.len()).filter(silent).map(|rank| Rank(rank as u32))
    }
}

impl Run {
    /// One answer of each rank, in rank order; or the failure that came first.
    pub(super) fn answers(&mut self) -> Result<Vec<Answer>, RuntimeError> {
        let mut gathered = Gathered::new(self.program().ranks.len());
        // Once a rank has failed, the others stop within their timeout; a rank that does not is left behind.
        let mut deadline: Option<Instant> = None;
        while gathered.silent().next().is_some() {
            let Some(reply) = self.next_reply(deadline, &gathered) else { break };
            gathered.take(reply);
            if gathered.failure.is_some() {
                deadline.get_or_insert_with(|| Instant::now() + self.patience() + Duration::from_secs(1));
            }
        }
        let silent = self.lost_rank(&gathered).or_else(|| gathered.silent().next());
        let Some(failure) = gathered.failure else {
            let Some(rank) = silent else { return Ok(gathered.answers.into_iter().flatten().collect()) };
            let error = self.silence(rank, "nobody has moved for the time of the watchdog, or it has ended");
            return Err(self.end(Some(rank), error));
        };
        Err(match (failure.blame, silent) {
            (Blame::Peer(_), Some(rank)) => {
                let error = self.silence(rank, &failure.error.to_string());
                self.end(Some(rank), error)
            }
            (Blame::Peer(rank) | Blame::Reporter(rank), _) => self.end(Some(rank), failure.error),
            (Blame::Nobody, _) => self.end(None, failure.error),
        })
    }

    /// The next reply; `None` when time is up, when nothing moves, or when all threads have ended.
    fn next_reply(&self, deadline: Option<Instant>, gathered: &Gathered) -> Option<Reply> {
        let replies = self.replies();
        if let (Some(deadline), None) = (deadline, self.others()) {
            return replies.recv_timeout(deadline.saturating_duration_since(Instant::now())).ok();
        }
        if self.others().is_some() {
            return self.next_reply_of_processes(deadline, gathered);
        }
        let Some(watchdog) = self.watchdog() else { return replies.recv().ok() };
        loop {
            let before = self.places(gathered);
            match replies.recv_timeout(watchdog) {
                Ok(reply) => return Some(reply),
                // Outside of a step nothing is counted: a checkpoint takes as long as it takes.
                Err(RecvTimeoutError::Timeout)
                    if before != self.places(gathered) || before.iter().all(|at| *at == 0) => {}
                Err(_) => return None,
            }
        }
    }

    /// The same where ranks are in other processes, any of which may be lost.
    fn next_reply_of_processes(&self, deadline: Option<Instant>, gathered: &Gathered) -> Option<Reply> {
        const LOOK: Duration = Duration::from_millis(20);
        let (mut before, mut moved) = (self.places(gathered), Instant::now());
        loop {
            match self.replies().recv_timeout(LOOK) {
                Ok(reply) => return Some(reply),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => {}
            }
            let late = deadline.is_some_and(|deadline| Instant::now() > deadline);
            if late || self.lost_rank(gathered).is_some() {
                return None;
            }
            let places = self.places(gathered);
            if places != before || places.iter().all(|at| *at == 0) {
                (before, moved) = (places, Instant::now());
            } else if self.watchdog().is_some_and(|watchdog| moved.elapsed() > watchdog) {
                return None;
            }
        }
    }

    /// A rank that has said nothing and whose process is lost.
    fn lost_rank(&self, gathered: &Gathered) -> Option<Rank> {
        let others = self.others()?;
        gathered.silent().find(|rank| others.lost(*rank).is_some())
    }

    /// Where the silent ranks are in their lists.
    fn places(&self, gathered: &Gathered) -> Vec<usize> {
        gathered.silent().map(|rank| self.shared().progress[rank.index()].load(Ordering::Relaxed)).collect()
    }

    /// The error for a rank that does not answer.
    fn silence(&self, rank: Rank, noticed: &str) -> RuntimeError {
        let at = self.shared().progress[rank.index()].load(Ordering::Relaxed);
        let place = at.checked_sub(1).and_then(|index| place(self.program(), rank, index));
        let place = place.unwrap_or_else(|| "no instruction".to_owned());
        let lost = self.others().and_then(|others| others.lost(rank));
        let noticed = lost.map_or_else(|| noticed.to_owned(), |lost| format!("{lost}; {noticed}"));
        RuntimeError::Rank { rank: rank.0, problem: format!("does not answer; it is in {place}; {noticed}") }
    }
}
