//! What one micro-batch costs each block on one device: what the bounds are made of.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use super::space::{Arithmetic, Space};
use crate::estimate::{EstimateError, Estimator, FoldedModel, Layout, Recompute};

use super::problem::LayoutProblem;

/// Each block of a model as a model of its own.
#[derive(Clone, Debug)]
pub(super) struct Pieces {
    models: Vec<FoldedModel>,
}

impl Pieces {
    pub(super) fn of(model: &FoldedModel) -> Self {
        let alone = |block: &crate::estimate::Block| FoldedModel {
            name: model.name.clone(),
            // Seen as a layer, so that its two passes can be asked for.
            blocks: vec![crate::estimate::Block { repeats: 1, is_layer: true, ..block.clone() }],
            tied_parameters: 0,
            sequence_length: model.sequence_length,
        };
        Self { models: model.blocks.iter().map(alone).collect() }
    }
}

/// Times of a stretch of a stage over one micro-batch, s.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Span {
    pub(super) forward: f64,
    pub(super) backward: f64,
    /// Part of the backward pass that only the optimizer waits for.
    pub(super) weight: f64,
}

impl Span {
    pub(super) fn both(self) -> f64 {
        self.forward + self.backward
    }

    fn plus(self, other: Self, times: f64) -> Self {
        Self {
            forward: self.forward + other.forward * times,
            backward: self.backward + other.backward * times,
            weight: self.weight + other.weight * times,
        }
    }
}

/// Times of a whole model over one micro-batch, without communication between stages and replicas.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Times {
    /// Before the first layer.
    pub(super) front: Span,
    /// Behind the last layer.
    pub(super) back: Span,
    /// Runs of equal layers: how many, each of them; what stands between two runs goes with the last layer before it.
    pub(super) runs: Vec<(u64, Span)>,
    /// Everything, s.
    pub(super) total: f64,
    /// Largest share that the shorter pass can have of a stage.
    pub(super) shorter: f64,
}

impl Times {
    fn new(model: &FoldedModel, spans: &[Span]) -> Self {
        let (mut front, mut back, mut runs) = (Span::default(), Span::default(), Vec::<(u64, Span)>::new());
        let last = model.blocks.iter().rposition(|block| block.is_layer);
        for (index, (block, span)) in model.blocks.iter().zip(spans).enumerate() {
            match last {
                _ if block.is_layer => runs.push((block.repeats, *span)),
                Some(last) if index > last => back = back.plus(*span, block.repeats as f64),
                _ if runs.is_empty() => front = front.plus(*span, block.repeats as f64),
                _ => between(&mut runs, *span, block.repeats as f64),
            }
        }
        let all = spans.iter().zip(&model.blocks);
        let total = all.map(|(span, block)| span.both() * block.repeats as f64).sum();
        let share = |pass: fn(&Span) -> f64| {
            let shares = spans.iter().filter(|span| span.both() > 0.0).map(|span| pass(span) / span.both());
            shares.fold(0.0, f64::max)
        };
        let shorter = share(|span| span.forward).min(share(|span| span.backward));
        Self { front, back, runs, total, shorter }
    }

    /// Time of a stretch of layers, and of what belongs to the ends where they are in it.
    fn layers(&self, first: u64, end: u64) -> Span {
        let (mut at, mut sum) = (0, Span::default());
        for (count, span) in &self.runs {
            let here = (at + count).min(end).saturating_sub(at.max(first));
            sum = sum.plus(*span, here as f64);
            at += count;
        }
        sum
    }

    /// Times of each pipeline device when chunk `c` of a split lies on device `c mod pp`.
    pub(super) fn devices(&self, split: &[u64], pp: u64) -> Vec<Span> {
        let mut devices = vec![Span::default(); pp as usize];
        let (mut first, chunks) = (0, split.len());
        for (chunk, layers) in split.iter().enumerate() {
            let device = &mut devices[chunk % pp as usize];
            *device = device.plus(self.layers(first, first + layers), 1.0);
            if chunk == 0 {
                *device = device.plus(self.front, 1.0);
            }
            if chunk + 1 == chunks {
                *device = device.plus(self.back, 1.0);
            }
            first += layers;
        }
        devices
    }

    /// No split over `pp` devices has a shorter longest device than this, s.
    ///
    /// With equal layers, the devices hold whole numbers of them: the least limit under which they have room for all.
    /// Otherwise the mean.
    pub(super) fn least_busiest(&self, pp: u64) -> f64 {
        let mean = self.total / pp as f64;
        let [(layers, span)] = self.runs.as_slice() else { return mean };
        let each = span.both();
        if pp == 1 || each <= 0.0 {
            return mean;
        }
        let (front, back) = (self.front.both(), self.back.both());
        let room = |limit: f64| {
            let of = |spare: f64| if spare < 0.0 { f64::NEG_INFINITY } else { (spare / each * (1.0 + 1e-12)).floor() };
            of(limit - front) + of(limit - back) + (pp - 2) as f64 * of(limit)
        };
        let (mut low, mut high) = (mean, self.total);
        for _ in 0..50 {
            let middle = f64::midpoint(low, high);
            if room(middle) >= *layers as f64 { high = middle } else { low = middle }
        }
        low
    }
}

/// What stands between two runs goes with the last layer before it.
fn between(runs: &mut Vec<(u64, Span)>, span: Span, times: f64) {
    let Some((count, layer)) = runs.last().copied() else { return };
    runs.pop();
    if count > 1 {
        runs.push((count - 1, layer));
    }
    runs.push((1, layer.plus(span, times)));
}

/// Prices blocks, each arithmetic once.
#[derive(Debug)]
pub(super) struct Clock<'a> {
    model: &'a FoldedModel,
    estimators: Vec<Estimator<'a>>,
    known: RefCell<HashMap<Arithmetic, Rc<Times>>>,
}

impl<'a> Clock<'a> {
    pub(super) fn new(problem: &LayoutProblem<'a>, pieces: &'a Pieces) -> Self {
        let estimator = |model| Estimator::new(model, problem.gpu, problem.fabric, problem.stack);
        Self {
            model: problem.model,
            estimators: pieces.models.iter().map(estimator).collect(),
            known: RefCell::default(),
        }
    }

    /// # Errors
    /// [`EstimateError`] when an operator has no price.
    pub(super) fn times(&self, arithmetic: &Arithmetic, space: &Space) -> Result<Rc<Times>, EstimateError> {
        if let Some(known) = self.known.borrow().get(arithmetic) {
            return Ok(Rc::clone(known));
        }
        let layout = space.priced_alone(arithmetic);
        let replicas = if arithmetic.whole_experts { arithmetic.tp * arithmetic.cp } else { arithmetic.cp };
        let dp = arithmetic.ep / gcd(arithmetic.ep, replicas);
        let layout = Layout { dp, global_batch: dp * layout.micro_batch, ..layout };
        let spans = self.estimators.iter().zip(&self.model.blocks);
        let spans = spans.map(|(estimator, block)| span(estimator, &layout, block.is_layer));
        let times = Rc::new(Times::new(self.model, &spans.collect::<Result<Vec<_>, _>>()?));
        self.known.borrow_mut().insert(*arithmetic, Rc::clone(&times));
        Ok(times)
    }
}

/// One block on one device; what is not a layer is never recomputed.
fn span(estimator: &Estimator<'_>, layout: &Layout, is_layer: bool) -> Result<Span, EstimateError> {
    let recompute = if is_layer { layout.recompute } else { Recompute::None };
    let layout = Layout { recompute, ..layout.clone() };
    let (forward, backward) = estimator.layer(&layout)?;
    let weight = estimator.weight_gradient_seconds(&layout)?;
    Ok(Span { forward: forward.seconds, backward: backward.seconds, weight })
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}
