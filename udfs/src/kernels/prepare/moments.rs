//! Count, sum, sum of squares and range of numbers, and of pairs; mergeable, in twice the precision of a double.

/// A sum as an unevaluated pair of doubles (Dekker, 1971): about 106 bits, so that the order of addition is not seen in the
/// 53 bits that are returned.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Sum {
    /// The sum, rounded.
    pub high: f64,
    /// What rounding left out.
    pub low: f64,
}

/// `a + b` and its rounding error (Knuth).
#[inline]
fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let sum = a + b;
    let virtual_b = sum - a;
    (sum, (a - (sum - virtual_b)) + (b - virtual_b))
}

/// Halves of a double's significand (Veltkamp).
#[inline]
fn split(a: f64) -> (f64, f64) {
    let scaled = 134_217_729.0 * a;
    let high = scaled - (scaled - a);
    (high, a - high)
}

/// `a * b` and its rounding error (Dekker).
#[inline]
fn two_product(a: f64, b: f64) -> (f64, f64) {
    let product = a * b;
    let ((a_high, a_low), (b_high, b_low)) = (split(a), split(b));
    (product, ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low)
}

impl Sum {
    #[inline]
    fn normal(high: f64, low: f64) -> Self {
        let sum = high + low;
        // Beyond the range of a double there is no error term, only infinity.
        if sum.is_finite() { Self { high: sum, low: low - (sum - high) } } else { Self { high, low: 0.0 } }
    }

    /// Adds a number.
    #[inline]
    pub fn add(&mut self, value: f64) {
        let (sum, error) = two_sum(self.high, value);
        *self = Self::normal(sum, error + self.low);
    }

    /// Adds a product, without rounding it first.
    #[inline]
    pub fn add_product(&mut self, a: f64, b: f64) {
        let (product, error) = two_product(a, b);
        let (sum, carried) = two_sum(self.high, product);
        *self = Self::normal(sum, carried + (self.low + if error.is_finite() { error } else { 0.0 }));
    }

    /// Adds another sum.
    #[inline]
    pub fn merge(&mut self, other: Self) {
        let (sum, error) = two_sum(self.high, other.high);
        *self = Self::normal(sum, error + (self.low + other.low));
    }

    /// The sum as a double.
    #[must_use]
    pub fn value(self) -> f64 {
        self.high + self.low
    }

    /// `self - a * b / n`, in the same precision.
    fn minus_product_over(self, a: Self, b: Self, n: f64) -> f64 {
        // a*b/n with the quotient's own remainder.
        let (product, error) = two_product(a.high, b.high);
        let error = error + a.high * b.low + a.low * b.high;
        let quotient = product / n;
        let (back, back_error) = two_product(quotient, n);
        let rest = ((product - back) - back_error + error) / n;
        let (difference, lost) = two_sum(self.high, -quotient);
        difference + (lost + self.low - rest)
    }
}

/// Moments of one column.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Moments {
    /// How many numbers.
    pub count: u64,
    /// Their sum.
    pub sum: Sum,
    /// The sum of their squares.
    pub squares: Sum,
    /// The least; infinite when there is none.
    pub min: f64,
    /// The greatest; minus infinite when there is none.
    pub max: f64,
}

impl Default for Moments {
    fn default() -> Self {
        Self { count: 0, sum: Sum::default(), squares: Sum::default(), min: f64::INFINITY, max: f64::NEG_INFINITY }
    }
}

impl Moments {
    /// Adds a number; NaN is none.
    #[inline]
    pub fn add(&mut self, value: f64) {
        if value.is_nan() {
            return;
        }
        self.count += 1;
        self.sum.add(value);
        self.squares.add_product(value, value);
        self.min = self.min.min(value);
        self.max = self.max.max(value);
    }

    /// Moments of a slice. O(n).
    #[must_use]
    pub fn of(values: &[f64]) -> Self {
        let mut moments = Self::default();
        values.iter().for_each(|value| moments.add(*value));
        moments
    }

    /// Adds what another part of the column gave.
    pub fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.sum.merge(other.sum);
        self.squares.merge(other.squares);
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }

    /// The mean; `None` without numbers.
    #[must_use]
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| (self.sum.value() / self.count as f64).clamp(self.min, self.max))
    }

    /// The sum of squared differences from the mean; exactly zero when all numbers are equal.
    #[must_use]
    pub fn squared_deviations(&self) -> f64 {
        if self.count == 0 || self.min == self.max {
            return 0.0;
        }
        self.squares.minus_product_over(self.sum, self.sum, self.count as f64).max(0.0)
    }

    /// The standard deviation with `n - ddof` below the line; `None` when that is not positive.
    #[must_use]
    pub fn deviation(&self, ddof: u64) -> Option<f64> {
        (self.count > ddof).then(|| (self.squared_deviations() / (self.count - ddof) as f64).sqrt())
    }

    /// Whether every number was finite and so is their sum of squares.
    #[must_use]
    pub fn is_finite(&self) -> bool {
        self.squares.value().is_finite() && self.sum.value().is_finite()
    }
}

/// Moments of pairs where both numbers are there.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct PairMoments {
    /// The first numbers of the pairs.
    pub x: Moments,
    /// The second ones.
    pub y: Moments,
    /// The sum of their products.
    pub products: Sum,
}

impl PairMoments {
    /// Adds a pair; one with a NaN is none.
    #[inline]
    pub fn add(&mut self, x: f64, y: f64) {
        if x.is_nan() || y.is_nan() {
            return;
        }
        self.x.add(x);
        self.y.add(y);
        self.products.add_product(x, y);
    }

    /// Adds what another part of the rows gave.
    pub fn merge(&mut self, other: &Self) {
        self.x.merge(&other.x);
        self.y.merge(&other.y);
        self.products.merge(other.products);
    }

    /// The sum of products of the differences from the means.
    #[must_use]
    pub fn co_deviations(&self) -> f64 {
        if self.x.count == 0 || self.x.min == self.x.max || self.y.min == self.y.max {
            return 0.0;
        }
        self.products.minus_product_over(self.x.sum, self.y.sum, self.x.count as f64)
    }

    /// Pearson's correlation; `None` with fewer than two pairs or when one side does not vary.
    #[must_use]
    pub fn correlation(&self) -> Option<f64> {
        let (x, y) = (self.x.squared_deviations(), self.y.squared_deviations());
        let spread = x.sqrt() * y.sqrt();
        (self.x.count > 1 && x > 0.0 && y > 0.0 && spread.is_finite()).then(|| (self.co_deviations() / spread).clamp(-1.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::splitmix;

    #[test]
    fn deviations_survive_cancellation() {
        // numpy.std of 1e9 + [4, 7, 13, 16]; the naive formula gives 0 or worse.
        let moments = Moments::of(&[1e9 + 4.0, 1e9 + 7.0, 1e9 + 13.0, 1e9 + 16.0]);
        assert_eq!(moments.mean(), Some(1e9 + 10.0));
        assert_eq!(moments.squared_deviations(), 90.0);
        assert_eq!(moments.deviation(1), Some(30_f64.sqrt()));
        assert_eq!(Moments::of(&[0.1; 1000]).squared_deviations(), 0.0);
        assert_eq!((Moments::default().mean(), Moments::of(&[1.0]).deviation(1)), (None, None));
    }

    #[test]
    fn order_and_splits_do_not_matter() {
        for seed in 0..200 {
            let value = |i: u64| (splitmix::fraction(seed, i) - 0.5) * 10_f64.powi((splitmix::at(seed + 1, i) % 12) as i32);
            let mut values: Vec<f64> = (0..500).map(value).collect();
            let whole = Moments::of(&values);
            splitmix::shuffle(&mut values, seed);
            let cut = splitmix::at(seed, 9) as usize % values.len();
            let mut parts = Moments::of(&values[cut..]);
            parts.merge(&Moments::of(&values[..cut]));
            assert_eq!(parts.mean(), whole.mean());
            assert_eq!(parts.deviation(0), whole.deviation(0), "{seed}");
            assert_eq!(parts.sum.value(), whole.sum.value());
        }
    }

    #[test]
    fn infinities_stay() {
        assert!(!Moments::of(&[1.0, f64::INFINITY]).is_finite());
        assert!(!Moments::of(&[1e200, -1e200]).is_finite());
        assert_eq!(Moments::of(&[1.0, f64::NAN, 3.0]).mean(), Some(2.0));
    }

    #[test]
    fn correlations() {
        let mut pairs = PairMoments::default();
        for (x, y) in [(1.0, 2.0), (2.0, 4.1), (3.0, 5.9), (f64::NAN, 7.0), (4.0, 8.2)] {
            pairs.add(x, y);
        }
        // numpy.corrcoef([1,2,3,4], [2,4.1,5.9,8.2])[0,1]
        assert!((pairs.correlation().unwrap() - 0.998_992_298_023_759_2).abs() < 1e-12, "{:?}", pairs.correlation());
        assert_eq!(PairMoments::default().correlation(), None);
    }
}
