//! The ways to treat one operator on the mesh: a rule of splitting along each axis, and what of its state is sharded.

use cutplane_graph::sharding::{Layout, ShardRule, Sharded, Split};
use cutplane_graph::{ModelGraph, OpId, TensorType};
use serde::Serialize;

use super::mesh::{AXES, Axes, Mesh};
use super::problem::ShardProblem;
use crate::estimate::ZeroStage;

/// A layout along each axis.
pub(super) type Spread = [Layout; AXES];

/// Layouts of a tensor and of its gradient along each axis.
pub(super) type Pair = [Sharded; AXES];

/// Layouts of the values.
pub(super) fn values(pair: Pair) -> Spread {
    pair.map(|sharded| sharded.value)
}

/// Layouts of the gradients.
pub(super) fn gradients(pair: Pair) -> Spread {
    pair.map(|sharded| sharded.gradient)
}

/// How one operator is treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Strategy {
    /// Along each axis the index of a rule of [`ModelGraph::shard_rules`]; `None`: every rank computes the same.
    pub rules: [Option<usize>; AXES],
    /// What is split along each axis.
    pub splits: [Option<Split>; AXES],
    /// What of the parameters' state is sharded (Rajbhandari et al. 2020).
    pub zero: ZeroStage,
    /// Axes whose ranks share it, out of those along which the parameters are replicated and their gradients summed.
    pub over: Axes,
    /// Axes along which inputs that are whole on every rank are kept in slices between the passes, and gathered once more
    /// (Korthikanti et al. 2022, section 4.2.2).
    pub stash: Axes,
}

/// An input as an operator takes it, and the axes along which it is kept in slices.
pub(super) type Taken = (Pair, Axes);

/// Layout in which an input is kept: slices of its first axis where it is whole, the mesh divides it, and `stash` says so.
pub(super) fn stashed(input: Pair, stash: Axes, ty: &TensorType, mesh: &Mesh<'_>) -> Spread {
    let whole = |axis: usize| stash[axis] && input[axis].value == Layout::Replicated;
    let pieces = mesh.ranks(std::array::from_fn(whole)) as u64;
    let divides = ty.dtype.is_float() && ty.dims.len() > 1 && ty.dims[0].is_multiple_of(pieces);
    std::array::from_fn(|axis| if whole(axis) && divides { Layout::Axis(0) } else { input[axis].value })
}

/// An operator under a strategy's two rules.
#[derive(Clone, Debug)]
pub(super) struct Treated<'a> {
    rules: [Option<&'a ShardRule>; AXES],
}

impl<'a> Treated<'a> {
    pub(super) fn new(known: &'a [ShardRule], rules: [Option<usize>; AXES]) -> Self {
        Self { rules: rules.map(|rule| rule.map(|index| &known[index])) }
    }

    fn pair(&self, of: impl Fn(&ShardRule) -> Sharded) -> Pair {
        self.rules.map(|rule| rule.map_or(Sharded::replicated(), &of))
    }

    pub(super) fn input(&self, index: usize) -> Pair {
        self.pair(|rule| rule.inputs[index])
    }

    pub(super) fn param(&self, index: usize) -> Pair {
        self.pair(|rule| rule.params[index])
    }

    pub(super) fn output(&self) -> Pair {
        self.pair(|rule| rule.output)
    }

    pub(super) const fn rule(&self, axis: usize) -> Option<&'a ShardRule> {
        self.rules[axis]
    }

    /// Ranks that share what these splits divide.
    pub(super) fn degree(&self, mesh: &Mesh<'_>, of: &[Split]) -> u64 {
        let divides = |axis: &usize| self.rules[*axis].is_some_and(|rule| of.contains(&rule.split));
        (0..AXES).filter(divides).map(|axis| mesh.sizes()[axis] as u64).product()
    }

    /// Ranks that share the work.
    pub(super) fn ranks(&self, mesh: &Mesh<'_>) -> u64 {
        (0..AXES).filter(|axis| self.rules[*axis].is_some()).map(|axis| mesh.sizes()[axis] as u64).product()
    }

    /// Whether the mesh divides what the rules split, and the samples.
    fn divides(&self, mesh: &Mesh<'_>, batch: u64) -> bool {
        let rules = || self.rules.into_iter().flatten();
        let whole = |rule: &ShardRule| {
            let degree = self.degree(mesh, &[rule.split]);
            rule.split == Split::Batch || rule.extent.is_multiple_of(degree) || rule.extent == u64::MAX
        };
        let tensors = |rule: &ShardRule| rule.inputs.len();
        let inputs = rules().next().map_or(0, tensors);
        let samples = |pair: Pair| -> u64 {
            let split = |axis: &usize| pair[*axis].value == Layout::Batch;
            (0..AXES).filter(split).map(|axis| mesh.sizes()[axis] as u64).product()
        };
        let batched = (0..inputs).map(|index| self.input(index)).chain([self.output()]);
        rules().all(whole) && batched.into_iter().all(|pair| batch.is_multiple_of(samples(pair)))
    }
}

/// Axes along which a parameter laid out like this is whole on every rank, and its gradient a summand.
pub(super) fn summed_axes(param: Pair, mesh: &Mesh<'_>) -> Axes {
    std::array::from_fn(|axis| mesh.sizes()[axis] > 1 && param[axis] == Sharded::shared())
}

/// All strategies of an operator.
pub(super) fn strategies(problem: &ShardProblem<'_>, op: OpId, known: &[ShardRule]) -> Vec<Strategy> {
    let (graph, mesh) = (problem.graph, problem.mesh);
    let along = |axis: usize| -> Vec<Option<usize>> {
        let rules = if mesh.sizes()[axis] > 1 { 0..known.len() } else { 0..0 };
        std::iter::once(None).chain(rules.map(Some)).collect()
    };
    let mut found = Vec::new();
    for rules in along(0).into_iter().flat_map(|outer| along(1).into_iter().map(move |inner| [outer, inner])) {
        let treated = Treated::new(known, rules);
        if !treated.divides(mesh, problem.micro_batch()) {
            continue;
        }
        let splits = rules.map(|rule| rule.map(|index| known[index].split));
        let stashes = stashes(problem, op, &treated);
        for (zero, over) in states(summed(graph, op, &treated, mesh)) {
            found.extend(stashes.iter().map(|stash| Strategy { rules, splits, zero, over, stash: *stash }));
        }
    }
    found
}

/// Axes along which inputs may be kept in slices, those first that keep all.
fn stashes(problem: &ShardProblem<'_>, op: OpId, treated: &Treated<'_>) -> Vec<Axes> {
    let mut found = vec![[false; AXES]];
    if !problem.saved(op).inputs {
        return found;
    }
    let inputs = problem.graph.op(op).inputs.iter().enumerate();
    let handed = inputs.filter(|(_, value)| problem.graph.value(**value).producer.is_some());
    let inputs: Vec<_> = handed.map(|(at, value)| (treated.input(at), &problem.graph.value(*value).ty)).collect();
    for axes in [[false, true], [true, false], [true, true]] {
        let cuts = |axis: usize| {
            let kept = |(pair, ty): &(Pair, &TensorType)| stashed(*pair, axes, ty, problem.mesh)[axis];
            problem.mesh.sizes()[axis] > 1 && inputs.iter().any(|input| kept(input) != input.0[axis].value)
        };
        if (0..AXES).all(|axis| !axes[axis] || cuts(axis)) {
            found.push(axes);
        }
    }
    found
}

/// Axes along which any parameter's gradients are summed.
fn summed(graph: &ModelGraph, op: OpId, treated: &Treated<'_>, mesh: &Mesh<'_>) -> Axes {
    let params = 0..graph.op(op).params.len();
    let each: Vec<Axes> = params.map(|param| summed_axes(treated.param(param), mesh)).collect();
    std::array::from_fn(|axis| each.iter().any(|axes| axes[axis]))
}

/// What can be sharded over which of these axes.
fn states(summed: Axes) -> Vec<(ZeroStage, Axes)> {
    let mut states = vec![(ZeroStage::None, [false; AXES])];
    for over in [[true, true], [false, true], [true, false]] {
        if (0..AXES).all(|axis| summed[axis] || !over[axis]) {
            states.extend([ZeroStage::One, ZeroStage::Two, ZeroStage::Three].map(|stage| (stage, over)));
        }
    }
    states
}

/// The word of the field for what happens along an axis.
pub const fn split_word(split: Option<Split>) -> &'static str {
    match split {
        None => "replicated",
        Some(Split::Batch) => "batch",
        Some(Split::Column) => "column",
        Some(Split::Row) => "row",
        Some(Split::Heads) => "heads",
        Some(Split::Sequence) => "sequence",
        Some(Split::Context) => "context",
        Some(Split::Expert) => "expert",
        Some(Split::Vocabulary) => "vocabulary",
        Some(Split::Channel) => "channel",
        Some(Split::Spatial) => "spatial",
        Some(Split::Units) => "units",
        Some(Split::Width) => "width",
    }
}
