//! Machines whose devices are joined irregularly: built in by name, or imported from `nvidia-smi topo -m`.

mod matrix;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use cutplane_graph::{ClusterSpec, DeviceGraph, DeviceSpec, LinkKind, LinkSpec, NodeKind, NodeSpec};
use serde::{Deserialize, Serialize};

use crate::error::ZooError;
use matrix::{Cell, Matrix};

/// Latency of a hop over NVLink or PCIe, us; a prior, as in the catalogue.
const HOP_LATENCY_US: f64 = 1.0;

/// A machine as the driver describes it: which link joins which devices, and how fast the links are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// Its name; also that of its host.
    pub name: String,
    /// Its devices, as [`crate::cluster`] knows them: `v100-16gb`.
    pub device: String,
    /// One NVLink in one direction, GB/s.
    pub nvlink_gb_per_s: f64,
    /// A device's PCIe port in one direction, GB/s.
    pub pcie_gb_per_s: f64,
    /// What joins the processors' sockets in one direction, GB/s.
    pub socket_gb_per_s: f64,
    /// What `nvidia-smi topo -m` prints.
    pub matrix: String,
    /// Where the numbers come from.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub source: String,
}

static BUILT_IN: LazyLock<Vec<Machine>> = LazyLock::new(|| {
    [include_str!("../../data/topologies/dgx-1p.toml"), include_str!("../../data/topologies/dgx-1v.toml")]
        .into_iter()
        .map(|text| toml::from_str(text).expect("a test reads every file of data/topologies"))
        .collect()
});

/// The machines of this build, by name.
pub fn machines() -> &'static [Machine] {
    &BUILT_IN
}

/// The built-in machine of this name, in any case.
pub fn machine(name: &str) -> Option<&'static Machine> {
    machines().iter().find(|machine| machine.name.eq_ignore_ascii_case(name))
}

impl Machine {
    /// The machine as a cluster of one host: NVLinks between devices (or to a switch, where every device has the same number
    /// to every other and there are more than two), PCIe switches as far as shared network cards or `PIX` and `PXB` tell
    /// them, a root complex a socket, and the link between the sockets. Network cards are left out, as in every cluster of
    /// one machine.
    ///
    /// # Errors
    /// [`ZooError`], naming the matrix's row or the unknown device.
    pub fn cluster(&self) -> Result<ClusterSpec, ZooError> {
        let matrix = Matrix::parse(&self.name, &self.matrix)?;
        let spec = self.device_spec()?;
        let mut cluster = ClusterSpec {
            name: self.name.clone(),
            device_models: BTreeMap::from([(spec.model.clone(), spec.clone())]),
            nodes: vec![node(&self.name, NodeKind::Host)],
            links: Vec::new(),
        };
        for device in 0..matrix.devices() {
            let host = Some(self.name.clone());
            let model = Some(spec.model.clone());
            cluster.nodes.push(NodeSpec { name: self.gpu(device), kind: NodeKind::Device, model, host });
        }
        self.add_nvlinks(&mut cluster, &matrix);
        self.add_pcie(&mut cluster, &matrix);
        match DeviceGraph::build(cluster) {
            Ok(graph) => Ok(graph.spec().clone()),
            Err(error) => Err(refuse(&self.name, error.to_string(), "correct the rates or the matrix")),
        }
    }

    fn device_spec(&self) -> Result<DeviceSpec, ZooError> {
        let cluster = crate::cluster(&format!("{}:1", self.device))?;
        cluster.device_models.into_values().next().ok_or_else(|| {
            refuse(&self.name, format!("'{}' is not a device", self.device), "name a device of the catalogue")
        })
    }

    fn gpu(&self, index: usize) -> String {
        format!("{}/gpu{index}", self.name)
    }

    fn add_nvlinks(&self, cluster: &mut ClusterSpec, matrix: &Matrix) {
        let nvlink =
            |from: &str, to: &str, links: usize| link(from, to, LinkKind::Nvlink, links as f64 * self.nvlink_gb_per_s);
        if let Some(links) = matrix.switched() {
            let switch = format!("{}/nvswitch", self.name);
            for device in 0..matrix.devices() {
                cluster.links.push(nvlink(&self.gpu(device), &switch, links));
            }
            cluster.nodes.push(node(&switch, NodeKind::Switch));
            return;
        }
        for (from, to, cell) in matrix.pairs() {
            if let Cell::NvLink(links) = cell {
                cluster.links.push(nvlink(&self.gpu(from), &self.gpu(to), links));
            }
        }
    }

    /// Devices to their PCIe switch, switches to the root complex of their socket, sockets to the host.
    fn add_pcie(&self, cluster: &mut ClusterSpec, matrix: &Matrix) {
        let pcie = |from: &str, to: &str| link(from, to, LinkKind::Pcie, self.pcie_gb_per_s);
        let sockets = matrix.sockets();
        for (at, socket) in sockets.iter().enumerate() {
            let root = format!("{}/socket{at}", self.name);
            cluster.nodes.push(node(&root, NodeKind::Switch));
            cluster.links.push(link(&root, &self.name, LinkKind::Pcie, self.socket_gb_per_s));
            for (index, switch) in matrix.pcie_switches(socket).iter().enumerate() {
                let [alone] = switch.as_slice() else {
                    let name = format!("{root}/pcie{index}");
                    cluster.links.extend(switch.iter().map(|device| pcie(&self.gpu(*device), &name)));
                    cluster.links.push(pcie(&name, &root));
                    cluster.nodes.push(node(&name, NodeKind::Switch));
                    continue;
                };
                cluster.links.push(pcie(&self.gpu(*alone), &root));
            }
        }
    }
}

fn refuse(argument: &str, problem: String, remedy: &str) -> ZooError {
    ZooError::Cluster { argument: argument.to_owned(), problem, remedy: remedy.to_owned() }
}

fn node(name: &str, kind: NodeKind) -> NodeSpec {
    NodeSpec { name: name.to_owned(), kind, model: None, host: None }
}

fn link(from: &str, to: &str, kind: LinkKind, bandwidth_gb_per_s: f64) -> LinkSpec {
    LinkSpec { from: from.to_owned(), to: to.to_owned(), kind, bandwidth_gb_per_s, latency_us: HOP_LATENCY_US }
}
