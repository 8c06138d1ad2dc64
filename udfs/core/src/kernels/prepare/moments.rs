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
        // The root of the product gives a column with itself exactly 1; beyond the range of a double the product of roots does.
        let product = x * y;
        let spread = if product.is_normal() { product.sqrt() } else { x.sqrt() * y.sqrt() };
        (self.x.count > 1 && x > 0.0 && y > 0.0 && spread.is_finite()).then(|| (self.co_deviations() / spread).clamp(-1.0, 1.0))
    }
}

/// Moments of all pairs of some columns, rows taken pair by pair where both numbers are there.
#[derive(Debug, Clone, PartialEq)]
pub struct PairTable {
    columns: usize,
    /// Of columns (i, j ≥ i), row by row of the upper triangle.
    pairs: Vec<PairMoments>,
}

impl PairTable {
    /// No rows yet.
    #[must_use]
    pub fn new(columns: usize) -> Self {
        Self { columns, pairs: vec![PairMoments::default(); columns * (columns + 1) / 2] }
    }

    /// Adds rows: one slice a column, of one length. O(rows · columns²).
    pub fn add(&mut self, columns: &[Vec<f64>]) {
        let whole: Vec<Option<Moments>> =
            columns.iter().map(|column| (!column.iter().any(|x| x.is_nan())).then(|| Moments::of(column))).collect();
        for i in 0..self.columns.min(columns.len()) {
            for j in i..self.columns.min(columns.len()) {
                let at = self.index(i, j);
                let pair = &mut self.pairs[at];
                match (&whole[i], &whole[j]) {
                    // Nothing is missing: the columns' own moments are the pair's.
                    (Some(x), Some(y)) => {
                        pair.x.merge(x);
                        pair.y.merge(y);
                        columns[i].iter().zip(&columns[j]).for_each(|(x, y)| pair.products.add_product(*x, *y));
                    }
                    _ => columns[i].iter().zip(&columns[j]).for_each(|(x, y)| pair.add(*x, *y)),
                }
            }
        }
    }

    const fn index(&self, i: usize, j: usize) -> usize {
        i * self.columns - i * (i + 1) / 2 + j
    }

    /// Takes in other rows.
    pub fn merge(&mut self, other: &Self) {
        self.pairs.iter_mut().zip(&other.pairs).for_each(|(mine, theirs)| mine.merge(theirs));
    }

    /// The moments of a pair; the order of the columns does not matter.
    #[must_use]
    pub fn pair(&self, i: usize, j: usize) -> Option<&PairMoments> {
        self.pairs.get(self.index(i.min(j), i.max(j)))
    }

    /// Covariances with `n - 1` below the line, row by row of the whole matrix.
    #[must_use]
    pub fn covariances(&self) -> Vec<f64> {
        let size = self.columns;
        let covariance = |at: usize| {
            let (i, j) = (at / size, at % size);
            let pair = self.pair(i, j)?;
            let sum = if i == j { pair.x.squared_deviations() } else { pair.co_deviations() };
            (pair.x.count > 1).then(|| sum / (pair.x.count - 1) as f64)
        };
        (0..size * size).map(|at| covariance(at).unwrap_or(0.0)).collect()
    }

    /// The bytes it holds.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.pairs.capacity() * size_of::<PairMoments>()
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
    fn tables_of_pairs_are_pairs() {
        let value = |i: u64, hole: u64| if splitmix::at(5, i).is_multiple_of(hole) { f64::NAN } else { splitmix::fraction(6, i) * 9.0 };
        let columns: Vec<Vec<f64>> =
            (0..3).map(|c| (0..300).map(|i| value(c * 1000 + i, if c == 0 { u64::MAX } else { 7 })).collect()).collect();
        let mut table = PairTable::new(3);
        table.add(&columns);
        let mut halves = PairTable::new(3);
        let mut rest = PairTable::new(3);
        rest.add(&columns.iter().map(|column| column[..77].to_vec()).collect::<Vec<_>>());
        halves.add(&columns.iter().map(|column| column[77..].to_vec()).collect::<Vec<_>>());
        halves.merge(&rest);
        for i in 0..3 {
            for j in 0..3 {
                let mut pair = PairMoments::default();
                columns[i].iter().zip(&columns[j]).for_each(|(x, y)| pair.add(*x, *y));
                assert_eq!(table.pair(i, j).unwrap().correlation(), pair.correlation());
                assert_eq!(halves.pair(i, j).unwrap().correlation(), pair.correlation());
                assert_eq!(table.pair(i, j).unwrap().x.count, pair.x.count);
            }
        }
        assert_eq!(table.covariances()[4], table.pair(1, 1).unwrap().x.deviation(1).unwrap().powi(2));
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
