//! Rates and money: floating point, always finite and not negative.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::amount::human;
use crate::parse::{ParseUnitError, parse_with_units};

macro_rules! rate {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(f64);

        impl $name {
            /// Wraps a value in the base unit of the type.
            pub const fn new(value: f64) -> Self {
                Self(value)
            }

            /// The value in the base unit of the type.
            pub const fn get(self) -> f64 {
                self.0
            }

            /// The value times a dimensionless factor (an efficiency, a share).
            #[must_use]
            pub fn scale(self, factor: f64) -> Self {
                Self(self.0 * factor)
            }

            /// True for a finite value above zero: what a device or link must have.
            pub fn is_positive(self) -> bool {
                self.0.is_finite() && self.0 > 0.0
            }
        }
    };
}

rate! {
    /// Bandwidth in bytes per second, one direction.
    BytesPerSecond
}
rate! {
    /// Compute rate in floating-point operations per second; one multiply-add counts two.
    FlopsPerSecond
}
rate! {
    /// US dollars.
    Dollars
}

impl fmt::Display for BytesPerSecond {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        human(f, self.0, &[(1.0, "B/s"), (1e3, "kB/s"), (1e6, "MB/s"), (1e9, "GB/s"), (1e12, "TB/s")])
    }
}

impl fmt::Display for FlopsPerSecond {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        human(f, self.0, &[(1e6, "MFLOP/s"), (1e9, "GFLOP/s"), (1e12, "TFLOP/s"), (1e15, "PFLOP/s")])
    }
}

impl fmt::Display for Dollars {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("${:.2}", self.0))
    }
}

const BANDWIDTH: &[(&str, f64)] = &[
    ("B/s", 1.0),
    ("kB/s", 1e3),
    ("MB/s", 1e6),
    ("GB/s", 1e9),
    ("TB/s", 1e12),
    ("MiB/s", 1_048_576.0),
    ("GiB/s", 1_073_741_824.0),
    ("Mb/s", 1e6 / 8.0),
    ("Gb/s", 1e9 / 8.0),
    ("Tb/s", 1e12 / 8.0),
    ("Gbps", 1e9 / 8.0),
];
const COMPUTE: &[(&str, f64)] =
    &[("FLOP/s", 1.0), ("MFLOP/s", 1e6), ("GFLOP/s", 1e9), ("TFLOP/s", 1e12), ("PFLOP/s", 1e15)];

impl FromStr for BytesPerSecond {
    type Err = ParseUnitError;

    /// Reads `"25 GB/s"` (bytes) and `"200 Gb/s"` (bits); a unit is required.
    fn from_str(text: &str) -> Result<Self, ParseUnitError> {
        parse_with_units(text, "a bandwidth", BANDWIDTH).map(Self)
    }
}

impl FromStr for FlopsPerSecond {
    type Err = ParseUnitError;

    /// Reads `"312 TFLOP/s"`; a unit is required.
    fn from_str(text: &str) -> Result<Self, ParseUnitError> {
        parse_with_units(text, "a compute rate", COMPUTE).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_and_bytes_are_told_apart() {
        assert_eq!("200 Gb/s".parse::<BytesPerSecond>().expect("parses"), BytesPerSecond::new(25e9));
        assert_eq!("25GB/s".parse::<BytesPerSecond>().expect("parses"), BytesPerSecond::new(25e9));
        assert_eq!(BytesPerSecond::new(25e9).to_string(), "25.0 GB/s");
        assert_eq!(FlopsPerSecond::new(312e12).to_string(), "312 TFLOP/s");
    }
}
