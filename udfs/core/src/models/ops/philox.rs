//! Counter-based random numbers: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011).
//!
//! A number is a pure function of (seed, stream, step, index), so any thread can compute any of them in any order
//! and the result is the same. Used for initial weights, dropout, shuffles and splits; never for secrets.

const MULTIPLIER: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
const ROUNDS: usize = 10;

/// One block: 128 bits of counter and 64 bits of key give 128 random bits.
#[inline(always)]
pub fn philox4x32(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for round in 0..ROUNDS {
        if round > 0 {
            key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
        }
        let first = u64::from(counter[0]) * u64::from(MULTIPLIER[0]);
        let second = u64::from(counter[2]) * u64::from(MULTIPLIER[1]);
        counter = [(second >> 32) as u32 ^ counter[1] ^ key[0], second as u32, (first >> 32) as u32 ^ counter[3] ^ key[1], first as u32];
    }
    counter
}

/// Counters computed side by side.
pub(super) const LANES: usize = 16;

/// [`philox4x32`] of `LANES` counters that differ in their first word, word by word, so that it vectorises.
#[inline(always)]
pub(super) fn philox4x32_lanes(first: [u32; LANES], rest: [u32; 3], mut key: [u32; 2]) -> [[u32; LANES]; 4] {
    let mut counter = [first, [rest[0]; LANES], [rest[1]; LANES], [rest[2]; LANES]];
    for round in 0..ROUNDS {
        if round > 0 {
            key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
        }
        for lane in 0..LANES {
            let first = u64::from(counter[0][lane]) * u64::from(MULTIPLIER[0]);
            let second = u64::from(counter[2][lane]) * u64::from(MULTIPLIER[1]);
            counter[0][lane] = (second >> 32) as u32 ^ counter[1][lane] ^ key[0];
            counter[1][lane] = second as u32;
            counter[2][lane] = (first >> 32) as u32 ^ counter[3][lane] ^ key[1];
            counter[3][lane] = first as u32;
        }
    }
    counter
}

/// A stream of random numbers: key = seed, counter = (index, stream, step).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Philox {
    key: [u32; 2],
    stream: u32,
    step: u32,
}

impl Philox {
    /// The stream `stream` of `seed`, at step 0.
    pub fn new(seed: u64, stream: u32) -> Self {
        Self { key: [seed as u32, (seed >> 32) as u32], stream, step: 0 }
    }

    /// The stream named `name`: names give independent streams (FNV-1a).
    pub fn named(seed: u64, name: &str) -> Self {
        let hash = name.bytes().fold(0x811C_9DC5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        Self::new(seed, hash)
    }

    /// The same stream at another step (epoch, batch …).
    #[must_use]
    pub fn at_step(self, step: u32) -> Self {
        Self { step, ..self }
    }

    /// Another stream of the same seed and step, for example one per layer.
    #[must_use]
    pub fn fork(self, index: u32) -> Self {
        Self { stream: self.stream.wrapping_mul(0x9E37_79B1).wrapping_add(index.wrapping_mul(0x85EB_CA77)).wrapping_add(1), ..self }
    }

    /// Key, stream and step, for kernels that compute the same numbers elsewhere.
    pub(in super::super) const fn words(self) -> [u32; 4] {
        [self.key[0], self.key[1], self.stream, self.step]
    }

    /// The `index`-th block of four numbers.
    #[inline(always)]
    pub fn block(self, index: u64) -> [u32; 4] {
        philox4x32([index as u32, (index >> 32) as u32, self.stream, self.step], self.key)
    }

    /// Blocks `16 · group … 16 · group + 15`, word by word. Groups count to 2²⁸.
    #[inline(always)]
    pub(super) fn group(self, group: u32) -> [[u32; LANES]; 4] {
        let mut first = [0; LANES];
        for (lane, first) in first.iter_mut().enumerate() {
            *first = group.wrapping_mul(LANES as u32).wrapping_add(lane as u32);
        }
        philox4x32_lanes(first, [0, self.stream, self.step], self.key)
    }

    /// The `index`-th number, uniform in `[0, 1)`.
    pub fn uniform(self, index: u64) -> f64 {
        let block = self.block(index >> 1);
        let at = (index & 1) as usize * 2;
        let bits = (u64::from(block[at]) << 32) | u64::from(block[at + 1]);
        (bits >> 11) as f64 / (1u64 << 53) as f64
    }

    /// The `index`-th number, standard normal (Box–Muller).
    pub fn normal(self, index: u64) -> f64 {
        let pair = index >> 1;
        let radius = (-2.0 * (1.0 - self.uniform(pair * 2)).ln()).sqrt();
        let angle = std::f64::consts::TAU * self.uniform(pair * 2 + 1);
        if index & 1 == 0 { radius * angle.cos() } else { radius * angle.sin() }
    }

    /// The `index`-th number, uniform in `0..bound` (multiply-shift of 64 bits; bias below 2⁻³²).
    pub fn below(self, index: u64, bound: u32) -> u32 {
        let block = self.block(index >> 1);
        let at = (index & 1) as usize * 2;
        let bits = (u64::from(block[at]) << 32) | u64::from(block[at + 1]);
        ((u128::from(bits) * u128::from(bound)) >> 64) as u32
    }

    /// Shuffles in place (Fisher–Yates).
    pub fn shuffle<T>(self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u64, last as u32 + 1) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known answers of the Random123 distribution (`kat_vectors`, philox4x32 10).
    #[test]
    fn known_answers() {
        let cases = [
            ([0; 4], [0; 2], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]),
            ([u32::MAX; 4], [u32::MAX; 2], [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]),
            (
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0],
                [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
            ),
        ];
        for (counter, key, expected) in cases {
            assert_eq!(philox4x32(counter, key), expected);
        }
    }

    #[test]
    fn groups_are_sixteen_blocks() {
        let random = Philox::new(3, 4).at_step(5);
        for group in [0, 7] {
            let words = random.group(group);
            for lane in 0..LANES {
                let block = random.block(u64::from(group) * LANES as u64 + lane as u64);
                assert_eq!([words[0][lane], words[1][lane], words[2][lane], words[3][lane]], block);
            }
        }
    }

    #[test]
    fn moments_and_streams() {
        let (a, b) = (Philox::named(7, "a"), Philox::named(7, "b"));
        let count = 20_000u64;
        let mean = (0..count).map(|i| a.uniform(i)).sum::<f64>() / count as f64;
        assert!((mean - 0.5).abs() < 0.01, "{mean}");
        let variance = (0..count).map(|i| a.normal(i).powi(2)).sum::<f64>() / count as f64;
        assert!((variance - 1.0).abs() < 0.05, "{variance}");
        let covariance = (0..count).map(|i| (a.uniform(i) - 0.5) * (b.uniform(i) - 0.5)).sum::<f64>() / count as f64;
        assert!(covariance.abs() < 0.005, "{covariance}");
        assert_ne!(a.at_step(1).uniform(0), a.uniform(0));
    }

    #[test]
    fn shuffle_is_a_permutation() {
        let mut items: Vec<u32> = (0..1000).collect();
        Philox::new(1, 2).shuffle(&mut items);
        assert_ne!(items[..10], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
        items.sort_unstable();
        assert_eq!(items, (0..1000).collect::<Vec<_>>());
    }
}
