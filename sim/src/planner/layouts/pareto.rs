//! Several objectives at once.

use serde::Serialize;

use super::error::LayoutError;
use super::facts::divisors;
use super::objective::Objective;
use super::outcome::Candidate;
use super::problem::{LayoutBudget, LayoutProblem};
use super::search::{Attempt, attempt};

/// A layout that no other beats in step time, devices and money at once.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ParetoPoint {
    /// Devices used.
    pub devices: u64,
    /// Predicted time of a step, s.
    pub seconds: f64,
    /// Dollars a step, where the price of a device is known.
    pub dollars: Option<f64>,
    /// Tokens a second.
    pub tokens_per_second: f64,
    /// The layout.
    pub layout: crate::estimate::Layout,
}

/// The front of step time against devices, fewest devices first: the fastest layout on each number of devices that divides
/// the cluster, without those that more devices do not make faster. Money is devices times time, so the front of money
/// against time is among these points.
///
/// # Errors
/// [`LayoutError`] of a search; numbers of devices on which nothing fits are left out.
pub fn pareto(problem: &LayoutProblem<'_>, budget: &LayoutBudget<'_>) -> Result<Vec<ParetoPoint>, LayoutError> {
    let mut front: Vec<ParetoPoint> = Vec::new();
    for devices in divisors(problem.devices()) {
        let pins = super::Pins { devices: Some(devices), ..problem.pins.clone() };
        let changed = LayoutProblem { objective: Objective::StepTime, pins, ..problem.clone() };
        let Attempt::Found(outcome) = attempt(&changed, budget)? else { continue };
        let found = outcome.chosen();
        if front.last().is_none_or(|last| found.seconds() < last.seconds) {
            front.push(point(problem, found));
        }
    }
    Ok(front)
}

fn point(problem: &LayoutProblem<'_>, found: &Candidate) -> ParetoPoint {
    let (devices, seconds) = (found.layout.devices(), found.seconds());
    ParetoPoint {
        devices,
        seconds,
        dollars: problem
            .dollars_per_device_hour
            .map(|price| Objective::Dollars.value(seconds, devices as f64, Some(price))),
        tokens_per_second: found.estimate.tokens_per_second(),
        layout: found.layout.clone(),
    }
}
