//! Convolutions and recurrent layers.

use cutplane_graph::{Cell, Convolution, Recurrent};

use super::super::model::Operator;
use super::super::work::{Passes, Work};
use super::{Pricer, arithmetic};
use crate::kernel::{self, Kernel, Product};

impl Pricer<'_> {
    /// A convolution over one or two axes by the library's algorithms, over three as the product that it equals.
    pub(super) fn convolution(&self, operator: &Operator, convolution: &Convolution) -> Passes {
        let axes = convolution.window.kernel.len();
        let mut passes = if axes <= 2 {
            let pass = |product| self.plane_convolution(operator, convolution, product);
            Passes {
                forward: pass(Product::Forward),
                input_gradient: pass(Product::InputGradient),
                weight_gradient: pass(Product::WeightGradient),
                recompute: Work::default(),
            }
        } else {
            self.volume_convolution(operator, convolution)
        };
        if convolution.bias {
            let bytes = self.elements(operator) * self.bytes();
            passes.forward += self.traffic(2.0 * bytes, 1.0);
            passes.weight_gradient += self.traffic(bytes, 1.0);
        }
        passes
    }

    fn plane_convolution(&self, operator: &Operator, convolution: &Convolution, product: Product) -> Work {
        let window = &convolution.window;
        let extents = &operator.inputs[0].dims[1..];
        let axis = |list: &[u64], at: usize, absent: u64| if list.len() > at { list[at] } else { absent };
        let padding = |at: usize| window.padding.get(at).map_or(0, |[before, after]| (before + after).div_ceil(2));
        let kernel = Kernel::Convolution(kernel::Convolution {
            batch: self.layout.micro_batch,
            in_channels: convolution.inputs,
            out_channels: convolution.outputs,
            height: axis(extents, 0, 1),
            width: axis(extents, 1, 1),
            filter_height: axis(&window.kernel, 0, 1),
            filter_width: axis(&window.kernel, 1, 1),
            stride: (axis(&window.stride, 0, 1), axis(&window.stride, 1, 1)),
            padding: (padding(0), padding(1)),
            dilation: window.dilation.iter().copied().max().unwrap_or(1),
            groups: convolution.groups,
            product,
        });
        let seconds = self.seconds(&kernel, arithmetic(self.layout.precision)) / self.cp();
        Work { products: seconds, launches: 1.0, ..Work::default() }
    }

    fn volume_convolution(&self, operator: &Operator, convolution: &Convolution) -> Passes {
        let groups = convolution.groups as f64;
        let n = convolution.outputs as f64 / groups;
        let positions = self.elements(operator) / convolution.outputs as f64;
        let k = (convolution.inputs / convolution.groups.max(1) * convolution.window.taps()) as f64;
        Passes {
            forward: self.product(positions, n, k, groups),
            input_gradient: self.product(positions, k, n, groups),
            weight_gradient: self.product(n, k, positions, groups),
            recompute: Work::default(),
        }
    }

    /// One product for the inputs of all steps, then the steps, which wait for one another.
    pub(super) fn recurrent(&self, operator: &Operator, recurrent: &Recurrent) -> Passes {
        let steps = operator.inputs[0].dims.first().copied().unwrap_or(1);
        let rows = (self.layout.micro_batch * steps) as f64;
        let (n, k) = ((recurrent.cell.gates() * recurrent.hidden) as f64, recurrent.inputs as f64);
        let pass = |product: Product, inputs: Work| {
            let kernel = Kernel::Recurrent(kernel::Recurrent {
                cell: match recurrent.cell {
                    Cell::RnnTanh | Cell::RnnRelu => kernel::RecurrentCell::Rnn,
                    Cell::Gru => kernel::RecurrentCell::Gru,
                    Cell::Lstm => kernel::RecurrentCell::Lstm,
                },
                batch: self.layout.micro_batch,
                steps,
                hidden: recurrent.hidden,
                product,
            });
            let seconds = self.seconds(&kernel, arithmetic(self.layout.precision));
            inputs + Work { products: seconds, launches: 1.0, ..Work::default() }
        };
        Passes {
            forward: pass(Product::Forward, self.product(rows, n, k, 1.0)),
            input_gradient: pass(Product::InputGradient, self.product(rows, k, n, 1.0)),
            weight_gradient: pass(Product::WeightGradient, self.product(n, k, rows, 1.0)),
            recompute: Work::default(),
        }
    }
}
