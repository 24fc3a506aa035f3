//! Dynamic loss scaling, without which small gradients are zero in f16 (Micikevicius et al. 2018, "Mixed precision
//! training", section 3.2). The numbers are those of PyTorch's `GradScaler`.

use cutplane_graph::Dtype;

/// Where the scale starts.
const START: f32 = 65536.0;
/// Good steps in a row after which the scale is doubled.
const PATIENCE: u32 = 2000;

/// By what losses are multiplied before the backward pass, the same on all ranks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct LossScale {
    scale: f32,
    good_steps: u32,
}

impl LossScale {
    /// The scale of a run in this precision; `None` where none is needed.
    pub(crate) fn of(precision: Dtype) -> Option<Self> {
        (precision == Dtype::F16).then_some(Self { scale: START, good_steps: 0 })
    }

    /// A scale that goes on as a former one.
    pub(crate) fn resumed(scale: f32, good_steps: u32) -> Self {
        Self { scale, good_steps }
    }

    /// The factor, and the steps in a row without an overflow.
    pub(crate) fn state(self) -> (f32, u32) {
        (self.scale, self.good_steps)
    }

    /// The factor.
    pub(crate) fn get(self) -> f32 {
        self.scale
    }

    /// Halves the scale after a step with an overflow, doubles it after many without.
    pub(crate) fn learn(&mut self, overflow: bool) {
        self.good_steps = if overflow { 0 } else { self.good_steps + 1 };
        if overflow {
            self.scale = (self.scale / 2.0).max(f32::MIN_POSITIVE);
        } else if self.good_steps == PATIENCE {
            *self = Self { scale: self.scale * 2.0, good_steps: 0 };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_f16_is_scaled_and_the_scale_follows_overflows() {
        assert_eq!((LossScale::of(Dtype::F32), LossScale::of(Dtype::Bf16)), (None, None));
        let mut scale = LossScale::of(Dtype::F16).expect("needed");
        scale.learn(true);
        assert_eq!(scale, LossScale { scale: 32768.0, good_steps: 0 });
        for _ in 0..PATIENCE {
            scale.learn(false);
        }
        assert_eq!(scale, LossScale { scale: START, good_steps: 0 });
    }
}
