//! Products of matrices whose weight gradients are computed later than the rest of a backward pass.
//!
//! In place of the weight, a zero that is added to the product is the leaf: its gradient is that of the product, `dy`. The
//! backward pass then ends with `dx`, and `x^T dy` is left for later (the split of Qi et al. 2023, section 2).

use std::collections::BTreeMap;

use burn::tensor::{Gradients, Tensor};
use cutplane_graph::{ParamId, WeightLayout};

use super::{Gradient, Slot};
use crate::backend::{Backend, Residence};
use crate::ops::floats;

/// A product of a forward pass.
pub(crate) struct DeferredProduct {
    /// The weight, and the bias if there is one.
    pub(crate) params: Vec<ParamId>,
    /// Which axis of the weight is summed over.
    pub(crate) layout: WeightLayout,
    /// The rows that were multiplied, without history.
    pub(crate) x: Tensor<2>,
    /// The leaf whose gradient is that of the product.
    pub(crate) tap: Tensor<2>,
}

/// Products that a backward pass has reached, with the gradient of each.
#[derive(Default)]
pub(crate) struct Products(Vec<(DeferredProduct, Tensor<2>)>);

impl Products {
    pub(crate) fn reached(products: Vec<DeferredProduct>, gradients: &mut Gradients) -> Self {
        let reached = |product: DeferredProduct| {
            let dy = product.tap.grad_remove(gradients)?;
            Some((product, dy))
        };
        Self(products.into_iter().filter_map(reached).collect())
    }

    /// Adds the gradients of all weights and biases, in f32.
    pub(crate) fn add_to(self, slots: &mut BTreeMap<ParamId, Slot>, backend: &Backend) {
        for (DeferredProduct { params, layout, x, .. }, dy) in self.0 {
            let weight = match layout {
                WeightLayout::InOut => x.transpose().matmul(dy.clone()),
                WeightLayout::OutIn => dy.clone().transpose().matmul(x),
            };
            let bias = params.len() > 1;
            let all = std::iter::once(weight).chain(bias.then(|| backend.full(dy).sum_dim(0)));
            for (id, gradient) in params.iter().zip(all) {
                let gradient = backend.full(gradient);
                let gradient = match backend.residence() {
                    Residence::Host => Gradient::Host(floats(gradient)),
                    Residence::Device => Gradient::Device(gradient),
                };
                if let Some(slot) = slots.get_mut(id).filter(|slot| slot.is_trained()) {
                    Gradient::accumulate(&mut slot.gradient, gradient);
                }
            }
        }
    }
}
