//! Layer freezing: a prefix of converged layers has no backward pass (Brock et al. 2017; PipeTransformer, He et al. 2021).

/// One layer of a model in training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Layer {
    /// Seconds of its forward pass.
    pub forward: f64,
    /// Seconds of its backward pass.
    pub backward: f64,
    /// Its parameters.
    pub parameters: f64,
    /// Bytes of activations that its backward pass needs.
    pub activations: f64,
}

/// What a step costs.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct FrozenStep {
    /// Seconds of computing.
    pub seconds: f64,
    /// Parameters whose gradients are exchanged and updated.
    pub active_parameters: f64,
    /// Bytes of activations kept.
    pub activations: f64,
}

/// A step with the first `frozen` layers frozen; with `cached` features their forward pass is not computed either.
pub fn step(layers: &[Layer], frozen: usize, cached: bool) -> FrozenStep {
    let (prefix, rest) = layers.split_at(frozen.min(layers.len()));
    let features: f64 = if cached { 0.0 } else { prefix.iter().map(|layer| layer.forward).sum() };
    FrozenStep {
        seconds: features + rest.iter().map(|layer| layer.forward + layer.backward).sum::<f64>(),
        active_parameters: rest.iter().map(|layer| layer.parameters).sum(),
        activations: rest.iter().map(|layer| layer.activations).sum(),
    }
}
