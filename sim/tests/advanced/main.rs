//! Techniques around a step: values that can be computed by hand or that the literature prints.

#![allow(clippy::unwrap_used, clippy::float_cmp, reason = "a test may panic, and goldens are exact")]

mod jobs;
mod serving;
mod training;

/// Whether two figures agree within a share of the second.
fn near(value: f64, golden: f64, share: f64) -> bool {
    (value - golden).abs() <= share * golden.abs()
}
