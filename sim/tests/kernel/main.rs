//! The kernel model: laws that hold on every device of the catalogue, figures worked out by hand, and the fit.

#![allow(clippy::unwrap_used, reason = "tests")]

mod attention;
mod fitting;
mod laws;
mod products;

use cutplane_graph::DeviceSpec;
use cutplane_sim::kernel::{GpuModel, Kernel, Precision};

fn spec(model: &str) -> &'static DeviceSpec {
    cutplane_zoo::devices().find(|device| device.model == model).unwrap()
}

fn gpu(model: &str) -> GpuModel {
    GpuModel::from_spec(spec(model))
}

/// Half precision.
fn seconds(gpu: &GpuModel, kernel: Kernel) -> f64 {
    gpu.seconds(&kernel, Precision::F16)
}
