//! Whether a plan over classes is one: counted anew from the problem, with none of the search's code.

use super::plan::{MixedPlan, MixedShape};
use super::problem::MixedProblem;
use crate::estimate::Layout;
use crate::footprint;

/// Everything that is wrong with a plan: devices beyond a class's, layers or samples that do not add up, memory that runs out,
/// layouts that contradict themselves. Empty for every plan that [`search`](fn@super::search) returns.
pub fn violations(problem: &MixedProblem<'_>, plan: &MixedPlan) -> Vec<String> {
    let mut wrong = Vec::new();
    if plan.global_batch != problem.global_batch {
        wrong.push(format!("global_batch is {}, the problem's {}", plan.global_batch, problem.global_batch));
    }
    let mut used = vec![0; problem.classes.len()];
    match &plan.shape {
        MixedShape::Pipeline { layout, stages } => {
            check_batch("layout", layout, plan.global_batch, &mut wrong);
            if layout.pp as usize != stages.len() {
                wrong.push(format!("pp is {}, and there are {} stages", layout.pp, stages.len()));
                return wrong;
            }
            let layers: u64 = stages.iter().map(|stage| stage.layers).sum();
            if layers != problem.model.layers() {
                wrong.push(format!("stages hold {layers} layers of {}", problem.model.layers()));
                return wrong;
            }
            for (at, stage) in stages.iter().enumerate() {
                let Some(class) = class_of(problem, &stage.class, &mut wrong) else { continue };
                used[class] += layout.dp * layout.tp * layout.cp;
                let own = Layout { recompute: stage.recompute, ..layout.clone() };
                check_memory(problem, class, &own, Some(at), &mut wrong);
            }
        }
        MixedShape::Replicas { shares, .. } => {
            let samples: u64 = shares.iter().map(|share| share.samples).sum();
            if samples != plan.global_batch {
                wrong.push(format!("shares add up to {samples} samples of {}", plan.global_batch));
            }
            for share in shares {
                check_batch(&share.class, &share.layout, share.samples, &mut wrong);
                let Some(class) = class_of(problem, &share.class, &mut wrong) else { continue };
                used[class] += share.layout.devices();
                check_memory(problem, class, &share.layout, None, &mut wrong);
            }
        }
    }
    for (class, used) in problem.classes.iter().zip(&used) {
        let named = plan.devices.iter().find(|(name, _)| *name == class.name).map_or(0, |(_, devices)| *devices);
        if *used > class.devices() || named != *used {
            wrong.push(format!("{used} devices of {} used, {named} said, {} there", class.name, class.devices()));
        }
    }
    wrong
}

fn class_of(problem: &MixedProblem<'_>, name: &str, wrong: &mut Vec<String>) -> Option<usize> {
    let class = problem.classes.iter().position(|class| class.name == name);
    if class.is_none() {
        wrong.push(format!("class '{name}' is not one of the problem's"));
    }
    class
}

fn check_batch(what: &str, layout: &Layout, samples: u64, wrong: &mut Vec<String>) {
    if layout.global_batch != samples {
        wrong.push(format!("{what}: a layout of {} samples for {samples}", layout.global_batch));
    }
    if let Err(error) = layout.validate() {
        wrong.push(format!("{what}: {error}"));
    }
}

/// One stage, or all of them.
fn check_memory(
    problem: &MixedProblem<'_>,
    class: usize,
    layout: &Layout,
    stage: Option<usize>,
    wrong: &mut Vec<String>,
) {
    let capacity = problem.classes[class].device_memory;
    match footprint::of_model(problem.graph, layout, problem.keeping) {
        Ok(footprint) => {
            let room = footprint.room(capacity) * (1.0 + 1e-9);
            let own = footprint.stages.iter().enumerate().filter(|(at, _)| stage.is_none_or(|stage| stage == *at));
            for (at, _) in own.filter(|(_, one)| one.parts.total() > room) {
                wrong.push(format!("stage {at} does not fit a {}", problem.classes[class].name));
            }
        }
        Err(error) => wrong.push(error.to_string()),
    }
}
