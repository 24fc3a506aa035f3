//! The plan: how a model is cut, where the pieces go, and in which order they work.
//!
//! The life of a plan:
//! 1. A searcher, or a person, writes a [`Plan`]: plain, versioned data.
//! 2. [`verify`] checks it against the model and the devices, with code that no searcher shares; only the
//!    [`VerifiedPlan`] that it returns can go on.
//! 3. [`lower`] turns it into a [`Program`]: one list of [`Instruction`]s a rank, over [`Segment`]s that hold no
//!    communication, with every message matched and every collective in one order on all its ranks ([`check_program`]).
//! 4. The simulator interprets the program in virtual time, the runtime in real time. Both report by instruction id.

mod check;
mod error;
mod execution;
mod file;
mod forward;
mod lower;
mod opset;
mod plan;
mod program;
mod pushes;
mod schedule;
mod verify;

pub use check::{ProgramError, check_program};
pub use error::{PlanFileError, PlanViolation};
pub use execution::{Execution, Recompute, Synchronisation, TensorSplit};
pub use file::{read_plan, write_atomically, write_plan};
pub use lower::lower;
pub use opset::OpSet;
pub use plan::{
    ClusterRef, ModelRef, Optimizer, PLAN_FORMAT, PLAN_VERSION, Plan, Schedule, SearchRecord, Stage, StopReason,
    Workload,
};
pub use program::{
    Action, Direction, GroupId, Instruction, InstructionId, Message, MessageId, Ownership, Program, Rank, RankProgram,
    Segment, SegmentId, Stream, SyncGroup,
};
pub use pushes::{Answer, Push, PushLedger};
pub use schedule::{Slot, rank_slots, schedule_slots};
pub use verify::{VerifiedPlan, state_bytes, verify};
