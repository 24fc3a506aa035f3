//! Which cost model prices a cluster: a measured profile for this machine's cores, the datasheet for everything else.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Result, bail};
use cutplane_graph::{DeviceGraph, DeviceKind};
use cutplane_record::{DeviceProfile, read_profile};
#[cfg(feature = "runtime")]
use cutplane_record::{Neighbours, ProcessLinks};
#[cfg(feature = "runtime")]
use cutplane_runtime::comm::Processes;
#[cfg(feature = "runtime")]
use cutplane_runtime::devices::Place;
#[cfg(feature = "runtime")]
use cutplane_runtime::profile::measure_process_links;
use cutplane_sim::cost::memory::MemoryModel;
use cutplane_sim::cost::{CostModel, Profiled, Roofline};

#[cfg(feature = "runtime")]
use crate::launch::Launched;

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

    /// The same prices, of ranks that are processes of their own where the launcher's each hold one of `ranks`.
    #[cfg(feature = "runtime")]
    pub(crate) fn of_launched(self, launched: &Launched, ranks: usize) -> Self {
        let alone = launched.as_ref().is_some_and(|processes| processes.share(ranks) == 1);
        let prices = match self.prices {
            Prices::Measured(profiled) if alone => Prices::Measured(Box::new(profiled.in_processes())),
            other => other,
        };
        Self { prices, ..self }
    }

    /// How memory is predicted under these prices.
    pub(crate) fn memory(&self) -> MemoryModel<'_> {
        match &self.prices {
            Prices::Datasheet(_) => MemoryModel::Framework,
            Prices::Measured(profiled) => MemoryModel::Profiled(profiled),
        }
    }
}

/// Prices for `devices`: from `given` when the user names a profile; for devices of this machine that can be computed
/// on, from the cache or a fresh measurement of each kind; from the datasheet for everything else.
pub(crate) fn choose(devices: &DeviceGraph, given: Option<&Path>) -> Result<Pricing> {
    if let Some(path) = given {
        let profile = read_profile(path)?;
        check_covers(&profile, devices, path)?;
        return Ok(profiled(vec![profile], path.display().to_string()));
    }
    if !measurable(devices) {
        return Ok(datasheet());
    }
    priced(devices, &|group| {
        let path = group.cache_path()?;
        if path.exists() {
            match read_profile(&path).map(|profile| (check_fresh(&profile, group), profile)) {
                Ok((Ok(()), profile)) => return Ok((profile, path.display().to_string())),
                Ok((Err(reason), _)) => eprintln!("profile  {} is not used: {reason}", path.display()),
                Err(error) => eprintln!("profile  not used: {error}"),
            }
        }
        group.measure_now(&path)
    })
}

/// Prices that nobody has to wait for: from the cache, if it has a profile of every kind of device, or else the datasheet.
#[cfg(feature = "runtime")]
pub(crate) fn at_hand(devices: &DeviceGraph) -> Pricing {
    let cached = |group: &Group| {
        let path = group.cache_path()?;
        let profile = read_profile(&path)?;
        check_fresh(&profile, group).map_err(anyhow::Error::msg)?;
        Ok((profile, path.display().to_string()))
    };
    priced(devices, &cached).unwrap_or_else(|_| datasheet())
}

/// Prices from the datasheet.
pub(crate) fn datasheet() -> Pricing {
    Pricing { prices: Prices::Datasheet(Roofline::new()), origin: "datasheet (roofline)".to_owned() }
}

/// Measures every kind of device now, whatever the cache holds, and keeps the profiles there. The other processes of a
/// launcher [`assist`].
#[cfg(feature = "runtime")]
pub(crate) fn fresh(devices: &DeviceGraph, launched: &Launched) -> Result<Pricing> {
    priced(devices, &|group| group.measure_with(&group.cache_path()?, launched))
}

/// Measures what the leading process measures, beside it and together with it.
#[cfg(feature = "runtime")]
pub(crate) fn assist(devices: &DeviceGraph, launched: &Launched) -> Result<()> {
    groups(devices).iter().try_for_each(|group| group.measure(launched).map(drop))
}

fn priced(devices: &DeviceGraph, profile_of: &dyn Fn(&Group) -> Result<(DeviceProfile, String)>) -> Result<Pricing> {
    let found = groups(devices).iter().map(profile_of).collect::<Result<Vec<_>>>()?;
    let (profiles, origins): (Vec<_>, Vec<_>) = found.into_iter().unzip();
    Ok(profiled(profiles, origins.join(" and ")))
}

/// True for cores, which stand for this machine's, and for its cards when they can be computed on now.
fn measurable(devices: &DeviceGraph) -> bool {
    if devices.devices().iter().all(|device| device.spec.kind == DeviceKind::Cpu) {
        return true;
    }
    #[cfg(feature = "runtime")]
    return crate::local::places(devices).is_ok();
    #[cfg(not(feature = "runtime"))]
    false
}

/// Ranks on one kind of device: what one profile is about.
pub(crate) struct Group {
    model: String,
    ranks: usize,
    #[cfg(feature = "runtime")]
    kind: DeviceKind,
    /// The first of them.
    device: String,
    /// Number, name and host of each, by rank.
    #[cfg(feature = "runtime")]
    members: Vec<(usize, String, String)>,
}

/// What one process measures.
#[cfg(feature = "runtime")]
struct Seat {
    core: usize,
    /// Ranks on its host.
    ranks: usize,
    /// Whether it measures devices, and not links alone: one process a host does.
    measures: bool,
}

/// The devices by model, in order of appearance.
pub(crate) fn groups(devices: &DeviceGraph) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for device in devices.devices() {
        match groups.iter_mut().find(|group| group.model == device.spec.model) {
            Some(group) => group.ranks += 1,
            None => groups.push(Group {
                model: device.spec.model.clone(),
                ranks: 1,
                #[cfg(feature = "runtime")]
                kind: device.spec.kind,
                device: device.name.clone(),
                #[cfg(feature = "runtime")]
                members: Vec::new(),
            }),
        }
    }
    #[cfg(feature = "runtime")]
    for group in &mut groups {
        let of_group = devices.devices().iter().enumerate().filter(|(_, device)| device.spec.model == group.model);
        group.members = of_group.map(|(rank, device)| (rank, device.name.clone(), device.host.clone())).collect();
    }
    groups
}

/// Time for measuring operators; links and contention take about ten seconds more.
#[cfg(feature = "runtime")]
const OPERATOR_SECONDS: f64 = 35.0;

impl Group {
    /// Where the profile of these devices is kept: a file for each model and number of ranks.
    pub(crate) fn cache_path(&self) -> Result<PathBuf> {
        let home = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let cache = home("CUTPLANE_CACHE")
            .or_else(|| home("XDG_CACHE_HOME").map(|cache| cache.join("cutplane")))
            .or_else(|| home("HOME").map(|home| home.join(".cache").join("cutplane")));
        let Some(cache) = cache else { bail!("no cache folder: set CUTPLANE_CACHE, or give --profile FILE") };
        let model: String = self.model.chars().map(|c| if c.is_alphanumeric() { c } else { '-' }).collect();
        Ok(cache.join(format!("{}-x{}.toml", model.to_lowercase(), self.ranks)))
    }

    #[cfg(feature = "runtime")]
    fn measure_now(&self, path: &Path) -> Result<(DeviceProfile, String)> {
        self.measure_with(path, &None)
    }

    #[cfg(feature = "runtime")]
    fn measure_with(&self, path: &Path, launched: &Launched) -> Result<(DeviceProfile, String)> {
        crate::output::prepare_file(path)?;
        let Some(profile) = self.measure(launched)? else {
            bail!("{}: only the leading process keeps what is measured, on a host with such a device", self.device)
        };
        cutplane_record::write_profile(path, &profile)?;
        Ok((profile, format!("{} (measured just now)", path.display())))
    }

    #[cfg(not(feature = "runtime"))]
    fn measure_now(&self, path: &Path) -> Result<(DeviceProfile, String)> {
        bail!(
            "no device profile of {} at {}: build with the feature 'runtime' and run `cutplane profile`, or give --profile FILE",
            self.device,
            path.display()
        )
    }

    /// Measures one rank a device on this machine; together with the other processes of a launcher also the links between
    /// them. `None` in a process that does not lead.
    #[cfg(feature = "runtime")]
    pub(crate) fn measure(&self, launched: &Launched) -> Result<Option<DeviceProfile>> {
        let seat = self.seat(launched);
        let profile = if seat.measures { Some(self.measure_here(&seat, launched.is_none())?) } else { None };
        let Some(processes) = launched else { return Ok(profile) };
        let links = self.links(processes, &seat)?;
        let profile = profile.filter(|_| processes.index() == 0);
        Ok(profile.map(|profile| DeviceProfile { processes: links, ..profile }))
    }

    #[cfg(feature = "runtime")]
    fn links(&self, processes: &Arc<dyn Processes>, seat: &Seat) -> Result<Vec<ProcessLinks>> {
        use anyhow::Context as _;

        measure_process_links(processes, &self.backend()?, seat.core).context("measuring the links between processes")
    }

    /// The same profile with the links between the processes of a launcher, measured now; `None` in one that does not lead.
    #[cfg(feature = "runtime")]
    pub(crate) fn add_links(&self, profile: DeviceProfile, launched: &Launched) -> Result<Option<DeviceProfile>> {
        let Some(processes) = launched else {
            bail!(
                "--add-links measures the links between processes: start several, `mpirun -np 2 cutplane profile ...`"
            )
        };
        let links = self.links(processes, &self.seat(launched))?;
        Ok((processes.index() == 0).then_some(DeviceProfile { processes: links, ..profile }))
    }

    #[cfg(feature = "runtime")]
    fn seat(&self, launched: &Launched) -> Seat {
        let Some(processes) = launched else { return Seat { core: 0, ranks: self.ranks, measures: true } };
        let ranks = self.members.iter().map(|(rank, ..)| rank + 1).max().unwrap_or(0);
        let first = processes.index() * processes.share(ranks);
        let mine = self.members.iter().find(|(rank, ..)| *rank == first);
        let on_host = |host: &str| self.members.iter().filter(|(.., other)| other == host).count();
        let core = match mine.and_then(|(_, name, _)| Place::of_device(name)) {
            Some(Place::Cpu { core }) => core,
            _ => 0,
        };
        let hosts = processes.hosts();
        let leads_host = hosts.iter().position(|host| *host == hosts[processes.index()]) == Some(processes.index());
        let ranks = mine.map_or(0, |(.., host)| on_host(host));
        Seat { core, ranks, measures: leads_host && ranks > 0 }
    }

    #[cfg(feature = "runtime")]
    pub(crate) fn backend(&self) -> Result<cutplane_runtime::Backend> {
        let place = match self.kind {
            DeviceKind::Cpu => Some(Place::Cpu { core: 0 }),
            DeviceKind::Gpu => Place::of_device(&self.device),
        };
        match place {
            Some(place) => Ok(crate::local::backend(place)),
            None => bail!("device '{}' is not of this machine", self.device),
        }
    }

    #[cfg(feature = "runtime")]
    fn measure_here(&self, seat: &Seat, alone: bool) -> Result<DeviceProfile> {
        use anyhow::Context as _;
        use cutplane_runtime::profile::{ProfileOptions, measure};

        let bar = crate::progress::bar(1000, "measuring this machine");
        let mut progress = |done: f32, what: &str| {
            bar.set_position((done * 1000.0) as u64);
            bar.set_message(format!("measuring {what}"));
        };
        let options = ProfileOptions {
            device_model: &self.model,
            ranks: seat.ranks,
            core: seat.core,
            seconds: OPERATOR_SECONDS,
            progress: &mut progress,
        };
        // Other processes of this very job would count as strangers.
        let neighbours = alone.then(Neighbours::watch).flatten();
        let mut profile = measure(&self.backend()?, options).context("measuring this machine")?;
        bar.finish_and_clear();
        if let Some(note) = disturbance(neighbours) {
            profile.notes.push(format!("{note}: measure again when the machine is free"));
        }
        Ok(profile)
    }
}

/// Other programs that hold this much of a core are worth a word.
#[cfg(feature = "runtime")]
const DISTURBING_CORES: f64 = 0.25;

/// What to say of a measurement beside which other programs ran.
#[cfg(feature = "runtime")]
pub(crate) fn disturbance(watched: Option<Neighbours>) -> Option<String> {
    let cores = watched.map(Neighbours::cores).filter(|cores| *cores >= DISTURBING_CORES)?;
    Some(format!("other programs held {cores:.1} cores meanwhile"))
}

fn profiled(profiles: Vec<DeviceProfile>, origin: String) -> Pricing {
    for note in profiles.iter().flat_map(|profile| &profile.notes) {
        eprintln!("profile  {note}");
    }
    Pricing { prices: Prices::Measured(Box::new(Profiled::new(profiles.into_iter().map(Arc::new)))), origin }
}

/// A cached profile is used on the machine and by the version that made it.
fn check_fresh(profile: &DeviceProfile, group: &Group) -> Result<(), String> {
    let here = cutplane_record::Provenance::capture();
    let made = &profile.provenance;
    let same = [
        ("processor", &made.cpu_model, &here.cpu_model),
        ("host", &made.host, &here.host),
        ("tool version", &made.tool_version, &here.tool_version),
        ("device model", &profile.device_model, &group.model),
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
