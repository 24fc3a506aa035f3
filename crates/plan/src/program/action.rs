//! What ranks do.

use cutplane_graph::sharding::Collective;
use serde::{Deserialize, Serialize};

#[cfg(doc)]
use super::Message;
use super::{Direction, GroupId, MessageId, SegmentId};

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
    /// Runs the forward pass of a micro-batch again, from the inputs that were kept, for the backward pass that follows.
    Recompute {
        /// Which micro-batch.
        micro_batch: u64,
        /// Which segment.
        segment: SegmentId,
    },
    /// The part of a backward pass that gives the gradients of the segment's inputs.
    BackwardInput {
        /// Which micro-batch.
        micro_batch: u64,
        /// Which segment.
        segment: SegmentId,
    },
    /// The rest of that backward pass: gradients of weights.
    BackwardWeight {
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
    /// Brings a value, or a gradient, into the layout that its readers take it in, over the ranks of a tensor axis.
    Exchange {
        /// Which micro-batch.
        micro_batch: u64,
        /// The segment that holds nothing but the exchange.
        segment: SegmentId,
        /// Values forward or gradients backward.
        direction: Direction,
        /// What moves.
        collective: Collective,
        /// The ranks between which it moves; `None` when every rank has what it needs.
        group: Option<GroupId>,
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
    /// Sums gradients over a group; every rank ends with its share of the sum.
    ReduceScatter {
        /// Which group.
        group: GroupId,
    },
    /// Gathers parameters, of which every rank has its share.
    AllGather {
        /// Which group.
        group: GroupId,
    },
    /// Sums gradients over a group; its server ends with the sum.
    Reduce {
        /// Which group.
        group: GroupId,
    },
    /// The server of a group gives all others its parameters.
    Broadcast {
        /// Which group.
        group: GroupId,
    },
    /// Hands gradients of a micro-batch to the group's server and forgets them; does not wait for it.
    Push {
        /// Which group.
        group: GroupId,
        /// Pushes of the rank before it.
        clock: u64,
    },
    /// Waits for the server's parameters. The server itself serves while it waits.
    Pull {
        /// Which group.
        group: GroupId,
        /// Pushes of the rank before it.
        clock: u64,
        /// Pushes of every rank of the group that the parameters must hold.
        needs: u64,
    },
    /// The server of a group takes what has been pushed, updates, and answers pulls, as far as [`crate::PushLedger`] allows;
    /// does not wait.
    Serve {
        /// Which group.
        group: GroupId,
    },
    /// Forgets gathered parameters but for the rank's share.
    Release {
        /// Which group.
        group: GroupId,
    },
    /// Updates all parameters that the rank owns from their gradients.
    OptimizerStep,
}

impl Action {
    /// The micro-batch that a pass or load works on; messages carry theirs in [`Message::micro_batch`].
    pub const fn micro_batch(self) -> Option<u64> {
        match self {
            Self::Load { micro_batch, .. }
            | Self::Forward { micro_batch, .. }
            | Self::Backward { micro_batch, .. }
            | Self::Recompute { micro_batch, .. }
            | Self::BackwardInput { micro_batch, .. }
            | Self::BackwardWeight { micro_batch, .. }
            | Self::Exchange { micro_batch, .. } => Some(micro_batch),
            _ => None,
        }
    }

    /// The segment that a pass or load works on.
    pub const fn segment(self) -> Option<SegmentId> {
        match self {
            Self::Load { segment, .. }
            | Self::Forward { segment, .. }
            | Self::Backward { segment, .. }
            | Self::Recompute { segment, .. }
            | Self::BackwardInput { segment, .. }
            | Self::BackwardWeight { segment, .. }
            | Self::Exchange { segment, .. } => Some(segment),
            _ => None,
        }
    }

    /// The group whose ranks all meet in this action.
    pub const fn collective(self) -> Option<GroupId> {
        match self {
            Self::AllReduce { group }
            | Self::ReduceScatter { group }
            | Self::AllGather { group }
            | Self::Reduce { group }
            | Self::Broadcast { group } => Some(group),
            Self::Exchange { group, .. } => group,
            _ => None,
        }
    }

    /// The group with whose server it deals, or which it serves.
    pub const fn served(self) -> Option<GroupId> {
        match self {
            Self::Push { group, .. } | Self::Pull { group, .. } | Self::Serve { group } => Some(group),
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
            Self::Recompute { .. } => "recompute",
            Self::BackwardInput { .. } => "backward-input",
            Self::BackwardWeight { .. } => "backward-weight",
            Self::AllReduce { .. } => "all-reduce",
            Self::ReduceScatter { .. } => "reduce-scatter",
            Self::AllGather { .. } => "all-gather",
            Self::Reduce { .. } => "reduce",
            Self::Broadcast { .. } => "broadcast",
            Self::Exchange { collective, .. } => match collective {
                Collective::None => "relayout",
                Collective::AllReduce => "all-reduce",
                Collective::AllGather => "all-gather",
                Collective::ReduceScatter => "reduce-scatter",
                Collective::AllToAll => "all-to-all",
                Collective::Halo => "halo",
            },
            Self::Push { .. } => "push",
            Self::Pull { .. } => "pull",
            Self::Serve { .. } => "serve",
            Self::Release { .. } => "release",
            Self::OptimizerStep => "optimizer",
        }
    }

    /// The stream that it runs on.
    pub const fn stream(self) -> Stream {
        match self {
            Self::Send { .. } => Stream::Send,
            Self::Recv { .. } => Stream::Recv,
            Self::AllReduce { .. }
            | Self::ReduceScatter { .. }
            | Self::AllGather { .. }
            | Self::Reduce { .. }
            | Self::Broadcast { .. }
            | Self::Exchange { group: Some(_), .. } => Stream::Collective,
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
