//! Convolutions: the fastest of the algorithms that a library offers for the shape.

use super::matmul::Product as Matmul;
use super::shape::{Convolution, Product};
use super::{GpuModel, Precision};

/// Multiplications of a direct 3 x 3 sum over those of Winograd's F(2x2, 3x3), which libraries run in one kernel (Lavin and
/// Gray 2016).
const FUSED_SAVING: f64 = 2.25;
/// Over those of F(4x4, 3x3), whose transforms are kernels of their own.
const SPLIT_SAVING: f64 = 4.0;
/// Times that image and output move when a transform stands alone: read, written 36/16 as large, read again.
const SPLIT_PASSES: f64 = 1.0 + 2.0 * 36.0 / 16.0;

impl GpuModel {
    /// Seconds of a convolution.
    pub(crate) fn convolution(&self, shape: &Convolution, precision: Precision) -> f64 {
        let traffic = traffic(shape, precision);
        let floor = self.parameters.convolution_us * 1e-6;
        if shape.groups > 1 && shape.groups >= shape.in_channels {
            return floor + self.traffic(traffic);
        }
        let implicit = self.implicit(shape, traffic, precision);
        // On matrix units the implicit product wins.
        if self.facts.peak(precision).tensor || !allows_winograd(shape) {
            return floor + implicit;
        }
        let fused = self.winograd(shape, FUSED_SAVING, self.parameters.winograd_efficiency, traffic, precision);
        let split = self.winograd(shape, SPLIT_SAVING, self.parameters.winograd_split_efficiency, 0.0, precision);
        floor + implicit.min(fused).min(split + self.traffic(traffic * SPLIT_PASSES))
    }

    /// Implicit GEMM (Chetlur et al. 2014): the product of the unfolded image, which is never written.
    fn implicit(&self, shape: &Convolution, traffic: f64, precision: Precision) -> f64 {
        let (product, extents) = as_product(shape, traffic, precision);
        let throughput = self.convolution_share(shape.product) * self.aligned(&extents, precision);
        self.product(&product, self.facts.peak(precision), throughput)
    }

    /// The products between the transforms, with `saving` times fewer multiplications.
    fn winograd(&self, shape: &Convolution, saving: f64, share: f64, traffic: f64, precision: Precision) -> f64 {
        let (mut product, _) = as_product(shape, traffic, precision);
        product.k = (product.k / saving).max(1.0);
        let relative = self.convolution_share(shape.product) / self.parameters.convolution_efficiency;
        self.product(&product, self.facts.peak(precision), share * relative.min(1.0))
    }

    fn convolution_share(&self, product: Product) -> f64 {
        match product {
            Product::Forward => self.parameters.convolution_efficiency,
            Product::InputGradient => self.parameters.input_gradient_efficiency,
            Product::WeightGradient => self.parameters.weight_gradient_efficiency,
        }
    }
}

fn allows_winograd(shape: &Convolution) -> bool {
    (shape.filter_height, shape.filter_width) == (3, 3)
        && shape.stride == (1, 1)
        && shape.dilation <= 1
        && shape.groups <= 1
}

/// Bytes of image, filter and output, once each.
fn traffic(shape: &Convolution, precision: Precision) -> f64 {
    let (height, width) = shape.output();
    let image = shape.batch * shape.in_channels * shape.height * shape.width;
    let output = shape.batch * shape.out_channels * height * width;
    let taps = shape.filter_height * shape.filter_width * shape.in_channels / shape.groups.max(1);
    (image + output + taps * shape.out_channels) as f64 * precision.storage_bytes() as f64
}

/// The matrix product that a convolution is, and the extents that alignment asks about.
fn as_product(shape: &Convolution, traffic: f64, precision: Precision) -> (Matmul, [u64; 2]) {
    let groups = shape.groups.max(1);
    let (height, width) = shape.output();
    let pixels = (shape.batch * height * width) as f64;
    let (inputs, outputs) = (shape.in_channels / groups, shape.out_channels / groups);
    let taps = (shape.filter_height * shape.filter_width) as f64;
    let (m, n, k) = match shape.product {
        Product::Forward => (pixels, outputs as f64, inputs as f64 * taps),
        // Libraries gather every tap for every input pixel, whatever the stride.
        Product::InputGradient => {
            ((shape.batch * shape.height * shape.width) as f64, inputs as f64, outputs as f64 * taps)
        }
        Product::WeightGradient => (outputs as f64, inputs as f64 * taps, pixels),
    };
    let element = precision.storage_bytes() as f64;
    (
        Matmul { m, n, k, batch: groups as f64, traffic, element, splits: true },
        [shape.in_channels / groups, shape.out_channels / groups],
    )
}
