//! Lower bounds of the estimator's step time, for layouts that are known in part.
//!
//! Every bound counts the passes of the micro-batches and leaves out what is never negative: messages, gradients, shards,
//! the optimizer. `T` is the model's time for one micro-batch, `r` the busiest stage's, `m` the micro-batches of a replica:
//!
//! | schedule | bound |
//! |---|---|
//! | fill-drain | `T + (m - 1) r` |
//! | 1F1B | `T + ((m - 1) - min(p - 1, m - 1) s) r` |
//! | zero-bubble | `m r`; of one split, what follows the first micro-batch's way to each stage |
//! | interleaved, `v` chunks | `m r + (T - 2 r) / v` |
//!
//! Where a pass waits for its message, that counts with it.
//!
//! 1F1B: a stage with `k` behind it takes `k + 1` forward passes before its first backward pass. Around its first and its
//! last micro-batch it waits for the stages behind it, but for `k` passes of one kind that it does meanwhile; with unequal
//! stages that hides at most `k` times the shorter pass, a share `s` of `r`.

use super::space::{Arithmetic, Grid, Space, Timing};
use super::times::{Span, Times};
use crate::estimate::PipelineSchedule;

/// Step time of any layout with this arithmetic on at most so many devices, s.
pub(super) fn of_arithmetic(times: &Times, arithmetic: &Arithmetic, space: &Space) -> f64 {
    device_seconds(times, arithmetic, space) / space.devices() as f64
}

/// Time that all devices together compute in a step, s.
pub(super) fn device_seconds(times: &Times, arithmetic: &Arithmetic, space: &Space) -> f64 {
    let micro_batches = (space.batch() / arithmetic.micro_batch) as f64;
    times.total * micro_batches * (arithmetic.tp * arithmetic.cp) as f64
}

/// Micro-batches of a replica.
pub(super) fn micro_batches(arithmetic: &Arithmetic, grid: &Grid, space: &Space) -> f64 {
    (space.batch() / (arithmetic.micro_batch * grid.dp)) as f64
}

/// Step time of any layout with this grid, s.
pub(super) fn of_grid(times: &Times, arithmetic: &Arithmetic, grid: &Grid, space: &Space) -> f64 {
    let m = micro_batches(arithmetic, grid, space);
    m * times.total / grid.pp as f64
}

/// A schedule, and the message that each of its passes waits for, s.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waited {
    pub(super) timing: Timing,
    pub(super) message: f64,
}

/// Step time of any split with this schedule whose busiest stage takes at least `busiest`, s.
pub(super) fn of_timing(times: &Times, waited: Waited, pp: u64, m: f64, busiest: f64) -> f64 {
    of_pipeline(times.total, times.shorter, waited, pp, m, busiest)
}

/// Step time of stages that take so long for a micro-batch, messages included: all, and the busiest; s.
pub(super) fn of_stages((total, busiest): (f64, f64), timing: Timing, pp: u64, m: f64) -> f64 {
    of_pipeline(total, 0.5, Waited { timing, message: 0.0 }, pp, m, busiest)
}

/// Step time of one split when so many layers of each stage are recomputed besides, s.
pub(super) fn of_split(times: &Times, waited: Waited, pp: u64, m: f64, split: &[u64], recomputed: u64) -> f64 {
    let mut devices = times.devices(split, pp);
    if recomputed > 0 {
        let forward = times.runs.iter().map(|(_, span)| span.forward).fold(f64::INFINITY, f64::min);
        for (device, span) in devices.iter_mut().enumerate() {
            let layers = split.iter().skip(device).step_by(pp as usize).sum::<u64>();
            span.backward += recomputed.min(layers) as f64 * forward;
        }
    }
    let both = devices.iter().map(|span| span.both());
    let (total, busiest) = both.fold((0.0, 0.0_f64), |(sum, most), both| (sum + both, both.max(most)));
    // With recomputation the other pass may be the shorter one: at most half of a stage.
    let shorter = if recomputed == 0 { times.shorter } else { 0.5 };
    let any = of_pipeline(total, shorter, waited, pp, m, busiest);
    if waited.timing.schedule == PipelineSchedule::ZeroBubble {
        any.max(of_weights_apart(&devices, waited, m))
    } else {
        any
    }
}

/// Step time when weight gradients wait: each device does its own passes, but for as many forward passes as there are
/// devices from it on, behind the first micro-batch's way down and up to it.
fn of_weights_apart(devices: &[Span], waited: Waited, m: f64) -> f64 {
    let message = waited.message;
    let down: f64 = devices.iter().map(|span| span.forward + message).sum();
    let (mut up, mut longest) = (0.0, 0.0_f64);
    for (behind, span) in devices.iter().rev().enumerate() {
        let before = (behind as f64 + 1.0).min(m) * (span.forward + message);
        longest = longest.max(down + up + m * (span.both() + 2.0 * message) - before);
        up += span.backward - span.weight + message;
    }
    longest
}

fn of_pipeline(total: f64, shorter: f64, waited: Waited, pp: u64, m: f64, busiest: f64) -> f64 {
    if pp == 1 {
        return m * total;
    }
    let Waited { timing, message } = waited;
    let messages = message * timing.vpp as f64;
    let hidden = shorter * busiest + messages;
    let (total, busiest) = (total + 2.0 * messages * pp as f64, busiest + 2.0 * messages);
    let behind = (pp as f64 - 1.0).min(m - 1.0);
    match timing.schedule {
        PipelineSchedule::Vanilla => m * total,
        PipelineSchedule::FillDrain => total + (m - 1.0) * busiest,
        PipelineSchedule::OneForwardOneBackward => total + (m - 1.0) * busiest - behind * hidden,
        PipelineSchedule::ZeroBubble => m * busiest,
        // The first chunk may be the shortest, by up to itself: its time stands for no other's.
        PipelineSchedule::Interleaved => m * busiest + (total - 2.0 * busiest).max(0.0) / timing.vpp as f64,
    }
}
