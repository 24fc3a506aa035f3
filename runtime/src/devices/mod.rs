//! What this machine has to compute with.
//!
//! [`probe`] opens the libraries of drivers and tools by name and asks them; nothing needs to be there, in no build.
//! A tensor operation on a missing driver panics on a thread of its own and leaves the process unusable, so every
//! verb that may touch a card calls [`Probe::cards_ready`] first.
//!
//! [`DeviceList`] is the grammar of device lists of this machine (`cuda:0,cpu:2`), [`local_cluster`] makes the
//! cluster that such a list stands for, and [`Place`] tells from a device's name where its rank runs. Only
//! [`measure_rate`] computes.

mod cluster;
mod driver;
mod engines;
pub(crate) mod library;
mod list;
mod nvml;
mod rates;
mod ready;
mod toolkit;

use std::fmt;

use serde::Serialize;

pub use cluster::local_cluster;
pub use driver::Driver;
#[cfg(feature = "nccl")]
pub(crate) use engines::nccl_version;
pub use engines::{Mpi, Nccl};
pub use list::{DeviceList, ListError, Place};
pub use nvml::{Nvlink, Pcie};
pub use rates::{Rate, RateCase, RateKind, measure_rate, rate_cases};
pub use ready::{LEAST_FREE, NotReady};
pub use toolkit::{Headers, Nvrtc};

/// A release of CUDA.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct CudaVersion {
    /// 13 of 13.0.
    pub major: u32,
    /// 0 of 13.0.
    pub minor: u32,
}

impl CudaVersion {
    /// As `cuDriverGetVersion` numbers it: 12080 is 12.8.
    pub fn from_number(number: i32) -> Self {
        let number = number.max(0) as u32;
        Self { major: number / 1000, minor: number % 1000 / 10 }
    }
}

impl fmt::Display for CudaVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// Compute capability of a card.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Capability {
    /// 9 of 9.0.
    pub major: u32,
    /// 0 of 9.0.
    pub minor: u32,
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// An NVIDIA card of this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Card {
    /// Its number, from 0, as `CUDA_VISIBLE_DEVICES` leaves it.
    pub index: usize,
    /// The driver's name for it, such as `NVIDIA H100 80GB HBM3`.
    pub name: String,
    /// Its PCI address.
    pub pci_bus_id: Option<String>,
    /// Memory that programs may have.
    pub memory_bytes: u64,
    /// Memory that nobody holds now, where NVML tells.
    pub free_bytes: Option<u64>,
    /// Compute capability.
    pub capability: Capability,
    /// Streaming multiprocessors.
    pub multiprocessors: u32,
    /// Highest clock of the multiprocessors, MHz; 0 when the driver does not tell.
    pub clock_mhz: u32,
    /// Highest clock of the memory, MHz, two transfers each; 0 when the driver does not tell.
    pub memory_clock_mhz: u32,
    /// Width of the memory bus, bits; 0 when the driver does not tell.
    pub memory_bus_bits: u32,
    /// Connection to the host, where NVML tells.
    pub pcie: Option<Pcie>,
    /// Active NVLinks.
    pub nvlinks: Vec<Nvlink>,
}

/// All that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Probe {
    /// Cores that this process may use.
    pub cores: usize,
    /// Whether this build has its CUDA part.
    pub compiled_in: bool,
    /// NVIDIA's driver.
    pub driver: Driver,
    /// The driver's own version, such as `570.86.10`, where NVML tells.
    pub driver_version: Option<String>,
    /// Its cards.
    pub cards: Vec<Card>,
    /// The run-time compiler.
    pub nvrtc: Option<Nvrtc>,
    /// The headers that it needs.
    pub headers: Headers,
    /// Collectives of NVIDIA.
    pub nccl: Nccl,
    /// Processes of one job.
    pub mpi: Mpi,
}

/// Looks for everything. Takes milliseconds without a driver, up to a second with one.
pub fn probe() -> Probe {
    let (driver, mut cards) = driver::probe();
    let driver_version = if cards.is_empty() { None } else { nvml::complete(&mut cards) };
    Probe {
        cores: crate::backend::available_cores(),
        compiled_in: cfg!(feature = "cuda"),
        driver,
        driver_version,
        cards,
        nvrtc: toolkit::nvrtc(),
        headers: toolkit::headers(),
        nccl: engines::nccl(),
        mpi: engines::mpi(),
    }
}

#[cfg(test)]
mod tests;
