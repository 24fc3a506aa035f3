//! Recurrent layers: steps that wait for one another, and one product for the gradient of the weights.

use super::matmul::Product as Matmul;
use super::shape::{Product, Recurrent};
use super::{GpuModel, Precision};

impl GpuModel {
    /// Seconds of a recurrent layer, without the product with its input.
    pub(crate) fn recurrent(&self, shape: &Recurrent, precision: Precision) -> f64 {
        let (hidden, gated) = (shape.hidden as f64, (shape.cell.gates() * shape.hidden) as f64);
        let (batch, steps) = (shape.batch as f64, shape.steps as f64);
        if shape.product == Product::WeightGradient {
            return self.weight_gradient(gated, hidden, batch * steps, precision);
        }
        let (n, k) = if shape.product == Product::Forward { (gated, hidden) } else { (hidden, gated) };
        steps * (self.step(batch, n, k, precision) + self.parameters.step_us * 1e-6)
    }

    /// One product over all steps, added to the gradient that is there, after the sums for the biases.
    fn weight_gradient(&self, gated: f64, hidden: f64, samples: f64, precision: Precision) -> f64 {
        let plain = Matmul::plain(gated, hidden, samples, 1.0, precision);
        let product = Matmul { traffic: plain.traffic + gated * hidden * plain.element, splits: false, ..plain };
        self.product(&product, self.facts.peak(precision), 1.0) + self.parameters.recurrent_us * 1e-6
    }

    /// One step: its product, with weights that may stay where the step before left them.
    fn step(&self, batch: f64, n: f64, k: f64, precision: Precision) -> f64 {
        let element = precision.storage_bytes() as f64;
        let weights = n * k * element;
        // Libraries of Volta's age and later split a step's product; earlier ones walk its whole inner extent.
        let splits = self.facts.matrix_units;
        let product = Matmul { traffic: 0.0, splits, ..Matmul::plain(batch, n, k, 1.0, precision) };
        let throughput = self.parameters.step_efficiency;
        let computed = self.product(&product, self.facts.peak(precision), throughput);
        let streamed = weights / (self.facts.bandwidth * self.parameters.step_bandwidth);
        self.overlapped(computed, streamed)
    }
}
