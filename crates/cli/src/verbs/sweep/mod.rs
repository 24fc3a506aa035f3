//! `cutplane sweep`: a grid of layouts, predicted and drawn; on this machine's cores also measured.

mod figures;
#[cfg(feature = "runtime")]
mod measured;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use cutplane_plan::write_atomically;
use cutplane_record::Provenance;
use cutplane_sim::planner::layouts::{Candidate, LayoutError, Pins, label};
use serde_json::json;

use crate::context::{ModelArgs, WorkArgs};
use crate::layouts::{LayoutArgs, Question};
use crate::output;

/// Predicts a grid of layouts of one model and draws the plots that the field publishes.
///
/// Every combination of --devices and --vary is a point: the best layout with those decisions fixed. Written are a CSV
/// file and figures: scaling, heat map, where a step and a device's memory go, time against money, bus bandwidth, the
/// devices with the best layout on them.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cutplane sweep gpt3-1.3b --cluster a100-80gb --devices 8,16,32 --batch 256
  cutplane sweep gpt3-6.7b --cluster a100-80gb --devices 64 --batch 512 --vary tp=1,2,4,8 --vary pp=1,2,4,8
  cutplane sweep llama-2-7b --cluster h100 --devices 8,16,32,64 --batch-per-device 4 --dollars-per-hour 2.5
  cutplane sweep gpt-nano --cluster cpu --devices 1,2 --batch 8 --run     predicted and measured on cores

Decisions to vary: tp, pp, dp, cp, ep, vpp, micro-batch, sp, zero, schedule, recompute, offload.")]
pub(crate) struct Sweep {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    work: WorkArgs,
    /// Kind of device or machine, see `cutplane inspect`: a100-80gb, dgx-h100; cpu with --run.
    #[arg(long, value_name = "NAME")]
    cluster: String,
    /// Numbers of them.
    #[arg(long, value_delimiter = ',', required = true, value_name = "N,...")]
    devices: Vec<u64>,
    /// A decision and its values, such as tp=1,2,4; may be given several times.
    #[arg(long, value_name = "NAME=V,...", value_parser = parse_vary)]
    vary: Vec<Axis>,
    /// Samples of a step over each device, in place of --batch: weak scaling.
    #[arg(long, value_name = "SAMPLES")]
    batch_per_device: Option<u64>,
    #[command(flatten)]
    layout: LayoutArgs,
    /// Measures on this machine's cores as well: --cluster cpu.
    #[cfg(feature = "runtime")]
    #[arg(long)]
    run: bool,
    /// Folder for the CSV file and the figures [default: out/DAY-sweep-MODEL].
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

/// A decision with its values.
#[derive(Clone, Debug)]
struct Axis {
    name: String,
    values: Vec<String>,
}

fn parse_vary(text: &str) -> Result<Axis, String> {
    let (name, values) = text.split_once('=').ok_or("write NAME=V,...")?;
    let values: Vec<String> = values.split(',').map(|value| value.trim().to_owned()).collect();
    Ok(Axis { name: name.trim().to_owned(), values })
}

/// One point of the grid.
struct Point {
    devices: u64,
    /// The varied decisions with their values here.
    pins: Vec<(String, String)>,
    batch: u64,
    /// The best layout; or why there is none.
    found: Result<Candidate, String>,
}

impl Point {
    fn name(&self) -> String {
        format!("x{} {}", self.devices, self.pins_text()).trim_end().to_owned()
    }

    fn pins_text(&self) -> String {
        let pins: Vec<String> = self.pins.iter().map(|(name, value)| format!("{name} {value}")).collect();
        pins.join(" ")
    }
}

impl Sweep {
    pub(crate) fn run(&self) -> Result<()> {
        ensure!(self.devices.iter().all(|count| *count > 0), "--devices must be numbers from 1");
        #[cfg(feature = "runtime")]
        if self.run {
            return measured::run(self);
        }
        ensure!(
            self.cluster != "cpu",
            "layouts are priced for accelerators: add --run to predict and measure on this machine's cores"
        );
        let provenance = Provenance::capture();
        let (_, model) = self.model.load()?;
        let folder = output::default_folder(self.out.as_ref(), provenance.day(), &format!("sweep-{}", model.name()));
        output::prepare_folder(&folder)?;
        let (points, last) = self.points()?;
        let table = csv_of(&points)?;
        let path = folder.join("sweep.csv");
        write_atomically(&path, &table).with_context(|| path.display().to_string())?;
        let drawn = figures::draw(&folder, self, &points, &last)?;
        if self.json {
            return output::print_json(&json!({
                "points": points.iter().map(as_json).collect::<Vec<_>>(),
                "table": path,
                "figures": drawn,
            }));
        }
        print!("{}", lines(&points));
        println!("saved    {}, {} figures: {}", path.display(), drawn.len(), drawn.join(", "));
        Ok(())
    }

    fn batch(&self, devices: u64) -> u64 {
        self.batch_per_device.map_or(self.work.batch, |each| each.saturating_mul(devices))
    }

    /// All points, and the question of the last number of devices, whose cluster the figures show.
    fn points(&self) -> Result<(Vec<Point>, Question)> {
        let mut points = Vec::new();
        let mut last = None;
        for devices in &self.devices {
            let (source, _) = self.model.load()?;
            let (cluster, batch) = (format!("{}:{devices}", self.cluster), self.batch(*devices));
            let mut question = self.layout.question(source, &cluster, batch, self.work.optimizer, None)?;
            let base = question.asked.pins.texts();
            for pins in combinations(&self.vary) {
                let own = pins.iter().map(|(name, value)| format!("{name}={value}"));
                let texts: Vec<String> = base.iter().cloned().chain(own).collect();
                question.asked.pins = Pins::parse(&texts)?;
                let found = match question.search(Duration::from_secs(20), 1e-3, 1) {
                    Ok(outcome) => Ok(outcome.chosen().clone()),
                    Err(error) if error.downcast_ref::<LayoutError>().is_some() => Err(error.to_string()),
                    Err(error) => return Err(error),
                };
                points.push(Point { devices: *devices, pins, batch, found });
            }
            last = Some(question);
        }
        Ok((points, last.context("--devices names no number")?))
    }
}

/// All combinations of the axes' values; one empty combination without axes.
fn combinations(axes: &[Axis]) -> Vec<Vec<(String, String)>> {
    axes.iter().fold(vec![Vec::new()], |so_far, axis| {
        let with = |before: &Vec<(String, String)>| -> Vec<Vec<(String, String)>> {
            let one = |value: &String| [before.clone(), vec![(axis.name.clone(), value.clone())]].concat();
            axis.values.iter().map(one).collect()
        };
        so_far.iter().flat_map(with).collect()
    })
}

/// Names and values of the parts of a step, s.
fn parts_of(found: &Candidate) -> Vec<(&'static str, f64)> {
    let parts = &found.estimate.breakdown;
    vec![
        ("forward", parts.forward),
        ("backward", parts.backward),
        ("recompute", parts.recompute),
        ("tensor parallel", parts.tensor_parallel),
        ("context parallel", parts.context_parallel),
        ("expert parallel", parts.expert_parallel),
        ("pipeline messages", parts.pipeline_messages),
        ("bubble", parts.bubble),
        ("sharding", parts.sharding),
        ("gradient sync", parts.gradient_sync),
        ("optimizer", parts.optimizer),
        ("host", parts.host),
        ("overhead", parts.overhead),
    ]
}

fn csv_of(points: &[Point]) -> Result<Vec<u8>> {
    let mut table = csv::Writer::from_writer(Vec::new());
    let pins = points.first().map(|point| point.pins.clone()).unwrap_or_default();
    let shown = points.iter().find_map(|point| point.found.as_ref().ok());
    let parts: Vec<String> =
        shown.map(parts_of).unwrap_or_default().iter().map(|(name, _)| column(name, "s")).collect();
    let memory: Vec<String> =
        shown.map(memory_of).unwrap_or_default().iter().map(|(name, _)| column(name, "gib")).collect();
    let fixed =
        ["global_batch", "predicted_step_s", "predicted_tokens_per_s", "predicted_memory_gib", "layout", "error"];
    let header = std::iter::once("devices".to_owned()).chain(pins.into_iter().map(|(name, _)| name));
    table.write_record(header.chain(fixed.map(str::to_owned)).chain(parts.clone()).chain(memory.clone()))?;
    for point in points {
        let values = point.pins.iter().map(|(_, value)| value.clone());
        let start = std::iter::once(point.devices.to_string()).chain(values);
        let rest: Vec<String> = match &point.found {
            Ok(found) => {
                let step = [
                    point.batch.to_string(),
                    found.seconds().to_string(),
                    found.estimate.tokens_per_second().to_string(),
                    (found.footprint.allocated().as_f64() / GIB).to_string(),
                    label(&found.layout),
                    String::new(),
                ];
                let numbers = parts_of(found).into_iter().chain(memory_of(found));
                step.into_iter().chain(numbers.map(|(_, value)| value.to_string())).collect()
            }
            Err(error) => {
                let mut cells = vec![String::new(); fixed.len() + parts.len() + memory.len()];
                (cells[0], cells[5]) = (point.batch.to_string(), error.clone());
                cells
            }
        };
        table.write_record(start.chain(rest))?;
    }
    Ok(table.into_inner()?)
}

const GIB: f64 = 1_073_741_824.0;

fn column(name: &str, unit: &str) -> String {
    format!("{}_{unit}", name.replace(' ', "_"))
}

/// Names and values of the parts of the fullest device's memory, GiB.
fn memory_of(found: &Candidate) -> Vec<(&'static str, f64)> {
    found.footprint.fullest().parts.named().into_iter().map(|(name, bytes)| (name, bytes / GIB)).collect()
}

fn as_json(point: &Point) -> serde_json::Value {
    let pins: serde_json::Map<String, serde_json::Value> =
        point.pins.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
    match &point.found {
        Ok(found) => json!({
            "devices": point.devices, "pins": pins, "global_batch": point.batch, "predicted_step_s": found.seconds(),
            "predicted_tokens_per_s": found.estimate.tokens_per_second(),
            "predicted_memory_gib": found.footprint.allocated().as_f64() / GIB, "layout": found.layout,
        }),
        Err(error) => json!({ "devices": point.devices, "pins": pins, "global_batch": point.batch, "error": error }),
    }
}

fn lines(points: &[Point]) -> String {
    let line = |point: &Point| match &point.found {
        Ok(found) => format!(
            "{:<24} step {:>9.3} s  {:>10.0} tokens/s  {:>6.1} GiB  {}\n",
            point.name(),
            found.seconds(),
            found.estimate.tokens_per_second(),
            found.footprint.allocated().as_f64() / GIB,
            label(&found.layout)
        ),
        Err(error) => format!("{:<24} none: {}\n", point.name(), error.lines().next().unwrap_or_default()),
    };
    points.iter().map(line).collect()
}
