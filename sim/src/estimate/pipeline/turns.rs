//! 1F1B and ZB-H1 as longest paths.
//!
//! Write `F_s(i)` and `B_s(i)` for the passes of micro-batch `i` on device `s` of `p`, `w_s = p - 1 - s` for its warm-up, `h` for
//! a message. A pass waits for the same micro-batch on the neighbour (`F_{s-1}(i)`, `B_{s+1}(i)`) and for the pass before it on its
//! device: `F_s(i - 1)` in the warm-up, else `B_s(i - w_s - 1)` before `F_s(i)`, `F_s(i + w_s)` before `B_s(i)`, and `B_s(i - 1)` in the
//! cool-down. So a path from `F_0(0)` to `B_t(m - 1)` goes down, turns at a device `e` from forward to backward, losing `w_e`
//! micro-batches, goes up, turns at a device `s <= e` to forward, gaining `w_s + 1`, and so on:
//!
//! - *Warm-up*, to `B_e(0)`: one micro-batch's way down to `e`, and `w_e` forward passes of the slowest device on it.
//! - *Loops* from `s` to `e` and back gain `e - s + 1` micro-batches for `sum of (f + b) + 2 h (e - s)`, at best at the rate
//!   `l = max (sum + 2 h (e - s)) / (e - s + 1)`: the busiest device, and the whole round trip where messages are long.
//! - *Cool-down*, from `F_e(m - 1)`: its turn, `w_e` backward passes of the slowest device on the way, and the way up.
//!
//! The longest path takes the longest warm-up to some device `s`, loops, and the longest cool-down from `s`. Under ZB-H1 a
//! turn at `s` to forward takes the weight gradient along, which lags `s` micro-batches behind, and `s + 1` of them end the step.

use super::Pipeline;
use super::points::{Point, points};

/// When all devices of a run have done their last pass, s.
pub(super) fn end(pipeline: &Pipeline<'_>, target: usize, splits: bool) -> f64 {
    Turns::new(pipeline, splits).end(target)
}

/// A point with its times and the sums over the devices up to it, itself included; s.
#[derive(Clone, Copy, Debug)]
struct Turn {
    at: f64,
    /// Warm-up passes.
    warm: f64,
    run: usize,
    forward: f64,
    backward: f64,
    weight: f64,
    slowed: f64,
    forwards: f64,
    backwards: f64,
    slowdowns: f64,
    /// Longest forward pass so far.
    slowest: f64,
}

/// The loop with the longest time for each micro-batch.
#[derive(Clone, Copy, Debug)]
struct Busiest {
    rate: f64,
    /// Indices of the points it turns at.
    first: usize,
    last: usize,
    /// Micro-batches that it gains.
    gains: f64,
    weight: f64,
    lag: f64,
}

struct Turns {
    points: Vec<Turn>,
    hop: f64,
    transfer: f64,
    /// Micro-batches less one.
    last: f64,
}

impl Turns {
    fn new(pipeline: &Pipeline<'_>, splits: bool) -> Self {
        let (p, m) = (pipeline.length(), pipeline.micro_batches);
        // Short steps: the first device that sees no steady state, and the one behind it.
        let also = if m < p { vec![p - m, p - m + 1] } else { Vec::new() };
        let points = points(pipeline.devices, &also);
        let mut turns: Vec<Turn> = Vec::with_capacity(points.len());
        for point in points {
            turns.push(Self::turn(pipeline, splits, point, turns.last(), p));
        }
        let hop = pipeline.hop.seconds();
        Self { points: turns, hop, transfer: pipeline.hop.transfer, last: m as f64 - 1.0 }
    }

    fn turn(pipeline: &Pipeline<'_>, splits: bool, point: Point, before: Option<&Turn>, p: u64) -> Turn {
        let run = &pipeline.devices[point.run];
        let time = run.chunks[0];
        let (backward, weight) =
            if splits { (time.input_gradient(), time.weight_gradient) } else { (time.backward, 0.0) };
        let between = before.map_or(1.0, |before| point.at as f64 - before.at);
        let (forwards, backwards, slowdowns, slowest) =
            before.map_or((0.0, 0.0, 0.0, 0.0), |turn| (turn.forwards, turn.backwards, turn.slowdowns, turn.slowest));
        Turn {
            at: point.at as f64,
            warm: (p - 1 - point.at) as f64,
            run: point.run,
            forward: time.forward,
            backward,
            weight,
            slowed: run.travel.slowed,
            forwards: forwards + between * time.forward,
            backwards: backwards + between * backward,
            slowdowns: slowdowns + between * run.travel.slowed,
            slowest: slowest.max(time.forward),
        }
    }

    /// The last weight gradients of a run's last device may come after those of its first.
    fn end(&self, run: usize) -> f64 {
        let ends = self.points.iter().enumerate().filter(|(_, point)| point.run == run).map(|(at, _)| self.end_of(at));
        ends.fold(0.0, f64::max)
    }

    fn end_of(&self, target: usize) -> f64 {
        let to = &self.points[target];
        let (warm, cool) = (self.warm_ups(), self.cool_downs(target));
        let busiest = self.busiest();
        let mut longest = self.without_loops(target);
        for (index, turn) in self.points.iter().enumerate() {
            let gained = self.last - turn.warm - 1.0;
            if gained < 0.0 {
                continue;
            }
            let base = warm[index] - (turn.backwards - turn.backward) - self.hop * turn.at + turn.forward
                - turn.forwards
                - self.hop * turn.at;
            let own = turn.forward + turn.backward + turn.weight;
            let looped = own.max(self.transfer) * gained + weights_missing(turn.weight, turn.at, gained, 1.0);
            longest = longest.max(base + cool[index.max(target)] + looped);
            // The busiest loop, where the path comes by it.
            if index <= busiest.last {
                let by = index.max(busiest.first);
                let through_warm = warm[by] - warm[index] + cool[index.max(target)];
                let through = through_warm.max(cool[by.max(target)]);
                longest = longest.max(base + through + self.looped(&busiest, gained));
            }
        }
        longest = longest.max(self.with_change(target, &warm, &cool));
        let left = (self.last + 1.0).min(to.at + 1.0);
        longest + left * to.weight
    }

    /// Time of loops that gain so many micro-batches: whole rounds, and a shorter one for the rest.
    fn looped(&self, busiest: &Busiest, gained: f64) -> f64 {
        let rest = gained % busiest.gains;
        let lost = if rest > 0.0 { 2.0 * self.hop * (1.0 - rest / busiest.gains) } else { 0.0 };
        let turned = weights_missing(busiest.weight, busiest.lag, gained, busiest.gains);
        busiest.rate * gained - lost + turned
    }

    /// Weight gradients come late on the last devices: the longest path may loop on a device before them until they have come,
    /// and change then, by a turn further down.
    fn with_change(&self, target: usize, warm: &[f64], cool: &[f64]) -> f64 {
        let mut longest = f64::NEG_INFINITY;
        for (late, to) in self.points.iter().enumerate().filter(|(_, to)| to.weight > 0.0) {
            for (early, from) in self.points[..late].iter().enumerate() {
                for by in [to, &self.points[self.points.len() - 1]] {
                    let turned = by.at - from.at + 1.0;
                    let first = (to.at - turned).max(0.0);
                    let then = self.last - to.warm - 1.0 - first - turned;
                    if then < 0.0 {
                        continue;
                    }
                    let begun = warm[early] - (from.backwards - from.backward) - self.hop * from.at;
                    let own = from.forward + from.backward + from.weight;
                    let looped = own * first + weights_missing(from.weight, from.at, first, 1.0);
                    let change = by.forwards - from.forwards + from.forward + by.backwards - to.backwards
                        + to.backward
                        + self.hop * (2.0 * by.at - from.at - to.at);
                    let own = to.forward + to.backward + to.weight;
                    let missing = (to.at - first - turned).max(0.0).min(then + 1.0);
                    let rest = own * then + to.weight * (1.0 - missing);
                    let ended = to.forward - to.forwards - self.hop * to.at + cool[late.max(target)];
                    longest = longest.max(begun + looped + change + rest + ended);
                }
            }
        }
        longest
    }

    /// By point: the longest way to its first backward pass, but for what all ways up to it have in common.
    fn warm_ups(&self) -> Vec<f64> {
        let mut longest = f64::NEG_INFINITY;
        let mut ways: Vec<f64> = self
            .points
            .iter()
            .rev()
            .map(|turn| {
                let warm = turn.warm.min(self.last);
                let down = warm * turn.slowest + turn.forwards + self.hop * turn.at + turn.backward;
                longest = longest.max(down + turn.backwards - turn.backward + self.hop * turn.at);
                longest
            })
            .collect();
        ways.reverse();
        ways
    }

    /// By point from `target` on: the longest way from its last forward pass to the last backward pass of `target`, but for
    /// what all ways down from it have in common.
    fn cool_downs(&self, target: usize) -> Vec<f64> {
        let mut ways = vec![f64::NEG_INFINITY; self.points.len()];
        let mut longest = f64::NEG_INFINITY;
        for end in (target..self.points.len()).rev() {
            let turn = &self.points[end];
            let moves = turn.warm.min(self.last);
            let slowest = self.slowest_cool_down(target, end, moves);
            longest = longest.max(turn.forwards + self.hop * turn.at + self.way_up(target, end) + slowest);
            ways[end] = longest;
        }
        // A way down from before the target passes it.
        for index in 0..target {
            ways[index] = ways[target];
        }
        ways
    }

    /// Backward passes of one micro-batch from a point up to the target.
    fn way_up(&self, target: usize, from: usize) -> f64 {
        let (to, from) = (&self.points[target], &self.points[from]);
        from.backwards - (to.backwards - to.backward) + self.hop * (from.at - to.at)
    }

    /// `moves` more backward passes on the way, where they take longest, and what slows the last micro-batch from there.
    fn slowest_cool_down(&self, target: usize, end: usize, moves: f64) -> f64 {
        let to = &self.points[target];
        let before = to.slowdowns - to.slowed;
        let of = |turn: &Turn| {
            let weights = moves.min((self.last - turn.at).max(0.0));
            (moves * turn.backward + weights * turn.weight).max(moves * self.transfer) + turn.slowdowns - before
        };
        self.points[target..=end].iter().map(of).fold(0.0, f64::max)
    }

    /// Steps so short that a path turns once.
    fn without_loops(&self, target: usize) -> f64 {
        let mut longest = 0.0_f64;
        for (end, turn) in self.points.iter().enumerate().skip(target) {
            let warm = turn.warm.min(self.last);
            let down = warm * turn.slowest + turn.forwards + self.hop * turn.at;
            let turns = self.points[target..=end].iter().filter(|turn| turn.warm >= self.last);
            let to = &self.points[target];
            let cooled = turns.map(|turn| {
                let weights = (self.last - turn.at).max(0.0);
                self.last * turn.backward + weights * turn.weight + turn.slowdowns - (to.slowdowns - to.slowed)
            });
            let cooled = cooled.fold(f64::NEG_INFINITY, f64::max);
            longest = longest.max(down + self.way_up(target, end) + cooled);
        }
        longest
    }

    fn busiest(&self) -> Busiest {
        let mut best =
            Busiest { rate: self.transfer, first: 0, last: self.points.len() - 1, gains: 1.0, weight: 0.0, lag: 0.0 };
        for (first, from) in self.points.iter().enumerate() {
            // Without messages no loop is busier than its busiest device.
            let most = if self.hop > 0.0 { self.points.len() } else { first + 1 };
            for (last, to) in self.points.iter().enumerate().take(most).skip(first) {
                let gains = to.at - from.at + 1.0;
                let work = to.forwards - from.forwards + from.forward + to.backwards - from.backwards + from.backward;
                let rate = (work + from.weight + 2.0 * self.hop * (to.at - from.at)) / gains;
                if rate > best.rate {
                    best = Busiest { rate, first, last, gains, weight: from.weight, lag: from.at };
                }
            }
        }
        best
    }
}

/// What a rate counts too much of weight gradients, which lag behind at first.
fn weights_missing(weight: f64, lag: f64, gained: f64, gains: f64) -> f64 {
    weight * ((gained + 1.0 - lag).max(0.0) - gained) / gains
}
