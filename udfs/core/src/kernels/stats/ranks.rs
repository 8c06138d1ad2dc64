//! The Mann–Whitney U test (Mann & Whitney, 1947), as SciPy computes it.

use super::distributions::normal_tail;

/// Which difference is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Alternative {
    /// Any.
    TwoSided,
    /// The first sample tends to smaller values.
    Less,
    /// The first sample tends to greater values.
    Greater,
}

/// How the p value is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// Exactly when a sample has at most 8 values and nothing is tied, else by the normal approximation.
    Auto,
    /// By the normal approximation with continuity correction.
    Asymptotic,
}

/// What the test says; NaN when a sample is empty.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MannWhitney {
    /// U of the first sample: pairs in which its value is greater, ties counting half.
    pub statistic: f64,
    /// The p value.
    pub p_value: f64,
    /// U / (n₁ n₂): the probability that a value of the first sample is greater.
    pub superiority: f64,
}

/// Numbers that the exact distribution may have: 16 MiB.
const EXACT_MAX: usize = 1 << 20;

/// The test of two samples, which it sorts. O(n log n). NaN sorts last; samples with NaN give NaN.
pub fn mann_whitney(a: &mut [f64], b: &mut [f64], alternative: Alternative, method: Method) -> MannWhitney {
    a.sort_unstable_by(f64::total_cmp);
    b.sort_unstable_by(f64::total_cmp);
    if a.is_empty() || b.is_empty() || a.iter().chain(b.iter()).any(|value| value.is_nan()) {
        return MannWhitney { statistic: f64::NAN, p_value: f64::NAN, superiority: f64::NAN };
    }
    let (rank_sum, ties) = rank_sum(a, b);
    let (n_a, n_b) = (a.len() as f64, b.len() as f64);
    let u = rank_sum - n_a * (n_a + 1.0) / 2.0;
    let other = n_a * n_b - u;
    let (larger, sides) = match alternative {
        Alternative::TwoSided => (u.max(other), 2.0),
        Alternative::Greater => (u, 1.0),
        Alternative::Less => (other, 1.0),
    };
    let small = a.len().min(b.len()) <= 8 && a.len().saturating_mul(b.len()) < EXACT_MAX;
    let p = if method == Method::Auto && small && ties == 0.0 {
        exact_tail(a.len(), b.len(), larger as usize)
    } else {
        let n = n_a + n_b;
        let deviation = (n_a * n_b / 12.0 * ((n + 1.0) - ties / (n * (n - 1.0)))).sqrt();
        normal_tail((larger - n_a * n_b / 2.0 - 0.5) / deviation)
    };
    MannWhitney { statistic: u, p_value: (sides * p).min(1.0), superiority: u / (n_a * n_b) }
}

/// The sum of the ranks of `a` among both sorted samples, ties sharing their mean rank; and Σ (t³ − t) over ties of length t.
fn rank_sum(a: &[f64], b: &[f64]) -> (f64, f64) {
    let (mut i, mut j) = (0, 0);
    let (mut sum, mut ties) = (0.0, 0.0);
    while i < a.len() || j < b.len() {
        let value = match (a.get(i), b.get(j)) {
            (Some(x), Some(y)) => x.min(*y),
            (Some(x), None) => *x,
            (None, Some(y)) => *y,
            (None, None) => break,
        };
        let in_a = a[i..].iter().take_while(|x| **x == value).count();
        let in_b = b[j..].iter().take_while(|y| **y == value).count();
        let tied = (in_a + in_b) as f64;
        sum += in_a as f64 * ((i + j) as f64 + (tied + 1.0) / 2.0);
        ties += tied * tied * tied - tied;
        i += in_a;
        j += in_b;
    }
    (sum, ties)
}

/// P(U ≥ u) without ties, from the counts of arrangements: the coefficients of the Gaussian binomial. The smaller sample has
/// at most 8 values, so that counts fit 128 bits.
fn exact_tail(n_a: usize, n_b: usize, u: usize) -> f64 {
    let (few, many) = (n_a.min(n_b), n_a.max(n_b));
    let mut counts = vec![0_u128; few * many + 1];
    counts[0] = 1;
    for i in 1..=few {
        // times (1 − q^(many + i)), then divided by (1 − q^i)
        for at in (many + i..counts.len()).rev() {
            counts[at] = counts[at].wrapping_sub(counts[at - many - i]);
        }
        for at in i..counts.len() {
            counts[at] = counts[at].wrapping_add(counts[at - i]);
        }
    }
    let all: u128 = counts.iter().sum();
    counts.iter().skip(u).sum::<u128>() as f64 / all as f64
}
