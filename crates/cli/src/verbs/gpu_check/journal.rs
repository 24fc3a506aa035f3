//! What was begun and what was done, on disk: a killed or crashed worker keeps what it had, and its successor goes
//! on.

use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

/// Exit code of a worker that met a panic: what the device was left in is unknown, so a fresh process goes on.
pub(crate) const PANICKED: i32 = 3;

/// How a case stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    /// A worker is at it, or has died of it.
    Begun,
    Done,
    Failed,
    /// Not tried: there was no time for it, or nothing to do it with.
    Skipped,
}

/// One line of the journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    pub(crate) case: String,
    pub(crate) state: State,
    pub(crate) seconds: f64,
    pub(crate) problem: Option<String>,
}

/// File of the journal of `item`.
pub(crate) fn path(folder: &Path, item: &str) -> PathBuf {
    folder.join(format!("journal-{item}.jsonl"))
}

/// The journal of one item.
pub(crate) struct Journal {
    path: PathBuf,
    deadline: Instant,
    entries: Vec<Entry>,
}

impl Journal {
    /// Opens or starts the journal of `item` in `folder`. A case that was begun and never ended is recorded as
    /// failed.
    pub(crate) fn open(folder: &Path, item: &str, deadline: Instant) -> Result<Self> {
        let path = path(folder, item);
        let mut journal = Self { entries: read(&path)?, path, deadline };
        for entry in journal.unfinished() {
            let problem = Some("the process ended during this case: see its log".to_owned());
            journal.write(Entry { state: State::Failed, problem, ..entry })?;
        }
        Ok(journal)
    }

    /// Every case with its last state, in the order in which they were begun.
    pub(crate) fn entries(&self) -> Vec<Entry> {
        let mut last: Vec<Entry> = Vec::new();
        for entry in &self.entries {
            match last.iter_mut().find(|known| known.case == entry.case) {
                Some(known) => known.clone_from(entry),
                None => last.push(entry.clone()),
            }
        }
        last
    }

    fn unfinished(&self) -> Vec<Entry> {
        self.entries().into_iter().filter(|entry| entry.state == State::Begun).collect()
    }

    /// Runs one case, unless an earlier worker has, or the time is up. Its failure is recorded and is no failure of
    /// the list. After a panic the process ends with [`PANICKED`].
    pub(crate) fn case(&mut self, name: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
        if self.entries().iter().any(|entry| entry.case == name && entry.state != State::Skipped) {
            return Ok(());
        }
        let entry = |state, seconds, problem| Entry { case: name.to_owned(), state, seconds, problem };
        if Instant::now() >= self.deadline {
            return self.skip(name, "no time was left");
        }
        self.write(entry(State::Begun, 0.0, None))?;
        let started = Instant::now();
        let result = catch_unwind(AssertUnwindSafe(work));
        let seconds = started.elapsed().as_secs_f64();
        match result {
            Ok(Ok(())) => self.write(entry(State::Done, seconds, None)),
            Ok(Err(error)) => self.write(entry(State::Failed, seconds, Some(format!("{error:#}")))),
            Err(panic) => {
                let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref().copied());
                let problem = format!("panicked: {}", text.unwrap_or("without a message"));
                self.write(entry(State::Failed, seconds, Some(problem)))?;
                std::process::exit(PANICKED);
            }
        }
    }

    /// Records that a case is not tried, and why.
    pub(crate) fn skip(&mut self, name: &str, why: &str) -> Result<()> {
        let problem = Some(why.to_owned());
        self.write(Entry { case: name.to_owned(), state: State::Skipped, seconds: 0.0, problem })
    }

    /// Time until the deadline.
    pub(crate) fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    fn write(&mut self, entry: Entry) -> Result<()> {
        let advice = || format!("{}: cannot write", self.path.display());
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(&self.path).with_context(advice)?;
        writeln!(file, "{}", serde_json::to_string(&entry)?).with_context(advice)?;
        self.entries.push(entry);
        Ok(())
    }
}

/// Reads the lines of a journal; the last one may be cut.
fn read(path: &Path) -> Result<Vec<Entry>> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let text = std::fs::read_to_string(path).with_context(|| format!("{}: cannot read", path.display()))?;
    Ok(text.lines().map_while(|line| serde_json::from_str(line).ok()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn journal(folder: &Path) -> Journal {
        Journal::open(folder, "x", Instant::now() + Duration::from_mins(1)).expect("opens")
    }

    #[test]
    fn a_successor_goes_on_after_the_case_that_killed_its_predecessor() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut first = journal(folder.path());
        first.case("good", || Ok(())).expect("written");
        first.case("bad", || anyhow::bail!("no luck")).expect("written");
        let begun = Entry { case: "deadly".into(), state: State::Begun, seconds: 0.0, problem: None };
        first.write(begun).expect("written");
        let mut second = journal(folder.path());
        for case in ["good", "bad", "deadly"] {
            second.case(case, || panic!("must not run again")).expect("nothing to do");
        }
        second.case("last", || Ok(())).expect("written");
        let states: Vec<_> = second.entries().iter().map(|entry| (entry.case.clone(), entry.state)).collect();
        let expected =
            [("good", State::Done), ("bad", State::Failed), ("deadly", State::Failed), ("last", State::Done)];
        assert_eq!(states, expected.map(|(case, state)| (case.to_owned(), state)));
    }

    #[test]
    fn after_the_deadline_cases_are_skipped() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut journal = Journal::open(folder.path(), "x", Instant::now()).expect("opens");
        journal.case("late", || panic!("must not run")).expect("written");
        assert_eq!(journal.entries()[0].state, State::Skipped);
    }
}
