//! What a sharding costs, added up over the whole model operator by operator: no folding, no table. It says where the time
//! and the memory go, and checks the searchers, with which it shares the rules of the graph and the prices of kernels and
//! collectives only.

use cutplane_graph::sharding::{Collective as Exchange, Layout, Sharded};
use cutplane_graph::{ModelGraph, OpId, ParamId, Value, ValueId};
use serde::Serialize;

use super::mesh::{AXES, Axes};
use super::price;
use super::problem::ShardProblem;
use super::strategy::{Pair, Strategy, Treated};
use crate::estimate::ZeroStage;
use crate::network::Collective;

/// Communication along one set of axes in one step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct AxisTraffic {
    /// Values and gradients that change their layout between operators, s.
    pub resharding_s: f64,
    /// Exchanges in the middle of operators: experts, keys of a context, sums of a loss, s.
    pub inside_s: f64,
    /// Sums of parameter gradients, and shards of parameters that are gathered, s.
    pub parameters_s: f64,
}

impl AxisTraffic {
    /// All of it, s.
    pub fn seconds(&self) -> f64 {
        self.resharding_s + self.inside_s + self.parameters_s
    }
}

/// Time and memory of a step on each device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Account {
    /// Kernels of both passes, s.
    pub compute_s: f64,
    /// The optimizer's update, s.
    pub update_s: f64,
    /// Along the outer axis alone.
    pub outer: AxisTraffic,
    /// Along the inner axis alone.
    pub inner: AxisTraffic,
    /// Along both axes at once.
    pub both: AxisTraffic,
    /// Parameters, bytes.
    pub parameter_bytes: f64,
    /// Gradients of parameters, bytes.
    pub gradient_bytes: f64,
    /// Optimizer state, bytes.
    pub optimizer_bytes: f64,
    /// What one micro-batch keeps between its passes, bytes.
    pub activation_bytes: f64,
    /// The largest need while an operator runs, bytes.
    pub workspace_bytes: f64,
}

impl Account {
    /// Time of the step, s.
    pub fn seconds(&self) -> f64 {
        let moved = self.outer.seconds() + self.inner.seconds() + self.both.seconds();
        self.compute_s + self.update_s + moved
    }

    /// Memory of a device, bytes.
    pub fn memory(&self) -> f64 {
        self.parameter_bytes + self.gradient_bytes + self.optimizer_bytes + self.activation_bytes + self.workspace_bytes
    }

    /// Adds up a sharding, given the strategy of each operator.
    pub fn new(problem: &ShardProblem<'_>, strategy: impl Fn(OpId) -> Strategy) -> Self {
        let rules = problem.graph.op_ids().map(|op| problem.graph.shard_rules(op, problem.micro_batch()));
        let rules: Vec<_> = rules.collect();
        let strategies: Vec<Strategy> = problem.graph.op_ids().map(strategy).collect();
        let treated = rules.iter().zip(&strategies).map(|(rules, strategy)| Treated::new(rules, strategy.rules));
        let mut adding =
            Adding { problem, treated: treated.collect(), strategies: &strategies, account: Self::default() };
        for op in problem.graph.op_ids() {
            adding.operator(op);
            adding.state(op, strategies[op.index()]);
        }
        for value in 0..problem.graph.values().len() {
            adding.value(ValueId::new(value));
        }
        adding.account
    }

    fn traffic(&mut self, axes: Axes) -> &mut AxisTraffic {
        match axes {
            [true, true] => &mut self.both,
            [true, false] => &mut self.outer,
            _ => &mut self.inner,
        }
    }
}

struct Adding<'a, 'p> {
    problem: &'a ShardProblem<'p>,
    treated: Vec<Treated<'a>>,
    strategies: &'a [Strategy],
    account: Account,
}

/// Moves of one exchange: along which axes, and for how long.
type Moves = Vec<(Axes, f64)>;

impl Adding<'_, '_> {
    fn graph(&self) -> &ModelGraph {
        self.problem.graph
    }

    fn micro_batches(&self) -> f64 {
        self.problem.micro_batches as f64
    }

    fn width(&self) -> f64 {
        self.problem.precision.size() as f64
    }

    /// Ranks that a tensor is cut over.
    fn cut(&self, layouts: [Layout; AXES]) -> f64 {
        let mut pieces = 1.0;
        for (layout, size) in layouts.iter().zip(self.problem.mesh.sizes()) {
            if !matches!(layout, Layout::Replicated | Layout::Partial) {
                pieces *= size as f64;
            }
        }
        pieces
    }

    fn operator(&mut self, op: OpId) {
        let [forward, backward] = price::seconds(self.problem, op, &self.treated[op.index()]);
        self.account.compute_s += self.micro_batches() * (forward + backward);
        for axis in 0..AXES {
            self.inside(op, axis);
        }
        let saved = self.problem.saved(op);
        let node = self.graph().op(op).clone();
        let sharing = (0..AXES).filter(|axis| self.treated[op.index()].rule(*axis).is_some());
        let ranks: usize = sharing.map(|axis| self.problem.mesh.sizes()[axis]).product();
        self.account.activation_bytes += saved.internal_elements as f64 * self.width() / ranks as f64;
        for (at, input) in node.inputs.iter().enumerate() {
            if saved.inputs && self.graph().value(*input).producer.is_none() {
                let cut = self.cut(self.treated[op.index()].input(at).map(|sharded| sharded.value));
                self.account.activation_bytes += self.bytes(self.graph().value(*input)) / cut;
            }
        }
    }

    fn bytes(&self, value: &Value) -> f64 {
        value.ty.bytes_in(self.problem.micro_batch(), self.problem.precision).as_f64()
    }

    /// Exchanges of an operator along an axis, of what the other axis leaves.
    fn inside(&mut self, op: OpId, axis: usize) {
        let treated = &self.treated[op.index()];
        let Some(rule) = treated.rule(axis) else { return };
        let other = treated.rule(1 - axis).map(|rule| rule.split);
        let size = |axis: usize| self.problem.mesh.sizes()[axis] as f64;
        let mut seconds = 0.0;
        for inside in &rule.inside {
            let twice = other == Some(rule.split);
            let left = match inside.collective {
                Exchange::AllReduce if twice => 1.0,
                Exchange::AllGather | Exchange::ReduceScatter | Exchange::Halo if twice && axis == 1 => 1.0,
                _ if other.is_none() => 1.0,
                _ => 1.0 / size(1 - axis),
            };
            let calls = inside.calls.max(1) as f64;
            let bytes = inside.elements as f64 * self.width() * left / calls;
            let (collective, bytes) = match inside.collective {
                Exchange::None => continue,
                Exchange::AllReduce => (Collective::AllReduce, bytes),
                Exchange::AllGather => (Collective::AllGather, bytes),
                Exchange::ReduceScatter => (Collective::ReduceScatter, bytes),
                Exchange::AllToAll => (Collective::AllToAll, bytes / size(axis)),
                Exchange::Halo => (Collective::SendRecv, bytes),
            };
            seconds += calls * self.problem.mesh.seconds(collective, bytes, [axis == 0, axis == 1]);
        }
        let micro_batches = self.micro_batches();
        self.account.traffic([axis == 0, axis == 1]).inside_s += micro_batches * seconds;
    }

    /// Parameters, their gradients and optimizer state, and what keeps them in step.
    fn state(&mut self, op: OpId, strategy: Strategy) {
        let params = self.graph().op(op).params.clone();
        let mut groups: Vec<(bool, Pair, f64)> = Vec::new();
        for (at, param) in params.iter().enumerate() {
            let owned = self.graph().param(*param).users.first() == Some(&op);
            let (pair, elements) = (self.treated[op.index()].param(at), self.elements(*param));
            match groups.iter_mut().find(|group| (group.0, group.1) == (owned, pair)) {
                Some(group) => group.2 += elements,
                None => groups.push((owned, pair, elements)),
            }
        }
        let mut workspace = self.gradients(op);
        for (owned, pair, elements) in groups {
            workspace += self.parameters(owned, pair, elements, strategy);
        }
        self.account.workspace_bytes = self.account.workspace_bytes.max(workspace);
    }

    fn elements(&self, param: ParamId) -> f64 {
        self.graph().param(param).elements() as f64
    }

    /// Gradients of inputs and output.
    fn gradients(&self, op: OpId) -> f64 {
        let (node, treated) = (self.graph().op(op), &self.treated[op.index()]);
        let part = |value, pair: Pair| {
            let value = self.graph().value(value);
            let float = value.ty.dtype.is_float();
            if float { self.bytes(value) / self.cut(pair.map(|sharded| sharded.value)) } else { 0.0 }
        };
        let inputs = node.inputs.iter().enumerate().map(|(at, value)| part(*value, treated.input(at)));
        inputs.sum::<f64>() + part(node.output, treated.output())
    }

    /// Parameters that are laid out alike; returns the workspace of one use.
    fn parameters(&mut self, owned: bool, pair: Pair, elements: f64, strategy: Strategy) -> f64 {
        let mesh = self.problem.mesh;
        let of = self.problem.state_bytes();
        let local = elements / self.cut(pair.map(|sharded| sharded.value));
        let is_summed = |axis: usize| pair[axis] == Sharded::shared() && mesh.sizes()[axis] > 1;
        let summed: Axes = std::array::from_fn(is_summed);
        let over: Axes = std::array::from_fn(|axis| summed[axis] && strategy.over[axis]);
        let rest: Axes = std::array::from_fn(|axis| summed[axis] && !over[axis]);
        let stage = if over == [false; AXES] { ZeroStage::None } else { strategy.zero };
        let (shares, times) = (mesh.ranks(over) as f64, self.micro_batches());
        let (weights, gradients) = (local * of.weight, local * of.gradient);
        let gather = mesh.seconds(Collective::AllGather, weights, over);
        let scatter = mesh.seconds(Collective::ReduceScatter, gradients, over);
        let (held, gathers, scatters, workspace) = match stage {
            ZeroStage::None => ([1.0, 1.0, 1.0], 0.0, 0.0, 0.0),
            ZeroStage::One => ([1.0, 1.0, shares], 1.0, 1.0, 0.0),
            ZeroStage::Two => ([1.0, shares, shares], 1.0, times, gradients),
            ZeroStage::Three => ([shares, shares, shares], 0.0, times, gradients + weights),
        };
        if stage == ZeroStage::Three {
            self.account.traffic(over).parameters_s += 2.0 * times * gather;
        }
        if !owned {
            return workspace;
        }
        self.account.parameter_bytes += weights / held[0];
        self.account.gradient_bytes += gradients / held[1];
        self.account.optimizer_bytes += local * of.optimizer / held[2];
        self.account.update_s += price::update(self.problem, local / held[2]);
        self.account.traffic(over).parameters_s += gathers * gather + scatters * scatter;
        let summed_here = mesh.seconds(Collective::AllReduce, gradients / held[2], rest);
        self.account.traffic(rest).parameters_s += summed_here;
        workspace
    }

    /// A value that operators hand on: its moves, each wanted layout once, and its copies that stay.
    fn value(&mut self, id: ValueId) {
        let value = self.graph().value(id).clone();
        let Some(producer) = value.producer else { return };
        let given = self.treated[producer.index()].output();
        let (mut wanted, mut kept): (Vec<(Pair, Axes)>, Vec<[Layout; AXES]>) = (Vec::new(), Vec::new());
        let layouts = |pair: Pair| pair.map(|sharded| sharded.value);
        if self.problem.saved(producer).output {
            kept.push(layouts(given));
        }
        for reader in &value.consumers {
            for (at, input) in self.graph().op(*reader).inputs.iter().enumerate() {
                if *input == id {
                    let pair = self.treated[reader.index()].input(at);
                    let stash = self.strategies[reader.index()].stash;
                    wanted.push((pair, stash));
                    kept.extend(self.problem.saved(*reader).inputs.then(|| self.kept(&value, pair, stash)));
                }
            }
        }
        let bytes = self.bytes(&value);
        for (pair, stash) in distinct(wanted) {
            let mut moves = self.moves(bytes, layouts(given), layouts(pair));
            moves.extend(self.moves(bytes, self.kept(&value, pair, stash), layouts(pair)));
            if value.ty.dtype.is_float() {
                let gradient = |pair: Pair| pair.map(|sharded| sharded.gradient);
                moves.extend(self.moves(bytes, gradient(pair), gradient(given)));
            }
            for (axes, seconds) in moves {
                let times = self.micro_batches();
                self.account.traffic(axes).resharding_s += times * seconds;
            }
        }
        if value.ty.dtype.is_float() {
            let copies = distinct(kept).into_iter().map(|layout| bytes / self.cut(layout));
            self.account.activation_bytes += copies.sum::<f64>();
        }
    }

    /// Layout of the copy of an input that stays: in slices of the first axis where it is whole, if asked for and possible.
    fn kept(&self, value: &Value, pair: Pair, stash: Axes) -> [Layout; AXES] {
        let mut kept = pair.map(|sharded| sharded.value);
        let mut pieces = 1;
        for axis in (0..AXES).filter(|axis| stash[*axis] && pair[*axis].value == Layout::Replicated) {
            kept[axis] = Layout::Axis(0);
            pieces *= self.problem.mesh.sizes()[axis] as u64;
        }
        let possible = value.ty.dims.len() > 1 && value.ty.dims[0].is_multiple_of(pieces) && value.ty.dtype.is_float();
        if possible { kept } else { pair.map(|sharded| sharded.value) }
    }

    /// The cheapest way from one layout to another: axis by axis, or both at once for one kind of exchange.
    fn moves(&self, bytes: f64, from: [Layout; AXES], to: [Layout; AXES]) -> Moves {
        let in_order = |order: [usize; AXES]| -> Moves {
            let mut now = from;
            let mut moves = Vec::new();
            for axis in order {
                let mut elsewhere = now;
                elsewhere[axis] = Layout::Replicated;
                let buffer = bytes / self.cut(elsewhere);
                let size = self.problem.mesh.sizes()[axis] as f64;
                let (collective, buffer) = match Exchange::between(now[axis], to[axis]) {
                    Exchange::AllReduce => (Collective::AllReduce, buffer),
                    Exchange::AllGather => (Collective::AllGather, buffer),
                    Exchange::ReduceScatter => (Collective::ReduceScatter, buffer),
                    Exchange::AllToAll => (Collective::AllToAll, buffer / size),
                    Exchange::None | Exchange::Halo => (Collective::Broadcast, 0.0),
                };
                now[axis] = to[axis];
                let axes = [axis == 0, axis == 1];
                moves.push((axes, self.problem.mesh.seconds(collective, buffer, axes)));
            }
            moves
        };
        let mut ways = vec![in_order([0, 1]), in_order([1, 0])];
        let both = [0, 1].map(|axis| Exchange::between(from[axis], to[axis]));
        if both[0] == both[1] {
            let collective = match both[0] {
                Exchange::AllReduce => Some(Collective::AllReduce),
                Exchange::AllGather => Some(Collective::AllGather),
                Exchange::ReduceScatter => Some(Collective::ReduceScatter),
                _ => None,
            };
            let joint = collective.map(|collective| self.problem.mesh.seconds(collective, bytes, [true; AXES]));
            ways.extend(joint.map(|seconds| vec![([true; AXES], seconds)]));
        }
        let total = |moves: &Moves| moves.iter().map(|(_, seconds)| seconds).sum::<f64>();
        ways.into_iter().min_by(|a, b| total(a).total_cmp(&total(b))).unwrap_or_default()
    }
}

/// Each element once.
fn distinct<T: PartialEq>(all: Vec<T>) -> Vec<T> {
    let mut seen = Vec::new();
    for one in all {
        if !seen.contains(&one) {
            seen.push(one);
        }
    }
    seen
}
