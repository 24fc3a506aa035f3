//! A layout in a few lines.

use cutplane_plan::StopReason;
use cutplane_sim::planner::layouts::{LayoutPlan, label, split_label};
use cutplane_sim::planner::mapping::HostMapping;
use cutplane_units::Bytes;

use super::Question;

/// Six lines: what, how fast, does it fit, is it the best, why, can it be run.
pub(crate) fn report(question: &Question, plan: &LayoutPlan) -> String {
    let (predicted, layout) = (&plan.predicted, &plan.layout);
    let split = split_label(layout).map(|split| format!("  layers {split}")).unwrap_or_default();
    let memory = |bytes: u64| Bytes::new(bytes);
    let dollars = predicted.dollars_per_step.map(|dollars| format!("   ${dollars:.2} a step")).unwrap_or_default();
    format!(
        "model    {}  {} layers  {:.1} B parameters     cluster  {}: {} of {} x {} used\n\
         plan     {}{split}\n\
         predict  step {:.3} s ({:.3} .. {:.3})  {:.0} tokens/s   memory {} of {} on the fullest device{dollars}\n\
         proof    {}\n\
         why      {}\n\
         {}runs     {}\n",
        question.graph.name(),
        question.graph.layer_count(),
        question.graph.parameter_count() as f64 / 1e9,
        plan.question.cluster,
        predicted.devices,
        question.fabric.ranks(),
        question.device.model,
        label(layout),
        predicted.step_s,
        predicted.step_low_s,
        predicted.step_high_s,
        predicted.tokens_per_s,
        memory(predicted.peak_memory_bytes),
        memory(predicted.device_memory_bytes),
        proof(plan),
        why(plan),
        plan.mapping.as_ref().map(place_line).unwrap_or_default(),
        plan.execution.note,
    )
}

/// Which device each rank takes.
fn place_line(mapping: &HostMapping) -> String {
    let groups: Vec<String> = mapping.groups.iter().map(|group| group.join(" ")).collect();
    let size = mapping.groups.first().map_or(0, Vec::len);
    let rate = |bytes: f64| format!("{:.0} GB/s", bytes / 1e9);
    let inner =
        if size > 1 { format!(", each at {}", rate(mapping.inner_all_reduce_bytes_per_s)) } else { String::new() };
    let outer = match groups.len() {
        1 => String::new(),
        _ => format!("; neighbours at {}", rate(mapping.outer_bytes_per_s)),
    };
    format!("place    groups of {size}: {}{inner}{outer}\n", groups.join(" | "))
}

/// Why a search ended, in words.
pub(super) const fn stop_label(stop: StopReason) -> &'static str {
    match stop {
        StopReason::ProvenOptimal => "proven optimal",
        StopReason::GapReached => "gap reached",
        StopReason::TimeLimit => "time limit",
        StopReason::CandidatesExhausted => "searchers exhausted",
        StopReason::Interrupted => "interrupted",
    }
}

/// What is known of a layout's optimality.
fn proof(plan: &LayoutPlan) -> String {
    let search = &plan.search;
    let stop = stop_label(search.stop_reason);
    format!(
        "at most {:.3}% from optimal in the tool's own prices (bound {:.4}, {stop}): {} layouts priced, {} sets cut; {:.2} s",
        100.0 * search.gap,
        search.bound,
        search.counts.priced,
        search.counts.cut_by_bound + search.counts.cut_by_memory,
        search.search_seconds
    )
}

/// The largest parts of the step, the memory, the runner-up.
fn why(plan: &LayoutPlan) -> String {
    let mut parts = plan.predicted.parts_s.clone();
    parts.sort_by(|a, b| b.1.total_cmp(&a.1));
    let share = |(name, seconds): &(String, f64)| format!("{name} {:.0}%", 100.0 * seconds / plan.predicted.step_s);
    let time: Vec<String> = parts.iter().take(4).map(share).collect();
    let memory = format!("memory fullest on stage {} ({})", plan.predicted.fullest_stage, plan.predicted.largest_part);
    let runner_up = plan.search.runners_up.first().map(|(label, value)| {
        format!("; runner-up {:.2}% worse: {label}", 100.0 * (value / plan.search.objective - 1.0))
    });
    format!("{}; {memory}{}", time.join(", "), runner_up.unwrap_or_default())
}
