//! What is minimised.

use serde::{Deserialize, Serialize};

use super::error::LayoutError;

/// What a search of layouts minimises. The batch is fixed, so the shortest step is also the most tokens a second, and the
/// cheapest step the cheapest token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Objective {
    /// Predicted time of a step, s.
    #[default]
    StepTime,
    /// Price of a step, dollars: devices used, times the step's time, times their price.
    Dollars,
    /// Number of devices; of equal numbers, the shortest step.
    Devices,
}

impl Objective {
    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::StepTime => "step-time",
            Self::Dollars => "dollars",
            Self::Devices => "devices",
        }
    }

    /// What a step of `seconds` on `devices` devices is worth. Monotone in both, so a lower bound of the arguments gives one
    /// of the value.
    ///
    /// [`Objective::Devices`] is `devices + seconds / (1 + seconds)`: the order of pairs in one number.
    pub fn value(self, seconds: f64, devices: f64, dollars_per_device_hour: Option<f64>) -> f64 {
        match self {
            Self::StepTime => seconds,
            Self::Dollars => seconds * devices * dollars_per_device_hour.unwrap_or(1.0) / 3600.0,
            Self::Devices => devices + seconds / (1.0 + seconds),
        }
    }

    pub(super) fn check(self, dollars_per_device_hour: Option<f64>) -> Result<(), LayoutError> {
        match (self, dollars_per_device_hour) {
            (Self::Dollars, None) => Err(LayoutError::Objective {
                objective: self.name(),
                problem: "the price of a device is not known",
                remedy: "say what a device costs an hour",
            }),
            (_, Some(price)) if !(price.is_finite() && price > 0.0) => Err(LayoutError::Objective {
                objective: self.name(),
                problem: "the price of a device is not a positive number",
                remedy: "write dollars an hour above zero",
            }),
            _ => Ok(()),
        }
    }
}
