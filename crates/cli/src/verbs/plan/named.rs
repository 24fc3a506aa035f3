//! The plan of a name, in place of a search.

use std::path::Path;

use anyhow::Result;
use cutplane_plan::write_plan;
use cutplane_sim::planner::{Problem, named_plan};
use serde_json::json;

use super::predict;
use crate::output;
use crate::pricing::Pricing;

/// Makes, predicts, writes and shows the plan that `name` describes.
pub(super) fn show(
    problem: &Problem<'_>,
    pricing: &Pricing,
    name: &str,
    out: Option<&Path>,
    as_json: bool,
) -> Result<()> {
    let plan = named_plan(problem, pricing.cost(), name)?;
    let timeline = predict(&plan, problem.model, problem.devices, pricing)?;
    if let Some(path) = out {
        write_plan(path, &plan)?;
    }
    if as_json {
        return output::print_json(&json!({
            "predicted_step_ns": timeline.makespan(),
            "predicted_peak_memory_bytes": timeline.peak_memory,
            "prices": pricing.origin,
            "plan": plan,
        }));
    }
    println!(
        "plan     {name}  dp {}  pp {}  tensor axis {}  micro-batch {} x {}  {}  {}  recompute {}",
        plan.data_degree(),
        plan.pipeline_degree(),
        plan.execution.tensor_degree(),
        plan.micro_batch_size(),
        plan.micro_batches,
        plan.schedule.label(),
        plan.execution.synchronisation,
        plan.execution.recompute.label()
    );
    let (step, memory) = (timeline.makespan(), timeline.max_peak_memory());
    println!("predict  step {step}   memory {memory} on the fullest device   prices: {}", pricing.origin);
    match out {
        Some(path) => println!("saved    {}   next: cutplane simulate {0} --trace t.json", path.display()),
        None => println!("next     --out plan.json, then cutplane simulate plan.json --trace t.json"),
    }
    Ok(())
}
