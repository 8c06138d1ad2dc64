//! Which features tell most of the label (`select_k`): mutual information with the label on the train rows, numbers
//! and numeric labels cut into equally filled bins, less the bias of finite samples (Miller, 1955).

use crate::kernels::quantile::quantile;

const BINS: usize = 16;

/// Bins of a numeric column; missing values have their own.
pub(crate) fn bins_of(values: &[f32]) -> Vec<u32> {
    let mut known: Vec<f32> = values.iter().copied().filter(|v| v.is_finite()).collect();
    let cuts: Vec<f32> = (1..BINS).filter_map(|cut| quantile(&mut known, cut as f64 / BINS as f64)).collect();
    let bin = |value: f32| if value.is_finite() { 1 + cuts.partition_point(|cut| *cut < value) as u32 } else { 0 };
    values.iter().map(|value| bin(*value)).collect()
}

/// Ids beyond the most frequent ones count as one.
pub(crate) fn merged(ids: &[u32]) -> Vec<u32> {
    ids.iter().map(|id| (*id).min(2 * BINS as u32)).collect()
}

/// Mutual information of two columns of small numbers, in nats, bias removed.
pub(crate) fn mutual_information(x: &[u32], y: &[u32]) -> f64 {
    let size = |column: &[u32]| column.iter().max().map_or(0, |max| *max as usize + 1);
    let (width, height) = (size(y), size(x));
    let mut joint = vec![0_u64; width * height];
    for (x, y) in x.iter().zip(y) {
        joint[*x as usize * width + *y as usize] += 1;
    }
    let total = x.len() as f64;
    let rows: Vec<u64> = (0..height).map(|i| joint[i * width..(i + 1) * width].iter().sum()).collect();
    let columns: Vec<u64> = (0..width).map(|j| (0..height).map(|i| joint[i * width + j]).sum()).collect();
    let mut information = 0.0;
    for (i, row) in rows.iter().enumerate() {
        for (j, column) in columns.iter().enumerate() {
            let count = joint[i * width + j] as f64;
            if count > 0.0 {
                information += count / total * (count * total / (*row as f64 * *column as f64)).ln();
            }
        }
    }
    let used = |counts: &[u64]| counts.iter().filter(|count| **count > 0).count().saturating_sub(1) as f64;
    information - used(&rows) * used(&columns) / (2.0 * total.max(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::splitmix;

    #[test]
    fn telling_columns_come_first() {
        let y: Vec<u32> = (0..2000).map(|i| (splitmix::at(1, i) & 1) as u32).collect();
        let same: Vec<f32> = y.iter().map(|y| *y as f32).collect();
        let noise: Vec<f32> = (0..2000).map(|i| splitmix::fraction(2, i) as f32).collect();
        let half: Vec<f32> = y.iter().zip(&noise).map(|(y, noise)| if *noise < 0.5 { *y as f32 } else { f32::NAN }).collect();
        let score = |column: &[f32]| mutual_information(&bins_of(column), &y);
        assert!((score(&same) - std::f64::consts::LN_2).abs() < 0.01);
        assert!(score(&half) > 0.2 && score(&half) < 0.5);
        assert!(score(&noise).abs() < 0.01);
        assert_eq!(merged(&[1, 999]), [1, 32]);
    }
}
