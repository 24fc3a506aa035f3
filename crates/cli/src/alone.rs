//! Steps of one plan that has its devices to itself: how plans are timed on cards, whose pool of memory and choice of kernels
//! several plans at once would share.

use std::time::{Duration, Instant};

use anyhow::Result;
use cutplane_runtime::RuntimeError;
use cutplane_runtime::exec::{Run, StepReport, WarmUp};

/// What was measured of a plan.
#[derive(Debug)]
pub(crate) struct Alone {
    /// Timed steps.
    pub(crate) timed: Vec<StepReport>,
    /// Loss of every step, warm-up included.
    pub(crate) losses: Vec<f64>,
    /// How it ran, and whether the warm-up ended by agreement.
    pub(crate) notes: Vec<String>,
}

/// Repeats the step until two successive ones agree, then times up to `steps` of them. After `time` no further step begins,
/// but one is timed in any case; an interrupt ends it with what it has.
///
/// # Errors
/// Those of a step.
pub(crate) fn measure_alone(run: &mut Run, steps: usize, time: Duration) -> Result<Alone> {
    let started = Instant::now();
    let mut measured = Alone { timed: Vec::new(), losses: Vec::new(), notes: run.notes() };
    match run.warm_up(WarmUp { time: time.min(WarmUp::default().time), ..WarmUp::default() }) {
        Ok(warmed) => {
            measured.notes.extend(warmed.note());
            measured.losses = warmed.losses;
        }
        Err(RuntimeError::Interrupted) => return Ok(measured),
        Err(error) => return Err(error.into()),
    }
    while measured.timed.len() < steps && (measured.timed.is_empty() || started.elapsed() < time) {
        match run.step() {
            Ok(report) => {
                measured.losses.push(report.loss);
                measured.timed.push(report);
            }
            Err(RuntimeError::Interrupted) => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(measured)
}
