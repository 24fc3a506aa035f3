//! Building blocks of image models.

use cutplane_graph::{
    ActivationKind, BatchNorm, Concat, Convolution, ModelError, ModelGraphBuilder, OpKind, Pool, PoolKind, Reduce,
    Reduction, Reshape, ValueId, Window,
};

use crate::transformer::Dense;

/// Result of adding operators.
pub(super) type Added = Result<ValueId, ModelError>;

/// Sizes that a body may be asked for, besides the image.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scale {
    /// Channels of the first layer over the published ones, as a fraction.
    pub(super) width: (u64, u64),
    /// Most repetitions of a block in a stage.
    pub(super) depth: Option<u64>,
}

impl Scale {
    /// Channels, scaled; at least one.
    pub(super) fn channels(&self, published: u64) -> u64 {
        let (numerator, denominator) = self.width;
        let scaled = u128::from(published) * u128::from(numerator) / u128::from(denominator.max(1));
        scaled.clamp(1, 1 << 24) as u64
    }

    /// Repetitions of a block in a stage, cut to the asked depth.
    pub(super) fn repeats(&self, published: u64) -> u64 {
        self.depth.map_or(published, |depth| published.min(depth))
    }
}

/// An image model while it is built.
pub(super) struct Net<'b> {
    pub(super) b: &'b mut ModelGraphBuilder,
    pub(super) scale: Scale,
    pub(super) classes: u64,
    /// Where losses go: the targets, and scalars to add up with their weights.
    pub(super) targets: ValueId,
    pub(super) auxiliary: Vec<(ValueId, f64)>,
    next_layer: u32,
}

/// Epsilon of a batch norm in PyTorch.
pub(super) const BATCH_NORM_EPS: f64 = 1e-5;

impl<'b> Net<'b> {
    pub(super) fn new(b: &'b mut ModelGraphBuilder, scale: Scale, classes: u64, targets: ValueId) -> Self {
        Self { b, scale, classes, targets, auxiliary: Vec::new(), next_layer: 0 }
    }

    /// Operators added from now on belong to a further layer.
    pub(super) fn next_layer(&mut self) {
        self.b.layer(Some(self.next_layer));
        self.next_layer += 1;
    }

    /// Operators added from now on belong to no layer.
    pub(super) fn no_layer(&mut self) {
        self.b.layer(None);
    }

    pub(super) fn channels_of(&self, x: ValueId) -> u64 {
        self.b.type_of(x).dims[0]
    }

    /// A convolution; the channels in are those of `x`.
    pub(super) fn conv(&mut self, name: &str, x: ValueId, outputs: u64, window: Window, bias: bool) -> Added {
        let kind = Convolution::new(self.channels_of(x), outputs, window, bias);
        self.b.op(name, OpKind::Convolution(kind), &[x])
    }

    pub(super) fn batch_norm(&mut self, name: &str, x: ValueId, eps: f64) -> Added {
        let channels = self.channels_of(x);
        self.b.op(name, OpKind::BatchNorm(BatchNorm { channels, eps }), &[x])
    }

    pub(super) fn activation(&mut self, name: &str, x: ValueId, function: ActivationKind) -> Added {
        self.b.op(name, OpKind::Activation { function }, &[x])
    }

    pub(super) fn relu(&mut self, name: &str, x: ValueId) -> Added {
        self.activation(name, x, ActivationKind::Relu)
    }

    /// `{name}.conv` without bias, `{name}.bn`, ReLU: torchvision's `BasicConv2d`.
    pub(super) fn basic(&mut self, name: &str, x: ValueId, outputs: u64, window: Window) -> Added {
        let x = self.conv(&format!("{name}.conv"), x, outputs, window, false)?;
        let x = self.batch_norm(&format!("{name}.bn"), x, 1e-3)?;
        self.relu(&format!("{name}.relu"), x)
    }

    pub(super) fn pool(&mut self, name: &str, x: ValueId, function: PoolKind, window: Window) -> Added {
        self.b.op(name, OpKind::Pool(Pool { function, window }), &[x])
    }

    pub(super) fn max_pool(&mut self, name: &str, x: ValueId, window: Window) -> Added {
        self.pool(name, x, PoolKind::Max, window)
    }

    /// Average pooling to `extent` by `extent`, where the image is a multiple of it.
    pub(super) fn pool_to(&mut self, name: &str, x: ValueId, extent: u64) -> Added {
        let side = self.b.type_of(x).dims[1];
        if side <= extent || !side.is_multiple_of(extent) {
            return Ok(x);
        }
        self.pool(name, x, PoolKind::Average, Window::square(side / extent, side / extent, 0))
    }

    /// The mean of each channel: `[channels, h, w]` to `[channels]`.
    pub(super) fn global_mean(&mut self, name: &str, x: ValueId) -> Added {
        self.b.op(name, OpKind::Reduce(Reduce { function: Reduction::Mean, axes: vec![1, 2] }), &[x])
    }

    pub(super) fn flatten(&mut self, name: &str, x: ValueId) -> Added {
        let elements = self.b.type_of(x).elements(1);
        self.b.op(name, OpKind::Reshape(Reshape { dims: vec![elements] }), &[x])
    }

    pub(super) fn linear(&mut self, name: &str, x: ValueId, outputs: u64) -> Added {
        let inputs = self.b.type_of(x).last();
        self.b.op(name, Dense::torch(0.01).op(inputs, outputs, true), &[x])
    }

    /// Values side by side along the channels.
    pub(super) fn concat(&mut self, name: &str, parts: &[ValueId]) -> Added {
        self.b.op(name, OpKind::Concat(Concat { axis: 0, values: parts.len() }), parts)
    }

    pub(super) fn add(&mut self, name: &str, left: ValueId, right: ValueId) -> Added {
        self.b.op(name, OpKind::Add, &[left, right])
    }
}

/// A window of one tap.
pub(super) fn point() -> Window {
    Window::square(1, 1, 0)
}

/// A window that keeps the extent: an odd square with as many zeros as it needs.
pub(super) fn same(kernel: u64) -> Window {
    Window::square(kernel, 1, kernel / 2)
}

/// A rectangular window that keeps the extent.
pub(super) fn same_rectangle(height: u64, width: u64) -> Window {
    Window::new(&[height, width], 1, &[height / 2, width / 2])
}

/// The window, with a last one that is partly outside.
pub(super) fn ceil(window: Window) -> Window {
    Window { ceil: true, ..window }
}
