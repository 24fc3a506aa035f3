//! Rows of the workload `inference`: a batch of equal requests that start together, from kernels and collectives.
//!
//! A prompt goes through the layers at once, then every further token of all sequences in a step of its own, over a cache
//! of keys and values. A layer takes the longer of its kernels on the device and their launches by the host, which binds
//! small models and small batches. With several pipeline stages the batch is cut into as many parts, so that each step
//! takes the time that one part takes through all stages.

mod engine;
mod memory;
mod request;
mod step;

use cutplane_sim::kernel::GpuModel;
use cutplane_sim::prediction::Predicted;

use crate::metric::{Item, Metric, Per, Quantity, RequestPart, Statistic};
use crate::parse;
use crate::prediction::{Origin, Predictor, RowPrediction, Skip};
use crate::profile::Profile;
use crate::row::Row;

use request::Request;
use step::{Machine, Tokens};

/// Points of the generated sequence at which a step is priced; a step grows linearly between them.
const POINTS: u64 = 3;

/// Predicts rows of the workload `inference`.
#[derive(Clone, Copy, Debug)]
pub struct InferencePredictor<'a> {
    /// Devices that were fitted for this run.
    pub profile: &'a Profile,
}

impl Predictor for InferencePredictor<'_> {
    fn predict(&self, row: &Row) -> Result<RowPrediction, Skip> {
        let metric = Metric::of(row)?;
        let request = Request::of(row)?;
        let device = parse::device(&row.hardware)?;
        let fabric = parse::fabric(row, device)?;
        let gpu = self.profile.gpu(device);
        let machine = Machine::new(&request, &gpu, &fabric.fabric)?;
        let mut prediction = answer(&metric, &machine)?;
        match memory::predicted_gib(&machine) {
            Some(memory) => prediction = prediction.with_memory(memory, device.memory_gib),
            None if metric.is_memory() => {
                return Err(Skip::new("unsupported-memory", "an engine that takes what memory it can get"));
            }
            None => {}
        }
        explain(&mut prediction, &request, &gpu);
        prediction.trace.extend(request.trace.iter().chain(&request.model.trace).chain(&fabric.trace).cloned());
        Ok(prediction)
    }
}

fn answer(metric: &Metric, machine: &Machine<'_>) -> Result<RowPrediction, Skip> {
    let times = Times::of(machine);
    let request = machine.request;
    let of_time = |time: Predicted| {
        RowPrediction::new(metric.in_unit(time.seconds), metric.in_unit(time.low), metric.in_unit(time.high))
    };
    let mut prediction = match metric.quantity {
        Quantity::Latency { part, statistic } => of_time(times.part(part, statistic)?),
        Quantity::Throughput { item, per } => {
            let (each, time) = times.counted(item, request);
            let amount = request.batch as f64 * each as f64;
            let devices = if per == Per::Device { (request.tp * request.pp) as f64 } else { 1.0 };
            let rate = |seconds: f64| metric.in_unit(amount / devices / seconds);
            RowPrediction::new(rate(time.seconds), rate(time.high), rate(time.low))
        }
        Quantity::Memory { .. } => RowPrediction::default(),
        _ => return Err(Skip::new("unsupported-metric", "not a metric of requests")),
    };
    prediction.extrapolates = times.whole().extrapolates;
    Ok(prediction)
}

/// Times of a request's parts.
#[derive(Clone, Copy, Debug)]
struct Times {
    /// The prompts of the batch.
    prompts: Predicted,
    /// The prompt of one request alone.
    first_prompt: Predicted,
    /// All further tokens.
    tokens: Predicted,
    /// Number of further tokens.
    steps: u64,
}

impl Times {
    fn of(machine: &Machine<'_>) -> Self {
        let request = machine.request;
        let stages = request.pp.min(request.batch);
        let part = request.batch.div_ceil(stages);
        let spread = request.engine.spread;
        let widened = |time: Predicted| {
            let own = Predicted::within(time.seconds, spread);
            Predicted { low: time.low.min(own.low), high: time.high.max(own.high), ..time }
        };
        let prompt = |sequences: u64| machine.pass(Tokens { sequences, new: request.input, seen: request.input });
        // The last part of the batch leaves the last stage when all parts have passed the slowest.
        let filled = 1.0 + (stages - 1) as f64 / request.pp as f64;
        let prompts = prompt(part) * filled;
        let steps = request.output.saturating_sub(1);
        let points: Predicted = (0..POINTS)
            .map(|point| {
                let generated = 1 + point * steps.saturating_sub(1) / (POINTS - 1);
                let seen = request.input + generated;
                machine.pass(Tokens { sequences: part, new: 1, seen })
            })
            .sum();
        let tokens = if steps == 0 { Predicted::ZERO } else { points * (steps as f64 / POINTS as f64) };
        Self { prompts: widened(prompts), first_prompt: widened(prompt(1)), tokens: widened(tokens), steps }
    }

    /// Items of a request, and the time that they are counted over. An encoder generates nothing: its tokens are those that it
    /// reads.
    fn counted(&self, item: Item, request: &Request) -> (u64, Predicted) {
        match item {
            Item::Sample | Item::Request => (1, self.whole()),
            Item::PromptToken => (request.input, self.prompts),
            Item::DecodedToken if self.steps > 0 => (self.steps, self.tokens),
            Item::OutputToken | Item::DecodedToken if request.output > 0 => (request.output, self.whole()),
            Item::Token | Item::OutputToken | Item::DecodedToken => (request.input + request.output, self.whole()),
        }
    }

    fn whole(&self) -> Predicted {
        self.prompts + self.tokens
    }

    fn part(&self, part: RequestPart, statistic: Statistic) -> Result<Predicted, Skip> {
        match part {
            // Equal requests that start together end together: percentiles lie close to the mean.
            RequestPart::Whole => Ok(self.whole()),
            RequestPart::NextToken if self.steps > 0 => Ok(self.tokens * (1.0 / self.steps as f64)),
            RequestPart::NextToken => Err(Skip::new("missing-output-length", "no token follows the first")),
            RequestPart::FirstToken if statistic == Statistic::Least => Ok(self.first_prompt),
            RequestPart::FirstToken => Ok(self.prompts),
        }
    }
}

fn explain(prediction: &mut RowPrediction, request: &Request, gpu: &GpuModel) {
    let engine = request.engine;
    prediction.note("device", gpu.name(), Origin::Datasheet);
    prediction.note("standing of its kernel parameters", format!("{:?}", gpu.standing()), Origin::Datasheet);
    prediction.note("launch of a kernel", format!("{} us", engine.launch_us), engine.source.clone());
    prediction.note("overhead of a step", format!("{} us", engine.step_us), engine.source.clone());
    prediction.note("speed kept from bare kernels", engine.efficiency, engine.source.clone());
}
