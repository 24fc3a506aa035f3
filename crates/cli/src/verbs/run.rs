//! `cutplane run`: execute a saved plan.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::{Result, ensure};
use clap::Args;
use cutplane_graph::{ModelGraph, ModelSource, OpKind};
use cutplane_plan::{lower, read_plan};
use cutplane_record::{Summary, Timeline};
use cutplane_runtime::OptimizerSettings;
use cutplane_runtime::data::{Batches, DataError, TextData};
use cutplane_runtime::exec::{Run as Execution, RunOptions};
use cutplane_runtime::init::InitialWeights;
use cutplane_units::{Bytes, Nanos};
use serde_json::json;

use crate::data::FormatArgs;
use crate::local::{LocalArgs, TransferChoice};
use crate::{context, local, output, progress};

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
  cutplane run plan.json --data book.txt --trace t.json   on your own text, with a trace of the median step")]
pub(crate) struct Run {
    /// A plan file.
    plan: PathBuf,
    /// Steps to train.
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
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

impl Run {
    pub(crate) fn run(&self) -> Result<()> {
        ensure!(self.steps > 0, "--steps must be at least 1");
        let plan = read_plan(&self.plan)?;
        let (model, devices) = context::rebuild(&plan)?;
        let verified = context::verified(&plan, &model, &devices)?;
        let places = self.local.places_of_plan(&devices)?;
        if let Some(path) = &self.trace {
            output::prepare_file(path)?;
        }
        let program = Arc::new(lower(&verified)?);
        let batches = Arc::new(self.data.batches(&model, plan.workload.global_batch)?);
        let optimizer = OptimizerSettings::new(plan.workload.optimizer, self.data.learning_rate);
        let weights = self.initial_weights(&model, &plan.model.source)?;
        let transfers = self.transfers.into();
        let options = RunOptions { transfers, weights, ..local::run_options(&places, optimizer, self.data.seed) };
        let interrupt = progress::interrupt_flag()?;
        let mut run = Execution::start(Arc::new(model.clone()), Arc::clone(&program), batches, &options)?;
        let uniform = (loss_classes(&model) as f64).ln();
        if !self.json {
            println!("plan     {} on {}: {} ranks", plan.name, devices.name(), program.ranks.len());
            for note in run.notes() {
                println!("note     {note}");
            }
            println!("loss     a uniform guess over the vocabulary would have {uniform:.3}");
        }
        let bar = progress::bar(self.steps as u64, "training");
        let (mut losses, mut timelines): (Vec<f64>, Vec<Timeline>) = (Vec::new(), Vec::new());
        while losses.len() < self.steps && !interrupt.load(Ordering::SeqCst) {
            let report = run.step()?;
            bar.inc(1);
            bar.set_message(format!("training: loss {:.4}", report.loss));
            if !self.json && (losses.len() + 1).is_power_of_two() || losses.len() + 1 == self.steps {
                let line =
                    format!("step {:>5}  loss {:.4}  {}", losses.len() + 1, report.loss, report.timeline.makespan());
                if !self.json {
                    bar.suspend(|| println!("{line}"));
                }
            }
            losses.push(report.loss);
            timelines.push(report.timeline);
        }
        bar.finish_and_clear();
        self.finish(&plan.name, &program, &devices, &losses, &timelines)
    }

    /// The weights to start from; every parameter is checked before anything runs.
    fn initial_weights(&self, model: &ModelGraph, source: &ModelSource) -> Result<InitialWeights> {
        let Some(path) = &self.weights else { return Ok(InitialWeights::default()) };
        let checkpoint = cutplane_zoo::checkpoint(path, source)?;
        checkpoint.check(model)?;
        Ok(InitialWeights::loaded(move |param| checkpoint.read_param(param).map_err(|error| error.to_string())))
    }

    fn finish(
        &self,
        name: &str,
        program: &cutplane_plan::Program,
        devices: &cutplane_graph::DeviceGraph,
        losses: &[f64],
        timelines: &[Timeline],
    ) -> Result<()> {
        let times: Vec<f64> = timelines.iter().map(|timeline| timeline.makespan().as_f64()).collect();
        let Some(summary) = Summary::of(&times) else { anyhow::bail!("interrupted before the first step") };
        let distance = |timeline: &&Timeline| (timeline.makespan().as_f64() - summary.median_ns).abs();
        let median = timelines.iter().min_by(|a, b| distance(a).total_cmp(&distance(b)));
        if let (Some(path), Some(timeline)) = (&self.trace, median) {
            cutplane_report::write_trace(path, program, devices, &[timeline])?;
        }
        let peak = timelines.iter().map(Timeline::max_peak_memory).max().unwrap_or(Bytes::ZERO);
        if self.json {
            return output::print_json(&json!({
                "plan": name,
                "plan_digest": program.plan_digest,
                "seed": self.data.seed,
                "losses": losses,
                "measured_step_ns": summary,
                "measured_peak_memory_bytes": peak,
            }));
        }
        let (time, spread) = (Nanos::from_nanos_f64(summary.median_ns), Nanos::from_nanos_f64(summary.mad_ns));
        println!("measured step {time} +- {spread} (median of {}), memory {peak} on the fullest rank", summary.n);
        Ok(())
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
