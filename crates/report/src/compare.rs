//! Plans side by side: what was predicted, what was measured, how far apart.

use cutplane_record::spearman;
use cutplane_units::{Bytes, Nanos};
use serde_json::{Value, json};

/// One plan, predicted and measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompareRow {
    /// Name of the plan.
    pub name: String,
    /// Whether it is the plan that the planner chose.
    pub chosen: bool,
    /// Predicted step time.
    pub predicted_step: Nanos,
    /// Measured step time, median.
    pub measured_step: Nanos,
    /// Median absolute deviation of the measured step time.
    pub measured_mad: Nanos,
    /// Tokens in one step.
    pub tokens_per_step: u64,
    /// Predicted peak memory of the fullest rank.
    pub predicted_memory: Bytes,
    /// Measured peak memory of the fullest rank.
    pub measured_memory: Bytes,
}

impl CompareRow {
    /// `(predicted - measured) / measured` of the step time; a measured time of zero counts as one nanosecond.
    pub fn error(&self) -> f64 {
        relative(self.predicted_step.as_f64(), self.measured_step.as_f64())
    }

    /// `(predicted - measured) / measured` of the peak memory; `None` when none was measured.
    pub fn memory_error(&self) -> Option<f64> {
        let measured = self.measured_memory.as_f64();
        (measured > 0.0).then(|| relative(self.predicted_memory.as_f64(), measured))
    }

    /// Measured throughput, tokens per second; zero when no time was measured.
    pub fn tokens_per_second(&self) -> f64 {
        let seconds = self.measured_step.as_secs_f64();
        if seconds > 0.0 { self.tokens_per_step as f64 / seconds } else { 0.0 }
    }

    /// The row as a JSON object; each key carries its unit.
    pub fn to_json(&self) -> Value {
        json!({
            "name": self.name,
            "chosen": self.chosen,
            "predicted_step_ns": self.predicted_step,
            "measured_step_ns": self.measured_step,
            "measured_mad_ns": self.measured_mad,
            "step_error": self.error(),
            "tokens_per_step": self.tokens_per_step,
            "measured_tokens_per_s": self.tokens_per_second(),
            "predicted_memory_bytes": self.predicted_memory,
            "measured_memory_bytes": self.measured_memory,
            "memory_error": self.memory_error(),
        })
    }
}

fn relative(predicted: f64, measured: f64) -> f64 {
    (predicted - measured) / measured.max(1.0)
}

/// What a set of plans shows about the prediction.
#[derive(Clone, Debug, PartialEq)]
pub struct CompareSummary {
    /// Median of the absolute relative errors of the step time.
    pub median_error: f64,
    /// Largest absolute relative error of the step time.
    pub worst_error: f64,
    /// Spearman's rank correlation of predicted and measured step times; `None` below two plans, or when all are equal.
    pub rank_correlation: Option<f64>,
    /// Name of the plan with the least measured step time.
    pub fastest_measured: String,
    /// Name of the chosen plan, when one of the rows is it.
    pub chosen: Option<String>,
    /// Measured step time of the chosen plan, divided by that of the fastest: 1 when the choice was the best.
    pub chosen_within: Option<f64>,
    /// Largest absolute relative error of the peak memory, over the plans that have a measured one.
    pub memory_worst_error: Option<f64>,
}

impl CompareSummary {
    /// Summarises plans; `None` when there is none.
    pub fn of(rows: &[CompareRow]) -> Option<Self> {
        let fastest = rows.iter().min_by_key(|row| row.measured_step)?;
        let chosen = rows.iter().find(|row| row.chosen);
        let mut errors: Vec<f64> = rows.iter().map(|row| row.error().abs()).collect();
        errors.sort_by(f64::total_cmp);
        let times = |pick: fn(&CompareRow) -> Nanos| -> Vec<f64> { rows.iter().map(|r| pick(r).as_f64()).collect() };
        let within = |row: &CompareRow| row.measured_step.as_f64() / fastest.measured_step.as_f64().max(1.0);
        Some(Self {
            median_error: median(&errors),
            worst_error: errors.last().copied().unwrap_or(0.0),
            rank_correlation: spearman(&times(|row| row.predicted_step), &times(|row| row.measured_step)),
            fastest_measured: fastest.name.clone(),
            chosen: chosen.map(|row| row.name.clone()),
            chosen_within: chosen.map(within),
            memory_worst_error: rows.iter().filter_map(CompareRow::memory_error).map(f64::abs).max_by(f64::total_cmp),
        })
    }

    /// The summary as a JSON object.
    pub fn to_json(&self) -> Value {
        json!({
            "median_error": self.median_error,
            "worst_error": self.worst_error,
            "rank_correlation": self.rank_correlation,
            "fastest_measured": self.fastest_measured,
            "chosen": self.chosen,
            "chosen_within": self.chosen_within,
            "memory_worst_error": self.memory_worst_error,
        })
    }
}

/// Median of sorted numbers; zero when there is none.
fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => 0.0,
        n if n % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str, chosen: bool, predicted_ms: u64, measured_ms: u64, memory: (u64, u64)) -> CompareRow {
        CompareRow {
            name: name.to_owned(),
            chosen,
            predicted_step: Nanos::new(predicted_ms * 1_000_000),
            measured_step: Nanos::new(measured_ms * 1_000_000),
            measured_mad: Nanos::ZERO,
            tokens_per_step: 1000,
            predicted_memory: Bytes::new(memory.0),
            measured_memory: Bytes::new(memory.1),
        }
    }

    #[test]
    fn the_error_is_positive_when_too_much_was_predicted() {
        let row = row("a", false, 110, 100, (90, 100));
        assert!((row.error() - 0.1).abs() < 1e-12);
        assert!((row.memory_error().expect("measured") + 0.1).abs() < 1e-12);
        assert!((row.tokens_per_second() - 10_000.0).abs() < 1e-9);
    }

    #[test]
    fn a_summary_by_hand() {
        // Errors +10%, -5%, +20%; the chosen plan is the second fastest, 102 ms against 100 ms.
        let rows =
            [row("a", false, 110, 100, (90, 100)), row("b", true, 97, 102, (0, 0)), row("c", false, 240, 200, (1, 0))];
        let summary = CompareSummary::of(&rows).expect("three rows");
        assert!((summary.median_error - 0.1).abs() < 1e-12);
        assert!((summary.worst_error - 0.2).abs() < 1e-12);
        // Predicted order b a c, measured order a b c: 1 - 6 * 2 / (3 * 8).
        assert!((summary.rank_correlation.expect("defined") - 0.5).abs() < 1e-12);
        assert_eq!((summary.fastest_measured.as_str(), summary.chosen.as_deref()), ("a", Some("b")));
        assert!((summary.chosen_within.expect("chosen") - 1.02).abs() < 1e-12);
        assert!((summary.memory_worst_error.expect("one measured") - 0.1).abs() < 1e-12);
    }

    #[test]
    fn an_even_number_of_errors_takes_the_mean_of_the_middle_two() {
        let rows = [row("a", false, 102, 100, (1, 1)), row("b", false, 104, 100, (1, 1))];
        let summary = CompareSummary::of(&rows).expect("two rows");
        assert!((summary.median_error - 0.03).abs() < 1e-12);
        assert_eq!((summary.chosen, summary.rank_correlation), (None, None));
    }

    #[test]
    fn nothing_measured_is_not_a_number_nowhere() {
        let zero = row("zero", true, 0, 0, (0, 0));
        let summary = CompareSummary::of(std::slice::from_ref(&zero)).expect("one row");
        assert_eq!((summary.median_error, summary.rank_correlation, summary.memory_worst_error), (0.0, None, None));
        assert_eq!(zero.to_json()["measured_tokens_per_s"], 0.0);
        assert_eq!(CompareSummary::of(&[]), None);
    }

    #[test]
    fn json_keys_carry_units() {
        let value = row("a", true, 110, 100, (90, 100)).to_json();
        assert_eq!(value["predicted_step_ns"], 110_000_000);
        assert_eq!(value["measured_memory_bytes"], 100);
        assert_eq!(value["chosen"], true);
    }
}
