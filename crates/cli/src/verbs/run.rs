//! `cutplane run`: execute a saved plan.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use cutplane_graph::{ModelGraph, ModelSource, OpKind};
use cutplane_plan::read_plan;
use cutplane_record::{Summary, Timeline};
use cutplane_runtime::data::{Batches, DataError, TextData};
use cutplane_runtime::devices::Place;
use cutplane_runtime::exec::{RunOptions, StepReport};
use cutplane_runtime::init::InitialWeights;
use cutplane_runtime::{OptimizerSettings, RuntimeError};
use cutplane_units::{Bytes, Nanos};
use serde_json::json;

use crate::checkpoints::{CheckpointArgs, Saver};
use crate::data::FormatArgs;
use crate::launch::{self, Launched};
use crate::local::{LocalArgs, TransferChoice};
use crate::session::{Session, Work};
use crate::{context, elastic, local, output, progress};

/// `--data` for samples that are made up.
const SYNTHETIC: &str = "synthetic";

/// What the model is trained on, and from which start.
#[derive(Clone, Debug, Args)]
pub(crate) struct DataArgs {
    /// A text, a file of tokens or a set of pictures to train on, or `synthetic` for samples made up from the seed
    /// [default: a public-domain text inside the tool; made-up samples for models that read no text].
    #[arg(long = "data", value_name = "FILE")]
    text: Option<PathBuf>,
    #[command(flatten)]
    format: FormatArgs,
    /// A Hugging Face tokenizer.json [default: one token a byte].
    #[arg(long, value_name = "FILE")]
    tokenizer: Option<PathBuf>,
    /// Learning rate.
    #[arg(long = "lr", default_value_t = 1e-3, value_name = "RATE")]
    pub(crate) learning_rate: f64,
    /// Seed of the initial weights and of the order of the samples.
    #[arg(long, default_value_t = 17)]
    pub(crate) seed: u64,
}

impl DataArgs {
    /// Samples for `model`, `global_batch` a step.
    pub(crate) fn batches(&self, model: &ModelGraph, global_batch: u64) -> Result<Batches> {
        ensure!(self.learning_rate.is_finite() && self.learning_rate > 0.0, "--lr must be above zero and finite");
        let made_up = || Ok(Batches::synthetic(model, global_batch, self.seed)?);
        if self.text.as_deref() == Some(Path::new(SYNTHETIC)) {
            return made_up();
        }
        if let Some(batches) = self.format.batches(self.text.as_deref(), model, global_batch, self.seed)? {
            return Ok(batches);
        }
        let text = match (&self.text, &self.tokenizer) {
            (Some(path), tokenizer) => TextData::from_file(path, tokenizer.as_deref())?,
            (None, Some(tokenizer)) => TextData::tokenized("the built-in text", cutplane_zoo::DEFAULT_TEXT, tokenizer)?,
            (None, None) => TextData::from_text("the built-in text", cutplane_zoo::DEFAULT_TEXT)?,
        };
        match Batches::new(Arc::new(text), model, global_batch, self.seed) {
            // Pictures and features cannot be read from a text that nobody asked for.
            Err(DataError::Input { .. }) if self.text.is_none() && self.tokenizer.is_none() => made_up(),
            batches => Ok(batches?),
        }
    }
}

/// Classes of the model's loss: a uniform guess costs the logarithm of their number. Zero for a model without a loss.
pub(crate) fn loss_classes(model: &ModelGraph) -> u64 {
    let classes = |kind: &OpKind| match kind {
        OpKind::CrossEntropy { classes, .. } => Some(*classes),
        _ => None,
    };
    model.ops().iter().find_map(|op| classes(&op.kind)).unwrap_or(0)
}

/// Executes a plan on this machine: trains its model, one rank a device, and measures every instruction.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cutplane plan gpt-mini --devices cpu:2 --batch 8 --out plan.json
  cutplane run plan.json --steps 50                       train 50 steps of that plan
  cutplane run plan.json --data book.txt --trace t.json   on your own text, with a trace of the median step
  cutplane run plan.json --checkpoint ckpt --checkpoint-every 10 --elastic
  cutplane run other.json --resume ckpt --steps 100       go on under another plan of the model
  mpirun -np 2 cutplane run plan.json                     ranks in processes, on one host or several (feature mpi)")]
pub(crate) struct Run {
    /// A plan file.
    plan: PathBuf,
    /// Steps to train, those of the checkpoint that it goes on from included.
    #[arg(long, default_value_t = 20)]
    steps: usize,
    #[command(flatten)]
    data: DataArgs,
    /// Where the ranks run [default: the devices that the plan names].
    #[command(flatten)]
    local: LocalArgs,
    /// How tensors go between ranks on one card.
    #[arg(long, value_enum, default_value_t)]
    transfers: TransferChoice,
    /// Writes the median step as a Chrome/Perfetto trace.
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Starts from these weights: a folder with model.safetensors or its index, such a file, or the ONNX file of the plan
    /// [default: random, from the seed].
    #[arg(long, value_name = "FOLDER")]
    weights: Option<PathBuf>,
    #[command(flatten)]
    checkpoints: CheckpointArgs,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

impl Run {
    pub(crate) fn run(&self) -> Result<()> {
        ensure!(self.steps > 0, "--steps must be at least 1");
        launch::together(|launched| self.train(launched))
    }

    /// Trains as one of several processes, or alone.
    fn train(&self, launched: Launched) -> Result<()> {
        ensure!(
            launched.is_none() || !self.checkpoints.elastic,
            "--elastic goes on within one process: when one of several is lost, start again with --resume on those left"
        );
        if let Some(path) = &self.trace {
            output::prepare_file(path)?;
        }
        let mut saver = self.checkpoints.saver()?;
        let interrupt = progress::interrupt_flag()?;
        let mut session = self.start(launched)?;
        if !session.run.leads() {
            return Ok(session.run.serve()?);
        }
        let first = session.run.next_step();
        ensure!(
            first < self.steps as u64,
            "the checkpoint has {first} steps already: give --steps {} or more",
            first + 1
        );
        self.announce(&session);
        let bar = progress::bar(self.steps as u64, "training");
        bar.set_position(first);
        let mut log = Log { first, ..Log::default() };
        while session.run.next_step() < self.steps as u64 && !interrupt.load(Ordering::SeqCst) {
            match session.run.step() {
                Ok(report) => {
                    bar.set_position(report.step + 1);
                    bar.set_message(format!("training: loss {:.4}", report.loss));
                    if self.is_shown(report.step + 1) {
                        let (loss, time) = (report.loss, report.timeline.makespan());
                        bar.suspend(|| println!("step {:>5}  loss {loss:.4}  {time}", report.step + 1));
                    }
                    log.push(report);
                    saver.iter_mut().try_for_each(|saver| saver.after_step(&mut session.run))?;
                }
                Err(error) => session = self.recover(session, error, saver.as_ref(), &mut log)?,
            }
        }
        saver.iter_mut().try_for_each(|saver| saver.save(&mut session.run))?;
        bar.finish_and_clear();
        self.finish(&session, saver.as_ref(), &log)
    }

    /// Starts the plan of the arguments, at a checkpoint if one is named.
    fn start(&self, processes: Launched) -> Result<Session> {
        let mut plan = read_plan(&self.plan)?;
        let (model, mut devices) = context::rebuild(&plan)?;
        context::verified(&plan, &model, &devices)?;
        let checkpoint = self.checkpoints.resumed()?;
        if let (true, Some(_), Some(list)) = (self.checkpoints.elastic, &checkpoint, &self.local.devices) {
            let given = context::devices(list)?;
            if given.devices().len() != devices.devices().len() {
                (plan, devices) = (elastic::replan(&plan, &model, &given)?, given);
            }
        }
        let places = self.local.places_of_plan(&devices)?;
        let names = devices.devices().iter().map(|device| device.name.clone());
        let seed = checkpoint.as_ref().map_or(self.data.seed, |checkpoint| checkpoint.manifest().seed);
        let data = DataArgs { seed, ..self.data.clone() };
        let batches = data.batches(&model, plan.workload.global_batch)?;
        let optimizer = OptimizerSettings::new(plan.workload.optimizer, self.data.learning_rate);
        let weights = self.initial_weights(&model, &plan.model.source)?;
        let (transfers, (comm, watchdog)) = (self.transfers.into(), self.checkpoints.patience()?);
        let options = move |places: &[Place]| {
            let options = local::run_options(places, optimizer, seed);
            RunOptions { transfers, weights: weights.clone(), comm, watchdog, processes: processes.clone(), ..options }
        };
        let places = names.zip(places).collect();
        let work = Work { batches, options: Box::new(options), places, rehearsal: self.checkpoints.rehearsal() };
        Session::start(plan, Arc::new(model), devices, work, checkpoint)
    }

    fn announce(&self, session: &Session) {
        if self.json {
            return;
        }
        println!("plan     {} on {}: {} ranks", session.plan.name, session.devices.name(), session.program.ranks.len());
        for note in session.run.notes() {
            println!("note     {note}");
        }
        if session.run.next_step() > 0 {
            println!("resume   after {} steps", session.run.next_step());
        }
        let uniform = (loss_classes(&session.model) as f64).ln();
        println!("loss     a uniform guess over the vocabulary would have {uniform:.3}");
    }

    /// Lines at powers of two, and for the last step.
    fn is_shown(&self, steps: u64) -> bool {
        !self.json && (steps.is_power_of_two() || steps == self.steps as u64)
    }

    /// What becomes of a failed run: under --elastic it goes on without the device of the rank that was lost.
    fn recover(&self, session: Session, error: RuntimeError, saver: Option<&Saver>, log: &mut Log) -> Result<Session> {
        let lost = session.run.lost().and_then(|rank| session.device_of(rank.0));
        let (Some(lost), Some(saver), true) = (lost, saver, self.checkpoints.elastic) else { return Err(error.into()) };
        let failed_at = session.run.next_step().saturating_sub(1);
        let next = session.without(&lost, saver.newest()?).with_context(|| error.to_string())?;
        log.rewind(next.run.next_step());
        let change = format!(
            "{error}; going on without {lost} from step {} as {} on {} devices",
            next.run.next_step(),
            next.plan.name,
            next.program.ranks.len()
        );
        eprintln!("elastic  {change}");
        log.changes.push(json!({"failed_step": failed_at, "lost_device": lost, "resumed_step": next.run.next_step(),
            "plan": next.plan.name, "error": error.to_string()}));
        Ok(next)
    }

    /// The weights to start from; every parameter is checked before anything runs.
    fn initial_weights(&self, model: &ModelGraph, source: &ModelSource) -> Result<InitialWeights> {
        let Some(path) = &self.weights else { return Ok(InitialWeights::default()) };
        let checkpoint = cutplane_zoo::checkpoint(path, source)?;
        checkpoint.check(model)?;
        Ok(InitialWeights::loaded(move |param| checkpoint.read_param(param).map_err(|error| error.to_string())))
    }

    fn finish(&self, session: &Session, saver: Option<&Saver>, log: &Log) -> Result<()> {
        let (program, timelines) = (&session.program, &log.timelines);
        let times: Vec<f64> = timelines.iter().map(|timeline| timeline.makespan().as_f64()).collect();
        let Some(summary) = Summary::of(&times) else { anyhow::bail!("interrupted before the first step") };
        let distance = |timeline: &&Timeline| (timeline.makespan().as_f64() - summary.median_ns).abs();
        let median = timelines.iter().min_by(|a, b| distance(a).total_cmp(&distance(b)));
        if let (Some(path), Some(timeline)) = (&self.trace, median) {
            cutplane_report::write_trace(path, program, &session.devices, &[timeline])?;
        }
        let peak = timelines.iter().map(Timeline::max_peak_memory).max().unwrap_or(Bytes::ZERO);
        if self.json {
            return output::print_json(&json!({
                "plan": session.plan.name,
                "plan_digest": program.plan_digest,
                "seed": session.run.seed(),
                "first_step": log.first,
                "losses": log.losses,
                "elastic": log.changes,
                "measured_step_ns": summary,
                "measured_peak_memory_bytes": peak,
            }));
        }
        let (time, spread) = (Nanos::from_nanos_f64(summary.median_ns), Nanos::from_nanos_f64(summary.mad_ns));
        println!("measured step {time} +- {spread} (median of {}), memory {peak} on the fullest rank", summary.n);
        if let Some(saver) = saver {
            println!("saved    {}   next: --resume {0} with more --steps, under any plan of the model", saver.folder());
        }
        Ok(())
    }
}

/// What the steps of a run gave.
#[derive(Default)]
struct Log {
    /// The number of the first step.
    first: u64,
    losses: Vec<f64>,
    /// Of the steps under the plan that is being run.
    timelines: Vec<Timeline>,
    /// Losses of ranks, and what came of them.
    changes: Vec<serde_json::Value>,
}

impl Log {
    fn push(&mut self, report: StepReport) {
        self.losses.push(report.loss);
        self.timelines.push(report.timeline);
    }

    /// Forgets the steps that will be taken again, and what was measured under another plan.
    fn rewind(&mut self, next_step: u64) {
        self.first = self.first.min(next_step);
        self.losses.truncate((next_step - self.first) as usize);
        self.timelines.clear();
    }
}

#[cfg(test)]
mod tests {
    use cutplane_graph::Overrides;

    use super::*;

    #[test]
    fn models_that_read_no_text_train_on_made_up_samples() {
        let model = |name| {
            let source = cutplane_zoo::source_from_argument(name, None, Overrides::default()).unwrap();
            cutplane_zoo::build(&source).unwrap()
        };
        let data = |text: Option<&str>| DataArgs {
            text: text.map(PathBuf::from),
            format: FormatArgs::default(),
            tokenizer: None,
            learning_rate: 1e-3,
            seed: 1,
        };
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), cutplane_zoo::DEFAULT_TEXT).unwrap();
        let (pictures, words) = (model("mnist"), model("gpt-nano"));
        assert!(data(None).batches(&pictures, 2).is_ok());
        assert!(data(Some("synthetic")).batches(&words, 2).is_ok());
        let refused = data(file.path().to_str()).batches(&pictures, 2).unwrap_err();
        assert!(refused.to_string().contains("text fills"), "{refused}");
    }
}
