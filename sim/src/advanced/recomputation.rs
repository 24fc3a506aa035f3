//! Recomputation in segments (Chen et al. 2016).

/// Memory of a chain of `layers` equal layers with an activation of one unit each, kept in `segments` segments: the inputs of
/// all segments and the inside of one.
pub fn segment_memory(layers: u64, segments: u64) -> u64 {
    segments + layers.div_ceil(segments.max(1))
}

/// The number of segments that needs least memory: near `sqrt(L)`, and so needs `2 sqrt(L)` units.
pub fn best_segments(layers: u64) -> u64 {
    let root = layers.isqrt().max(1);
    (root.saturating_sub(1).max(1)..=root + 1).min_by_key(|segments| segment_memory(layers, *segments)).unwrap_or(1)
}

/// Time of a step with everything recomputed over one without: a second forward pass, where the backward pass takes
/// `backward` forward passes; a third more at the usual 2.
pub fn full_recomputation_slowdown(backward: f64) -> f64 {
    (2.0 + backward) / (1.0 + backward)
}
