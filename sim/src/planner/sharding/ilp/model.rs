//! The integer program.
//!
//! ```text
//! minimise   sum_n seconds_n(s) x_ns + sum_nets cost(p, q) e(p, q)
//! one choice for each node n: sum_s x_ns = 1
//! nets       for each net and reader: sum_q f(p, q) = sum_(s gives p) x_us, sum_p f(p, q) = sum_(s takes q) x_vs
//!            with several readers: e(p, q) >= f(p, q) of each; with one, e = f
//! memory     sum_n memory_n(s) x_ns + sum_keeps bytes(l) k(l) + W <= M
//!            for each keep, keeper and layout: k(l) >= sum_(s keeps l) x_vs; for each node: W >= sum_s workspace_n(s) x_ns
//! ```
//!
//! Only `x` is binary: with `x` integral, `f` has one pair at one, and `e`, `k` and `W` are what they must be. Pairs that
//! cannot go together have no `f`. The marginals by layout, not by choice, keep it small and its relaxation tight.
//!
//! For copies that are not alike `x` is the fraction of copies with a choice. A net stands for `c` of a member's `n`
//! copies, so what it sees of the member is only bounded: `c sum_q f(p, q) <= n sum x`, `c k(l) >= n sum x - (n - c)`. Every
//! plan gives such fractions with this objective or less, so the linear program bounds all plans.

use good_lp::solvers::highs::{HighsProblem, highs as highs_solver};
use good_lp::{
    Constraint, Expression, ProblemVariables, SolverModel, Variable, VariableDefinition, constraint, variable,
};

use crate::planner::sharding::table::{Keep, Member, Net, Node, ShardTable};

/// What is minimised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Aim {
    /// Time, under the memory limit.
    Seconds,
    /// Memory, without a limit.
    Memory,
}

/// Whether the copies behind a node are alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Copies {
    /// One choice for all.
    Alike,
    /// Fractions of them.
    Free,
}

/// Value of one unit of the model: HiGHS accepts rows that are off by 1e-6, and stops at an absolute gap of that.
const SCALE: f64 = 1000.0;

/// The program, ready to be solved.
pub(super) struct Model {
    pub(super) problem: HighsProblem,
    /// A value for every column: the known assignment.
    pub(super) start: Vec<f64>,
    /// What one unit of the objective stands for.
    pub(super) unit: f64,
    sizes: Vec<usize>,
}

impl Model {
    /// `objective` is about what time will come out; 0 where nothing is known.
    pub(super) fn new(table: &ShardTable, known: &[usize], aim: Aim, copies: Copies, objective: f64) -> Self {
        let limits_memory = aim == Aim::Memory || table.memory_limit.is_finite();
        let mut builder = Builder {
            table,
            known,
            copies,
            unit: if objective > 0.0 { objective } else { slowest(table) } / SCALE,
            all: ProblemVariables::new(),
            start: Vec::new(),
            rows: Vec::new(),
            seconds: Expression::default(),
            memory: Expression::default(),
            x: Vec::new(),
        };
        builder.choices();
        for net in &table.nets {
            let matters = |cost: &f64| cost.is_infinite() || (aim == Aim::Seconds && *cost > 0.0);
            if net.cost.iter().any(matters) {
                builder.net(net);
            }
        }
        if limits_memory {
            builder.memory();
        }
        builder.finish(aim)
    }

    /// Columns.
    pub(super) fn variables(&self) -> usize {
        self.start.len()
    }

    /// The choice of each node in a solution of [`Self::problem`]: sizes are those of the nodes.
    pub(super) fn chosen(sizes: &[usize], values: &[f64]) -> Vec<usize> {
        let mut at = 0;
        let largest = |size: &usize| {
            let range = at..at + size;
            at += size;
            let best = range.clone().max_by(|a, b| values[*a].total_cmp(&values[*b]));
            best.map_or(0, |best| best - range.start)
        };
        sizes.iter().map(largest).collect()
    }

    /// Choices of each node.
    pub(super) fn sizes(&self) -> Vec<usize> {
        self.sizes.clone()
    }
}

/// The time when every node is at its slowest; 1 where even that is nothing.
fn slowest(table: &ShardTable) -> f64 {
    let largest = |node: &Node| node.choices.iter().map(|one| one.seconds).fold(0.0, f64::max);
    let sum: f64 = table.nodes.iter().map(largest).sum();
    if sum > 0.0 { sum } else { 1.0 }
}

struct Builder<'a> {
    table: &'a ShardTable,
    known: &'a [usize],
    copies: Copies,
    unit: f64,
    all: ProblemVariables,
    start: Vec<f64>,
    rows: Vec<Constraint>,
    seconds: Expression,
    memory: Expression,
    x: Vec<Vec<Variable>>,
}

impl Builder<'_> {
    fn column(&mut self, definition: VariableDefinition, start: f64) -> Variable {
        self.start.push(start);
        self.all.add(definition)
    }

    fn choices(&mut self) {
        for (at, node) in self.table.nodes.iter().enumerate() {
            let mut row = Vec::with_capacity(node.choices.len());
            for (index, choice) in node.choices.iter().enumerate() {
                let definition = match self.copies {
                    Copies::Alike => variable().binary(),
                    Copies::Free => variable().bounds(0.0..1.0),
                };
                let x = self.column(definition, f64::from(u8::from(index == self.known[at])));
                self.seconds.add_mul(choice.seconds / self.unit, x);
                row.push(x);
            }
            let sum: Expression = row.iter().sum();
            self.rows.push(constraint!(sum == 1.0));
            self.x.push(row);
        }
        if self.copies == Copies::Free {
            // HiGHS states a dual bound of integer programs only; this column makes the linear program one.
            self.column(variable().binary(), 0.0);
        }
    }

    /// For each layout, the choices of a member that have it.
    fn marginals(&self, member: &Member, layouts: usize) -> Vec<Expression> {
        let mut sums = vec![Expression::default(); layouts];
        for (layout, x) in member.layout.iter().zip(&self.x[member.node]) {
            sums[*layout].add_mul(1.0, *x);
        }
        sums
    }

    fn net(&mut self, net: &Net) {
        let given = net.cost.len() / net.targets;
        let pairs: Vec<(usize, usize)> = (0..given).flat_map(|p| (0..net.targets).map(move |q| (p, q))).collect();
        let start = net.producer.layout[self.known[net.producer.node]];
        let mut shared: Vec<Option<Variable>> = vec![None; net.cost.len()];
        for reader in &net.readers {
            let target = reader.layout[self.known[reader.node]];
            let mut flows: Vec<(usize, usize, Variable)> = Vec::with_capacity(pairs.len());
            for &(p, q) in pairs.iter().filter(|(p, q)| net.between(*p, *q).is_finite()) {
                if !reader.layout.contains(&q) || !net.producer.layout.contains(&p) {
                    continue;
                }
                let now = f64::from(u8::from(p == start && q == target));
                let flow = self.column(variable().bounds(0.0..1.0), now);
                self.charge(net, (p, q), flow, now, &mut shared);
                flows.push((p, q, flow));
            }
            let by_given = self.marginals(&net.producer, given);
            self.join(net, &net.producer, by_given, &flows, |flow| flow.0);
            let by_target = self.marginals(reader, net.targets);
            self.join(net, reader, by_target, &flows, |flow| flow.1);
        }
    }

    /// Cost of a pair: of its flow with one reader, else of a column above the flows of all readers.
    fn charge(&mut self, net: &Net, (p, q): (usize, usize), flow: Variable, now: f64, shared: &mut [Option<Variable>]) {
        let cost = net.between(p, q) / self.unit;
        if cost <= 0.0 {
            return;
        }
        if net.readers.len() == 1 {
            self.seconds.add_mul(cost, flow);
            return;
        }
        let at = p * net.targets + q;
        let any = if let Some(known) = shared[at] {
            known
        } else {
            let used = net.readers.iter().any(|reader| reader.layout[self.known[reader.node]] == q);
            let is_given = net.producer.layout[self.known[net.producer.node]] == p;
            let fresh = self.column(variable().bounds(0.0..1.0), f64::from(u8::from(used && is_given)).max(now));
            self.seconds.add_mul(cost, fresh);
            shared[at] = Some(fresh);
            fresh
        };
        self.rows.push(constraint!(flow <= any));
    }

    /// Ties the flows of a net to a member's choices.
    fn join(
        &mut self,
        net: &Net,
        member: &Member,
        marginals: Vec<Expression>,
        flows: &[(usize, usize, Variable)],
        layout: impl Fn(&(usize, usize, Variable)) -> usize,
    ) {
        let copies = self.table.nodes[member.node].copies;
        let is_partial = self.copies == Copies::Free && net.count < copies;
        for (at, marginal) in marginals.into_iter().enumerate() {
            if !member.layout.contains(&at) {
                continue;
            }
            let sum: Expression = flows.iter().filter(|flow| layout(flow) == at).map(|flow| flow.2).sum();
            let row = if is_partial {
                constraint!(net.count as f64 / copies as f64 * sum <= marginal)
            } else {
                constraint!(sum == marginal)
            };
            self.rows.push(row);
        }
        if is_partial {
            let all: Expression = flows.iter().map(|flow| flow.2).sum();
            self.rows.push(constraint!(all == 1.0));
        }
    }

    fn memory(&mut self) {
        let unit = self.memory_unit();
        for (node, row) in self.table.nodes.iter().zip(&self.x) {
            for (choice, x) in node.choices.iter().zip(row) {
                self.memory.add_mul(choice.memory / unit, *x);
            }
        }
        for keep in &self.table.keeps {
            self.keep(keep, unit);
        }
        let spent = self.table.nodes.iter().zip(self.known).map(|(node, at)| node.choices[*at].workspace);
        let largest = self.column(variable().min(0.0), spent.fold(0.0, f64::max) / unit);
        self.memory.add_mul(1.0, largest);
        for (node, row) in self.table.nodes.iter().zip(&self.x) {
            let mut own = Expression::default();
            for (choice, x) in node.choices.iter().zip(row) {
                own.add_mul(choice.workspace / unit, *x);
            }
            self.rows.push(constraint!(own <= largest));
        }
    }

    /// Bytes in one unit: the limit, or what the nodes need at least where that is more.
    fn memory_unit(&self) -> f64 {
        let least = |node: &Node| node.choices.iter().map(|one| one.memory).fold(f64::INFINITY, f64::min);
        let needed: f64 = self.table.nodes.iter().map(least).sum();
        let limit = self.table.memory_limit;
        let whole = if limit.is_finite() { limit.max(needed) } else { needed };
        whole.max(1.0) / SCALE
    }

    fn keep(&mut self, keep: &Keep, unit: f64) {
        if let ([keeper], Copies::Alike) = (&keep.keepers[..], self.copies) {
            for (layout, x) in keeper.layout.iter().zip(&self.x[keeper.node]) {
                self.memory.add_mul(keep.bytes[*layout] / unit, *x);
            }
            return;
        }
        let mut held = Vec::with_capacity(keep.bytes.len());
        for (layout, bytes) in keep.bytes.iter().enumerate() {
            let used = keep.keepers.iter().any(|keeper| keeper.layout[self.known[keeper.node]] == layout);
            let copy = self.column(variable().bounds(0.0..1.0), f64::from(u8::from(used)));
            self.memory.add_mul(*bytes / unit, copy);
            held.push(copy);
        }
        for keeper in &keep.keepers {
            let copies = self.table.nodes[keeper.node].copies as f64;
            let seen = if self.copies == Copies::Free { keep.count as f64 } else { copies };
            for (layout, marginal) in self.marginals(keeper, held.len()).into_iter().enumerate() {
                let outside = (copies - seen) / copies;
                self.rows.push(constraint!(marginal - outside <= seen / copies * held[layout]));
            }
        }
        let any: Expression = held.iter().sum();
        self.rows.push(constraint!(any >= 1.0));
    }

    fn finish(self, aim: Aim) -> Model {
        let memory_unit = self.memory_unit();
        let limit = self.table.memory_limit / memory_unit;
        let (objective, unit) = match aim {
            Aim::Seconds => (self.seconds, self.unit),
            Aim::Memory => (self.memory.clone(), memory_unit),
        };
        let mut problem = self.all.minimise(objective).using(highs_solver);
        for row in self.rows {
            problem.add_constraint(row);
        }
        if aim == Aim::Seconds && limit.is_finite() {
            let memory = self.memory;
            problem.add_constraint(constraint!(memory <= limit));
        }
        let sizes = self.table.nodes.iter().map(|node| node.choices.len()).collect();
        Model { problem, start: self.start, unit, sizes }
    }
}
