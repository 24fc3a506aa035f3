//! Interleaved 1F1B as longest paths, for pipelines whose chunks are alike but for the first and the last of the model.
//!
//! As in [1F1B](super::turns), with `m v` units of a chunk in place of micro-batches, `w_d = 2 (p - 1 - d) + (v - 1) p` of them
//! as warm-up, and messages also from the last device back to the first: a way around all devices gains `p` units, the
//! messages included, and so beats staying on one device in warm-up and cool-down, but for the long units of an end of the
//! model. In the steady state a loop from `s` to `e` gains `2 (e - s) + 1` units: it is busier than the busiest device only where two
//! messages take longer than a unit; and changing between two long ends pays only where they are longer than the way
//! between them. There this form does not hold. Elsewhere the path stays on one device between warm-up and cool-down.

use super::{Pipeline, StageTime};

/// When all devices of a run have done their last pass, s; `None` where the form does not hold.
pub(super) fn end(pipeline: &Pipeline<'_>, target: usize) -> Option<f64> {
    let regular = Regular::of(pipeline)?;
    regular.holds().then(|| regular.end(pipeline, pipeline.before(target)))
}

struct Regular {
    inner: StageTime,
    /// The first and the last chunk of the model.
    first: StageTime,
    last: StageTime,
    /// Devices.
    p: u64,
    /// Chunks a device.
    v: u64,
    /// Units of a device each way.
    units: u64,
    hop: f64,
    transfer: f64,
}

impl Regular {
    fn of(pipeline: &Pipeline<'_>) -> Option<Self> {
        let runs = pipeline.devices;
        let (front, back) = (runs.first()?, runs.last()?);
        let (inner, v) = (*front.chunks.get(1)?, front.chunks.len());
        let (first, last) = (front.chunks[0], back.chunks[v - 1]);
        let number = runs.len() - 1;
        let fits = |at: usize, chunk: usize, time: &StageTime| {
            let is_end = (at == 0 && chunk == 0) || (at == number && chunk + 1 == v);
            *time == inner || (is_end && runs[at].count == 1)
        };
        let mut runs_fit = runs
            .iter()
            .enumerate()
            .map(|(at, run)| run.chunks.iter().enumerate().all(|(chunk, time)| fits(at, chunk, time)));
        runs_fit.all(|fits| fits).then(|| Self {
            inner,
            first,
            last,
            p: pipeline.length(),
            v: v as u64,
            units: pipeline.micro_batches * v as u64,
            hop: pipeline.hop.seconds(),
            transfer: pipeline.hop.transfer,
        })
    }

    fn holds(&self) -> bool {
        let inner = self.inner.both();
        let busiest = inner.max(inner + (self.first.both().max(self.last.both()) - inner) / self.v as f64);
        let around = self.inner.forward.max(self.inner.backward) + self.hop;
        let longer = (self.first.both() - inner).max(0.0);
        let between = (self.p - 1) as f64 * (inner - 2.0 * self.hop);
        self.first.forward <= self.last.forward
            && self.first.backward <= self.last.backward
            && 2.0 * self.hop <= busiest
            && around <= busiest
            && 2.0 * self.transfer <= busiest
            && 8.0 * self.p as f64 * longer <= between
    }

    fn warm(&self, device: u64) -> u64 {
        (2 * (self.p - 1 - device) + (self.v - 1) * self.p).min(self.units - 1)
    }

    /// How many of the first `units` units are of the chunk that comes `number`-th.
    fn of_chunk(&self, units: u64, number: u64) -> f64 {
        let round = self.p * self.v;
        let rest = (units % round).saturating_sub(number * self.p).min(self.p);
        (units / round * self.p + rest) as f64
    }

    /// The first `units` forward units of a device, s.
    fn forwards(&self, device: u64, units: u64) -> f64 {
        let inner = self.inner.forward;
        let mut time = units as f64 * inner;
        if device == 0 {
            time += self.of_chunk(units, 0) * (self.first.forward - inner);
        }
        if device + 1 == self.p {
            time += self.of_chunk(units, self.v - 1) * (self.last.forward - inner);
        }
        time
    }

    /// The first `units` backward units of a device, s.
    fn backwards(&self, device: u64, units: u64) -> f64 {
        let inner = self.inner.backward;
        let mut time = units as f64 * inner;
        if device == 0 {
            time += self.of_chunk(units, self.v - 1) * (self.first.backward - inner);
        }
        if device + 1 == self.p {
            time += self.of_chunk(units, 0) * (self.last.backward - inner);
        }
        time
    }

    fn end(&self, pipeline: &Pipeline<'_>, target: u64) -> f64 {
        let mut turns = [0, 1.min(self.p - 1), self.p.saturating_sub(2), self.p - 1];
        turns.sort_unstable();
        let before = pipeline.devices.iter().map(|run| run.travel.slowed_before).fold(0.0, f64::max);
        let mut longest = 0.0_f64;
        for device in turns {
            let warm = self.warm(device);
            if warm + 2 > self.units {
                continue;
            }
            let steady = self.forwards(device, self.units) - self.forwards(device, warm + 1)
                + self.backwards(device, self.units - 1 - warm)
                - self.backwards(device, 1);
            let begun = turns.iter().filter(|turn| **turn >= device).map(|turn| self.warm_up(*turn, device));
            let ended = turns.iter().filter(|turn| **turn >= device.max(target));
            let ended = ended.map(|turn| {
                let slowed = Slowed {
                    target: slowed_way(pipeline, target, target) + before,
                    way: slowed_way(pipeline, target, *turn) + before,
                    around: slowed_way(pipeline, 0, self.p - 1),
                };
                self.cool_down(device, *turn, target, slowed)
            });
            longest = longest.max(steady + begun.fold(0.0, f64::max) + ended.fold(0.0, f64::max));
        }
        longest
    }

    /// Units out of `gained` that are gained by going around: all chunks of a micro-batch at most.
    fn around(&self, gained: u64) -> u64 {
        (gained / self.p).min(self.v - 1) * self.p
    }

    /// Units that are gained on an end of the model, the rest going around as often as it may: the remainder alone, or all
    /// that the end has beyond one.
    fn stays(&self, gained: u64) -> [u64; 2] {
        [gained % self.p, (self.p - 1).min(gained)]
    }

    /// All warm-up units of device `turn` on it, or on the first device.
    fn stays_down(&self, turn: u64, warm: u64) -> f64 {
        let way = |devices: u64| devices as f64 * (self.inner.forward + self.hop);
        let on_first = self.forwards(0, warm + 1) + way(turn);
        if turn == 0 {
            return on_first;
        }
        // The last device's own end is added with its turn.
        let own = (warm + 1) as f64 * self.inner.forward;
        on_first.max(self.first.forward - self.inner.forward + way(turn) + own)
    }

    /// All cool-down units of device `turn` on it, or on the target.
    fn stays_up(&self, turn: u64, gained: u64, target: u64, slowed: Slowed) -> f64 {
        let way = (turn - target) as f64 * (self.inner.backward + self.hop);
        let last = |device| self.backwards(device, self.units) - self.backwards(device, self.units - 1 - gained);
        let of_turn = self.of_turn(turn, gained);
        let of_end = if target == 0 && turn > 0 { self.first.backward - self.inner.backward } else { 0.0 };
        let on_turn = last(turn) - of_turn + way + of_end + slowed.way;
        if turn > target { on_turn.max(last(target) + way + slowed.target) } else { on_turn }
    }

    /// What the last device's first cool-down unit takes longer, when it is of the last chunk.
    fn of_turn(&self, turn: u64, gained: u64) -> f64 {
        let first = self.units - 1 - gained;
        let at_end = turn + 1 == self.p && first % (self.p * self.v) < self.p;
        if at_end { self.last.backward - self.inner.backward } else { 0.0 }
    }

    /// The longest way to the first backward unit of device `turn`, and up to that of `device`.
    fn warm_up(&self, turn: u64, device: u64) -> f64 {
        let (warm, inner) = (self.warm(turn), self.inner.forward);
        let way = |stays: u64| {
            let around = self.around(warm - stays);
            self.first.forward
                + stays as f64 * self.first.forward.max(inner)
                + (warm - stays + turn) as f64 * inner
                + self.hop * (around + turn) as f64
        };
        let down = self.stays(warm).into_iter().map(way).fold(self.stays_down(turn, warm), f64::max);
        let (of_end, backward) = if turn + 1 == self.p {
            (self.last.forward - inner, self.last.backward)
        } else {
            (0.0, self.inner.backward)
        };
        down + of_end + backward + (turn - device) as f64 * (self.inner.backward + self.hop)
    }

    /// The longest way from the last forward unit of `device` down to that of device `turn`, and to the last backward unit of
    /// `target`.
    fn cool_down(&self, device: u64, turn: u64, target: u64, slowed: Slowed) -> f64 {
        let (gained, inner) = (self.warm(turn), self.inner.backward);
        let of_end = if target == 0 { self.first.backward - inner } else { 0.0 };
        let up = turn - target;
        let way = |stays: u64| {
            let around = self.around(gained - stays);
            (1 + gained + up) as f64 * inner + of_end + stays as f64 * of_end.max(0.0) + self.hop * (around + up) as f64
        };
        let [remainder, all] = self.stays(gained);
        // The remainder may be stayed anywhere before the last micro-batch's way around.
        let rounds = (self.around(gained - remainder) / self.p) as f64;
        let followed = way(remainder) + (1.0 + rounds) * slowed.around;
        let ways = [
            followed,
            way(remainder) + slowed.way,
            way(all) + slowed.target,
            self.stays_up(turn, gained, target, slowed),
        ];
        let back = ways.into_iter().fold(0.0, f64::max);
        let of_turn = self.of_turn(turn, gained);
        let reaches_end = turn + 1 == self.p && turn > device;
        let of_way = if reaches_end { self.last.forward - self.inner.forward } else { 0.0 };
        back + of_turn + of_way + (turn - device) as f64 * (self.inner.forward + self.hop)
    }
}

/// What gradients that travel beside them add to backward units.
#[derive(Clone, Copy, Debug)]
struct Slowed {
    /// To units that wait for each other on the target, the last one included.
    target: f64,
    /// To those, and to the last unit of every device from the turn to the target.
    way: f64,
    /// To the passes of the last micro-batch over one chunk of every device.
    around: f64,
}

/// What gradients add to the last unit of all devices from `to` to `from`.
fn slowed_way(pipeline: &Pipeline<'_>, to: u64, from: u64) -> f64 {
    let (mut at, mut sum) = (0, 0.0);
    for run in pipeline.devices {
        let here = (from + 1).min(at + run.count).saturating_sub(to.max(at));
        sum += here as f64 * run.travel.slowed;
        at += run.count;
    }
    sum
}
