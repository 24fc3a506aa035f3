//! Which cost model prices a cluster: a measured profile for this machine's cores, the datasheet for everything else.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use cutplane_graph::DeviceGraph;
use cutplane_record::{DeviceProfile, read_profile};
use cutplane_sim::cost::memory::MemoryModel;
use cutplane_sim::cost::{CostModel, Profiled, Roofline};

use crate::context;

/// A cost model, and the memory model that belongs to it.
pub(crate) struct Pricing {
    prices: Prices,
    /// Where the prices come from, for people.
    pub(crate) origin: String,
}

enum Prices {
    Datasheet(Roofline),
    Measured(Box<Profiled>),
}

impl Pricing {
    /// Prices of work.
    pub(crate) fn cost(&self) -> &dyn CostModel {
        match &self.prices {
            Prices::Datasheet(roofline) => roofline,
            Prices::Measured(profiled) => profiled.as_ref(),
        }
    }

    /// How memory is predicted under these prices.
    pub(crate) fn memory(&self) -> MemoryModel<'_> {
        match &self.prices {
            Prices::Datasheet(_) => MemoryModel::Framework,
            Prices::Measured(profiled) => MemoryModel::Profiled(profiled),
        }
    }
}

/// Prices for `devices`: from `given` when the user names a profile, from the cache or a fresh measurement for CPU ranks
/// of this machine, from the datasheet for accelerators.
pub(crate) fn choose(devices: &DeviceGraph, given: Option<&Path>) -> Result<Pricing> {
    if let Some(path) = given {
        let profile = read_profile(path)?;
        check_covers(&profile, devices, path)?;
        return Ok(profiled(profile, path.display().to_string()));
    }
    if !context::all_cpu(devices) {
        let origin = "datasheet (roofline)".to_owned();
        return Ok(Pricing { prices: Prices::Datasheet(Roofline::new()), origin });
    }
    let path = cache_path(devices)?;
    if path.exists() {
        match read_profile(&path).map(|profile| (check_fresh(&profile, devices), profile)) {
            Ok((Ok(()), profile)) => return Ok(profiled(profile, path.display().to_string())),
            Ok((Err(reason), _)) => eprintln!("profile  {} is not used: {reason}", path.display()),
            Err(error) => eprintln!("profile  not used: {error}"),
        }
    }
    fresh(devices, &path)
}

/// Measures this machine now and keeps the profile in the cache.
#[cfg(feature = "runtime")]
pub(crate) fn fresh(devices: &DeviceGraph, path: &Path) -> Result<Pricing> {
    crate::output::prepare_file(path)?;
    let profile = measure(devices)?;
    cutplane_record::write_profile(path, &profile)?;
    Ok(profiled(profile, format!("{} (measured just now)", path.display())))
}

#[cfg(not(feature = "runtime"))]
fn fresh(_devices: &DeviceGraph, path: &Path) -> Result<Pricing> {
    bail!(
        "no device profile at {}: build with the feature 'runtime' and run `cutplane profile`, or give --profile FILE",
        path.display()
    )
}

/// Time for measuring operators; links and contention take about ten seconds more.
#[cfg(feature = "runtime")]
const OPERATOR_SECONDS: f64 = 35.0;

/// Measures one rank a device on this machine.
#[cfg(feature = "runtime")]
pub(crate) fn measure(devices: &DeviceGraph) -> Result<DeviceProfile> {
    use cutplane_runtime::backend::Backend;
    use cutplane_runtime::profile::{ProfileOptions, measure};

    let bar = crate::progress::bar(1000, "measuring this machine");
    let mut progress = |done: f32, what: &str| {
        bar.set_position((done * 1000.0) as u64);
        bar.set_message(format!("measuring {what}"));
    };
    let options = ProfileOptions {
        device_model: &devices.devices()[0].spec.model,
        ranks: devices.devices().len(),
        seconds: OPERATOR_SECONDS,
        progress: &mut progress,
    };
    let profile = measure(&Backend::cpu(), options).context("measuring this machine")?;
    bar.finish_and_clear();
    Ok(profile)
}

/// Where the profile of this machine's cores is kept: a file for each number of ranks.
pub(crate) fn cache_path(devices: &DeviceGraph) -> Result<PathBuf> {
    let home = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = home("CUTPLANE_CACHE")
        .or_else(|| home("XDG_CACHE_HOME").map(|cache| cache.join("cutplane")))
        .or_else(|| home("HOME").map(|home| home.join(".cache").join("cutplane")));
    let Some(cache) = cache else { bail!("no cache folder: set CUTPLANE_CACHE, or give --profile FILE") };
    let model: String =
        devices.devices()[0].spec.model.chars().map(|c| if c.is_alphanumeric() { c } else { '-' }).collect();
    Ok(cache.join(format!("{}-x{}.toml", model.to_lowercase(), devices.devices().len())))
}

fn profiled(profile: DeviceProfile, origin: String) -> Pricing {
    Pricing { prices: Prices::Measured(Box::new(Profiled::new([Arc::new(profile)]))), origin }
}

/// A cached profile is used on the machine and by the version that made it.
fn check_fresh(profile: &DeviceProfile, devices: &DeviceGraph) -> Result<(), String> {
    let here = cutplane_record::Provenance::capture();
    let made = &profile.provenance;
    let same = [
        ("processor", &made.cpu_model, &here.cpu_model),
        ("host", &made.host, &here.host),
        ("tool version", &made.tool_version, &here.tool_version),
        ("device model", &profile.device_model, &devices.devices()[0].spec.model),
    ];
    match same.iter().find(|(_, then, now)| then != now) {
        None => Ok(()),
        Some((what, then, now)) => Err(format!("it was made for {what} '{then}', this is '{now}'")),
    }
}

fn check_covers(profile: &DeviceProfile, devices: &DeviceGraph, path: &Path) -> Result<()> {
    match devices.devices().iter().find(|device| device.spec.model != profile.device_model) {
        None => Ok(()),
        Some(device) => bail!(
            "{}: field 'device_model' is '{}', but device '{}' is a '{}': measure that device, or leave --profile out",
            path.display(),
            profile.device_model,
            device.name,
            device.spec.model
        ),
    }
}
