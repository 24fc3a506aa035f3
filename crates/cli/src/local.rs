//! Devices of this machine: what `--backend` and `--devices` mean, and where each rank of a plan runs.

use std::sync::OnceLock;

use anyhow::{Result, anyhow, bail, ensure};
use clap::{Args, ValueEnum};
use cutplane_graph::{ClusterSpec, DeviceGraph, DeviceSpec};
use cutplane_runtime::devices::{Card, DeviceList, Place, Probe, local_cluster, probe};
use cutplane_runtime::exec::{RunOptions, Transfers};
use cutplane_runtime::{Backend, OptimizerSettings};

use crate::launch;

/// Which of Burn's back ends computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum BackendChoice {
    /// Cores of this machine, one thread a rank.
    Cpu,
    /// NVIDIA cards of this machine.
    Cuda,
}

/// How tensors go between ranks on one card.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum TransferChoice {
    /// Handed over on the card, without a copy.
    #[default]
    OnDevice,
    /// Through the host, as between cards without a link.
    Staged,
}

impl From<TransferChoice> for Transfers {
    fn from(choice: TransferChoice) -> Self {
        match choice {
            TransferChoice::OnDevice => Self::OnDevice,
            TransferChoice::Staged => Self::Staged,
        }
    }
}

/// The devices of this machine that a verb computes on.
#[derive(Clone, Debug, Args)]
pub(crate) struct LocalArgs {
    /// Devices of this machine: cpu:COUNT cores, cuda (every card), cuda:CARD, cuda:CARDxRANKS (several ranks on one
    /// card), or a list such as cuda:0,cpu:2 [default: cpu:2, or cuda with --backend cuda].
    #[arg(long, value_name = "DEVICES")]
    pub(crate) devices: Option<String>,
    /// Computes on cores or on NVIDIA cards.
    #[arg(long, value_enum)]
    pub(crate) backend: Option<BackendChoice>,
}

impl LocalArgs {
    /// The device list that the arguments stand for.
    pub(crate) fn list(&self) -> String {
        let default = if self.backend == Some(BackendChoice::Cuda) { "cuda" } else { "cpu:2" };
        self.devices.clone().unwrap_or_else(|| default.to_owned())
    }

    /// The devices, checked: each of them can be computed on now.
    pub(crate) fn load(&self) -> Result<(DeviceGraph, Vec<Place>)> {
        self.refuse_contradiction()?;
        let devices = crate::context::devices(&self.list())?;
        let places = places(&devices)?;
        Ok((devices, places))
    }

    fn refuse_contradiction(&self) -> Result<()> {
        let (Some(list), Some(backend)) = (&self.devices, self.backend) else { return Ok(()) };
        if !DeviceList::is_meant(list) {
            return Ok(());
        }
        let parsed = DeviceList::parse(list)?;
        let fits = match backend {
            BackendChoice::Cpu => !parsed.has_cards(),
            BackendChoice::Cuda => parsed.cores() == 0,
        };
        let word = backend.to_possible_value().map_or(String::new(), |value| value.get_name().to_owned());
        ensure!(fits, "--backend {word} contradicts --devices {list}: leave one of them out");
        Ok(())
    }

    /// Where the ranks of a plan for `devices` run: on the devices that the plan names, unless the arguments say
    /// otherwise.
    pub(crate) fn places_of_plan(&self, devices: &DeviceGraph) -> Result<Vec<Place>> {
        if self.devices.is_none() && self.backend.is_none() {
            return places(devices);
        }
        let ranks = devices.devices().len();
        let given = match (&self.devices, self.backend) {
            (None, Some(BackendChoice::Cpu)) => (0..ranks).map(|core| Place::Cpu { core }).collect(),
            _ => self.load()?.1,
        };
        ensure!(
            given.len() == ranks || self.devices.is_none(),
            "the plan has {ranks} devices, --devices {} has {}: name as many",
            self.list(),
            given.len()
        );
        // Without a list, ranks beyond the cards share them in turn.
        Ok((0..ranks).map(|rank| given[rank % given.len()]).collect())
    }
}

/// Builds the cluster of a device list of this machine.
pub(crate) fn cluster(argument: &str) -> Result<ClusterSpec> {
    let list = DeviceList::parse(argument)?;
    let cores = match list.cores() {
        0 => None,
        count => Some(cutplane_zoo::cluster(&format!("cpu:{count}"))?),
    };
    if !list.has_cards() {
        let cores = cores.ok_or_else(|| anyhow!("device list '{argument}' names no device"))?;
        return Ok(ClusterSpec { name: argument.to_owned(), ..cores });
    }
    let probe = probed();
    probe.cards_listed(&cards_of(&list.places(probe.cards.len())))?;
    Ok(local_cluster(&list, &probe.cards, cores.as_ref(), &datasheet))
}

/// What was found when this process first asked. Asked again, a card would count what the process itself holds as taken.
fn probed() -> &'static Probe {
    static PROBE: OnceLock<Probe> = OnceLock::new();
    PROBE.get_or_init(probe)
}

/// Facts of a card: from the catalogue when it knows the product, else what the driver tells.
pub(crate) fn datasheet(card: &Card) -> DeviceSpec {
    cutplane_zoo::device_of_product(&card.name).unwrap_or_else(|| card.spec())
}

/// Where each device is, checked: every one of them is of this machine and can be computed on now.
pub(crate) fn places(devices: &DeviceGraph) -> Result<Vec<Place>> {
    let mut places = Vec::with_capacity(devices.devices().len());
    for device in devices.devices() {
        let Some(place) = Place::of_device(&device.name) else {
            bail!(
                "device '{}' ({}) cannot run here: it is no device of this machine. Use --backend cpu or cuda, or --devices \
                 cpu:N or cuda, or `cutplane plan` and `cutplane simulate`, which need no device",
                device.name,
                device.spec.model
            );
        };
        places.push(place);
    }
    if launch::is_one_of_several() && !cards_of(&places).is_empty() {
        let cards = probed().cards.len();
        for place in &mut places {
            *place = on_own_host(*place, cards);
        }
    }
    let cards = cards_of(&places);
    if !cards.is_empty() {
        probed().cards_ready(&cards)?;
    }
    Ok(places)
}

/// A process that a launcher has started sees the cards of its own host, or those that the launcher gives it, numbered from
/// 0, while a plan numbers those of all hosts: ranks are dealt in order, so each has the card of its place on its host.
fn on_own_host(place: Place, cards: usize) -> Place {
    match place {
        Place::Cuda { card } => Place::Cuda { card: card % cards.max(1) },
        other @ Place::Cpu { .. } => other,
    }
}

/// The back end at a place that [`places`] has passed.
pub(crate) fn backend(place: Place) -> Backend {
    match place {
        Place::Cpu { .. } => Backend::cpu(),
        #[cfg(feature = "cuda")]
        Place::Cuda { card } => Backend::cuda(card),
        #[cfg(not(feature = "cuda"))]
        Place::Cuda { .. } => unreachable!("without feature cuda no card is ready"),
    }
}

/// Names of the back ends at `places`, each once.
pub(crate) fn backend_names(places: &[Place]) -> String {
    let mut names: Vec<String> = places.iter().map(|place| backend(*place).name().to_owned()).collect();
    names.dedup();
    names.join(" and ")
}

/// How ranks run at `places`.
pub(crate) fn run_options(places: &[Place], optimizer: OptimizerSettings, seed: u64) -> RunOptions {
    // Ranks on cards are not pinned; their number only names their thread.
    let core = |(rank, place): (usize, &Place)| match place {
        Place::Cpu { core } => *core,
        Place::Cuda { .. } => rank,
    };
    let cores = places.iter().enumerate().map(core).collect();
    let backends = places.iter().map(|place| backend(*place)).collect();
    RunOptions { seed, cores, backends, ..RunOptions::new(optimizer) }
}

fn cards_of(places: &[Place]) -> Vec<usize> {
    places.iter().filter_map(|place| place.card()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rank_has_the_card_of_its_place_on_its_host() {
        let card = |card: usize, cards: usize| on_own_host(Place::Cuda { card }, cards);
        // The second of two hosts with four cards, and a process that was given one.
        assert_eq!(
            (card(5, 4), card(3, 4), card(3, 1)),
            (Place::Cuda { card: 1 }, Place::Cuda { card: 3 }, Place::Cuda { card: 0 })
        );
        // Without any, that is for the check of the cards to say.
        assert_eq!(card(3, 0), Place::Cuda { card: 0 });
        assert_eq!(on_own_host(Place::Cpu { core: 7 }, 4), Place::Cpu { core: 7 });
    }
}
