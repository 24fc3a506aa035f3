//! Runs every plan, interleaved, so that all of them see the same machine.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result};
use cutplane_graph::{DeviceGraph, ModelGraph};
use cutplane_plan::{Program, lower};
use cutplane_record::{Summary, Timeline};
use cutplane_runtime::data::Batches;
use cutplane_runtime::exec::{Run, RunOptions};
use cutplane_units::Bytes;

use super::plans::Candidate;
use crate::{context, progress};

/// What was measured of one plan.
pub(crate) struct Measured {
    /// The lowered plan.
    pub(crate) program: Arc<Program>,
    /// Step times of the timed steps, ns.
    pub(crate) steps_ns: Vec<f64>,
    /// Loss of every step, warm-up included.
    pub(crate) losses: Vec<f64>,
    /// Timeline of every timed step.
    timelines: Vec<Timeline>,
    /// Peak memory of the fullest rank over all steps.
    pub(crate) peak_memory: Bytes,
}

impl Measured {
    /// Order statistics of the step time; `None` before the first timed step.
    pub(crate) fn summary(&self) -> Option<Summary> {
        Summary::of(&self.steps_ns)
    }

    /// The timeline of the step whose time is nearest to the median.
    pub(crate) fn median_timeline(&self) -> Option<&Timeline> {
        let median = self.summary()?.median_ns;
        let distance = |timeline: &&Timeline| (timeline.makespan().as_f64() - median).abs();
        self.timelines.iter().min_by(|a, b| distance(a).total_cmp(&distance(b)))
    }
}

/// How often each plan runs.
pub(crate) struct Rounds {
    /// Steps that are run but not timed.
    pub(crate) warm_up: usize,
    /// Timed steps.
    pub(crate) timed: usize,
}

/// Runs all candidates round-robin: in every round each plan takes one step, in rotating order. An interrupt ends after
/// the step in hand; what was measured until then is returned.
pub(crate) fn measure(
    candidates: &[Candidate],
    model: &Arc<ModelGraph>,
    devices: &DeviceGraph,
    batches: &Arc<Batches>,
    options: &RunOptions,
    rounds: &Rounds,
    interrupt: &AtomicBool,
) -> Result<Vec<Measured>> {
    let mut running = Vec::with_capacity(candidates.len());
    for candidate in candidates {
        let verified = context::verified(&candidate.plan, model, devices)?;
        let program = Arc::new(lower(&verified)?);
        let run = Run::start(Arc::clone(model), Arc::clone(&program), Arc::clone(batches), options)
            .with_context(|| format!("starting plan '{}'", candidate.plan.name))?;
        let (steps_ns, losses, timelines) = (Vec::new(), Vec::new(), Vec::new());
        running.push((run, Measured { program, steps_ns, losses, timelines, peak_memory: Bytes::ZERO }));
    }
    let total = rounds.warm_up + rounds.timed;
    let bar = progress::bar((total * candidates.len()) as u64, "running the plans");
    'rounds: for round in 0..total {
        for turn in 0..running.len() {
            if interrupt.load(Ordering::SeqCst) {
                break 'rounds;
            }
            let index = (turn + round) % candidates.len();
            let (run, measured) = &mut running[index];
            let name = &candidates[index].plan.name;
            bar.set_message(format!("round {} of {total}: {name}", round + 1));
            let report = run.step().with_context(|| format!("plan '{name}'"))?;
            measured.losses.push(report.loss);
            measured.peak_memory = measured.peak_memory.max(report.timeline.max_peak_memory());
            if round >= rounds.warm_up {
                measured.steps_ns.push(report.timeline.makespan().as_f64());
                measured.timelines.push(report.timeline);
            }
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    Ok(running.into_iter().map(|(_, measured)| measured).collect())
}
