//! Pipelines of the closed form against a simulation of every pass and message in the order of Megatron-LM's schedules.

use std::collections::HashMap;

use cutplane_sim::estimate::PipelineSchedule;
use cutplane_sim::estimate::pipeline::{Hop, StageTime, stage_ends};

use crate::support::Draw;

/// A pass: micro-batch, virtual stage, whether it is a backward pass.
type Pass = (u64, usize, bool);

/// A pipeline of `p` devices with `v` chunks each.
struct Pipeline<'a> {
    stages: &'a [StageTime],
    hops: &'a [Hop],
    chunks: usize,
    micro_batches: u64,
}

impl Pipeline<'_> {
    /// The passes of one device in order.
    fn order(&self, schedule: PipelineSchedule, device: usize) -> Vec<Pass> {
        let (p, m) = (self.stages.len(), self.micro_batches);
        let forwards: Vec<Pass> = self.walk().map(|(micro, chunk)| (micro, chunk * p + device, false)).collect();
        let backward = |(micro, chunk): (u64, usize)| (micro, (self.chunks - 1 - chunk) * p + device, true);
        let backwards: Vec<Pass> = self.walk().map(backward).collect();
        let all = (m * self.chunks as u64) as usize;
        let warm = match schedule {
            PipelineSchedule::FillDrain => all,
            PipelineSchedule::Interleaved => ((p - device - 1) * 2 + (self.chunks - 1) * p).min(all),
            _ => (p - device - 1).min(all),
        };
        let steady = forwards[warm..].iter().zip(&backwards).flat_map(|(forward, backward)| [*forward, *backward]);
        let drained = backwards[all - warm..].iter().copied();
        forwards[..warm].iter().copied().chain(steady).chain(drained).collect()
    }

    /// Micro-batches and chunks in the order of forward passes: groups of as many micro-batches as there are devices.
    fn walk(&self) -> impl Iterator<Item = (u64, usize)> {
        let (group, chunks, m) = (self.stages.len() as u64, self.chunks, self.micro_batches);
        let groups = m.div_ceil(group);
        (0..groups).flat_map(move |at| {
            (0..chunks).flat_map(move |chunk| (at * group..((at + 1) * group).min(m)).map(move |micro| (micro, chunk)))
        })
    }

    /// When each device has finished; links carry one message at a time.
    fn simulate(&self, schedule: PipelineSchedule) -> Vec<f64> {
        let p = self.stages.len();
        let orders: Vec<Vec<Pass>> = (0..p).map(|device| self.order(schedule, device)).collect();
        let (mut next, mut free) = (vec![0; p], vec![0.0_f64; p]);
        let mut done: HashMap<Pass, f64> = HashMap::new();
        let mut links: HashMap<(usize, bool), f64> = HashMap::new();
        loop {
            let ready = (0..p).filter_map(|device| {
                let pass = *orders[device].get(next[device])?;
                Some((free[device].max(self.arrival(pass, &done)?), device, pass))
            });
            let Some((start, device, pass)) = ready.min_by(|a, b| a.0.total_cmp(&b.0)) else { break };
            let time = self.stages[device];
            let spent = if pass.2 { time.backward } else { time.forward } / self.chunks as f64;
            free[device] = start + spent;
            next[device] += 1;
            done.insert(pass, self.sent(pass, free[device], &mut links));
        }
        assert!(next.iter().zip(&orders).all(|(next, order)| *next == order.len()), "a schedule that cannot run");
        free
    }

    /// When what a pass needs is there; `None` while it is not.
    fn arrival(&self, (micro, stage, backward): Pass, done: &HashMap<Pass, f64>) -> Option<f64> {
        let last = self.stages.len() * self.chunks - 1;
        match (backward, stage) {
            (false, 0) => Some(0.0),
            (false, _) => done.get(&(micro, stage - 1, false)).copied(),
            (true, stage) if stage == last => done.get(&(micro, stage, false)).copied(),
            (true, _) => done.get(&(micro, stage + 1, true)).copied(),
        }
    }

    /// When the result of a pass has arrived at the next stage.
    fn sent(&self, (_, stage, backward): Pass, end: f64, links: &mut HashMap<(usize, bool), f64>) -> f64 {
        let next = if backward { stage.checked_sub(1) } else { Some(stage) };
        let Some(hop) = next.and_then(|at| self.hops.get(at % self.stages.len())) else { return end };
        let free = links.entry((next.unwrap_or(0), backward)).or_default();
        *free = free.max(end) + hop.transfer;
        *free + hop.latency
    }
}

fn drawn(draw: &mut Draw, p: usize, equal: bool) -> Vec<StageTime> {
    let one = |draw: &mut Draw| {
        let forward = draw.factor();
        StageTime { forward, backward: forward * 2.0 * draw.factor(), weight_gradient: forward }
    };
    let first = one(draw);
    (0..p).map(|_| if equal { first } else { one(draw) }).collect()
}

/// Share by which the closed form leaves the simulation, over the slowest device.
fn apart(pipeline: &Pipeline<'_>, schedule: PipelineSchedule) -> f64 {
    let most = |ends: &[f64]| ends.iter().copied().fold(0.0, f64::max);
    let closed = stage_ends(schedule, pipeline.stages, pipeline.hops, pipeline.micro_batches, pipeline.chunks as u64);
    (most(&closed) / most(&pipeline.simulate(schedule)) - 1.0).abs()
}

#[test]
fn one_forward_one_backward_agrees_within_one_per_cent() {
    let mut draw = Draw::new(11);
    for _ in 0..1500 {
        let p = 2 + draw.below(7) as usize;
        let equal = draw.below(3) == 0;
        let stages = drawn(&mut draw, p, equal);
        let transfer = draw.below(20) as f64 / 100.0;
        let hops = vec![Hop { transfer, latency: transfer / 4.0 }; p - 1];
        let micro_batches = 1 + draw.below(120);
        let pipeline = Pipeline { stages: &stages, hops: &hops, chunks: 1, micro_batches };
        let apart = apart(&pipeline, PipelineSchedule::OneForwardOneBackward);
        assert!(apart < 0.01, "{apart} on {p} stages of {micro_batches} micro-batches: {stages:?}");
    }
}

#[test]
fn fill_drain_agrees_within_one_per_cent() {
    let mut draw = Draw::new(12);
    for _ in 0..1000 {
        let p = 2 + draw.below(7) as usize;
        let stages = drawn(&mut draw, p, false);
        let hops = vec![Hop { transfer: draw.below(20) as f64 / 100.0, latency: 0.01 }; p - 1];
        let pipeline = Pipeline { stages: &stages, hops: &hops, chunks: 1, micro_batches: 1 + draw.below(60) };
        let apart = apart(&pipeline, PipelineSchedule::FillDrain);
        assert!(apart < 0.01, "{apart}: {stages:?}");
    }
}

#[test]
fn interleaved_equal_stages_agree_within_one_per_cent() {
    let mut draw = Draw::new(13);
    for _ in 0..500 {
        let p = 2 + draw.below(7) as usize;
        let stages = drawn(&mut draw, p, true);
        let chunks = 2 + draw.below(3) as usize;
        let micro_batches = p as u64 * (1 + draw.below(8));
        let hops = vec![Hop::default(); p - 1];
        let pipeline = Pipeline { stages: &stages, hops: &hops, chunks, micro_batches };
        let apart = apart(&pipeline, PipelineSchedule::Interleaved);
        assert!(apart < 0.01, "{apart} on {p} stages of {chunks} chunks, {micro_batches} micro-batches");
    }
}
