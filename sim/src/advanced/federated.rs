//! Federated averaging (McMahan et al. 2017): rounds over phones or hospitals that keep their data.

/// A client of a round.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Client {
    /// Towards the client, bytes/s.
    pub download: f64,
    /// From the client, bytes/s.
    pub upload: f64,
    /// Its samples.
    pub samples: u64,
    /// Seconds that it trains one sample.
    pub seconds_per_sample: f64,
}

impl Client {
    /// Seconds from receiving a model of `bytes` bytes to having sent the trained one: `n / B_dn + E n_k t_k + n / B_up`.
    pub fn seconds(&self, bytes: f64, epochs: u64) -> f64 {
        let training = (epochs * self.samples) as f64 * self.seconds_per_sample;
        bytes / self.download + training + bytes / self.upload
    }
}

/// What a round gave.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Round {
    /// Its seconds, aggregation included.
    pub seconds: f64,
    /// Clients whose model came in time.
    pub finished: usize,
    /// Their samples.
    pub samples: u64,
}

/// A round over the chosen clients: it ends when the slowest has answered, or at `deadline` seconds, whoever has not
/// answered being dropped.
pub fn round(clients: &[Client], bytes: f64, epochs: u64, aggregation: f64, deadline: Option<f64>) -> Round {
    let limit = deadline.unwrap_or(f64::INFINITY);
    let in_time = || clients.iter().filter(|client| client.seconds(bytes, epochs) <= limit);
    let slowest = in_time().map(|client| client.seconds(bytes, epochs)).fold(0.0, f64::max);
    let waited = if in_time().count() < clients.len() { limit } else { slowest };
    Round {
        seconds: waited + aggregation,
        finished: in_time().count(),
        samples: in_time().map(|client| client.samples).sum(),
    }
}

/// The weighted mean of what clients sent: each parameter weighted by the client's share of all samples.
pub fn average(models: &[(u64, Vec<f64>)]) -> Vec<f64> {
    let all: u64 = models.iter().map(|(samples, _)| samples).sum();
    let length = models.iter().map(|(_, model)| model.len()).min().unwrap_or(0);
    let weighted = |at: usize| models.iter().map(|(samples, model)| *samples as f64 * model[at]).sum::<f64>();
    (0..length).map(|at| weighted(at) / all.max(1) as f64).collect()
}
