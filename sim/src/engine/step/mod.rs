//! A training step of a cluster-scale layout, simulated one rank for each class of equal ranks, with its full timeline.
//!
//! # Why one rank stands for its class
//!
//! A layout of `p` pipeline devices, `d` replicas and `g` ranks in step (tensor and context parallel) has `p d g` ranks. Call
//! the `d g` ranks of pipeline device `s` the class of `s`. They run the same instructions for the same times. An instruction
//! starts when the instructions before it on its streams have ended and what it waits for is there:
//!
//! - a message comes from the rank with the same replica and the same place in step of a neighbouring device;
//! - a collective in a pass starts when all `g` ranks in step have come to it;
//! - a bucket of gradients starts when all `d` replicas have it ready.
//!
//! **Claim.** In a step without noise, all ranks of a class start and end their `i`-th instruction at the same time, which is
//! the time that this engine gives. *Proof* by induction along the acyclic order of the instructions: the first starts at 0
//! for all. When the claim holds for everything that an instruction waits for, then that ends at one time for all ranks of
//! the class: predecessors on the same rank, and the message's sender, by the claim for one class each; the members of a
//! collective are of one class, so the last of them comes when the first does. So the instruction starts at the maximum of
//! the same numbers for all of them, and takes the same time. ∎ The share of links that replicas take from each other is in the
//! times already: all ranks of a class use theirs at once ([`crate::network::Group`]). Noise breaks the premise; then every
//! replica is simulated ([`draws`]).
//!
//! # What is simulated
//!
//! Passes in the order of a [`PipelineSchedule`] on the compute stream, messages on a link for each direction between
//! neighbours (beside computation, one after the other), gradients in buckets beside the pass that completes them
//! ([`Gradients`]), which they slow down, gradients of parameters that the ends share, the norm of all gradients, which
//! everyone waits for, the update. Time is whole nanoseconds. Steady states are run once and repeated, where states prove
//! to repeat.
//!
//! ```
//! use cutplane_sim::engine::step::{ChunkWork, DeviceWork, Gradients, Pass, PipelineSchedule, StepProgram, simulate_step};
//! use cutplane_units::Nanos;
//! // GPipe on 3 equal stages with 3 micro-batches: 2 of 5 slots are bubbles.
//! let pass = Pass::whole(Nanos::new(1_000));
//! let kind = ChunkWork { forward: pass.clone(), backward: pass, ..ChunkWork::default() };
//! let device = DeviceWork { chunks: vec![0], gradients: vec![Gradients::default()], ..DeviceWork::default() };
//! let program = StepProgram {
//!     micro_batches: 3,
//!     kinds: vec![kind],
//!     devices: vec![device; 3],
//!     ..StepProgram::of(PipelineSchedule::FillDrain)
//! };
//! let timeline = simulate_step(&program)?;
//! assert_eq!(timeline.makespan(), Nanos::new(10_000));
//! assert_eq!(timeline.busy(0), Nanos::new(6_000));
//! # Ok::<(), cutplane_sim::engine::step::StepError>(())
//! ```

mod buckets;
mod error;
mod fold;
mod noise;
mod program;
mod schedule;
mod served;
mod sweep;
mod timeline;

pub use error::StepError;
pub use noise::{Noise, Spread, draws};
pub use program::{Activity, ChunkWork, DeviceWork, Gradients, HopTime, Pass, Piece, StepProgram};
pub use schedule::{PassKind, PipelineSchedule};
pub use served::{ServedRun, ServedWorkers, served, served_at};
pub use timeline::{Closing, Detail, StepSpan, StepTimeline};

/// Simulates one step.
///
/// # Errors
/// [`StepError`] for a program whose fields do not fit together.
pub fn simulate_step(program: &StepProgram) -> Result<StepTimeline<'_>, StepError> {
    program.check()?;
    Ok(StepTimeline::new(program, sweep::sweep(program, &mut sweep::Exact, true)))
}

/// When each device has done its last pass and its gradients have met, ns, of a program whose fields are known to fit.
pub(crate) fn exchanged_ends(program: &StepProgram) -> Vec<u64> {
    let swept = sweep::sweep(program, &mut sweep::Exact, false);
    swept.computed.into_iter().zip(swept.exchanged).map(|(computed, exchanged)| computed.max(exchanged)).collect()
}
