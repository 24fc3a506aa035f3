//! Convolutions: the fastest of the algorithms that a library offers for the shape.

use cutplane_graph::Architecture;

use super::matmul::Product as Matmul;
use super::shape::{Convolution, Product};
use super::{GpuModel, Precision};

/// Multiplications of a direct 3 x 3 sum over those of Winograd's F(2x2, 3x3), which libraries run in one kernel (Lavin and
/// Gray 2016).
const FUSED_SAVING: f64 = 2.25;
/// Side of the patch of outputs that Winograd's F(4x4, 3x3) and F(4x4, 5x5) compute at once; their transforms are kernels of
/// their own.
const SPLIT_PATCH: f64 = 4.0;
/// Side of a patch that is transformed by Fourier (cuDNN's FFT_TILING); half its frequencies are the conjugates of others.
const FOURIER_PATCH: u64 = 32;
/// Efficiency of products between transforms of large patches over that of Winograd's for 3 x 3 filters: more and narrower
/// products. Assumed.
const LARGE_PATCH: f64 = 0.5;
/// Real multiplications of a complex one.
const COMPLEX: f64 = 4.0;
/// Bytes of a complex number of two f32.
const COMPLEX_BYTES: f64 = 8.0;

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
        if self.facts.peak(precision).tensor {
            return floor + implicit;
        }
        let transformed = match square_side(shape) {
            Some(3) => {
                let fused = self.winograd(shape, FUSED_SAVING, self.parameters.winograd_efficiency, traffic, precision);
                fused.min(self.split_winograd(shape, 3.0, traffic, precision))
            }
            Some(5..) if self.facts.architecture == Some(Architecture::KnightsLanding) => f64::INFINITY,
            Some(5) => self.split_winograd(shape, 5.0, traffic, precision).min(self.fourier(shape, traffic)),
            Some(7..) => self.fourier(shape, traffic),
            _ => f64::INFINITY,
        };
        floor + implicit.min(transformed)
    }

    /// Winograd's F(4x4, r x r): `(r + 3)^2` products for `16 r^2`; image and output are read, written as much larger as a
    /// transformed patch is, and read again.
    fn split_winograd(&self, shape: &Convolution, side: f64, traffic: f64, precision: Precision) -> f64 {
        let patch = (side + SPLIT_PATCH - 1.0).powi(2);
        let saving = SPLIT_PATCH * SPLIT_PATCH * side * side / patch;
        let share = self.parameters.winograd_split_efficiency * if side > 3.0 { LARGE_PATCH } else { 1.0 };
        let products = self.winograd(shape, saving, share, 0.0, precision);
        products + self.traffic(traffic * (1.0 + 2.0 * patch / (SPLIT_PATCH * SPLIT_PATCH)))
    }

    /// Fourier transforms of patches (Vasilache et al. 2015): one complex product over the channels for each frequency,
    /// as efficient as Winograd's; spectra are written and read once each.
    fn fourier(&self, shape: &Convolution, traffic: f64) -> f64 {
        let (height, width) = shape.output();
        let step = (FOURIER_PATCH + 1).saturating_sub(shape.filter_height.max(shape.filter_width)).max(1);
        let patches = (shape.batch * height.div_ceil(step) * width.div_ceil(step)) as f64;
        let (inputs, outputs) = (shape.in_channels as f64, shape.out_channels as f64);
        let (m, n, k) = match shape.product {
            Product::Forward => (patches, outputs, inputs),
            Product::InputGradient => (patches, inputs, outputs),
            Product::WeightGradient => (outputs, inputs, patches),
        };
        let frequencies = (FOURIER_PATCH * (FOURIER_PATCH / 2 + 1)) as f64;
        let spectra = frequencies * (m * n + n * k + k * m) * COMPLEX_BYTES;
        let product = Matmul {
            m,
            n,
            k: k * COMPLEX,
            batch: frequencies,
            traffic: spectra,
            element: COMPLEX_BYTES / 2.0,
            splits: false,
        };
        let share = self.parameters.winograd_split_efficiency * LARGE_PATCH;
        self.product(&product, self.facts.peak(Precision::F32), share) + self.traffic(traffic + spectra)
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

/// Side of a square, dense filter at stride 1 over all channels, which transforms serve.
fn square_side(shape: &Convolution) -> Option<u64> {
    let plain = shape.stride == (1, 1) && shape.dilation <= 1 && shape.groups <= 1;
    (plain && shape.filter_height == shape.filter_width).then_some(shape.filter_height)
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
