//! From a problem to a sharding that people can read.

use std::time::Instant;

use cutplane_graph::{ModelGraph, OpId};
use cutplane_plan::StopReason;
use serde::Serialize;

use super::account::Account;
use super::build::ShardModel;
use super::error::ShardError;
use super::mesh::AXES;
use super::outcome::{NO_GAP, ShardOutcome, Sharder, gap};
use super::problem::{ShardBudget, ShardProblem};
use super::strategy::{Strategy, split_word};
use crate::estimate::ZeroStage;

/// How far the account of the whole model may be from the searcher's own, relatively: sums in another order.
const AGREEMENT: f64 = 1e-6;

/// A sharding of a model, and what is known of it.
#[derive(Clone, Debug)]
pub struct Sharding {
    /// Micro-batches of the step.
    pub micro_batches: u64,
    /// Strategy of every operator of the model.
    pub strategies: Vec<Strategy>,
    /// Kinds of blocks, in the order of the model.
    pub blocks: Vec<ShardedBlock>,
    /// Where time and memory go.
    pub account: Account,
    /// What the searcher found and proved.
    pub outcome: ShardOutcome,
}

/// Blocks that are alike, with the strategies of their operators.
#[derive(Clone, Debug, Serialize)]
pub struct ShardedBlock {
    /// Name with the range of copies: `h.0..11`.
    pub name: String,
    /// Copies.
    pub copies: usize,
    /// Operators in order.
    pub operators: Vec<ShardedOperator>,
}

/// An operator of a block.
#[derive(Clone, Debug, Serialize)]
pub struct ShardedOperator {
    /// Its name in the first copy.
    pub name: String,
    /// What it computes.
    pub kind: &'static str,
    /// Its strategy.
    pub strategy: Strategy,
}

impl ShardedOperator {
    /// What is split along the mesh axes from `first` on, in the words of the field: `batch x column`.
    pub fn words(&self, first: usize) -> String {
        let words: Vec<&str> = self.strategy.splits[first..].iter().map(|split| split_word(*split)).collect();
        words.join(" x ")
    }
}

/// The word for what of the state is sharded.
pub const fn zero_word(zero: ZeroStage) -> &'static str {
    match zero {
        ZeroStage::None => "replicated",
        ZeroStage::One => "ZeRO-1",
        ZeroStage::Two => "ZeRO-2",
        ZeroStage::Three => "ZeRO-3",
    }
}

/// Shards a model, and checks the answer by the account of the whole model.
///
/// # Errors
/// [`ShardError`].
pub fn shard(
    problem: &ShardProblem<'_>,
    sharder: &dyn Sharder,
    budget: &ShardBudget<'_>,
) -> Result<Sharding, ShardError> {
    sharded(problem, &ShardModel::new(problem)?, sharder, budget)
}

fn sharded(
    problem: &ShardProblem<'_>,
    model: &ShardModel,
    sharder: &dyn Sharder,
    budget: &ShardBudget<'_>,
) -> Result<Sharding, ShardError> {
    let outcome = sharder.shard(&model.table, budget)?;
    let strategies = model.strategies_of(&outcome.choice);
    let account = Account::new(problem, |op: OpId| strategies[op.index()]);
    let (found, counted) = (outcome.evaluation, (account.seconds(), account.memory()));
    let near = |a: f64, b: f64| (a - b).abs() <= AGREEMENT * a.max(b);
    if !near(found.seconds, counted.0) || !near(found.memory, counted.1) {
        return Err(ShardError::Disagreement { seconds: [found.seconds, counted.0], bytes: [found.memory, counted.1] });
    }
    let blocks = blocks(problem.graph, model, &strategies);
    Ok(Sharding { micro_batches: problem.micro_batches, strategies, blocks, account, outcome })
}

fn blocks(graph: &ModelGraph, model: &ShardModel, strategies: &[Strategy]) -> Vec<ShardedBlock> {
    let folded = &model.folded.folded;
    let operator = |op: usize| {
        let node = &graph.ops()[op];
        ShardedOperator { name: node.name.clone(), kind: node.kind.label(), strategy: strategies[op] }
    };
    let block = |class: usize| ShardedBlock {
        name: folded.name(graph, class),
        copies: folded.classes[class].blocks.len(),
        operators: folded.ops_of(class).map(operator).collect(),
    };
    (0..folded.classes.len()).map(block).collect()
}

impl ShardModel {
    /// The strategy of every operator of the model under an assignment.
    pub fn strategies_of(&self, choice: &[usize]) -> Vec<Strategy> {
        let nodes = self.folded.node_of.iter();
        nodes.map(|node| self.strategies[*node][choice[*node]]).collect()
    }
}

/// What came of one number of micro-batches.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Tried {
    /// The time of a step, s.
    Found(f64),
    /// Proven: no sharding fits.
    NothingFits,
    /// Nothing that fits was found before the search ended; there may be something.
    NothingFound,
    /// The user ended the search before this number's turn.
    NotTried,
}

impl Tried {
    /// The time of a step, s, where one was found.
    pub const fn seconds(self) -> Option<f64> {
        if let Self::Found(seconds) = self { Some(seconds) } else { None }
    }

    /// In words: `found`, `none fits`, `none found in time`, `not tried`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Found(_) => "found",
            Self::NothingFits => "none fits",
            Self::NothingFound => "none found in time",
            Self::NotTried => "not tried",
        }
    }
}

/// The best sharding over several numbers of micro-batches.
#[derive(Clone, Debug)]
pub struct BestSharding {
    /// The fastest one.
    pub sharding: Sharding,
    /// No sharding of any of the numbers is faster, s: of a number without a search, what its operators compute.
    pub bound: f64,
    /// Numbers of micro-batches, with what came of each.
    pub tried: Vec<(u64, Tried)>,
    /// Why the search of the number with the least bound ended.
    ended: StopReason,
}

impl BestSharding {
    /// How far above the best over all numbers it can be at most.
    pub fn gap(&self) -> f64 {
        gap(self.sharding.account.seconds(), self.bound)
    }

    /// Why the search ended.
    pub fn stop(&self, relative_gap: f64) -> StopReason {
        match self.gap() {
            gap if gap <= NO_GAP => StopReason::ProvenOptimal,
            gap if gap <= relative_gap => StopReason::GapReached,
            _ => self.ended,
        }
    }
}

/// Shards for each of some numbers of micro-batches and takes the fastest. The numbers share the time limit, each getting an
/// equal part of what is left; when the user ends the search, those that are left are not tried.
///
/// # Errors
/// [`ShardError`] of the number that comes closest, when none fits.
pub fn best_sharding(
    problem: &ShardProblem<'_>,
    micro_batches: &[u64],
    sharder: &dyn Sharder,
    budget: &ShardBudget<'_>,
) -> Result<BestSharding, ShardError> {
    let mut found = Found { best: None, closest: None, least: (f64::INFINITY, StopReason::ProvenOptimal) };
    let mut tried = Vec::new();
    let started = Instant::now();
    for (at, &count) in micro_batches.iter().enumerate() {
        let of_count = ShardProblem { micro_batches: count, ..*problem };
        let model = ShardModel::new(&of_count)?;
        let came = if at > 0 && budget.interrupted() {
            found.lower(model.table.floor(), StopReason::Interrupted);
            Tried::NotTried
        } else {
            let left = budget.time_limit.saturating_sub(started.elapsed());
            let part = left.div_f64((micro_batches.len() - at) as f64);
            found.take(sharded(&of_count, &model, sharder, &ShardBudget { time_limit: part, ..*budget }), || {
                let ended = if budget.interrupted() { StopReason::Interrupted } else { StopReason::TimeLimit };
                (model.table.floor(), ended)
            })?
        };
        tried.push((count, came));
    }
    let none = ShardError::Batch { field: "micro_batches", value: 0, remedy: "try at least one number" };
    let sharding = found.best.ok_or(found.closest.unwrap_or(none))?;
    let (bound, ended) = found.least;
    Ok(BestSharding { sharding, bound, tried, ended })
}

/// What is known after some numbers of micro-batches.
struct Found {
    best: Option<Sharding>,
    closest: Option<ShardError>,
    /// The least bound, s, and why that search ended.
    least: (f64, StopReason),
}

impl Found {
    fn lower(&mut self, bound: f64, ended: StopReason) {
        if bound < self.least.0 {
            self.least = (bound, ended);
        }
    }

    /// Takes in what came of one number; where nothing was found in time, `open` is what holds for it.
    fn take(
        &mut self,
        answer: Result<Sharding, ShardError>,
        open: impl Fn() -> (f64, StopReason),
    ) -> Result<Tried, ShardError> {
        let tried = match answer {
            Ok(sharding) => {
                self.lower(sharding.outcome.bound, sharding.outcome.stop);
                let seconds = sharding.account.seconds();
                if self.best.as_ref().is_none_or(|known| seconds < known.account.seconds()) {
                    self.best = Some(sharding);
                }
                return Ok(Tried::Found(seconds));
            }
            Err(error @ ShardError::Infeasible { .. }) => (error, Tried::NothingFits),
            Err(error @ ShardError::NoIncumbent { .. }) => {
                let (bound, ended) = open();
                self.lower(bound, ended);
                (error, Tried::NothingFound)
            }
            Err(error) => return Err(error),
        };
        self.closest = Some(closer(self.closest.take(), tried.0));
        Ok(tried.1)
    }
}

/// Of two failures the one that needs less memory; one that proves nothing goes before one that does.
fn closer(known: Option<ShardError>, next: ShardError) -> ShardError {
    match (known, next) {
        (Some(ShardError::Infeasible { smallest: a, .. }), ShardError::Infeasible { limit, smallest: b }) => {
            ShardError::Infeasible { limit, smallest: a.min(b) }
        }
        (Some(known @ ShardError::NoIncumbent { .. }), _) => known,
        (_, next) => next,
    }
}

const _: () = assert!(AXES == 2, "words and accounts are written for two axes");
