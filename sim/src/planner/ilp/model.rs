//! The ILP of one configuration, stated with good_lp and solved by HiGHS.
//!
//! A column `y_a` is a stage: blocks `first..end` at a position, on a class, behind a stage of a class. A split is a path
//! of columns from `(block 0, position 0)` to the last block:
//!
//! ```text
//! minimise   sum_a (t_a + w_a) y_a + (m - 1) B + A
//! flow       for each cut, position and class before it: columns that end there = columns that start there
//! capacity   for each class: columns on it <= stages that it has room for
//! period     for each block q: B >= sum_{a covers q} t_a y_a
//!            for each position: B >= sum_{a there} x_a y_a
//!            for each position s with p - s < m under 1F1B:
//!                (p - s) B >= sum_{a at s or later} t_a y_a + sum_{a later than s} w_a y_a
//! tail       for each block q: A >= sum_{a covers q} g_a y_a
//! ```
//!
//! One covering row a block instead of one row a column is what makes the linear relaxation tight. Columns that cannot be
//! part of a split faster than the target are left out; so are rows that the lower bounds of `B` and `A` imply.

use std::collections::BTreeMap;

use good_lp::solvers::highs::{HighsProblem, highs as highs_solver};
use good_lp::{Expression, ProblemVariables, SolverModel, Variable, constraint, variable};

use super::columns::Column;
use crate::placement::solver::{self, Limits, solve};
use crate::planner::error::PlanError;
use crate::planner::estimate::{StageCut, StepCosts};
use crate::planner::window::Floor;

/// Value of the incumbent's step time in units of the model. HiGHS accepts rows that are off by 1e-6: at this scale that
/// is 1e-8 of the step time, and far enough above the rounding of its own arithmetic.
const SCALE: f64 = 100.0;

/// What HiGHS found.
#[derive(Clone, Debug)]
pub(super) struct Solved {
    /// A split, if one was found.
    pub(super) cuts: Option<Vec<StageCut>>,
    /// No split of these columns is faster, ns; `None` when there is none at all.
    pub(super) bound: Option<u64>,
    /// Whether the limit of time ended it.
    pub(super) timed_out: bool,
}

/// The ILP of one configuration over some columns.
pub(super) struct Model<'c> {
    columns: &'c [Column],
    variables: Vec<Variable>,
    /// ns in one unit of the model.
    unit: f64,
    problem: HighsProblem,
    period: Variable,
    tail: Variable,
}

impl<'c> Model<'c> {
    /// States the problem. `objective` is the step time of the incumbent, ns.
    pub(super) fn new(costs: &StepCosts, floor: &Floor, columns: &'c [Column], objective: u64) -> Self {
        let unit = objective.max(1) as f64 / SCALE;
        let scaled = |time: u64| time as f64 / unit;
        let mut all = ProblemVariables::new();
        let variables: Vec<Variable> = columns.iter().map(|_| all.add(variable().binary())).collect();
        let period = all.add(variable().min(scaled(floor.period)));
        let tail = all.add(variable().min(scaled(floor.tail)));
        let mut goal = Expression::from(tail);
        goal.add_mul((costs.configuration.micro_batches - 1) as f64, period);
        for (column, variable) in columns.iter().zip(&variables) {
            goal.add_mul(scaled(column.time + column.wire), *variable);
        }
        let problem = all.minimise(goal).using(highs_solver);
        let mut model = Self { columns, variables, unit, problem, period, tail };
        model.add_flow(costs);
        model.add_capacities(costs);
        model.add_covers(costs, floor);
        model.add_links(costs, floor);
        model.add_round_trips(costs);
        model
    }

    /// The sum of a part of the columns that a filter lets through.
    fn sum(&self, part: impl Fn(&Column) -> Option<u64>) -> Expression {
        let mut sum = Expression::with_capacity(16);
        for (column, variable) in self.columns.iter().zip(&self.variables) {
            if let Some(time) = part(column) {
                sum.add_mul(time as f64 / self.unit, *variable);
            }
        }
        sum
    }

    fn add_flow(&mut self, costs: &StepCosts) {
        // Node (0, 0, 0) is the source; (cut, position, class before the cut) the others, the sink left out.
        let mut nodes: BTreeMap<(usize, usize, usize), Expression> = BTreeMap::new();
        for (column, variable) in self.columns.iter().zip(&self.variables) {
            let start = if column.position == 0 { (0, 0, 0) } else { (column.first, column.position, column.upstream) };
            nodes.entry(start).or_default().add_mul(1.0, *variable);
            if column.position + 1 < costs.stages() {
                nodes.entry((column.end, column.position + 1, column.class)).or_default().add_mul(-1.0, *variable);
            }
        }
        for (node, balance) in nodes {
            let supply = f64::from(u8::from(node == (0, 0, 0)));
            self.problem.add_constraint(constraint!(balance == supply));
        }
    }

    fn add_capacities(&mut self, costs: &StepCosts) {
        for class in 0..costs.classes() {
            if costs.capacities[class] >= costs.stages() {
                continue;
            }
            let mut used = Expression::default();
            for (column, variable) in self.columns.iter().zip(&self.variables) {
                if column.class == class {
                    used.add_mul(1.0, *variable);
                }
            }
            let room = costs.capacities[class] as f64;
            self.problem.add_constraint(constraint!(used <= room));
        }
    }

    fn add_covers(&mut self, costs: &StepCosts, floor: &Floor) {
        for block in 0..costs.blocks {
            let covering = |column: &&Column| (column.first..column.end).contains(&block);
            let (mut slow, mut late) = (false, false);
            for column in self.columns.iter().filter(covering) {
                slow |= column.time > floor.period;
                late |= column.tail > floor.tail;
            }
            if slow && costs.configuration.micro_batches > 1 {
                let times = self.sum(|column| covering(&column).then_some(column.time));
                let period = self.period;
                self.problem.add_constraint(constraint!(times <= period));
            }
            if late {
                let tails = self.sum(|column| covering(&column).then_some(column.tail));
                let tail = self.tail;
                self.problem.add_constraint(constraint!(tails <= tail));
            }
        }
    }

    fn add_links(&mut self, costs: &StepCosts, floor: &Floor) {
        for position in 1..costs.stages() {
            let there = |column: &Column| (column.position == position).then_some(column.transfer);
            if self.columns.iter().filter_map(there).any(|transfer| transfer > floor.period) {
                let transfers = self.sum(there);
                let period = self.period;
                self.problem.add_constraint(constraint!(transfers <= period));
            }
        }
    }

    fn add_round_trips(&mut self, costs: &StepCosts) {
        for position in 0..costs.stages() {
            let Some(ahead) = costs.round_trip_limit(position) else { continue };
            let way = self.sum(|column| {
                let wire = if column.position > position { column.wire } else { 0 };
                (column.position >= position).then_some(column.time + wire)
            });
            let period = self.period;
            let ahead = ahead as f64;
            self.problem.add_constraint(constraint!(way <= ahead * period));
        }
    }

    /// Runs HiGHS, from `start` if there is one: one thread and a fixed seed, so that equal inputs give equal answers.
    pub(super) fn solve(
        self,
        costs: &StepCosts,
        start: Option<&[Column]>,
        limits: Limits,
    ) -> Result<Solved, PlanError> {
        let start = start.map(|path| self.start(costs, path));
        let Self { columns, unit, problem, .. } = self;
        let failed = |what: &str| PlanError::Solver(what.to_owned());
        let solved = solve(problem, start.as_deref(), limits).map_err(|error| failed(&error.to_string()))?;
        let solver::Solved::Ended { values, bound, limited } = solved else {
            return Ok(Solved { cuts: None, bound: None, timed_out: false });
        };
        let cuts = values.map(|values| chosen(columns, &values));
        if cuts.as_ref().is_some_and(|cuts| cuts.len() != costs.stages()) {
            return Err(failed("HiGHS returned a broken path"));
        }
        Ok(Solved { cuts, bound: Some(to_nanos(bound, unit)), timed_out: limited })
    }

    /// A dense start: the path's columns at one, period and tail as they follow from it.
    fn start(&self, costs: &StepCosts, path: &[Column]) -> Vec<f64> {
        let mut values: Vec<f64> =
            self.columns.iter().map(|column| f64::from(u8::from(path.contains(column)))).collect();
        let cuts: Vec<StageCut> = path.iter().map(|c| StageCut { end: c.end, class: c.class }).collect();
        let estimate = costs.estimate(&cuts);
        let (period, tail) = estimate.map_or((0, 0), |estimate| (estimate.period, estimate.tail));
        values.extend([period as f64 / self.unit, tail as f64 / self.unit]);
        values
    }
}

/// The path of the columns at one.
fn chosen(columns: &[Column], values: &[f64]) -> Vec<StageCut> {
    let mut path: Vec<&Column> =
        columns.iter().zip(values).filter(|(_, value)| **value > 0.5).map(|(column, _)| column).collect();
    path.sort_by_key(|column| column.position);
    path.iter().map(|column| StageCut { end: column.end, class: column.class }).collect()
}

/// A bound in ns, with the solver's tolerance off. Step times are whole, so it is rounded up.
fn to_nanos(value: f64, unit: f64) -> u64 {
    (value * unit * (1.0 - 1e-7) - 1e-3).ceil().max(0.0) as u64
}
