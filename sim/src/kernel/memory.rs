//! Kernels whose time is their traffic.

use super::shape::RowBlocks;
use super::{GpuModel, Precision};

/// How sharply a working set falls out of the cache as it outgrows it.
const EVICTION: i32 = 4;

impl GpuModel {
    /// Seconds to move `bytes` in pointwise kernels: what the last cache holds comes at its bandwidth, the rest at the
    /// memory's.
    pub(crate) fn traffic(&self, bytes: f64) -> f64 {
        let (facts, fitted) = (&self.facts, &self.parameters);
        let fill = bytes / (facts.cache * fitted.cache_share).max(1.0);
        let resident = 1.0 / (1.0 + fill.powi(EVICTION));
        let stream = facts.bandwidth * fitted.stream_bandwidth;
        bytes * ((1.0 - resident) / stream + resident / (facts.bandwidth * fitted.cache_bandwidth).max(stream))
    }

    /// Seconds of kernels with this traffic together.
    pub(crate) fn memory_bound(&self, read: u64, written: u64, kernels: u32, rows: Option<RowBlocks>) -> f64 {
        let each = (read + written) as f64 / f64::from(kernels.max(1));
        let walked = rows.map_or(self.parameters.round_trip_us * 1e-6, |rows| self.walked(rows));
        f64::from(kernels.max(1)) * (self.overlapped(self.traffic(each), walked) + self.parameters.kernel_us * 1e-6)
    }

    /// Seconds of blocks that walk a row each: a row's own latency, and the instructions of all rows.
    fn walked(&self, rows: RowBlocks) -> f64 {
        let (facts, fitted) = (&self.facts, &self.parameters);
        let latency = rows.round_trips as f64 * fitted.round_trip_us * 1e-6;
        let elements = (rows.rows * rows.width) as f64;
        self.overlapped(latency, elements / (facts.multiprocessors * facts.clock * fitted.row_per_clock))
    }

    /// Seconds to pick rows by index. Up to [`FEW_INDICES`] a block walks the indices after two reads of
    /// its own; beyond, every element computes its own
    /// address.
    pub(crate) fn gather(&self, indices: u64, width: u64, precision: Precision) -> f64 {
        let (facts, fitted) = (&self.facts, &self.parameters);
        let floor = fitted.kernel_us * 1e-6;
        if indices <= FEW_INDICES {
            return floor + (indices + 2) as f64 * fitted.round_trip_us * 1e-6;
        }
        let elements = (indices * width) as f64;
        let addressed = elements / (facts.multiprocessors * facts.clock * fitted.gather_per_clock);
        floor
            + self.overlapped(addressed, self.traffic(2.0 * elements * precision.storage_bytes() as f64))
            + fitted.round_trip_us * 1e-6
    }
}

/// Indices up to which PyTorch's `index_select` takes its kernel for few indices.
const FEW_INDICES: u64 = 16;
