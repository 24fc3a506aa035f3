//! Dynamic programming over the nodes in order, with a limit on the states that are kept, under prices of memory; then
//! steps of single nodes. With few states it is greedy; with as many as there are it is exact where memory is free.

use std::collections::HashMap;
use std::time::Instant;

use cutplane_plan::StopReason;

use super::error::{ShardError, whole_bytes};
use super::outcome::{ShardOutcome, Sharder};
use super::problem::ShardBudget;
use super::table::{Evaluation, Member, ShardTable};

/// Prices of memory that are tried until something fits.
const MOST_PRICES: usize = 40;
/// Halvings of the interval between a price that does not fit and one that does.
const HALVINGS: usize = 10;

/// The searcher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BeamSharder {
    /// States kept at each node: assignments so far that differ in what later nodes see.
    pub width: usize,
}

impl Default for BeamSharder {
    fn default() -> Self {
        Self { width: 48 }
    }
}

impl BeamSharder {
    /// One state: every node takes what looks best so far.
    pub const GREEDY: Self = Self { width: 1 };
}

impl Sharder for BeamSharder {
    fn name(&self) -> &'static str {
        if self.width == 1 { "greedy" } else { "beam-dp" }
    }

    fn shard(&self, table: &ShardTable, budget: &ShardBudget<'_>) -> Result<ShardOutcome, ShardError> {
        let started = Instant::now();
        table.check()?;
        let must_stop = || budget.interrupted() || started.elapsed() >= budget.time_limit;
        let search = Search::new(table, self.width.max(1));
        let (choice, evaluation) = search.run(&must_stop).ok_or(ShardError::NoIncumbent {
            limit: whole_bytes(table.memory_limit),
            spent: started.elapsed(),
            remedy: "give it more time, or search with the integer program, which tells whether anything fits",
        })?;
        let interrupted = budget.interrupted();
        Ok(ShardOutcome {
            choice,
            evaluation,
            bound: table.floor(),
            bound_of_unequal: None,
            stop: if interrupted { StopReason::Interrupted } else { StopReason::CandidatesExhausted },
            searcher: self.name(),
            variables: 0,
            search_seconds: started.elapsed().as_secs_f64(),
        })
    }
}

struct Search<'a> {
    table: &'a ShardTable,
    /// Nets and keeps that each node is a member of.
    nets: Vec<Vec<usize>>,
    keeps: Vec<Vec<usize>>,
    /// After each node, the members so far of nets and keeps that have later ones: what later costs depend on.
    open: Vec<Vec<&'a Member>>,
    width: usize,
}

/// An assignment of the first nodes.
#[derive(Clone, Debug, Default)]
struct State {
    choice: Vec<usize>,
    seconds: f64,
    memory: f64,
    workspace: f64,
}

impl State {
    /// Cost when a byte has a price.
    fn score(&self, price: f64) -> f64 {
        self.seconds + price * (self.memory + self.workspace)
    }
}

impl<'a> Search<'a> {
    fn new(table: &'a ShardTable, width: usize) -> Self {
        let nodes = table.nodes.len();
        let (mut nets, mut keeps, mut open) =
            (vec![Vec::new(); nodes], vec![Vec::new(); nodes], vec![Vec::new(); nodes]);
        for (at, net) in table.nets.iter().enumerate() {
            let members: Vec<&Member> = std::iter::once(&net.producer).chain(&net.readers).collect();
            join(&members, at, &mut nets, &mut open);
        }
        for (at, keep) in table.keeps.iter().enumerate() {
            let members: Vec<&Member> = keep.keepers.iter().collect();
            join(&members, at, &mut keeps, &mut open);
        }
        Self { table, nets, keeps, open, width }
    }

    /// The best assignment found that fits.
    fn run(&self, must_stop: &dyn Fn() -> bool) -> Option<(Vec<usize>, Evaluation)> {
        let mut best = None;
        let Some((mut low, mut high)) = self.bracket(&mut best, must_stop) else {
            return best.map(|found| self.descend(found, must_stop));
        };
        for _ in 0..HALVINGS {
            if must_stop() {
                break;
            }
            let price = if low > 0.0 { (low * high).sqrt() } else { high / 8.0 };
            let fitted = self.sweep(price, &mut best);
            *(if fitted { &mut high } else { &mut low }) = price;
        }
        best.map(|found| self.descend(found, must_stop))
    }

    /// A price of a byte that is too low and one at which the assignment fits; `None` when a free byte is enough, or no
    /// price is.
    fn bracket(&self, best: &mut Option<(Vec<usize>, Evaluation)>, must_stop: &dyn Fn() -> bool) -> Option<(f64, f64)> {
        if self.sweep(0.0, best) {
            return None;
        }
        // A thousandth of the time without communication for all the memory.
        let mut price = 1e-3 * self.table.floor().max(f64::MIN_POSITIVE) / self.table.memory_limit.max(1.0);
        let mut low = 0.0;
        for _ in 0..MOST_PRICES {
            if must_stop() {
                return None;
            }
            if self.sweep(price, best) {
                return Some((low, price));
            }
            low = price;
            price *= 8.0;
        }
        None
    }

    /// One pass over the nodes at a price of memory; whether its cheapest assignment fits.
    fn sweep(&self, price: f64, best: &mut Option<(Vec<usize>, Evaluation)>) -> bool {
        let mut states = vec![State::default()];
        for node in 0..self.table.nodes.len() {
            states = self.extended(node, states, price);
        }
        let mut fitted = false;
        for (rank, state) in states.iter().enumerate() {
            let Some(found) = self.table.feasible(&state.choice) else { continue };
            fitted |= rank == 0;
            if best.as_ref().is_none_or(|(_, known)| found.seconds < known.seconds) {
                *best = Some((state.choice.clone(), found));
            }
        }
        fitted
    }

    /// All states with the next node assigned; of those that look alike to later nodes the cheapest, and of these only so
    /// many.
    fn extended(&self, node: usize, states: Vec<State>, price: f64) -> Vec<State> {
        let mut known: HashMap<Vec<usize>, usize> = HashMap::new();
        let mut next: Vec<State> = Vec::new();
        for state in states {
            for choice in 0..self.table.nodes[node].choices.len() {
                let state = self.with(node, choice, &state);
                if !state.seconds.is_finite() {
                    continue;
                }
                let key = self.open[node].iter().map(|member| member.layout[state.choice[member.node]]).collect();
                match known.get(&key) {
                    Some(at) if next[*at].score(price) <= state.score(price) => {}
                    Some(at) => next[*at] = state,
                    None => {
                        known.insert(key, next.len());
                        next.push(state);
                    }
                }
            }
        }
        next.sort_by(|a, b| a.score(price).total_cmp(&b.score(price)));
        next.truncate(self.width);
        next
    }

    fn with(&self, node: usize, choice: usize, state: &State) -> State {
        let mut next = state.clone();
        next.choice.push(choice);
        let own = self.table.nodes[node].choices[choice];
        let added = |before: &dyn Fn(usize) -> f64| before(node + 1) - before(node);
        next.seconds += own.seconds;
        next.memory += own.memory;
        next.workspace = next.workspace.max(own.workspace);
        for net in &self.nets[node] {
            next.seconds += added(&|end| self.table.nets[*net].seconds_before(&next.choice, end));
        }
        for keep in &self.keeps[node] {
            next.memory += added(&|end| self.table.keeps[*keep].held_before(&next.choice, end));
        }
        next
    }

    /// Changes single nodes as long as that helps.
    fn descend(
        &self,
        (mut choice, mut best): (Vec<usize>, Evaluation),
        must_stop: &dyn Fn() -> bool,
    ) -> (Vec<usize>, Evaluation) {
        loop {
            let before = best.seconds;
            for node in 0..choice.len() {
                for other in 0..self.table.nodes[node].choices.len() {
                    let known = std::mem::replace(&mut choice[node], other);
                    match self.table.feasible(&choice).filter(|found| found.seconds < best.seconds) {
                        Some(found) => best = found,
                        None => choice[node] = known,
                    }
                }
            }
            if best.seconds >= before * (1.0 - 1e-9) || must_stop() {
                return (choice, best);
            }
        }
    }
}

/// Enters a net or a keep at its members, and its earlier members as open until the last one.
fn join<'a>(members: &[&'a Member], at: usize, touched: &mut [Vec<usize>], open: &mut [Vec<&'a Member>]) {
    let last = members.iter().map(|member| member.node).max().unwrap_or(0);
    for member in members {
        if !touched[member.node].contains(&at) {
            touched[member.node].push(at);
        }
        for seen in &mut open[member.node..last] {
            seen.push(member);
        }
    }
}
