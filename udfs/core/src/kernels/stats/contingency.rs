//! Pearson's chi-squared tests: of independence in a table of counts, and of counts against expected shares.

use super::distributions::chi_squared_tail;

/// What a test says; NaN when the table has fewer than two rows or columns.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ChiSquared {
    /// The statistic.
    pub statistic: f64,
    /// P(X > statistic).
    pub p_value: f64,
    /// Degrees of freedom.
    pub degrees_of_freedom: f64,
    /// Cramér's V, from the statistic without correction: 0 is independence, 1 is dependence.
    pub cramers_v: f64,
    /// Counted pairs.
    pub count: u64,
}

/// Tests independence in the table whose cell (`row`, `column`) is `cells[row * columns + column]`; every row and column must
/// hold a count. `correct`: Yates's correction, which applies to 2×2 tables only.
#[must_use]
pub fn independence(cells: &[u64], columns: usize, correct: bool) -> ChiSquared {
    let count: u64 = cells.iter().sum();
    let rows = cells.len().checked_div(columns).unwrap_or(0);
    if rows < 2 || columns < 2 {
        let nan = f64::NAN;
        return ChiSquared { statistic: nan, p_value: nan, degrees_of_freedom: nan, cramers_v: nan, count };
    }
    let mut of_column = vec![0_u64; columns];
    let of_row: Vec<u64> = cells.chunks_exact(columns).map(|row| row.iter().sum()).collect();
    for row in cells.chunks_exact(columns) {
        of_column.iter_mut().zip(row).for_each(|(sum, cell)| *sum += cell);
    }
    let n = count as f64;
    let (mut statistic, mut plain) = (0.0, 0.0);
    for (row, of_row) in cells.chunks_exact(columns).zip(&of_row) {
        for (cell, of_column) in row.iter().zip(&of_column) {
            let expected = *of_row as f64 * *of_column as f64 / n;
            let off = (*cell as f64 - expected).abs();
            let corrected = if correct && rows == 2 && columns == 2 { off - off.min(0.5) } else { off };
            statistic += corrected * corrected / expected;
            plain += off * off / expected;
        }
    }
    let degrees_of_freedom = ((rows - 1) * (columns - 1)) as f64;
    let cramers_v = (plain / (n * (rows.min(columns) - 1) as f64)).sqrt();
    ChiSquared { statistic, p_value: chi_squared_tail(statistic, degrees_of_freedom), degrees_of_freedom, cramers_v, count }
}

/// The p value of counts under expected `shares` (any positive scale): the check for a sample-ratio mismatch. NaN with fewer
/// than two counts or none counted.
#[must_use]
pub fn goodness_of_fit(counts: &[u64], shares: &[f64]) -> f64 {
    let n = counts.iter().sum::<u64>() as f64;
    let whole: f64 = shares.iter().sum();
    if counts.len() < 2 || n == 0.0 {
        return f64::NAN;
    }
    let off = |(count, share): (&u64, &f64)| {
        let expected = n * share / whole;
        (*count as f64 - expected) * (*count as f64 - expected) / expected
    };
    chi_squared_tail(counts.iter().zip(shares).map(off).sum(), (counts.len() - 1) as f64)
}
