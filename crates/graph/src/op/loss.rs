//! Losses: means over a fixed count, so that the means of equal micro-batches average to the mean of the batch.

use serde::{Deserialize, Serialize};

use super::operator::{KEEPS_INPUTS, KEEPS_NOTHING, Operator, View, Work, with_dims};
use super::pointwise::SOFTMAX_OPS;
use crate::facts::{ProfileKey, Saved};
use crate::sharding::{Collective, Layout, ShardRule, Sharded, Split};
use crate::tensor::{Dtype, TensorType};

pub(super) struct CrossEntropy {
    pub(super) classes: u64,
    pub(super) counted: u64,
}

impl Operator for CrossEntropy {
    fn label(&self) -> &'static str {
        "cross-entropy"
    }

    fn arity(&self) -> usize {
        2
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
        let ((x, targets), Self { classes, counted }) = ((inputs[0], inputs[1]), self);
        let rows = targets.dims.iter().fold(1, |product: u64, dim| product.saturating_mul(*dim));
        let fits = x.dims.len() == targets.dims.len() + 1
            && x.dims.starts_with(&targets.dims)
            && x.last() == *classes
            && targets.dtype == Dtype::I32
            && (1..=rows).contains(counted);
        if !fits {
            return Err(format!(
                "takes logits [.., {classes}] and i32 targets [..] of which 1 to all are counted ({counted}), got {x} and {targets}"
            ));
        }
        Ok(TensorType::unbatched(&[], Dtype::F32))
    }

    fn work(&self, at: &View<'_>) -> Work {
        let logits = u128::from(at.input(0).rows(at.batch)) * u128::from(self.classes);
        Work::new(SOFTMAX_OPS * logits, 2 * logits, 2)
    }

    /// The softmax of the logits.
    fn saved(&self, at: &View<'_>) -> Saved {
        Saved { internal_elements: at.input(0).elements(at.batch), ..KEEPS_NOTHING }
    }

    fn curve(&self, at: &View<'_>) -> ProfileKey {
        let rows = at.input(0).rows(at.batch);
        let work = rows as f64 * self.classes as f64;
        ProfileKey { operator: "cross_entropy", axes: vec![rows, self.classes], work }
    }

    /// Classes (Shoeybi et al. 2019, section 3): the largest logit, the sum and the target's logit of each row are
    /// exchanged, not the logits. Or positions, whose losses are summands.
    fn rules(&self, at: &View<'_>) -> Vec<ShardRule> {
        let logits = at.input(0);
        let last = Sharded::split(Layout::Axis(logits.dims.len() - 1));
        let (whole, rows) = (Sharded::replicated(), Sharded::split(Layout::Axis(0)));
        let vocabulary = ShardRule::new(Split::Vocabulary, self.classes, &[last, whole], &[], whole);
        let exchanged = logits.rows(at.batch).saturating_mul(3);
        let mut rules = vec![vocabulary.with_inside(Collective::AllReduce, Collective::None, exchanged, 3)];
        if logits.dims.len() > 1 {
            rules.push(ShardRule::new(Split::Sequence, logits.dims[0], &[rows, rows], &[], Sharded::partial()));
        }
        rules
    }
}

/// What one rank computes of a cross-entropy whose classes are dealt to several ranks in order: of every row of logits
/// `[.., classes]` the logarithm of the sum of their exponentials, and the logit of the target, zero where another rank has
/// it. Targets `[..]` count the classes of all ranks. Gives `[.., 2]`; in no model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CrossEntropyShare {
    /// Classes of one rank.
    pub classes: u64,
}

impl Operator for CrossEntropyShare {
    fn label(&self) -> &'static str {
        "share of a cross-entropy"
    }

    fn arity(&self) -> usize {
        2
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
        let (x, targets) = (inputs[0], inputs[1]);
        let fits =
            x.dims.len() == targets.dims.len() + 1 && x.dims.starts_with(&targets.dims) && x.last() == self.classes;
        if !fits || targets.dtype != Dtype::I32 {
            return Err(format!("takes logits [.., {}] and i32 targets [..], got {x} and {targets}", self.classes));
        }
        let dims = targets.dims.iter().copied().chain([2]).collect();
        Ok(with_dims(x, dims))
    }

    fn work(&self, at: &View<'_>) -> Work {
        let logits = u128::from(at.input(0).elements(at.batch));
        Work::new(SOFTMAX_OPS * logits, 2 * logits, 2)
    }

    /// The softmax over the rank's classes.
    fn saved(&self, at: &View<'_>) -> Saved {
        Saved { internal_elements: at.input(0).elements(at.batch), ..KEEPS_NOTHING }
    }

    fn curve(&self, at: &View<'_>) -> ProfileKey {
        let rows = at.input(0).rows(at.batch);
        ProfileKey {
            operator: "cross_entropy",
            axes: vec![rows, self.classes],
            work: rows as f64 * self.classes as f64,
        }
    }

    fn rules(&self, _: &View<'_>) -> Vec<ShardRule> {
        Vec::new()
    }
}

/// The mean cross-entropy that follows from the shares of all ranks, `[.., 2 ranks]`, and targets `[..]`; in no model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JoinedCrossEntropy {
    /// Targets counted in each sample.
    pub counted: u64,
}

impl Operator for JoinedCrossEntropy {
    fn label(&self) -> &'static str {
        "joined cross-entropy"
    }

    fn arity(&self) -> usize {
        2
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
        let (x, targets) = (inputs[0], inputs[1]);
        let pairs = x.dims.len() == targets.dims.len() + 1 && x.dims.starts_with(&targets.dims) && x.last() % 2 == 0;
        if !pairs || targets.dtype != Dtype::I32 {
            return Err(format!("takes pairs [.., 2 ranks] and i32 targets [..], got {x} and {targets}"));
        }
        Ok(TensorType::unbatched(&[], Dtype::F32))
    }

    fn work(&self, at: &View<'_>) -> Work {
        let elements = u128::from(at.input(0).elements(at.batch));
        Work::new(SOFTMAX_OPS * elements, 2 * elements, 2)
    }

    fn saved(&self, _: &View<'_>) -> Saved {
        KEEPS_INPUTS
    }

    fn curve(&self, at: &View<'_>) -> ProfileKey {
        let (rows, classes) = (at.input(0).rows(at.batch), at.input(0).last());
        ProfileKey { operator: "cross_entropy", axes: vec![rows, classes], work: rows as f64 * classes as f64 }
    }

    fn rules(&self, _: &View<'_>) -> Vec<ShardRule> {
        Vec::new()
    }
}

/// Mean of the squared differences of two values of one shape, over all elements and samples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MeanSquaredError {}

impl Operator for MeanSquaredError {
    fn label(&self) -> &'static str {
        "mean squared error"
    }

    fn arity(&self) -> usize {
        2
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, String> {
        if inputs[0] != inputs[1] {
            return Err(format!("compares values of one shape, got {} and {}", inputs[0], inputs[1]));
        }
        Ok(TensorType::unbatched(&[], Dtype::F32))
    }

    fn work(&self, at: &View<'_>) -> Work {
        let elements = u128::from(at.input(0).elements(at.batch));
        Work::new(3 * elements, 2 * elements, 2)
    }

    fn saved(&self, _: &View<'_>) -> Saved {
        KEEPS_INPUTS
    }

    fn curve(&self, at: &View<'_>) -> ProfileKey {
        let elements = at.input(0).elements(at.batch);
        ProfileKey { operator: "mean_squared_error", axes: vec![elements], work: elements as f64 }
    }

    fn rules(&self, at: &View<'_>) -> Vec<ShardRule> {
        let part = |axis| Sharded::split(Layout::Axis(axis));
        let dims = at.input(0).dims.iter().enumerate();
        let rule = |(axis, extent): (usize, &u64)| {
            ShardRule::new(Split::Width, *extent, &[part(axis); 2], &[], Sharded::partial())
        };
        dims.map(rule).collect()
    }
}
