//! Prediction and measurement side by side.

use std::collections::HashMap;

use cutplane_plan::{Action, InstructionId, Program, Rank};
use cutplane_units::Nanos;
use serde::Serialize;

use crate::error::RecordError;
use crate::timeline::{Source, Span, Timeline};

/// One instruction, predicted and measured.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct InstructionPair {
    /// The instruction.
    pub instruction: InstructionId,
    /// Its rank.
    pub rank: Rank,
    /// What it does.
    pub action: Action,
    /// Predicted span.
    pub predicted: Span,
    /// Measured span.
    pub measured: Span,
}

/// A predicted and a measured timeline of one program, joined on instruction id.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// Every instruction, in program order.
    pub instructions: Vec<InstructionPair>,
    /// Predicted step time.
    pub predicted_step: Nanos,
    /// Measured step time.
    pub measured_step: Nanos,
}

impl Comparison {
    /// Joins two timelines of `program`.
    ///
    /// # Errors
    /// [`RecordError::Mismatch`] when the timelines are of other plans, not one predicted and one measured, or miss an
    /// instruction.
    pub fn join(program: &Program, predicted: &Timeline, measured: &Timeline) -> Result<Self, RecordError> {
        let mismatch = |reason: String| Err(RecordError::Mismatch { reason });
        for (timeline, source) in [(predicted, Source::Predicted), (measured, Source::Measured)] {
            if timeline.source != source {
                return mismatch(format!("expected a {source:?} timeline, got a {:?} one", timeline.source));
            }
            if timeline.plan_digest != program.plan_digest {
                return mismatch(format!(
                    "a timeline of plan {} against a program of plan {}",
                    timeline.plan_digest, program.plan_digest
                ));
            }
        }
        let index = |timeline: &Timeline| -> HashMap<InstructionId, Span> {
            timeline.spans.iter().map(|span| (span.instruction, *span)).collect()
        };
        let (left, right) = (index(predicted), index(measured));
        let mut instructions = Vec::with_capacity(program.instruction_count());
        for rank in &program.ranks {
            for instruction in &rank.instructions {
                let (Some(predicted), Some(measured)) = (left.get(&instruction.id), right.get(&instruction.id)) else {
                    return mismatch(format!("instruction {} of {} has no span", instruction.id, rank.rank));
                };
                instructions.push(InstructionPair {
                    instruction: instruction.id,
                    rank: rank.rank,
                    action: instruction.action,
                    predicted: *predicted,
                    measured: *measured,
                });
            }
        }
        Ok(Self { instructions, predicted_step: predicted.makespan(), measured_step: measured.makespan() })
    }

    /// `(predicted - measured) / measured` of the step time.
    pub fn relative_error(&self) -> f64 {
        let measured = self.measured_step.as_f64();
        (self.predicted_step.as_f64() - measured) / measured.max(1.0)
    }

    /// Busy time by action label over all ranks, predicted and measured, largest measured first.
    pub fn by_action(&self) -> Vec<(&'static str, Nanos, Nanos)> {
        let mut sums: Vec<(&'static str, Nanos, Nanos)> = Vec::new();
        for pair in &self.instructions {
            let label = pair.action.label();
            let index = sums.iter().position(|(name, ..)| *name == label).unwrap_or_else(|| {
                sums.push((label, Nanos::ZERO, Nanos::ZERO));
                sums.len() - 1
            });
            sums[index].1 += pair.predicted.busy();
            sums[index].2 += pair.measured.busy();
        }
        sums.sort_by_key(|(_, _, measured)| std::cmp::Reverse(*measured));
        sums
    }
}

/// Spearman's rank correlation of two equally long lists, ties ranked by their mean; `None` below two points or when one
/// side is constant.
pub fn spearman(left: &[f64], right: &[f64]) -> Option<f64> {
    if left.len() != right.len() || left.len() < 2 {
        return None;
    }
    let (a, b) = (mean_ranks(left), mean_ranks(right));
    let mean = (left.len() as f64 - 1.0) / 2.0;
    let product = |x: &[f64], y: &[f64]| -> f64 { x.iter().zip(y).map(|(p, q)| (p - mean) * (q - mean)).sum() };
    let spread = (product(&a, &a) * product(&b, &b)).sqrt();
    (spread > 0.0).then(|| product(&a, &b) / spread)
}

fn mean_ranks(values: &[f64]) -> Vec<f64> {
    let below = |x: f64| values.iter().filter(|other| **other < x).count() as f64;
    let above = |x: f64| values.iter().filter(|other| **other > x).count() as f64;
    let last = values.len() as f64 - 1.0;
    values.iter().map(|x| f64::midpoint(below(*x), last - above(*x))).collect()
}

#[cfg(test)]
mod tests {
    use super::spearman;

    #[test]
    fn rank_correlation_knows_order_and_ties() {
        assert_eq!(spearman(&[1.0, 2.0, 3.0], &[10.0, 20.0, 30.0]), Some(1.0));
        assert_eq!(spearman(&[1.0, 2.0, 3.0], &[3.0, 2.0, 1.0]), Some(-1.0));
        assert_eq!(spearman(&[1.0, 1.0], &[1.0, 2.0]), None);
        let tied = spearman(&[1.0, 2.0, 2.0, 3.0], &[1.0, 2.0, 3.0, 4.0]).expect("defined");
        assert!((tied - 0.948_683).abs() < 1e-6, "{tied}");
    }
}
