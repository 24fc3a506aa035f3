//! Lower bounds of the estimator's step time, for layouts that are known in part.
//!
//! Every bound counts the passes of the micro-batches and leaves out what is never negative: messages, gradients, shards,
//! the optimizer. `T` is the model's time for one micro-batch, `r` the busiest stage's, `m` the micro-batches of a replica:
//!
//! | schedule | bound |
//! |---|---|
//! | fill-drain | `T + (m - 1) r` |
//! | 1F1B | `T + ((m - 1) - min(p - 1, m - 1) s) r` |
//! | zero-bubble | `m r` |
//! | interleaved, `v` chunks | `m r + (T - 2 r) / v` |
//!
//! 1F1B: a stage with `k` behind it takes `k + 1` forward passes before its first backward pass. Around its first and its
//! last micro-batch it waits for the stages behind it, but for `k` passes of one kind that it does meanwhile; with unequal
//! stages that hides at most `k` times the shorter pass, a share `s` of `r`.

use super::space::{Arithmetic, Grid, Space, Timing};
use super::times::Times;
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

/// Step time of any split with this schedule whose busiest stage takes at least `busiest`, s.
pub(super) fn of_timing(times: &Times, timing: Timing, pp: u64, m: f64, busiest: f64) -> f64 {
    of_pipeline(times.total, times.shorter, timing, pp, m, busiest)
}

/// Step time of one split when so many layers of each stage are recomputed besides, s.
pub(super) fn of_split(times: &Times, timing: Timing, pp: u64, m: f64, split: &[u64], recomputed: u64) -> f64 {
    let devices = times.devices(split, pp);
    let forward = times.runs.iter().map(|(_, span)| span.forward).fold(f64::INFINITY, f64::min);
    let layers = |device: usize| split.iter().skip(device).step_by(pp as usize).sum::<u64>();
    let more = |device: usize| if recomputed == 0 { 0.0 } else { recomputed.min(layers(device)) as f64 * forward };
    let each = devices.iter().enumerate().map(|(device, span)| span.both() + more(device));
    let (total, busiest) = each.fold((0.0, 0.0), |(sum, most), both| (sum + both, both.max(most)));
    // With recomputation the other pass may be the shorter one: at most half of a stage.
    let shorter = if recomputed == 0 { times.shorter } else { 0.5 };
    of_pipeline(total, shorter, timing, pp, m, busiest)
}

fn of_pipeline(total: f64, shorter: f64, timing: Timing, pp: u64, m: f64, busiest: f64) -> f64 {
    if pp == 1 {
        return m * total;
    }
    let behind = (pp as f64 - 1.0).min(m - 1.0);
    match timing.schedule {
        PipelineSchedule::Vanilla => m * total,
        PipelineSchedule::FillDrain => total + (m - 1.0) * busiest,
        PipelineSchedule::OneForwardOneBackward => total + ((m - 1.0) - behind * shorter) * busiest,
        PipelineSchedule::ZeroBubble => m * busiest,
        // The first chunk may be the shortest, by up to itself: its time stands for no other's.
        PipelineSchedule::Interleaved => m * busiest + (total - 2.0 * busiest).max(0.0) / timing.vpp as f64,
    }
}
