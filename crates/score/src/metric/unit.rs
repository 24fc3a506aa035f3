//! Units of metrics.

use super::{Item, Per};
use crate::prediction::Skip;

/// What a unit measures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Dimension {
    /// s.
    Time,
    /// Items a second.
    Rate { item: Item, per: Per },
    /// FLOP/s.
    Flops { per: Per },
    /// bytes/s.
    Bandwidth,
    /// GiB.
    Memory,
    /// A share of one.
    Share,
    /// True or false.
    Boolean,
}

/// A unit: what it measures, and how many base units one is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Unit {
    pub(super) dimension: Dimension,
    pub(super) scale: f64,
}

/// GiB in a decimal GB.
const GB: f64 = 1e9 / (1u64 << 30) as f64;

/// Reads a unit; what stands beside it in brackets is returned too, as part of the metric's name. A unit that points to
/// the name (`see metric_name`) is read from the brackets that end it.
pub(super) fn parse(name: &str, unit: &str) -> Result<(Unit, String), Skip> {
    let lower = unit.trim().to_ascii_lowercase();
    if lower.contains("see metric") || lower.contains("metric_name") {
        return Ok((plain(from_name(name), name, unit)?, String::new()));
    }
    let (head, remark) = lower.split_once(" (").map_or((lower.as_str(), ""), |(head, rest)| (head, rest));
    let remark = remark.trim_end_matches(')').to_owned();
    Ok((plain(head.trim(), &format!("{name} {remark}"), unit)?, remark))
}

/// `throughput(out_tok/s)` ends in its unit, `rps` is one.
fn from_name(name: &str) -> &str {
    let name = name.trim();
    match name.rsplit_once('(') {
        Some((_, inside)) => inside.trim_end_matches(')'),
        None => name.rsplit([' ', ':']).next().unwrap_or(name),
    }
}

fn plain(head: &str, name: &str, written: &str) -> Result<Unit, Skip> {
    let unknown = || Skip::new("unknown-unit", format!("'{written}' of '{name}'"));
    let simple = |dimension, scale| Ok(Unit { dimension, scale });
    match head {
        "ns" => simple(Dimension::Time, 1e-9),
        "us" | "µs" | "usec" => simple(Dimension::Time, 1e-6),
        "ms" | "msec" | "milliseconds" => simple(Dimension::Time, 1e-3),
        "s" | "sec" | "secs" | "seconds" | "second" => simple(Dimension::Time, 1.0),
        "min" | "minutes" => simple(Dimension::Time, 60.0),
        "h" | "hours" => simple(Dimension::Time, 3600.0),
        "%" | "percent" => simple(Dimension::Share, 0.01),
        "x" | "ratio" | "" | "fraction" => simple(Dimension::Share, 1.0),
        "bool" | "boolean" => simple(Dimension::Boolean, 1.0),
        // The letter tells bits from bytes, and is lost below.
        _ if is_bits(written) => simple(Dimension::Bandwidth, 1.25e8),
        "wps" | "tps" => simple(Dimension::Rate { item: Item::Token, per: Per::All }, 1.0),
        "tgs" => simple(Dimension::Rate { item: Item::Token, per: Per::Device }, 1.0),
        "rps" | "qps" => simple(Dimension::Rate { item: Item::Request, per: Per::All }, 1.0),
        _ => memory(head).or_else(|| rate(head, name)).or_else(|| time_of_step(head)).ok_or_else(unknown),
    }
}

/// `Gb/s`, `Gbps`, `Gbit/s`.
fn is_bits(written: &str) -> bool {
    let unit = written.trim();
    ["Gb/s", "Gbps", "Gbit/s", "gbps", "Gbits/s"].contains(&unit)
}

/// `gib`, `gb/gpu`.
fn memory(head: &str) -> Option<Unit> {
    let (amount, per) = head.split_once('/').unwrap_or((head, "gpu"));
    let scale = match amount {
        "b" | "bytes" | "byte" => 1.0 / (1u64 << 30) as f64,
        "mb" => GB / 1e3,
        "mib" => 1.0 / 1024.0,
        "gb" => GB,
        "gib" => 1.0,
        "tb" => GB * 1e3,
        "tib" => 1024.0,
        _ => return None,
    };
    is_device(per).then_some(Unit { dimension: Dimension::Memory, scale })
}

/// `ms/step`, `s/iter`.
fn time_of_step(head: &str) -> Option<Unit> {
    let (time, of) = head.split_once('/')?;
    let step = ["step", "iter", "it", "iteration", "batch", "request", "token", "call"].contains(&of);
    let scale = match time {
        "us" | "µs" => 1e-6,
        "ms" => 1e-3,
        "s" | "sec" | "seconds" => 1.0,
        _ => return None,
    };
    step.then_some(Unit { dimension: Dimension::Time, scale })
}

/// `tokens/s/gpu`, `tflop/s/chip`, `gb/s`, `tflops`, `images per second`.
fn rate(head: &str, name: &str) -> Option<Unit> {
    let head = head.replace(" per ", "/").replace(['\u{00b7}', ' '], "");
    let mut parts = head.split('/');
    let what = parts.next()?;
    let rest: Vec<&str> = parts.collect();
    let seconds = |part: &&str| ["s", "sec", "second"].contains(part);
    if let Some(scale) = flops(what) {
        let rest: Vec<&str> = rest.iter().copied().filter(|part| !seconds(part)).collect();
        return Some(Unit { dimension: Dimension::Flops { per: per(&rest, name)? }, scale });
    }
    let (first, rest) = rest.split_first()?;
    if !seconds(first) {
        // tokens/gpu/s
        let reordered = is_device(first) && rest.first().is_some_and(seconds);
        return reordered.then(|| items(what, Per::Device)).flatten();
    }
    if let Some(scale) = bytes(what) {
        return rest.is_empty().then_some(Unit { dimension: Dimension::Bandwidth, scale });
    }
    let per = match per(rest, name)? {
        Per::Unstated => Per::All,
        stated => stated,
    };
    items(what, per)
}

fn items(what: &str, per: Per) -> Option<Unit> {
    let (what, scale) = match what.strip_prefix('k').filter(|rest| rest.starts_with("tok")) {
        Some(rest) => (rest, 1e3),
        None => (what, 1.0),
    };
    let item = match what {
        "token" | "tokens" | "tok" | "toks" | "total_tok" | "total_tokens" | "words" => Item::Token,
        "out_tok" | "output_tokens" | "generated_tokens" | "outtok" | "output_tok" => Item::OutputToken,
        "sample" | "samples" | "image" | "images" | "img" | "imgs" | "sequence" | "sequences" | "seq" | "seqs"
        | "sentences" | "examples" | "volumes" => Item::Sample,
        "request" | "requests" | "req" | "reqs" | "queries" => Item::Request,
        _ => return None,
    };
    Some(Unit { dimension: Dimension::Rate { item, per }, scale })
}

fn flops(what: &str) -> Option<f64> {
    let prefix = ["flops", "flop", "ops", "op"].into_iter().find_map(|name| what.strip_suffix(name))?;
    Some(match prefix {
        "g" | "giga" => 1e9,
        "t" | "tera" => 1e12,
        "p" | "peta" => 1e15,
        _ => return None,
    })
}

fn bytes(what: &str) -> Option<f64> {
    Some(match what {
        "gb" | "gbyte" | "gbytes" => 1e9,
        "gib" => (1u64 << 30) as f64,
        "mb" => 1e6,
        "mib" => (1u64 << 20) as f64,
        "gb(it)" | "gbit" | "gbits" => 1.25e8,
        _ => return None,
    })
}

fn is_device(text: &str) -> bool {
    ["gpu", "gpus", "chip", "device", "accelerator", "card", "rank", "npu", "tpu", "hpu"].contains(&text)
}

/// What follows the time in a unit, else what the name says. `None` for what is no device.
fn per(rest: &[&str], name: &str) -> Option<Per> {
    match rest {
        [] => Some(per_of_name(name)),
        [one] if is_device(one) => Some(Per::Device),
        _ => None,
    }
}

fn per_of_name(name: &str) -> Per {
    let says = |words: &[&str]| words.iter().any(|word| name.contains(word));
    match () {
        () if says(&["all gpus", "all devices", "all chips", "aggregate", "total over", "cluster", "global"]) => {
            Per::All
        }
        () if says(&[
            "per gpu",
            "/gpu",
            "per-gpu",
            "per chip",
            "/chip",
            "per device",
            "/device",
            "per accelerator",
        ]) =>
        {
            Per::Device
        }
        () => Per::Unstated,
    }
}
