//! Rates of workers with and without barriers, and shares of a batch that need none. Runs whose steps vary, with a bound on
//! how far a worker may be ahead, are simulated by [`crate::engine::step::served`].

/// Steps a second of all workers together without barriers: the sum of their rates, for mean step times `means`.
pub fn asynchronous_rate(means: &[f64]) -> f64 {
    means.iter().map(|mean| 1.0 / mean).sum()
}

/// Steps a second of all workers together with a barrier after each, for constant step times: all at the slowest's pace.
pub fn bulk_rate(means: &[f64]) -> f64 {
    means.len() as f64 / means.iter().copied().fold(0.0, f64::max)
}

/// Shares of a batch that let devices of these rates end together: a device of half the rate gets half the samples.
pub fn proportional_shares(rates: &[f64]) -> Vec<f64> {
    let all: f64 = rates.iter().sum();
    rates.iter().map(|rate| rate / all).collect()
}
