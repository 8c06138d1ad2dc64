//! Counts, means, variances and covariances from exact sums: equal bit for bit however the values were split.

use super::exact::ExactSum;
use super::wire::{Reader, put_u64};

/// n, Σx, Σx².
#[derive(Debug, Clone, Default)]
pub struct Moments {
    count: u64,
    sum: ExactSum,
    squares: ExactSum,
}

impl Moments {
    /// Adds a value.
    pub fn add(&mut self, value: f64) {
        self.count += 1;
        self.sum.add(value);
        self.squares.add_product(value, value);
    }

    /// Adds what `other` saw.
    pub fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.sum.merge(&other.sum);
        self.squares.merge(&other.squares);
    }

    /// What a test needs.
    #[must_use]
    pub fn summary(&self) -> Summary {
        Summary {
            count: self.count,
            mean: self.sum.value() / self.count as f64,
            variance: covariance(self.count, &self.sum, &self.sum, &self.squares),
        }
    }

    /// The difference of the means, rounded once before the division: small differences of large means stay exact.
    #[must_use]
    pub fn mean_difference(&self, other: &Self) -> f64 {
        mean_difference((self.count, &self.sum), (other.count, &other.sum))
    }

    /// Bytes on the heap.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        self.sum.heap_bytes() + self.squares.heap_bytes()
    }

    /// Appends its bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_u64(out, self.count);
        self.sum.encode(out);
        self.squares.encode(out);
    }

    /// Reads what [`encode`](Self::encode) wrote.
    pub fn decode(from: &mut Reader<'_>) -> Option<Self> {
        Some(Self { count: from.u64()?, sum: ExactSum::decode(from)?, squares: ExactSum::decode(from)? })
    }
}

fn mean_difference((a_count, a): (u64, &ExactSum), (b_count, b): (u64, &ExactSum)) -> f64 {
    let difference = a.times_count(b_count).minus(&b.times_count(a_count));
    difference.value() / (a_count as f64 * b_count as f64)
}

/// `(n Σxy − Σx Σy) / (n (n − 1))`, rounded once before the division.
fn covariance(count: u64, x: &ExactSum, y: &ExactSum, products: &ExactSum) -> f64 {
    let numerator = products.times_count(count).minus(&x.times(y)).value();
    numerator / (count as f64 * (count as f64 - 1.0))
}

/// Count, mean and unbiased variance of a sample; NaN where too few values were seen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Summary {
    /// Values.
    pub count: u64,
    /// Mean.
    pub mean: f64,
    /// Unbiased variance.
    pub variance: f64,
}

impl Summary {
    /// The squared standard error of the mean.
    #[must_use]
    pub fn mean_variance(&self) -> f64 {
        self.variance / self.count as f64
    }
}

/// Moments of pairs.
#[derive(Debug, Clone, Default)]
pub struct PairMoments {
    count: u64,
    x: ExactSum,
    y: ExactSum,
    xx: ExactSum,
    yy: ExactSum,
    xy: ExactSum,
}

impl PairMoments {
    /// Adds a pair.
    pub fn add(&mut self, x: f64, y: f64) {
        self.count += 1;
        self.x.add(x);
        self.y.add(y);
        self.xx.add_product(x, x);
        self.yy.add_product(y, y);
        self.xy.add_product(x, y);
    }

    /// Adds what `other` saw.
    pub fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.x.merge(&other.x);
        self.y.merge(&other.y);
        self.xx.merge(&other.xx);
        self.yy.merge(&other.yy);
        self.xy.merge(&other.xy);
    }

    /// The difference of the means of the first values, as [`Moments::mean_difference`].
    #[must_use]
    pub fn mean_difference(&self, other: &Self) -> f64 {
        mean_difference((self.count, &self.x), (other.count, &other.x))
    }

    /// What estimates need.
    #[must_use]
    pub fn summary(&self) -> PairSummary {
        let count = self.count;
        PairSummary {
            x: Summary { count, mean: self.x.value() / count as f64, variance: covariance(count, &self.x, &self.x, &self.xx) },
            y: Summary { count, mean: self.y.value() / count as f64, variance: covariance(count, &self.y, &self.y, &self.yy) },
            covariance: covariance(count, &self.x, &self.y, &self.xy),
        }
    }

    /// Bytes on the heap.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        [&self.x, &self.y, &self.xx, &self.yy, &self.xy].iter().map(|sum| sum.heap_bytes()).sum()
    }
}

/// Summaries of both values of pairs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PairSummary {
    /// The first values.
    pub x: Summary,
    /// The second values.
    pub y: Summary,
    /// Unbiased covariance.
    pub covariance: f64,
}
