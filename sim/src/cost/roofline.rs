//! Prices from a datasheet.

use cutplane_graph::{Device, DeviceGraph, DeviceId, DeviceKind, Dtype, ModelGraph, OpId, Pass, Route};
use cutplane_plan::Optimizer;
use cutplane_units::{Bytes, Nanos};

use super::{AllReduces, Contention, CostError, CostModel, WorkTime, collective};

/// The roofline model (Williams, Waterman and Patterson 2009): an operator takes the longer of its arithmetic at the
/// achievable peak and its traffic at the achievable bandwidth, and each kernel costs a launch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Roofline;

impl Roofline {
    /// The model; it has no settings, everything comes from [`cutplane_graph::DeviceSpec`].
    pub const fn new() -> Self {
        Self
    }
}

/// Bytes that a pointwise pass over `bytes` moves in memory, and the time of it with `kernels` launches.
fn traffic(bytes: Bytes, kernels: u32, device: &Device) -> Nanos {
    let spec = &device.spec;
    bytes.transfer_time(spec.memory_bandwidth().scale(spec.memory_efficiency)) + launches(kernels, device)
}

fn launches(kernels: u32, device: &Device) -> Nanos {
    Nanos::from_secs_f64(f64::from(kernels) * device.spec.launch_overhead_us * 1e-6)
}

impl CostModel for Roofline {
    fn name(&self) -> &'static str {
        "roofline"
    }

    fn op(
        &self,
        model: &ModelGraph,
        op: OpId,
        pass: Pass,
        batch: u64,
        precision: Dtype,
        device: &Device,
    ) -> Result<WorkTime, CostError> {
        let facts = model.facts(op, pass, batch);
        let peak = device.spec.peak(precision).ok_or_else(|| {
            let known: Vec<Dtype> = device.spec.peak_tflop_per_s.keys().copied().collect();
            CostError::precision(device, precision, &known)
        })?;
        let arithmetic = facts.flops.compute_time(peak.scale(device.spec.matmul_efficiency));
        let moved = facts.bytes.scale(precision.size() as f64 / Dtype::F32.size() as f64);
        let movement = traffic(moved, 0, device);
        let overhead = launches(facts.kernels, device);
        Ok(if arithmetic > movement {
            WorkTime { compute: arithmetic, memory: overhead }
        } else {
            WorkTime { compute: Nanos::ZERO, memory: movement + overhead }
        })
    }

    /// Backward: the product of output and upstream gradient is read twice and written once, in two kernels.
    fn segment(&self, pass: Pass, boundary: Bytes, device: &Device) -> Result<WorkTime, CostError> {
        let memory = match pass {
            Pass::Backward if !boundary.is_zero() => traffic(boundary * 3, 2, device),
            _ => Nanos::ZERO,
        };
        Ok(WorkTime { compute: Nanos::ZERO, memory })
    }

    /// A launch; the payload is the link's work.
    fn send(&self, _payload: Bytes, device: &Device) -> Result<Nanos, CostError> {
        Ok(launches(1, device))
    }

    /// A launch; the payload is the link's work.
    fn recv(&self, _payload: Bytes, device: &Device) -> Result<Nanos, CostError> {
        Ok(launches(1, device))
    }

    fn wire(&self, payload: Bytes, route: &Route, _from: &Device, _to: &Device) -> Result<(Nanos, Nanos), CostError> {
        if route.links.is_empty() {
            return Ok((Nanos::ZERO, Nanos::ZERO));
        }
        Ok((route.latency, payload.transfer_time(route.bandwidth)))
    }

    fn all_reduce(&self, payload: Bytes, group: &[DeviceId], devices: &DeviceGraph) -> Result<Nanos, CostError> {
        collective::all_reduce(payload, group, devices)
    }

    fn all_reduces<'c>(&'c self, group: Vec<DeviceId>, devices: &'c DeviceGraph) -> Result<AllReduces<'c>, CostError> {
        let all_reduce = collective::AllReduce::new(&group, devices)?;
        Ok(Box::new(move |payload| Ok(all_reduce.time(payload))))
    }

    /// Reads parameter, gradient and state; writes parameter and state: for AdamW 7 numbers of 4 bytes a parameter. One
    /// kernel a tensor.
    fn optimizer(&self, optimizer: Optimizer, tensors: &[u64], device: &Device) -> Result<WorkTime, CostError> {
        let elements: u64 = tensors.iter().sum();
        let numbers = 3 + 2 * optimizer.state_per_parameter();
        let bytes = Bytes::new(elements.saturating_mul(numbers * Dtype::F32.size()));
        Ok(WorkTime { compute: Nanos::ZERO, memory: traffic(bytes, tensors.len() as u32, device) })
    }

    /// One copy: read and written once.
    fn load(&self, payload: Bytes, device: &Device) -> Result<Nanos, CostError> {
        Ok(traffic(payload * 2, 1, device))
    }

    fn contention(&self, _device: &Device, _busy: usize) -> Contention {
        Contention { compute: 1.0, memory: 1.0 }
    }

    fn overlaps(&self, device: &Device) -> bool {
        device.spec.kind == DeviceKind::Gpu
    }
}
