//! Discrete-event execution of a program in virtual time.
//!
//! - A rank whose device does not overlap runs its list in order, one instruction at a time. A rank whose device does
//!   overlap has a queue for each [`cutplane_plan::Stream`]; an instruction starts when its queue and the instructions
//!   that it depends on have come to it.
//! - A send occupies its queue for the time of the hand-over; then the message travels by itself: its flow shares links
//!   with all other flows by max-min fairness ([`Bertsekas and Gallager 1992, section 6.5.2`]), and arrives a latency
//!   later. A receive waits for the arrival, then takes its own time.
//! - An all-reduce starts when the last rank of its group has come to it, and ends for all at once. On the links it is a
//!   ring, which shares them with messages and other rings.
//! - A server that takes gradients as they come does so at its own instructions to serve and while it waits for parameters, under
//!   the rules of [`cutplane_plan::PushLedger`].
//! - Compute work is fluid: while `n` ranks of a host compute, each progresses at the rate that
//!   [`CostModel::contention`] gives for `n`, and rates change the moment a rank starts or stops.
//!
//! Time is whole nanoseconds, rounded up at the end of an activity. Ties are broken by rank, so equal inputs give equal
//! timelines.
//!
//! [`Bertsekas and Gallager 1992, section 6.5.2`]: https://web.mit.edu/dimitrib/www/datanets.html

mod network;
mod prices;
mod run;
mod served;
pub mod step;
mod workers;

use cutplane_plan::{Program, Rank, VerifiedPlan};
use cutplane_record::{Source, Timeline};
use thiserror::Error;

use crate::cost::memory::{MemoryModel, predict_peaks};
use crate::cost::{CostError, CostModel};

/// Why a program cannot be simulated.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum SimError {
    /// Work without a price.
    #[error(transparent)]
    Cost(#[from] CostError),
    /// A program that was not lowered from the plan.
    #[error("the program was lowered from plan {program}, not from plan {plan}: lower this plan again")]
    ForeignProgram {
        /// Digest that the program carries.
        program: String,
        /// Digest of the plan.
        plan: String,
    },
    /// An instruction that this engine does not know.
    #[error("{rank}: the simulator does not know the instruction '{action}'")]
    UnknownAction {
        /// Whose.
        rank: Rank,
        /// The instruction.
        action: &'static str,
    },
    /// A program that does not run to its end; [`cutplane_plan::check_program`] refuses it.
    #[error("deadlock: {rank} never finishes its instruction '{action}': check the program with `check_program`")]
    Deadlock {
        /// The first rank that is stuck.
        rank: Rank,
        /// Where it is stuck.
        action: &'static str,
    },
}

/// Executes one step of `program`, lowered from `plan`, in virtual time, and predicts the peak memory of each rank.
///
/// # Errors
/// [`SimError`].
pub fn simulate(
    plan: &VerifiedPlan<'_>,
    program: &Program,
    cost: &dyn CostModel,
    memory: MemoryModel<'_>,
) -> Result<Timeline, SimError> {
    let digest = plan.plan().digest();
    if program.plan_digest != digest {
        return Err(SimError::ForeignProgram { program: program.plan_digest.clone(), plan: digest });
    }
    let prices = prices::Prices::new(plan, program, cost)?;
    let spans = run::run(plan, program, &prices, cost)?;
    let peak_memory = predict_peaks(plan, program, memory)?;
    Ok(Timeline { source: Source::Predicted, plan_digest: digest, spans, peak_memory })
}
