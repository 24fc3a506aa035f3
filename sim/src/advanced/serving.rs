//! Serving: batches, queues, replicas, pipelines, decoding.

/// Seconds of a batch of `b` requests on one replica: `fixed + each b`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchTime {
    /// Seconds that a batch takes however small.
    pub fixed: f64,
    /// Seconds a request.
    pub each: f64,
}

impl BatchTime {
    /// Seconds of a batch.
    pub fn seconds(&self, batch: u64) -> f64 {
        self.fixed + self.each * batch as f64
    }

    /// Requests a second of `replicas` replicas that are never idle; data-parallel serving exchanges nothing.
    pub fn throughput(&self, batch: u64, replicas: u64) -> f64 {
        (replicas * batch) as f64 / self.seconds(batch)
    }

    /// Largest batch that ends within `limit` seconds; `None` when not even one does.
    pub fn largest_batch(&self, limit: f64) -> Option<u64> {
        let most = ((limit - self.fixed) / self.each).floor();
        (most >= 1.0).then_some(most as u64)
    }

    /// Longest that a request waits under deadline batching: a batch starts when it is full or its first request is
    /// `timeout` seconds old, and the replica is free. Requests arrive evenly, `rate` a second.
    pub fn deadline_latency(&self, batch: u64, timeout: f64, rate: f64) -> f64 {
        let filling = (batch.saturating_sub(1) as f64 / rate).min(timeout);
        let filled = (1.0 + filling * rate).floor().min(batch as f64) as u64;
        filling + self.seconds(filled)
    }
}

/// Mean seconds that a request waits before it is served by one server with a constant service time (M/D/1, Pollaczek and
/// Khinchine): `rho s / 2 (1 - rho)`; infinite at full load.
pub fn mean_wait_constant(rate: f64, service: f64) -> f64 {
    let load = rate * service;
    if load >= 1.0 { f64::INFINITY } else { load * service / (2.0 * (1.0 - load)) }
}

/// Probability that a request waits with `servers` servers and an offered load of `load` servers (Erlang C, 1917).
pub fn waiting_probability(servers: u64, load: f64) -> f64 {
    if load >= servers as f64 {
        return 1.0;
    }
    // Erlang B by its recurrence, which cannot overflow.
    let blocked = (1..=servers).fold(1.0, |blocked, server| load * blocked / (server as f64 + load * blocked));
    let utilisation = load / servers as f64;
    blocked / (1.0 - utilisation * (1.0 - blocked))
}

/// Mean seconds that a request waits with `servers` servers (M/M/c): `C(c, a) s / (c - a)`.
pub fn mean_wait(servers: u64, rate: f64, service: f64) -> f64 {
    let load = rate * service;
    if load >= servers as f64 {
        return f64::INFINITY;
    }
    waiting_probability(servers, load) * service / (servers as f64 - load)
}

/// Fewest servers whose mean wait is at most `limit` seconds, up to `most`.
pub fn servers_for(rate: f64, service: f64, limit: f64, most: u64) -> Option<u64> {
    (1..=most).find(|servers| mean_wait(*servers, rate, service) <= limit)
}

/// Mean seconds of a request on a serverless platform: a share `cold` of requests starts a container first.
pub fn serverless_latency(service: f64, cold_start: f64, cold: f64) -> f64 {
    service + cold * cold_start
}

/// Seconds of a request through a pipeline of stages: all of them.
pub fn pipeline_latency(stages: &[f64]) -> f64 {
    stages.iter().sum()
}

/// Requests a second of a full pipeline: the slowest stage's.
pub fn pipeline_throughput(stages: &[f64]) -> f64 {
    1.0 / stages.iter().copied().fold(0.0, f64::max)
}

/// Bytes of keys and values of one token: `2 L n_kv d` elements.
pub fn key_value_bytes(layers: u64, kv_heads: u64, head_dim: u64, element: u64) -> u64 {
    2 * layers * kv_heads * head_dim * element
}

/// Least seconds of a decoding step: weights and cached keys and values stream once through the memory.
pub fn decode_step(weight_bytes: f64, cache_bytes: f64, bandwidth: f64) -> f64 {
    (weight_bytes + cache_bytes) / bandwidth
}

/// Least seconds of prefilling a prompt: `2 P s` operations.
pub fn prefill(parameters: f64, tokens: f64, achieved: f64) -> f64 {
    2.0 * parameters * tokens / achieved
}
