//! Progress, not steps, a second: statistical efficiency of large batches and throughput of a data-parallel job as Pollux
//! models them (Qiao et al., OSDI 2021; `adaptdl/goodput.py`).

/// Progress of a sample in a batch `scale` times the initial one, over that of a sample in the initial batch:
/// `(v + s) / (v / scale + s) / scale` with the gradient's variance `v` and squared norm `s` at the initial batch.
pub fn statistical_efficiency(variance: f64, squared_norm: f64, scale: f64) -> f64 {
    let gain = (variance + squared_norm) / (variance / scale + squared_norm);
    gain / scale
}

/// Pollux's time of a step: computing and synchronising hide one another as much as `gamma` says, `1` not at all.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepModel {
    /// Fixed seconds of computing.
    pub compute: f64,
    /// Seconds of computing a sample of a replica.
    pub compute_per_sample: f64,
    /// Seconds of synchronising two replicas.
    pub exchange: f64,
    /// Seconds more for each further replica.
    pub exchange_per_replica: f64,
    /// Overlap: exponent of the mean.
    pub gamma: f64,
}

impl StepModel {
    /// Seconds of a step of `replicas` replicas with `samples` samples each: `(T_c^g + T_n^g)^(1/g)`, `T_n = a + b (k - 2)`.
    pub fn seconds(&self, replicas: u64, samples: f64) -> f64 {
        let computing = self.compute + self.compute_per_sample * samples;
        if replicas < 2 {
            return computing;
        }
        let exchange = self.exchange + self.exchange_per_replica * (replicas - 2) as f64;
        (computing.powf(self.gamma) + exchange.powf(self.gamma)).powf(1.0 / self.gamma)
    }

    /// Samples a second, worth as much as samples of the initial batch.
    pub fn goodput(&self, replicas: u64, samples: f64, initial_batch: f64, variance: f64, squared_norm: f64) -> f64 {
        let batch = samples * replicas as f64;
        let efficiency = statistical_efficiency(variance, squared_norm, batch / initial_batch);
        efficiency * batch / self.seconds(replicas, samples)
    }
}

/// How the learning rate follows the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RateRule {
    /// In proportion (Goyal et al. 2017).
    Linear,
    /// With the square root (Hoffer et al. 2017), as adaptive optimizers want it.
    SquareRoot,
}

/// Learning rate of a batch `scale` times the one that `rate` was chosen for.
pub fn scaled_rate(rate: f64, scale: f64, rule: RateRule) -> f64 {
    match rule {
        RateRule::Linear => rate * scale,
        RateRule::SquareRoot => rate * scale.sqrt(),
    }
}

/// Seconds of an epoch of `samples` samples in steps of `batch` samples; the last, smaller step counts whole.
pub fn epoch_seconds(samples: u64, batch: u64, step: f64) -> f64 {
    samples.div_ceil(batch.max(1)) as f64 * step
}
