//! Which real rows a critic sees: rows that have a given class in a given column, classes drawn by the logarithm of how often
//! they occur, so that rare ones are learned too (training by sampling, CTGAN §4.3).

use crate::features::rows::EncodedRows;
use crate::models::ops::Philox;

/// The condition of one row: a group of the row's vector, its class, and the column of the condition vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Condition {
    pub(super) group: u32,
    pub(super) class: u32,
    pub(super) column: usize,
}

/// One column that is no number.
#[derive(Debug)]
struct Column {
    group: u32,
    first: usize,
    /// Running sums of the logarithms of the counts.
    sums: Vec<f64>,
    /// The rows of each class.
    rows: Vec<Vec<u32>>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Sampler {
    columns: Vec<Column>,
    rows: usize,
}

/// A real row and the condition that it was drawn by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Drawn {
    pub(super) row: u32,
    pub(super) condition: Option<Condition>,
}

impl Sampler {
    /// Of rows whose vectors have `numeric` numbers and groups of these widths.
    pub(super) fn new(encoded: &EncodedRows, numeric: usize, groups: &[usize]) -> Self {
        let (mut columns, mut first) = (Vec::new(), 0);
        for (group, width) in groups.iter().enumerate().skip(numeric) {
            let mut rows = vec![Vec::new(); *width];
            for row in 0..encoded.rows {
                rows[encoded.classes[row * groups.len() + group] as usize].push(row as u32);
            }
            let logarithms = rows.iter().map(|rows: &Vec<u32>| (rows.len() as f64).ln_1p());
            let sums = logarithms.scan(0.0, |sum, logarithm| {
                *sum += logarithm;
                Some(*sum)
            });
            columns.push(Column { group: group as u32, first, sums: sums.collect(), rows });
            first += width;
        }
        Self { columns, rows: encoded.rows }
    }

    /// `count` rows; without columns to ask about, any rows.
    pub(super) fn draw(&self, random: Philox, count: usize) -> Vec<Drawn> {
        let one = |at: usize| {
            let uniform = |of: u64| random.uniform(at as u64 * 4 + of);
            let pick = |of: u64, count: usize| ((uniform(of) * count as f64) as usize).min(count.saturating_sub(1));
            let Some(column) = self.columns.get(pick(0, self.columns.len())) else {
                return Drawn { row: pick(1, self.rows) as u32, condition: None };
            };
            let total = column.sums.last().copied().unwrap_or(0.0);
            let wanted = uniform(1) * total;
            let class = column.sums.partition_point(|sum| *sum <= wanted).min(column.sums.len() - 1);
            let rows = &column.rows[class];
            let condition = Condition { group: column.group, class: class as u32, column: column.first + class };
            Drawn { row: rows.get(pick(2, rows.len())).copied().unwrap_or(0), condition: Some(condition) }
        };
        (0..count).map(one).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_have_the_class_that_was_asked_for_and_rare_ones_come_often() {
        // One number of two modes, then columns of two and three classes; one of them is rare.
        let mut encoded = EncodedRows { rows: 1000, ..EncodedRows::default() };
        for row in 0..1000u32 {
            encoded.places.push(0.0);
            encoded.classes.extend([row % 2, u32::from(row % 100 == 0), row % 3]);
        }
        let sampler = Sampler::new(&encoded, 1, &[2, 2, 3]);
        let drawn = sampler.draw(Philox::new(1, 1), 20_000);
        let mut rare = 0;
        for Drawn { row, condition } in drawn {
            let Condition { group, class, column } = condition.unwrap();
            assert_eq!(encoded.classes[row as usize * 3 + group as usize], class);
            assert_eq!(column, class as usize + if group == 1 { 0 } else { 2 });
            rare += usize::from(group == 1 && class == 1);
        }
        // Half of the conditions ask about that column; ln(11) of ln(11) + ln(991) of them for the rare class.
        let expected = 10_000.0 * 11f64.ln() / (11f64.ln() + 991f64.ln());
        assert!((rare as f64 - expected).abs() < 200.0, "{rare} instead of {expected}");
        let plain = Sampler::new(&EncodedRows { rows: 7, places: vec![0.0; 7], classes: vec![0; 7] }, 1, &[1]);
        assert!(plain.draw(Philox::new(1, 1), 50).iter().all(|drawn| drawn.condition.is_none() && drawn.row < 7));
    }
}
