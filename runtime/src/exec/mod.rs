//! The interpreter: executes a lowered program, one thread a rank, and measures every instruction.
//!
//! The life of a [`Run`]:
//! 1. [`Run::start`] starts a thread for each rank, pinned to its core; each builds its segment from the same seed.
//! 2. [`Run::step`] lets all ranks execute their list once, from a common start, and returns the loss and the measured
//!    [`cutplane_record::Timeline`]. Between steps the threads sleep, so several runs can take turns on the same cores.
//! 3. [`Run::finish`], or dropping it, ends the threads.
//!
//! How it goes wrong: an instruction that fails or panics, or a message that does not come, ends the step on every rank;
//! the error names the rank and the instruction that failed first. The run is over then.
//!
//! Why partitioned training gives the unpartitioned numbers: each micro-batch loss is a mean over its samples, and its
//! gradient is scaled by 1 / (micro-batches x replicas), so that the gradients accumulated over micro-batches and summed
//! over a group are those of the mean over the global batch.

mod links;
mod outbox;
mod rank;
mod run;
mod step;
mod sync;
mod transfer;

pub use links::measure_links;
pub use run::{Run, RunOptions, StepReport};
pub use step::RankTensors;
