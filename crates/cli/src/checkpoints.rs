//! Checkpoints of a run, and going on from one: arguments and what follows from them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use cutplane_plan::Rank;
use cutplane_runtime::checkpoint::{Checkpoint, CheckpointWriter};
use cutplane_runtime::comm::CommOptions;
use cutplane_runtime::exec::{Rehearsal, RehearsedFailure, Run as Execution};

/// What is saved, and where to begin.
#[derive(Clone, Debug, Args)]
pub(crate) struct CheckpointArgs {
    /// Writes checkpoints into this folder: at the end, when interrupted, and every --checkpoint-every steps.
    #[arg(long = "checkpoint", value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// Steps from one checkpoint to the next [default: only one, at the end].
    #[arg(long = "checkpoint-every", value_name = "STEPS", requires = "folder")]
    every: Option<u64>,
    /// Checkpoints that are kept.
    #[arg(long = "keep-checkpoints", default_value_t = 2, value_name = "COUNT")]
    keep: usize,
    /// Goes on from the newest checkpoint of this folder, or from the manifest (step-*.json) that is named; under any plan
    /// of the same model. The seed is that of the checkpoint; --data and --lr are to be given as before.
    #[arg(long, value_name = "FOLDER", conflicts_with = "weights")]
    resume: Option<PathBuf>,
    /// Goes on when a rank is lost: plans anew for the devices that are left and begins at the last checkpoint. With
    /// --resume also plans anew for other --devices than the plan has.
    #[arg(long)]
    pub(crate) elastic: bool,
    /// How long a rank waits for another before the other is taken for lost [default: 60]. When it is given, a step in which
    /// no rank begins another instruction for so long ends too: choose it longer than any instruction takes.
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<f64>,
    /// Makes a rank fail on purpose, to see what becomes of the run: panic, hang or mute, with the rank and the number of the
    /// step, as in hang:1@5.
    #[arg(long, value_name = "HOW:RANK@STEP", value_parser = parse_rehearsal)]
    rehearse: Option<Rehearsal>,
}

fn parse_rehearsal(text: &str) -> Result<Rehearsal, String> {
    let parts = text.split_once(':').and_then(|(how, rest)| rest.split_once('@').map(|place| (how, place)));
    let (how, (rank, step)) = parts.ok_or("write HOW:RANK@STEP, as in panic:1@5")?;
    let failure = match how {
        "panic" => RehearsedFailure::Panic,
        "hang" => RehearsedFailure::Hang,
        "mute" => RehearsedFailure::Mute,
        _ => return Err(format!("'{how}' is none of panic, hang, mute")),
    };
    let rank = rank.parse().map_err(|_| format!("'{rank}' is no rank"))?;
    let step = step.parse().map_err(|_| format!("'{step}' is no step"))?;
    Ok(Rehearsal { rank: Rank(rank), step, failure })
}

impl CheckpointArgs {
    /// What writes checkpoints, if any are wanted.
    pub(crate) fn saver(&self) -> Result<Option<Saver>> {
        ensure!(self.every != Some(0), "--checkpoint-every must be at least 1");
        ensure!(self.keep > 0, "--keep-checkpoints must be at least 1");
        ensure!(!self.elastic || self.folder.is_some(), "--elastic goes on from checkpoints: give --checkpoint FOLDER");
        let Some(folder) = &self.folder else { return Ok(None) };
        let writer = CheckpointWriter::new(folder, self.keep)?;
        Ok(Some(Saver { writer, every: self.every, saved: None }))
    }

    /// A rank that fails on purpose.
    pub(crate) fn rehearsal(&self) -> Option<Rehearsal> {
        self.rehearse
    }

    /// How long a rank waits for another, and how long all may be at one instruction.
    pub(crate) fn patience(&self) -> Result<(CommOptions, Option<Duration>)> {
        let Some(seconds) = self.timeout else { return Ok((CommOptions::default(), None)) };
        let timeout = Duration::try_from_secs_f64(seconds).ok().filter(|timeout| !timeout.is_zero());
        let timeout = timeout.context("--timeout must be a number of seconds above zero")?;
        Ok((CommOptions { timeout, ..CommOptions::default() }, Some(timeout)))
    }

    /// The checkpoint to begin at.
    pub(crate) fn resumed(&self) -> Result<Option<Arc<Checkpoint>>> {
        let open = |path: &PathBuf| Checkpoint::open(path).map(Arc::new);
        Ok(self.resume.as_ref().map(open).transpose()?)
    }
}

/// Writes checkpoints when they are due.
pub(crate) struct Saver {
    writer: CheckpointWriter,
    every: Option<u64>,
    /// The step of the last one that this process has written.
    saved: Option<u64>,
}

impl Saver {
    /// After a step: writes a checkpoint when one is due.
    pub(crate) fn after_step(&mut self, run: &mut Execution) -> Result<()> {
        match self.every {
            Some(every) if run.next_step().is_multiple_of(every) => self.save(run),
            _ => Ok(()),
        }
    }

    /// Writes a checkpoint, unless there is one of this step.
    pub(crate) fn save(&mut self, run: &mut Execution) -> Result<()> {
        let step = run.next_step();
        if self.saved != Some(step) {
            run.save(&self.writer)?;
            self.saved = Some(step);
        }
        Ok(())
    }

    /// The newest checkpoint that this process has written: with what a run goes on that has lost a rank. `None` before the
    /// first.
    pub(crate) fn newest(&self) -> Result<Option<Arc<Checkpoint>>> {
        let Some(_) = self.saved else { return Ok(None) };
        Ok(Some(Arc::new(Checkpoint::open(self.writer.folder())?)))
    }

    /// The folder, for people.
    pub(crate) fn folder(&self) -> String {
        self.writer.folder().display().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_on_purpose_are_read() {
        let hang = Rehearsal { rank: Rank(1), step: 5, failure: RehearsedFailure::Hang };
        assert_eq!(parse_rehearsal("hang:1@5"), Ok(hang));
        for (text, part) in [("hang", "HOW:RANK@STEP"), ("trip:1@5", "trip"), ("hang:x@5", "'x'"), ("hang:1@", "step")]
        {
            assert!(parse_rehearsal(text).unwrap_err().contains(part), "{text}");
        }
    }
}
