//! Sums of updates that nobody needs to see one by one.
//!
//! Numbers are added as whole numbers modulo 2⁶⁴, in units of 2⁻³²: the order does not matter, and a mask that is uniform over
//! all 2⁶⁴ values leaves nothing to be seen of what it hides.

use std::collections::BTreeMap;
use std::fmt;

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use ring::agreement::{EphemeralPrivateKey, UnparsedPublicKey, X25519, agree_ephemeral};
use ring::rand::SystemRandom;

use crate::error::{Error, Result};

/// One, as a whole number.
const ONE: f64 = (1u64 << 32) as f64;
/// Larger numbers could overflow in a sum of a thousand.
const LARGEST: f64 = (1u64 << 52) as f64;
/// Sets the seeds of masks apart from other uses of an agreed secret.
const CONTEXT: &str = "portrait federated averaging: pairwise mask";

/// Which sum: a round of the training, and how often it was called anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Turn {
    /// From 1.
    pub round: u32,
    /// From 0.
    pub attempt: u32,
}

/// How a worker hands its numbers over so that their sum comes out.
pub trait SecureSum: Send + Sync + fmt::Debug {
    /// Changes the numbers of participant `own`; added to those of all other `participants` of this turn, modulo 2⁶⁴, they give
    /// the sum of what all had before.
    ///
    /// # Errors
    /// `Internal` when a participant is not known.
    fn hide(&self, turn: Turn, own: usize, participants: &[usize], numbers: &mut [u64]) -> Result<()>;

    /// Whether the sum is lost when one of the participants does not answer.
    fn needs_all(&self) -> bool;
}

/// Nothing is hidden.
#[derive(Debug, Clone, Copy, Default)]
pub struct Plain;

impl SecureSum for Plain {
    fn hide(&self, _: Turn, _: usize, _: &[usize], _: &mut [u64]) -> Result<()> {
        Ok(())
    }

    fn needs_all(&self) -> bool {
        false
    }
}

/// Masks that any two participants share, added by one and subtracted by the other (Bonawitz et al., 2017, without the
/// recovery of those who leave: their turn is called anew without them). Holds against a coordinator that is curious, not
/// against one that gives out keys of its own for those of workers.
pub struct PairwiseMasks {
    /// By the other's place.
    seeds: BTreeMap<usize, [u8; 32]>,
}

impl fmt::Debug for PairwiseMasks {
    /// Seeds are nobody's business.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PairwiseMasks").field("peers", &self.seeds.len()).finish_non_exhaustive()
    }
}

impl PairwiseMasks {
    /// With the seeds that are shared with each of the others.
    #[must_use]
    pub const fn new(seeds: BTreeMap<usize, [u8; 32]>) -> Self {
        Self { seeds }
    }
}

impl SecureSum for PairwiseMasks {
    fn hide(&self, turn: Turn, own: usize, participants: &[usize], numbers: &mut [u64]) -> Result<()> {
        for peer in participants.iter().filter(|peer| **peer != own) {
            let seed = self.seeds.get(peer).ok_or_else(|| Error::internal(format!("participant {peer} shares no seed")))?;
            let mut stream = ChaCha20Rng::from_seed(*seed);
            stream.set_stream(u64::from(turn.round) << 32 | u64::from(turn.attempt));
            for number in numbers.iter_mut() {
                let mask = stream.next_u64();
                *number = if own < *peer { number.wrapping_add(mask) } else { number.wrapping_sub(mask) };
            }
        }
        Ok(())
    }

    fn needs_all(&self) -> bool {
        true
    }
}

/// One worker's part of every key agreement: a key pair for each place that another one may have.
#[allow(missing_debug_implementations, reason = "holds private keys")]
pub struct Keys {
    own: Vec<EphemeralPrivateKey>,
    /// The public keys, by the other's place.
    pub public: Vec<Vec<u8>>,
}

impl Keys {
    /// For agreements with up to `places` others.
    ///
    /// # Errors
    /// `Internal` when the system gives no randomness.
    pub fn new(places: usize) -> Result<Self> {
        let failed = |_| Error::internal("no keys can be made");
        let random = SystemRandom::new();
        let own: Vec<EphemeralPrivateKey> =
            (0..places).map(|_| EphemeralPrivateKey::generate(&X25519, &random)).collect::<Result<_, _>>().map_err(failed)?;
        let public =
            own.iter().map(|key| key.compute_public_key().map(|key| key.as_ref().to_vec())).collect::<Result<_, _>>().map_err(failed)?;
        Ok(Self { own, public })
    }

    /// The masks of the one at place `own`, from everybody's public keys by place.
    ///
    /// # Errors
    /// `InvalidParameter` when a public key cannot be one.
    pub fn agree(self, own: usize, public: &[Vec<Vec<u8>>]) -> Result<PairwiseMasks> {
        let mut seeds = BTreeMap::new();
        for (peer, key) in self.own.into_iter().enumerate().take(public.len()).filter(|(peer, _)| *peer != own) {
            let theirs = public[peer].get(own).ok_or_else(|| Error::invalid("a worker has too few public keys"))?;
            let seed = agree_ephemeral(key, &UnparsedPublicKey::new(&X25519, theirs), |secret| blake3::derive_key(CONTEXT, secret));
            seeds.insert(peer, seed.map_err(|_| Error::invalid("the public key of a worker is not one"))?);
        }
        Ok(PairwiseMasks { seeds })
    }
}

/// As a whole number; `None` when it is too large to be added up.
#[must_use]
pub fn to_fixed(number: f64) -> Option<u64> {
    let scaled = (number * ONE).round();
    (scaled.abs() <= LARGEST).then_some(scaled as i64 as u64)
}

/// Back from a sum.
#[must_use]
pub fn from_fixed(number: u64) -> f64 {
    number as i64 as f64 / ONE
}

/// Adds `numbers` to `sum`.
pub fn add(sum: &mut [u64], numbers: &[u64]) {
    sum.iter_mut().zip(numbers).for_each(|(sum, number)| *sum = sum.wrapping_add(*number));
}

#[cfg(test)]
mod tests {
    use super::*;

    const TURN: Turn = Turn { round: 3, attempt: 0 };

    fn masks(count: usize) -> Vec<PairwiseMasks> {
        let keys: Vec<Keys> = (0..count).map(|_| Keys::new(count + 2).unwrap()).collect();
        let public: Vec<Vec<Vec<u8>>> = keys.iter().map(|keys| keys.public.clone()).collect();
        keys.into_iter().enumerate().map(|(own, keys)| keys.agree(own, &public).unwrap()).collect()
    }

    fn numbers(own: usize, length: usize) -> Vec<f64> {
        (0..length).map(|at| ((at * 7 + own * 13) as f64).sin() * 1000.0).collect()
    }

    fn fixed(numbers: &[f64]) -> Vec<u64> {
        numbers.iter().map(|number| to_fixed(*number).unwrap()).collect()
    }

    #[test]
    fn masked_sums_are_the_sums() {
        let masks = masks(5);
        for participants in [vec![0, 1, 2, 3, 4], vec![0, 3], vec![1, 2, 4]] {
            let mut sum = vec![0u64; 300];
            for own in &participants {
                let mut hidden = fixed(&numbers(*own, 300));
                masks[*own].hide(TURN, *own, &participants, &mut hidden).unwrap();
                add(&mut sum, &hidden);
            }
            for at in 0..300 {
                let expected: f64 = participants.iter().map(|own| numbers(*own, 300)[at]).sum();
                assert!((from_fixed(sum[at]) - expected).abs() < 1e-6, "{at}: {} instead of {expected}", from_fixed(sum[at]));
            }
        }
    }

    /// Every bit of a hidden update is set half of the time, whatever is hidden: in 64 bits of 20,000 numbers, and as bytes.
    #[test]
    fn a_masked_update_is_uniform() {
        let masks = masks(2);
        for plain in [vec![0u64; 20_000], fixed(&numbers(0, 20_000))] {
            let mut hidden = plain.clone();
            masks[0].hide(TURN, 0, &[0, 1], &mut hidden).unwrap();
            for bit in 0..64 {
                let set = hidden.iter().filter(|number| *number >> bit & 1 == 1).count() as f64;
                assert!((set - 10_000.0).abs() < 4.5 * 5000f64.sqrt(), "bit {bit}: {set}");
            }
            let mut counts = [0f64; 256];
            hidden.iter().flat_map(|number| number.to_le_bytes()).for_each(|byte| counts[byte as usize] += 1.0);
            let expected = 20_000.0 * 8.0 / 256.0;
            let squares: f64 = counts.iter().map(|count| (count - expected).powi(2) / expected).sum();
            // χ² with 255 degrees of freedom: mean 255, standard deviation 22.6.
            assert!((150.0..370.0).contains(&squares), "{squares}");
            // Nothing of the plain numbers is left: neither is correlated with the other.
            let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
            let (a, b): (Vec<f64>, Vec<f64>) =
                (plain.iter().map(|x| from_fixed(*x)).collect(), hidden.iter().map(|x| *x as i64 as f64).collect());
            let (mean_a, mean_b) = (mean(&a), mean(&b));
            let products: f64 = a.iter().zip(&b).map(|(x, y)| (x - mean_a) * (y - mean_b)).sum();
            let norm = |values: &[f64], mean: f64| values.iter().map(|x| (x - mean).powi(2)).sum::<f64>().sqrt();
            let norms = norm(&a, mean_a) * norm(&b, mean_b);
            assert!(norms == 0.0 || (products / norms).abs() < 0.03);
        }
    }

    #[test]
    fn no_mask_is_used_twice() {
        let masks = masks(2);
        let hidden = |turn: Turn| {
            let mut numbers = vec![0u64; 50];
            masks[0].hide(turn, 0, &[0, 1], &mut numbers).unwrap();
            numbers
        };
        let all = [hidden(TURN), hidden(Turn { attempt: 1, ..TURN }), hidden(Turn { round: 4, ..TURN })];
        assert!(all[0] != all[1] && all[1] != all[2] && all[0] != all[2]);
    }

    #[test]
    fn numbers_too_large_are_refused() {
        assert!(to_fixed(1e9).is_none() && to_fixed(f64::NAN).is_none() && to_fixed(f64::INFINITY).is_none());
        assert_eq!(from_fixed(to_fixed(-12.5).unwrap()), -12.5);
    }
}
