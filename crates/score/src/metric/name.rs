//! Names of metrics.

use super::unit::Dimension;
use super::{Bandwidth, FlopCount, Item, MemoryPart, Per, Quantity, RequestPart, Statistic, StepPart};
use crate::prediction::Skip;
use crate::row::Workload;

/// What a metric of this name (lower case, remarks of the unit included) and dimension is.
pub(super) fn quantity(name: &str, dimension: Dimension, workload: Workload) -> Result<Quantity, Skip> {
    match (dimension, workload) {
        (Dimension::Boolean, _) => out_of_memory(name),
        (Dimension::Memory, _) => Ok(memory(name)),
        (_, Workload::Other) => Err(Skip::new("unknown-workload", format!("metric '{name}'"))),
        (Dimension::Share, _) => utilisation(name),
        (Dimension::Time, Workload::Kernel) => Ok(Quantity::KernelTime),
        (Dimension::Time, Workload::Collective) if says(name, &["time", "latency", "duration"]) => {
            Ok(Quantity::CollectiveTime)
        }
        (Dimension::Time, Workload::Collective) => Err(Skip::new("unknown-metric", format!("'{}'", name.trim()))),
        (Dimension::Time, Workload::Training) => step_time(name),
        (Dimension::Time, Workload::Inference) => Ok(latency(name)),
        (Dimension::Flops { .. }, Workload::Kernel) => Ok(Quantity::KernelFlops),
        (Dimension::Flops { per }, Workload::Training) => Ok(Quantity::StepFlops { count: count(name), per }),
        (Dimension::Bandwidth, Workload::Collective) => bandwidth(name),
        (Dimension::Rate { item, per }, Workload::Training | Workload::Inference) => {
            Ok(Quantity::Throughput { item: item_of(item, name, workload), per })
        }
        _ => Err(unsupported(name, "this unit with this workload")),
    }
}

fn unsupported(name: &str, what: &str) -> Skip {
    Skip::new("unsupported-metric", format!("'{}': {what}", name.trim()))
}

fn says(name: &str, words: &[&str]) -> bool {
    words.iter().any(|word| name.contains(word))
}

fn out_of_memory(name: &str) -> Result<Quantity, Skip> {
    if says(name, &["out of memory", "oom", "failed"]) {
        return Ok(Quantity::OutOfMemory);
    }
    Err(unsupported(name, "only 'out of memory' is predicted as true or false"))
}

fn memory(name: &str) -> Quantity {
    let part = match () {
        () if says(name, &["activation"]) => MemoryPart::Activations,
        () if says(name, &["model memory", "parameters", "optimizer", "model state", "weights"]) => {
            MemoryPart::ModelState
        }
        () => MemoryPart::Peak,
    };
    let all = says(name, &["all gpus", "total over", "all devices"]);
    Quantity::Memory { part, per: if all { Per::All } else { Per::Device } }
}

fn utilisation(name: &str) -> Result<Quantity, Skip> {
    match () {
        () if says(name, &["mfu", "model flops utili", "model flop/s utili"]) => {
            Ok(Quantity::Utilisation { count: FlopCount::Model })
        }
        () if says(name, &["hfu", "hardware flops utili", "hardware flop/s utili"]) => {
            Ok(Quantity::Utilisation { count: FlopCount::Executed })
        }
        () => Err(unsupported(name, "a ratio to another measurement")),
    }
}

fn count(name: &str) -> FlopCount {
    match () {
        () if says(name, &["recompute", "hardware", "hfu", "executed"]) && !says(name, &["without recompute"]) => {
            FlopCount::Executed
        }
        () if says(name, &["model", "mfu", "6*", "6p", "no causal halving"]) => FlopCount::Model,
        () => FlopCount::Unstated,
    }
}

/// Parts of a step and what stands beside it, which have no prediction of their own.
const PARTS_OF_A_STEP: &[&str] = &[
    "optimizer",
    "data load",
    "dataload",
    "communication",
    "all-reduce",
    "allreduce",
    "checkpoint save",
    "start-up",
    "startup",
    "compil",
    "bubble",
];

fn step_time(name: &str) -> Result<Quantity, Skip> {
    if says(name, &["end-to-end", "epoch", "time to train", "time-to-train", "to accuracy", "both phases", "wall"]) {
        return Err(unsupported(name, "a whole training run"));
    }
    if says(name, &["per 100 ", "per 1000 ", "per 10 ", "per 50 ", "1000 iterations", "100 iterations"]) {
        return Err(unsupported(name, "several steps together"));
    }
    if says(name, PARTS_OF_A_STEP) {
        return Err(unsupported(name, "a part of a step"));
    }
    let (forward, backward) = (says(name, &["forward", "fwd"]), says(name, &["backward", "bwd"]));
    let part = match (forward, backward) {
        (true, true) => StepPart::ForwardBackward,
        (true, false) => StepPart::Forward,
        (false, true) => StepPart::Backward,
        (false, false) if says(name, &["eval", "inference"]) => StepPart::Evaluation,
        // Torch benchmarks call the sum of both passes so.
        (false, false) if name.trim() == "total time" => StepPart::ForwardBackward,
        (false, false) => StepPart::Whole,
    };
    let whole = says(name, &["time", "latency", "step", "iteration", "batch", "duration"]);
    if part == StepPart::Whole && !whole {
        return Err(Skip::new("unknown-metric", format!("'{}'", name.trim())));
    }
    Ok(Quantity::Step { part, one_layer: says(name, &["layer time", "time per layer", "per-layer"]) })
}

fn latency(name: &str) -> Quantity {
    let part = match () {
        () if says(name, &["ftl", "ttft", "first token", "first-token", "prefill", "prompt"]) => {
            RequestPart::FirstToken
        }
        () if says(name, &["tpot", "itl", "per token", "per output token", "inter-token", "next token", "decode"]) => {
            RequestPart::NextToken
        }
        () => RequestPart::Whole,
    };
    Quantity::Latency { part, statistic: statistic(name) }
}

fn statistic(name: &str) -> Statistic {
    let percentile = [("p99", 99.0), ("p95", 95.0), ("p90", 90.0), ("99th", 99.0), ("95th", 95.0), ("90th", 90.0)];
    if let Some((_, percentile)) = percentile.into_iter().find(|(word, _)| name.contains(word)) {
        return Statistic::Percentile(percentile);
    }
    match () {
        () if says(name, &["(min)", "minimum"]) => Statistic::Least,
        () if says(name, &["(max)", "maximum"]) => Statistic::Most,
        () => Statistic::Typical,
    }
}

fn bandwidth(name: &str) -> Result<Quantity, Skip> {
    let of = match () {
        () if says(name, &["busbw", "bus bandwidth", "bus bw"]) => Bandwidth::Bus,
        () if says(name, &["algbw", "algorithm bandwidth", "algorithmic bandwidth"]) => Bandwidth::Algorithm,
        () if says(name, &["ranks x bytes"]) => Bandwidth::AllRanks,
        () => return Err(Skip::new("ambiguous-metric", format!("'{}': bus or algorithm bandwidth?", name.trim()))),
    };
    Ok(Quantity::CollectiveBandwidth { of })
}

/// In inference a bare throughput of tokens counts those that are generated, unless it says total or input.
fn item_of(item: Item, name: &str, workload: Workload) -> Item {
    match item {
        Item::Token if workload != Workload::Inference => item,
        Item::Token if says(name, &["prefill", "prompt", "input"]) => Item::PromptToken,
        Item::Token if says(name, &["decod"]) => Item::DecodedToken,
        Item::Token if !says(name, &["total", "all tokens"]) => Item::OutputToken,
        other => other,
    }
}
