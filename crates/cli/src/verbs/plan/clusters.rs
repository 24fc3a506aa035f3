//! Layouts over whole clusters, of equal devices and of unlike ones.

use anyhow::Result;
use cutplane_graph::{DeviceGraph, ModelSource};
use cutplane_sim::planner::layouts::mixed::MixedOutcome;
use cutplane_sim::planner::layouts::{LayoutBudget, LayoutPlan, label, mixed as classes, pareto};

use super::Plan;
use crate::layouts::mixed::{self, MixedQuestion};
use crate::layouts::{self, Question};
use crate::{output, progress};

impl Plan {
    /// Refuses what only runnable plans are asked with, and prepares the file.
    fn prepare_layout(&self) -> Result<()> {
        self.limits.check()?;
        self.limits.check_unseeded("the search of layouts")?;
        anyhow::ensure!(self.planner.is_none(), "--planner chooses a searcher of runnable plans: add --space runnable");
        anyhow::ensure!(self.profile.is_none(), "--profile prices runnable plans: add --space runnable");
        anyhow::ensure!(
            !(self.layouts.pareto && self.out.is_some()),
            "--pareto lists plans and writes none: leave --out out, or plan with --pin devices=N"
        );
        self.out.as_deref().map_or(Ok(()), output::prepare_file)
    }

    /// Searches layouts.
    pub(super) fn layout(&self, source: ModelSource) -> Result<()> {
        self.prepare_layout()?;
        let (batch, optimizer) = (self.work.batch, self.work.optimizer);
        let question = self.layouts.question(source, &self.devices, batch, optimizer, self.precision)?;
        if self.layouts.pareto {
            return self.front(&question);
        }
        let outcome = question.search(self.limits.time_limit(), self.limits.gap(), self.layouts.top_k())?;
        let mapping = question.mapping(&outcome.chosen().layout)?;
        let plan = LayoutPlan { mapping, ..LayoutPlan::new(question.asked.clone(), &question.problem(), &outcome) };
        if let Some(path) = &self.out {
            layouts::write(path, &plan)?;
        }
        if self.json {
            return output::print_json(&plan);
        }
        print!("{}", layouts::report(&question, &plan));
        print_next(&plan.search.runners_up, plan.search.objective);
        self.print_saved();
        Ok(())
    }

    /// Searches plans over unlike devices.
    pub(super) fn mixed(&self, source: ModelSource, devices: &DeviceGraph) -> Result<()> {
        self.prepare_layout()?;
        let work = (self.work.batch, self.work.optimizer, self.precision);
        let question = MixedQuestion::new(&self.layouts, (source, &self.devices), devices, work)?;
        if self.layouts.pareto {
            return self.mixed_front(&question);
        }
        let outcome = question.search(self.limits.time_limit(), self.limits.gap(), self.layouts.top_k())?;
        if let Some(path) = &self.out {
            mixed::write(path, &outcome)?;
        }
        if self.json {
            return output::print_json(&outcome);
        }
        print!("{}", question.report(&outcome));
        print_next(&outcome.runners_up, outcome.objective);
        self.print_saved();
        Ok(())
    }

    fn print_saved(&self) {
        match &self.out {
            Some(path) => println!("saved    {}   next: cutplane explain {0}", path.display()),
            None => println!("next     --out plan.json, then cutplane explain plan.json"),
        }
    }

    /// Runs a search of a front, which Ctrl-C ends.
    fn searched<T>(&self, search: impl FnOnce(&LayoutBudget<'_>) -> Result<Vec<T>>) -> Result<Vec<T>> {
        let interrupt = progress::interrupt_flag()?;
        let budget = LayoutBudget {
            time_limit: self.limits.time_limit(),
            relative_gap: self.limits.gap(),
            top_k: 1,
            progress: None,
            interrupt: Some(&interrupt),
        };
        let spinner = progress::spinner("planning for each number of devices");
        let front = search(&budget);
        spinner.finish_and_clear();
        let front = front?;
        anyhow::ensure!(
            !front.is_empty(),
            "nothing fits on any number of devices: plan without --pareto to see what binds"
        );
        Ok(front)
    }

    /// The front of step time against devices.
    fn front(&self, question: &Question) -> Result<()> {
        let front = self.searched(|budget| Ok(pareto(&question.problem(), budget)?))?;
        if self.json {
            return output::print_json(&front);
        }
        for point in &front {
            println!(
                "{:>6} devices  {:>10.4} s{}  {:>12.0} tokens/s  {}",
                point.devices,
                point.seconds,
                dollars(point.dollars),
                point.tokens_per_second,
                label(&point.layout)
            );
        }
        Ok(())
    }

    /// The front of step time against devices of each class.
    fn mixed_front(&self, question: &MixedQuestion) -> Result<()> {
        let front = self.searched(|budget| Ok(classes::pareto(&question.problem(), budget)?))?;
        if self.json {
            return output::print_json(&front);
        }
        for MixedOutcome { plan, .. } in &front {
            let used: Vec<String> = plan.devices.iter().map(|(class, count)| format!("{count} x {class}")).collect();
            println!(
                "{:<44}  {:>10.4} s{}  {}",
                used.join(" and "),
                plan.predicted_step_s,
                dollars(plan.predicted_dollars),
                plan.lines().join("; ")
            );
        }
        Ok(())
    }
}

fn dollars(dollars: Option<f64>) -> String {
    dollars.map(|dollars| format!("  ${dollars:.3} a step")).unwrap_or_default()
}

/// The next best plans.
fn print_next(runners_up: &[(String, f64)], objective: f64) {
    for (label, value) in runners_up {
        println!("next     {:>+7.2}%  {label}", 100.0 * (value / objective - 1.0));
    }
}
