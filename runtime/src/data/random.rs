//! Random numbers that depend on nothing but their key.

/// SplitMix64 (Steele, Lea and Flood 2014): a full-period generator that is also a good mixer of its seed.
#[derive(Clone, Debug)]
pub(crate) struct SplitMix(u64);

impl SplitMix {
    /// The generator for a key of several numbers.
    pub(crate) fn keyed(key: &[u64]) -> Self {
        let mut state = Self(0x9e37_79b9_7f4a_7c15);
        for part in key {
            state = Self(state.next() ^ part);
        }
        state
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in [0, 1).
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A number below `bound`; the bias is below `bound / 2^64`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }
}

/// Where `index` goes in a shuffle of `0..len`: a four-round Feistel network on the next even power of two, walked until
/// it lands inside. A bijection for every key, without a table.
pub(super) fn shuffled(index: u64, len: u64, key: &[u64]) -> u64 {
    debug_assert!(index < len, "an index lies inside the shuffle");
    let half = (u64::BITS - (len - 1).leading_zeros()).div_ceil(2).max(1);
    let mask = (1 << half) - 1;
    let round_keys = {
        let mut random = SplitMix::keyed(key);
        [(); 4].map(|()| random.next())
    };
    let mut x = index;
    loop {
        let (mut left, mut right) = (x >> half, x & mask);
        for key in round_keys {
            (left, right) = (right, left ^ (SplitMix::keyed(&[key, right]).next() & mask));
        }
        x = left << half | right;
        if x < len {
            return x;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn splitmix_gives_the_published_numbers() {
        // First outputs for seed 1234567 of the reference implementation (prng.di.unimi.it/splitmix64.c).
        let mut random = SplitMix(1_234_567);
        assert_eq!([random.next(), random.next()], [6_457_827_717_110_365_317, 3_203_168_211_198_807_973]);
    }

    proptest! {
        #[test]
        fn a_shuffle_is_a_bijection(len in 1u64..600, seed in any::<u64>()) {
            let mut seen: Vec<u64> = (0..len).map(|i| shuffled(i, len, &[seed])).collect();
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..len).collect::<Vec<_>>());
        }
    }
}
