//! Clusters by name or by file.

mod catalogue;
mod chassis;
mod cpu;
mod hardware;
mod irregular;
mod mix;
mod price;

use std::path::Path;

use cutplane_graph::{ClusterSpec, DeviceGraph, DeviceSpec};

use crate::error::ZooError;
use catalogue::{Chassis, catalogue};
use chassis::Machines;
pub use hardware::{device_from_hardware_text, devices, suggested_devices};
pub use price::{Price, price};

/// Most devices of a named cluster.
const MAX_DEVICES: usize = 65_536;
/// Most ranks on the cores of one host.
const MAX_CORES: usize = 1024;
/// Most machines that are drawn link by link.
const MAX_IRREGULAR: usize = 128;

/// One form that [`cluster`] understands, for listings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterForm {
    /// What to write, with `N` for a count.
    pub form: String,
    /// What it stands for.
    pub description: String,
}

/// All forms that [`cluster`] understands.
pub fn cluster_forms() -> Vec<ClusterForm> {
    let form = |form: String, description: String| ClusterForm { form, description };
    let mut forms = vec![form("cpu:N".to_owned(), "N cores of this machine".to_owned())];
    for host in &catalogue().hosts {
        let model = &catalogue().device_of(host).model;
        let chassis = catalogue().box_of_host(host);
        let (devices, nics) = (chassis.devices, chassis.nics);
        forms.push(form(
            format!("{}:N", host.name),
            format!("N machines of {devices} x {model} and {nics} network cards"),
        ));
    }
    for device in &catalogue().devices {
        let description = format!("N x {}, {} to a machine", device.spec.model, catalogue().box_of(device).devices);
        forms.push(form(format!("{}:N", device.aliases[0]), description));
    }
    for instance in &catalogue().instances {
        let description = format!(
            "N instances of {} x {} in {}, ${} an hour on {}",
            instance.devices, instance.device, instance.region, instance.dollars_per_hour, instance.date
        );
        forms.push(form(format!("{}:N", instance.name), description));
    }
    for machine in crate::topology::machines() {
        let description = format!("N machines of 8 x {}, drawn link by link", machine.device);
        forms.push(form(format!("{}:N", machine.name), description));
    }
    forms.extend(mix::named().iter().map(|(name, parts)| form((*name).to_owned(), format!("the same as {parts}"))));
    forms.push(form("A+B".to_owned(), "two or more of these on one network: v100-16gb:8+k80:8".to_owned()));
    forms.push(form(
        "FILE.toml".to_owned(),
        "a cluster of your own: device_models, nodes and links; or a machine: matrix of nvidia-smi topo -m and rates"
            .to_owned(),
    ));
    forms
}

/// Reads a cluster argument: `cpu:2` (cores of this machine), `dgx-h100:16` (machines), `a100-80gb:8` (devices, packed
/// into machines of the usual size), `p4d.24xlarge:4` (cloud instances), `dgx-1v:1` (a machine drawn link by link), several
/// of these joined by `+` on one network, or the path of a TOML file.
///
/// Devices are named `cpu:1` or `dgx-h100-3/gpu5`. Every cluster returned builds a [`DeviceGraph`].
///
/// # Errors
/// [`ZooError`], naming the argument or the file and its field.
pub fn cluster(argument: &str) -> Result<ClusterSpec, ZooError> {
    let is_file = Path::new(argument).extension().is_some_and(|extension| extension.eq_ignore_ascii_case("toml"));
    if is_file {
        return from_file(Path::new(argument));
    }
    if let Some(mix) = mix::cluster(argument) {
        return mix;
    }
    let (name, count) = argument.rsplit_once(':').unwrap_or((argument, "1"));
    if name.eq_ignore_ascii_case("cpu") {
        return Ok(cpu::cores(parse_count(argument, count, MAX_CORES)?));
    }
    if let Some(machine) = crate::topology::machine(name) {
        return irregular::machines(machine, parse_count(argument, count, MAX_IRREGULAR)?, argument, false);
    }
    match kind(name) {
        Some(kind) => {
            let devices = kind.devices(argument, count)?;
            Ok(kind.machines().of(devices, argument))
        }
        None => Err(refuse(argument, format!("'{name}' is not known"), format!("known are {}", known_forms()))),
    }
}

/// Regular machines of the catalogue.
struct Kind {
    prefix: &'static str,
    spec: &'static DeviceSpec,
    chassis: Chassis,
    /// Whether counts are of machines.
    whole: bool,
}

impl Kind {
    fn devices(&self, argument: &str, count: &str) -> Result<usize, ZooError> {
        let each = if self.whole { self.chassis.devices } else { 1 };
        Ok(parse_count(argument, count, MAX_DEVICES / each)? * each)
    }

    const fn machines(&self) -> Machines<'_> {
        Machines { prefix: self.prefix, spec: self.spec, chassis: &self.chassis }
    }
}

/// The regular machines of this name.
fn kind(name: &str) -> Option<Kind> {
    let known = catalogue();
    if let Some(host) = known.host(name) {
        let chassis = known.box_of_host(host).clone();
        return Some(Kind { prefix: &host.name, spec: known.device_of(host), chassis, whole: true });
    }
    if let Some(instance) = known.instance(name) {
        let chassis = known.box_of_instance(instance);
        return Some(Kind { prefix: &instance.name, spec: known.device_of_instance(instance), chassis, whole: true });
    }
    let device = known.device(name)?;
    let chassis = known.box_of(device).clone();
    Some(Kind { prefix: &device.aliases[0], spec: &device.spec, chassis, whole: false })
}

/// Facts of the device that a driver calls `product`, such as `NVIDIA H100 80GB HBM3`; `None` when the catalogue has none
/// of that name.
pub fn device_of_product(product: &str) -> Option<DeviceSpec> {
    catalogue().product(product).map(|entry| entry.spec.clone())
}

fn known_forms() -> String {
    cluster_forms().into_iter().map(|form| form.form).collect::<Vec<_>>().join(", ")
}

fn refuse(argument: &str, problem: String, remedy: String) -> ZooError {
    ZooError::Cluster { argument: argument.to_owned(), problem, remedy }
}

fn parse_count(argument: &str, text: &str, limit: usize) -> Result<usize, ZooError> {
    let remedy = format!("write a whole number from 1 to {limit} after the colon");
    match text.parse::<usize>() {
        Ok(0) => Err(refuse(argument, "no devices".to_owned(), remedy)),
        Ok(count) if count <= limit => Ok(count),
        Ok(count) => Err(refuse(argument, format!("{count} is too many"), remedy)),
        Err(_) => Err(refuse(argument, format!("the count '{text}' is not a whole number"), remedy)),
    }
}

fn from_file(path: &Path) -> Result<ClusterSpec, ZooError> {
    let text = std::fs::read_to_string(path).map_err(|source| ZooError::Io { path: path.to_owned(), source })?;
    cluster_from_text(path, &text)
}

/// Reads the text of a cluster file; `path` names it in errors.
///
/// # Errors
/// [`ZooError::Toml`] and [`ZooError::DeviceGraph`]; [`ZooError::Cluster`] for the matrix of a machine.
pub fn cluster_from_text(path: &Path, text: &str) -> Result<ClusterSpec, ZooError> {
    let toml = |source| ZooError::Toml { path: path.to_owned(), source: Box::new(source) };
    let table: toml::Table = toml::from_str(text).map_err(toml)?;
    if table.contains_key("matrix") {
        let machine: crate::topology::Machine = toml::from_str(text).map_err(toml)?;
        return machine.cluster();
    }
    let spec: ClusterSpec = toml::from_str(text).map_err(toml)?;
    let graph = DeviceGraph::build(spec).map_err(|source| ZooError::DeviceGraph { path: path.to_owned(), source })?;
    Ok(graph.spec().clone())
}
