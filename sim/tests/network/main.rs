//! The communication cost model: golden values, laws, irregular topologies, fabrics of clusters.

#![allow(clippy::unwrap_used, clippy::float_cmp, reason = "a test may panic, and goldens are exact")]

mod fabrics;
mod fitting;
mod goldens;
mod laws;
mod sharing;
mod topologies;

/// Whether two figures agree within a share of the second.
fn near(value: f64, golden: f64, share: f64) -> bool {
    (value - golden).abs() <= share * golden.abs()
}
