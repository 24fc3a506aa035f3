//! The mixed-integer program of the throughput problem, contiguity left out.
//!
//! ```text
//! minimise   L
//! one place  for each group g: sum_q x_gq = 1
//! memory     for each accelerator q: sum_g size_g x_gq <= M
//! load       for each accelerator q: sum_g time_g x_gq + sum_n cost_n (in_nq + out_nq) <= L
//!            for each CPU core q: sum_g cpu_time_g x_gq <= L
//! transfers  for each net n with source s, pin v, accelerator q: in_nq >= x_vq - x_sq, out_nq >= x_sq - x_vq
//! ```
//!
//! Nets with equal pins are one; `in + out` is then 1 exactly where some pins are on `q` but not all. Source: Tarnawski et
//! al., NeurIPS 2020, section 5.2. Equal accelerators are told apart by the heaviest groups, in one of the two forms raced.

use good_lp::solvers::highs::{HighsProblem, highs as highs_solver};
use good_lp::{Expression, ProblemVariables, SolverModel, Variable, constraint, variable};

use super::error::PlaceError;
use super::groups::Groups;
use super::loads::Loads;
use super::solver::{Limits, Solved, solve};

/// Value of the incumbent in units of the model: HiGHS accepts rows that are off by 1e-6.
const SCALE: f64 = 100.0;

/// Which of the forms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Starts from the incumbent; nothing worse is in the model.
    Warm,
    /// Starts from nothing and looks only for what is better by more than the gap; equal accelerators are told apart.
    Cold,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Improved {
    /// Device of each group, if a split was found.
    pub(super) device: Option<Vec<usize>>,
    /// No split has a smaller largest load.
    pub(super) bound: f64,
}

/// Solves for the groups. `known` is a split with its largest load; without one all splits count.
pub(super) fn improve(
    groups: &Groups,
    known: Option<(&[usize], f64)>,
    floor: f64,
    form: Form,
    limits: Limits,
) -> Result<Improved, PlaceError> {
    let model = Model::new(groups, known.map(|(_, load)| load), floor, form, limits.relative_gap);
    let start = known.filter(|_| form == Form::Warm).map(|(device, load)| model.start(device, load));
    let Model { problem, places, unit, ceiling, .. } = model;
    let bound = |value: f64| (value * unit * (1.0 - 1e-7)).max(floor);
    Ok(match solve(problem, start.as_deref(), limits)? {
        Solved::Infeasible => Improved { device: None, bound: ceiling.max(floor) },
        Solved::Ended { values, bound: value, .. } => {
            let device = values.map(|values| chosen(&places, &values));
            Improved { device, bound: bound(value).min(ceiling) }
        }
    })
}

struct Model<'g> {
    groups: &'g Groups,
    problem: HighsProblem,
    /// By group, the variable of each device that can hold it; a variable's position is that in the solution.
    places: Vec<Vec<(usize, usize)>>,
    /// Time in one unit of the model.
    unit: f64,
    /// Splits above this are not in the model.
    ceiling: f64,
    variables: usize,
}

impl<'g> Model<'g> {
    fn new(groups: &'g Groups, known: Option<f64>, floor: f64, form: Form, gap: f64) -> Self {
        let unit = known.unwrap_or(floor).max(f64::MIN_POSITIVE) / SCALE;
        let ceiling = match (known, form) {
            (None, _) => f64::INFINITY,
            (Some(load), Form::Warm) => load,
            (Some(load), Form::Cold) => load * (1.0 - gap),
        };
        let mut all = ProblemVariables::new();
        let mut count = 0;
        let mut fresh = |definition| {
            count += 1;
            all.add(definition)
        };
        let load = fresh(variable().min(floor / unit).max(ceiling.max(floor) / unit * (1.0 + 1e-9)));
        let allowed = allowed(groups, form);
        let x: Vec<Vec<(usize, Variable)>> = allowed
            .iter()
            .map(|devices| devices.iter().map(|device| (*device, fresh(variable().binary()))).collect())
            .collect();
        let accelerators = groups.devices.accelerators;
        let cut: Vec<[Variable; 2]> = (0..groups.nets.len() * accelerators)
            .map(|_| [fresh(variable().bounds(0.0..1.0)), fresh(variable().bounds(0.0..1.0))])
            .collect();
        let mut problem = all.minimise(load).using(highs_solver);
        add_places(&mut problem, &x);
        add_loads(&mut problem, groups, &x, &cut, load, unit);
        add_transfers(&mut problem, groups, &x, &cut);
        let mut position = 0;
        let places = x
            .iter()
            .map(|row| {
                row.iter()
                    .map(|(device, _)| {
                        position += 1;
                        (*device, position)
                    })
                    .collect()
            })
            .collect();
        Self { groups, problem, places, unit, ceiling, variables: count }
    }

    /// Values of all variables at a split.
    fn start(&self, device: &[usize], load: f64) -> Vec<f64> {
        let mut values = vec![0.0; self.variables];
        values[0] = load / self.unit;
        for (group, places) in self.places.iter().enumerate() {
            for (place, position) in places {
                values[*position] = f64::from(u8::from(*place == device[group]));
            }
        }
        let accelerators = self.groups.devices.accelerators;
        let first = self.variables - 2 * self.groups.nets.len() * accelerators;
        for (index, net) in self.groups.nets.iter().enumerate() {
            for q in 0..accelerators {
                let here = net.pins.iter().filter(|pin| device[**pin] == q).count();
                if (1..net.pins.len()).contains(&here) {
                    let outward = usize::from(device[net.source] == q);
                    values[first + 2 * (index * accelerators + q) + outward] = 1.0;
                }
            }
        }
        values
    }
}

/// Devices that each group may be on.
fn allowed(groups: &Groups, form: Form) -> Vec<Vec<usize>> {
    let (accelerators, devices) = (groups.devices.accelerators, groups.devices.count());
    let mut allowed: Vec<Vec<usize>> = groups
        .on_accelerator
        .iter()
        .map(|on| if *on { (0..devices).collect() } else { (accelerators..devices).collect() })
        .collect();
    if form == Form::Cold {
        // Accelerators are numbered by the first of the heaviest groups that they hold.
        for (rank, group) in heaviest(groups).into_iter().take(accelerators).enumerate() {
            allowed[group].retain(|device| *device <= rank || *device >= accelerators);
        }
    }
    allowed
}

/// Groups by accelerator time, most first.
fn heaviest(groups: &Groups) -> Vec<usize> {
    let mut heaviest: Vec<usize> = (0..groups.count()).collect();
    heaviest.sort_by(|a, b| groups.accelerator_time[*b].total_cmp(&groups.accelerator_time[*a]));
    heaviest
}

fn add_places(problem: &mut HighsProblem, x: &[Vec<(usize, Variable)>]) {
    for row in x {
        let sum: Expression = row.iter().map(|(_, variable)| *variable).sum();
        problem.add_constraint(constraint!(sum == 1.0));
    }
}

fn add_loads(
    problem: &mut HighsProblem,
    groups: &Groups,
    x: &[Vec<(usize, Variable)>],
    cut: &[[Variable; 2]],
    load: Variable,
    unit: f64,
) {
    let (accelerators, memory) = (groups.devices.accelerators, groups.devices.accelerator_memory);
    let mut loads = vec![Expression::default(); groups.devices.count()];
    let mut sizes = vec![Expression::default(); accelerators];
    for (group, row) in x.iter().enumerate() {
        for (device, variable) in row {
            let on_accelerator = *device < accelerators;
            let times = if on_accelerator { &groups.accelerator_time } else { &groups.cpu_time };
            loads[*device].add_mul(times[group] / unit, *variable);
            if on_accelerator && groups.size[group] > 0.0 {
                sizes[*device].add_mul(groups.size[group] / memory, *variable);
            }
        }
    }
    for (index, net) in groups.nets.iter().enumerate() {
        for device in 0..accelerators {
            for variable in cut[index * accelerators + device] {
                loads[device].add_mul(net.cost / unit, variable);
            }
        }
    }
    for sum in loads {
        problem.add_constraint(constraint!(sum <= load));
    }
    if groups.size.iter().sum::<f64>() > memory {
        for sum in sizes {
            problem.add_constraint(constraint!(sum <= 1.0));
        }
    }
}

fn add_transfers(problem: &mut HighsProblem, groups: &Groups, x: &[Vec<(usize, Variable)>], cut: &[[Variable; 2]]) {
    let accelerators = groups.devices.accelerators;
    let at = |group: usize, device: usize| -> Expression {
        let place = x[group].iter().find(|(place, _)| *place == device);
        place.map_or_else(Expression::default, |(_, variable)| Expression::from(*variable))
    };
    for (index, net) in groups.nets.iter().enumerate() {
        for device in 0..accelerators {
            let [inward, outward] = cut[index * accelerators + device];
            for &pin in net.pins.iter().filter(|pin| **pin != net.source) {
                let ahead = at(pin, device) - at(net.source, device);
                problem.add_constraint(constraint!(ahead.clone() <= inward));
                problem.add_constraint(constraint!(-ahead <= outward));
            }
        }
    }
}

/// The device of each group in a solution.
fn chosen(places: &[Vec<(usize, usize)>], values: &[f64]) -> Vec<usize> {
    let largest = |row: &Vec<(usize, usize)>| {
        let best = row.iter().max_by(|a, b| values[a.1].total_cmp(&values[b.1]));
        best.map_or(0, |(device, _)| *device)
    };
    places.iter().map(largest).collect()
}

/// The largest load of a split, `None` when it breaks a memory limit.
pub(super) fn load_of(groups: &Groups, device: &[usize]) -> Option<f64> {
    let loads = Loads::new(groups, device);
    loads.fits().then(|| loads.largest())
}
