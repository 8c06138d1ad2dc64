//! The randomness that privacy rests on: ChaCha20 with a key from the operating system, used once and never stored.
//!
//! The seeded Philox of training must not be used for it: who knows the seed could take the noise off again.

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use crate::error::{Error, Result};

/// Streams of parameters stay below it, those of samples lie above.
const SAMPLES: u64 = 1 << 63;
/// Streams of one step at most.
const STREAMS_OF_A_STEP: u64 = 1 << 28;

/// A secret key with its streams; any thread may compute any of them.
pub(crate) struct Noise([u8; 32]);

impl std::fmt::Debug for Noise {
    /// The key is nobody's business.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Noise")
    }
}

impl Noise {
    /// With a key from the operating system.
    ///
    /// # Errors
    /// `Internal` when the system has no randomness to give.
    pub(crate) fn from_system() -> Result<Self> {
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(|error| Error::internal(format!("the system gives no randomness: {error}")))?;
        Ok(Self(key))
    }

    /// With a known key.
    #[cfg(test)]
    pub(crate) fn from_key(key: [u8; 32]) -> Self {
        Self(key)
    }

    fn stream(&self, stream: u64) -> Stream {
        let mut random = ChaCha20Rng::from_seed(self.0);
        random.set_stream(stream);
        Stream { random, spare: None }
    }

    /// Part `part` of the noise of step `step`.
    pub(crate) fn of_step(&self, step: u32, part: u64) -> Stream {
        assert!(part < STREAMS_OF_A_STEP);
        self.stream(u64::from(step) * STREAMS_OF_A_STEP + part)
    }

    /// Each of `0..count` with probability `rate`, ascending: the Poisson sample of step `step`, in time proportional to
    /// its size.
    pub(crate) fn sample(&self, step: u32, count: usize, rate: f64) -> Vec<u32> {
        if rate >= 1.0 {
            return (0..count as u32).collect();
        }
        let (mut stream, mut at, mut chosen) = (self.stream(SAMPLES | u64::from(step)), 0.0, Vec::new());
        loop {
            // The number of failures before a success is geometric.
            at += (stream.uniform().ln() / (-rate).ln_1p()).floor();
            if at >= count as f64 {
                return chosen;
            }
            chosen.push(at as u32);
            at += 1.0;
        }
    }
}

/// One stream of numbers.
pub(crate) struct Stream {
    random: ChaCha20Rng,
    spare: Option<f64>,
}

impl Stream {
    /// Uniform in `(0, 1]`.
    fn uniform(&mut self) -> f64 {
        ((self.random.next_u64() >> 11) + 1) as f64 / (1u64 << 53) as f64
    }

    fn box_muller(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        let (radius, angle) = ((-2.0 * self.uniform().ln()).sqrt(), std::f64::consts::TAU * self.uniform());
        self.spare = Some(radius * angle.sin());
        radius * angle.cos()
    }

    /// Standard normal: half the sum of four, whose holes (a double has only so many values) nobody can look through
    /// (Holohan & Braghin, "Secure random sampling in differential privacy", 2021).
    pub(crate) fn normal(&mut self) -> f64 {
        0.5 * (self.box_muller() + self.box_muller() + self.box_muller() + self.box_muller())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normals_have_their_moments_and_streams_differ() {
        let noise = Noise::from_key([7; 32]);
        let mut stream = noise.of_step(3, 1);
        let values: Vec<f64> = (0..40_000).map(|_| stream.normal()).collect();
        let moment = |power: i32| values.iter().map(|value| value.powi(power)).sum::<f64>() / values.len() as f64;
        assert!(moment(1).abs() < 0.02 && (moment(2) - 1.0).abs() < 0.03 && (moment(4) - 3.0).abs() < 0.2);
        let first = |step, part| noise.of_step(step, part).normal();
        assert_eq!(first(3, 1), values[0]);
        assert_ne!(first(3, 2), values[0]);
        assert_ne!(first(4, 1), values[0]);
        assert_ne!(Noise::from_system().unwrap().of_step(3, 1).normal(), Noise::from_system().unwrap().of_step(3, 1).normal());
    }

    #[test]
    fn a_poisson_sample_takes_each_with_its_probability() {
        let noise = Noise::from_key([1; 32]);
        let (count, rate, steps) = (500, 0.1, 400);
        let mut taken = vec![0u32; count];
        let mut sizes = Vec::new();
        for step in 0..steps {
            let chosen = noise.sample(step, count, rate);
            assert!(chosen.windows(2).all(|pair| pair[0] < pair[1]));
            sizes.push(chosen.len() as f64);
            chosen.into_iter().for_each(|at| taken[at as usize] += 1);
        }
        let mean = sizes.iter().sum::<f64>() / f64::from(steps);
        let variance = sizes.iter().map(|size| (size - mean).powi(2)).sum::<f64>() / f64::from(steps);
        assert!((mean - 50.0).abs() < 1.5 && (variance - 45.0).abs() < 12.0, "{mean} {variance}");
        assert!(taken.iter().all(|times| (8..=85).contains(times)), "{taken:?}");
        assert_eq!(noise.sample(1, 5, 1.0), [0, 1, 2, 3, 4]);
        assert!(noise.sample(1, 0, 0.5).is_empty());
    }
}
