//! The broadcast rate as a linear program, solved by HiGHS: an independent check of cut and packing.

use good_lp::solvers::highs::highs;
use good_lp::{Expression, ProblemVariables, Solution, SolverModel, Variable, constraint, variable};

use super::super::error::NetworkError;
use super::Topology;

/// Most that every device can receive from `root` at once, bytes/s: maximise `r` such that each device has a flow of value
/// `r` from the root that fits the links. By Edmonds' theorem one packing of trees serves all of them.
///
/// # Errors
/// [`NetworkError::Topology`] when the solver gives up.
pub fn broadcast_rate_by_lp(topology: &Topology, root: usize) -> Result<f64, NetworkError> {
    let devices = topology.len();
    // Links in units of the widest, for the solver's tolerances.
    let unit = topology.capacity.iter().flatten().copied().fold(0.0, f64::max);
    if unit <= 0.0 {
        return Ok(0.0);
    }
    let mut variables = ProblemVariables::new();
    let rate = variables.add(variable().min(0.0).max(devices as f64));
    let flows: Vec<Vec<Vec<Variable>>> = (0..devices)
        .map(|_| {
            let line = |from: usize| {
                (0..devices)
                    .map(|to| topology.capacity(from, to) / unit)
                    .map(|most| variable().min(0.0).max(most))
                    .collect()
            };
            let lines: Vec<Vec<_>> = (0..devices).map(line).collect();
            lines.into_iter().map(|line| line.into_iter().map(|each| variables.add(each)).collect()).collect()
        })
        .collect();
    let mut problem = variables.maximise(rate).using(highs);
    problem.set_verbose(false);
    for target in (0..devices).filter(|target| *target != root) {
        let flow = &flows[target];
        for node in (0..devices).filter(|node| *node != root) {
            let into: Expression = (0..devices).map(|from| flow[from][node]).sum();
            let out: Expression = (0..devices).map(|to| flow[node][to]).sum();
            let demand = if node == target { Expression::from(rate) } else { Expression::from(0.0) };
            problem = problem.with(constraint!(into - out == demand));
        }
    }
    let solution = problem.solve().map_err(|error| NetworkError::Topology {
        cluster: "topology".to_owned(),
        problem: format!("the solver gave up on the packing ({error}): use the least cut instead"),
    })?;
    Ok(solution.value(rate) * unit)
}
