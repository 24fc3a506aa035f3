//! Counted quantities: time in nanoseconds, sizes in bytes, work in floating-point operations.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Mul, Sub};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::parse::{ParseUnitError, parse_with_units};
use crate::rate::{BytesPerSecond, FlopsPerSecond};

macro_rules! counted {
    ($(#[$doc:meta])* $name:ident($repr:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name($repr);

        impl $name {
            /// Nothing of it.
            pub const ZERO: Self = Self(0);
            /// The largest representable amount.
            pub const MAX: Self = Self(<$repr>::MAX);

            /// Wraps a count.
            pub const fn new(count: $repr) -> Self {
                Self(count)
            }

            /// The count itself.
            pub const fn get(self) -> $repr {
                self.0
            }

            /// The count as a floating-point number, for ratios and statistics.
            pub const fn as_f64(self) -> f64 {
                self.0 as f64
            }

            /// The difference, or zero where the other is larger.
            #[must_use]
            pub const fn saturating_sub(self, other: Self) -> Self {
                Self(self.0.saturating_sub(other.0))
            }

            /// The sum, or `None` on overflow.
            pub const fn checked_add(self, other: Self) -> Option<Self> {
                match self.0.checked_add(other.0) {
                    Some(sum) => Some(Self(sum)),
                    None => None,
                }
            }

            /// The product, or `None` on overflow.
            pub const fn checked_mul(self, factor: $repr) -> Option<Self> {
                match self.0.checked_mul(factor) {
                    Some(product) => Some(Self(product)),
                    None => None,
                }
            }

            /// True when nothing is there.
            pub const fn is_zero(self) -> bool {
                self.0 == 0
            }
        }

        impl Add for $name {
            type Output = Self;
            fn add(self, other: Self) -> Self {
                Self(self.0.checked_add(other.0).expect(concat!(stringify!($name), " overflow")))
            }
        }

        impl AddAssign for $name {
            fn add_assign(&mut self, other: Self) {
                *self = *self + other;
            }
        }

        impl Sub for $name {
            type Output = Self;
            fn sub(self, other: Self) -> Self {
                Self(self.0.checked_sub(other.0).expect(concat!(stringify!($name), " below zero")))
            }
        }

        impl Mul<$repr> for $name {
            type Output = Self;
            fn mul(self, factor: $repr) -> Self {
                Self(self.0.checked_mul(factor).expect(concat!(stringify!($name), " overflow")))
            }
        }

        impl Sum for $name {
            fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
                iter.fold(Self::ZERO, Add::add)
            }
        }
    };
}

counted! {
    /// A duration or an instant on a timeline, in whole nanoseconds.
    Nanos(u64)
}
counted! {
    /// A size in bytes.
    Bytes(u64)
}
counted! {
    /// Floating-point operations; one multiply-add counts two. 128 bits, because one step of a trillion-parameter model
    /// passes 10^20.
    Flops(u128)
}

impl Nanos {
    /// Rounds seconds **up** to whole nanoseconds; negative and NaN become zero, too large becomes [`Nanos::MAX`].
    pub fn from_secs_f64(seconds: f64) -> Self {
        // A hair is taken off first, so that 1e-9 s is one nanosecond and not two.
        Self((seconds * 1e9 * (1.0 - 4.0 * f64::EPSILON)).ceil().max(0.0) as u64)
    }

    /// Rounds nanoseconds **up**; same edge cases as [`Nanos::from_secs_f64`].
    pub fn from_nanos_f64(nanos: f64) -> Self {
        Self((nanos * (1.0 - 4.0 * f64::EPSILON)).ceil().max(0.0) as u64)
    }

    /// The duration in seconds.
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1e9
    }

    /// The duration in milliseconds.
    pub fn as_millis_f64(self) -> f64 {
        self.0 as f64 / 1e6
    }

    /// The duration times a dimensionless factor, rounded up.
    #[must_use]
    pub fn scale(self, factor: f64) -> Self {
        Self::from_nanos_f64(self.0 as f64 * factor)
    }
}

impl From<std::time::Duration> for Nanos {
    fn from(duration: std::time::Duration) -> Self {
        Self(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
    }
}

impl Bytes {
    /// Time to move this many bytes at `bandwidth`, rounded up; a bandwidth of zero takes [`Nanos::MAX`].
    pub fn transfer_time(self, bandwidth: BytesPerSecond) -> Nanos {
        if self.0 == 0 {
            return Nanos::ZERO;
        }
        Nanos::from_secs_f64(self.0 as f64 / bandwidth.get())
    }

    /// The size in GiB (2^30 bytes).
    pub fn as_gib(self) -> f64 {
        self.0 as f64 / (1u64 << 30) as f64
    }

    /// The size in MiB (2^20 bytes).
    pub fn as_mib(self) -> f64 {
        self.0 as f64 / (1u64 << 20) as f64
    }

    /// The size times a dimensionless factor, rounded up.
    #[must_use]
    pub fn scale(self, factor: f64) -> Self {
        Self((self.0 as f64 * factor).ceil().max(0.0) as u64)
    }
}

impl Flops {
    /// Time to do this much work at `rate`, rounded up; a rate of zero takes [`Nanos::MAX`].
    pub fn compute_time(self, rate: FlopsPerSecond) -> Nanos {
        if self.0 == 0 {
            return Nanos::ZERO;
        }
        Nanos::from_secs_f64(self.0 as f64 / rate.get())
    }
}

/// Picks the largest scale not above `value` and prints three significant digits.
pub(crate) fn human(f: &mut fmt::Formatter<'_>, value: f64, scales: &[(f64, &str)]) -> fmt::Result {
    let (scale, unit) = scales.iter().rev().find(|(s, _)| value.abs() >= *s * 0.9995).unwrap_or(&scales[0]);
    let scaled = value / scale;
    let digits = match scaled.abs() {
        x if x >= 99.95 || x == 0.0 => 0,
        x if x >= 9.995 => 1,
        _ => 2,
    };
    let exact = *scale < 2.0 && scaled.fract() == 0.0;
    f.pad(&format!("{scaled:.*} {unit}", if exact { 0 } else { digits }))
}

impl fmt::Display for Nanos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        human(f, self.0 as f64, &[(1.0, "ns"), (1e3, "us"), (1e6, "ms"), (1e9, "s")])
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let k = 1024.0;
        human(f, self.0 as f64, &[(1.0, "B"), (k, "KiB"), (k * k, "MiB"), (k * k * k, "GiB"), (k * k * k * k, "TiB")])
    }
}

impl fmt::Display for Flops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scales = [(1.0, "FLOP"), (1e3, "kFLOP"), (1e6, "MFLOP"), (1e9, "GFLOP"), (1e12, "TFLOP"), (1e15, "PFLOP")];
        human(f, self.0 as f64, &scales)
    }
}

const TIME: &[(&str, f64)] =
    &[("ns", 1.0), ("us", 1e3), ("µs", 1e3), ("ms", 1e6), ("s", 1e9), ("min", 60e9), ("h", 3600e9)];
const KIB: f64 = 1024.0;
const SIZE: &[(&str, f64)] = &[
    ("B", 1.0),
    ("kB", 1e3),
    ("KB", 1e3),
    ("MB", 1e6),
    ("GB", 1e9),
    ("TB", 1e12),
    ("KiB", KIB),
    ("MiB", KIB * KIB),
    ("GiB", KIB * KIB * KIB),
    ("TiB", KIB * KIB * KIB * KIB),
];

impl FromStr for Nanos {
    type Err = ParseUnitError;

    /// Reads `"250 us"`, `"1.5ms"`, `"2 s"`; a unit is required.
    fn from_str(text: &str) -> Result<Self, ParseUnitError> {
        parse_with_units(text, "a duration", TIME).map(Self::from_nanos_f64)
    }
}

impl FromStr for Bytes {
    type Err = ParseUnitError;

    /// Reads `"80 GiB"`, `"1.5MB"`, `"512 B"`; a unit is required.
    fn from_str(text: &str) -> Result<Self, ParseUnitError> {
        parse_with_units(text, "a size", SIZE).map(|bytes| Self(bytes.round() as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn prints_three_digits_with_the_unit() {
        assert_eq!(Nanos::new(0).to_string(), "0 ns");
        assert_eq!(Nanos::new(999_999).to_string(), "1.00 ms");
        assert_eq!(Nanos::new(812_400_000).to_string(), "812 ms");
        assert_eq!(Bytes::new(1 << 30).to_string(), "1.00 GiB");
        assert_eq!(Bytes::new(17).to_string(), "17 B");
        assert_eq!(Flops::new(45_900_000_000).to_string(), "45.9 GFLOP");
    }

    #[test]
    fn one_nanosecond_stays_one() {
        assert_eq!(Nanos::from_secs_f64(1e-9), Nanos::new(1));
        assert_eq!(Nanos::from_secs_f64(f64::NAN), Nanos::ZERO);
        assert_eq!(Nanos::from_secs_f64(-1.0), Nanos::ZERO);
    }

    #[test]
    #[should_panic(expected = "Bytes overflow")]
    fn overflow_is_never_silent() {
        let _ = Bytes::MAX + Bytes::new(1);
    }

    proptest! {
        #[test]
        fn a_transfer_is_never_shorter_than_physics(bytes in 0u64..1 << 50, gb in 0.001f64..10_000.0) {
            let bandwidth = BytesPerSecond::new(gb * 1e9);
            let time = Bytes::new(bytes).transfer_time(bandwidth);
            prop_assert!(time.as_f64() * gb >= bytes as f64 * (1.0 - 1e-12));
            prop_assert!((time.as_f64() - 1.0) * gb <= bytes as f64 * (1.0 + 1e-12));
        }

        #[test]
        fn sizes_round_trip_through_text(bytes in 0u64..1 << 52) {
            prop_assert_eq!(format!("{bytes} B").parse::<Bytes>().expect("parses"), Bytes::new(bytes));
        }

        #[test]
        fn durations_round_trip_through_json(ns in any::<u64>()) {
            let text = serde_json::to_string(&Nanos::new(ns)).expect("serialises");
            prop_assert_eq!(serde_json::from_str::<Nanos>(&text).expect("parses"), Nanos::new(ns));
        }
    }
}
