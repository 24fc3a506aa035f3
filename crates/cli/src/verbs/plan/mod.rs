//! `cutplane plan`: find the best plan and say how good it is.

mod clusters;
mod named;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, ValueEnum};
use cutplane_graph::{DeviceGraph, DeviceKind, Dtype, ModelGraph};
use cutplane_plan::{Plan as PlanData, StopReason, lower, write_plan};
use cutplane_record::Timeline;
use cutplane_sim::engine::simulate;
use cutplane_sim::planner::{
    ChainDp, EvenSplit, Greedy, PLAN_NAME_PARTS, PlanOutcome, Planner, Problem, SearchBudget, SearchProgress,
    SearchSpace,
};
use serde_json::json;

use crate::context::{self, ModelArgs, WorkArgs};
use crate::layouts::LayoutArgs;
use crate::layouts::mixed::is_mixed;
use crate::limits::SearchArgs;
use crate::pricing::{self, Pricing};
use crate::verbs::models::grouped;
use crate::{output, progress};

/// A searcher of the ladder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Searcher {
    /// Equal numbers of operators in each stage.
    EvenSplit,
    /// Fills stages in turn up to an even share of the work.
    Greedy,
    /// Best contiguous cuts by dynamic programming.
    ChainDp,
    /// Integer linear program (HiGHS), with a proven bound.
    #[cfg(feature = "ilp")]
    Ilp,
}

impl Searcher {
    /// The best one in this build.
    pub(crate) const BEST: Self = {
        #[cfg(feature = "ilp")]
        {
            Self::Ilp
        }
        #[cfg(not(feature = "ilp"))]
        {
            Self::ChainDp
        }
    };

    /// Whether it draws random numbers.
    const fn is_seeded(self) -> bool {
        !matches!(self, Self::EvenSplit | Self::Greedy | Self::ChainDp)
    }

    /// The searcher itself.
    pub(crate) fn planner(self) -> &'static dyn Planner {
        match self {
            Self::EvenSplit => &EvenSplit,
            Self::Greedy => &Greedy,
            Self::ChainDp => &ChainDp,
            #[cfg(feature = "ilp")]
            Self::Ilp => &cutplane_sim::planner::Ilp,
        }
    }
}

/// Which plans are searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Space {
    /// Layouts for accelerators beyond what the other searches, or when an option of layouts is given; else runnable plans.
    Auto,
    /// Data x pipeline plans, which are simulated and run instruction by instruction.
    Runnable,
    /// Every parallel axis, sharding, recomputation: closed-form prices, any number of accelerators, equal or of a few kinds.
    Layouts,
}

/// Most accelerators that [`Space::Auto`] plans device by device.
const MOST_RUNNABLE: usize = 16;

/// Finds the plan with the shortest predicted step: data-parallel degree, pipeline cuts, micro-batches, schedule; at cluster
/// scale every parallel axis.
#[derive(Debug, Args)]
#[command(after_help = format!("Examples:
  cutplane plan gpt2 --devices a100-80gb:8 --batch 64        plan for eight GPUs of a catalogue, none needed
  cutplane plan gpt2 --devices dgx-a100:2 --batch 128 --out p.json
  cutplane plan gpt3-175b --cluster dgx-a100:128 --batch 1536 --pin recompute=none --top-k 3
  cutplane plan llama-2-70b --cluster dgx-h100:16 --batch 1024 --objective devices
  cutplane plan gpt2-xl --cluster p3.16xlarge:2+p2.16xlarge:2 --batch 128 --objective dollars
  cutplane plan my/config.json --devices my-cluster.toml --batch 32
  cutplane plan gpt-mini --devices cpu:2 --batch 16              plan for this machine's cores, from its profile
  cutplane plan gpt-nano --devices cpu:4 --name tp2xdp2-zero1 --out p.json

{PLAN_NAME_PARTS}"))]
pub(crate) struct Plan {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    work: WorkArgs,
    /// cpu:N, a catalogue name with a count (dgx-a100:2, a100-80gb:8), or a cluster file (.toml).
    #[arg(long, alias = "cluster", default_value = "cpu:2", value_name = "DEVICES")]
    devices: String,
    /// Which plans are searched.
    #[arg(long, value_enum, default_value_t = Space::Auto)]
    space: Space,
    #[command(flatten)]
    layouts: LayoutArgs,
    /// Element type of the computation [default: f32; of layouts, 16 bits where the device has them].
    #[arg(long, value_parser = context::parse_precision, value_name = "f32|bf16|f16")]
    precision: Option<Dtype>,
    /// Prices from this device profile (runnable).
    #[arg(long, value_name = "FILE")]
    profile: Option<PathBuf>,
    /// Makes the plan of this name in place of a search.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["space", "planner", "seed", "time_limit", "gap"])]
    name: Option<String>,
    /// Searcher (runnable) [default: the best of this build].
    #[arg(long, value_enum)]
    planner: Option<Searcher>,
    #[command(flatten)]
    limits: SearchArgs,
    /// Writes the plan.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Prints JSON, the plan included.
    #[arg(long)]
    json: bool,
}

impl Plan {
    pub(crate) fn run(&self) -> Result<()> {
        let (source, model) = self.model.load()?;
        let devices = context::devices(&self.devices)?;
        if self.name.is_none() && self.wants_layout(&devices) {
            return if is_mixed(&devices) { self.mixed(source, &devices) } else { self.layout(source) };
        }
        anyhow::ensure!(
            !self.layouts.is_meant(),
            "--objective, --pin, --top-k, --pareto, --stack, --attention, --fp8 and --dollars-per-hour go with --space layouts"
        );
        let searcher = self.planner.unwrap_or(Searcher::BEST);
        if !searcher.is_seeded() {
            self.limits.check_unseeded("this searcher")?;
        }
        if let Some(path) = &self.out {
            output::prepare_file(path)?;
        }
        let pricing = pricing::choose(&devices, self.profile.as_deref())?;
        let problem = Problem {
            model: &model,
            model_source: source,
            devices: &devices,
            memory: pricing.memory(),
            global_batch: self.work.batch,
            optimizer: self.work.optimizer,
            precision: self.precision.unwrap_or(Dtype::F32),
            limits: SearchSpace { layer_pins: self.layouts.layer_pins()?, ..SearchSpace::default() },
        };
        if let Some(name) = &self.name {
            return named::show(&problem, &pricing, name, self.out.as_deref(), self.json);
        }
        let outcome = search(&problem, &pricing, searcher, &self.limits)?;
        let timeline = predict(&outcome.plan, &model, &devices, &pricing)?;
        if let Some(path) = &self.out {
            write_plan(path, &outcome.plan)?;
        }
        if self.json {
            return output::print_json(&as_json(&outcome, &timeline, &pricing));
        }
        print!("{}", report(&problem, &outcome, &timeline, &pricing));
        match &self.out {
            Some(path) => println!("saved    {}   next: cutplane simulate {0} --trace t.json", path.display()),
            None => println!("next     --out plan.json, then cutplane simulate plan.json --trace t.json"),
        }
        Ok(())
    }
}

impl Plan {
    fn wants_layout(&self, devices: &DeviceGraph) -> bool {
        let accelerators = devices.devices().iter().all(|device| device.spec.kind == DeviceKind::Gpu);
        let beyond = accelerators && devices.devices().len() > MOST_RUNNABLE;
        match self.space {
            Space::Auto => self.layouts.is_meant() || beyond,
            Space::Runnable => false,
            Space::Layouts => true,
        }
    }
}

fn as_json(outcome: &PlanOutcome, timeline: &Timeline, pricing: &Pricing) -> serde_json::Value {
    json!({
        "objective_ns": outcome.objective,
        "lower_bound_ns": outcome.lower_bound,
        "gap": outcome.gap(),
        "stop_reason": outcome.stop,
        "search_seconds": outcome.search_seconds,
        "predicted_step_ns": timeline.makespan(),
        "predicted_peak_memory_bytes": timeline.peak_memory,
        "prices": pricing.origin,
        "alternatives": outcome.alternatives,
        "plan": outcome.plan,
    })
}

/// Searches with progress; Ctrl-C ends the search with the best plan so far.
pub(crate) fn search(
    problem: &Problem<'_>,
    pricing: &Pricing,
    searcher: Searcher,
    limits: &SearchArgs,
) -> Result<PlanOutcome> {
    limits.check()?;
    let spinner = progress::spinner("planning");
    let show = |at: &SearchProgress| {
        let best = at.objective.map(|time| format!(", best {time}")).unwrap_or_default();
        spinner.set_message(format!("planning: {} of {} configurations{best}", at.done, at.configurations));
    };
    let interrupt = progress::interrupt_flag()?;
    let budget = SearchBudget {
        time_limit: limits.time_limit(),
        relative_gap: limits.gap(),
        seed: limits.seed(),
        progress: Some(&show),
        interrupt: Some(&interrupt),
    };
    let outcome = searcher.planner().plan(problem, pricing.cost(), &budget);
    spinner.finish_and_clear();
    Ok(outcome?)
}

/// The engine's prediction of a plan.
pub(crate) fn predict(
    plan: &PlanData,
    model: &ModelGraph,
    devices: &DeviceGraph,
    pricing: &Pricing,
) -> Result<Timeline> {
    let verified = context::verified(plan, model, devices)?;
    let program = lower(&verified)?;
    Ok(simulate(&verified, &program, pricing.cost(), pricing.memory())?)
}

/// Five lines: what, how fast, does it fit, is it the best, why.
fn report(problem: &Problem<'_>, outcome: &PlanOutcome, timeline: &Timeline, pricing: &Pricing) -> String {
    let (model, devices, plan) = (problem.model, problem.devices, &outcome.plan);
    let tokens = problem.global_batch as f64 * problem.model_source.sequence_length() as f64;
    let step = timeline.makespan();
    let capacity = devices.devices()[0].spec.memory();
    let used = plan.pipeline_degree() * plan.data_degree();
    let mut text = format!(
        "model    {}  {} layers  {} parameters     cluster  {}: {} of {} devices used\n",
        model.name(),
        model.layer_count(),
        grouped(model.parameter_count()),
        devices.name(),
        used,
        devices.devices().len()
    );
    text += &format!(
        "plan     {}  dp {}  pp {}  micro-batch {} x {}  {}\n",
        plan.name,
        plan.data_degree(),
        plan.pipeline_degree(),
        plan.micro_batch_size(),
        plan.micro_batches,
        plan.schedule.label()
    );
    text += &format!(
        "predict  step {step}  {:.0} tokens/s   memory {} of {capacity} on the fullest device   prices: {}\n",
        tokens / step.as_secs_f64().max(1e-12),
        timeline.max_peak_memory(),
        pricing.origin
    );
    text += &format!("proof    {}\n", proof(outcome));
    let why = plan.search.as_ref().map(|search| search.why.join("; ")).unwrap_or_default();
    text + &format!("why      {why}\n")
}

/// What is known of the plan's optimality.
pub(crate) fn proof(outcome: &PlanOutcome) -> String {
    let configurations = outcome.plan.search.as_ref().map_or(0, |search| search.configurations);
    let stop = match outcome.stop {
        StopReason::ProvenOptimal => "proven optimal",
        StopReason::GapReached => "gap reached",
        StopReason::TimeLimit => "time limit",
        StopReason::CandidatesExhausted => "heuristic, nothing proved",
        StopReason::Interrupted => "interrupted",
    };
    let seconds = outcome.search_seconds;
    match (outcome.gap(), outcome.lower_bound) {
        (Some(gap), Some(bound)) => format!(
            "at most {:.3}% from optimal over {configurations} configurations (bound {bound}, {stop}); {seconds:.2} s",
            100.0 * gap
        ),
        _ => format!("{stop}; {configurations} configurations; {seconds:.2} s"),
    }
}
