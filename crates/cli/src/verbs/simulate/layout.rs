//! Steps of cluster-scale layouts, class by class of equal ranks.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};
use cutplane_graph::{Dtype, ModelSource, Overrides};
use cutplane_plan::Optimizer;
use cutplane_sim::engine::step::{Noise, Spread, StepTimeline, draws, simulate_step};
use cutplane_sim::estimate::{AttentionKernel, Estimator, Layout, PipelineSchedule, Recompute, Zero, ZeroStage};
use cutplane_sim::planner::layouts::{LayoutQuestion, Objective, Pins, label};
use serde_json::{Value, json};

use super::trace;
use crate::layouts::{self, Question};
use crate::{context, output};

/// Order of the passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ScheduleName {
    /// One micro-batch at a time.
    Vanilla,
    /// All forward passes, then all backward passes.
    Gpipe,
    /// One forward, one backward in turn.
    #[value(name = "1f1b")]
    OneForwardOneBackward,
    /// 1F1B, with weight gradients in the bubble.
    ZeroBubble,
}

/// What is computed again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum RecomputeName {
    /// Nothing.
    None,
    /// The attention core.
    Selective,
    /// Every layer.
    Full,
}

/// A layout on the command line, and the noise of its step.
#[derive(Clone, Debug, Args)]
pub(super) struct StepArgs {
    /// Simulates a model on this cluster under the layout of the options below, instead of a saved plan.
    #[arg(long, value_name = "DEVICES")]
    cluster: Option<String>,
    /// Tensor-parallel ranks.
    #[arg(long, requires = "cluster", default_value_t = 1)]
    tp: u64,
    /// Pipeline stages.
    #[arg(long, requires = "cluster", default_value_t = 1)]
    pp: u64,
    /// Replicas [default: what the cluster has room for].
    #[arg(long, requires = "cluster")]
    dp: Option<u64>,
    /// Context-parallel ranks.
    #[arg(long, requires = "cluster", default_value_t = 1)]
    cp: u64,
    /// Expert-parallel ranks.
    #[arg(long, requires = "cluster", default_value_t = 1)]
    ep: u64,
    /// Model chunks a device; above 1 the schedule is interleaved 1F1B.
    #[arg(long, requires = "cluster", default_value_t = 1, value_name = "CHUNKS")]
    interleave: u64,
    /// Order of the passes.
    #[arg(long, requires = "cluster", value_enum, default_value = "1f1b")]
    schedule: ScheduleName,
    /// Samples in a micro-batch.
    #[arg(long, requires = "cluster", default_value_t = 1, value_name = "SAMPLES")]
    micro_batch: u64,
    /// Samples in a step, over all replicas.
    #[arg(long, requires = "cluster", value_name = "SAMPLES")]
    batch: Option<u64>,
    /// Tokens a sample [default: the model's own context].
    #[arg(long, requires = "cluster", value_name = "TOKENS")]
    seq: Option<u64>,
    /// Norms and residuals are not sharded over the tensor-parallel ranks.
    #[arg(long, requires = "cluster")]
    no_sequence_parallel: bool,
    /// What replicas shard: 0 nothing, 1 optimizer state, 2 gradients too, 3 parameters too.
    #[arg(long, requires = "cluster", default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=3))]
    zero: u8,
    /// What is computed again in the backward pass.
    #[arg(long, requires = "cluster", value_enum, default_value = "none")]
    recompute: RecomputeName,
    /// Element type of the computation [default: 16 bits where the device has them].
    #[arg(long, requires = "cluster", value_parser = context::parse_precision, value_name = "f32|bf16|f16")]
    precision: Option<Dtype>,
    /// Software stack that prices are taken of.
    #[arg(long, requires = "cluster", default_value = "megatron-core", value_name = "NAME")]
    stack: String,
    /// Jitter of a layout's passes: standard deviation of the logarithm of their times.
    #[arg(long, default_value_t = 0.0, value_name = "SPREAD")]
    jitter: f64,
    /// Probability that a rank of a layout is a straggler.
    #[arg(long, default_value_t = 0.0, value_name = "SHARE")]
    stragglers: f64,
    /// Time of a straggler's passes over the usual one.
    #[arg(long, default_value_t = 1.5, value_name = "FACTOR")]
    straggler_slowdown: f64,
    /// Seed of the draws.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Number of noisy steps that are drawn.
    #[arg(long, default_value_t = 100)]
    draws: usize,
    /// Writes passes into the trace piece by piece: kernels, collectives, waits.
    #[arg(long, requires = "trace")]
    trace_pieces: bool,
}

/// A layout with all that prices it.
pub(super) struct Step {
    question: Question,
    layout: Layout,
}

impl StepArgs {
    /// Whether the first argument is a model rather than a file.
    pub(super) const fn is_meant(&self) -> bool {
        self.cluster.is_some()
    }

    fn has_noise(&self) -> bool {
        self.jitter != 0.0 || self.stragglers != 0.0
    }

    /// Refuses options that only layouts understand.
    pub(super) fn refuse_for_plans(&self) -> Result<()> {
        anyhow::ensure!(
            !self.has_noise() && !self.trace_pieces,
            "--jitter, --stragglers and --trace-pieces go with layouts: give a layout file or --cluster"
        );
        Ok(())
    }

    /// The layout of the options.
    pub(super) fn step(&self, model: &str) -> Result<Step> {
        let cluster = self.cluster.clone().unwrap_or_default();
        let source: ModelSource = cutplane_zoo::source_from_argument(model, self.seq, Overrides::default())?;
        let batch = self.batch.context("--batch is missing: how many samples are in a step?")?;
        let asked = LayoutQuestion {
            model: source,
            cluster: cluster.clone(),
            stack: self.stack.clone(),
            attention: AttentionKernel::Flash,
            objective: Objective::StepTime,
            pins: Pins::default(),
            dollars_per_device_hour: None,
        };
        let question = Question::new(asked, batch, Optimizer::AdamW, (self.precision, false))?;
        let (devices, used) = (question.fabric.ranks() as u64, self.tp.saturating_mul(self.pp).saturating_mul(self.cp));
        let dp = self.dp.unwrap_or(devices / used.max(1));
        let problem = question.problem();
        let layout = Layout {
            dp,
            tp: self.tp,
            pp: self.pp,
            vpp: self.interleave,
            cp: self.cp,
            ep: self.ep,
            sequence_parallel: self.tp > 1 && !self.no_sequence_parallel,
            zero: Zero::stage(
                [ZeroStage::None, ZeroStage::One, ZeroStage::Two, ZeroStage::Three][usize::from(self.zero)],
            ),
            recompute: match self.recompute {
                RecomputeName::None => Recompute::None,
                RecomputeName::Selective => Recompute::Selective,
                RecomputeName::Full => Recompute::Full,
            },
            schedule: self.schedule(),
            micro_batch: self.micro_batch,
            global_batch: batch,
            precision: problem.precision,
            attention: problem.attention,
            optimizer: problem.optimizer,
            ..Layout::default()
        };
        anyhow::ensure!(
            layout.devices() <= devices,
            "tp x pp x dp x cp = {} devices, and '{cluster}' has {devices}: lower a degree or name a larger cluster",
            layout.devices()
        );
        Ok(Step { question, layout })
    }

    fn schedule(&self) -> PipelineSchedule {
        match self.schedule {
            _ if self.interleave > 1 => PipelineSchedule::Interleaved,
            ScheduleName::Vanilla => PipelineSchedule::Vanilla,
            ScheduleName::Gpipe => PipelineSchedule::FillDrain,
            ScheduleName::OneForwardOneBackward => PipelineSchedule::OneForwardOneBackward,
            ScheduleName::ZeroBubble => PipelineSchedule::ZeroBubble,
        }
    }

    fn noise(&self) -> Noise {
        Noise {
            jitter: self.jitter,
            straggler_share: self.stragglers,
            straggler_slowdown: self.straggler_slowdown,
            seed: self.seed,
        }
    }
}

impl Step {
    /// The layout of a file.
    pub(super) fn of_file(text: &str, path: &Path) -> Result<Self> {
        let plan = layouts::parse(text, path)?;
        Ok(Self { question: Question::of_plan(&plan)?, layout: plan.layout })
    }

    /// Simulates, writes the trace, reports.
    pub(super) fn run(&self, args: &StepArgs, trace: Option<&PathBuf>, as_json: bool) -> Result<()> {
        if let Some(path) = trace {
            output::prepare_file(path)?;
        }
        let problem = self.question.problem();
        let estimator = Estimator::new(problem.model, problem.gpu, problem.fabric, problem.stack);
        let closed = estimator.estimate(&self.layout)?;
        let program = estimator.program(&self.layout)?;
        let started = Instant::now();
        let timeline = simulate_step(&program)?;
        let simulated_ms = started.elapsed().as_secs_f64() * 1e3;
        let spread = if args.has_noise() { Some(draws(&program, &args.noise(), args.draws)?) } else { None };
        if let Some(path) = trace {
            trace::write(path, &timeline, args.trace_pieces)?;
        }
        let report = Report { step: self, timeline, closed_s: closed.predicted.seconds, simulated_ms, spread };
        if as_json {
            return output::print_json(&report.json(&args.noise()));
        }
        print!("{}", report.text());
        if let Some(path) = trace {
            println!("saved    {} (open it in https://ui.perfetto.dev)", path.display());
        }
        Ok(())
    }
}

struct Report<'a> {
    step: &'a Step,
    timeline: StepTimeline<'a>,
    /// The closed form's step, s.
    closed_s: f64,
    simulated_ms: f64,
    spread: Option<Spread>,
}

impl Report<'_> {
    fn engine_s(&self) -> f64 {
        self.timeline.makespan().as_f64() * 1e-9
    }

    fn json(&self, noise: &Noise) -> Value {
        let program = self.timeline.program();
        let class = |device: usize| {
            json!({
                "stage": device,
                "ranks": program.ranks_in_step * program.replicas,
                "busy_ns": self.timeline.busy(device),
                "computed_ns": self.timeline.computed(device),
                "synchronised_ns": self.timeline.synchronised(device),
                "most_in_flight": self.timeline.most_in_flight(device),
            })
        };
        let spread = self.spread.as_ref().map(|spread| {
            json!({
                "noise": noise,
                "draws": spread.makespans.len(),
                "mean_ns": spread.mean_ns,
                "p50_ns": spread.percentile(50.0),
                "p95_ns": spread.percentile(95.0),
                "p99_ns": spread.percentile(99.0),
            })
        });
        json!({
            "model": self.step.question.graph.name(),
            "cluster": self.step.question.asked.cluster,
            "stack": self.step.question.asked.stack,
            "layout": self.step.layout,
            "ranks": program.ranks(),
            "predicted_step_ns": self.timeline.makespan(),
            "closed_form_step_s": self.closed_s,
            "closed_form_over_engine": self.closed_s / self.engine_s(),
            "passes": self.timeline.passes(),
            "kept_passes": self.timeline.kept_passes(),
            "simulated_in_ms": self.simulated_ms,
            "closing": self.timeline.closing(),
            "classes": (0..program.devices.len()).map(class).collect::<Vec<_>>(),
            "spread": spread,
        })
    }

    fn text(&self) -> String {
        let (program, step) = (self.timeline.program(), self.step);
        let mut text = format!(
            "model    {}  on {}  ({} ranks as {} classes)\nlayout   {}\n\
             predict  step {}   closed form {:.4} s ({:+.2}%)\n\
             engine   {} passes, {} of them run, the rest repeat; {:.1} ms\n",
            step.question.graph.name(),
            step.question.asked.cluster,
            program.ranks(),
            program.devices.len(),
            label(&step.layout),
            self.timeline.makespan(),
            self.closed_s,
            100.0 * (self.closed_s / self.engine_s() - 1.0),
            self.timeline.passes(),
            self.timeline.kept_passes(),
            self.simulated_ms,
        );
        if let Some(spread) = &self.spread {
            let [p50, p95, p99] = [50.0, 95.0, 99.0].map(|percent| spread.percentile(percent));
            let count = spread.makespans.len();
            text += &format!("noise    p50 {p50}  p95 {p95}  p99 {p99}  over {count} draws\n");
        }
        let step_ns = self.timeline.makespan().as_f64();
        let shown = program.devices.len().min(8);
        for device in 0..shown {
            let busy = 100.0 * self.timeline.busy(device).as_f64() / step_ns;
            let held = self.timeline.most_in_flight(device);
            text += &format!(
                "stage {device:<3} busy {busy:.1}%, done at {}, holds {held} activations\n",
                self.timeline.computed(device)
            );
        }
        if program.devices.len() > shown {
            text += &format!("... and {} more stages (--json has all)\n", program.devices.len() - shown);
        }
        text
    }
}
