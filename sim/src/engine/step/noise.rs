//! Jitter and stragglers: seeded draws of a step, and the spread of its length.

use cutplane_units::Nanos;
use serde::Serialize;

use super::error::StepError;
use super::program::StepProgram;
use super::sweep::{Clock, sweep};
use super::timeline::closing;

/// How times differ from the program's.
///
/// Jitter: every pass of every rank takes a log-normal multiple of its time, with mean 1 and the standard deviation `jitter` of
/// its logarithm. Stragglers: with probability `straggler_share` a rank takes `straggler_slowdown` times as long for everything
/// it computes in the step. The ranks in step (tensor and context parallel) wait for each other at the collectives of a pass: a pass takes
/// as long as the slowest of them. Replicas wait for each other where their gradients meet; so a step without pipeline is
/// the bulk-synchronous maximum of all ranks' times.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Noise {
    /// Standard deviation of the logarithm of a pass's time.
    pub jitter: f64,
    /// Probability that a rank is a straggler, 0 to 1.
    pub straggler_share: f64,
    /// Time of a straggler's passes over the usual one; at least 1.
    pub straggler_slowdown: f64,
    /// What the draws follow from.
    pub seed: u64,
}

impl Noise {
    /// No noise at all.
    pub const NONE: Self = Self { jitter: 0.0, straggler_share: 0.0, straggler_slowdown: 1.0, seed: 0 };

    pub(super) fn check(&self) -> Result<(), StepError> {
        let refuse = |field, value: f64, remedy| Err(StepError { field, problem: value.to_string(), remedy });
        if !(0.0..=3.0).contains(&self.jitter) {
            return refuse("jitter", self.jitter, "write a standard deviation between 0 and 3");
        }
        if !(0.0..=1.0).contains(&self.straggler_share) {
            return refuse("straggler_share", self.straggler_share, "write a probability between 0 and 1");
        }
        if !(1.0..=1e6).contains(&self.straggler_slowdown) {
            return refuse("straggler_slowdown", self.straggler_slowdown, "write a factor between 1 and 10^6");
        }
        Ok(())
    }
}

/// How long a step takes over many draws.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// Length of the step of each draw, ascending.
    pub makespans: Vec<Nanos>,
    /// Mean, ns.
    pub mean_ns: f64,
}

impl Spread {
    fn of(mut makespans: Vec<Nanos>) -> Self {
        makespans.sort_unstable();
        let mean_ns = makespans.iter().map(|makespan| makespan.as_f64()).sum::<f64>() / makespans.len() as f64;
        Self { makespans, mean_ns }
    }

    /// The least makespan that `percent` of a hundred draws do not exceed (nearest rank).
    pub fn percentile(&self, percent: f64) -> Nanos {
        let rank = (percent / 100.0 * self.makespans.len() as f64).ceil() as usize;
        self.makespans[rank.clamp(1, self.makespans.len()) - 1]
    }
}

/// Simulates `count` noisy steps, every replica by itself.
///
/// # Errors
/// [`StepError`] for a program or a noise whose fields do not fit, and for no draws.
pub fn draws(program: &StepProgram, noise: &Noise, count: usize) -> Result<Spread, StepError> {
    program.check()?;
    noise.check()?;
    if count == 0 {
        return Err(StepError { field: "draws", problem: "0".to_owned(), remedy: "draw at least once" });
    }
    Ok(Spread::of((0..count as u64).map(|number| draw(program, noise, number)).collect()))
}

/// One noisy step: a stage's gradients have met when the last replica has brought its own.
fn draw(program: &StepProgram, noise: &Noise, number: u64) -> Nanos {
    let devices = program.devices.len();
    let (mut computed, mut exchanged) = (vec![0; devices], vec![0; devices]);
    for replica in 0..program.replicas {
        let mut clock = Noisy::new(program, noise, number, replica);
        let swept = sweep(program, &mut clock, false);
        for device in 0..devices {
            computed[device] = swept.computed[device].max(computed[device]);
            exchanged[device] = swept.exchanged[device].max(exchanged[device]);
        }
    }
    closing(program, &computed, &exchanged).end
}

/// The passes of one replica of one draw.
struct Noisy {
    random: Random,
    jitter: f64,
    /// `1 / g` for `g` ranks in step.
    in_step: f64,
    /// Slowdown of the slowest rank in step, by device.
    slowdown: Vec<f64>,
}

impl Noisy {
    fn new(program: &StepProgram, noise: &Noise, number: u64, replica: u64) -> Self {
        let mut random = Random::new(noise.seed, number, replica);
        let ranks = program.ranks_in_step as f64;
        // Probability that at least one of the ranks in step is slow.
        let slow = 1.0 - (1.0 - noise.straggler_share).powf(ranks);
        let of_device = |_| if random.uniform() < slow { noise.straggler_slowdown } else { 1.0 };
        let slowdown = (0..program.devices.len()).map(of_device).collect();
        Self { random, jitter: noise.jitter, in_step: 1.0 / ranks, slowdown }
    }
}

impl Clock for Noisy {
    const REPEATS: bool = false;

    fn pass(&mut self, device: usize, alone: u64) -> u64 {
        // The largest of g equal variables has the distribution function F^g.
        let largest = multiple(self.jitter, self.random.uniform().powf(self.in_step));
        (alone as f64 * self.slowdown[device] * largest).ceil() as u64
    }
}

/// The steps of one worker by itself: a straggler is one for good.
pub(super) struct WorkerClock {
    random: Random,
    jitter: f64,
    slowdown: f64,
}

impl WorkerClock {
    pub(super) fn new(noise: &Noise, worker: u64) -> Self {
        let mut random = Random::new(noise.seed, 0, worker);
        let slowdown = if random.uniform() < noise.straggler_share { noise.straggler_slowdown } else { 1.0 };
        Self { random, jitter: noise.jitter, slowdown }
    }

    /// Time of the next step, which takes `alone` ns undisturbed.
    pub(super) fn step(&mut self, alone: u64) -> u64 {
        (alone as f64 * self.slowdown * multiple(self.jitter, self.random.uniform())).ceil() as u64
    }
}

/// The log-normal multiple of mean 1 at a point of its distribution.
fn multiple(jitter: f64, probability: f64) -> f64 {
    if jitter == 0.0 { 1.0 } else { (jitter * quantile(probability) - jitter * jitter / 2.0).exp() }
}

/// SplitMix64 (Steele, Lea and Flood 2014).
struct Random(u64);

impl Random {
    fn new(seed: u64, draw: u64, replica: u64) -> Self {
        let mut own = Self(seed ^ 0x5851_F42D_4C95_7F2D);
        own.0 = own.next() ^ draw;
        own.0 = own.next() ^ replica;
        own
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Above 0 and below 1.
    fn uniform(&mut self) -> f64 {
        ((self.next() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    }
}

/// The quantile of the standard normal distribution, to 4.5e-4 (Abramowitz and Stegun 1964, 26.2.23).
fn quantile(probability: f64) -> f64 {
    let tail = probability.min(1.0 - probability);
    let t = (-2.0 * tail.ln()).sqrt();
    let above = 2.515_517 + t * (0.802_853 + t * 0.010_328);
    let below = 1.0 + t * (1.432_788 + t * (0.189_269 + t * 0.001_308));
    let size = t - above / below;
    if probability < 0.5 { -size } else { size }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_tables() {
        for (probability, expected) in [(0.5, 0.0), (0.841_344_7, 1.0), (0.975, 1.959_964), (0.001, -3.090_232)] {
            assert!((quantile(probability) - expected).abs() < 6e-4, "{probability}");
        }
    }

    #[test]
    fn uniform_numbers_fill_their_range_evenly() {
        let mut random = Random::new(3, 1, 4);
        let numbers: Vec<f64> = (0..20_000).map(|_| random.uniform()).collect();
        let mean = numbers.iter().sum::<f64>() / numbers.len() as f64;
        assert!((mean - 0.5).abs() < 0.01, "{mean}");
        assert!(numbers.iter().all(|number| *number > 0.0 && *number < 1.0));
    }
}
