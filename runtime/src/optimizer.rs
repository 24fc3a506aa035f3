//! Update rules of the parameters.

mod expressions;
mod loss_scale;

use cutplane_plan::Optimizer;

use crate::ops::kernel::wide;

pub(crate) use expressions::DeviceState;
pub(crate) use loss_scale::LossScale;

/// An update rule with its numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OptimizerSettings {
    /// Which rule.
    pub rule: Optimizer,
    /// Step size.
    pub learning_rate: f64,
    /// Decay of the mean of gradients (AdamW).
    pub beta1: f64,
    /// Decay of the mean of squared gradients (AdamW).
    pub beta2: f64,
    /// Added to the root of the mean square (AdamW).
    pub eps: f64,
    /// Decoupled weight decay (AdamW).
    pub weight_decay: f64,
}

impl OptimizerSettings {
    /// The rule with PyTorch's defaults: betas 0.9 and 0.999, eps 1e-8, weight decay 0.01.
    pub fn new(rule: Optimizer, learning_rate: f64) -> Self {
        Self { rule, learning_rate, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.01 }
    }
}

/// What an update rule keeps of one parameter.
#[derive(Clone, Debug, Default)]
pub(crate) struct OptimizerState {
    /// Decayed means of gradients and of squared gradients; empty before the first step and for SGD.
    mean: Vec<f32>,
    mean_square: Vec<f32>,
}

/// The numbers of one AdamW step, the same for all elements.
#[derive(Clone, Copy)]
pub(crate) struct AdamW {
    beta1: f32,
    beta2: f32,
    /// `learning_rate / (1 - beta1^t)`.
    step_size: f32,
    /// `1 / sqrt(1 - beta2^t)`.
    root_correction: f32,
    eps: f32,
    /// `1 - learning_rate * weight_decay`.
    decay: f32,
}

impl AdamW {
    fn new(settings: &OptimizerSettings, step: u32) -> Self {
        let correction = |beta: f64| 1.0 - beta.powf(f64::from(step));
        Self {
            beta1: settings.beta1 as f32,
            beta2: settings.beta2 as f32,
            step_size: (settings.learning_rate / correction(settings.beta1)) as f32,
            root_correction: correction(settings.beta2).sqrt().recip() as f32,
            eps: settings.eps as f32,
            decay: (1.0 - settings.learning_rate * settings.weight_decay) as f32,
        }
    }

    /// One element, in PyTorch's order: decay, then moments, then the step.
    #[inline]
    fn element(self, weight: &mut f32, mean: &mut f32, square: &mut f32, gradient: f32) {
        *mean += (1.0 - self.beta1) * (gradient - *mean);
        *square = self.beta2 * *square + (1.0 - self.beta2) * gradient * gradient;
        let root = square.sqrt() * self.root_correction + self.eps;
        *weight = *weight * self.decay - self.step_size * *mean / root;
    }
}

impl OptimizerState {
    /// Means of gradients and of squared gradients; `None` before the first step and for SGD.
    pub(crate) fn moments(&self) -> Option<[&[f32]; 2]> {
        (!self.mean.is_empty()).then_some([&self.mean[..], &self.mean_square[..]])
    }

    /// The state with these means.
    pub(crate) fn with_moments(mean: Vec<f32>, mean_square: Vec<f32>) -> Self {
        Self { mean, mean_square }
    }

    /// Updates `weight` in place for step number `step`, counted from one. No gradient counts as a gradient of zero.
    pub(crate) fn update(
        &mut self,
        settings: &OptimizerSettings,
        step: u32,
        weight: &mut [f32],
        gradient: Option<&[f32]>,
    ) {
        match settings.rule {
            Optimizer::Sgd => sgd(weight, gradient, settings.learning_rate as f32),
            Optimizer::AdamW => {
                self.mean.resize(weight.len(), 0.0);
                self.mean_square.resize(weight.len(), 0.0);
                let zeros = gradient.is_none().then(|| vec![0.0; weight.len()]);
                let gradient = gradient.or(zeros.as_deref()).unwrap_or_default();
                adamw(AdamW::new(settings, step), weight, &mut self.mean, &mut self.mean_square, gradient);
            }
        }
    }
}

fn sgd(weight: &mut [f32], gradient: Option<&[f32]>, learning_rate: f32) {
    for (weight, gradient) in weight.iter_mut().zip(gradient.unwrap_or_default()) {
        *weight -= learning_rate * gradient;
    }
}

wide! {
    /// The update of all elements; with wide registers it is bound by memory.
    fn adamw(rule: AdamW, weight: &mut [f32], mean: &mut [f32], square: &mut [f32], gradient: &[f32]) {
        for (((weight, mean), square), gradient) in weight.iter_mut().zip(mean).zip(square).zip(gradient) {
            rule.element(weight, mean, square, *gradient);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(settings: OptimizerSettings, steps: &[f32], start: f32) -> f32 {
        let (mut state, mut weight) = (OptimizerState::default(), vec![start; 9]);
        for (step, gradient) in steps.iter().enumerate() {
            state.update(&settings, step as u32 + 1, &mut weight, Some(&[*gradient; 9]));
        }
        assert!(
            weight.iter().all(|w| w.to_bits() == weight[0].to_bits()),
            "vector and scalar parts of the loop differ: {weight:?}"
        );
        weight[0]
    }

    #[test]
    fn adamw_by_hand() {
        let settings = OptimizerSettings::new(Optimizer::AdamW, 0.1);
        // Step 1: decay 2 * (1 - 0.1 * 0.01) = 1.998; the corrected moments are g and g^2, so the step is 0.1.
        assert!((run(settings, &[0.5], 2.0) - 1.898).abs() < 1e-6);
        // Step 2, g = -0.25: mean = 0.9 * 0.05 - 0.025 = 0.02, corrected by 0.19: 0.105263158;
        // square = 0.999 * 0.00025 + 0.001 * 0.0625 = 0.00031225, corrected by 0.001999: 0.156203102, root 0.395225381;
        // 1.898 * 0.999 - 0.1 * 0.105263158 / 0.395225391 = 1.896102 - 0.026633702 = 1.869468298.
        let second = run(settings, &[0.5, -0.25], 2.0);
        assert!((second - 1.869_468_3).abs() < 1e-6, "{second}");
    }

    #[test]
    fn tensor_expressions_take_the_same_steps() {
        for rule in [Optimizer::AdamW, Optimizer::Sgd] {
            let settings = OptimizerSettings::new(rule, 0.1);
            let (mut host, mut device) = (OptimizerState::default(), DeviceState::default());
            let mut weight = vec![2.0f32, -1.0, 0.5];
            let tensor = |numbers: &[f32]| {
                let data = burn::tensor::TensorData::new(numbers.to_vec(), [1, 3]);
                burn::tensor::Tensor::<2>::from_data(data, &burn::tensor::Device::flex())
            };
            let mut twin = tensor(&weight);
            for (step, gradient) in [Some([0.5f32, -3.0, 1e-4]), Some([-0.25, 0.0, 2.0]), None].iter().enumerate() {
                host.update(&settings, step as u32 + 1, &mut weight, gradient.as_ref().map(|g| &g[..]));
                twin = device.update(&settings, step as u32 + 1, twin, gradient.as_ref().map(|g| tensor(g)));
                let numbers = crate::tensor::numbers(twin.clone());
                assert!(weight.iter().zip(&numbers).all(|(a, b)| (a - b).abs() < 1e-6), "{weight:?} {numbers:?}");
            }
        }
    }

    #[test]
    fn no_gradient_is_a_gradient_of_zero() {
        let settings = OptimizerSettings::new(Optimizer::AdamW, 0.1);
        let (mut with, mut without) = (vec![1.0f32; 3], vec![1.0f32; 3]);
        let (mut left, mut right) = (OptimizerState::default(), OptimizerState::default());
        for (step, gradient) in [Some(&[1.0f32; 3][..]), None].into_iter().enumerate() {
            left.update(&settings, step as u32 + 1, &mut with, Some(gradient.unwrap_or(&[0.0; 3])));
            right.update(&settings, step as u32 + 1, &mut without, gradient);
        }
        assert_eq!(with, without);
        assert!(with[0] < 0.9, "the mean of the first step still moves the weight: {with:?}");
    }

    #[test]
    fn sgd_by_hand() {
        let weight = run(OptimizerSettings::new(Optimizer::Sgd, 0.5), &[1.0, 0.5], 2.0);
        assert!((weight - 1.25).abs() < f32::EPSILON, "{weight}");
    }
}
