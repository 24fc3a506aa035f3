//! `cutplane profile`: measure this machine.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;
use cutplane_record::{DeviceProfile, write_profile};

use crate::local::LocalArgs;
use crate::{output, pricing};

/// Measures what the cost model needs to know of this machine, in a minute or two.
///
/// One thread a rank: matrix multiplication and every other operator over a grid of shapes, forward and backward; the
/// optimizer; the slowdown of ranks that work at once; messages and all-reduce between ranks.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cutplane profile                                 measure two CPU ranks, keep the result for other verbs
  cutplane profile --devices cpu:4 --out cpu4.toml keep it in a file of your own
  cutplane compare gpt-mini --profile cpu4.toml    and use it")]
pub(crate) struct Profile {
    #[command(flatten)]
    local: LocalArgs,
    /// Where to write the profile [default: the cache that other verbs read].
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Prints the profile as JSON.
    #[arg(long)]
    json: bool,
}

impl Profile {
    pub(crate) fn run(&self) -> Result<()> {
        let (devices, _) = self.local.load()?;
        let groups = pricing::groups(&devices);
        let [group] = &groups[..] else {
            bail!("--devices {}: a profile is of one kind of device; measure each kind by itself", devices.name());
        };
        let path = match &self.out {
            Some(path) => path.clone(),
            None => group.cache_path()?,
        };
        output::prepare_file(&path)?;
        let profile = group.measure()?;
        write_profile(&path, &profile)?;
        if self.json {
            return output::print_json(&profile);
        }
        print!("{}", summary(&profile));
        println!("saved    {}", path.display());
        Ok(())
    }
}

/// What a reader wants to see of a profile: the extremes of the main curves.
fn summary(profile: &DeviceProfile) -> String {
    let mut text = format!(
        "device   {} ({}), {} on {}\n",
        profile.device_model, profile.backend, profile.provenance.cpu_model, profile.provenance.host
    );
    for (name, unit) in [("linear", "GFLOP/s"), ("attention.causal.packed", "GFLOP/s"), ("layer_norm", "Gelem/s")] {
        let Some(curve) = profile.operators.iter().find(|curve| curve.operator == name) else { continue };
        let rates = |time: fn(&cutplane_record::OperatorPoint) -> f64| {
            let rate = curve.points.iter().map(|point| point.work / time(point).max(1.0));
            rate.fold((f64::INFINITY, 0.0f64), |(low, high), x| (low.min(x), high.max(x)))
        };
        let (low, high) = rates(|point| point.forward_ns);
        let points = curve.points.len();
        text += &format!("{name:<24} {low:>7.2} .. {high:<7.2} {unit} forward over {points} shapes\n");
    }
    for point in &profile.contention {
        let (busy, compute, memory) = (point.busy_ranks, point.compute_factor, point.memory_factor);
        text += &format!(
            "{busy} busy ranks              compute x{compute:.2}, memory x{memory:.2} slower than one alone\n"
        );
    }
    for note in &profile.notes {
        text += &format!("note     {note}\n");
    }
    if let Some(point) = profile.all_reduce.iter().max_by_key(|point| (point.bytes, point.ranks)) {
        let rate = point.bytes as f64 / point.time_ns;
        text += &format!(
            "all-reduce               {rate:.2} GB/s for {} MiB on {} ranks\n",
            point.bytes >> 20,
            point.ranks
        );
    }
    text += &format!("measured in              {:.0} s\n", profile.measured_in_s);
    text
}
