//! `cutplane compare`: predict several plans, run them interleaved, and put the two side by side.

mod files;
mod measure;
mod plans;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, bail, ensure};
use clap::Args;
use cutplane_graph::{DeviceGraph, Dtype, ModelGraph, ModelSource};
use cutplane_plan::Plan;
use cutplane_record::{Neighbours, Provenance};
use cutplane_report::{CompareRow, CompareSummary, compare_table};
use cutplane_runtime::OptimizerSettings;
use cutplane_runtime::data::Batches;
use cutplane_runtime::devices::Place;
use cutplane_runtime::exec::RunOptions;
use cutplane_sim::cost::memory::MemoryModel;
use cutplane_sim::planner::{PLAN_NAME_PARTS, PlanOutcome, Problem, SearchSpace};
use serde_json::json;

use crate::context::{ModelArgs, WorkArgs};
use crate::launch::{self, Briefing, Launched};
use crate::local::{LocalArgs, TransferChoice};
use crate::pricing::Pricing;
use crate::records::Subject;
use crate::verbs::models::grouped;
use crate::verbs::plan::proof;
use crate::verbs::run::{DataArgs, loss_classes};
use crate::{context, local, output, pricing, progress};

use measure::Measured;
use plans::Candidate;

/// Predicts several plans of one model, runs them on this machine, and compares.
///
/// The planner's choice is compared with named alternatives. All plans train the same weights on the same samples in the
/// same order, one step of each plan in turn, so that all of them see the same machine.
#[derive(Debug, Args)]
#[command(after_help = format!("Examples:
  cutplane compare gpt-mini                                       eight plans or more on two cores
  cutplane compare bert-mini --devices cpu:2 --batch 16
  cutplane compare gpt-mini --data book.txt --tokenizer tokenizer.json --vocab 8192
  cutplane compare gpt-mini --plans single,dp2,pp2-1f1b-m8 --steps 10
  cutplane compare gpt-nano --plans tp2,dp2-zero2,pp2-zb-m4,pp2-v2-m4,cp2-recompute

{PLAN_NAME_PARTS}"))]
pub(crate) struct Compare {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    work: WorkArgs,
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    local: LocalArgs,
    /// Plans to compare with the planner's choice, separated by commas [default: each technique at a few sizes].
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    plans: Vec<String>,
    /// Timed steps of each plan.
    #[arg(long, default_value_t = 5)]
    steps: usize,
    /// Steps of each plan that are run first and not timed [default: 2; on cards, where plans then run
    /// one after another, until two successive steps agree].
    #[arg(long)]
    warm_up: Option<usize>,
    /// Element type of the computation; weights and optimizer stay in f32.
    #[arg(long, default_value = "f32", value_parser = context::parse_precision, value_name = "f32|bf16|f16")]
    precision: Dtype,
    /// How tensors go between ranks on one card.
    #[arg(long, value_enum, default_value_t)]
    transfers: TransferChoice,
    /// Prices from this device profile.
    #[arg(long, value_name = "FILE", conflicts_with = "fresh_profile")]
    profile: Option<PathBuf>,
    /// Measures this machine again, even if the cache holds a profile.
    #[arg(long)]
    fresh_profile: bool,
    /// Folder for plan, traces, records and figures [default: out/DAY-MODEL].
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
    /// Prints nothing: for verbs that tell of several comparisons themselves.
    #[arg(skip)]
    pub(crate) quiet: bool,
}

/// What a comparison works on, loaded and checked.
struct Inputs {
    source: ModelSource,
    model: Arc<ModelGraph>,
    devices: DeviceGraph,
    places: Vec<Place>,
    batches: Arc<Batches>,
    names: Vec<String>,
    provenance: Provenance,
    folder: PathBuf,
}

impl Inputs {
    fn bench<'a>(&'a self, options: &'a RunOptions) -> measure::Bench<'a> {
        let Self { model, devices, batches, .. } = self;
        measure::Bench { model, devices, batches, options }
    }
}

impl Compare {
    pub(crate) fn run(&self) -> Result<()> {
        launch::together(|launched| {
            let inputs = self.inputs()?;
            let briefing = launched.as_ref().map(Briefing::open).transpose()?;
            match (&launched, briefing) {
                (Some(processes), Some(briefing)) if processes.index() > 0 => self.follow(&inputs, briefing, launched),
                (_, briefing) => self.compare(&inputs, briefing, launched),
            }
        })
    }

    /// Runs what the leading process compares.
    fn follow(&self, inputs: &Inputs, mut briefing: Briefing, launched: Launched) -> Result<()> {
        if self.fresh_profile {
            pricing::assist(&inputs.devices, &launched)?;
        }
        let plans: Vec<Plan> = serde_json::from_str(&briefing.hear()?)?;
        let options = self.options(inputs, launched, &Arc::default());
        measure::follow(&plans, &inputs.bench(&options), self.in_turn(inputs))
    }

    fn compare(&self, inputs: &Inputs, mut briefing: Option<Briefing>, launched: Launched) -> Result<()> {
        plans::refuse_bad_names(&self.problem(inputs, MemoryModel::Framework), &inputs.names)?;
        output::prepare_folder(&inputs.folder)?;
        let pricing = self.pricing(&inputs.devices, &launched)?;
        let problem = self.problem(inputs, pricing.memory());
        let (candidates, outcome) = plans::candidates(&problem, &pricing, &inputs.names)?;
        if !self.json && !self.quiet {
            self.announce(inputs, &pricing, &outcome);
        }
        if let Some(briefing) = &mut briefing {
            let plans: Vec<&Plan> = candidates.iter().map(|candidate| &candidate.plan).collect();
            briefing.tell(&serde_json::to_string(&plans)?)?;
        }
        let interrupt = progress::interrupt_flag()?;
        // Other processes of this very run would count as strangers.
        let neighbours = launched.is_none().then(Neighbours::watch);
        let mut measured = self.measure(inputs, &candidates, &self.options(inputs, launched, &interrupt))?;
        let disturbed = neighbours.and_then(pricing::disturbance);
        for plan in &mut measured {
            plan.notes.extend(disturbed.clone());
        }
        let setting = self.setting(inputs);
        files::write_records(&inputs.folder, &setting, &candidates, &measured)?;
        let rows = files::rows(&setting, &candidates, &measured);
        if rows.is_empty() {
            bail!("interrupted before the first timed step; what was recorded is in {}", inputs.folder.display());
        }
        files::write_all(&inputs.folder, &setting, &candidates, &measured, &rows)?;
        if !self.quiet {
            self.show(&rows, &candidates, &measured, &inputs.folder)?;
        }
        if let Some(note) = disturbed {
            eprintln!("note     {note}: measured times include that, predicted ones do not");
        }
        if interrupt.load(Ordering::SeqCst) {
            bail!("interrupted; what was measured until then is in {}", inputs.folder.display());
        }
        Ok(())
    }

    fn inputs(&self) -> Result<Inputs> {
        ensure!(self.steps > 0, "--steps must be at least 1");
        let (source, model) = self.model.load()?;
        let (devices, places) = self.local.load()?;
        let batches = Arc::new(self.data.batches(&model, self.work.batch)?);
        let names = match &self.plans[..] {
            [] => plans::default_names(devices.devices().len(), self.work.batch),
            given => given.to_vec(),
        };
        let provenance = Provenance::capture();
        let folder = output::default_folder(self.out.as_ref(), provenance.day(), model.name());
        Ok(Inputs { source, model: Arc::new(model), devices, places, batches, names, provenance, folder })
    }

    fn problem<'a>(&self, inputs: &'a Inputs, memory: MemoryModel<'a>) -> Problem<'a> {
        Problem {
            model: &inputs.model,
            model_source: inputs.source.clone(),
            devices: &inputs.devices,
            memory,
            global_batch: self.work.batch,
            optimizer: self.work.optimizer,
            precision: self.precision,
            limits: SearchSpace::default(),
        }
    }

    fn pricing(&self, devices: &DeviceGraph, launched: &Launched) -> Result<Pricing> {
        let pricing = if self.fresh_profile {
            pricing::fresh(devices, launched)
        } else {
            pricing::choose(devices, self.profile.as_deref())
        };
        Ok(pricing?.of_launched(launched, devices.devices().len()))
    }

    fn setting<'a>(&'a self, inputs: &'a Inputs) -> files::Setting<'a> {
        let subject = Subject {
            experiment: format!("compare-{}", inputs.model.name()),
            model: &inputs.model,
            devices: &inputs.devices,
            sequence_length: inputs.source.sequence_length(),
            seed: self.data.seed,
            provenance: &inputs.provenance,
        };
        let backend = local::backend_names(&inputs.places);
        files::Setting { subject, global_batch: self.work.batch, vocab: loss_classes(&inputs.model), backend }
    }

    fn announce(&self, inputs: &Inputs, pricing: &Pricing, outcome: &PlanOutcome) {
        let (model, parameters) = (&inputs.model, grouped(inputs.model.parameter_count()));
        println!("model    {}  {} layers  {parameters} parameters", model.name(), model.layer_count());
        let tokens = inputs.source.sequence_length();
        println!("work     batch {} x {tokens} tokens on {}", self.work.batch, inputs.devices.name());
        println!("prices   {}", pricing.origin);
        println!("chosen   {}: {}", outcome.plan.name, proof(outcome));
    }

    fn options(&self, inputs: &Inputs, processes: Launched, interrupt: &Arc<AtomicBool>) -> RunOptions {
        let optimizer = OptimizerSettings::new(self.work.optimizer, self.data.learning_rate);
        RunOptions {
            transfers: self.transfers.into(),
            stop: Arc::clone(interrupt),
            processes,
            ..local::run_options(&inputs.places, optimizer, self.data.seed)
        }
    }

    /// Whether plans run one after another.
    fn in_turn(&self, inputs: &Inputs) -> bool {
        inputs.places.iter().any(|place| place.card().is_some()) && self.warm_up.is_none()
    }

    fn measure(&self, inputs: &Inputs, candidates: &[Candidate], options: &RunOptions) -> Result<Vec<Measured>> {
        let bench = inputs.bench(options);
        if self.in_turn(inputs) {
            return measure::measure_in_turn(candidates, &bench, self.steps);
        }
        let rounds = measure::Rounds { warm_up: self.warm_up.unwrap_or(2), timed: self.steps };
        measure::measure_interleaved(candidates, &bench, &rounds)
    }

    fn show(&self, rows: &[CompareRow], candidates: &[Candidate], measured: &[Measured], folder: &Path) -> Result<()> {
        let Some(summary) = CompareSummary::of(rows) else { return Ok(()) };
        if self.json {
            return output::print_json(&json!({
                "rows": rows.iter().map(CompareRow::to_json).collect::<Vec<_>>(),
                "summary": summary.to_json(),
                "losses": measured.iter().map(|plan| &plan.losses).collect::<Vec<_>>(),
                "folder": folder,
            }));
        }
        println!("\n{}\n", compare_table(rows));
        let correlation = summary.rank_correlation.map_or("-".to_owned(), |value| format!("{value:.2}"));
        println!(
            "error    median {:.1}%, worst {:.1}%; rank correlation of predicted and measured order {correlation}",
            100.0 * summary.median_error,
            100.0 * summary.worst_error
        );
        if let (Some(chosen), Some(within)) = (&summary.chosen, summary.chosen_within) {
            match within {
                w if w <= 1.0 => println!("choice   {chosen} is the fastest measured"),
                w => {
                    println!("choice   {chosen} is {:.1}% slower than {}", 100.0 * (w - 1.0), summary.fastest_measured);
                }
            }
        }
        if let Some((first, last)) = measured.first().and_then(|plan| Some((plan.losses.first()?, plan.losses.last()?)))
        {
            let spread = largest_loss_difference(candidates, measured);
            println!("loss     {first:.4} -> {last:.4}; plans with synchronous updates differ by at most {spread:.1e}");
        }
        println!("saved    {}/{{plan.json, trace.json, records.csv, summary.json, *.svg, *.png}}", folder.display());
        Ok(())
    }
}

/// The largest difference of any plan's loss to the first plan's, at the same step. Plans that update more often than once a
/// step, or freeze what the first one trains, train otherwise by definition.
fn largest_loss_difference(candidates: &[Candidate], measured: &[Measured]) -> f64 {
    let frozen = candidates.first().map(|candidate| &candidate.plan.execution.frozen);
    let alike = |plan: &Plan| !plan.updates_often() && Some(&plan.execution.frozen) == frozen;
    let plans = candidates.iter().zip(measured).filter(|(candidate, _)| alike(&candidate.plan));
    let mut losses = plans.map(|(_, measured)| &measured.losses);
    let Some(first) = losses.next() else { return 0.0 };
    let differences = losses.flat_map(|losses| losses.iter().zip(first).map(|(a, b)| (a - b).abs()));
    differences.fold(0.0, f64::max)
}
