//! Dense numbers: pixels, and numbers that are made up.

use cutplane_graph::InputRole;

use super::random::SplitMix;
use super::roles::Input;
use super::sample::Sample;

/// Keeps the streams of random numbers of one seed apart.
const CLASS: u64 = 2;
const NOISE: u64 = 3;
const PATTERN: u64 = 4;

/// The class of a sample.
pub(super) fn class(seed: u64, index: u64, classes: u64) -> u64 {
    SplitMix::keyed(&[seed, index, CLASS]).below(classes.max(1))
}

/// How the floats of an input are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Number {
    /// The pixels of a picture, from -1 for 0 to 1 for 255; of a made-up sample a pattern of its class, and noise, both
    /// uniform between -1 and 1.
    Pattern,
    /// The noise of the sample alone, between 0 and 1.
    Noise,
    /// Zero.
    Nothing,
}

impl Number {
    /// `None` for roles that have integers.
    pub(super) fn of(role: InputRole) -> Option<Self> {
        match role {
            InputRole::Features | InputRole::Image => Some(Self::Pattern),
            InputRole::FeatureTargets => Some(Self::Noise),
            InputRole::Memory => Some(Self::Nothing),
            _ => None,
        }
    }

    /// The floats of one sample.
    pub(super) fn row(self, sample: &Sample<'_>, input: &Input) -> Vec<f32> {
        if let (Self::Pattern, Some(pixels)) = (self, &sample.pixels) {
            return pixels.iter().map(|pixel| f32::from(*pixel) / 127.5 - 1.0).collect();
        }
        let (count, value) = (input.dims.iter().product(), input.value.index() as u64);
        let [seed, index] = sample.key;
        let mut noise = SplitMix::keyed(&[seed, index, NOISE, value]);
        let mut pattern = SplitMix::keyed(&[seed, sample.class.unwrap_or(0), PATTERN, value]);
        let number = |_| match self {
            Self::Pattern => (noise.unit() + pattern.unit()) as f32 * 2.0 - 2.0,
            Self::Noise => noise.unit() as f32,
            Self::Nothing => 0.0,
        };
        (0..count).map(number).collect()
    }
}
