//! The dynamic program over layers and counts of devices.
//!
//! `f(u, i, c)` is the least time of the way from layer `i` to the last through stages on `u_1, u_2, ...` stages of each
//! class, the first of them on class `c`:
//!
//! ```text
//! f(u, i, c) = min over ends e of  t_c(i, e) + min over c' of  2 h(c, c') + f(u - 1_c, e, c')
//! ```
//!
//! How many micro-batches a stage holds under 1F1B depends on the stages from it to the end, which `u` counts.

use super::stages::{LayoutStages, Priced, Stretch};
use crate::estimate::EstimateError;
use crate::planner::windows::Least;

const NEVER: u64 = u64::MAX;

/// A stage of a split: its class, the layer behind its last, and what it costs.
pub(super) type Cut = (usize, usize, Priced);

/// Which counts of stages there may be.
pub(super) struct Counts {
    /// Stages that each class has room for.
    capacities: Vec<usize>,
    /// All counts, fewest stages first.
    all: Vec<Vec<usize>>,
    /// Place of each count in `all` by its number in mixed radix.
    place: Vec<usize>,
}

impl Counts {
    /// Counts up to `capacities` of at most `most` stages in all.
    pub(super) fn new(capacities: Vec<usize>, most: usize) -> Self {
        let numbers: usize = capacities.iter().map(|capacity| capacity + 1).product();
        let digits = |mut number: usize| -> Vec<usize> {
            let digit = |capacity: &usize| {
                let digit = number % (capacity + 1);
                number /= capacity + 1;
                digit
            };
            capacities.iter().map(digit).collect()
        };
        let mut all: Vec<(usize, usize, Vec<usize>)> = (0..numbers)
            .map(|number| (number, digits(number)))
            .map(|(number, count)| (count.iter().sum(), number, count))
            .filter(|(sum, ..)| *sum <= most)
            .collect();
        all.sort_unstable_by_key(|(sum, number, _)| (*sum, *number));
        let mut place = vec![usize::MAX; numbers];
        for (at, (_, number, _)) in all.iter().enumerate() {
            place[*number] = at;
        }
        Self { all: all.into_iter().map(|(.., count)| count).collect(), place, capacities }
    }

    /// The place of a count with one stage of a class less.
    fn without(&self, count: &[usize], class: usize) -> usize {
        let mut number = 0;
        for (at, (stages, capacity)) in count.iter().zip(&self.capacities).enumerate().rev() {
            number = number * (capacity + 1) + stages - usize::from(at == class);
        }
        self.place[number]
    }
}

/// Limits and prices of one run of the program.
pub(super) struct Chain<'s, 'a> {
    pub(super) counts: &'s Counts,
    pub(super) stages: &'s LayoutStages<'s, 'a>,
    pub(super) layers: usize,
    /// Time that a message between two classes takes, ns.
    pub(super) hops: &'s [Vec<u64>],
    /// What plans of more than one stage pay besides, ns.
    pub(super) tied: u64,
    /// The number of stages, where it is fixed.
    pub(super) stage_count: Option<usize>,
}

/// Where the best way goes on: end of the stage, class of the next.
type Step = (usize, usize);

impl Chain<'_, '_> {
    /// The split of the least sum with period and tail at most `caps`, ns.
    ///
    /// # Errors
    /// [`EstimateError`] when the model cannot be priced.
    pub(super) fn least(&self, caps: (u64, u64)) -> Result<Option<Least<Vec<Cut>>>, EstimateError> {
        let classes = self.hops.len();
        let width = self.layers * classes;
        let mut cost = vec![NEVER; self.counts.all.len() * width];
        let mut next: Vec<Step> = vec![(0, 0); cost.len()];
        for (at, count) in self.counts.all.iter().enumerate().skip(1) {
            let ahead: usize = count.iter().sum();
            for class in (0..classes).filter(|class| count[*class] > 0) {
                let before = self.counts.without(count, class) * width;
                for first in (0..=self.layers.saturating_sub(ahead)).filter(|first| *first < self.layers) {
                    let rest = &cost[before..before + width];
                    let (value, step) = self.best_step(class, Stretch { first, end: 0, ahead }, rest, caps)?;
                    cost[at * width + first * classes + class] = value;
                    next[at * width + first * classes + class] = step;
                }
            }
        }
        let starts = (1..self.counts.all.len()).flat_map(|at| (0..classes).map(move |class| (at, class)));
        let allowed = |at: usize| self.stage_count.is_none_or(|pin| pin == self.counts.all[at].iter().sum::<usize>());
        let start = starts
            .filter(|(at, _)| allowed(*at))
            .map(|(at, class)| {
                let tied = if self.counts.all[at].iter().sum::<usize>() > 1 { self.tied } else { 0 };
                (cost[at * width + class].saturating_add(tied), at, class)
            })
            .min();
        let Some((traverse, at, class)) = start.filter(|(cost, ..)| *cost < NEVER) else { return Ok(None) };
        self.follow(traverse, (at, class), &next).map(Some)
    }

    /// The best end of a stage, and the best class behind it.
    fn best_step(
        &self,
        class: usize,
        start: Stretch,
        rest: &[u64],
        (period, tail): (u64, u64),
    ) -> Result<(u64, Step), EstimateError> {
        let classes = self.hops.len();
        let (mut best, mut step) = (NEVER, (0, 0));
        let ends =
            if start.ahead == 1 { self.layers..=self.layers } else { start.first + 1..=self.layers + 1 - start.ahead };
        for end in ends {
            // More layers neither take less time nor fit better, unless they must be recomputed in part: one alone is not.
            let Some(priced) = self.stages.get(class, Stretch { end, ..start })? else {
                if self.stages.recompute_is_pinned() {
                    continue;
                }
                break;
            };
            if priced.time > period {
                break;
            }
            if priced.tail > tail {
                continue;
            }
            if start.ahead == 1 {
                return Ok((priced.time, (end, class)));
            }
            for behind in (0..classes).filter(|behind| self.hops[class][*behind] <= period) {
                let way = rest[end * classes + behind].saturating_add(2 * self.hops[class][behind]);
                let value = way.saturating_add(priced.time);
                if value < best {
                    (best, step) = (value, (end, behind));
                }
            }
        }
        Ok((best, step))
    }

    fn follow(
        &self,
        traverse: u64,
        (mut at, mut class): (usize, usize),
        next: &[Step],
    ) -> Result<Least<Vec<Cut>>, EstimateError> {
        let classes = self.hops.len();
        let (mut first, mut split, mut period, mut tail) = (0, Vec::new(), 0, 0);
        while first < self.layers {
            let ahead = self.counts.all[at].iter().sum();
            let (end, behind) = next[(at * self.layers + first) * classes + class];
            if let Some(priced) = self.stages.get(class, Stretch { first, end, ahead })? {
                (period, tail) = (priced.time.max(period), priced.tail.max(tail));
                split.push((class, end, priced));
            }
            if end < self.layers {
                period = period.max(self.hops[class][behind]);
            }
            at = self.counts.without(&self.counts.all[at], class);
            (first, class) = (end, behind);
        }
        Ok(Least { traverse, period, tail, split })
    }
}
