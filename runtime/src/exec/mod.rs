//! The interpreter: executes a lowered program, one thread a rank, and measures every instruction.
//!
//! The life of a [`Run`]:
//! 1. [`Run::start`] starts a thread for each rank, pinned to its core; each builds its segment from the same seed.
//! 2. [`Run::step`] lets all ranks execute their list once, from a common start, and returns the loss and the measured
//!    [`cutplane_record::Timeline`]. Between steps the threads sleep, so several runs can take turns on the same cores.
//! 3. [`Run::save`] writes a checkpoint between steps; a run with [`RunOptions::resume`] goes on from one.
//! 4. [`Run::finish`], or dropping it, ends the threads.
//!
//! How it goes wrong: an instruction that fails or panics, or a message that does not come, ends the step on every rank;
//! the error names the rank and the instruction that failed first. The run is over then. A rank that does not answer is
//! noticed when another has waited for it for the timeout of the communicator, at most one more timeout and a second
//! later; by the watchdog of [`RunOptions`] also when nobody waits for it. Its thread is left behind. [`Run::lost`] tells
//! which rank a run would have to go on without.
//!
//! Ranks in several processes ([`RunOptions::processes`]). Every process starts the same run; the one that leads takes
//! steps, the others [`Run::serve`]. A process that ends or falls silent is a rank that does not answer.
//!
//! Ranks on cards. A rank is a thread here too; it asks the card for work and does not wait for it. Burn gives every thread a
//! stream of its own on the card (a thread-local number, modulo at most 128 streams), so several ranks on one card are as
//! many streams, and their kernels overlap as far as the card has room. A tensor that one rank hands to another on the same
//! card ([`Transfers::OnDevice`]) is a handle: using it makes Burn run what the sender's stream has queued for it, and the
//! receiver's stream waits for that by an event. [`Timing`] says when the clock waits for the card. Memory of a card is
//! that of its pool, which all its ranks share.
//!
//! Precision. The program's precision is what operators compute in and messages carry; weights, their gradients and the
//! optimizer are f32. In f16 the loss is scaled, and a step with an overflow on any rank updates nothing on all ranks.
//!
//! Why partitioned training gives the unpartitioned numbers: each micro-batch loss is a mean over its samples, and its
//! gradient is scaled by 1 / (micro-batches x replicas), so that the gradients accumulated over micro-batches and summed
//! over a group are those of the mean over the global batch.
//!
//! What a rank holds. All its segments share one set of parameters. A pass keeps handles to the weights that it went through,
//! so a weight may be updated, or forgotten and gathered again, before the pass goes back: that is weight stashing, and it is
//! what ZeRO needs. Recomputation, the two halves of a zero-bubble backward pass, shares and servers of parameters, and
//! exchanges over a tensor axis are instructions of the program; nothing here knows the name of a plan.
//!
//! Tensor axes. Where the program splits operators over an axis, its segments refer to the graph that one rank of the axis
//! computes ([`cutplane_graph::LocalGraph`]). Ranks load the model's own inputs and slices of the model's own initial weights,
//! and bring values into the layout of their readers between segments.
//!
//! Servers that take gradients as they come. Who is served when depends on the clock, so the run records it
//! ([`StepReport::pushes`]); a recorded step can be repeated ([`RunOptions::pushes`]), bit by bit.
//!
//! Collectives run where they stand in the list. On a core that is the rank's one thread, so buckets shorten the wait for
//! late ranks but do not overlap with the backward pass; streams of a card may.

mod answers;
mod exchange;
mod held;
mod links;
mod options;
mod others;
mod passes;
mod process_links;
mod rank;
mod run;
mod save;
mod served;
mod step;
mod store;
mod sync;
mod timing;
mod transfer;
mod word;

pub(crate) use links::measure_links;
pub use options::{PoolUse, Rehearsal, RehearsedFailure, RunOptions, StepReport};
pub use process_links::measure_process_links;
pub use run::Run;
pub use step::RankTensors;
pub use timing::{Timing, WarmUp, WarmedUp};
pub use transfer::Transfers;
