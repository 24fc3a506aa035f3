//! The update rules as tensor expressions, for parameters that stay on their device.

use burn::tensor::Tensor;
use cutplane_plan::Optimizer;

use super::{AdamW, OptimizerSettings};

/// What an update rule keeps of one parameter that stays on its device.
#[derive(Clone, Debug, Default)]
pub(crate) struct DeviceState {
    /// Decayed means of gradients and of squared gradients; `None` before the first step and for SGD.
    moments: Option<[Tensor<2>; 2]>,
}

impl DeviceState {
    /// Means of gradients and of squared gradients; `None` before the first step and for SGD.
    pub(crate) fn moments(&self) -> Option<&[Tensor<2>; 2]> {
        self.moments.as_ref()
    }

    /// The state with these means.
    pub(crate) fn with_moments(mean: Tensor<2>, mean_square: Tensor<2>) -> Self {
        Self { moments: Some([mean, mean_square]) }
    }

    /// The updated weight for step number `step`, counted from one. No gradient counts as a gradient of zero.
    pub(crate) fn update(
        &mut self,
        settings: &OptimizerSettings,
        step: u32,
        weight: Tensor<2>,
        gradient: Option<Tensor<2>>,
    ) -> Tensor<2> {
        match (settings.rule, gradient) {
            (Optimizer::Sgd, None) => weight,
            (Optimizer::Sgd, Some(gradient)) => weight - gradient * settings.learning_rate,
            (Optimizer::AdamW, gradient) => {
                let zeros = || weight.zeros_like();
                let [mean, square] = self.moments.take().unwrap_or_else(|| [zeros(), zeros()]);
                let gradient = gradient.unwrap_or_else(zeros);
                let (weight, moments) = adamw(AdamW::new(settings, step), weight, mean, square, gradient);
                self.moments = Some(moments);
                weight
            }
        }
    }
}

/// [`AdamW::element`] on whole tensors.
fn adamw(
    rule: AdamW,
    weight: Tensor<2>,
    mean: Tensor<2>,
    square: Tensor<2>,
    gradient: Tensor<2>,
) -> (Tensor<2>, [Tensor<2>; 2]) {
    let mean = mean.clone() + (gradient.clone() - mean) * (1.0 - rule.beta1);
    let square = square * rule.beta2 + gradient.clone() * gradient * (1.0 - rule.beta2);
    let root = square.clone().sqrt() * rule.root_correction + rule.eps;
    let weight = weight * rule.decay - mean.clone() * rule.step_size / root;
    (weight, [mean, square])
}
