//! What a search over classes returns, and its file.

use cutplane_plan::StopReason;
use serde::{Deserialize, Serialize};

use crate::estimate::{Layout, Recompute};
use crate::planner::layouts::{LayoutQuestion, label};

/// What [`MixedPlan::format`] says.
pub const MIXED_FORMAT: &str = "cutplane-mixed";
/// The version that this build writes and reads.
pub const MIXED_VERSION: u32 = 1;

/// A stage of a pipeline over classes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassStage {
    /// The class of its devices.
    pub class: String,
    /// Its layers; embedding and head go with the first and the last stage.
    pub layers: u64,
    /// What it computes again.
    pub recompute: Recompute,
    /// Predicted time of one micro-batch, forward and backward, s.
    pub predicted_stage_s: f64,
    /// Predicted memory of each of its devices, bytes.
    pub predicted_memory_bytes: u64,
}

/// What one class does where classes train replicas of their own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassShare {
    /// The class.
    pub class: String,
    /// Its samples of each step.
    pub samples: u64,
    /// How it computes them.
    pub layout: Layout,
    /// Predicted time of its own step, s.
    pub predicted_step_s: f64,
    /// Predicted memory of its fullest device, bytes.
    pub predicted_memory_bytes: u64,
}

/// How the work is spread.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum MixedShape {
    /// Equal replicas, each a pipeline over classes.
    Pipeline {
        /// What is common to all stages, their layers too; what is recomputed is each stage's own.
        layout: Layout,
        /// First to last.
        stages: Vec<ClassStage>,
    },
    /// Replicas that differ from class to class.
    Replicas {
        /// The classes that take part.
        shares: Vec<ClassShare>,
        /// Predicted exchange of gradients between classes, s.
        predicted_exchange_s: f64,
    },
}

/// A plan over unlike devices.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MixedPlan {
    /// [`MIXED_FORMAT`].
    pub format: String,
    /// [`MIXED_VERSION`].
    pub version: u32,
    /// Samples of a step.
    pub global_batch: u64,
    /// How the work is spread.
    pub shape: MixedShape,
    /// Devices used of each class.
    pub devices: Vec<(String, u64)>,
    /// Predicted time of a step, s.
    pub predicted_step_s: f64,
    /// Price of a step, dollars, where the price of each device is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predicted_dollars: Option<f64>,
    /// What the runtime would need to execute it, or how to get a plan that it runs.
    pub execution_note: String,
}

/// The best plan, and what is known of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MixedOutcome {
    /// What was asked, where the asker has noted it: enough, with the plan's batch, precision and optimizer, to ask again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub question: Option<LayoutQuestion>,
    /// The plan.
    pub plan: MixedPlan,
    /// What is minimised, of this plan.
    pub objective: f64,
    /// No plan of the searched space is worth less.
    pub bound: f64,
    /// Why the search ended.
    pub stop_reason: StopReason,
    /// The next best plans: in a line, with what they are worth.
    #[serde(default)]
    pub runners_up: Vec<(String, f64)>,
    /// Layouts of pipelines whose splits were searched.
    pub pipelines: u64,
    /// Searches of one class for one share of the batch.
    pub class_searches: u64,
    /// Wall time, s.
    pub search_seconds: f64,
}

impl MixedOutcome {
    /// `(objective - bound) / objective`.
    pub fn gap(&self) -> f64 {
        if self.objective > 0.0 { ((self.objective - self.bound) / self.objective).max(0.0) } else { 0.0 }
    }
}

impl MixedPlan {
    /// The layout that is common to all stages, with what they all recompute if they do; of unlike replicas, that of the class
    /// with the most samples.
    pub fn leading_layout(&self) -> Option<Layout> {
        match &self.shape {
            MixedShape::Pipeline { layout, stages } => {
                let first = stages.first()?.recompute;
                let same = stages.iter().all(|stage| stage.recompute == first);
                let recompute = if same { first } else { Recompute::Layers(1) };
                Some(Layout { recompute, ..layout.clone() })
            }
            MixedShape::Replicas { shares, .. } => {
                shares.iter().max_by_key(|share| share.samples).map(|share| share.layout.clone())
            }
        }
    }

    /// The plan in a few words a line: what is common, then the classes.
    pub fn lines(&self) -> Vec<String> {
        match &self.shape {
            MixedShape::Pipeline { layout, stages } => {
                let common = Layout { recompute: Recompute::None, ..layout.clone() };
                let mut lines = vec![label(&common).replace("  recompute none", "")];
                lines.extend(runs(stages).iter().map(|(count, stage)| {
                    let layers = if stage.layers == 1 { "layer" } else { "layers" };
                    format!("{count} x {} with {} {layers}{}", stage.class, stage.layers, again(stage.recompute))
                }));
                lines
            }
            MixedShape::Replicas { shares, .. } => shares
                .iter()
                .map(|share| format!("{}: {} samples  {}", share.class, share.samples, label(&share.layout)))
                .collect(),
        }
    }
}

/// Stages in a row that are alike.
fn runs(stages: &[ClassStage]) -> Vec<(u64, &ClassStage)> {
    let mut runs: Vec<(u64, &ClassStage)> = Vec::new();
    for stage in stages {
        match runs.last_mut() {
            Some((count, last))
                if (&last.class, last.layers, last.recompute) == (&stage.class, stage.layers, stage.recompute) =>
            {
                *count += 1;
            }
            _ => runs.push((1, stage)),
        }
    }
    runs
}

fn again(recompute: Recompute) -> String {
    match recompute {
        Recompute::None => String::new(),
        Recompute::Selective => ", attention core recomputed".to_owned(),
        Recompute::Full => ", all recomputed".to_owned(),
        Recompute::Layers(count) => format!(", {count} recomputed"),
    }
}
