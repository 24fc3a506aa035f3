//! Bulk, stale and asynchronous synchronisation of workers whose steps vary (Valiant 1990; Ho et al. 2013).

/// Seconds until every worker has done its steps, if none may be more than `staleness` steps ahead of the slowest: 0 is a
/// barrier after every step (BSP), `usize::MAX` none at all (ASP). `steps[w][k]` is the time of step `k` of worker `w`.
pub fn makespan(steps: &[Vec<f64>], staleness: usize) -> f64 {
    let rounds = steps.iter().map(Vec::len).max().unwrap_or(0);
    // When all have done so many steps.
    let mut all_done = vec![0.0_f64; rounds + 1];
    let mut done = vec![0.0_f64; steps.len()];
    for round in 0..rounds {
        let gate = round.checked_sub(staleness).map_or(0.0, |behind| all_done[behind]);
        for (end, own) in done.iter_mut().zip(steps) {
            if let Some(time) = own.get(round) {
                *end = end.max(gate) + time;
            }
        }
        all_done[round + 1] = done.iter().copied().fold(all_done[round], f64::max);
    }
    all_done[rounds]
}

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
