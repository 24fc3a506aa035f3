//! Other devices than a plan was made for: what is left of a cluster, and the plan for it.

use anyhow::{Context as _, Result, ensure};
use cutplane_graph::{ClusterSpec, DeviceGraph, ModelGraph};
use cutplane_plan::Plan;
use cutplane_sim::planner::{Problem, SearchSpace};

use crate::limits::SearchArgs;
use crate::pricing;
use crate::verbs::plan::{Searcher, search};

/// A run waits for the plan, so the search is short and stops at a good plan.
const SEARCH_SECONDS: f64 = 10.0;
const GAP: f64 = 0.01;

/// The best plan for the same work on other devices, by prices that are at hand: no run waits for a measurement.
pub(crate) fn replan(old: &Plan, model: &ModelGraph, devices: &DeviceGraph) -> Result<Plan> {
    let pricing = pricing::at_hand(devices);
    let problem = Problem {
        model,
        model_source: old.model.source.clone(),
        devices,
        memory: pricing.memory(),
        global_batch: old.workload.global_batch,
        optimizer: old.workload.optimizer,
        precision: old.workload.precision,
        limits: SearchSpace::default(),
    };
    let outcome = search(&problem, &pricing, Searcher::BEST, &SearchArgs::new(SEARCH_SECONDS, GAP));
    Ok(outcome.with_context(|| format!("no plan for what is left of the devices, {}", devices.name()))?.plan)
}

/// The devices without one of them.
pub(crate) fn without(devices: &DeviceGraph, lost: &str) -> Result<DeviceGraph> {
    ensure!(devices.devices().len() > 1, "{lost} was the last device: there is none to go on with");
    let spec = devices.spec();
    let mut left = ClusterSpec { name: format!("{} without {lost}", spec.name), ..spec.clone() };
    left.nodes.retain(|node| node.name != lost);
    left.links.retain(|link| link.from != lost && link.to != lost);
    Ok(DeviceGraph::build(left)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_without_a_device_has_all_others() {
        let devices = crate::context::devices("cpu:3").unwrap();
        let left = without(&devices, "cpu:1").unwrap();
        let names: Vec<&str> = left.devices().iter().map(|device| device.name.as_str()).collect();
        assert_eq!(names, ["cpu:0", "cpu:2"]);
        let last = without(&left, "cpu:0").unwrap();
        let error = without(&last, "cpu:2").unwrap_err().to_string();
        assert!(error.contains("the last device"), "{error}");
    }
}
