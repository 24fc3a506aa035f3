//! What a search of layouts returns.

use cutplane_plan::StopReason;

use super::pins::{schedule_label, zero_label};
use super::tally::SearchCounts;
use crate::estimate::{Layout, Offload, PipelineSchedule, Recompute, StepEstimate, ZeroStage};
use crate::footprint::Footprint;

/// A layout that fits, with its prices.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// What is minimised ([`super::Objective::value`]).
    pub value: f64,
    /// The layout.
    pub layout: Layout,
    /// Its predicted step.
    pub estimate: StepEstimate,
    /// Its memory.
    pub footprint: Footprint,
}

impl Candidate {
    /// Predicted time of a step, s.
    pub fn seconds(&self) -> f64 {
        self.estimate.predicted.seconds
    }
}

/// The best layouts, and what is known of them.
#[derive(Clone, Debug, PartialEq)]
pub struct LayoutOutcome {
    /// Best first; at least one, at most as many as were asked for.
    pub best: Vec<Candidate>,
    /// No layout of the whole space is worth less than this.
    pub bound: f64,
    /// Why the search ended.
    pub stop: StopReason,
    /// How much work it was.
    pub counts: SearchCounts,
    /// Wall time, s.
    pub search_seconds: f64,
}

impl LayoutOutcome {
    /// The best one.
    pub fn chosen(&self) -> &Candidate {
        &self.best[0]
    }

    /// `(objective - bound) / objective`.
    pub fn gap(&self) -> f64 {
        let value = self.chosen().value;
        if value > 0.0 { ((value - self.bound) / value).max(0.0) } else { 0.0 }
    }
}

/// A layout in a line: `tp 8  pp 16  dp 8  micro-batch 1 x 192  1f1b  ZeRO-1  recompute none`; what is 1 or off is left out.
pub fn label(layout: &Layout) -> String {
    let mut parts = vec![format!("tp {}{}", layout.tp, if layout.sequence_parallel { "+sp" } else { "" })];
    let degrees =
        [("pp", layout.pp, true), ("dp", layout.dp, true), ("cp", layout.cp, false), ("ep", layout.ep, false)];
    parts
        .extend(degrees.iter().filter(|part| part.2 || part.1 > 1).map(|(name, degree, _)| format!("{name} {degree}")));
    if layout.whole_experts {
        parts.push("whole experts".to_owned());
    }
    parts.push(format!("micro-batch {} x {}", layout.micro_batch, layout.micro_batches()));
    if layout.pp > 1 {
        let chunks =
            if layout.schedule == PipelineSchedule::Interleaved { format!(" x{}", layout.vpp) } else { String::new() };
        parts.push(format!("{}{chunks}", schedule_label(layout.schedule)));
    }
    if layout.zero.stage != ZeroStage::None {
        parts.push(format!("ZeRO-{}", zero_label(layout.zero)));
    }
    parts.push(match layout.recompute {
        Recompute::None => "recompute none".to_owned(),
        Recompute::Selective => "recompute selective".to_owned(),
        Recompute::Full => "recompute full".to_owned(),
        Recompute::Layers(count) => format!("recompute {count} layers a stage"),
    });
    if layout.offload == Offload::Optimizer {
        parts.push("optimizer on the host".to_owned());
    }
    parts.join("  ")
}

/// The layers of each chunk where they are not even: `7 x 8 x 14, 6`.
pub fn split_label(layout: &Layout) -> Option<String> {
    let split = layout.stage_split.as_ref()?;
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for layers in split {
        match runs.last_mut() {
            Some((known, count)) if known == layers => *count += 1,
            _ => runs.push((*layers, 1)),
        }
    }
    let run = |(layers, count): &(u64, u64)| {
        if *count == 1 { layers.to_string() } else { format!("{count} x {layers}") }
    };
    (runs.len() > 1).then(|| runs.iter().map(run).collect::<Vec<_>>().join(", "))
}
