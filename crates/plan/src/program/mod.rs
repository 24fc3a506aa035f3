//! The program: a plan lowered to one list of instructions a rank.

mod action;

use std::fmt;

use cutplane_graph::{DeviceId, Dtype, LocalGraph, ModelError, ModelGraph, OpId, ParamId, ValueId};
use cutplane_units::Bytes;
use serde::{Deserialize, Serialize};

use crate::execution::TensorSplit;

pub use action::{Action, Stream};

macro_rules! index {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u32);

        impl $name {
            /// The index into its table.
            pub const fn index(self) -> usize {
                self.0 as usize
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }
    };
}

index! {
    /// A process or thread that executes one instruction list on one device.
    Rank, "rank "
}
index! {
    /// An instruction, unique in its program: what prediction and measurement are joined on.
    InstructionId, "i"
}
index! {
    /// A segment of a program.
    SegmentId, "segment "
}
index! {
    /// A message of a program: one send and its receive.
    MessageId, "message "
}
index! {
    /// A collective of a program: a group of ranks and what they exchange.
    GroupId, "group "
}

/// A stretch of operators without communication inside. Its backward pass is one vector-Jacobian product at its
/// boundary: gradients of the outputs in, gradients of the inputs out, parameter gradients accumulated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Segment {
    /// The pipeline rank that runs it: its stage, or of interleaved stages the first on the same devices.
    pub stage: usize,
    /// Its operators, in topological order.
    pub ops: Vec<OpId>,
    /// Values read from outside: graph inputs and values of other segments.
    pub inputs: Vec<ValueId>,
    /// Values written that other segments read, or that the graph declares as outputs.
    pub outputs: Vec<ValueId>,
    /// Parameters used, each once.
    pub params: Vec<ParamId>,
}

/// What a message carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Activations, down the pipeline.
    Activation,
    /// Gradients of activations, up the pipeline.
    Gradient,
}

/// One point-to-point transfer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// Sender.
    pub from: Rank,
    /// Receiver.
    pub to: Rank,
    /// The values, in id order; for [`Direction::Gradient`] the values that the gradients are of.
    pub values: Vec<ValueId>,
    /// Activations or gradients.
    pub direction: Direction,
    /// Micro-batch of the sender's replica.
    pub micro_batch: u64,
    /// Total size.
    pub bytes: Bytes,
}

/// Ranks that exchange the gradients or the values of the parameters which they all hold: replicas of a stage, and stages
/// that share a tied parameter. Or the ranks of a tensor axis that exchange a value; such a group has no parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SyncGroup {
    /// Its ranks, ascending.
    pub ranks: Vec<Rank>,
    /// Its parameters.
    pub params: Vec<ParamId>,
    /// Total size of their gradients, or of the whole value that is exchanged.
    pub bytes: Bytes,
    /// Who updates them.
    #[serde(default)]
    pub ownership: Ownership,
}

/// Which of the ranks that hold a parameter update it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ownership {
    /// All of them, alike.
    #[default]
    Everybody,
    /// Each its share: [`SyncGroup::share`].
    Shares,
    /// One of them: [`SyncGroup::server`].
    Server,
}

impl SyncGroup {
    /// Which numbers the rank at `position` of the group owns, of `elements` numbers laid end to end: parts of equal length,
    /// the last ones shorter or empty.
    pub fn share(&self, position: usize, elements: usize) -> std::ops::Range<usize> {
        let part = elements.div_ceil(self.ranks.len().max(1));
        (position * part).min(elements)..((position + 1) * part).min(elements)
    }

    /// The rank that serves group number `id`: servers take turns, so that the load is spread.
    pub fn server(&self, id: GroupId) -> Rank {
        self.ranks[id.index() % self.ranks.len()]
    }
}

/// One step of a rank.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Instruction {
    /// Unique in the program; ascending along a rank's list.
    pub id: InstructionId,
    /// What it does.
    pub action: Action,
    /// Instructions of the same rank that must have ended before it starts.
    pub depends_on: Vec<InstructionId>,
}

/// The instruction list of one rank.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RankProgram {
    /// The rank.
    pub rank: Rank,
    /// The device that it runs on.
    pub device: DeviceId,
    /// Its pipeline rank: its stage, or the first of its interleaved stages.
    pub stage: usize,
    /// Its replica of the stage.
    pub replica: usize,
    /// What it does in one step, in order.
    pub instructions: Vec<Instruction>,
}

/// A plan lowered: what simulator and runtime both interpret.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Program {
    /// Name of the plan.
    pub plan_name: String,
    /// Digest of the plan.
    pub plan_digest: String,
    /// Samples in one micro-batch.
    pub micro_batch_size: u64,
    /// Micro-batches a replica.
    pub micro_batches: u64,
    /// Micro-batches of a replica between two updates: all; or one, where a pipeline does not drain or a server updates as
    /// gradients come.
    pub accumulated: u64,
    /// Data-parallel degree.
    pub replicas: usize,
    /// How operators are split over the ranks of a tensor axis: segments then refer to the graph that one of these ranks
    /// computes ([`Program::local`]), not to the model's.
    pub tensor: Option<TensorSplit>,
    /// What operators compute in and messages carry; parameters, their gradients and the optimizer stay in f32.
    pub precision: Dtype,
    /// All segments.
    pub segments: Vec<Segment>,
    /// All messages.
    pub messages: Vec<Message>,
    /// All gradient groups with more than one rank.
    pub groups: Vec<SyncGroup>,
    /// Parameters that are not trained, in id order.
    pub frozen: Vec<ParamId>,
    /// One list a rank; index = rank.
    pub ranks: Vec<RankProgram>,
}

impl Program {
    /// One segment.
    pub fn segment(&self, id: SegmentId) -> &Segment {
        &self.segments[id.index()]
    }

    /// One message.
    pub fn message(&self, id: MessageId) -> &Message {
        &self.messages[id.index()]
    }

    /// One gradient group.
    pub fn group(&self, id: GroupId) -> &SyncGroup {
        &self.groups[id.index()]
    }

    /// The graph that the segments refer to, when it is not the model itself.
    ///
    /// # Errors
    /// [`ModelError::Split`] for another model than the program's.
    pub fn local(&self, model: &ModelGraph) -> Result<Option<LocalGraph>, ModelError> {
        self.tensor.as_ref().map(|tensor| tensor.local(model)).transpose()
    }

    /// Ranks of a tensor axis; rank = (pipeline rank * replicas + replica) * this + place on the axis.
    pub fn tensor_degree(&self) -> usize {
        self.tensor.as_ref().map_or(1, |tensor| tensor.degree as usize)
    }

    /// The segments that a rank runs, in id order.
    pub fn segments_of(&self, rank: Rank) -> Vec<SegmentId> {
        let instructions = &self.ranks[rank.index()].instructions;
        let mut segments: Vec<SegmentId> = instructions.iter().filter_map(|i| i.action.segment()).collect();
        segments.sort_unstable();
        segments.dedup();
        segments
    }

    /// Number of instructions of all ranks.
    pub fn instruction_count(&self) -> usize {
        self.ranks.iter().map(|rank| rank.instructions.len()).sum()
    }

    /// The micro-batch that an action belongs to, messages included.
    pub fn micro_batch_of(&self, action: Action) -> Option<u64> {
        match action {
            Action::Send { message } | Action::Recv { message } => Some(self.message(message).micro_batch),
            other => other.micro_batch(),
        }
    }
}
