//! Limits that every search heeds: time, gap, seed.

use std::time::Duration;

use anyhow::Result;
use clap::Args;

/// Seconds that a search may take by default.
const TIME_LIMIT: f64 = 60.0;
/// Fraction of the best that is good enough by default.
const GAP: f64 = 0.001;

/// How long a search may take, and how good its answer has to be.
#[derive(Clone, Copy, Debug, PartialEq, Args)]
pub(crate) struct SearchArgs {
    /// Ends the search after this many seconds, with the best answer so far.
    #[arg(long, default_value_t = TIME_LIMIT, value_name = "SECONDS")]
    time_limit: f64,
    /// Ends the search when the answer is proven to be within this fraction of the best.
    #[arg(long, default_value_t = GAP, value_name = "FRACTION")]
    gap: f64,
    /// Seed of everything random, where something is [default: 0].
    #[arg(long)]
    seed: Option<u32>,
}

/// Those of the command line.
impl Default for SearchArgs {
    fn default() -> Self {
        Self::new(TIME_LIMIT, GAP)
    }
}

impl SearchArgs {
    /// For searches inside another verb.
    pub(crate) const fn new(time_limit: f64, gap: f64) -> Self {
        Self { time_limit, gap, seed: None }
    }

    /// Refuses what is no limit.
    pub(crate) fn check(&self) -> Result<()> {
        anyhow::ensure!(
            self.time_limit.is_finite() && self.time_limit >= 0.0,
            "--time-limit must be a number of seconds, 0 or more"
        );
        anyhow::ensure!((0.0..1.0).contains(&self.gap), "--gap must be a fraction from 0 up to 1");
        Ok(())
    }

    /// Wall time; more than the clock can count is no limit.
    pub(crate) fn time_limit(&self) -> Duration {
        Duration::try_from_secs_f64(self.time_limit).unwrap_or(Duration::MAX)
    }

    /// Fraction of the objective.
    pub(crate) const fn gap(&self) -> f64 {
        self.gap
    }

    /// Seed.
    pub(crate) fn seed(&self) -> u32 {
        self.seed.unwrap_or(0)
    }

    /// Refuses a seed for a search that draws no random numbers.
    pub(crate) fn check_unseeded(&self, search: &str) -> Result<()> {
        anyhow::ensure!(
            self.seed.is_none(),
            "--seed changes nothing: {search} draws no random numbers, and gives the same answer every time; leave it out"
        );
        Ok(())
    }
}
