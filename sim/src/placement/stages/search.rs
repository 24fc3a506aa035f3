//! The least time of the slowest stage: a bisection over that time, each step a dynamic programme over the sets of layers
//! that all successors are in, with the devices and the replicas behind as what must be least.

use std::collections::HashMap;

use super::memory::{Choice, Chosen, choose};
use super::{LayerVariant, Stage, StageUse, StagesError, StagesProblem};

/// Most sets of layers that a search goes through.
const MOST_SETS: usize = 4096;

/// What is left open between the answer and what is proven, over the answer.
const PRECISION: f64 = 1e-6;

/// A plan, and how good it is.
#[derive(Clone, Debug, PartialEq)]
pub struct StagedPlan {
    /// Its stages, first to last.
    pub stages: Vec<Stage>,
    /// Time and memory of each.
    pub uses: Vec<StageUse>,
    /// Time of a micro-batch in the slowest stage, s.
    pub seconds: f64,
    /// No plan is faster, s. Variants of a stage are chosen by a heuristic of the knapsack; its linear relaxation proves this.
    pub bound: f64,
}

/// Searches the plan with the fastest slowest stage.
///
/// # Errors
/// [`StagesError`] of the problem; [`StagesError::Infeasible`] when nothing fits.
pub fn search_stages(problem: &StagesProblem) -> Result<StagedPlan, StagesError> {
    problem.check()?;
    let search = Search { problem, sets: suffixes(problem)?, degrees: degrees(problem) };
    let infeasible = || StagesError::Infeasible { devices: problem.devices, memory: problem.memory };
    let first = search.stages(f64::INFINITY, false).ok_or_else(infeasible)?;
    let (stages, seconds) = search.bisect(search.work_bound(), first)?;
    let bound = search.proven(seconds);
    let uses = problem.evaluate(&stages)?;
    Ok(StagedPlan { stages, uses, seconds, bound })
}

fn degrees(problem: &StagesProblem) -> Vec<u64> {
    let divides = |degree: &u64| problem.micro_batches.is_none_or(|count| count.is_multiple_of(*degree));
    (1..=problem.devices).filter(divides).collect()
}

/// All sets of layers that hold all successors of their members, smaller ones first.
fn suffixes(problem: &StagesProblem) -> Result<Vec<u128>, StagesError> {
    let count = problem.layers.len();
    let after = |layer: usize| {
        let next = problem.edges.iter().filter(move |(from, _, _)| *from == layer);
        next.fold(0_u128, |set, (_, to, _)| set | 1 << to)
    };
    let successors: Vec<u128> = (0..count).map(after).collect();
    let mut sets = vec![0_u128];
    let mut known: std::collections::HashSet<u128> = sets.iter().copied().collect();
    let mut at = 0;
    while let Some(set) = sets.get(at).copied() {
        at += 1;
        for (layer, next) in successors.iter().enumerate() {
            let grown = set | 1 << layer;
            if grown != set && next & !set == 0 && known.insert(grown) {
                sets.push(grown);
            }
        }
        if sets.len() > MOST_SETS {
            return Err(StagesError::Cuts { most: MOST_SETS });
        }
    }
    sets.sort_by_key(|set| set.count_ones());
    let whole = sets.last().is_some_and(|set| set.count_ones() as usize == count);
    if whole { Ok(sets) } else { Err(StagesError::Cycle) }
}

struct Search<'a> {
    problem: &'a StagesProblem,
    sets: Vec<u128>,
    degrees: Vec<u64>,
}

/// The best that is known of a set: so many devices and replicas, and how it came about.
#[derive(Clone, Copy)]
struct Label {
    devices: u64,
    replicas: u64,
    stage: Option<Step>,
}

/// The first stage of a set, and the label of what is behind it.
#[derive(Clone, Copy)]
struct Step {
    behind: usize,
    label: usize,
    tensor: u64,
    degree: u64,
}

impl Search<'_> {
    /// The stages of least devices whose times are all at most `limit`.
    fn stages(&self, limit: f64, relaxed: bool) -> Option<Vec<Stage>> {
        let mut labels: Vec<Vec<Label>> = vec![vec![Label { devices: 0, replicas: 0, stage: None }]];
        for (at, set) in self.sets.iter().enumerate().skip(1) {
            let mut own = Vec::new();
            for (behind, rest) in self.sets[..at].iter().enumerate() {
                if rest & !set == 0 && !labels[behind].is_empty() {
                    self.extend(&mut own, set & !rest, (behind, &labels[behind]), (limit, relaxed));
                }
            }
            labels.push(own);
        }
        let last = labels.last().and_then(|own| own.iter().enumerate().min_by_key(|(_, label)| label.devices));
        let (label, _) = last?;
        Some(if relaxed { Vec::new() } else { self.told(&labels, label) })
    }

    /// Puts a stage of these layers before each label of what is behind it.
    fn extend(
        &self,
        own: &mut Vec<Label>,
        layers: u128,
        (behind, labels): (usize, &[Label]),
        (limit, relaxed): (f64, bool),
    ) {
        for tensor in self.tensor_degrees(layers) {
            let choices = self.choices(layers, tensor);
            for degree in self.degrees.iter().take_while(|degree| **degree * tensor <= self.problem.devices) {
                if least(&choices, *degree) > limit {
                    continue;
                }
                let mut fits: HashMap<u64, bool> = HashMap::new();
                for (label, known) in labels.iter().enumerate() {
                    let (devices, replicas) = (known.devices + degree * tensor, known.replicas + degree);
                    if devices > self.problem.devices || dominated(own, devices, replicas) {
                        continue;
                    }
                    let in_flight = replicas.div_ceil(*degree);
                    let found = fits.entry(in_flight).or_insert_with(|| {
                        let chosen = choose(&choices, (*degree, in_flight), self.problem.memory, relaxed);
                        chosen.is_some_and(|chosen| chosen.seconds <= limit)
                    });
                    if *found {
                        // Labels that the new one beats stay: steps of other labels point at their places.
                        let stage = Some(Step { behind, label, tensor, degree: *degree });
                        own.push(Label { devices, replicas, stage });
                    }
                }
            }
        }
    }

    fn tensor_degrees(&self, layers: u128) -> Vec<u64> {
        let mut own = members(layers).map(|layer| &self.problem.layers[layer].variants);
        let Some(first) = own.next() else { return Vec::new() };
        let rest: Vec<_> = own.collect();
        first.keys().copied().filter(|degree| rest.iter().all(|variants| variants.contains_key(degree))).collect()
    }

    fn choices(&self, layers: u128, tensor: u64) -> Vec<Vec<Choice>> {
        let of = |layer: usize| {
            let variants = self.problem.layers[layer].variants.get(&tensor).map_or(&[][..], Vec::as_slice);
            let choice = |(at, own): (usize, &LayerVariant)| self.choice(layers, layer, at, own);
            variants.iter().enumerate().map(choice).collect()
        };
        members(layers).map(of).collect()
    }

    fn choice(&self, layers: u128, layer: usize, variant: usize, own: &LayerVariant) -> Choice {
        let outside = |other: usize| layers >> other & 1 == 0;
        let of = |(from, to, bytes): &(usize, usize, f64)| match (*from == layer, *to == layer) {
            (true, _) if outside(*to) => bytes + own.sync_out.get(to).copied().unwrap_or(0.0),
            (_, true) if outside(*from) => bytes + own.sync_in.get(from).copied().unwrap_or(0.0),
            _ => 0.0,
        };
        let exchanged: f64 = self.problem.edges.iter().map(of).sum();
        let bandwidth = self.problem.bandwidth;
        Choice {
            variant,
            shared: own.seconds + 2.0 * exchanged / bandwidth,
            sync: 4.0 * own.weight_bytes / bandwidth,
            between_syncs: self.problem.micro_batches,
            each: own.bytes_per_micro_batch,
            fixed: own.bytes,
        }
    }

    /// The stages that a label of the whole graph stands for.
    fn told(&self, labels: &[Vec<Label>], label: usize) -> Vec<Stage> {
        let (mut set, mut at) = (labels.len() - 1, label);
        let mut stages = Vec::new();
        while let Label { replicas, stage: Some(step), .. } = labels[set][at] {
            let layers = self.sets[set] & !self.sets[step.behind];
            let in_flight = replicas.div_ceil(step.degree);
            let choices = self.choices(layers, step.tensor);
            let chosen = choose(&choices, (step.degree, in_flight), self.problem.memory, false);
            let variants = chosen.map(|Chosen { variants, .. }| variants).unwrap_or_default();
            let layers = members(layers).zip(variants).collect();
            stages.push(Stage { layers, replicas: step.degree, tensor: step.tensor });
            (set, at) = (step.behind, step.label);
        }
        stages
    }

    /// Halves the gap between a time that is too short and the slowest stage of a plan until it is closed.
    fn bisect(&self, mut low: f64, first: Vec<Stage>) -> Result<(Vec<Stage>, f64), StagesError> {
        let mut high = self.slowest(&first)?;
        let mut best = first;
        while high - low > PRECISION * high {
            let middle = f64::midpoint(low, high);
            match self.stages(middle, false) {
                Some(stages) => {
                    high = self.slowest(&stages)?.min(middle);
                    best = stages;
                }
                None => low = middle,
            }
        }
        let seconds = self.slowest(&best)?;
        Ok((best, seconds))
    }

    /// The longest time that even relaxed choices of variants cannot keep.
    fn proven(&self, seconds: f64) -> f64 {
        let mut low = self.work_bound();
        // The heuristic is rarely off: most often this is the only step.
        let near = seconds * (1.0 - 2.0 * PRECISION);
        if self.stages(near, true).is_none() {
            return near;
        }
        let mut high = near;
        while high - low > 1e-4 * high {
            let middle = f64::midpoint(low, high);
            match self.stages(middle, true) {
                Some(_) => high = middle,
                None => low = middle,
            }
        }
        low
    }

    fn slowest(&self, stages: &[Stage]) -> Result<f64, StagesError> {
        Ok(self.problem.evaluate(stages)?.iter().map(|own| own.seconds).fold(0.0, f64::max))
    }

    /// All work spread evenly over all devices.
    fn work_bound(&self) -> f64 {
        let least = |layer: &super::StagedLayer| {
            let all =
                layer.variants.iter().flat_map(|(degree, list)| list.iter().map(move |own| (*degree, own.seconds)));
            all.map(|(degree, seconds)| degree as f64 * seconds).fold(f64::INFINITY, f64::min)
        };
        self.problem.layers.iter().map(least).sum::<f64>() / self.problem.devices as f64
    }
}

fn members(set: u128) -> impl Iterator<Item = usize> {
    (0..128).filter(move |layer| set >> layer & 1 == 1)
}

/// The time of the fastest variants, whatever they keep.
fn least(choices: &[Vec<Choice>], degree: u64) -> f64 {
    let fastest = |list: &Vec<Choice>| list.iter().map(|own| own.seconds(degree)).fold(f64::INFINITY, f64::min);
    choices.iter().map(fastest).sum()
}

fn dominated(own: &[Label], devices: u64, replicas: u64) -> bool {
    own.iter().any(|known| known.devices <= devices && known.replicas <= replicas)
}
