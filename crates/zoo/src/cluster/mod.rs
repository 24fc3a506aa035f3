//! Clusters by name or by file.

mod catalogue;
mod chassis;
mod cpu;
mod hardware;

use std::path::Path;

use cutplane_graph::{ClusterSpec, DeviceGraph, DeviceSpec};

use crate::error::ZooError;
use catalogue::catalogue;
use chassis::Machines;
pub use hardware::{device_from_hardware_text, devices, suggested_devices};

/// Most devices of a named cluster.
const MAX_DEVICES: usize = 65_536;
/// Most ranks on the cores of one host.
const MAX_CORES: usize = 1024;

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
    forms.push(form("FILE.toml".to_owned(), "a cluster of your own: device_models, nodes and links".to_owned()));
    forms
}

/// Reads a cluster argument: `cpu:2` (cores of this machine), `dgx-h100:16` (machines), `a100-80gb:8` (devices, packed
/// into machines of the usual size), or the path of a TOML file.
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
    let (name, count) = argument.rsplit_once(':').unwrap_or((argument, "1"));
    if name.eq_ignore_ascii_case("cpu") {
        return Ok(cpu::cores(parse_count(argument, count, MAX_CORES)?));
    }
    if let Some(host) = catalogue().host(name) {
        let chassis = catalogue().box_of_host(host);
        let machines = parse_count(argument, count, MAX_DEVICES / chassis.devices)?;
        let devices = machines * chassis.devices;
        let spec = catalogue().device_of(host);
        return Ok(Machines { prefix: &host.name, spec, chassis }.of(devices, argument));
    }
    if let Some(device) = catalogue().device(name) {
        let devices = parse_count(argument, count, MAX_DEVICES)?;
        let prefix = &device.aliases[0];
        return Ok(Machines { prefix, spec: &device.spec, chassis: catalogue().box_of(device) }.of(devices, argument));
    }
    Err(refuse(argument, format!("'{name}' is not known"), format!("known are {}", known_forms())))
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
/// [`ZooError::Toml`] and [`ZooError::DeviceGraph`].
pub fn cluster_from_text(path: &Path, text: &str) -> Result<ClusterSpec, ZooError> {
    let toml = |source| ZooError::Toml { path: path.to_owned(), source: Box::new(source) };
    let spec: ClusterSpec = toml::from_str(text).map_err(toml)?;
    let graph = DeviceGraph::build(spec).map_err(|source| ZooError::DeviceGraph { path: path.to_owned(), source })?;
    Ok(graph.spec().clone())
}
