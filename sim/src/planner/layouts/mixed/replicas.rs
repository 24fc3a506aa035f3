//! Unlike replicas: each class computes a share of the batch with a layout of its own.

use std::collections::HashMap;
use std::time::Instant;

use cutplane_plan::StopReason;

use super::super::bound::device_seconds;
use super::super::error::LayoutError;
use super::super::outcome::Candidate;
use super::super::problem::{LayoutBudget, LayoutProblem};
use super::super::search::{Attempt, attempt};
use super::super::space::Space;
use super::super::times::{Clock, Pieces};
use super::pipelines::must_stop;
use super::problem::MixedProblem;
use super::ranked::{cutoff, insert};
use crate::estimate::EstimateError;

/// The shares of a plan: class, samples, layout.
pub(super) type Shares = Vec<(usize, u64, Candidate)>;

/// What a search of shares leaves.
pub(super) struct Replicas {
    /// The best divisions of the batch with their step times, s, best first; at most as many as were asked for.
    pub(super) best: Vec<(f64, Shares)>,
    /// No shares are faster, s.
    pub(super) bound: f64,
    pub(super) searches: u64,
    pub(super) stop: Option<StopReason>,
}

/// What is known of one class with one share.
#[derive(Clone)]
struct Known {
    /// No layout is faster, s.
    bound: f64,
    /// The best one; `None` when nothing fits.
    best: Option<Candidate>,
}

struct Search<'p, 'a> {
    problem: &'p MixedProblem<'a>,
    caps: &'p [u64],
    budget: &'p LayoutBudget<'p>,
    started: Instant,
    known: HashMap<(usize, u64), Known>,
}

/// Searches shares that take less than `limit` seconds.
///
/// # Errors
/// [`LayoutError`] when the model cannot be priced.
pub(super) fn search(
    problem: &MixedProblem<'_>,
    caps: &[u64],
    limit: f64,
    budget: &LayoutBudget<'_>,
    started: Instant,
) -> Result<Replicas, LayoutError> {
    let mut search = Search { problem, caps, budget, started, known: HashMap::new() };
    let mut found = Replicas { best: Vec::new(), bound: f64::INFINITY, searches: 0, stop: None };
    for (bound, shares) in search.divisions()? {
        let best = cutoff(&found.best, budget.top_k, |(seconds, _)| *seconds).unwrap_or(limit);
        // Without anything to compare with, whatever fits is wanted.
        let target = if best.is_finite() { best * (1.0 - budget.relative_gap.clamp(0.0, 1.0)) } else { best };
        found.stop = must_stop(budget, started);
        if bound >= target || found.stop.is_some() {
            // Divisions are sorted: this bound holds for all that are left.
            found.bound = found.bound.min(bound);
            found.stop = found.stop.filter(|_| bound < target);
            break;
        }
        let (known, least) = search.divide(&shares, target)?;
        found.bound = found.bound.min(least);
        if let Some((seconds, shares)) = known.filter(|(seconds, _)| *seconds < best) {
            insert(&mut found.best, (seconds, shares), budget.top_k, |(seconds, _)| *seconds);
        }
    }
    found.searches = search.known.len() as u64;
    Ok(found)
}

impl Search<'_, '_> {
    /// Every division of the batch over classes, as steps of samples, with a step time that it does not beat, s.
    fn divisions(&self) -> Result<Vec<(f64, Vec<u64>)>, EstimateError> {
        let step = self.problem.share_step();
        let parts = self.problem.global_batch / step;
        let least = self.least_seconds(step, parts)?;
        let mut all = Vec::new();
        for shares in compositions(parts, self.problem.classes.len()) {
            let longest = shares.iter().zip(&least).map(|(share, class)| class[*share as usize]).fold(0.0, f64::max);
            if longest.is_finite() {
                let samples = shares.iter().map(|share| share * step).collect();
                all.push((longest + self.exchange_seconds(&shares), samples));
            }
        }
        all.sort_by(|a, b| a.0.total_cmp(&b.0));
        Ok(all)
    }

    /// The exchange of gradients of a division: all devices of a class that are taken forward them, used or not.
    fn exchange_seconds(&self, shares: &[u64]) -> f64 {
        let most = |(class, share): (usize, &u64)| if *share == 0 { 0 } else { self.problem.devices(class, self.caps) };
        self.problem.exchange_seconds(&shares.iter().enumerate().map(most).collect::<Vec<_>>())
    }

    /// What each class takes at least for each share, from what its operators compute, s.
    fn least_seconds(&self, step: u64, parts: u64) -> Result<Vec<Vec<f64>>, EstimateError> {
        let pieces = Pieces::of(self.problem.model);
        let mut all = Vec::new();
        for class in 0..self.problem.classes.len() {
            let devices = self.problem.devices(class, self.caps) as f64;
            let whole = self.problem.class(class, self.problem.global_batch);
            let clock = Clock::new(&whole, &pieces);
            let mut of_class = vec![0.0];
            for part in 1..=parts {
                let space = Space::new(&self.problem.class(class, part * step));
                let mut least = f64::INFINITY;
                for arithmetic in space.arithmetics() {
                    let times = clock.times(&arithmetic, &space)?;
                    least = least.min(device_seconds(&times, &arithmetic, &space) / devices);
                }
                of_class.push(least);
            }
            all.push(of_class);
        }
        Ok(all)
    }

    /// The best layouts of a division, and a bound of all, s; layouts are not looked for once their bound reaches `target`.
    fn divide(&mut self, samples: &[u64], target: f64) -> Result<(Option<(f64, Shares)>, f64), LayoutError> {
        let (mut longest, mut bound, mut shares) = (0.0_f64, 0.0_f64, Shares::new());
        for (class, &samples) in samples.iter().enumerate().filter(|(_, samples)| **samples > 0) {
            let known = self.of_class(class, samples)?;
            bound = bound.max(known.bound);
            let Some(best) = known.best.filter(|_| known.bound < target) else { return Ok((None, bound)) };
            longest = longest.max(best.seconds());
            shares.push((class, samples, best));
        }
        let exchange = self.exchange_seconds(samples);
        Ok((Some((longest + exchange, shares)), bound + exchange))
    }

    fn of_class(&mut self, class: usize, samples: u64) -> Result<Known, LayoutError> {
        if let Some(known) = self.known.get(&(class, samples)) {
            return Ok(known.clone());
        }
        let mut problem: LayoutProblem<'_> = self.problem.class(class, samples);
        let cap = self.problem.devices(class, self.caps);
        if cap < problem.devices() {
            problem.pins.devices = Some(cap);
        }
        let time_limit = self.budget.time_limit.saturating_sub(self.started.elapsed());
        let budget = LayoutBudget { time_limit, top_k: 1, progress: None, ..*self.budget };
        let known = match attempt(&problem, &budget) {
            Ok(Attempt::Found(outcome)) => Known { bound: outcome.bound, best: Some(outcome.chosen().clone()) },
            Ok(Attempt::Nothing(_)) => Known { bound: f64::INFINITY, best: None },
            Err(LayoutError::NoIncumbent { .. }) => Known { bound: 0.0, best: None },
            Err(other) => return Err(other),
        };
        self.known.insert((class, samples), known.clone());
        Ok(known)
    }
}

/// Every way to write `parts` as a sum of `classes` numbers from zero.
pub(super) fn compositions(parts: u64, classes: usize) -> Vec<Vec<u64>> {
    if classes <= 1 {
        return vec![vec![parts; classes]];
    }
    let with =
        |first: u64| compositions(parts - first, classes - 1).into_iter().map(move |rest| [vec![first], rest].concat());
    (0..=parts).flat_map(with).collect()
}
