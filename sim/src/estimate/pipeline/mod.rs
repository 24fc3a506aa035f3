//! How long a pipeline takes: devices of any times, messages between them, each schedule.
//!
//! With `p` equal devices, `m` micro-batches and forward and backward times `f` and `b`:
//!
//! | schedule | time |
//! |---|---|
//! | vanilla | `m p (f + b)` |
//! | fill-drain, 1F1B | `(m + p - 1) (f + b)` |
//! | interleaved, `v` chunks | `(m + (p - 1) / v) (f + b)` |
//! | zero-bubble H1, `b = b_i + b_w` | `m (f + b) + (p - 1) (f + b_i - b_w)` |
//!
//! (Huang et al. 2019, section 2.3; Narayanan et al. 2021, section 2.2; Qi et al. 2023, table 1.) In general a step takes as
//! long as the longest path through its passes and messages. Vanilla has one path; fill-drain is two flow shops of equal
//! jobs; the paths of 1F1B and zero-bubble and of interleaved pipelines start with the warm-up, run
//! along the busiest loop, and end with the cool-down, and each part has a longest one by itself. Devices in a row that are
//! alike count once, so a price does not depend on the length of the pipeline. Interleaved chunks without a pattern have no
//! such form; their recurrence is run as the engine runs it.

mod interleaved;
mod points;
mod turns;

use super::layout::PipelineSchedule;
use crate::engine::step::{ChunkWork, DeviceWork, Gradients, HopTime, Pass, StepProgram, exchanged_ends};
use cutplane_units::Nanos;

/// One chunk's times for one micro-batch, s.
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

    /// Backward without weight gradients.
    fn input_gradient(&self) -> f64 {
        self.backward - self.weight_gradient
    }
}

/// Devices in a row that are alike.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Devices {
    /// The chunks of each, in the order of the model.
    pub chunks: Vec<StageTime>,
    /// How many devices.
    pub count: u64,
    /// Gradients that travel beside the passes, if any do.
    pub travel: Travel,
}

/// Gradients that travel in buckets beside the passes of a device; s.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Travel {
    /// Time and buckets of each chunk's; empty where none travel.
    pub chunks: Vec<(f64, u64)>,
    /// What they add to the pass that completes the gradients of the first chunk.
    pub slowed: f64,
    /// What they add to the passes before that one.
    pub slowed_before: f64,
    /// What is left of them behind the last pass.
    pub behind: f64,
}

impl Devices {
    /// So many devices of one chunk.
    pub fn of(time: StageTime, count: u64) -> Self {
        Self { chunks: vec![time], count, ..Self::default() }
    }

    /// All passes of one micro-batch, s.
    pub fn both(&self) -> f64 {
        self.chunks.iter().map(StageTime::both).sum()
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

/// The passes of a step.
#[derive(Clone, Copy, Debug)]
pub struct Pipeline<'a> {
    /// Order of the passes.
    pub schedule: PipelineSchedule,
    /// First to last; at least one.
    pub devices: &'a [Devices],
    /// Between neighbours.
    pub hop: Hop,
    /// Micro-batches; a multiple of the devices when there are several chunks each.
    pub micro_batches: u64,
    /// Time of passes while gradients travel, over their time alone.
    pub overlap_slowdown: f64,
}

impl Pipeline<'_> {
    /// When all devices of run `target` have done their last pass, and the gradients that travel beside it have arrived, s.
    pub fn end(&self, target: usize) -> f64 {
        let behind = self.devices[target].travel.behind;
        let p = self.length();
        if p == 1 {
            let only = &self.devices[0];
            return self.micro_batches as f64 * only.both() + only.travel.slowed + only.travel.slowed_before + behind;
        }
        let formed = match self.schedule {
            _ if self.devices[0].chunks.len() > 1 => {
                if self.is_crowded() {
                    None
                } else {
                    interleaved::end(self, target)
                }
            }
            PipelineSchedule::Vanilla => Some(self.vanilla(target)),
            PipelineSchedule::FillDrain => Some(self.fill_drain(target)),
            PipelineSchedule::OneForwardOneBackward | PipelineSchedule::Interleaved => {
                Some(turns::end(self, target, false))
            }
            PipelineSchedule::ZeroBubble => self.weights_settle().then(|| turns::end(self, target, true)),
        };
        formed.map_or_else(|| self.swept_end(target), |end| end + behind)
    }

    /// Whether several chunks' gradients travel beside a cool-down that is most of the step.
    fn is_crowded(&self) -> bool {
        let travels = self.devices.iter().any(|run| !run.travel.chunks.is_empty());
        travels && self.micro_batches <= CROWDED * self.length()
    }

    /// Whether the form of ZB-H1 holds: weight gradients lag behind at first, which steps have to be long enough to outlast, and
    /// take like shares of devices that are alike but for the ends.
    fn weights_settle(&self) -> bool {
        let share = |run: &Devices| run.chunks[0].weight_gradient / run.both();
        let shares = self.devices.iter().map(share);
        let (least, most) = shares.fold((f64::INFINITY, 0.0_f64), |(least, most), one| (least.min(one), most.max(one)));
        let inner = self.devices.len().saturating_sub(1);
        let ends_alone = match self.devices {
            [_] => true,
            [first, .., last] => first.count == 1 && last.count == 1 && inner <= 2,
            [] => false,
        };
        ends_alone && most <= 1.25 * least && self.micro_batches >= SETTLED_MICRO_BATCHES * self.length()
    }

    /// Devices.
    fn length(&self) -> u64 {
        self.devices.iter().map(|run| run.count).sum()
    }

    /// Sum over the devices of runs from `first` on.
    fn sum_from(&self, first: usize, time: impl Fn(&Devices) -> f64) -> f64 {
        self.devices[first..].iter().map(|run| time(run) * run.count as f64).sum()
    }

    /// Devices before the first of a run.
    fn before(&self, target: usize) -> u64 {
        self.devices[..target].iter().map(|run| run.count).sum()
    }

    /// Every device waits for every other: the target's last pass comes when all before it have had their turn, and those
    /// behind it their last.
    fn vanilla(&self, target: usize) -> f64 {
        let hops = (self.length() - 1) as f64 * self.hop.seconds();
        let turn = self.sum_from(0, Devices::both) + 2.0 * hops;
        let ahead = self.before(target) as f64 * self.hop.seconds()
            + self.devices[..target].iter().map(|run| run.count as f64 * run.chunks[0].backward).sum::<f64>();
        self.micro_batches as f64 * turn - ahead + self.sum_from(target, |run| run.travel.slowed)
    }

    /// Two flow shops of equal jobs, one after the other: each takes the way of one micro-batch and `m - 1` times its slowest
    /// machine, links being machines.
    fn fill_drain(&self, target: usize) -> f64 {
        let (m, links) = (self.micro_batches as f64 - 1.0, self.length() - 1);
        let way = links as f64 * self.hop.seconds() + self.sum_from(0, |run| run.chunks[0].forward);
        let pace = self.devices.iter().map(|run| run.chunks[0].forward).fold(self.hop.transfer, f64::max);
        let filled = way + m * pace;
        let behind = links - self.before(target);
        let path = behind as f64 * self.hop.seconds() + self.sum_from(target, |run| run.chunks[0].backward);
        // Behind the slowest device only the last micro-batch's passes are slowed, one after the other.
        let (mut slowed, mut slowest) = (0.0, 0.0_f64);
        for run in &self.devices[target..] {
            let first = slowed + m * run.chunks[0].backward + run.travel.slowed;
            slowed += run.count as f64 * run.travel.slowed;
            slowest = slowest.max(first).max(slowed + m * run.chunks[0].backward);
        }
        if behind > 0 {
            slowest = slowest.max(slowed + m * self.hop.transfer);
        }
        filled + path + slowest
    }

    /// As the engine finds it, which runs what repeats once.
    fn swept_end(&self, target: usize) -> f64 {
        // Times relative to the longest, so that whole numbers lose nothing.
        let longest = self.devices.iter().flat_map(|run| &run.chunks).map(StageTime::both).fold(0.0, f64::max);
        let unit = longest.max(self.hop.seconds()) / 1e9;
        if unit <= 0.0 {
            return 0.0;
        }
        let time = |seconds: f64| Nanos::from_nanos_f64(seconds / unit);
        let pass = |seconds: f64| Pass::whole(time(seconds));
        let splits = self.schedule == PipelineSchedule::ZeroBubble;
        let of_chunk = |chunk: &StageTime| ChunkWork {
            forward: pass(chunk.forward),
            backward: pass(if splits { chunk.input_gradient() } else { chunk.backward }),
            weight_gradient: pass(if splits { chunk.weight_gradient } else { 0.0 }),
        };
        let mut program = StepProgram {
            micro_batches: self.micro_batches,
            chunks: self.devices[0].chunks.len(),
            hop: HopTime { transfer: time(self.hop.transfer), latency: time(self.hop.latency) },
            overlap_slowdown: self.overlap_slowdown,
            ..StepProgram::of(self.schedule)
        };
        for run in self.devices {
            let first = program.kinds.len();
            program.kinds.extend(run.chunks.iter().map(of_chunk));
            let chunks: Vec<usize> = (first..program.kinds.len()).collect();
            let travel = |(seconds, buckets): &(f64, u64)| Gradients { time: time(*seconds), buckets: *buckets };
            let mut gradients: Vec<Gradients> = run.travel.chunks.iter().map(travel).collect();
            gradients.resize(chunks.len(), Gradients::default());
            let device = DeviceWork { chunks, gradients, ..DeviceWork::default() };
            program.devices.extend(std::iter::repeat_n(device, run.count as usize));
        }
        let (first, ends) = (self.before(target) as usize, exchanged_ends(&program));
        let run = &ends[first..first + self.devices[target].count as usize];
        run.iter().copied().max().unwrap_or(0) as f64 * unit
    }
}

/// Micro-batches a device after which a step is long over its cool-down.
const CROWDED: u64 = 2;
/// Micro-batches a device after which the weight gradients of ZB-H1 are taken to have settled.
const SETTLED_MICRO_BATCHES: u64 = 3;
