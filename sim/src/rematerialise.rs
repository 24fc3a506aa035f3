//! Which activations to keep for the backward pass and which to compute again, under a memory budget.
//!
//! Values are in the order of the forward pass. What is dropped is computed again once, in runs between kept values, just
//! before the backward pass of the run (Chen et al. 2016). A run needs nothing but kept values: a value that is read
//! across a kept one is kept itself. At the end of a run the device holds all kept values up to there and the run:
//!
//! `sum_(j <= i) k_j m_j + w_i <= B`, with `w_i = w_(i-1) + m_i` where `i` is dropped and 0 where it is kept.
//!
//! Minimising `sum (1 - k_i) c_i` over the binary `k` is the knapsack of Checkmate (Jain et al. 2020) without its freedom
//! to compute a value more than once. [`cheapest`] solves it by mixed-integer programming; [`uniform`] keeps every n-th
//! value, the heuristic of Chen et al.

#[cfg(feature = "ilp")]
use good_lp::solvers::highs::highs;
#[cfg(feature = "ilp")]
use good_lp::{Expression, ProblemVariables, Solution, SolutionStatus, SolverModel, Variable, constraint, variable};

/// A value of the forward pass.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ForwardValue {
    /// Time to compute it, s.
    pub seconds: f64,
    /// Its size, bytes.
    pub bytes: f64,
    /// Position of the last value that is computed from it; its own where nothing is.
    pub last_reader: usize,
}

/// What is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept {
    /// Whether each value is kept, in order.
    pub keeps: Vec<bool>,
    /// Time of what is computed again, s.
    pub repeated_seconds: f64,
    /// Most memory of values held at once, bytes.
    pub peak_bytes: f64,
    /// Whether nothing cheaper fits the budget, proven.
    pub proven: bool,
}

/// Why there is no choice.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RematerialiseError {
    /// Nothing fits.
    #[error("no choice of kept values fits {budget_bytes:.0} bytes: give at least {least_bytes:.0}")]
    Budget {
        /// The budget.
        budget_bytes: f64,
        /// What is certainly needed: the largest value.
        least_bytes: f64,
    },
    /// The solver gave up.
    #[error("the solver gave up: {0}: raise the time limit or the budget")]
    Solver(String),
}

/// What a choice costs and holds; `None` where a run reads a dropped value across a kept one.
pub fn priced(values: &[ForwardValue], keeps: &[bool]) -> Option<(f64, f64)> {
    let (mut kept, mut run, mut peak, mut seconds) = (0.0, 0.0, 0.0_f64, 0.0);
    for (at, value) in values.iter().enumerate() {
        if keeps[at] {
            (kept, run) = (kept + value.bytes, 0.0);
        } else {
            let crossed = keeps.iter().take(value.last_reader).skip(at + 1).any(|kept| *kept);
            if crossed {
                return None;
            }
            run += value.bytes;
            seconds += value.seconds;
        }
        peak = peak.max(kept + run);
    }
    Some((seconds, peak))
}

/// Memory of keeping everything, bytes.
pub fn everything(values: &[ForwardValue]) -> f64 {
    values.iter().map(|value| value.bytes).sum()
}

/// Keeps every n-th value, and what is read across it, for the `n` that repeats least within the budget.
///
/// # Errors
/// [`RematerialiseError::Budget`] when none fits.
pub fn uniform(values: &[ForwardValue], budget: f64) -> Result<Kept, RematerialiseError> {
    let choices = (1..=values.len()).filter_map(|every| {
        let mut keeps: Vec<bool> = (0..values.len()).map(|at| (at + 1) % every == 0).collect();
        keep_what_crosses(values, &mut keeps);
        let (repeated_seconds, peak_bytes) = priced(values, &keeps)?;
        (peak_bytes <= budget).then_some(Kept { keeps, repeated_seconds, peak_bytes, proven: false })
    });
    choices.min_by(|a, b| a.repeated_seconds.total_cmp(&b.repeated_seconds)).ok_or_else(|| too_small(values, budget))
}

fn too_small(values: &[ForwardValue], budget_bytes: f64) -> RematerialiseError {
    let least_bytes = values.iter().map(|value| value.bytes).fold(0.0, f64::max);
    RematerialiseError::Budget { budget_bytes, least_bytes }
}

/// Back to front, so that what is kept for a later value is known when an earlier one is looked at.
fn keep_what_crosses(values: &[ForwardValue], keeps: &mut [bool]) {
    for at in (0..values.len()).rev() {
        if !keeps[at] && keeps.iter().take(values[at].last_reader).skip(at + 1).any(|kept| *kept) {
            keeps[at] = true;
        }
    }
}

/// The choice that repeats least within the budget, by mixed-integer programming; the uniform one if the solver finds
/// nothing better in `seconds`.
///
/// # Errors
/// [`RematerialiseError`]: nothing fits; the solver gave up without an answer.
#[cfg(feature = "ilp")]
pub fn cheapest(values: &[ForwardValue], budget: f64, seconds: f64) -> Result<Kept, RematerialiseError> {
    let fallback = uniform(values, budget);
    match solved(values, budget, seconds)? {
        Some(found) if fallback.as_ref().map_or(true, |kept| found.repeated_seconds <= kept.repeated_seconds) => {
            Ok(found)
        }
        Some(_) => fallback,
        None => fallback.map_err(|_| too_small(values, budget)),
    }
}

/// The model, in units of the budget and of the whole forward time; `None` where it is infeasible.
#[cfg(feature = "ilp")]
fn solved(values: &[ForwardValue], budget: f64, seconds: f64) -> Result<Option<Kept>, RematerialiseError> {
    let total: f64 = values.iter().map(|value| value.seconds).sum();
    let size = |at: usize| values[at].bytes / budget;
    let mut variables = ProblemVariables::new();
    let keeps: Vec<Variable> = values.iter().map(|_| variables.add(variable().binary())).collect();
    let runs: Vec<Variable> = values.iter().map(|_| variables.add(variable().min(0.0).max(1.0))).collect();
    let saved: Expression = (0..values.len()).map(|at| keeps[at] * (values[at].seconds / total.max(1e-300))).sum();
    let mut problem = variables.maximise(saved).using(highs);
    problem.set_verbose(false);
    problem = problem.set_time_limit(seconds).set_threads(1);
    let mut held = Expression::from(0.0);
    for at in 0..values.len() {
        let before = if at == 0 { Expression::from(0.0) } else { Expression::from(runs[at - 1]) };
        // A dropped value lengthens the run; a kept one frees the bound.
        let reach = 1.0 + size(at);
        problem = problem.with(constraint!(runs[at] - before + reach * keeps[at] >= size(at)));
        held += keeps[at] * size(at);
        problem = problem.with(constraint!(held.clone() + runs[at] <= 1.0));
        for between in at + 1..values[at].last_reader {
            problem = problem.with(constraint!(keeps[between] - keeps[at] <= 0.0));
        }
    }
    let solution = match problem.solve() {
        Ok(solution) => solution,
        Err(good_lp::ResolutionError::Infeasible) => return Ok(None),
        Err(error) => return Err(RematerialiseError::Solver(error.to_string())),
    };
    let keeps: Vec<bool> = keeps.iter().map(|keep| solution.value(*keep) > 0.5).collect();
    let proven = matches!(solution.status(), SolutionStatus::Optimal);
    let found = priced(values, &keeps).filter(|(_, peak)| *peak <= budget * (1.0 + 1e-6));
    Ok(found.map(|(repeated_seconds, peak_bytes)| Kept { keeps, repeated_seconds, peak_bytes, proven }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(sizes: &[f64]) -> Vec<ForwardValue> {
        let value = |(at, bytes): (usize, &f64)| ForwardValue {
            seconds: 1.0 + (at % 3) as f64,
            bytes: *bytes,
            last_reader: (at + 1).min(sizes.len() - 1),
        };
        sizes.iter().enumerate().map(value).collect()
    }

    /// The cheapest of all choices, one by one.
    fn by_trying(values: &[ForwardValue], budget: f64) -> Option<f64> {
        let choices = 0..1_u32 << values.len();
        choices
            .filter_map(|mask| {
                let keeps: Vec<bool> = (0..values.len()).map(|at| mask >> at & 1 == 1).collect();
                priced(values, &keeps).filter(|(_, peak)| *peak <= budget).map(|(seconds, _)| seconds)
            })
            .min_by(f64::total_cmp)
    }

    #[test]
    fn a_run_is_held_with_all_that_is_kept_before_it() {
        let values = chain(&[4.0, 3.0, 2.0, 1.0]);
        assert_eq!(priced(&values, &[true; 4]), Some((0.0, 10.0)));
        assert_eq!(priced(&values, &[true, false, false, true]), Some((5.0, 9.0)));
        let mut skip = values;
        skip[0].last_reader = 3;
        assert_eq!(priced(&skip, &[false, true, false, false]), None);
    }

    #[test]
    fn the_uniform_choice_fits_and_keeps_what_is_read_across() {
        let mut values = chain(&[5.0; 9]);
        values[1].last_reader = 7;
        let kept = uniform(&values, 40.0).unwrap();
        assert!(kept.peak_bytes <= 40.0 && kept.repeated_seconds > 0.0 && !kept.proven);
        assert!(uniform(&values, 45.0).unwrap().repeated_seconds < 1e-12);
        let error = uniform(&values, 4.0).unwrap_err().to_string();
        assert!(error.contains("give at least 5"), "{error}");
    }

    #[cfg(feature = "ilp")]
    #[test]
    fn the_programme_finds_what_trying_everything_finds() {
        let mut values = chain(&[7.0, 2.0, 5.0, 5.0, 1.0, 8.0, 3.0, 2.0, 6.0, 1.0]);
        values[2].last_reader = 6;
        for budget in [39.5, 36.0, 31.0, 27.0] {
            let best = by_trying(&values, budget);
            let found = cheapest(&values, budget, 10.0);
            assert_eq!(found.as_ref().ok().map(|kept| kept.repeated_seconds), best, "{budget}: {found:?}");
            assert!(found.map_or(true, |kept| kept.proven && kept.peak_bytes <= budget), "{budget}");
        }
        assert!(matches!(cheapest(&values, 7.0, 10.0), Err(RematerialiseError::Budget { .. })));
    }
}
