//! Communication hidden beside computation.

/// Seconds of a layer whose batch is cut into `slices` slices: the exchange of one slice goes on beside the computation of
/// the next (Domino; Wang et al. 2024). Computation and exchange are of the whole batch; the first computation and the last
/// exchange have nothing beside them.
pub fn sliced(compute: f64, exchange: f64, slices: u64) -> f64 {
    let slices = slices.max(1);
    let (compute, exchange) = (compute / slices as f64, exchange / slices as f64);
    compute + (slices - 1) as f64 * compute.max(exchange) + exchange
}

/// Least and most that a data-parallel step may take: `T_f + max(T_b, T_c)` with all of the exchange beside the backward
/// pass, `T_f + T_b + T_c` with none.
pub fn data_parallel_bounds(forward: f64, backward: f64, exchange: f64) -> (f64, f64) {
    (forward + backward.max(exchange), forward + backward + exchange)
}

/// Seconds until the last gradient is exchanged. Buckets become ready in the order of the backward pass, after
/// `buckets[i].0` seconds each, and take `buckets[i].1` seconds on a link that carries one at a time (Li et al. 2020).
pub fn bucketed(buckets: &[(f64, f64)]) -> f64 {
    let (mut ready, mut sent) = (0.0_f64, 0.0_f64);
    for (compute, exchange) in buckets {
        ready += compute;
        sent = sent.max(ready) + exchange;
    }
    sent.max(ready)
}
