//! Errors of a set of rows.

use serde::Serialize;

use super::confusion::Confusion;
use super::rank::{RankCorrelation, rank_correlation};
use super::rows::ScoredRow;

/// Errors of a set of rows. All errors are shares of the measured value: 0.05 is 5%.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Statistics {
    /// Median of `|predicted - measured| / measured`.
    pub median_error: Option<f64>,
    /// Mean of it.
    pub mean_error: Option<f64>,
    /// 90th percentile of it.
    pub p90_error: Option<f64>,
    /// Largest.
    pub worst_error: Option<f64>,
    /// Median of `(predicted - measured) / measured`, in the row's own metric: above zero when times or throughputs are
    /// predicted too large.
    pub bias: Option<f64>,
    /// Spearman's rank correlation inside sweeps.
    #[serde(flatten)]
    pub rank: RankCorrelation,
    /// Share of the measurements that lie in the predicted interval.
    pub interval_coverage: Option<f64>,
    /// Rows whose peak memory was measured and predicted.
    pub memory_rows: usize,
    /// Median of the relative error of memory.
    pub memory_median_error: Option<f64>,
    /// 90th percentile of it.
    pub memory_p90_error: Option<f64>,
    /// Largest.
    pub memory_worst_error: Option<f64>,
    /// Median signed error of memory.
    pub memory_bias: Option<f64>,
    /// Calls on whether a step fits its memory.
    pub fits: Confusion,
}

impl Statistics {
    /// Of rows that count.
    pub fn of(rows: &[&ScoredRow]) -> Self {
        let signed: Vec<f64> = rows.iter().filter_map(|row| row.relative_error()).collect();
        let errors = sorted(signed.iter().map(|error| error.abs()));
        let memory: Vec<f64> = rows
            .iter()
            .filter_map(|row| row.memory_pair())
            .map(|(predicted, measured)| predicted / measured - 1.0)
            .collect();
        let memory_errors = sorted(memory.iter().map(|error| error.abs()));
        let covered: Vec<bool> = rows.iter().filter_map(|row| row.is_covered()).collect();
        Self {
            median_error: median(&errors),
            mean_error: share(errors.iter().sum(), errors.len()),
            p90_error: percentile(&errors, 0.9),
            worst_error: errors.last().copied(),
            bias: median(&sorted(signed.into_iter())),
            rank: rank_correlation(rows),
            interval_coverage: share(covered.iter().filter(|inside| **inside).count() as f64, covered.len()),
            memory_rows: memory_errors.len(),
            memory_median_error: median(&memory_errors),
            memory_p90_error: percentile(&memory_errors, 0.9),
            memory_worst_error: memory_errors.last().copied(),
            memory_bias: median(&sorted(memory.into_iter())),
            fits: Confusion::of(rows),
        }
    }
}

fn share(sum: f64, count: usize) -> Option<f64> {
    (count > 0).then(|| sum / count as f64)
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

/// The middle of sorted values.
fn median(sorted: &[f64]) -> Option<f64> {
    let upper = sorted.get(sorted.len() / 2)?;
    Some(if sorted.len() % 2 == 1 { *upper } else { f64::midpoint(sorted[sorted.len() / 2 - 1], *upper) })
}

/// The smallest of sorted values that a share of them does not exceed (nearest rank).
fn percentile(sorted: &[f64], share: f64) -> Option<f64> {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_statistics_are_those_of_the_textbook() {
        let values: Vec<f64> = (1..=10).map(f64::from).collect();
        assert_eq!((median(&values), percentile(&values, 0.9)), (Some(5.5), Some(9.0)));
        assert_eq!((median(&values[..3]), percentile(&values[..1], 0.9)), (Some(2.0), Some(1.0)));
        assert_eq!((median(&[]), percentile(&[], 0.9), share(1.0, 0)), (None, None, None));
    }
}
