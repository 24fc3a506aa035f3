//! Limits that no placement can keep: found before any search, with the smallest change that would lift them.

use cutplane_graph::placement::PlacementProblem;

use super::error::PlaceError;
use super::groups::Groups;

/// Limits that bind whatever the split: nodes without a device, classes too large, too little memory in all.
///
/// # Errors
/// [`PlaceError::Infeasible`].
pub(super) fn check(problem: &PlacementProblem) -> Result<(), PlaceError> {
    let devices = problem.devices();
    if devices.cpus > 0 {
        return Ok(());
    }
    let infeasible = |limit, remedy: &str| Err(PlaceError::Infeasible { limit, remedy: remedy.to_owned() });
    if let Some(node) = problem.nodes().iter().find(|node| !node.on_accelerator) {
        let limit = format!("node {} cannot run on an accelerator and there is no CPU core", node.id);
        return infeasible(limit, "add one CPU core (maxCPUs 1)");
    }
    let classes = Groups::of_classes(problem);
    let memory = devices.accelerator_memory;
    let largest = classes.size.iter().copied().enumerate().max_by(|a, b| a.1.total_cmp(&b.1));
    if let Some((class, size)) = largest.filter(|(_, size)| *size > memory) {
        let node = classes.of_node.iter().position(|of| *of == class).unwrap_or(0);
        let id = problem.nodes()[node].id;
        let limit = format!("node {id} and its colour class need {size:.0} bytes on one accelerator of {memory:.0}");
        return infeasible(limit, &format!("raise maxSizePerFPGA to {size:.0}, or add one CPU core (maxCPUs 1)"));
    }
    let total: f64 = classes.size.iter().sum();
    let accelerators = devices.accelerators as f64;
    if total > accelerators * memory * (1.0 + 1e-9) {
        let limit =
            format!("all nodes need {total:.0} bytes, {accelerators} accelerators have {:.0}", accelerators * memory);
        let count = (total / memory).ceil();
        let each = (total / accelerators).ceil().max(classes.size.iter().copied().fold(0.0, f64::max));
        let remedy = format!("at least {count} accelerators, or {each:.0} bytes on each, or one CPU core (maxCPUs 1)");
        return infeasible(limit, &remedy);
    }
    Ok(())
}

/// No split of the kind asked for fits into the accelerators' memory although the sum would; `enough` tells whether it
/// would with other accelerators.
pub(super) fn too_tight(groups: &Groups, kind: &str, enough: impl Fn(&Groups) -> bool) -> PlaceError {
    let devices = groups.devices;
    let more = (devices.accelerators + 1..=groups.count()).take(64).find(|accelerators| {
        let mut wider = groups.clone();
        wider.devices.accelerators = *accelerators;
        enough(&wider)
    });
    let more = more.map_or_else(String::new, |count| format!("{count} accelerators, or "));
    PlaceError::Infeasible {
        limit: format!(
            "no {kind} split keeps each of {} accelerators within {:.0} bytes",
            devices.accelerators, devices.accelerator_memory
        ),
        remedy: format!("it would fit with {more}one CPU core (maxCPUs 1)"),
    }
}
