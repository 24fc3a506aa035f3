//! `cutplane profile`: measure this machine.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::Args;
use cutplane_record::{DeviceProfile, LinkClass, MessagePoint, ProcessLinks, read_profile, write_profile};

use crate::launch::{self, Launched};
use crate::local::LocalArgs;
use crate::{output, pricing};

/// Measures what the cost model needs to know of this machine, in a minute or two.
///
/// One thread a rank: matrix multiplication and every other operator over a grid of shapes, forward and backward; the
/// optimizer; the slowdown of ranks that work at once; messages and all-reduce between ranks. Under a launcher such as
/// mpirun one process of every host measures its own at the same time, then all of them the links between processes of
/// a host and between hosts; the leading process keeps the profile.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cutplane profile                                 measure two CPU ranks, keep the result for other verbs
  cutplane profile --devices cpu:4 --out cpu4.toml keep it in a file of your own
  cutplane compare gpt-mini --profile cpu4.toml    and use it
  mpirun -np 2 cutplane profile --devices two.toml measure the links between processes and hosts too
  mpirun -np 2 cutplane profile --devices two.toml --add-links two-hosts.toml   these alone, into a profile that there is")]
pub(crate) struct Profile {
    #[command(flatten)]
    local: LocalArgs,
    /// Where to write the profile [default: the cache that other verbs read].
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Measures only the links between the processes of a launcher, and adds them to this profile (or, with --out, to a
    /// copy).
    #[arg(long, value_name = "FILE")]
    add_links: Option<PathBuf>,
    /// Prints the profile as JSON.
    #[arg(long)]
    json: bool,
}

impl Profile {
    pub(crate) fn run(&self) -> Result<()> {
        launch::together(|launched| {
            let (devices, _) = self.local.load()?;
            let groups = pricing::groups(&devices);
            let [group] = &groups[..] else {
                bail!("--devices {}: a profile is of one kind of device; measure each kind by itself", devices.name());
            };
            let path = match self.out.as_ref().or(self.add_links.as_ref()) {
                Some(path) => path.clone(),
                None => group.cache_path()?,
            };
            if leads(&launched) {
                output::prepare_file(&path)?;
            }
            let profile = match &self.add_links {
                Some(known) => group.add_links(read_profile(known)?, &launched)?,
                None => group.measure(&launched)?,
            };
            profile.map_or(Ok(()), |profile| self.keep(&profile, &path))
        })
    }

    fn keep(&self, profile: &DeviceProfile, path: &Path) -> Result<()> {
        write_profile(path, profile)?;
        if self.json {
            return output::print_json(profile);
        }
        print!("{}", summary(profile));
        println!("saved    {}", path.display());
        Ok(())
    }
}

fn leads(launched: &Launched) -> bool {
    launched.as_ref().is_none_or(|processes| processes.index() == 0)
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
    text += &profile.processes.iter().map(links).collect::<String>();
    text += &format!("measured in              {:.0} s\n", profile.measured_in_s);
    text
}

/// Latency of the shortest message, rate of the longest one and of the largest sum.
fn links(links: &ProcessLinks) -> String {
    let class = match links.class {
        LinkClass::WithinHost => "processes of a host",
        LinkClass::BetweenHosts => "between hosts",
    };
    let one_way = |point: &MessagePoint| point.send_ns + point.latency_ns + point.recv_ns;
    let rate = |bytes: u64, ns: f64| format!("{:.1} MB/s for {} KiB", bytes as f64 * 1e3 / ns.max(1.0), bytes >> 10);
    let mut text = format!("{class:<24}");
    if let (Some(first), Some(last)) = (links.messages.first(), links.messages.last()) {
        text += &format!(" message {:.0} us, {}", one_way(first) / 1e3, rate(last.bytes, one_way(last)));
    }
    if let Some(sum) = links.all_reduce.iter().max_by_key(|point| (point.bytes, point.ranks)) {
        text += &format!("; all-reduce {} on {} ranks", rate(sum.bytes, sum.time_ns), sum.ranks);
    }
    text + "\n"
}
