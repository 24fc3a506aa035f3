//! What a training run costs: operations, days, dollars.

/// Seconds of a day.
const DAY: f64 = 86_400.0;

/// Operations of training a dense transformer on so many tokens: 6 a parameter and token, 8 with full recomputation (Kaplan
/// et al. 2020; Narayanan et al. 2021, section 5.1).
pub fn training_operations(parameters: f64, tokens: f64, recomputed: bool) -> f64 {
    if recomputed { 8.0 * parameters * tokens } else { 6.0 * parameters * tokens }
}

/// Days on `devices` devices that each achieve `achieved` operations a second.
pub fn training_days(operations: f64, devices: f64, achieved: f64) -> f64 {
    operations / (devices * achieved) / DAY
}

/// Fewest devices that finish within `days`.
pub fn devices_for_deadline(operations: f64, achieved: f64, days: f64) -> u64 {
    (operations / (achieved * days * DAY)).ceil() as u64
}

/// Dollars of `devices` devices over `seconds` at `price` dollars a device and hour.
pub fn dollars(devices: f64, seconds: f64, price: f64) -> f64 {
    devices * seconds / 3600.0 * price
}

/// Sizes of a GPT for [`megatron_operations`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GptSizes {
    /// Layers.
    pub layers: f64,
    /// Width.
    pub hidden: f64,
    /// Tokens of a sample.
    pub sequence: f64,
    /// Words of the vocabulary.
    pub vocab: f64,
}

/// Operations of an iteration of `batch` samples with full recomputation: `96 B s L h^2 (1 + s / 6 h + V / 16 L h)`
/// (Narayanan et al. 2021, appendix).
pub fn megatron_operations(sizes: GptSizes, batch: f64) -> f64 {
    let GptSizes { layers, hidden, sequence, vocab } = sizes;
    96.0 * batch
        * sequence
        * layers
        * hidden
        * hidden
        * (1.0 + sequence / (6.0 * hidden) + vocab / (16.0 * layers * hidden))
}

/// Parameters of a GPT: `12 L h^2 (1 + 13 / 12 h + (V + s) / 12 L h)` (Narayanan et al. 2021, equation 2).
pub fn megatron_parameters(sizes: GptSizes) -> f64 {
    let GptSizes { layers, hidden, sequence, vocab } = sizes;
    12.0 * layers * hidden * hidden * (1.0 + 13.0 / (12.0 * hidden) + (vocab + sequence) / (12.0 * layers * hidden))
}
