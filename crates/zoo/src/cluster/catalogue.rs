//! The catalogue of device models and machines: data files, read once.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use cutplane_graph::{DeviceSpec, LinkKind};
use serde::Deserialize;

/// Bandwidth and latency of each link of a kind.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Port {
    pub(super) kind: LinkKind,
    pub(super) bandwidth_gb_per_s: f64,
    pub(super) latency_us: f64,
}

/// A machine: devices on one fabric switch, all on PCIe to the host, cards shared evenly.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Chassis {
    pub(super) devices: usize,
    /// Each device to the switch.
    pub(super) fabric: Port,
    /// Each device to its host, and to its network card.
    pub(super) host_link: Port,
    pub(super) nics: usize,
    /// Each network card to the network switch.
    pub(super) network: Port,
    /// Where the numbers come from.
    #[serde(rename = "source")]
    _source: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DeviceEntry {
    pub(super) aliases: Vec<String>,
    /// Names that drivers give the device.
    #[serde(default)]
    products: Vec<String>,
    /// Words that tell the device in a description of hardware.
    #[serde(default)]
    pub(super) names: Vec<String>,
    /// The machine that it usually comes in.
    #[serde(rename = "box")]
    chassis: String,
    pub(super) spec: DeviceSpec,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HostEntry {
    pub(super) name: String,
    device: String,
    #[serde(rename = "box")]
    chassis: String,
}

/// A cloud instance, with what it costs.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct InstanceEntry {
    pub(super) name: String,
    pub(super) device: String,
    #[serde(rename = "box")]
    chassis: String,
    pub(super) devices: usize,
    nics: usize,
    network_gbit_per_s: f64,
    pub(super) dollars_per_hour: f64,
    pub(super) region: String,
    /// Of the price, `2026-07-20`.
    pub(super) date: String,
    pub(super) source: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct InstanceFile {
    instance: Vec<InstanceEntry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DeviceFile {
    device: Vec<DeviceEntry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct HostFile {
    host: Vec<HostEntry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct BoxFile {
    #[serde(rename = "box")]
    boxes: BTreeMap<String, Chassis>,
}

/// All that is known by name.
#[derive(Debug)]
pub(super) struct Catalogue {
    pub(super) devices: Vec<DeviceEntry>,
    pub(super) hosts: Vec<HostEntry>,
    pub(super) instances: Vec<InstanceEntry>,
    boxes: BTreeMap<String, Chassis>,
}

/// Files of device models; of two that fit a description equally, the first counts.
const DEVICE_FILES: [&str; 5] = [
    include_str!("../../data/devices/accelerators-of-nvidia.toml"),
    include_str!("../../data/devices/volta-and-turing.toml"),
    include_str!("../../data/devices/cards-of-nvidia.toml"),
    include_str!("../../data/devices/before-2017.toml"),
    include_str!("../../data/devices/other-makers.toml"),
];

static CATALOGUE: LazyLock<Catalogue> = LazyLock::new(|| {
    let read = |text| toml::from_str::<DeviceFile>(text).expect("a test reads data/devices").device;
    let hosts: HostFile = toml::from_str(include_str!("../../data/hosts.toml")).expect("data/hosts.toml reads");
    let boxes: BoxFile = toml::from_str(include_str!("../../data/boxes.toml")).expect("data/boxes.toml reads");
    let instances: InstanceFile =
        toml::from_str(include_str!("../../data/instances.toml")).expect("a test reads data/instances.toml");
    let devices = DEVICE_FILES.into_iter().flat_map(read).collect();
    Catalogue { devices, hosts: hosts.host, instances: instances.instance, boxes: boxes.boxes }
});

/// The catalogue of this build.
pub(super) fn catalogue() -> &'static Catalogue {
    &CATALOGUE
}

impl Catalogue {
    /// The device model of this name or alias, in any case.
    pub(super) fn device(&self, name: &str) -> Option<&DeviceEntry> {
        let name = name.to_ascii_lowercase();
        self.devices.iter().find(|entry| entry.spec.model.to_ascii_lowercase() == name || entry.aliases.contains(&name))
    }

    /// The device model that a driver calls `product`.
    pub(super) fn product(&self, product: &str) -> Option<&DeviceEntry> {
        let wanted = bare(product);
        self.devices.iter().find(|entry| entry.products.iter().any(|name| bare(name) == wanted))
    }

    /// The machine of this name, in any case.
    pub(super) fn host(&self, name: &str) -> Option<&HostEntry> {
        self.hosts.iter().find(|entry| entry.name.eq_ignore_ascii_case(name))
    }

    /// The cloud instance of this name, in any case.
    pub(super) fn instance(&self, name: &str) -> Option<&InstanceEntry> {
        self.instances.iter().find(|entry| entry.name.eq_ignore_ascii_case(name))
    }

    /// The machine of an instance: its box with the instance's own devices and network.
    pub(super) fn box_of_instance(&self, instance: &InstanceEntry) -> Chassis {
        let chassis = self.boxes.get(&instance.chassis).expect("a test holds every instance to a listed box");
        let InstanceEntry { devices, nics, network_gbit_per_s, .. } = *instance;
        let bandwidth_gb_per_s = network_gbit_per_s / 8.0 / nics as f64;
        Chassis { devices, nics, network: Port { bandwidth_gb_per_s, ..chassis.network.clone() }, ..chassis.clone() }
    }

    /// The device model of an instance.
    pub(super) fn device_of_instance(&self, instance: &InstanceEntry) -> &DeviceSpec {
        &self.device(&instance.device).expect("a test holds every instance to a listed device").spec
    }

    /// The machine that a device usually comes in.
    pub(super) fn box_of(&self, device: &DeviceEntry) -> &Chassis {
        self.boxes.get(&device.chassis).expect("a test holds every device to a listed box")
    }

    /// The machine of a host's name.
    pub(super) fn box_of_host(&self, host: &HostEntry) -> &Chassis {
        self.boxes.get(&host.chassis).expect("a test holds every host to a listed box")
    }

    /// The device model of a machine.
    pub(super) fn device_of(&self, host: &HostEntry) -> &DeviceSpec {
        &self.device(&host.device).expect("a test holds every host to a listed device").spec
    }
}

/// A product name without the brand in front of it, which depends on the age of the driver.
fn bare(product: &str) -> String {
    let name = product.trim().to_ascii_lowercase();
    let name = name.strip_prefix("nvidia ").unwrap_or(&name);
    name.strip_prefix("tesla ").unwrap_or(name).to_owned()
}
