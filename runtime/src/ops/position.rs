//! Positions in the scores of an attention: rotation, biases, and what a query may see.

use burn::tensor::{Device, Int, Tensor, TensorData};
use cutplane_graph::{Attention, Rotary, RotaryScaling};

/// Added to a score that is not seen: its exponential is zero, and no arithmetic on it gives NaN.
pub(super) const HIDDEN: f32 = -1e30;

/// Lengths of an attention: `queries` positions, the last of which is that of the last of `keys` where it is causal, and
/// else both begin at 0.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lengths {
    pub(super) queries: usize,
    pub(super) keys: usize,
    pub(super) causal: bool,
}

impl Lengths {
    /// Position of the first query.
    pub(super) fn offset(self) -> usize {
        if self.causal { self.keys - self.queries } else { 0 }
    }

    /// Distances from a query forward to a key: from that of the last query and the first key to that of the first query
    /// and the last key.
    fn distances(self) -> impl Iterator<Item = i64> {
        let last_query = (self.queries - 1 + self.offset()) as i64;
        (0..(self.queries + self.keys - 1) as i64).map(move |index| index - last_query)
    }

    /// Distance from each query forward to each key, `[1, 1, queries, keys]`.
    fn matrix(self, device: &Device) -> Tensor<4> {
        let numbers =
            |from: usize, count: usize| Tensor::<1, Int>::arange(from as i64..(from + count) as i64, device).float();
        let queries = numbers(self.offset(), self.queries).reshape([1, 1, self.queries, 1]);
        numbers(0, self.keys).reshape([1, 1, 1, self.keys]) - queries
    }
}

/// Turns pairs of features of `x [b, heads, s, head_dim]`, whose first row stands at position `first`.
pub(super) fn rotate(x: Tensor<4>, rotary: &Rotary, first: usize) -> Tensor<4> {
    let [batch, heads, s, width] = x.dims();
    let (dims, half) = (rotary.dims as usize, rotary.dims as usize / 2);
    let device = x.device().inner();
    let angles: Vec<f64> = {
        let speeds = frequencies(rotary);
        (first..first + s).flat_map(|position| speeds.iter().map(move |speed| position as f64 * speed)).collect()
    };
    let table = |function: fn(f64) -> f64, dims: [usize; 5]| -> Tensor<5> {
        let data: Vec<f32> = angles.iter().map(|angle| function(*angle) as f32).collect();
        Tensor::from_data(TensorData::new(data, dims), &device)
    };
    let pairs = if rotary.interleaved { [batch, heads, s, half, 2] } else { [batch, heads, s, 2, half] };
    let (axis, flat) = if rotary.interleaved { (4, [1, 1, s, half, 1]) } else { (3, [1, 1, s, 1, half]) };
    let (cosines, sines) = (table(f64::cos, flat), table(f64::sin, flat));
    let turned = x.clone().narrow(3, 0, dims).reshape(pairs);
    let (left, right) = (turned.clone().narrow(axis, 0, 1), turned.narrow(axis, 1, 1));
    let new_left = left.clone() * cosines.clone() - right.clone() * sines.clone();
    let new_right = right * cosines + left * sines;
    let turned = Tensor::cat(vec![new_left, new_right], axis).reshape([batch, heads, s, dims]);
    if dims == width {
        return turned;
    }
    Tensor::cat(vec![turned, x.narrow(3, dims, width - dims)], 3)
}

/// Angle a position for each pair: `base^(-2 i / dims)`, stretched as the scaling says.
fn frequencies(rotary: &Rotary) -> Vec<f64> {
    let dims = rotary.dims as f64;
    let plain = (0..rotary.dims / 2).map(|i| rotary.base.powf(-2.0 * i as f64 / dims));
    plain.map(|speed| scaled(speed, rotary.scaling)).collect()
}

/// As the `llama3` rope type of Hugging Face transformers computes it (Llama 3.1).
fn scaled(speed: f64, scaling: RotaryScaling) -> f64 {
    match scaling {
        RotaryScaling::None => speed,
        RotaryScaling::Linear { factor } => speed / factor,
        RotaryScaling::Llama3 { factor, low_frequency, high_frequency, original_positions } => {
            let turns = original_positions as f64 * speed / std::f64::consts::TAU;
            let share = ((turns - low_frequency) / (high_frequency - low_frequency)).clamp(0.0, 1.0);
            (1.0 - share) * speed / factor + share * speed
        }
    }
}

/// [`HIDDEN`] where a query does not see a key, zero elsewhere, `[1, 1, queries, keys]`; `None` when it sees all.
///
/// A causal window ends at the query; another one has its middle there.
pub(super) fn mask(kind: &Attention, lengths: Lengths, device: &Device) -> Option<Tensor<4>> {
    if !kind.causal && kind.window.is_none() {
        return None;
    }
    let forward = lengths.matrix(device);
    let ahead = kind.causal.then(|| forward.clone().greater_scalar(0.5));
    let behind = kind.window.map(|window| {
        let reach = if kind.causal { window.saturating_sub(1) } else { window.saturating_sub(1) / 2 };
        let distance = if kind.causal { forward.neg() } else { forward.abs() };
        distance.greater_scalar(reach as f64 + 0.5)
    });
    let hidden = [ahead, behind].into_iter().flatten().map(|unseen| unseen.float() * HIDDEN);
    // Two hidden reasons must not add up to infinity in 16 bits; they are far from it in f32.
    hidden.reduce(|left, right| left + right)
}

/// Biases that fall with the distance, `[1, heads, queries, keys]` (Press, Smith and Lewis 2022).
pub(super) fn alibi(heads: usize, max_bias: f64, lengths: Lengths, device: &Device) -> Tensor<4> {
    let slopes: Vec<f32> = (1..=heads).map(|head| -(-max_bias * head as f64 / heads as f64).exp2() as f32).collect();
    let slopes: Tensor<4> = Tensor::from_data(TensorData::new(slopes, [1, heads, 1, 1]), device);
    lengths.matrix(device).abs() * slopes
}

/// Learned biases by bucket of distance, `[1, heads, queries, keys]`; `weight [buckets, heads]`.
pub(super) fn relative_bias(weight: Tensor<2>, max_distance: u64, lengths: Lengths) -> Tensor<4> {
    let [buckets, heads] = weight.dims();
    let mut chosen: Vec<f32> = Vec::new();
    for distance in lengths.distances() {
        let bucket = bucket(distance, buckets as u64, max_distance, !lengths.causal) as usize;
        chosen.extend((0..buckets).map(|other| if other == bucket { 1.0 } else { 0.0 }));
    }
    let count = chosen.len() / buckets;
    // A product and no lookup, so that the gradients of a bucket are summed in one order.
    let chosen: Tensor<2> = Tensor::from_data(TensorData::new(chosen, [count, buckets]), &weight.device().inner());
    let of_distance = chosen.matmul(weight).transpose().reshape([1, heads, 1, count]);
    along_diagonals(of_distance.expand([1, heads, lengths.queries, count]), lengths.keys)
}

/// The bucket of a distance from the query forward to the key (Raffel et al. 2020, section 2.1, as in Mesh TensorFlow):
/// half of the buckets for one distance each, the others for ranges that grow up to `max_distance`.
fn bucket(distance: i64, buckets: u64, max_distance: u64, bidirectional: bool) -> u64 {
    let (buckets, first, distance) = match (bidirectional, distance) {
        (true, d) => (buckets / 2, if d > 0 { buckets / 2 } else { 0 }, d.unsigned_abs()),
        (false, d) => (buckets, 0, d.min(0).unsigned_abs()),
    };
    let exact = (buckets / 2).max(1);
    if distance < exact {
        return first + distance.min(buckets - 1);
    }
    let growth = (distance as f32 / exact as f32).ln() / ((max_distance as f64 / exact as f64).ln() as f32);
    let further = (growth * (buckets - exact) as f32) as u64;
    first + (exact + further).min(buckets - 1)
}

/// Numbers that depend on the distance, put where that distance is: `x [b, heads, queries, queries + keys - 1]`, the last
/// axis ordered by the distance from the query forward to the key, to `[b, heads, queries, keys]`.
pub(super) fn along_diagonals(x: Tensor<4>, keys: usize) -> Tensor<4> {
    let [batch, heads, queries, count] = x.dims();
    if queries == 1 {
        return x;
    }
    // Row i begins i places earlier: one number is taken out of each row of the flat matrix.
    let flat = x.reshape([batch, heads, queries * count]).narrow(2, queries - 1, queries * (count - 1));
    flat.reshape([batch, heads, queries, count - 1]).narrow(3, 0, keys)
}

/// Sinusoids of the distances from the query back to the key, in the order of [`along_diagonals`]: sines, then cosines
/// (Dai et al. 2019), `[distances, hidden]`.
pub(super) fn sinusoids(lengths: Lengths, hidden: usize, device: &Device) -> Tensor<2> {
    let half = hidden.div_ceil(2);
    let mut data = Vec::new();
    for distance in lengths.distances() {
        let angle = |i: usize| -distance as f64 * 10_000f64.powf(-2.0 * i as f64 / hidden as f64);
        data.extend((0..half).map(|i| angle(i).sin() as f32));
        data.extend((0..hidden - half).map(|i| angle(i).cos() as f32));
    }
    let count = data.len() / hidden;
    Tensor::from_data(TensorData::new(data, [count, hidden]), device)
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Tensor, TensorData};

    use super::{along_diagonals, bucket};

    #[test]
    fn diagonals_hold_one_distance() {
        // Distances -1, 0, 1, 2 of two queries and three keys.
        let x: Vec<f32> = [-1.0, 0.0, 1.0, 2.0].repeat(2);
        let x: Tensor<4> = Tensor::from_data(TensorData::new(x, [1, 1, 2, 4]), &Device::flex());
        let placed: Vec<f32> = along_diagonals(x, 3).into_data().try_into_vec().expect("f32");
        assert_eq!(placed, [0.0, 1.0, 2.0, -1.0, 0.0, 1.0]);
    }

    #[test]
    fn buckets_are_those_of_t5() {
        // transformers' T5Attention._relative_position_bucket(torch.tensor(..), True, 32, 128), and False.
        let both = [-200, -20, -8, -7, 0, 1, 7, 8, 15, 127].map(|d| bucket(d, 32, 128, true));
        assert_eq!(both, [15, 10, 8, 7, 0, 17, 23, 24, 25, 31]);
        let back = [-200, -31, -16, -15, 0, 5].map(|d| bucket(d, 32, 128, false));
        assert_eq!(back, [31, 21, 16, 15, 0, 0]);
    }
}
