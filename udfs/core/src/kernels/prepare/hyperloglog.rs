//! How many distinct values, in a fixed kilobytes: HyperLogLog (Flajolet et al., 2007) with Ertl's estimator (2017).
//!
//! The registers are a maximum over the set of hashes, so neither order nor repetition nor the way parts are merged is seen.

/// Bits of the hash that name a register: 4096 registers, a standard error of 1.6 %.
const PRECISION: u32 = 12;
const REGISTERS: usize = 1 << PRECISION;

/// The sketch; 4 KiB.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HyperLogLog {
    registers: Vec<u8>,
}

impl Default for HyperLogLog {
    fn default() -> Self {
        Self { registers: vec![0; REGISTERS] }
    }
}

impl HyperLogLog {
    /// Adds a value by its 64-bit hash.
    #[inline]
    pub fn add(&mut self, hash: u64) {
        let index = (hash >> (64 - PRECISION)) as usize;
        let rank = ((hash << PRECISION) | (1 << (PRECISION - 1))).leading_zeros() as u8 + 1;
        if let Some(register) = self.registers.get_mut(index) {
            *register = (*register).max(rank);
        }
    }

    /// Takes in the values of another sketch.
    pub fn merge(&mut self, other: &Self) {
        self.registers.iter_mut().zip(&other.registers).for_each(|(mine, theirs)| *mine = (*mine).max(*theirs));
    }

    /// The estimate.
    #[must_use]
    pub fn count(&self) -> u64 {
        let q = (64 - PRECISION) as usize;
        let mut histogram = vec![0_u32; q + 2];
        for register in &self.registers {
            if let Some(n) = histogram.get_mut(usize::from(*register)) {
                *n += 1;
            }
        }
        let m = REGISTERS as f64;
        let mut z = m * tau(1.0 - f64::from(histogram[q + 1]) / m);
        for k in (1..=q).rev() {
            z = 0.5 * (z + f64::from(histogram[k]));
        }
        z += m * sigma(f64::from(histogram[0]) / m);
        (m * m / (2.0 * std::f64::consts::LN_2 * z)).round() as u64
    }

    /// The bytes it holds.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.registers.capacity()
    }
}

fn sigma(mut x: f64) -> f64 {
    if x >= 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut z) = (1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if z == before {
            return z;
        }
    }
}

fn tau(mut x: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return 0.0;
    }
    let (mut y, mut z) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x) * (1.0 - x) * y;
        if z == before {
            return z / 3.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::folds::hash;
    use super::*;

    #[test]
    fn counts_within_a_few_per_cent() {
        for n in [0_u64, 1, 10, 1_000, 20_000, 300_000] {
            let mut sketch = HyperLogLog::default();
            (0..n).for_each(|i| sketch.add(hash(&i.to_le_bytes(), 0)));
            let off = (sketch.count() as f64 - n as f64).abs();
            assert!(off <= 0.05 * n as f64, "{n}: {}", sketch.count());
        }
    }

    #[test]
    fn a_union_is_a_union() {
        let (mut a, mut b, mut both) = (HyperLogLog::default(), HyperLogLog::default(), HyperLogLog::default());
        for i in 0..5_000_u64 {
            let hash = hash(&i.to_le_bytes(), 0);
            if i % 3 != 0 {
                a.add(hash)
            } else {
                b.add(hash)
            }
            both.add(hash);
            both.add(hash);
        }
        a.merge(&b);
        assert_eq!(a, both);
    }
}
