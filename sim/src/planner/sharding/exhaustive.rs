//! All assignments, one by one: what the other searchers are tested against.

use std::time::Instant;

use cutplane_plan::StopReason;

use super::error::{ShardError, whole_bytes};
use super::outcome::{ShardOutcome, Sharder};
use super::problem::ShardBudget;
use super::table::{Evaluation, ShardTable};

/// Most assignments that are tried.
pub const MOST_ASSIGNMENTS: u64 = 2_000_000;

/// Tries everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct ExhaustiveSharder;

impl Sharder for ExhaustiveSharder {
    fn name(&self) -> &'static str {
        "exhaustive"
    }

    fn shard(&self, table: &ShardTable, _: &ShardBudget<'_>) -> Result<ShardOutcome, ShardError> {
        let started = Instant::now();
        table.check()?;
        let assignments = table.assignments();
        if assignments > MOST_ASSIGNMENTS as f64 {
            return Err(ShardError::TooLarge { assignments, most: MOST_ASSIGNMENTS });
        }
        let mut best: Option<(Vec<usize>, Evaluation)> = None;
        let mut smallest = f64::INFINITY;
        let mut choice = vec![0; table.nodes.len()];
        loop {
            let found = table.evaluate(&choice);
            if found.seconds.is_finite() {
                smallest = smallest.min(found.memory);
                let is_better = best.as_ref().is_none_or(|(_, known)| found.seconds < known.seconds);
                if is_better && table.fits(found.memory) {
                    best = Some((choice.clone(), found));
                }
            }
            if !next(&mut choice, table) {
                break;
            }
        }
        let limit = whole_bytes(table.memory_limit);
        let (choice, evaluation) = best.ok_or(ShardError::Infeasible { limit, smallest: whole_bytes(smallest) })?;
        Ok(ShardOutcome {
            choice,
            evaluation,
            bound: evaluation.seconds,
            bound_of_unequal: None,
            stop: StopReason::ProvenOptimal,
            searcher: self.name(),
            variables: 0,
            search_seconds: started.elapsed().as_secs_f64(),
        })
    }
}

/// The next assignment, counting like an odometer.
fn next(choice: &mut [usize], table: &ShardTable) -> bool {
    for (at, node) in choice.iter_mut().zip(&table.nodes) {
        *at += 1;
        if *at < node.choices.len() {
            return true;
        }
        *at = 0;
    }
    false
}
