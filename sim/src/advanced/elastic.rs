//! Elastic training and migration: changing the plan or the place of a running job.

/// What a change of plan costs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Replan {
    /// Seconds to save the state.
    pub save: f64,
    /// Seconds to start the processes.
    pub restart: f64,
    /// Parameters whose state of 16 bytes each is dealt out anew.
    pub parameters: f64,
    /// Bandwidth that it is dealt out with, bytes/s.
    pub bandwidth: f64,
    /// Seconds of slow first steps.
    pub warm_up: f64,
}

impl Replan {
    /// Seconds without progress: `save + restart + 16 P / B + warm-up`.
    pub fn seconds(&self) -> f64 {
        self.save + self.restart + 16.0 * self.parameters / self.bandwidth + self.warm_up
    }

    /// Whether a change that takes the rest of the job from `before` to `after` seconds is worth it.
    pub fn pays(&self, before: f64, after: f64) -> bool {
        before - after > self.seconds()
    }
}

/// Seconds of an iteration over `batches` batches of `compute` seconds each, dealt to `workers` workers, and a ring
/// all-reduce whose `2 (p - 1)` steps take `ring_step` seconds each.
pub fn iteration(batches: u64, workers: u64, compute: f64, ring_step: f64) -> f64 {
    let workers = workers.max(1);
    batches.div_ceil(workers) as f64 * compute + (2 * (workers - 1)) as f64 * ring_step
}

/// Seconds to move a job's state of `bytes` bytes: off the device, over the network, onto the other device, warm-up.
pub fn migration_seconds(bytes: f64, off: f64, network: f64, onto: f64, warm_up: f64) -> f64 {
    bytes / off + bytes / network + bytes / onto + warm_up
}
