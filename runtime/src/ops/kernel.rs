//! Loops over plain numbers that Burn has no fused operator for, compiled for wide registers where the processor has them.

// The bodies must be inlined into functions that are compiled for wider registers; a hint is not enough.
#![expect(clippy::inline_always)]

/// Compiles a loop for the baseline, AVX2 and AVX-512, and picks at run time.
macro_rules! wide {
    ($(#[$doc:meta])* fn $name:ident($($argument:ident: $ty:ty),*) $(-> $result:ty)? $body:block) => {
        $(#[$doc])*
        pub(crate) fn $name($($argument: $ty),*) $(-> $result)? {
            #[inline(always)]
            fn body($($argument: $ty),*) $(-> $result)? $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma")]
                fn avx2($($argument: $ty),*) $(-> $result)? { body($($argument),*) }
                #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
                fn avx512($($argument: $ty),*) $(-> $result)? { body($($argument),*) }
                use std::arch::is_x86_feature_detected as has;
                if has!("avx512f") && has!("avx512vl") && has!("avx512dq") && has!("avx512bw") && has!("fma") {
                    // SAFETY: the processor has the features, as just asked.
                    return unsafe { avx512($($argument),*) };
                }
                if has!("avx2") && has!("fma") {
                    // SAFETY: the processor has the features, as just asked.
                    return unsafe { avx2($($argument),*) };
                }
            }
            body($($argument),*)
        }
    };
}
pub(crate) use wide;

/// `e^x` to two units in the last place, without a branch, so that loops over it become vector code: `2^n e^r` with
/// `|r| <= ln(2) / 2`, `e^r` by the polynomial of Cephes' `expf`. Below -87 it is 0 or tiny, above 88 it stays finite.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5 * 2^23: adding it leaves the nearest integer in the low bits.
    let x = x.clamp(-87.3, 88.3);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * 0.693_359_4 + n * 2.121_944_4e-4;
    let p = 1.987_569_1e-4;
    let p = p * r + 1.398_199_9e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 0.5;
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(0x3f80_0000));
    (p * r * r + r + 1.0) * power
}

const LANES: usize = 16;

/// Largest element; negative infinity for none.
#[inline(always)]
fn largest(row: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (chunks, rest) = row.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane = if *x > *lane { *x } else { *lane };
        }
    }
    lanes.iter().chain(rest).fold(f32::NEG_INFINITY, |max, x| if *x > max { *x } else { max })
}

/// Sum of all elements, in 16 interleaved sums.
#[inline(always)]
fn total(row: &[f32]) -> f32 {
    let mut lanes = [0.0; LANES];
    let (chunks, rest) = row.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane += x;
        }
    }
    lanes.iter().chain(rest).sum()
}

wide! {
    /// Replaces the scores of square matrices `[.., s, s]` by `e^(score - largest of its row)`, and gives the offset that
    /// [`super::tangent`] wants. Where `causal`, a row sees only the columns up to its own number; the others are zero.
    fn exponentials(scores: &mut [f32], s: usize, causal: bool) -> Vec<f32> {
        let mut offsets = vec![0.0; scores.len()];
        for (index, (row, offsets)) in scores.chunks_exact_mut(s).zip(offsets.chunks_exact_mut(s)).enumerate() {
            let (seen, hidden) = row.split_at_mut(if causal { index % s + 1 } else { s });
            let max = largest(seen);
            for (x, offset) in seen.iter_mut().zip(offsets) {
                let e = exp(*x - max);
                *offset = e - *x * e;
                *x = e;
            }
            hidden.fill(0.0);
        }
        offsets
    }
}

wide! {
    /// Replaces a row of logits by its softmax and returns the logarithm of the sum of their exponentials.
    fn softmax(row: &mut [f32]) -> f32 {
        let max = largest(row);
        for x in row.iter_mut() {
            *x = exp(*x - max);
        }
        let sum = total(row);
        let scale = 1.0 / sum;
        for x in row.iter_mut() {
            *x *= scale;
        }
        max + sum.ln()
    }
}

/// Replaces `x` by the slope of a function there and returns the value minus slope times `x`.
macro_rules! slopes {
    ($xs:ident, |$x:ident| $function:block) => {{
        let mut offsets = vec![0.0; $xs.len()];
        for (place, offset) in $xs.iter_mut().zip(&mut offsets) {
            let $x = *place;
            let (value, slope): (f32, f32) = $function;
            *place = slope;
            *offset = value - slope * $x;
        }
        offsets
    }};
}

wide! {
    /// `1 / (1 + e^-x)`.
    fn sigmoid(xs: &mut [f32]) -> Vec<f32> {
        slopes!(xs, |x| {
            let sigmoid = 1.0 / (1.0 + exp(-x));
            (sigmoid, sigmoid * (1.0 - sigmoid))
        })
    }
}

wide! {
    /// `x / (1 + e^-x)`.
    fn silu(xs: &mut [f32]) -> Vec<f32> {
        slopes!(xs, |x| {
            let sigmoid = 1.0 / (1.0 + exp(-x));
            (x * sigmoid, sigmoid * (1.0 + x * (1.0 - sigmoid)))
        })
    }
}

/// `sqrt(2 pi)`.
const ROOT_TAU: f32 = 2.506_628_3;

wide! {
    /// `x / 2 (1 + tanh u)` with `u = sqrt(2/pi) (x + 0.044715 x^3)`, written as `x sigmoid(2 u)`.
    fn gelu_tanh(xs: &mut [f32]) -> Vec<f32> {
        const TWICE_LINEAR: f32 = 1.595_769_2;
        const TWICE_CUBIC: f32 = 0.071_354_81;
        slopes!(xs, |x| {
            let sigmoid = 1.0 / (1.0 + exp(-x * (TWICE_LINEAR + TWICE_CUBIC * x * x)));
            let inner = TWICE_LINEAR + 3.0 * TWICE_CUBIC * x * x;
            (x * sigmoid, sigmoid + x * sigmoid * (1.0 - sigmoid) * inner)
        })
    }
}

wide! {
    /// `x Φ(x)`, with the error function by Abramowitz and Stegun 7.1.26 (absolute error below 1.5e-7).
    fn gelu(xs: &mut [f32]) -> Vec<f32> {
        slopes!(xs, |x| {
            let bell = exp(-0.5 * x * x);
            let t = 1.0 / (1.0 + 0.327_591_1 * std::f32::consts::FRAC_1_SQRT_2 * x.abs());
            let p = 1.061_405_4;
            let p = p * t - 1.453_152;
            let p = p * t + 1.421_413_7;
            let p = p * t - 0.284_496_74;
            let p = p * t + 0.254_829_6;
            let tail = 0.5 * p * t * bell;
            let phi = if x < 0.0 { tail } else { 1.0 - tail };
            (x * phi, phi + x * ROOT_TAU.recip() * bell)
        })
    }
}

/// Hyperbolic tangent.
pub(crate) fn tanh(xs: &mut [f32]) -> Vec<f32> {
    slopes!(xs, |x| {
        let value = x.tanh();
        (value, 1.0 - value * value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Points from -12 to 12.
    fn points() -> Vec<f32> {
        (-1200..=1200).map(|i| i as f32 / 100.0).collect()
    }

    #[test]
    fn exp_is_close_everywhere() {
        for i in -8700..=8800 {
            let x = i as f32 / 100.0;
            let exact = f64::from(x).exp();
            let relative = (f64::from(exp(x)) / exact - 1.0).abs();
            assert!(relative < 3e-7, "e^{x}: {} for {exact}", exp(x));
        }
        assert!((exp(0.0) - 1.0).abs() < f32::EPSILON);
        assert!(exp(-1e9) < 2e-38 && exp(1e9).is_finite());
    }

    /// Compares value and slope with `f` and its central difference.
    fn check(kernel: fn(&mut [f32]) -> Vec<f32>, f: fn(f64) -> f64) {
        let mut slopes = points();
        let offsets = kernel(&mut slopes);
        for ((x, slope), offset) in points().iter().zip(&slopes).zip(&offsets) {
            let (value, at) = (slope * x + offset, f64::from(*x));
            assert!((f64::from(value) - f(at)).abs() < 2e-6, "value {value} for {} at {x}", f(at));
            let exact = (f(at + 1e-5) - f(at - 1e-5)) / 2e-5;
            assert!((f64::from(*slope) - exact).abs() < 2e-6, "slope {slope} for {exact} at {x}");
        }
    }

    #[test]
    fn activations_have_the_right_value_and_slope() {
        check(gelu_tanh, |x| {
            let u = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
            0.5 * x * (1.0 + u.tanh())
        });
        check(tanh, f64::tanh);
        check(sigmoid, |x| 1.0 / (1.0 + (-x).exp()));
        check(silu, |x| x / (1.0 + (-x).exp()));
        check(gelu, |x| x * normal_cdf(x));
    }

    /// The normal distribution function by the trapezoid rule, good to 1e-9.
    fn normal_cdf(x: f64) -> f64 {
        let steps = 4000;
        let width = x / f64::from(steps);
        let bell = |i: i32| (-0.5 * (width * f64::from(i)).powi(2)).exp();
        let inner: f64 = (1..steps).map(bell).sum();
        0.5 + width * (inner + f64::midpoint(bell(0), bell(steps))) / std::f64::consts::TAU.sqrt()
    }

    #[test]
    fn softmax_of_large_logits_is_finite() {
        let mut row = vec![1000.0, 999.0, -1000.0];
        let log_sum = softmax(&mut row);
        assert!((log_sum - 1_000.313).abs() < 1e-3, "{log_sum}");
        assert!((row[0] - 0.731_058_6).abs() < 1e-6 && row[2] < 1e-30, "{row:?}");
    }

    #[test]
    fn hidden_scores_are_zero() {
        let mut scores: Vec<f32> = vec![1.0, 5.0, 2.0, 0.0];
        let offsets = exponentials(&mut scores, 2, true);
        assert_eq!(scores[..3], [1.0, 0.0, 1.0]);
        assert!((scores[3] - (-2.0f32).exp()).abs() < 1e-7);
        // value = slope * score + offset, with slope = value.
        assert!((scores[2] * 2.0 + offsets[2] - 1.0).abs() < 1e-6);
        assert!(offsets[1].abs() < f32::EPSILON);
    }
}
