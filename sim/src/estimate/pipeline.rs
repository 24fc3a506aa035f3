//! How long a pipeline takes: stages of any times, messages between them, each schedule.
//!
//! With `p` equal stages, `m` micro-batches and forward and backward times `f` and `b`:
//!
//! | schedule | time |
//! |---|---|
//! | vanilla | `m p (f + b)` |
//! | fill-drain, 1F1B | `(m + p - 1) (f + b)` |
//! | interleaved, `v` chunks | `(m + (p - 1) / v) (f + b)` |
//! | zero-bubble H1, `b = b_i + b_w` | `m (f + b) + (p - 1) (f + b_i - b_w)` |
//!
//! (Huang et al. 2019, section 2.3; Narayanan et al. 2021, section 2.2; Qi et al. 2023, table 1.) Unequal stages: 1F1B by
//! its own recurrence over stages and micro-batches, carried on at its final rate; fill-drain as two flow shops.

use super::layout::PipelineSchedule;

/// One stage's times for one micro-batch, s.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StageTime {
    /// Forward.
    pub forward: f64,
    /// Backward, weight gradients included.
    pub backward: f64,
    /// Part of the backward pass that only the optimizer waits for.
    pub weight_gradient: f64,
}

impl StageTime {
    /// Forward and backward.
    pub fn both(&self) -> f64 {
        self.forward + self.backward
    }
}

/// A message between two neighbouring stages, the same both ways; it travels beside computation.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Hop {
    /// Time that the link is busy, s; a link carries one message after the other.
    pub transfer: f64,
    /// Latency after that, s.
    pub latency: f64,
}

impl Hop {
    fn seconds(self) -> f64 {
        self.transfer + self.latency
    }
}

/// When each stage has finished its last backward pass, s; `hops[i]` joins stages `i` and `i + 1`. `chunks` is the number
/// of model chunks a device, 1 unless interleaved.
pub fn stage_ends(
    schedule: PipelineSchedule,
    stages: &[StageTime],
    hops: &[Hop],
    micro_batches: u64,
    chunks: u64,
) -> Vec<f64> {
    let m = micro_batches as f64;
    match schedule {
        _ if stages.len() == 1 => vec![m * stages[0].both()],
        PipelineSchedule::Vanilla => vanilla(stages, hops, m),
        PipelineSchedule::FillDrain => fill_drain(stages, hops, m),
        PipelineSchedule::OneForwardOneBackward => one_forward_one_backward(stages, hops, micro_batches),
        PipelineSchedule::Interleaved if chunks == 1 => one_forward_one_backward(stages, hops, micro_batches),
        PipelineSchedule::Interleaved => interleaved(stages, hops, m, chunks as f64),
        PipelineSchedule::ZeroBubble => zero_bubble(stages, hops, micro_batches),
    }
}

fn vanilla(stages: &[StageTime], hops: &[Hop], m: f64) -> Vec<f64> {
    let turn: f64 =
        stages.iter().map(StageTime::both).sum::<f64>() + 2.0 * hops.iter().map(|hop| hop.seconds()).sum::<f64>();
    drained(stages, hops, m * turn)
}

/// Ends of all stages when the first ends at `end`: each further one hands over earlier.
fn drained(stages: &[StageTime], hops: &[Hop], end: f64) -> Vec<f64> {
    let mut ends = vec![end; stages.len()];
    for stage in 1..stages.len() {
        ends[stage] = ends[stage - 1] - stages[stage - 1].backward - hops[stage - 1].seconds();
    }
    ends
}

/// Two flow shops of equal jobs, one after the other: each takes the way of one micro-batch and `m - 1` times its slowest
/// machine, links being machines.
fn fill_drain(stages: &[StageTime], hops: &[Hop], m: f64) -> Vec<f64> {
    let way: f64 = hops.iter().map(|hop| hop.seconds()).sum();
    let link = hops.iter().map(|hop| hop.transfer).fold(0.0, f64::max);
    let forwards = stages.iter().map(|stage| stage.forward);
    let filled = forwards.clone().sum::<f64>() + way + (m - 1.0) * forwards.fold(link, f64::max);
    // From the last stage back: the slowest machine so far sets the pace.
    let (mut ends, mut path, mut pace) = (vec![0.0; stages.len()], 0.0, 0.0);
    for stage in (0..stages.len()).rev() {
        if let Some(hop) = hops.get(stage) {
            path += hop.seconds();
            pace = hop.transfer.max(pace);
        }
        path += stages[stage].backward;
        pace = stages[stage].backward.max(pace);
        ends[stage] = filled + path + (m - 1.0) * pace;
    }
    ends
}

/// State of the 1F1B recurrence between rounds.
struct Rounds<'a> {
    stages: &'a [StageTime],
    hops: &'a [Hop],
    /// When each stage is free.
    free: Vec<f64>,
    /// When each link is free, down and up.
    down: Vec<f64>,
    up: Vec<f64>,
    /// When the gradient that stage `s` needs next has arrived.
    gradient: Vec<f64>,
}

impl Rounds<'_> {
    /// Forward pass of one micro-batch on all stages.
    fn forward(&mut self) {
        let mut arrival = 0.0;
        for (stage, time) in self.stages.iter().enumerate() {
            let end = self.free[stage].max(arrival) + time.forward;
            self.free[stage] = end;
            if let Some(hop) = self.hops.get(stage) {
                self.down[stage] = end.max(self.down[stage]) + hop.transfer;
                arrival = self.down[stage] + hop.latency;
            }
        }
    }

    /// Backward passes of round `round`: stage `s` works on micro-batch `round - (p - 1 - s)`.
    fn backward(&mut self, round: u64, micro_batches: u64) {
        let stages = self.stages.len();
        // From the first stage, so that each reads what its successor sent a round before.
        for stage in 0..stages {
            let lag = (stages - 1 - stage) as u64;
            if round < lag || round - lag >= micro_batches {
                continue;
            }
            let end = self.free[stage].max(self.gradient[stage]) + self.stages[stage].backward;
            self.free[stage] = end;
            if stage > 0 {
                let hop = self.hops[stage - 1];
                self.up[stage - 1] = end.max(self.up[stage - 1]) + hop.transfer;
                self.gradient[stage - 1] = self.up[stage - 1] + hop.latency;
            }
        }
    }
}

/// Rounds after which the pace of `p` stages has settled.
fn settling(stages: usize) -> u64 {
    4 * stages as u64 + 8
}

fn one_forward_one_backward(stages: &[StageTime], hops: &[Hop], micro_batches: u64) -> Vec<f64> {
    let p = stages.len();
    if equal(stages) && hops.iter().all(|hop| *hop == Hop::default()) {
        let end = (micro_batches as f64 + p as f64 - 1.0) * stages[0].both();
        return drained(stages, hops, end);
    }
    let settled = settling(p);
    if micro_batches <= settled + p as u64 {
        return rounds(stages, hops, micro_batches);
    }
    let early = rounds(stages, hops, settled);
    let late = rounds(stages, hops, settled + p as u64);
    let rest = (micro_batches - settled - p as u64) as f64 / p as f64;
    late.iter().zip(&early).map(|(late, early)| late + (late - early) * rest).collect()
}

fn rounds(stages: &[StageTime], hops: &[Hop], micro_batches: u64) -> Vec<f64> {
    let p = stages.len();
    let mut rounds =
        Rounds { stages, hops, free: vec![0.0; p], down: vec![0.0; p], up: vec![0.0; p], gradient: vec![0.0; p] };
    for round in 0..micro_batches + p as u64 - 1 {
        if round < micro_batches {
            rounds.forward();
        }
        rounds.backward(round, micro_batches);
    }
    rounds.free
}

fn equal(stages: &[StageTime]) -> bool {
    stages.windows(2).all(|pair| pair[0] == pair[1])
}

/// The busiest device works all the time but for filling and draining, which take the chunks of all others.
fn interleaved(stages: &[StageTime], hops: &[Hop], m: f64, chunks: f64) -> Vec<f64> {
    let busiest = stages.iter().map(StageTime::both).fold(0.0, f64::max);
    let total: f64 = stages.iter().map(StageTime::both).sum();
    let messages: f64 = 2.0 * hops.iter().map(|hop| hop.seconds()).sum::<f64>();
    let end = m * busiest + (total - busiest) / chunks + messages;
    let mut ends = vec![end; stages.len()];
    for stage in 1..stages.len() {
        ends[stage] = ends[stage - 1] - stages[stage - 1].backward / chunks - hops[stage - 1].seconds();
    }
    ends
}

/// 1F1B whose bubble is filled with weight gradients.
fn zero_bubble(stages: &[StageTime], hops: &[Hop], micro_batches: u64) -> Vec<f64> {
    let ends = one_forward_one_backward(stages, hops, micro_batches);
    let busiest = stages.iter().map(StageTime::both).fold(0.0, f64::max);
    let saved: f64 = stages.iter().map(|stage| 2.0 * stage.weight_gradient).sum::<f64>()
        - stages.iter().map(|stage| 2.0 * stage.weight_gradient).fold(0.0, f64::max);
    ends.into_iter().map(|end| (end - saved).max(micro_batches as f64 * busiest)).collect()
}
