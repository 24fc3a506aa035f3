//! Convolutions as kernels.

use cutplane_graph::{Convolution as GraphConvolution, Op};

use super::{Both, Charge, Convolution, GraphStepError, Images, Kernel, Pricer, Product};

impl Pricer<'_> {
    pub(super) fn convolution(&self, op: &Op, kind: &GraphConvolution) -> Result<Both, GraphStepError> {
        let shape = self.shape(op, kind)?;
        let (x, y) = self.extents(op);
        let one = |product: Product| {
            if self.stack.images == Images::Unfolded {
                return self.unfolded(&shape, product);
            }
            let kernel = Kernel::Convolution(Convolution { product, ..shape });
            let operands = match product {
                Product::Forward => x,
                Product::InputGradient => y,
                Product::WeightGradient => x + y,
            };
            self.product(&kernel) + self.turned(operands)
        };
        let (forward_bias, backward_bias) = self.bias(kind.bias, y);
        let input = if self.needs_gradient(op) { one(Product::InputGradient) } else { Charge::default() };
        Ok((one(Product::Forward) + forward_bias, one(Product::WeightGradient) + input + backward_bias))
    }

    /// A convolution without a library's kernels: image after image is unfolded, `taps` times as large, multiplied, and in
    /// the gradient of the input folded back.
    fn unfolded(&self, shape: &Convolution, product: Product) -> Charge {
        let (height, width) = shape.output();
        let groups = shape.groups.max(1);
        let taps = shape.filter_height * shape.filter_width * shape.in_channels / groups;
        let (pixels, outputs) = (height * width, shape.out_channels / groups);
        let (m, n, k) = match product {
            Product::Forward => (pixels, outputs, taps),
            Product::InputGradient => (pixels, taps, outputs),
            Product::WeightGradient => (outputs, taps, pixels),
        };
        let image = shape.in_channels * shape.height * shape.width;
        let fold = self.pass([image, taps * groups * pixels]);
        (self.product(&Kernel::matmul(m, n, k)) * groups as f64 + fold) * shape.batch as f64
    }

    /// Turning the images that a convolution on tensor cores reads, which want channels last; what it writes it turns
    /// itself.
    fn turned(&self, elements: u64) -> Charge {
        if self.stack.images == Images::ChannelsLast || !self.gpu.facts.peak(self.numerics.products).tensor {
            return Charge::default();
        }
        self.pass([elements, elements])
    }

    fn shape(&self, op: &Op, kind: &GraphConvolution) -> Result<Convolution, GraphStepError> {
        let window = &kind.window;
        let axes = window.kernel.len();
        let x = self.ty(op.inputs[0]);
        if !(1..=2).contains(&axes) || x.dims.len() != axes + 1 {
            return Err(GraphStepError::Operator {
                op: op.name.clone(),
                kind: op.kind.label(),
                remedy: "convolutions over one or two axes have a price",
            });
        }
        // One axis is an image of one row.
        let of = |list: &[u64], one: u64| if axes == 2 { (list[0], list[1]) } else { (one, list[0]) };
        let padding: Vec<u64> = window.padding.iter().map(|zeros| zeros[0].max(zeros[1])).collect();
        let (height, width) = of(&x.dims[1..], 1);
        let (filter_height, filter_width) = of(&window.kernel, 1);
        Ok(Convolution {
            batch: self.batch,
            in_channels: kind.inputs,
            out_channels: kind.outputs,
            height,
            width,
            filter_height,
            filter_width,
            stride: of(&window.stride, 1),
            padding: of(&padding, 0),
            dilation: window.dilation.iter().copied().max().unwrap_or(1),
            groups: kind.groups,
            product: Product::Forward,
        })
    }
}
