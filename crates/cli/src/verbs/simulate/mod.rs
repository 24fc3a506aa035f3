//! `cutplane simulate`: predict a saved plan instruction by instruction, or a layout class by class.

mod layout;
mod trace;

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;
use cutplane_plan::{Program, lower, read_plan};
use cutplane_record::Timeline;
use cutplane_sim::engine::simulate;
use serde_json::json;

use self::layout::{Step, StepArgs};
use crate::{context, layouts, output, pricing};

/// Predicts one step of a plan, or of a layout at any scale: step time, bubbles, where the time goes.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cutplane simulate plan.json                      predict the step
  cutplane simulate plan.json --trace trace.json   and open the trace in https://ui.perfetto.dev
  cutplane simulate plan.json --json               the same as data
  cutplane simulate layout.json --jitter 0.05      a layout that cutplane plan wrote, with jitter
  cutplane simulate megatron-1t --cluster dgx-a100:384 --tp 8 --pp 64 --dp 6 --interleave 2 --batch 3072")]
pub(crate) struct Simulate {
    /// A plan or layout file, as `cutplane plan --out` and `cutplane compare` write it; with --cluster, a model.
    #[arg(value_name = "PLAN")]
    plan: PathBuf,
    #[command(flatten)]
    step: StepArgs,
    /// Prices from this device profile [default: the cache for CPU ranks, the datasheet for accelerators].
    #[arg(long, value_name = "FILE")]
    profile: Option<PathBuf>,
    /// Writes the timeline as a Chrome/Perfetto trace.
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Prints JSON, the timeline included.
    #[arg(long)]
    json: bool,
}

impl Simulate {
    pub(crate) fn run(&self) -> Result<()> {
        if let Some(step) = self.layout()? {
            return step.run(&self.step, self.trace.as_ref(), self.json);
        }
        self.step.refuse_for_plans()?;
        let plan = read_plan(&self.plan)?;
        let (model, devices) = context::rebuild(&plan)?;
        let verified = context::verified(&plan, &model, &devices)?;
        let program = lower(&verified)?;
        let pricing = pricing::choose(&devices, self.profile.as_deref())?;
        let timeline = simulate(&verified, &program, pricing.cost(), pricing.memory())?;
        if let Some(path) = &self.trace {
            output::prepare_file(path)?;
            cutplane_report::write_trace(path, &program, &devices, &[&timeline])?;
        }
        if self.json {
            return output::print_json(&json!({
                "plan": plan.name,
                "plan_digest": program.plan_digest,
                "predicted_step_ns": timeline.makespan(),
                "predicted_peak_memory_bytes": timeline.peak_memory,
                "prices": pricing.origin,
                "timeline": timeline,
            }));
        }
        println!(
            "plan     {} ({} ranks, {} instructions)",
            plan.name,
            program.ranks.len(),
            program.instruction_count()
        );
        println!("prices   {}", pricing.origin);
        println!("predict  step {}", timeline.makespan());
        print!("{}", rank_lines(&program, &timeline));
        if let Some(path) = &self.trace {
            println!("saved    {} (open it in https://ui.perfetto.dev)", path.display());
        }
        Ok(())
    }
}

impl Simulate {
    /// The layout that is meant, if any.
    fn layout(&self) -> Result<Option<Step>> {
        if self.step.is_meant() {
            let model = self.plan.to_str().context("the name of the model is not UTF-8")?;
            return self.step.step(model).map(Some);
        }
        match std::fs::read_to_string(&self.plan) {
            Ok(text) if layouts::is_layout(&text) => Step::of_file(&text, &self.plan).map(Some),
            // Reading the plan names what is wrong with the file.
            _ => Ok(None),
        }
    }
}

/// One line a rank: where its step goes, in percent, and its memory.
fn rank_lines(program: &Program, timeline: &Timeline) -> String {
    let step = timeline.makespan().as_f64().max(1.0);
    let line = |rank: &cutplane_plan::RankProgram| {
        let parts = timeline.breakdown(program, rank.rank);
        let shares = parts.parts().into_iter().filter(|(_, time)| !time.is_zero());
        let shares: Vec<String> =
            shares.map(|(name, time)| format!("{name} {:.1}%", 100.0 * time.as_f64() / step)).collect();
        let memory = timeline.peak_memory[rank.rank.index()];
        format!(
            "{:<8} stage {} replica {}: {}; memory {memory}\n",
            rank.rank,
            rank.stage,
            rank.replica,
            shares.join(", ")
        )
    };
    // Replicas of a stage look alike: the first eight ranks tell the story.
    let shown: String = program.ranks.iter().take(8).map(line).collect();
    let hidden = program.ranks.len().saturating_sub(8);
    if hidden > 0 { format!("{shown}... and {hidden} more ranks (--json has all)\n") } else { shown }
}
