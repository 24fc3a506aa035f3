//! The thread of a rank: takes commands, answers them, and turns every failure into an answer.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};

use cutplane_plan::{Action, Program, Rank};
use serde::{Deserialize, Serialize};

use super::save::{SaveOrder, SavedRank};
use super::step::{Fault, RankState, RankStep, RankTensors, Shared};
use crate::backend::run_rank;
use crate::checkpoint::{CheckpointError, Piece};
use crate::comm::{CommError, Communicator};
use crate::error::RuntimeError;

/// What a run asks of its ranks.
#[derive(Clone, Debug)]
pub(super) enum Command {
    Step {
        number: u64,
        collect_gradients: bool,
    },
    Parameters,
    TrimPool,
    /// What could be saved?
    Pieces,
    Save(Arc<SaveOrder>),
}

/// What a rank answers.
#[derive(Debug)]
pub(super) enum Answer {
    Ready,
    Step(RankStep),
    Parameters(RankTensors),
    Pieces(Vec<Piece>),
    /// A failure to write is no failure of the rank.
    Saved(Result<SavedRank, CheckpointError>),
}

/// A failed rank.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) error: RuntimeError,
    /// True when it only stopped because another rank had failed.
    pub(super) follows: bool,
    pub(super) blame: Blame,
}

/// Which rank will not come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Blame {
    /// None: the failure is of the data or the program.
    Nobody,
    /// The one that reports it.
    Reporter(Rank),
    /// One that was waited for in vain, or one that that one waits for.
    Peer(Rank),
}

/// A rank with its answer.
pub(super) type Reply = (Rank, Result<Answer, Failure>);

/// The life of a rank's thread; it ends with the first failure, or when the run drops its end of `commands`.
pub(super) fn rank_thread(
    core: usize,
    shared: &Arc<Shared>,
    comm: Box<dyn Communicator>,
    commands: Receiver<Command>,
    replies: &Sender<Reply>,
) {
    let rank = comm.rank();
    let answer = |answer| {
        // Nobody listens any more when the run has been dropped; then the next command does not come either.
        let _ = replies.send((rank, answer));
    };
    let backend = shared.roads.backends[rank.index()].clone();
    if let Err(error) = run_rank(core, &backend, || serve(shared, comm, commands, &answer)) {
        answer(Err(Failure { error, follows: false, blame: Blame::Reporter(rank) }));
    }
}

fn serve(
    shared: &Arc<Shared>,
    comm: Box<dyn Communicator>,
    commands: Receiver<Command>,
    answer: &impl Fn(Result<Answer, Failure>),
) {
    let (rank, program) = (comm.rank(), shared.program.clone());
    let mut state = match caught(|| RankState::new(shared, comm)) {
        Ok(state) => state,
        Err(fault) => return answer(Err(failure(&program, rank, None, &fault))),
    };
    answer(Ok(Answer::Ready));
    for command in commands {
        match caught(|| execute(&mut state, command)) {
            Ok(done) => answer(Ok(done)),
            Err(fault) => {
                let failure = failure(&program, rank, state.at, &fault);
                state.abort(&failure.error.to_string());
                return answer(Err(failure));
            }
        }
    }
}

fn execute(state: &mut RankState<Box<dyn Communicator>>, command: Command) -> Result<Answer, Fault> {
    match command {
        Command::Step { number, collect_gradients } => state.run_step(number, collect_gradients).map(Answer::Step),
        Command::Parameters => state.parameters().map(Answer::Parameters),
        Command::Pieces => Ok(Answer::Pieces(state.pieces())),
        Command::Save(order) => Ok(Answer::Saved(state.save(&order))),
        Command::TrimPool => state.trim_pool().map(|()| Answer::Ready),
    }
}

/// Runs `work`; a panic becomes a fault.
fn caught<T>(work: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref().copied());
        Err(Fault::Panic(text.unwrap_or("without a message").to_owned()))
    })
}

fn failure(program: &Program, rank: Rank, at: Option<usize>, fault: &Fault) -> Failure {
    let place = at.and_then(|index| place(program, rank, index)).map(|place| format!("{place}: "));
    let problem = format!("{}{fault}", place.unwrap_or_default());
    let follows = matches!(fault, Fault::Comm(CommError::PeerFailed { .. } | CommError::PeerGone { .. }));
    let blame = match fault {
        Fault::Panic(_) => Blame::Reporter(rank),
        // Where the peer has failed in this process, its own report is heard first.
        Fault::Comm(CommError::PeerGone { peer, .. }) => Blame::Peer(*peer),
        Fault::Comm(CommError::Timeout { peers, .. }) => peers.first().map_or(Blame::Nobody, |peer| Blame::Peer(*peer)),
        _ => Blame::Nobody,
    };
    Failure { error: RuntimeError::Rank { rank: rank.0, problem }, follows, blame }
}

/// The instruction at a place of a rank's list, in words.
pub(super) fn place(program: &Program, rank: Rank, index: usize) -> Option<String> {
    let instruction = program.ranks[rank.index()].instructions.get(index)?;
    Some(format!("instruction {}, {}", instruction.id, describe(program, instruction.action)))
}

fn describe(program: &Program, action: Action) -> String {
    let label = action.label();
    match action {
        Action::Send { message } => format!("{label} of {message} to {}", program.message(message).to),
        Action::Recv { message } => format!("{label} of {message} from {}", program.message(message).from),
        _ => match (action.micro_batch(), action.collective().or(action.served())) {
            (Some(micro_batch), _) => format!("{label} of micro-batch {micro_batch}"),
            (None, Some(group)) => format!("{label} of {group}"),
            (None, None) => label.to_owned(),
        },
    }
}
