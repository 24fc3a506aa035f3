//! One point of the space: which splits of it fit, and what the best of them costs.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use super::bound::{self, Waited};
use super::outcome::Candidate;
use super::pins::RecomputeChoice;
use super::space::{Arithmetic, Grid, Sharing, Space, Timing};
use super::splits;
use super::tally::Tally;
use super::times::{Clock, Times};
use crate::estimate::{EstimateError, Estimator, Layout, Offload, Recompute, Zero, ZeroStage};
use crate::footprint::{Counter, Footprint};

use super::problem::LayoutProblem;

/// Prices layouts and counts their memory.
#[derive(Debug)]
pub(super) struct Appraiser<'a> {
    pub(super) problem: &'a LayoutProblem<'a>,
    pub(super) space: Space,
    pub(super) clock: Clock<'a>,
    estimator: Estimator<'a>,
    counter: Counter<'a>,
    /// Splits over devices of one chunk, by arithmetic and devices.
    families: RefCell<HashMap<(Arithmetic, u64), Family>>,
}

/// A point whose split, sharding and recomputed layers are still open.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leaf {
    pub(super) arithmetic: Arithmetic,
    pub(super) grid: Grid,
    pub(super) timing: Timing,
}

/// The searched splits.
type Family = Rc<[Vec<u64>]>;

/// A split of a leaf with a bound of its step time, s.
type Bounded = (f64, Vec<u64>);

impl<'a> Appraiser<'a> {
    pub(super) fn new(problem: &'a LayoutProblem<'a>, clock: Clock<'a>) -> Self {
        let estimator = Estimator::new(problem.model, problem.gpu, problem.fabric, problem.stack);
        let counter = Counter::new(problem.graph, problem.keeping);
        Self { problem, space: Space::new(problem), clock, estimator, counter, families: RefCell::default() }
    }

    pub(super) fn times(&self, arithmetic: &Arithmetic) -> Result<Rc<Times>, EstimateError> {
        self.clock.times(arithmetic, &self.space)
    }

    /// A schedule with the message that each of its passes waits for.
    pub(super) fn waited(&self, arithmetic: &Arithmetic, grid: &Grid, timing: Timing) -> Waited {
        let plain = Sharing { zero: Zero::default(), offload: Offload::None };
        let message = self.estimator.waited_seconds(&self.space.layout(arithmetic, grid, &timing, &plain));
        Waited { timing, message }
    }

    /// What a step of `seconds` of a point is worth.
    pub(super) fn value(&self, seconds: f64, devices: u64) -> f64 {
        self.problem.objective.value(seconds, devices as f64, self.problem.dollars_per_device_hour)
    }

    /// Offers the best candidate of every sharding of a leaf that is worth less than `tally.cutoff()`.
    ///
    /// # Errors
    /// [`EstimateError`] when the model cannot be priced at all.
    pub(super) fn appraise(&self, leaf: &Leaf, tally: &mut Tally) -> Result<(), EstimateError> {
        let devices = Space::devices_of(&leaf.arithmetic, &leaf.grid);
        let splits = self.splits(leaf)?;
        let sharings = self.space.sharings(&leaf.arithmetic, &leaf.grid);
        if sharings.is_empty() {
            return Ok(());
        }
        let mut best: Vec<Option<Candidate>> = vec![None; sharings.len()];
        for (bound, split) in &splits {
            if self.value(*bound, devices) >= tally.cutoff() {
                tally.counts.cut_by_bound += 1;
                break;
            }
            let Some(recompute) = self.least_recompute(leaf, split, tally)? else { continue };
            let Some(least) = self.least_seconds(leaf, split, recompute, tally)? else { continue };
            self.share(leaf, split, least, &sharings, &mut best, tally)?;
        }
        best.into_iter().flatten().for_each(|best| tally.offer(best));
        Ok(())
    }

    /// Improves the best candidate of each sharding by those of one split, none of which takes less than `least` seconds.
    fn share(
        &self,
        leaf: &Leaf,
        split: &[u64],
        least: f64,
        sharings: &[Sharing],
        best: &mut [Option<Candidate>],
        tally: &mut Tally,
    ) -> Result<(), EstimateError> {
        let Leaf { arithmetic, grid, timing } = leaf;
        let devices = Space::devices_of(arithmetic, grid);
        let m = bound::micro_batches(arithmetic, grid, &self.space);
        let whole = self.space.frugal(ZeroStage::Two);
        let whole_fits = !sharings.iter().any(shards_parameters) || self.fits(leaf, split, &whole, tally)?.is_some();
        // Step times with the optimizer on the device, less that of the optimizer: moving it leaves the rest as it is.
        let mut without_optimizer: Vec<(Zero, f64)> = Vec::new();
        let mut too_slow: Vec<Zero> = Vec::new();
        for (sharing, best) in sharings.iter().zip(best) {
            if !whole_fits && !shards_parameters(sharing) {
                continue;
            }
            let cutoff = best.as_ref().map_or(tally.cutoff(), |best| best.value.min(tally.cutoff()));
            let cut = |seconds: f64| self.value(seconds, devices) >= cutoff;
            if cut(least) || too_slow.contains(&sharing.zero) {
                tally.counts.cut_by_bound += 1;
                continue;
            }
            let layout = with_split(self.space.layout(arithmetic, grid, timing, sharing), split);
            // Memory first: where it binds, most layouts that are fast enough do not fit, and that is told sooner.
            let most_frugal = self.most_frugal(arithmetic.recompute, layout.clone(), split, tally)?;
            let Some(most_frugal) = most_frugal else { continue };
            let shared = self.estimator.shared(&layout)?;
            let passes = shared.stages.map_or(least, |stages| least.max(bound::of_stages(stages, *timing, grid.pp, m)));
            if cut(passes) {
                too_slow.push(sharing.zero);
            }
            // More recomputed layers leave gradients more of a pass to travel beside.
            let gradients = if arithmetic.recompute == RecomputeChoice::Layers { 0.0 } else { shared.gradients };
            let twin = without_optimizer.iter().find(|(zero, _)| *zero == sharing.zero);
            if cut((passes + gradients).max(twin.map_or(0.0, |(_, seconds)| *seconds)) + shared.update) {
                tally.counts.cut_by_bound += 1;
                continue;
            }
            let Some(found) = self.candidate(arithmetic.recompute, most_frugal, split, tally)? else { continue };
            if sharing.offload == Offload::None && arithmetic.recompute != RecomputeChoice::Layers {
                without_optimizer.push((sharing.zero, found.seconds() - shared.update));
            }
            if best.as_ref().is_none_or(|best| found.value < best.value) {
                *best = Some(found);
            }
        }
        Ok(())
    }

    /// No sharding makes a split of a leaf faster than this, s: its passes without gradients and optimizer, so much recomputed.
    /// `None` when the estimator refuses it, or when it cannot be among the best.
    fn least_seconds(
        &self,
        leaf: &Leaf,
        split: &[u64],
        recompute: Recompute,
        tally: &mut Tally,
    ) -> Result<Option<f64>, EstimateError> {
        let Leaf { arithmetic, grid, timing } = leaf;
        if let Recompute::Layers(some) = recompute {
            let (times, m) = (self.times(arithmetic)?, bound::micro_batches(arithmetic, grid, &self.space));
            let bound = bound::of_split(&times, self.waited(arithmetic, grid, *timing), grid.pp, m, split, some);
            if self.value(bound, Space::devices_of(arithmetic, grid)) >= tally.cutoff() {
                tally.counts.cut_by_bound += 1;
                return Ok(None);
            }
        }
        let plain = Sharing { zero: Zero::default(), offload: Offload::None };
        let layout = with_split(self.space.layout(arithmetic, grid, timing, &plain), split);
        tally.counts.priced += 1;
        match self.estimator.passes_seconds(&Layout { recompute, ..layout }) {
            Ok(passes) => Ok(Some(passes)),
            Err(EstimateError::Inconsistent { .. }) => {
                tally.counts.refused += 1;
                Ok(None)
            }
            Err(other) => Err(other),
        }
    }

    /// The recomputation of a split that no sharding fits with less of: where layers are recomputed singly, as many of each
    /// stage as the most frugal sharding needs. `None` when nothing fits.
    fn least_recompute(
        &self,
        leaf: &Leaf,
        split: &[u64],
        tally: &mut Tally,
    ) -> Result<Option<Recompute>, EstimateError> {
        let Some(layout) = self.fits(leaf, split, &self.space.frugal(ZeroStage::Three), tally)? else {
            tally.counts.cut_by_memory += 1;
            return Ok(None);
        };
        if leaf.arithmetic.recompute != RecomputeChoice::Layers {
            return Ok(Some(layout.recompute));
        }
        let (mut too_few, mut enough) = (0, most_layers(split, leaf.grid.pp));
        while enough - too_few > 1 {
            let middle = u64::midpoint(too_few, enough);
            let needed = self.footprint(&Layout { recompute: Recompute::Layers(middle), ..layout.clone() })?;
            if least(&needed) <= needed.room(self.problem.device_memory) {
                enough = middle;
            } else {
                too_few = middle;
            }
        }
        Ok(Some(Recompute::Layers(enough.max(1))))
    }

    /// The layout of a split with a sharding, when it fits with all recomputed that may be. What only sharding adds is left
    /// out: what does not fit so, fits with no sharding that leaves more on a device.
    fn fits(
        &self,
        leaf: &Leaf,
        split: &[u64],
        sharing: &Sharing,
        tally: &mut Tally,
    ) -> Result<Option<Layout>, EstimateError> {
        let Leaf { arithmetic, grid, timing } = leaf;
        let layout = with_split(self.space.layout(arithmetic, grid, timing, sharing), split);
        let singly = arithmetic.recompute == RecomputeChoice::Layers;
        let recompute = if singly { Recompute::Full } else { layout.recompute };
        let layout = Layout { recompute, ..layout };
        let needed = self.footprint(&layout)?;
        if least(&needed) <= needed.room(self.problem.device_memory) {
            return Ok(Some(layout));
        }
        tally.too_large(&layout, &needed);
        Ok(None)
    }

    /// The splits of a leaf, most promising first.
    fn splits(&self, leaf: &Leaf) -> Result<Vec<Bounded>, EstimateError> {
        let Leaf { arithmetic, grid, timing } = leaf;
        let times = self.times(arithmetic)?;
        let m = bound::micro_batches(arithmetic, grid, &self.space);
        let waited = self.waited(arithmetic, grid, *timing);
        let bound = |split: &Vec<u64>| (bound::of_split(&times, waited, grid.pp, m, split, 0), split.clone());
        let family = self.family(&times, leaf);
        let mut splits: Vec<Bounded> = family.iter().map(bound).collect();
        splits.sort_by(|a, b| a.0.total_cmp(&b.0));
        Ok(splits)
    }

    /// The searched splits of a leaf; with one chunk a device, all schedules and numbers of replicas have the same.
    fn family(&self, times: &Times, leaf: &Leaf) -> Family {
        let Leaf { arithmetic, grid: Grid { pp, .. }, timing: Timing { vpp, .. } } = *leaf;
        let family = || splits::family(times, self.space.layers(), pp, vpp).into();
        if vpp > 1 {
            return family();
        }
        Rc::clone(self.families.borrow_mut().entry((arithmetic, pp)).or_insert_with(family))
    }

    /// Whether weights, gradients and optimizer state fit however the layers are split, when all is sharded and offloaded
    /// that may be: their mean over the stages does.
    pub(super) fn state_fits(
        &self,
        arithmetic: &Arithmetic,
        grid: &Grid,
        tally: &mut Tally,
    ) -> Result<bool, EstimateError> {
        let timing = Timing { schedule: crate::estimate::PipelineSchedule::OneForwardOneBackward, vpp: 1 };
        let layout = self.space.layout(arithmetic, grid, &timing, &self.space.frugal(ZeroStage::Three));
        let layout = Layout { recompute: Recompute::Full, ..layout };
        let needed = self.footprint(&layout)?;
        let mean = needed.stages.iter().map(|stage| stage.parts.state()).sum::<f64>() / needed.stages.len() as f64;
        let fits = mean <= needed.room(self.problem.device_memory);
        if !fits {
            tally.too_large(&layout, &needed);
        }
        Ok(fits)
    }

    /// The layout with as much recomputed as its kind of recomputation may, and its footprint, when that fits. Of layers
    /// recomputed singly that is all but one of each stage: everything is a point of its own.
    fn most_frugal(
        &self,
        recompute: RecomputeChoice,
        layout: Layout,
        split: &[u64],
        tally: &mut Tally,
    ) -> Result<Option<(Layout, Footprint)>, EstimateError> {
        if recompute != RecomputeChoice::Layers {
            return self.fitting(layout, tally);
        }
        match most_layers(split, layout.pp) {
            0 | 1 => Ok(None),
            most => self.fitting(Layout { recompute: Recompute::Layers(most - 1), ..layout }, tally),
        }
    }

    /// Prices what a layout that fits with most recomputed needs to recompute.
    fn candidate(
        &self,
        recompute: RecomputeChoice,
        most_frugal: (Layout, Footprint),
        split: &[u64],
        tally: &mut Tally,
    ) -> Result<Option<Candidate>, EstimateError> {
        let fitting = match recompute {
            RecomputeChoice::Layers => self.fewest_layers(most_frugal, split, tally)?,
            _ => Some(most_frugal),
        };
        let Some((layout, footprint)) = fitting else { return Ok(None) };
        self.price(layout, footprint, tally)
    }

    /// The layout with its footprint, when it fits.
    fn fitting(&self, layout: Layout, tally: &mut Tally) -> Result<Option<(Layout, Footprint)>, EstimateError> {
        let footprint = self.footprint(&layout)?;
        tally.counts.checked += 1;
        if footprint.verdict(self.problem.device_memory).fits {
            return Ok(Some((layout, footprint)));
        }
        tally.too_large(&layout, &footprint);
        tally.counts.did_not_fit += 1;
        Ok(None)
    }

    /// The layout with the fewest recomputed layers of each stage that fits, at least one; none where nothing need be
    /// recomputed, which is a point of its own. All but one of each stage recomputed fits.
    fn fewest_layers(
        &self,
        mut best: (Layout, Footprint),
        split: &[u64],
        tally: &mut Tally,
    ) -> Result<Option<(Layout, Footprint)>, EstimateError> {
        let all = best.0.clone();
        let some = |count: u64| Layout { recompute: Recompute::Layers(count), ..all.clone() };
        if self.problem.pins.recompute.is_none() && self.fitting(some(0), tally)?.is_some() {
            return Ok(None);
        }
        let (mut too_few, mut enough) = (0, most_layers(split, all.pp) - 1);
        while enough - too_few > 1 {
            let middle = u64::midpoint(too_few, enough);
            match self.fitting(some(middle), tally)? {
                Some(found) => (best, enough) = (found, middle),
                None => too_few = middle,
            }
        }
        Ok(Some(best))
    }

    /// Prices a layout that fits; `None` when the estimator refuses it as inconsistent.
    fn price(
        &self,
        layout: Layout,
        footprint: Footprint,
        tally: &mut Tally,
    ) -> Result<Option<Candidate>, EstimateError> {
        tally.counts.priced += 1;
        match self.estimator.estimate(&layout) {
            Ok(estimate) => {
                let value = self.value(estimate.predicted.seconds, layout.devices());
                Ok(Some(Candidate { value, layout, estimate, footprint }))
            }
            Err(EstimateError::Inconsistent { .. }) => {
                tally.counts.refused += 1;
                Ok(None)
            }
            Err(other) => Err(other),
        }
    }

    fn footprint(&self, layout: &Layout) -> Result<Footprint, EstimateError> {
        self.counter.count(layout)
    }
}

fn shards_parameters(sharing: &Sharing) -> bool {
    sharing.zero.stage == ZeroStage::Three
}

/// Layers of the device that holds most.
fn most_layers(split: &[u64], pp: u64) -> u64 {
    let of_device = |device: usize| split.iter().skip(device).step_by(pp as usize).sum::<u64>();
    (0..pp as usize).map(of_device).max().unwrap_or(0)
}

fn with_split(mut layout: Layout, split: &[u64]) -> Layout {
    layout.stage_split = (layout.pp > 1).then(|| split.to_vec());
    layout
}

/// Bytes of the fullest device without what other shardings would not need.
fn least(footprint: &Footprint) -> f64 {
    let needed = footprint.stages.iter().map(|stage| {
        let parts = &stage.parts;
        parts.total() - parts.gathered - parts.spike - parts.buckets
    });
    needed.fold(0.0, f64::max)
}
