//! From a model on a mesh to a table of prices.

use std::collections::HashMap;
use std::hash::Hash;

use cutplane_graph::sharding::ShardRule;
use cutplane_units::Bytes;

use super::error::ShardError;
use super::exchange::{State, inside, reshard, share};
use super::fold::{FoldedGraph, FoldedValue};
use super::mesh::{AXES, Axes};
use super::price;
use super::problem::ShardProblem;
use super::strategy::{Pair, Spread, Strategy, Taken, Treated, gradients, stashed, strategies, summed_axes, values};
use super::table::{Choice, Keep, Member, Net, Node, ShardTable};
use crate::estimate::ZeroStage;

/// A table with what its choices mean.
#[derive(Clone, Debug)]
pub struct ShardModel {
    /// The prices.
    pub table: ShardTable,
    /// The strategy of every choice of every node.
    pub strategies: Vec<Vec<Strategy>>,
    pub(super) folded: FoldedGraph,
}

impl ShardModel {
    /// Prices all strategies of all operators, equal blocks once. Of strategies that take and give the same layouts, those
    /// that are neither faster nor smaller than another are left out: no optimum needs them.
    ///
    /// # Errors
    /// [`ShardError::Batch`].
    pub fn new(problem: &ShardProblem<'_>) -> Result<Self, ShardError> {
        problem.check()?;
        let folded = FoldedGraph::new(problem.graph);
        let builder = Builder { problem, folded: &folded };
        let known: Vec<Vec<ShardRule>> =
            folded.nodes.iter().map(|node| problem.graph.shard_rules(node.first(), problem.micro_batch())).collect();
        let (nodes, chosen): (Vec<Node>, Vec<Vec<Strategy>>) =
            (0..folded.nodes.len()).map(|node| builder.node(node, &known[node])).unzip();
        let mut table = ShardTable {
            nodes,
            nets: Vec::new(),
            keeps: Vec::new(),
            memory_limit: problem.memory_limit.map_or(f64::INFINITY, Bytes::as_f64),
        };
        let faces = Faces { known: &known, strategies: &chosen };
        for value in &folded.values {
            table.nets.extend(builder.net(value, &faces));
            table.keeps.extend(builder.keep(value, &faces));
        }
        table.nets.extend(folded.ties.iter().map(|tie| builder.tie(*tie, &faces)));
        Ok(Self { table, strategies: chosen, folded })
    }

    /// Operators of the whole model.
    pub fn operators(&self) -> usize {
        self.folded.node_of.len()
    }
}

/// What strategies take and give.
struct Faces<'a> {
    known: &'a [Vec<ShardRule>],
    strategies: &'a [Vec<Strategy>],
}

impl Faces<'_> {
    /// For each choice of a node, the index of what `face` says in a list of distinct answers.
    fn member<T: Copy + Eq + Hash>(
        &self,
        node: usize,
        seen: &mut Distinct<T>,
        face: impl Fn(&Treated<'_>, &Strategy) -> T,
    ) -> Member {
        let each = self.strategies[node].iter();
        let layout = each.map(|strategy| seen.index(face(&Treated::new(&self.known[node], strategy.rules), strategy)));
        Member { node, layout: layout.collect() }
    }
}

/// Distinct things, numbered in the order in which they are met.
struct Distinct<T> {
    list: Vec<T>,
    numbers: HashMap<T, usize>,
}

impl<T: Copy + Eq + Hash> Distinct<T> {
    fn new() -> Self {
        Self { list: Vec::new(), numbers: HashMap::new() }
    }

    fn index(&mut self, thing: T) -> usize {
        let Self { list, numbers } = self;
        *numbers.entry(thing).or_insert_with(|| {
            list.push(thing);
            list.len() - 1
        })
    }
}

/// What other nodes see of a choice.
type Interface = (Pair, Vec<Taken>, Vec<(Pair, ZeroStage, Axes)>);

struct Builder<'a, 'p> {
    problem: &'a ShardProblem<'p>,
    folded: &'a FoldedGraph,
}

impl Builder<'_, '_> {
    fn node(&self, node: usize, known: &[ShardRule]) -> (Node, Vec<Strategy>) {
        let folded = &self.folded.nodes[node];
        let op = folded.first();
        let mut choices: Vec<(Interface, Choice, Strategy)> = Vec::new();
        let mut computed: HashMap<[Option<usize>; AXES], f64> = HashMap::new();
        for strategy in strategies(self.problem, op, known) {
            let treated = Treated::new(known, strategy.rules);
            let pass = *computed.entry(strategy.rules).or_insert_with(|| self.pass(node, &treated));
            let choice = self.choice(node, &treated, &strategy, pass);
            let interface = self.interface(node, &treated, &strategy);
            let rivals = || choices.iter().filter(|(other, ..)| *other == interface);
            if rivals().any(|(_, other, _)| is_as_good(other, &choice)) {
                continue;
            }
            choices.retain(|(other, known, _)| *other != interface || !is_as_good(&choice, known));
            choices.push((interface, choice, strategy));
        }
        let (priced, strategies) = choices.into_iter().map(|(_, choice, strategy)| (choice, strategy)).unzip();
        let name = self.problem.graph.op(op).name.clone();
        (Node { name, copies: folded.ops.len() as u64, choices: priced }, strategies)
    }

    /// Computation and exchanges inside of one copy for one micro-batch, s.
    fn pass(&self, node: usize, treated: &Treated<'_>) -> f64 {
        let op = self.folded.nodes[node].first();
        let exchanged = |axis| inside(treated, axis, self.problem.precision.size() as f64, self.problem.mesh);
        price::seconds(self.problem, op, treated).iter().sum::<f64>() + (0..AXES).map(exchanged).sum::<f64>()
    }

    fn choice(&self, node: usize, treated: &Treated<'_>, strategy: &Strategy, pass: f64) -> Choice {
        let (problem, folded) = (self.problem, &self.folded.nodes[node]);
        let (mesh, of) = (problem.mesh, problem.state_bytes());
        let (copies, micro_batches) = (folded.ops.len() as f64, problem.micro_batches as f64);
        let mut choice = Choice {
            seconds: pass * copies * micro_batches,
            memory: self.internal(node, treated) * copies,
            workspace: self.gradients(node, treated),
        };
        for (state, owned) in self.states(node, treated, strategy) {
            let updated = state.updated(mesh);
            choice.seconds += copies * micro_batches * state.gathered(of, mesh)
                + owned * (state.synchronised(of, micro_batches, mesh) + price::update(problem, updated));
            choice.memory += owned * state.bytes(of, mesh).iter().sum::<f64>();
            choice.workspace += state.workspace(of);
        }
        choice
    }

    /// State of an operator's parameters, those laid out alike together, and how many copies own it.
    fn states(&self, node: usize, treated: &Treated<'_>, strategy: &Strategy) -> Vec<(State, f64)> {
        let (graph, mesh) = (self.problem.graph, self.problem.mesh);
        let folded = &self.folded.nodes[node];
        let mut groups: Vec<((Pair, u64), f64)> = Vec::new();
        for (at, param) in graph.op(folded.first()).params.iter().enumerate() {
            let (key, elements) = ((treated.param(at), folded.owned[at]), graph.param(*param).elements() as f64);
            match groups.iter_mut().find(|(known, _)| *known == key) {
                Some((_, sum)) => *sum += elements,
                None => groups.push((key, elements)),
            }
        }
        let state = |((pair, owned), elements): ((Pair, u64), f64)| {
            let local = elements * share(values(pair), mesh);
            (State::new(local, summed_axes(pair, mesh), strategy), owned as f64)
        };
        groups.into_iter().map(state).collect()
    }

    /// Intermediates and inputs of the graph that one copy keeps, bytes.
    fn internal(&self, node: usize, treated: &Treated<'_>) -> f64 {
        let (problem, op) = (self.problem, self.folded.nodes[node].first());
        let (kept, batch) = (problem.saved(op), problem.micro_batch());
        let own = kept.internal_elements as f64 * problem.precision.size() as f64;
        let inputs = problem.graph.op(op).inputs.iter().enumerate();
        let fed = inputs.filter(|(_, id)| kept.inputs && problem.graph.value(**id).producer.is_none());
        let bytes = fed.map(|(at, id)| {
            let ty = &problem.graph.value(*id).ty;
            ty.bytes_in(batch, problem.precision).as_f64() * share(values(treated.input(at)), problem.mesh)
        });
        own / treated.ranks(problem.mesh) as f64 + bytes.sum::<f64>()
    }

    /// Gradients of inputs and output, which an operator needs at once, bytes.
    fn gradients(&self, node: usize, treated: &Treated<'_>) -> f64 {
        let (problem, op) = (self.problem, self.folded.nodes[node].first());
        let op = problem.graph.op(op);
        let bytes = |value, layout| {
            let ty = &problem.graph.value(value).ty;
            let float = if ty.dtype.is_float() { 1.0 } else { 0.0 };
            float * ty.bytes_in(problem.micro_batch(), problem.precision).as_f64() * share(layout, problem.mesh)
        };
        let inputs = op.inputs.iter().enumerate().map(|(at, value)| bytes(*value, values(treated.input(at))));
        inputs.sum::<f64>() + bytes(op.output, values(treated.output()))
    }

    fn interface(&self, node: usize, treated: &Treated<'_>, strategy: &Strategy) -> Interface {
        let op = self.problem.graph.op(self.folded.nodes[node].first());
        let tied = self.folded.ties.iter().flatten().filter(|(tied, _)| *tied == node);
        let inputs = (0..op.inputs.len()).map(|at| (treated.input(at), strategy.stash)).collect();
        (treated.output(), inputs, tied.map(|(_, at)| self.tied(treated, strategy, *at)).collect())
    }

    /// How a parameter and its state are laid out.
    fn tied(&self, treated: &Treated<'_>, strategy: &Strategy, param: usize) -> (Pair, ZeroStage, Axes) {
        let pair = treated.param(param);
        let state = State::new(0.0, summed_axes(pair, self.problem.mesh), strategy);
        (pair, state.zero, state.over)
    }

    /// Resharding of a value and of its gradient; `None` where nothing ever moves.
    fn net(&self, value: &FoldedValue, faces: &Faces<'_>) -> Option<Net> {
        let problem = self.problem;
        let ty = &problem.graph.value(value.value).ty;
        let bytes = ty.bytes_in(problem.micro_batch(), problem.precision).as_f64();
        let (mut given, mut wanted) = (Distinct::new(), Distinct::new());
        let producer = faces.member(value.producer, &mut given, |treated, _| treated.output());
        let reader = |(node, at): &(usize, usize)| {
            faces.member(*node, &mut wanted, |treated, strategy| (treated.input(*at), strategy.stash))
        };
        let readers: Vec<Member> = value.readers.iter().map(reader).collect();
        let times = value.count as f64 * problem.micro_batches as f64;
        let pair = |from: &Pair, (to, stash): &Taken| {
            let again = reshard(bytes, stashed(*to, *stash, ty, problem.mesh), values(*to), problem.mesh);
            let forward = again + reshard(bytes, values(*from), values(*to), problem.mesh);
            let backward =
                if ty.dtype.is_float() { reshard(bytes, gradients(*to), gradients(*from), problem.mesh) } else { 0.0 };
            times * (forward + backward)
        };
        let cost: Vec<f64> =
            given.list.iter().flat_map(|from| wanted.list.iter().map(move |to| pair(from, to))).collect();
        let moves = cost.iter().any(|cost| *cost > 0.0);
        moves.then_some(Net { producer, readers, count: value.count, targets: wanted.list.len(), cost })
    }

    /// What stays of a value between the passes.
    fn keep(&self, value: &FoldedValue, faces: &Faces<'_>) -> Option<Keep> {
        let problem = self.problem;
        let node = problem.graph.value(value.value);
        if !node.ty.dtype.is_float() {
            return None;
        }
        let mut seen: Distinct<Spread> = Distinct::new();
        let mut keepers = Vec::new();
        let saved = |node: usize| problem.saved(self.folded.nodes[node].first());
        if saved(value.producer).output {
            keepers.push(faces.member(value.producer, &mut seen, |treated, _| values(treated.output())));
        }
        for (reader, at) in value.readers.iter().filter(|(reader, _)| saved(*reader).inputs) {
            keepers.push(faces.member(*reader, &mut seen, |treated, strategy| {
                stashed(treated.input(*at), strategy.stash, &node.ty, problem.mesh)
            }));
        }
        if keepers.is_empty() {
            return None;
        }
        let whole = value.count as f64 * node.ty.bytes_in(problem.micro_batch(), problem.precision).as_f64();
        let bytes = seen.list.iter().map(|layout| whole * share(*layout, problem.mesh)).collect();
        Some(Keep { keepers, count: value.count, bytes })
    }

    /// Users of one parameter lay it out alike.
    fn tie(&self, [owner, user]: super::fold::Tie, faces: &Faces<'_>) -> Net {
        let mut seen = Distinct::new();
        let mut member = |(node, at): (usize, usize)| {
            faces.member(node, &mut seen, |treated, strategy| self.tied(treated, strategy, at))
        };
        let (producer, reader) = (member(owner), member(user));
        let all = 0..seen.list.len();
        let cost = all.clone().flat_map(|a| all.clone().map(move |b| if a == b { 0.0 } else { f64::INFINITY }));
        Net { producer, readers: vec![reader], count: 1, targets: seen.list.len(), cost: cost.collect() }
    }
}

/// Whether a choice is at least as good in everything.
fn is_as_good(one: &Choice, other: &Choice) -> bool {
    one.seconds <= other.seconds && one.memory <= other.memory && one.workspace <= other.workspace
}
