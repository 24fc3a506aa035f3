//! The input pipeline: a step cannot start before its samples have been read, decoded and copied.

/// What a loader does for one batch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Loading {
    /// Bytes read from storage for a batch.
    pub bytes: f64,
    /// Bandwidth of storage, shared by all workers, bytes/s.
    pub storage: f64,
    /// Seconds that one worker decodes and augments a batch.
    pub decoding: f64,
    /// Bytes of the decoded batch.
    pub decoded: f64,
    /// Bandwidth of the bus to the device, bytes/s.
    pub bus: f64,
}

impl Loading {
    /// Seconds between batches with `workers` loaders side by side: the slowest of storage, decoding and bus.
    pub fn seconds(&self, workers: u64) -> f64 {
        let decoding = self.decoding / workers.max(1) as f64;
        (self.bytes / self.storage).max(decoding).max(self.decoded / self.bus)
    }

    /// Seconds of an iteration whose step takes `step` seconds: with prefetching the longer of the two, else both.
    pub fn iteration(&self, workers: u64, step: f64, prefetch: bool) -> f64 {
        let loading = self.seconds(workers);
        if prefetch { loading.max(step) } else { loading + step }
    }

    /// Fewest loaders with which decoding keeps up with a step of `step` seconds.
    pub fn workers_for(&self, step: f64) -> u64 {
        (self.decoding / step).ceil().max(1.0) as u64
    }
}
