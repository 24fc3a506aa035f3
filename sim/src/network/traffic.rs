//! How many bytes the parallel axes put on the network.

/// Traffic of tensor parallelism (Shoeybi et al. 2019): a transformer layer all-reduces its activations twice in the
/// forward pass and twice in the backward pass, of `batch * sequence * hidden` elements each. With sequence parallelism each
/// all-reduce becomes a reduce-scatter and an all-gather of the same volume (Korthikanti et al. 2022).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TensorParallelTraffic {
    /// All-reduces of one layer and micro-batch, forward and backward together.
    pub all_reduces: u64,
    /// Bytes of each.
    pub bytes: u64,
}

/// [`TensorParallelTraffic`] of one layer and micro-batch, with elements of `element` bytes.
pub fn tensor_parallel(batch: u64, sequence: u64, hidden: u64, element: u64) -> TensorParallelTraffic {
    TensorParallelTraffic { all_reduces: 4, bytes: batch * sequence * hidden * element }
}

/// Bytes of `values` values at `bits` bits in blocks of `block` with one scale of 32 bits each: `bits + 32 / block` bits a
/// value.
pub fn quantised_bytes(values: f64, bits: f64, block: f64) -> f64 {
    values * (bits + 32.0 / block) / 8.0
}

/// What ZeRO++ quantises and where it keeps a second copy (Wang et al. 2023).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ZeroPlusPlus {
    /// int8 weights in the forward all-gather (qwZ).
    pub quantised_weights: bool,
    /// A second partition of the weights inside each node for the backward all-gather (hpZ).
    pub node_partition: bool,
    /// int4 gradients in a two-step all-to-all (qgZ).
    pub quantised_gradients: bool,
}

/// Traffic between nodes of a ZeRO-3 step over the size of the half-precision weights: forward all-gather, backward
/// all-gather, gradient reduce-scatter; `[1, 1, 1]` without, `[0.5, 0, 0.25]` with all of ZeRO++, scales left out.
pub fn zero_plus_plus_volumes(options: ZeroPlusPlus) -> [f64; 3] {
    let weights = if options.quantised_weights { 0.5 } else { 1.0 };
    let backward = if options.node_partition { 0.0 } else { weights };
    [weights, backward, if options.quantised_gradients { 0.25 } else { 1.0 }]
}

/// Why a layout is illegal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "tensor dimensions '{first}' and '{second}' are both split over mesh axis '{axis}': split one of them elsewhere"
)]
pub struct IllegalLayout {
    /// One dimension.
    pub first: String,
    /// The other.
    pub second: String,
    /// The axis that both would be split over.
    pub axis: String,
}

/// Mesh axes that a contraction must all-reduce its result over (Mesh-TensorFlow, Shazeer et al. 2018): those that a
/// dimension is split over which the inputs have and the output lacks. `layout` maps dimensions to mesh axes.
///
/// # Errors
/// [`IllegalLayout`] when two dimensions of one tensor are split over one axis.
pub fn contraction_all_reduces<'a>(
    inputs: &[&[&str]],
    output: &[&str],
    layout: &[(&str, &'a str)],
) -> Result<Vec<&'a str>, IllegalLayout> {
    let axis = |dimension: &str| layout.iter().find(|(name, _)| *name == dimension).map(|(_, axis)| *axis);
    for tensor in inputs.iter().copied().chain([output]) {
        legal(tensor, axis)?;
    }
    let mut axes: Vec<&str> =
        inputs.iter().copied().flatten().filter(|name| !output.contains(name)).filter_map(|name| axis(name)).collect();
    axes.sort_unstable();
    axes.dedup();
    Ok(axes)
}

fn legal<'a>(tensor: &[&str], axis: impl Fn(&str) -> Option<&'a str>) -> Result<(), IllegalLayout> {
    for (at, second) in tensor.iter().enumerate() {
        let shared = |first: &&&str| axis(first).is_some() && axis(first) == axis(second);
        if let (Some(first), Some(axis)) = (tensor[..at].iter().find(shared), axis(second)) {
            return Err(IllegalLayout {
                first: (*first).to_owned(),
                second: (*second).to_owned(),
                axis: axis.to_owned(),
            });
        }
    }
    Ok(())
}
