//! What the processes of a run tell each other, as CBOR.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cutplane_graph::ParamId;
use cutplane_plan::{InstructionId, Push, Rank};
use serde::{Deserialize, Serialize};

use super::rank::{Answer, Blame, Command, Failure, Reply};
use super::save::{SaveOrder, SavedRank};
use super::step::{Executed, RankStep, RankTensors};
use crate::checkpoint::{CheckpointError, CheckpointWriter, Piece, SavedLossScale, ShardFile};
use crate::error::RuntimeError;
use crate::optimizer::LossScale;
use crate::tensor::HostTensor;

/// Something that one process tells another. Times are in nanoseconds since a moment that each process has chosen for itself.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Word {
    /// From the leading process: what its run asks of the ranks.
    Step {
        number: u64,
        collect_gradients: bool,
    },
    Parameters,
    TrimPool,
    Pieces,
    Save {
        folder: PathBuf,
        keep: usize,
        step: u64,
        pieces: Vec<Vec<Piece>>,
    },
    /// The run is over.
    End,
    /// The leading process lives.
    Alive,
    /// What is the time?
    Ping,
    /// To the leading process: the time.
    Pong(u64),
    /// Another process lives; where its ranks are in their lists.
    Progress(Vec<usize>),
    /// What a rank answers.
    Answer(Rank, Said),
}

/// An answer without what only its own process understands.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Said {
    Ready,
    Step(SaidStep),
    Parameters(Vec<SaidTensor>),
    Pieces(Vec<Piece>),
    Saved(Result<SaidSaved, String>),
    Failed { problem: String, follows: bool, blame: Blame },
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SaidStep {
    began: u64,
    executed: Vec<(InstructionId, Duration, Duration, Duration)>,
    losses: Vec<(u64, f32)>,
    peak_memory: u64,
    pool: Option<(u64, u64)>,
    loss_scale: Option<f32>,
    skipped: bool,
    pushes: Vec<Push>,
    gradients: Option<Vec<SaidTensor>>,
}

type SaidTensor = (ParamId, Vec<usize>, Vec<f32>);

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SaidSaved {
    file: Option<ShardFile>,
    optimizer_steps: u32,
    loss_scale: Option<SavedLossScale>,
}

/// The clock of another process beside that of this one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clocks {
    /// The moment from which this process counts.
    pub(super) origin: Instant,
    /// By how many nanoseconds the other's count is ahead.
    pub(super) ahead: i64,
}

impl Clocks {
    /// The moment at which the other process had counted so far.
    fn moment(&self, count: u64) -> Instant {
        let here = count as i64 - self.ahead;
        let distance = Duration::from_nanos(here.unsigned_abs());
        let moved = if here < 0 { self.origin.checked_sub(distance) } else { self.origin.checked_add(distance) };
        moved.unwrap_or(self.origin)
    }
}

/// Nanoseconds since `origin`.
pub(super) fn count(origin: Instant, moment: Instant) -> u64 {
    moment.saturating_duration_since(origin).as_nanos() as u64
}

impl Word {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        // Writing to memory does not fail, and every word can be written; words that are cut short are refused by the reader.
        let _ = ciborium::into_writer(self, &mut bytes);
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        ciborium::from_reader(bytes).ok()
    }

    /// A command for the ranks of other processes.
    pub(super) fn of(command: &Command) -> Self {
        match command {
            Command::Step { number, collect_gradients } => {
                Self::Step { number: *number, collect_gradients: *collect_gradients }
            }
            Command::Parameters => Self::Parameters,
            Command::TrimPool => Self::TrimPool,
            Command::Pieces => Self::Pieces,
            Command::Save(order) => Self::Save {
                folder: order.writer.folder().to_owned(),
                keep: order.writer.keeps(),
                step: order.step,
                pieces: order.pieces.clone(),
            },
        }
    }

    /// The command that was told; `None` when the word is none.
    pub(super) fn command(self) -> Option<Result<Command, CheckpointError>> {
        Some(Ok(match self {
            Self::Step { number, collect_gradients } => Command::Step { number, collect_gradients },
            Self::Parameters => Command::Parameters,
            Self::TrimPool => Command::TrimPool,
            Self::Pieces => Command::Pieces,
            Self::Save { folder, keep, step, pieces } => match CheckpointWriter::new(&folder, keep) {
                Ok(writer) => Command::Save(Arc::new(SaveOrder { writer, step, pieces })),
                Err(error) => return Some(Err(error)),
            },
            _ => return None,
        }))
    }

    /// What a rank of this process answers.
    pub(super) fn answer((rank, answer): Reply, origin: Instant) -> Self {
        let said = match answer {
            Ok(Answer::Ready) => Said::Ready,
            Ok(Answer::Step(step)) => Said::Step(said_step(step, origin)),
            Ok(Answer::Parameters(tensors)) => Said::Parameters(said_tensors(tensors)),
            Ok(Answer::Pieces(pieces)) => Said::Pieces(pieces),
            Ok(Answer::Saved(saved)) => Said::Saved(saved.map(said_saved).map_err(|error| error.to_string())),
            Err(Failure { error, follows, blame }) => {
                let problem = match error {
                    RuntimeError::Rank { problem, .. } => problem,
                    other => other.to_string(),
                };
                Said::Failed { problem, follows, blame }
            }
        };
        Self::Answer(rank, said)
    }
}

impl Said {
    /// The answer, as if a rank of this process had given it.
    pub(super) fn reply(self, rank: Rank, clocks: Clocks) -> Reply {
        let answer = match self {
            Self::Ready => Answer::Ready,
            Self::Step(step) => Answer::Step(step.here(clocks)),
            Self::Parameters(tensors) => Answer::Parameters(tensors_here(tensors)),
            Self::Pieces(pieces) => Answer::Pieces(pieces),
            Self::Saved(saved) => Answer::Saved(saved.map(SaidSaved::here).map_err(CheckpointError::OtherProcess)),
            Self::Failed { problem, follows, blame } => {
                let error = RuntimeError::Rank { rank: rank.0, problem };
                return (rank, Err(Failure { error, follows, blame }));
            }
        };
        (rank, Ok(answer))
    }
}

fn said_step(step: RankStep, origin: Instant) -> SaidStep {
    let executed = step.executed.iter().map(|done| (done.instruction, done.start, done.end, done.waited)).collect();
    SaidStep {
        began: count(origin, step.began),
        executed,
        losses: step.losses,
        peak_memory: step.peak_memory,
        pool: step.pool,
        loss_scale: step.loss_scale,
        skipped: step.skipped,
        pushes: step.pushes,
        gradients: step.gradients.map(said_tensors),
    }
}

impl SaidStep {
    fn here(self, clocks: Clocks) -> RankStep {
        let done = |(instruction, start, end, waited)| Executed { instruction, start, end, waited };
        RankStep {
            began: clocks.moment(self.began),
            executed: self.executed.into_iter().map(done).collect(),
            losses: self.losses,
            peak_memory: self.peak_memory,
            pool: self.pool,
            loss_scale: self.loss_scale,
            skipped: self.skipped,
            pushes: self.pushes,
            gradients: self.gradients.map(tensors_here),
        }
    }
}

fn said_tensors(tensors: RankTensors) -> Vec<SaidTensor> {
    let said = |(param, tensor): (ParamId, HostTensor)| {
        let numbers = tensor.to_f32().unwrap_or_default();
        (param, tensor.shape, numbers)
    };
    tensors.into_iter().map(said).collect()
}

fn tensors_here(tensors: Vec<SaidTensor>) -> RankTensors {
    tensors.into_iter().map(|(param, shape, numbers)| (param, HostTensor::f32(shape, numbers))).collect()
}

fn said_saved(saved: SavedRank) -> SaidSaved {
    SaidSaved { file: saved.file, optimizer_steps: saved.optimizer_steps, loss_scale: saved.loss_scale.map(Into::into) }
}

impl SaidSaved {
    fn here(self) -> SavedRank {
        let scale = |saved: SavedLossScale| LossScale::resumed(saved.scale, saved.good_steps);
        SavedRank { file: self.file, optimizer_steps: self.optimizer_steps, loss_scale: self.loss_scale.map(scale) }
    }
}

#[cfg(test)]
mod tests {
    use cutplane_plan::GroupId;

    use super::*;

    #[test]
    fn a_step_of_another_process_lies_on_this_clock() {
        let (there, here) = (Instant::now(), Instant::now() + Duration::from_secs(3));
        let second = Duration::from_secs(1);
        let done = Executed { instruction: InstructionId(7), start: second, end: 2 * second, waited: second };
        let tensor = HostTensor::f32([2, 1], vec![1.5, -0.0]);
        let push = Push { group: GroupId(1), worker: Rank(2), clock: 3, read: 4, complete: 2, before: 6 };
        let step = RankStep {
            began: there + 5 * second,
            executed: vec![done],
            losses: vec![(3, 0.25)],
            peak_memory: 9,
            pool: Some((1, 2)),
            loss_scale: Some(4.0),
            skipped: true,
            pushes: vec![push],
            gradients: Some([(ParamId::new(4), tensor.clone())].into()),
        };
        let word = Word::decode(&Word::answer((Rank(2), Ok(Answer::Step(step))), there).encode());
        let Some(Word::Answer(rank, said)) = word else { panic!("{word:?}") };
        // The other process has counted three seconds more at any moment.
        let clocks = Clocks { origin: here, ahead: 3_000_000_000 };
        let (rank, Ok(Answer::Step(step))) = said.reply(rank, clocks) else { panic!("a step") };
        assert_eq!((rank, step.began), (Rank(2), here + 2 * second));
        assert_eq!((step.losses, step.pool, step.skipped), (vec![(3, 0.25)], Some((1, 2)), true));
        assert_eq!(step.pushes, [push]);
        assert_eq!(step.gradients.expect("some")[&ParamId::new(4)], tensor);
        assert_eq!((step.executed[0].instruction, step.executed[0].end), (InstructionId(7), 2 * second));
    }

    #[test]
    fn a_failure_keeps_its_words_and_its_blame() {
        let error = RuntimeError::Rank { rank: 1, problem: "instruction i3, recv: late".into() };
        let failure = Failure { error, follows: true, blame: Blame::Peer(Rank(0)) };
        let bytes = Word::answer((Rank(1), Err(failure)), Instant::now()).encode();
        let Some(Word::Answer(rank, said)) = Word::decode(&bytes) else { panic!("an answer") };
        let (_, Err(failure)) = said.reply(rank, Clocks { origin: Instant::now(), ahead: 0 }) else { panic!("fails") };
        assert_eq!(failure.error.to_string(), "rank 1: instruction i3, recv: late");
        assert_eq!((failure.follows, failure.blame), (true, Blame::Peer(Rank(0))));
        assert!(Word::decode(&bytes[..bytes.len() / 2]).is_none(), "half a word is none");
    }
}
