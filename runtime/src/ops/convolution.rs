//! Convolution, pooling and resizing. One axis is treated as two, of which the first has the extent 1.

use burn::tensor::Tensor;
use burn::tensor::module;
use burn::tensor::ops::{AvgPoolOptions, ConvOptions, MaxPoolOptions};
use cutplane_graph::{Convolution, Dtype, OpKind, Pool, PoolKind, Upsample, Window};

use super::call::{Call, Inputs};
use super::select::pad;
use super::value::Matrix;
use crate::error::RuntimeError;

pub(super) fn run(call: &Call<'_>, mut inputs: Inputs<'_>) -> Result<Matrix, RuntimeError> {
    let x = inputs.matrix()?;
    Ok(match &call.op.kind {
        OpKind::Convolution(kind) => convolution(call, kind, x),
        OpKind::Pool(kind) => pool(call, kind, &x),
        OpKind::Upsample(kind) => upsample(call, kind, x),
        _ => return Err(call.unknown()),
    })
}

/// One axis of a [`Window`].
#[derive(Clone, Copy, Debug)]
struct Axis {
    kernel: usize,
    stride: usize,
    padding: (usize, usize),
    dilation: usize,
}

impl Axis {
    /// An axis that nothing slides along.
    const STILL: Self = Self { kernel: 1, stride: 1, padding: (0, 0), dilation: 1 };

    fn of(window: &Window) -> Vec<Self> {
        let axis = |i: usize| Self {
            kernel: window.kernel[i] as usize,
            stride: window.stride[i] as usize,
            padding: (window.padding[i][0] as usize, window.padding[i][1] as usize),
            dilation: window.dilation[i] as usize,
        };
        (0..window.kernel.len()).map(axis).collect()
    }

    /// With zeros after the end so that the last of `outputs` windows over `extent` elements is whole.
    fn reaching(mut self, extent: usize, outputs: usize) -> Self {
        let end = (outputs - 1) * self.stride + self.dilation * (self.kernel - 1) + 1;
        self.padding.1 = self.padding.1.max(end.saturating_sub(extent + self.padding.0));
        self
    }
}

fn convolution(call: &Call<'_>, kind: &Convolution, mut x: Matrix) -> Matrix {
    let backend = call.backend;
    let shape = call.output_shape(&x.shape);
    let first = usize::from(call.is_batched(0)) + 1;
    let mut axes: Vec<Axis> = (0..)
        .zip(Axis::of(&kind.window))
        .map(|(i, axis)| axis.reaching(x.shape[first + i], shape[first + i]))
        .collect();
    if let [_, _, _] = axes[..] {
        // Burn pads three axes on both sides alike or not at all.
        for (i, axis) in axes.iter_mut().enumerate() {
            x = pad(&x, first + i, axis.padding, backend);
            axis.padding = (0, 0);
        }
    }
    let bias = kind.bias.then(|| call.weights[1].vector());
    let inside = if backend.precision() == Dtype::F32 { bias.clone() } else { None };
    let product = convolve(call, kind, &axes, &x, inside);
    let y = Matrix::shaped(shape, product);
    match bias {
        // The bias is added in f32, so that its gradient is summed in f32.
        Some(bias) if backend.precision() != Dtype::F32 => {
            let samples = call.samples(0, &y.shape);
            let channels = kind.outputs as usize;
            let positions = y.rows.shape().num_elements() / (samples * channels).max(1);
            let sum = backend.full(y.tensor([samples, channels, positions])) + bias.reshape([1, channels, 1]);
            Matrix::shaped(y.shape, backend.low(sum))
        }
        _ => y,
    }
}

/// The product without a bias in 16 bits, with it in f32.
fn convolve(call: &Call<'_>, kind: &Convolution, axes: &[Axis], x: &Matrix, bias: Option<Tensor<1>>) -> Tensor<4> {
    let samples = call.samples(0, &x.shape);
    let (inputs, outputs, groups) = (kind.inputs as usize, kind.outputs as usize, kind.groups as usize);
    let weight = call.backend.low(call.weights[0].rows());
    let extents = &x.shape[x.shape.len() - axes.len()..];
    if let &[a, b, c] = axes {
        let options =
            ConvOptions::new([a.stride, b.stride, c.stride], [0; 3], [a.dilation, b.dilation, c.dilation], groups);
        let x = x.tensor([samples, inputs, extents[0], extents[1], extents[2]]);
        let weight = weight.reshape([outputs, inputs / groups, a.kernel, b.kernel, c.kernel]);
        let y = module::conv3d(x, weight, bias, options);
        let [samples, outputs, depth, height, width] = y.dims();
        return y.reshape([samples, outputs, depth, height * width]);
    }
    let (a, b) = (if axes.len() == 2 { axes[0] } else { Axis::STILL }, axes[axes.len() - 1]);
    let height = if axes.len() == 2 { extents[0] } else { 1 };
    let options =
        ConvOptions::new_with_padding([a.stride, b.stride], [a.padding, b.padding], [a.dilation, b.dilation], groups);
    let x = x.tensor([samples, inputs, height, extents[axes.len() - 1]]);
    let weight = weight.reshape([outputs, inputs / groups, a.kernel, b.kernel]);
    module::conv2d(x, weight, bias, options)
}

/// Pools two axes at a time: largest elements and means of boxes are those of their rows' ones.
fn pool(call: &Call<'_>, kind: &Pool, x: &Matrix) -> Matrix {
    let backend = call.backend;
    let axes = Axis::of(&kind.window);
    let extents = &x.shape[x.shape.len() - axes.len()..];
    let elements = x.rows.shape().num_elements();
    let plane = |height: usize, width: usize| [1, elements / (height * width).max(1), height, width];
    let values = backend.full(x.rows.clone());
    let ceil = kind.window.ceil;
    let y = match (&axes[..], extents) {
        ([b], [width]) => pool_plane(kind.function, values.reshape(plane(1, *width)), [Axis::STILL, *b], ceil),
        ([a, b], [height, width]) => pool_plane(kind.function, values.reshape(plane(*height, *width)), [*a, *b], ceil),
        ([a, b, c], [depth, height, width]) => {
            let y = pool_plane(kind.function, values.reshape(plane(*height, *width)), [*b, *c], ceil);
            let [_, images, height, width] = y.dims();
            let y = y.reshape([1, images / depth, *depth, height * width]);
            pool_plane(kind.function, y, [*a, Axis::STILL], ceil)
        }
        _ => unreachable!("a window has one to three axes"),
    };
    Matrix::shaped(call.output_shape(&x.shape), backend.low(y))
}

fn pool_plane(function: PoolKind, x: Tensor<4>, axes: [Axis; 2], ceil: bool) -> Tensor<4> {
    let (kernel, stride) = (axes.map(|axis| axis.kernel), axes.map(|axis| axis.stride));
    let padding = axes.map(|axis| axis.padding);
    if function == PoolKind::Max {
        let options = MaxPoolOptions::new(kernel).with_stride(stride).with_padding_pairs(padding);
        let dilation = axes.map(|axis| axis.dilation);
        return module::max_pool2d(x, options.with_dilation(dilation).with_ceil_mode(ceil));
    }
    let options = AvgPoolOptions::new(kernel).with_stride(stride).with_padding_pairs(padding);
    let include = function == PoolKind::Average;
    module::avg_pool2d(x, options.with_count_include_pad(include).with_ceil_mode(ceil))
}

/// Every element `factor` times along each axis after the channels.
fn upsample(call: &Call<'_>, kind: &Upsample, mut x: Matrix) -> Matrix {
    let factor = kind.factor as usize;
    for axis in usize::from(call.is_batched(0)) + 1..x.shape.len() {
        let [before, extent, after] = x.around(axis);
        let repeated = x.tensor([before, extent, 1, after]).expand([before, extent, factor, after]);
        x.shape[axis] = extent * factor;
        x = Matrix::shaped(x.shape, repeated);
    }
    x
}
