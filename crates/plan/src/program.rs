//! The program: a plan lowered to one list of instructions a rank.

use std::fmt;

use cutplane_graph::{DeviceId, Dtype, OpId, ParamId, ValueId};
use cutplane_units::Bytes;
use serde::{Deserialize, Serialize};

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
    /// A group of ranks that hold copies of the same parameters.
    GroupId, "group "
}

/// A stretch of operators without communication inside. Its backward pass is one vector-Jacobian product at its
/// boundary: gradients of the outputs in, gradients of the inputs out, parameter gradients accumulated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Segment {
    /// The pipeline stage that it belongs to.
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
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

/// Ranks that sum the gradients of the parameters which they all hold: replicas of a stage, and stages that share a
/// tied parameter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SyncGroup {
    /// Its ranks, ascending.
    pub ranks: Vec<Rank>,
    /// Its parameters.
    pub params: Vec<ParamId>,
    /// Total size of their gradients.
    pub bytes: Bytes,
}

/// What an instruction does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Action {
    /// Puts the graph inputs of a micro-batch on the device.
    Load {
        /// Which micro-batch.
        micro_batch: u64,
        /// The segment that reads them.
        segment: SegmentId,
    },
    /// Runs a segment forward.
    Forward {
        /// Which micro-batch.
        micro_batch: u64,
        /// Which segment.
        segment: SegmentId,
    },
    /// Runs a segment backward and adds to the parameter gradients.
    Backward {
        /// Which micro-batch.
        micro_batch: u64,
        /// Which segment.
        segment: SegmentId,
    },
    /// Hands a message to the network; does not wait for the receiver.
    Send {
        /// Which message.
        message: MessageId,
    },
    /// Waits for a message.
    Recv {
        /// Which message.
        message: MessageId,
    },
    /// Sums gradients over a group; every rank of the group ends with the sum.
    AllReduce {
        /// Which group.
        group: GroupId,
    },
    /// Updates all parameters of the rank from their gradients.
    OptimizerStep,
}

impl Action {
    /// The micro-batch that a pass or load works on; messages carry theirs in [`Message::micro_batch`].
    pub const fn micro_batch(self) -> Option<u64> {
        match self {
            Self::Load { micro_batch, .. } | Self::Forward { micro_batch, .. } | Self::Backward { micro_batch, .. } => {
                Some(micro_batch)
            }
            _ => None,
        }
    }

    /// Its name in traces and tables.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Load { .. } => "load",
            Self::Forward { .. } => "forward",
            Self::Backward { .. } => "backward",
            Self::Send { .. } => "send",
            Self::Recv { .. } => "recv",
            Self::AllReduce { .. } => "all-reduce",
            Self::OptimizerStep => "optimizer",
        }
    }

    /// The stream that it runs on.
    pub const fn stream(self) -> Stream {
        match self {
            Self::Send { .. } => Stream::Send,
            Self::Recv { .. } => Stream::Recv,
            Self::AllReduce { .. } => Stream::Collective,
            _ => Stream::Compute,
        }
    }
}

/// Queues of a device that may run at the same time. A CPU rank has one thread and therefore runs all of them in
/// program order; an accelerator overlaps them as far as dependencies allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// Kernels.
    Compute,
    /// Outgoing messages.
    Send,
    /// Incoming messages.
    Recv,
    /// Collectives.
    Collective,
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
    /// Its pipeline stage.
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
    /// Data-parallel degree.
    pub replicas: usize,
    /// What operators compute in and messages carry; parameters, their gradients and the optimizer stay in f32.
    pub precision: Dtype,
    /// All segments.
    pub segments: Vec<Segment>,
    /// All messages.
    pub messages: Vec<Message>,
    /// All gradient groups with more than one rank.
    pub groups: Vec<SyncGroup>,
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
