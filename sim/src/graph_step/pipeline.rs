//! GPipe's schedule over the operators of a graph (Huang et al. 2019), as torchgpipe runs it (Kim et al. 2020): all
//! forward passes, then all backward passes in the opposite order, each stage recomputing what it did not keep before the
//! gradient arrives.

use std::ops::Range;

use cutplane_graph::ModelGraph;

use super::charge::{Charge, OperatorCharge};
use super::error::GraphStepError;
use super::stack::Speeds;

/// Which micro-batches keep only their stage's input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checkpoint {
    /// None: all activations are kept.
    Never,
    /// All but the last, whose backward pass follows at once.
    ExceptLast,
    /// All.
    Always,
}

/// A pipelined step.
#[derive(Clone, Debug, PartialEq)]
pub struct GpipeStep<'a> {
    /// Operators of each stage.
    pub stages: &'a [Range<usize>],
    /// Micro-batches.
    pub micro_batches: u64,
    /// What is recomputed.
    pub checkpoint: Checkpoint,
    /// Bytes of a stored activation.
    pub activation_bytes: u64,
    /// Bytes a second between the devices of neighbouring stages.
    pub link: f64,
}

/// Most micro-batches that are walked one by one; a longer pipeline is in its steady state and grows linearly.
const MOST_WALKED: u64 = 128;

/// Time of a pipelined step without its update, s.
///
/// # Errors
/// [`GraphStepError::Field`] for stages that do not cover the graph in order, and for no micro-batches.
pub fn pipeline(
    graph: &ModelGraph,
    micro_batch: u64,
    charges: &[OperatorCharge],
    step: &GpipeStep<'_>,
    speeds: Speeds,
) -> Result<f64, GraphStepError> {
    check(step, charges.len())?;
    let walk = Walk::of(graph, micro_batch, charges, step, speeds);
    let device = if step.micro_batches <= MOST_WALKED {
        walk.seconds(step.micro_batches, step.checkpoint)
    } else {
        let (half, whole) =
            (walk.seconds(MOST_WALKED / 2, step.checkpoint), walk.seconds(MOST_WALKED, step.checkpoint));
        whole + (whole - half) * (step.micro_batches - MOST_WALKED) as f64 / (MOST_WALKED / 2) as f64
    };
    // One process drives all stages: its launches do not run beside each other.
    let again = match step.checkpoint {
        Checkpoint::Never => 1.0,
        Checkpoint::ExceptLast | Checkpoint::Always => 2.0,
    };
    let launches: f64 = charges.iter().map(|op| again * op.forward.launches + op.backward.launches).sum();
    let host = launches * step.micro_batches as f64 * speeds.launch;
    Ok(device.max(host))
}

fn check(step: &GpipeStep<'_>, operators: usize) -> Result<(), GraphStepError> {
    let refuse = |field, value: String, remedy| Err(GraphStepError::Field { field, value, remedy });
    let mut next = 0;
    for stage in step.stages {
        if stage.start != next || stage.end <= stage.start {
            return refuse("stages", format!("{stage:?}"), "stages follow each other and hold an operator each");
        }
        next = stage.end;
    }
    if next != operators {
        return refuse("stages", format!("{next} of {operators} operators"), "stages cover the whole graph");
    }
    if step.micro_batches == 0 || step.link.is_nan() || step.link <= 0.0 {
        return refuse("micro_batches, link", step.micro_batches.to_string(), "write numbers above zero");
    }
    Ok(())
}

/// Times of the stages, s.
struct Walk {
    forward: Vec<f64>,
    backward: Vec<f64>,
    /// From each stage to the next, either way.
    hop: Vec<f64>,
}

impl Walk {
    fn of(
        graph: &ModelGraph,
        micro_batch: u64,
        charges: &[OperatorCharge],
        step: &GpipeStep<'_>,
        speeds: Speeds,
    ) -> Self {
        let sum = |stage: &Range<usize>, part: fn(&OperatorCharge) -> Charge| {
            speeds.device(charges[stage.clone()].iter().map(part).sum())
        };
        let hop = |at: usize| {
            let read = step.stages.get(at + 1).map_or(0, |next| crossing(graph, micro_batch, next));
            (read * step.activation_bytes) as f64 / step.link
        };
        Self {
            forward: step.stages.iter().map(|stage| sum(stage, |op| op.forward)).collect(),
            backward: step.stages.iter().map(|stage| sum(stage, |op| op.backward)).collect(),
            hop: (0..step.stages.len()).map(hop).collect(),
        }
    }

    fn seconds(&self, micro_batches: u64, checkpoint: Checkpoint) -> f64 {
        let stages = self.forward.len();
        let mut free = vec![0.0_f64; stages];
        // Copies between two neighbours wait for each other, those of one direction.
        let mut down = vec![0.0_f64; stages];
        let mut up = vec![0.0_f64; stages];
        for _ in 0..micro_batches {
            let mut arrived = 0.0;
            for stage in 0..stages {
                free[stage] = free[stage].max(arrived) + self.forward[stage];
                down[stage] = down[stage].max(free[stage]) + self.hop[stage];
                arrived = down[stage];
            }
        }
        for passed in 0..micro_batches {
            let again = checkpoint == Checkpoint::Always || checkpoint == Checkpoint::ExceptLast && passed > 0;
            let mut arrived = 0.0;
            for stage in (0..stages).rev() {
                let ready = free[stage] + if again { self.forward[stage] } else { 0.0 };
                free[stage] = ready.max(arrived) + self.backward[stage];
                if let Some(before) = stage.checked_sub(1) {
                    up[before] = up[before].max(free[stage]) + self.hop[before];
                    arrived = up[before];
                }
            }
        }
        free.into_iter().fold(0.0, f64::max)
    }
}

/// Elements that a stage reads of what those before it wrote. What a later stage reads goes there directly, while those
/// between compute (torchgpipe's portals), and holds nobody up.
fn crossing(graph: &ModelGraph, batch: u64, stage: &Range<usize>) -> u64 {
    let crosses = |value: &&cutplane_graph::Value| {
        value.producer.is_some_and(|id| id.index() < stage.start)
            && value.consumers.iter().any(|id| stage.contains(&id.index()))
    };
    graph.values().iter().filter(crosses).map(|value| value.ty.elements(batch)).sum()
}

/// Cuts the operators into `stages` stretches whose longest takes as little time as possible: the smallest bound under which
/// a greedy walk needs no more stretches.
pub fn balanced_stages(charges: &[OperatorCharge], stages: usize, speeds: Speeds) -> Vec<Range<usize>> {
    let times: Vec<f64> = charges.iter().map(|op| speeds.device(op.forward + op.backward)).collect();
    let stages = stages.clamp(1, times.len().max(1));
    let (mut low, mut high) = (times.iter().copied().fold(0.0, f64::max), times.iter().sum::<f64>());
    for _ in 0..50 {
        let middle = 0.5 * (low + high);
        if cut(&times, middle, stages).len() <= stages { high = middle } else { low = middle }
    }
    cut(&times, high, stages)
}

/// Stretches under a bound; each leaves at least an operator for every stage that is to come.
fn cut(times: &[f64], bound: f64, stages: usize) -> Vec<Range<usize>> {
    let mut cuts: Vec<Range<usize>> = Vec::new();
    let (mut start, mut sum) = (0, 0.0);
    for (at, time) in times.iter().enumerate() {
        let last_chance = times.len() - at < stages.saturating_sub(cuts.len());
        if at > start && (sum + time > bound * (1.0 + 1e-9) || last_chance) {
            cuts.push(start..at);
            (start, sum) = (at, 0.0);
        }
        sum += time;
    }
    cuts.push(start..times.len());
    cuts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_between_neighbours_wait_for_each_other() {
        let walk = Walk { forward: vec![1.0; 2], backward: vec![2.0; 2], hop: vec![3.0, 0.0] };
        // Down at 4 and 7, computed at 5 and 8, back at 10 and 12, up at 13 and 16, done at 15 and 18.
        assert!((walk.seconds(2, Checkpoint::Never) - 18.0).abs() < 1e-12);
        let quick = Walk { hop: vec![0.0; 2], ..walk };
        assert!((quick.seconds(2, Checkpoint::Never) - 9.0).abs() < 1e-12);
    }
}
