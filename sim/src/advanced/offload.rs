//! State in host memory or on disk (ZeRO-Offload, Ren et al. 2021; ZeRO-Infinity, Rajbhandari et al. 2021).

/// A path between a device and where its state lies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Path {
    /// Towards the device, bytes/s.
    pub inward: f64,
    /// Away from the device, bytes/s.
    pub outward: f64,
}

/// Seconds of a step whose optimizer runs on the host: gradients of 2 bytes a parameter go out beside the backward pass, the
/// host updates `parameters` at `update_rate` parameters a second, new weights of 2 bytes come back.
pub fn host_optimizer_step(forward: f64, backward: f64, parameters: f64, path: Path, update_rate: f64) -> f64 {
    let gradients = 2.0 * parameters / path.outward;
    let weights = 2.0 * parameters / path.inward;
    forward + backward.max(gradients) + parameters / update_rate + weights
}

/// Seconds of a pass over layers whose weights of `bytes` bytes each are fetched one layer ahead, each computed in `compute`
/// seconds: the first fetch is seen, then the longer of the two a layer.
pub fn streamed_pass(layers: u64, bytes: f64, compute: f64, path: Path) -> f64 {
    let fetch = bytes / path.inward;
    if layers == 0 { 0.0 } else { fetch + (layers - 1) as f64 * fetch.max(compute) + compute }
}

/// Whether swapping a tensor out and in again hides within `idle` seconds between its uses.
pub fn swap_hides(bytes: f64, path: Path, idle: f64) -> bool {
    bytes / path.outward + bytes / path.inward <= idle
}
