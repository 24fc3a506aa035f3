//! PipeDream's pipeline without flushes (Narayanan et al. 2019), and its two-version variant (2BW, 2021).

/// Weight versions that stage `stage` of `stages` (from 0) keeps: one for each micro-batch on its way, `p - i`.
pub fn stashed_versions(stage: u64, stages: u64) -> u64 {
    stages.saturating_sub(stage)
}

/// Weight versions of a stage under 2BW: gradients of `m >= p` micro-batches are accumulated, so two are enough.
pub const DOUBLE_BUFFERED_VERSIONS: u64 = 2;

/// Micro-batches a second in the steady state: the slowest stage's rate, a stage of `replicas[i]` devices being as much
/// faster.
pub fn steady_rate(stages: &[f64], replicas: &[u64]) -> f64 {
    let slowest = stages.iter().zip(replicas).map(|(time, replicas)| time / (*replicas).max(1) as f64);
    1.0 / slowest.fold(0.0, f64::max)
}
