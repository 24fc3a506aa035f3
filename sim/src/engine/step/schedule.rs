//! Orders of the passes of a pipeline, as rounds.
//!
//! A *unit* is one pass of one micro-batch over one model chunk; a device has `m v` units each way, in groups of `p`
//! micro-batches: all of a group on the first chunk, then all on the second (Narayanan et al. 2021, section 2.2.2). Every
//! schedule here is an *affine* one: device `d` does its forward unit `k` in round `r k + d`, its backward unit `j` in round
//! `r j + b(d)`, its weight gradient `w` in round `w + b(d) + lag(d)`, and in a round first the forward, then the backward
//! pass, then the weight gradient. A round reads what rounds before it wrote, but for 1F1B and zero-bubble, whose gradients
//! climb the whole pipeline in one round. So the order of rounds is a topological order of all passes, which one sweep
//! evaluates; nothing has to wait and be looked at again.
//!
//! | schedule | `r` | `b(d)` | warm-up forwards of device `d` |
//! |---|---|---|---|
//! | vanilla | `2 p` | `2 p - 1 - d` | 0 |
//! | fill-drain | 1 | `m + 2 (p - 1) - d` | all |
//! | 1F1B, zero-bubble | 1 | `p - 1` | `p - 1 - d` |
//! | interleaved | 1 | `2 (p - 1) - d + (v - 1) p` | `2 (p - 1 - d) + (v - 1) p` |
//!
//! Zero-bubble is ZB-H1 (Qi et al. 2023): the weight gradient of device `d` lags `d` micro-batches behind, so that every
//! device keeps the activations of `p` micro-batches, which is 1F1B's maximum.

use serde::{Deserialize, Serialize};

/// Order of the passes of the micro-batches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PipelineSchedule {
    /// One micro-batch under way at a time: stages take turns.
    Vanilla,
    /// All forward passes, then all backward passes (GPipe; Huang et al. 2019).
    FillDrain,
    /// One forward, one backward in turn (PipeDream-Flush; Narayanan et al. 2021, section 2.2.1).
    #[default]
    OneForwardOneBackward,
    /// 1F1B with several model chunks a device (Narayanan et al. 2021, section 2.2.2); `vpp` chunks.
    Interleaved,
    /// Backward split into input and weight gradients, the latter filling the bubble (Qi et al. 2023, ZB-H1: the bubble
    /// of 1F1B shrinks to `(p - 1) (t_f + t_input - t_weight)`).
    ZeroBubble,
}

/// What a pass computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PassKind {
    /// Activations.
    Forward,
    /// Gradients; of the inputs alone where weight gradients are passes of their own.
    Backward,
    /// Gradients of the weights.
    WeightGradient,
}

/// When every device does what, in rounds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rounds {
    schedule: PipelineSchedule,
    pub(super) devices: usize,
    pub(super) chunks: usize,
    pub(super) micro_batches: u64,
    /// Units of a device each way.
    pub(super) units: u64,
    stride: u64,
}

/// Rounds in which every device does the same kinds of passes as in the round before, and what repeats in them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Steady {
    /// First round.
    pub(super) from: u64,
    /// One behind the last round.
    pub(super) until: u64,
    /// Rounds after which chunks repeat.
    pub(super) period: u64,
}

impl Rounds {
    /// Interleaving with one chunk a device is 1F1B.
    pub(super) fn new(schedule: PipelineSchedule, devices: usize, chunks: usize, micro_batches: u64) -> Self {
        let schedule = match schedule {
            PipelineSchedule::Interleaved if chunks == 1 => PipelineSchedule::OneForwardOneBackward,
            other => other,
        };
        let stride = if schedule == PipelineSchedule::Vanilla { 2 * devices as u64 } else { 1 };
        Self { schedule, devices, chunks, micro_batches, units: micro_batches * chunks as u64, stride }
    }

    /// Whether gradients climb through all devices in one round.
    pub(super) const fn climbs(&self) -> bool {
        matches!(self.schedule, PipelineSchedule::OneForwardOneBackward | PipelineSchedule::ZeroBubble)
    }

    /// Whether weight gradients are passes of their own.
    pub(super) const fn splits_backward(&self) -> bool {
        matches!(self.schedule, PipelineSchedule::ZeroBubble)
    }

    /// The round of a device's first backward unit.
    fn first_backward(&self, device: usize) -> u64 {
        let (p, d) = (self.devices as u64, device as u64);
        match self.schedule {
            PipelineSchedule::Vanilla => 2 * p - 1 - d,
            PipelineSchedule::FillDrain => self.units + 2 * (p - 1) - d,
            PipelineSchedule::Interleaved => 2 * (p - 1) - d + (self.chunks as u64 - 1) * p,
            PipelineSchedule::OneForwardOneBackward | PipelineSchedule::ZeroBubble => p - 1,
        }
    }

    /// The unit of a series that starts in round `first` and is due in `round`.
    fn due(&self, round: u64, first: u64) -> Option<u64> {
        let since = round.checked_sub(first)?;
        let unit = since / self.stride;
        (since.is_multiple_of(self.stride) && unit < self.units).then_some(unit)
    }

    pub(super) fn forward(&self, round: u64, device: usize) -> Option<u64> {
        self.due(round, device as u64)
    }

    pub(super) fn backward(&self, round: u64, device: usize) -> Option<u64> {
        self.due(round, self.first_backward(device))
    }

    pub(super) fn weight_gradient(&self, round: u64, device: usize) -> Option<u64> {
        if self.splits_backward() { self.due(round, self.first_backward(device) + device as u64) } else { None }
    }

    /// Number of rounds.
    pub(super) fn count(&self) -> u64 {
        let last_start = (0..self.devices)
            .map(|device| self.first_backward(device) + if self.splits_backward() { device as u64 } else { 0 });
        last_start.max().unwrap_or(0) + self.stride * (self.units - 1) + 1
    }

    /// Chunk and micro-batch of a forward unit.
    pub(super) fn forward_place(&self, unit: u64) -> (usize, u64) {
        if self.chunks == 1 {
            return (0, unit);
        }
        let (p, v) = (self.devices as u64, self.chunks as u64);
        (((unit / p) % v) as usize, unit / (p * v) * p + unit % p)
    }

    /// Chunk and micro-batch of a backward unit: chunks in the opposite order; in fill-drain micro-batches too.
    pub(super) fn backward_place(&self, unit: u64) -> (usize, u64) {
        if self.schedule == PipelineSchedule::FillDrain {
            return (0, self.micro_batches - 1 - unit);
        }
        let (chunk, micro_batch) = self.forward_place(unit);
        (self.chunks - 1 - chunk, micro_batch)
    }

    /// Whether a backward unit is the last of its chunk, so that the chunk's gradients are complete with it.
    pub(super) fn completes(&self, unit: u64) -> bool {
        if self.chunks == 1 {
            return unit + 1 == self.units;
        }
        let p = self.devices as u64;
        unit + p * self.chunks as u64 >= self.units && unit % p == p - 1
    }

    /// The stretches whose rounds repeat, in order.
    pub(super) fn steady(&self) -> Vec<Steady> {
        let p = self.devices as u64;
        let lag = if self.splits_backward() { p - 1 } else { 0 };
        let filled = (0..self.devices).map(|device| self.first_backward(device)).max().unwrap_or(0) + lag;
        match self.schedule {
            PipelineSchedule::Vanilla => {
                vec![Steady { from: 0, until: self.stride * (self.units - 1), period: self.stride }]
            }
            PipelineSchedule::FillDrain => vec![
                Steady { from: p - 1, until: self.units, period: 1 },
                Steady { from: filled, until: self.first_backward(self.devices - 1) + self.units - 1, period: 1 },
            ],
            PipelineSchedule::Interleaved => {
                vec![Steady { from: filled, until: self.units - 1, period: p * self.chunks as u64 }]
            }
            PipelineSchedule::OneForwardOneBackward | PipelineSchedule::ZeroBubble => {
                let until = self.units.min(self.first_backward(0) + self.units - 1);
                vec![Steady { from: filled, until, period: 1 }]
            }
        }
    }

    /// Micro-batches by which a number of rounds of a steady stretch moves on; backward through them in fill-drain.
    pub(super) fn micro_batches_in(&self, rounds: u64, backward: bool) -> i64 {
        let micro_batches = (rounds / self.stride / self.chunks as u64) as i64;
        if backward && self.schedule == PipelineSchedule::FillDrain { -micro_batches } else { micro_batches }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [PipelineSchedule; 5] = [
        PipelineSchedule::Vanilla,
        PipelineSchedule::FillDrain,
        PipelineSchedule::OneForwardOneBackward,
        PipelineSchedule::Interleaved,
        PipelineSchedule::ZeroBubble,
    ];

    /// The passes of a device in order, as signs and units: forward 1, backward -1, weight gradient 0.
    fn order(rounds: &Rounds, device: usize) -> Vec<(i8, u64)> {
        let of_round = |round| {
            let passes = [
                rounds.forward(round, device).map(|unit| (1, unit)),
                rounds.backward(round, device).map(|unit| (-1, unit)),
                rounds.weight_gradient(round, device).map(|unit| (0, unit)),
            ];
            passes.into_iter().flatten()
        };
        (0..rounds.count()).flat_map(of_round).collect()
    }

    #[test]
    fn every_pass_stands_in_one_round() {
        for schedule in ALL {
            for (p, m) in [(1, 1), (1, 5), (2, 2), (4, 8), (3, 12), (4, 4)] {
                let v = if schedule == PipelineSchedule::Interleaved { 3 } else { 1 };
                let rounds = Rounds::new(schedule, p, v, m);
                let kinds = if rounds.splits_backward() { 3 } else { 2 };
                for device in 0..p {
                    assert_eq!(order(&rounds, device).len() as u64, kinds * m * v as u64, "{schedule:?} {p} {m}");
                }
            }
        }
    }

    #[test]
    fn interleaved_warm_up_is_megatrons() {
        let (p, v) = (4, 2);
        let rounds = Rounds::new(PipelineSchedule::Interleaved, p, v, 16);
        for device in 0..p {
            let ahead = order(&rounds, device).iter().take_while(|pass| pass.0 == 1).count();
            assert_eq!(ahead, 2 * (p - 1 - device) + (v - 1) * p + 1);
        }
    }

    #[test]
    fn one_forward_one_backward_is_the_order_of_lowered_programs() {
        use cutplane_plan::{Schedule, Slot, schedule_slots};
        for (ours, theirs) in [
            (PipelineSchedule::OneForwardOneBackward, Schedule::OneFOneB),
            (PipelineSchedule::FillDrain, Schedule::FillDrain),
        ] {
            for (p, m) in [(1, 3), (4, 2), (3, 9)] {
                let rounds = Rounds::new(ours, p, 1, m);
                for device in 0..p {
                    let slot = |(sign, unit): (i8, u64)| match sign {
                        1 => Slot::Forward(unit),
                        _ => Slot::Backward(rounds.backward_place(unit).1),
                    };
                    let slots: Vec<Slot> = order(&rounds, device).into_iter().map(slot).collect();
                    assert_eq!(slots, schedule_slots(theirs, device, p, m), "{ours:?} {p} {m} {device}");
                }
            }
        }
    }
}
