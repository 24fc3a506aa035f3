//! A predicted time with its interval, and where each number behind it comes from.

use std::borrow::Cow;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Mul};

use serde::Serialize;

/// A predicted time with the interval that should hold about nine of ten measurements. Copied and added in the hot path:
/// the origins of its numbers are told apart, by an [`Explanation`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Predicted {
    /// The prediction, s.
    pub seconds: f64,
    /// Lower end of the interval, s.
    pub low: f64,
    /// Upper end of the interval, s.
    pub high: f64,
    /// Whether the question lies outside of what the model was calibrated on.
    pub extrapolates: bool,
}

impl Predicted {
    /// No time at all.
    pub const ZERO: Self = Self { seconds: 0.0, low: 0.0, high: 0.0, extrapolates: false };

    /// A time known exactly.
    pub const fn exact(seconds: f64) -> Self {
        Self { seconds, low: seconds, high: seconds, extrapolates: false }
    }

    /// A time whose measurements lie within a factor of `spread` (at least 1) either way.
    pub fn within(seconds: f64, spread: f64) -> Self {
        let spread = spread.max(1.0);
        Self { seconds, low: seconds / spread, high: seconds * spread, extrapolates: false }
    }

    /// The same, marked when the model leaves its calibration.
    pub const fn extrapolating(self, extrapolates: bool) -> Self {
        Self { extrapolates: self.extrapolates || extrapolates, ..self }
    }

    /// The longer of two: both ends of the interval are the longer ones.
    pub fn max(self, other: Self) -> Self {
        Self {
            seconds: self.seconds.max(other.seconds),
            low: self.low.max(other.low),
            high: self.high.max(other.high),
            extrapolates: self.extrapolates || other.extrapolates,
        }
    }

    /// The sum with a time whose error has nothing to do with this one's: half-widths add as squares. [`Add`] is for times
    /// that err together, such as kernels of one device model.
    pub fn add_independent(self, other: Self) -> Self {
        let seconds = self.seconds + other.seconds;
        Self {
            seconds,
            low: seconds - (self.seconds - self.low).hypot(other.seconds - other.low),
            high: seconds + (self.high - self.seconds).hypot(other.high - other.seconds),
            extrapolates: self.extrapolates || other.extrapolates,
        }
    }
}

/// Times that err together: ends add to ends.
impl Add for Predicted {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            seconds: self.seconds + other.seconds,
            low: self.low + other.low,
            high: self.high + other.high,
            extrapolates: self.extrapolates || other.extrapolates,
        }
    }
}

impl AddAssign for Predicted {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

/// So many times the same.
impl Mul<f64> for Predicted {
    type Output = Self;

    fn mul(self, times: f64) -> Self {
        Self { seconds: self.seconds * times, low: self.low * times, high: self.high * times, ..self }
    }
}

impl Sum for Predicted {
    fn sum<I: Iterator<Item = Self>>(times: I) -> Self {
        times.fold(Self::ZERO, Add::add)
    }
}

/// Where a number comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "origin", rename_all = "kebab-case")]
pub enum Origin {
    /// A vendor's data sheet.
    Datasheet {
        /// The citation.
        source: Cow<'static, str>,
    },
    /// Fitted to measurements.
    Calibrated {
        /// Which rows, how many, and how they were drawn.
        rows: Cow<'static, str>,
    },
    /// A prior: nobody measured it for this device.
    Assumed,
}

/// One number that went into a prediction.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Term {
    /// What it is, with its unit: `memory bandwidth, GB/s`.
    pub name: Cow<'static, str>,
    /// Its value.
    pub value: f64,
    /// Where it comes from.
    #[serde(flatten)]
    pub origin: Origin,
}

/// A prediction and every number that went into it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explanation {
    /// The prediction.
    pub predicted: Predicted,
    /// Its numbers.
    pub terms: Vec<Term>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_one_cause_add_and_independent_ones_add_as_squares() {
        let three = Predicted { seconds: 10.0, low: 7.0, high: 13.0, extrapolates: false };
        let four = Predicted { seconds: 20.0, low: 16.0, high: 24.0, extrapolates: true };
        let both = Predicted { seconds: 30.0, low: 23.0, high: 37.0, extrapolates: true };
        assert_eq!(three + four, both);
        assert_eq!(three.add_independent(four), Predicted { low: 25.0, high: 35.0, ..both });
        assert_eq!([three, three].into_iter().sum::<Predicted>(), three * 2.0);
    }

    #[test]
    fn a_spread_below_one_is_no_spread() {
        assert_eq!(Predicted::within(2.0, 0.5), Predicted::exact(2.0));
        assert_eq!(Predicted::within(2.0, 2.0), Predicted { seconds: 2.0, low: 1.0, high: 4.0, extrapolates: false });
    }
}
