//! `cutplane place`: spread an operator graph of given costs over accelerators and CPU cores.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};
use cutplane_graph::placement::PlacementProblem;
use cutplane_plan::{StopReason, write_atomically};
use cutplane_sim::placement::{PlaceOptions, Placed, PlacementObjective, place};
use cutplane_zoo::read_placement;
use serde_json::{Map, Value, json};

use crate::limits::SearchArgs;
use crate::{output, progress};

/// What is minimised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Objective {
    /// The largest load of a device.
    Throughput,
    /// The completion of one sample.
    Latency,
}

/// Places the nodes of a workload of the public placement benchmark (NeurIPS 2020) on its devices.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cutplane place bert_l-3_inference.json                    least largest load, any split
  cutplane place bert_l-3_inference.json --contiguous       every device a convex part, proven best
  cutplane place latency.json --objective latency --json    completion of one sample, as data
Times are in the file's own unit. Devices in the answer: accelerators 0 to k-1, CPU cores from k.")]
pub(crate) struct Place {
    /// A workload: JSON with maxFPGAs, maxCPUs, maxSizePerFPGA, nodes and edges.
    workload: PathBuf,
    /// What is minimised [default: throughput; latency for files under a folder or name that starts with 'latency'].
    #[arg(long, value_enum)]
    objective: Option<Objective>,
    /// Only splits whose parts are convex, each pass by itself (always so for blocks of the latency objective).
    #[arg(long)]
    contiguous: bool,
    #[command(flatten)]
    limits: SearchArgs,
    /// Writes the JSON of the answer.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

impl Place {
    pub(crate) fn run(&self) -> Result<()> {
        self.limits.check()?;
        let problem = read_placement(&self.workload)?;
        if let Some(path) = &self.out {
            output::prepare_file(path)?;
        }
        let placed = self.search(&problem)?;
        let answer = self.as_json(&problem, &placed);
        if let Some(path) = &self.out {
            let text = serde_json::to_string_pretty(&answer)? + "\n";
            write_atomically(path, text.as_bytes()).with_context(|| path.display().to_string())?;
        }
        if self.json {
            return output::print_json(&answer);
        }
        print!("{}", self.report(&problem, &placed));
        Ok(())
    }

    fn search(&self, problem: &PlacementProblem) -> Result<Placed> {
        let spinner = progress::spinner("placing");
        let interrupt = progress::interrupt_flag()?;
        let options = PlaceOptions {
            objective: self.objective(),
            contiguous: self.contiguous,
            time_limit: self.limits.time_limit(),
            relative_gap: self.limits.gap(),
            seed: u64::from(self.limits.seed()),
            interrupt: Some(&interrupt),
        };
        let placed = place(problem, &options);
        spinner.finish_and_clear();
        placed.with_context(|| self.workload.display().to_string())
    }

    fn objective(&self) -> PlacementObjective {
        let is_latency = match self.objective {
            Some(given) => given == Objective::Latency,
            None => names_latency(&self.workload),
        };
        if is_latency { PlacementObjective::Latency } else { PlacementObjective::Throughput }
    }

    fn objective_name(&self) -> &'static str {
        match self.objective() {
            PlacementObjective::Throughput => "throughput",
            PlacementObjective::Latency => "latency",
        }
    }

    fn as_json(&self, problem: &PlacementProblem, placed: &Placed) -> Value {
        let ids = problem.nodes().iter().map(|node| node.id.to_string());
        let assignment: Map<String, Value> = ids.zip(placed.assignment.iter().map(|device| json!(device))).collect();
        let devices: Vec<Value> = placed
            .evaluation
            .devices
            .iter()
            .map(|used| {
                json!({
                    "kind": if used.accelerator { "accelerator" } else { "cpu" },
                    "nodes": used.nodes,
                    "load": used.load,
                    "transfers": used.transfers,
                    "memory": used.memory,
                })
            })
            .collect();
        json!({
            "objective_kind": self.objective_name(),
            "objective": placed.objective,
            "bound": placed.bound,
            "gap": placed.gap(),
            "stop_reason": placed.stop,
            "seconds": placed.seconds,
            "searcher": placed.searcher,
            "contiguous": placed.evaluation.contiguous,
            "contiguous_asked": self.contiguous,
            "max_load": placed.evaluation.max_load,
            "latency": placed.evaluation.latency,
            "seed": self.limits.seed(),
            "devices": devices,
            "assignment": assignment,
        })
    }

    /// Five lines: what, how good, the other metric, is it the best, what is full.
    fn report(&self, problem: &PlacementProblem, placed: &Placed) -> String {
        let (devices, found) = (problem.devices(), &placed.evaluation);
        let used = found.devices.iter().filter(|device| device.nodes > 0).count();
        let shape = if found.contiguous { "contiguous" } else { "not contiguous" };
        let latency =
            found.latency.map_or("none: blocks wait for each other".to_owned(), |value| format!("{value:.6}"));
        let fullest = found.devices.iter().filter(|device| device.accelerator).map(|device| device.memory);
        format!(
            "workload {}  {} nodes     {} accelerators, {} CPU cores: {used} devices used\n\
             place    {} {:.6}  {shape}, found by {}\n\
             other    largest load {:.6}   latency of a sample {latency}\n\
             proof    {}\n\
             memory   {:.0} of {:.0} bytes on the fullest accelerator\n",
            self.workload.display(),
            problem.nodes().len(),
            devices.accelerators,
            devices.cpus,
            self.objective_name(),
            placed.objective,
            placed.searcher,
            found.max_load,
            proof(placed),
            fullest.fold(0.0, f64::max),
            devices.accelerator_memory,
        )
    }
}

/// The benchmark keeps its latency workloads, which have tighter memory, in a folder of that name; the format is the same.
fn names_latency(path: &Path) -> bool {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let mut last = path.components().rev().take(3);
    last.any(|part| part.as_os_str().to_string_lossy().to_lowercase().starts_with("latency"))
}

fn proof(placed: &Placed) -> String {
    let stop = match placed.stop {
        StopReason::ProvenOptimal => "proven optimal",
        StopReason::GapReached => "gap reached",
        StopReason::TimeLimit => "time limit",
        StopReason::CandidatesExhausted => "searchers exhausted",
        StopReason::Interrupted => "interrupted",
    };
    let (gap, bound, seconds) = (100.0 * placed.gap(), placed.bound, placed.seconds);
    format!("at most {gap:.3}% from optimal (bound {bound:.6}, {stop}); {seconds:.2} s")
}
