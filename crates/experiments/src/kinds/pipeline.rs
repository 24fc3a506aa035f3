//! Pipelines of given stage times.

use cutplane_sim::estimate::PipelineSchedule;
use cutplane_sim::estimate::pipeline::{self, Devices, Hop, StageTime};

use super::{Answer, Ask, Kind, KindMetric, Parameter, metrics, parameters};

/// Kind `pipeline`.
pub(super) struct Pipeline;

impl Kind for Pipeline {
    fn name(&self) -> &'static str {
        "pipeline"
    }

    fn about(&self) -> &'static str {
        "a pipeline of stages of given times under a schedule"
    }

    fn parameters(&self) -> Vec<Parameter> {
        parameters(&[
            ("schedule", "vanilla, fill-drain, 1f1b, interleaved or zero-bubble"),
            ("stages", "number of stages"),
            ("micro_batches", "number of micro-batches"),
            ("chunks", "model chunks a device, 1 unless interleaved"),
            ("forward", "forward time of a micro-batch on each stage, s; a list or one number"),
            ("backward", "backward time, weight gradients included, s; a list or one number"),
            ("weight_gradient", "part of the backward time that only the optimizer waits for, s"),
            ("message", "time of a message between neighbouring stages, s"),
        ])
    }

    fn metrics(&self) -> Vec<KindMetric> {
        metrics(&[
            ("seconds", "s", "time of a step"),
            ("speed_up", "-", "time on one device over the time of the pipeline"),
            ("utilisation", "-", "share of device time that computes"),
            ("bubble", "-", "share of device time that waits: 1 - utilisation"),
            ("bubble_over_ideal", "-", "waiting time over computing time"),
        ])
    }

    fn answer(&self, metric: &str, ask: &Ask<'_>) -> Result<Answer, String> {
        let stages = ask.count("stages")? as usize;
        if stages > 4096 {
            return Err(format!("'stages' is {stages}: write at most 4096"));
        }
        let micro_batches = ask.count("micro_batches")?;
        let times = stage_times(ask, stages)?;
        let hop = Hop { transfer: ask.number_or("message", 0.0)?, latency: 0.0 };
        let (schedule, chunks) = (schedule(ask)?, ask.count_or("chunks", 1)?);
        if chunks > 1024 {
            return Err(format!("'chunks' is {chunks}: write at most 1024"));
        }
        if chunks > 1 && !micro_batches.is_multiple_of(stages as u64) {
            return Err(format!(
                "'micro_batches' is {micro_batches}: interleaved, write a multiple of {stages}, the stages"
            ));
        }
        let devices: Vec<Devices> = times.iter().map(|time| device(*time, chunks)).collect();
        let pipeline = pipeline::Pipeline { schedule, devices: &devices, hop, micro_batches, overlap_slowdown: 1.0 };
        let seconds = (0..stages).map(|stage| pipeline.end(stage)).fold(0.0, f64::max);
        let work = micro_batches as f64 * times.iter().map(StageTime::both).sum::<f64>();
        let utilisation = work / (seconds * stages as f64);
        let value = match metric {
            "speed_up" => work / seconds,
            "utilisation" => utilisation,
            "bubble" => 1.0 - utilisation,
            "bubble_over_ideal" => 1.0 / utilisation - 1.0,
            _ => seconds,
        };
        Ok(Answer::exact(value, "schedule"))
    }
}

/// A device whose time is that of so many equal chunks.
fn device(time: StageTime, chunks: u64) -> Devices {
    let share = |seconds: f64| seconds / chunks as f64;
    let chunk = StageTime {
        forward: share(time.forward),
        backward: share(time.backward),
        weight_gradient: share(time.weight_gradient),
    };
    Devices { chunks: vec![chunk; chunks as usize], count: 1, ..Devices::default() }
}

fn schedule(ask: &Ask<'_>) -> Result<PipelineSchedule, String> {
    match ask.text("schedule")? {
        "vanilla" => Ok(PipelineSchedule::Vanilla),
        "fill-drain" | "gpipe" => Ok(PipelineSchedule::FillDrain),
        "1f1b" => Ok(PipelineSchedule::OneForwardOneBackward),
        "interleaved" => Ok(PipelineSchedule::Interleaved),
        "zero-bubble" => Ok(PipelineSchedule::ZeroBubble),
        other => Err(format!("'schedule' is '{other}': write vanilla, fill-drain, 1f1b, interleaved or zero-bubble")),
    }
}

fn stage_times(ask: &Ask<'_>, stages: usize) -> Result<Vec<StageTime>, String> {
    let forward = ask.each("forward", stages, 1.0)?;
    let backward = ask.each("backward", stages, 2.0)?;
    let weights = ask.each("weight_gradient", stages, 0.0)?;
    let all = forward.iter().chain(&backward).chain(&weights);
    if all.copied().any(|time| time.is_nan() || time < 0.0) || forward.iter().sum::<f64>() <= 0.0 {
        return Err("'forward', 'backward', 'weight_gradient': write times of zero or more".to_owned());
    }
    let zipped = forward.into_iter().zip(backward).zip(weights);
    Ok(zipped.map(|((forward, backward), weight_gradient)| StageTime { forward, backward, weight_gradient }).collect())
}
