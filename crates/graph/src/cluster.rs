//! A cluster as plain data: what a TOML file holds and what a plan carries.

use std::collections::BTreeMap;

use cutplane_units::{Bytes, BytesPerSecond, FlopsPerSecond};
use serde::{Deserialize, Serialize};

use crate::accelerator::AcceleratorFacts;
use crate::tensor::Dtype;

/// What a compute device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceKind {
    /// A processor core that runs one rank in one thread.
    Cpu,
    /// An accelerator with its own memory and its own streams.
    Gpu,
}

/// Facts of a device model, from its datasheet or from discovery; measured behaviour lives in a device profile.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceSpec {
    /// Name of the model, such as `A100-SXM-80GB`; a device profile is looked up by it.
    pub model: String,
    /// Processor or accelerator.
    pub kind: DeviceKind,
    /// Memory that tensors may use, GiB.
    pub memory_gib: f64,
    /// Dense peak of matrix multiplication by element type, TFLOP/s.
    pub peak_tflop_per_s: BTreeMap<Dtype, f64>,
    /// Memory bandwidth, GB/s.
    pub memory_bandwidth_gb_per_s: f64,
    /// Time that launching one kernel costs when the device has nothing else to do, us.
    pub launch_overhead_us: f64,
    /// Share of the peak that a large matrix multiplication reaches.
    pub matmul_efficiency: f64,
    /// Share of the memory bandwidth that a large pointwise kernel reaches.
    pub memory_efficiency: f64,
    /// What a kernel model needs beside the peaks; absent for processor cores and devices of unknown make.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accelerator: Option<AcceleratorFacts>,
    /// Where the numbers come from.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub source: String,
}

impl DeviceSpec {
    /// Memory that tensors may use.
    pub fn memory(&self) -> Bytes {
        Bytes::new((self.memory_gib * (1u64 << 30) as f64) as u64)
    }

    /// Dense peak for an element type, if the device computes in it.
    pub fn peak(&self, dtype: Dtype) -> Option<FlopsPerSecond> {
        self.peak_tflop_per_s.get(&dtype).map(|tera| FlopsPerSecond::new(tera * 1e12))
    }

    /// Memory bandwidth.
    pub fn memory_bandwidth(&self) -> BytesPerSecond {
        BytesPerSecond::new(self.memory_bandwidth_gb_per_s * 1e9)
    }
}

/// What a node of the graph is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeKind {
    /// Computes; carries a [`DeviceSpec`].
    Device,
    /// A machine: its memory and its processors.
    Host,
    /// A switch: NVSwitch, PCIe, Ethernet, InfiniBand.
    Switch,
    /// A network card.
    Nic,
}

/// A node as written in a cluster file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeSpec {
    /// Its name, unique in the cluster.
    pub name: String,
    /// What it is.
    pub kind: NodeKind,
    /// For a device: its model, a key of [`ClusterSpec::device_models`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// For a device or card: the host that it sits in. Devices of one host share its memory bus.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
}

/// Technology of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LinkKind {
    /// Memory shared by the cores of one host.
    SharedMemory,
    /// NVLink or NVSwitch port.
    Nvlink,
    /// PCI Express.
    Pcie,
    /// InfiniBand.
    Infiniband,
    /// Ethernet.
    Ethernet,
}

/// A link as written in a cluster file; it stands for both directions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkSpec {
    /// One end.
    pub from: String,
    /// The other end.
    pub to: String,
    /// Technology.
    pub kind: LinkKind,
    /// Bandwidth of each direction, GB/s.
    pub bandwidth_gb_per_s: f64,
    /// Latency, us.
    pub latency_us: f64,
}

/// A cluster as plain data: what a TOML file holds and what a plan carries.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterSpec {
    /// Name of the cluster.
    pub name: String,
    /// Device models by name.
    pub device_models: BTreeMap<String, DeviceSpec>,
    /// All nodes.
    pub nodes: Vec<NodeSpec>,
    /// All links.
    #[serde(default)]
    pub links: Vec<LinkSpec>,
}
