//! What a stretch of layers costs as a stage of each class, and what of it must be recomputed to fit.

use std::cell::RefCell;
use std::collections::HashMap;

use super::super::pins::RecomputeChoice;
use super::problem::{MixedProblem, nanos};
use crate::estimate::{EstimateError, Estimator, Layout, Recompute, StagePrice};
use crate::footprint::{Counter, Footprint};

/// Prices and memory of stages, for all layouts of a problem.
pub(super) struct Stages<'a> {
    pub(super) problem: &'a MixedProblem<'a>,
    estimators: Vec<Estimator<'a>>,
    counter: Counter<'a>,
    /// Layers of the model.
    pub(super) layers: usize,
    /// Whether all layers are alike, so that only their number matters.
    alike: bool,
    /// The stage that comes nearest to fitting.
    pub(super) nearest: RefCell<Option<Miss>>,
}

/// A stage that does not fit.
#[derive(Clone, Debug)]
pub(super) struct Miss {
    pub(super) class: usize,
    pub(super) layout: Layout,
    pub(super) stage: usize,
    pub(super) footprint: Footprint,
    /// Needed over available, less one.
    overrun: f64,
}

/// A stage that fits; ns.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Priced {
    pub(super) time: u64,
    pub(super) tail: u64,
    pub(super) recompute: Recompute,
    pub(super) memory: u64,
}

/// Layers `first..end`, with so many stages from this one to the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Stretch {
    pub(super) first: usize,
    pub(super) end: usize,
    pub(super) ahead: usize,
}

impl<'a> Stages<'a> {
    pub(super) fn new(problem: &'a MixedProblem<'a>) -> Self {
        let estimator =
            |class: &super::MixedClass<'a>| Estimator::new(problem.model, class.gpu, class.fabric, class.stack);
        let layers = problem.model.blocks.iter().filter(|block| block.is_layer);
        Self {
            problem,
            estimators: problem.classes.iter().map(estimator).collect(),
            counter: Counter::new(problem.graph, problem.keeping),
            layers: problem.model.layers() as usize,
            alike: layers.count() == 1,
            nearest: RefCell::new(None),
        }
    }

    /// What one layout's stages cost.
    pub(super) fn of<'s>(&'s self, layout: &'s Layout) -> LayoutStages<'s, 'a> {
        LayoutStages { stages: self, layout, known: RefCell::default() }
    }

    fn note(&self, class: usize, layout: &Layout, stage: usize, footprint: Footprint) {
        let capacity = self.problem.classes[class].device_memory;
        let overrun = footprint.stages[stage].parts.total() / footprint.room(capacity).max(1.0) - 1.0;
        let mut nearest = self.nearest.borrow_mut();
        if nearest.as_ref().is_none_or(|known| overrun < known.overrun) {
            *nearest = Some(Miss { class, layout: layout.clone(), stage, footprint, overrun });
        }
    }
}

/// What the stages of one layout cost.
pub(super) struct LayoutStages<'s, 'a> {
    stages: &'s Stages<'a>,
    pub(super) layout: &'s Layout,
    known: RefCell<HashMap<(usize, Stretch), Option<Priced>>>,
}

impl LayoutStages<'_, '_> {
    /// A stretch of layers on a class with the cheapest recomputation that fits; `None` when nothing fits.
    ///
    /// # Errors
    /// [`EstimateError`] when the model cannot be priced.
    pub(super) fn get(&self, class: usize, stretch: Stretch) -> Result<Option<Priced>, EstimateError> {
        let key = (class, self.canonical(stretch));
        if let Some(known) = self.known.borrow().get(&key) {
            return Ok(*known);
        }
        let priced = self.price(class, key.1)?;
        self.known.borrow_mut().insert(key, priced);
        Ok(priced)
    }

    /// Whether all stages recompute in one way.
    pub(super) fn recompute_is_pinned(&self) -> bool {
        self.stages.problem.pins.recompute.is_some()
    }

    /// Stretches that cost the same are one. A stage never holds more micro-batches than there are.
    fn canonical(&self, stretch: Stretch) -> Stretch {
        let Stretch { first, end, ahead } = stretch;
        let held = ahead.min(self.layout.micro_batches() as usize);
        let ahead = if end < self.stages.layers { held.max(2) } else { held };
        let inside = first > 0 && end < self.stages.layers && self.stages.alike;
        if inside { Stretch { first: 1, end: 1 + end - first, ahead } } else { Stretch { first, end, ahead } }
    }

    fn price(&self, class: usize, stretch: Stretch) -> Result<Option<Priced>, EstimateError> {
        let count = (stretch.end - stretch.first) as u64;
        let pin = self.stages.problem.pins.recompute;
        let allowed = |choice: RecomputeChoice| pin.is_none_or(|pin| pin == choice);
        if allowed(RecomputeChoice::None)
            && let Some(priced) = self.fitting(class, stretch, Recompute::None)?
        {
            return Ok(Some(priced));
        }
        let mut best: Option<Priced> = None;
        let mut offer = |priced: Option<Priced>| {
            if let Some(priced) = priced.filter(|priced| best.is_none_or(|best| priced.time < best.time)) {
                best = Some(priced);
            }
        };
        if allowed(RecomputeChoice::Selective) {
            offer(self.fitting(class, stretch, Recompute::Selective)?);
        }
        if allowed(RecomputeChoice::Full) {
            offer(self.fitting(class, stretch, Recompute::Full)?);
        }
        if allowed(RecomputeChoice::Layers) && count > 1 {
            offer(self.fewest(class, stretch, count - 1)?);
        }
        Ok(best)
    }

    /// The fewest recomputed layers, from one to `most`, that fit.
    fn fewest(&self, class: usize, stretch: Stretch, most: u64) -> Result<Option<Priced>, EstimateError> {
        if !self.fits(class, stretch, Recompute::Layers(most))? {
            return Ok(None);
        }
        let (mut too_few, mut enough) = (0, most);
        while enough - too_few > 1 {
            let middle = u64::midpoint(too_few, enough);
            if self.fits(class, stretch, Recompute::Layers(middle))? { enough = middle } else { too_few = middle }
        }
        self.fitting(class, stretch, Recompute::Layers(enough))
    }

    fn fits(&self, class: usize, stretch: Stretch, recompute: Recompute) -> Result<bool, EstimateError> {
        Ok(self.memory(class, stretch, recompute)?.is_some())
    }

    /// Bytes on each device, when it fits.
    fn memory(&self, class: usize, stretch: Stretch, recompute: Recompute) -> Result<Option<u64>, EstimateError> {
        let (layout, stage) = self.around(stretch, recompute, stretch.ahead);
        let footprint = self.stages.counter.count(&layout)?;
        let needed = footprint.stages[stage].parts.total();
        if needed > footprint.room(self.stages.problem.classes[class].device_memory) {
            self.stages.note(class, &layout, stage, footprint);
            return Ok(None);
        }
        Ok(Some((needed * footprint.fragmentation + footprint.context) as u64))
    }

    fn fitting(&self, class: usize, stretch: Stretch, recompute: Recompute) -> Result<Option<Priced>, EstimateError> {
        let Some(memory) = self.memory(class, stretch, recompute)? else { return Ok(None) };
        let (layout, stage) = self.around(stretch, recompute, 2);
        let (prices, _) = self.stages.estimators[class].stage_prices(&layout)?;
        let StagePrice { seconds, tail } = prices[stage];
        Ok(Some(Priced { time: nanos(seconds), tail: nanos(tail), recompute, memory }))
    }

    /// A layout in which the stretch is a stage, with `ahead` stages from it to the last, and the stage's number: the layers
    /// before it are one stage, those behind it are spread evenly.
    fn around(&self, stretch: Stretch, recompute: Recompute, ahead: usize) -> (Layout, usize) {
        let behind = self.stages.layers - stretch.end;
        let rest = if behind == 0 { 0 } else { (ahead - 1).clamp(1, behind) };
        let mut split: Vec<u64> = Vec::with_capacity(rest + 2);
        split.extend((stretch.first > 0).then_some(stretch.first as u64));
        split.push((stretch.end - stretch.first) as u64);
        split.extend((0..rest).map(|at| (behind / rest + usize::from(at < behind % rest)) as u64));
        let pp = split.len() as u64;
        let stage_split = (pp > 1).then_some(split);
        (Layout { pp, recompute, stage_split, ..self.layout.clone() }, usize::from(stretch.first > 0))
    }

    /// What a message between stages of two classes costs: the time that its link is busy, ns.
    ///
    /// # Errors
    /// [`EstimateError`] when the model cannot be priced.
    pub(super) fn hops(&self) -> Result<Vec<Vec<u64>>, EstimateError> {
        let problem = self.stages.problem;
        let crossing = problem.crossing_seconds(self.layout);
        let two = Layout { pp: 2, stage_split: None, ..self.layout.clone() };
        let own = self.stages.estimators.iter().map(|estimator| estimator.stage_prices(&two).map(|(_, hop)| hop));
        // One layer alone has no neighbour.
        let own: Vec<f64> =
            if self.stages.layers < 2 { vec![0.0; problem.classes.len()] } else { own.collect::<Result<_, _>>()? };
        let hop = |from: usize, to: usize| if from == to { own[from] } else { crossing.max(own[from]).max(own[to]) };
        let classes = 0..problem.classes.len();
        Ok(classes.clone().map(|from| classes.clone().map(|to| nanos(hop(from, to))).collect()).collect())
    }
}
