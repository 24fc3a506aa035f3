//! Checkpoints and what failures cost.

/// Young's interval between checkpoints of `cost` seconds under a mean time between failures of `mtbf` seconds (Young 1974):
/// `sqrt(2 C M)`.
pub fn young_interval(cost: f64, mtbf: f64) -> f64 {
    (2.0 * cost * mtbf).sqrt()
}

/// Daly's refinement (Daly 2006, equation 37) without the restart: `sqrt(2 C M) (1 + sqrt(C / 2 M) / 3 + C / 18 M) - C`
/// while `C < 2 M`, else `M`.
pub fn daly_interval(cost: f64, mtbf: f64) -> f64 {
    if cost >= 2.0 * mtbf {
        return mtbf;
    }
    let half = cost / (2.0 * mtbf);
    young_interval(cost, mtbf) * (1.0 + half.sqrt() / 3.0 + half / 9.0) - cost
}

/// Share of the time that is lost with checkpoints every `interval` seconds, to first order: writing them, half an interval
/// and a restart at each failure. `C / t + (t / 2 + R) / M`.
pub fn lost_share(interval: f64, cost: f64, restart: f64, mtbf: f64) -> f64 {
    cost / interval + (interval / 2.0 + restart) / mtbf
}

/// Mean time between failures of a job on `devices` devices that fail independently.
pub fn job_mtbf(device_mtbf: f64, devices: u64) -> f64 {
    device_mtbf / devices.max(1) as f64
}

/// Bytes of a checkpoint in mixed precision with Adam: weights of 2 bytes, master copy and two moments of 4 each; gradients
/// are not kept.
pub fn checkpoint_bytes(parameters: f64) -> f64 {
    14.0 * parameters
}
