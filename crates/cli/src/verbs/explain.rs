//! `cutplane explain`: why a plan is as it is, and what alternatives would cost.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;
use cutplane_plan::{Plan, read_plan};
use cutplane_sim::planner::layouts::mixed::{self as classes, MixedOutcome};
use cutplane_sim::planner::layouts::{LayoutBudget, LayoutError, LayoutPlan, Sensitivity, sensitivities};
use serde_json::{Value, json};

use crate::layouts::mixed::MixedQuestion;
use crate::layouts::{self, Question, mixed};
use crate::{output, progress};

/// Says what binds, what the runner-up would have cost, and the price of each alternative.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cutplane explain plan.json                  of a layout: the same search with one thing changed at a time
  cutplane explain plan.json --json")]
pub(crate) struct Explain {
    /// A plan file that `cutplane plan --out` wrote.
    plan: PathBuf,
    /// Most time for one alternative, s.
    #[arg(long, default_value_t = 10.0, value_name = "SECONDS")]
    time_limit: f64,
    /// Each alternative is searched to within this fraction of its best.
    #[arg(long, default_value_t = 0.001, value_name = "FRACTION")]
    gap: f64,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

impl Explain {
    pub(crate) fn run(&self) -> Result<()> {
        anyhow::ensure!(
            self.time_limit.is_finite() && self.time_limit >= 0.0,
            "--time-limit must be a number of seconds, 0 or more"
        );
        anyhow::ensure!((0.0..1.0).contains(&self.gap), "--gap must be a fraction from 0 up to 1");
        let text = std::fs::read_to_string(&self.plan).with_context(|| self.plan.display().to_string())?;
        if mixed::is_mixed_plan(&text) {
            return self.mixed(&mixed::parse(&text, &self.plan)?);
        }
        if layouts::is_layout(&text) { self.layout(&text) } else { self.runnable(&self.plan) }
    }

    fn limit(&self) -> Duration {
        Duration::try_from_secs_f64(self.time_limit).unwrap_or(Duration::MAX)
    }

    fn layout(&self, text: &str) -> Result<()> {
        let plan = layouts::parse(text, &self.plan)?;
        let question = Question::of_plan(&plan)?;
        let chosen = question.search(self.limit(), self.gap, 1)?;
        let all = self.alternatives(|budget| sensitivities(&question.problem(), chosen.chosen(), budget))?;
        let now = chosen.chosen().value;
        if self.json {
            return output::print_json(&json!({ "plan": plan, "objective_now": now, "alternatives": all }));
        }
        print!("{}", layouts::report(&question, &plan));
        print!("{}", moved(now, plan.search.objective, plan.search.gap.max(self.gap)));
        print!("{}", parts(&plan));
        for one in &all {
            println!("{}", line(one));
        }
        Ok(())
    }

    /// A plan over unlike devices.
    fn mixed(&self, plan: &MixedOutcome) -> Result<()> {
        let question = MixedQuestion::of_outcome(plan)?.with_context(|| {
            format!("{}: field 'question' is missing, so nothing can be asked again: plan again", self.plan.display())
        })?;
        let chosen = question.search(self.limit(), self.gap, 1)?;
        let all = self.alternatives(|budget| classes::sensitivities(&question.problem(), &chosen, budget))?;
        if self.json {
            let now = chosen.objective;
            return output::print_json(&json!({ "plan": plan, "objective_now": now, "alternatives": all }));
        }
        print!("{}", question.report(plan));
        print!("{}", moved(chosen.objective, plan.objective, plan.gap().max(self.gap)));
        for one in &all {
            println!("{}", line(one));
        }
        Ok(())
    }

    /// Prices alternatives, each within the limits.
    fn alternatives(
        &self,
        price: impl FnOnce(&LayoutBudget<'_>) -> Result<Vec<Sensitivity>, LayoutError>,
    ) -> Result<Vec<Sensitivity>> {
        let interrupt = progress::interrupt_flag()?;
        let budget = LayoutBudget {
            time_limit: self.limit(),
            relative_gap: self.gap,
            top_k: 1,
            progress: None,
            interrupt: Some(&interrupt),
        };
        let spinner = progress::spinner("pricing alternatives");
        let all = price(&budget);
        spinner.finish_and_clear();
        Ok(all?)
    }

    /// A plan that the runtime executes: what its search recorded.
    fn runnable(&self, path: &Path) -> Result<()> {
        let plan = read_plan(path)?;
        if self.json {
            return output::print_json(&json!({ "plan": plan.name, "stages": stages(&plan), "search": plan.search }));
        }
        println!("plan     {}  {} micro-batches  {}", plan.name, plan.micro_batches, plan.schedule.label());
        for (index, stage) in plan.stages.iter().enumerate() {
            println!("stage    {index}: operators {} on {}", stage.ops, stage.devices.join(", "));
        }
        let Some(search) = &plan.search else {
            println!("proof    none: the plan was written by hand or by name");
            return Ok(());
        };
        let gap = search.gap.map_or("no bound".to_owned(), |gap| format!("at most {:.3}% from optimal", 100.0 * gap));
        println!("proof    {gap} over {} configurations, found by {}", search.configurations, search.planner);
        for why in &search.why {
            println!("why      {why}");
        }
        Ok(())
    }
}

fn stages(plan: &Plan) -> Vec<Value> {
    plan.stages.iter().map(|stage| json!({ "operators": stage.ops.to_string(), "devices": stage.devices })).collect()
}

/// Where the time goes, a line a part.
fn parts(plan: &LayoutPlan) -> String {
    let step = plan.predicted.step_s;
    let line = |(name, seconds): &(String, f64)| {
        format!("time     {name:<28} {seconds:>10.4} s  {:>5.1}%\n", 100.0 * seconds / step)
    };
    plan.predicted.parts_s.iter().map(line).collect()
}

/// Prices may have changed since the plan was made, beyond what the gap of either search explains.
fn moved(now: f64, then: f64, gap: f64) -> String {
    let moved = now / then - 1.0;
    if moved.abs() <= gap.max(1e-6) {
        return String::new();
    }
    format!("note     this build's best is {:+.2}% from the plan's objective: plan again\n", 100.0 * moved)
}

fn line(one: &Sensitivity) -> String {
    match (one.relative, &one.layout) {
        (Some(relative), Some(layout)) => {
            format!("if       {:<36} {:>+8.2}%  {layout}", one.change, 100.0 * relative)
        }
        _ => format!("if       {:<36} nothing fits, or none was found in time", one.change),
    }
}
