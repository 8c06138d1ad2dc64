//! Labelled tables that are learned from together without meeting: what this one tells, and its rows under the common
//! encoder.

use super::{LabelColumn, TableDatasetBuilder};
use crate::error::{Error, Result};
use crate::features::dataset::{Dataset, check_enough, class_map, rows_of};
use crate::features::inputs::{Labels, Rows};
use crate::features::statistics::{Counts, LabelStatistics, Shared, Sketch, TableStatistics};
use crate::kernels::intern::NULL_CODE;

/// Which rows of a table take part in learning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// Every row.
    All,
    /// Those that are neither for validation nor for test.
    Train,
}

impl TableDatasetBuilder {
    /// What may be told of the rows that will be learned from; nothing of fewer than `count_min` rows.
    ///
    /// # Errors
    /// `InvalidParameter` for pictures, which have no such statistics.
    pub fn statistics(&self, share: Share, count_min: u64) -> Result<TableStatistics> {
        if self.pictures.is_some() {
            return Err(Error::invalid("federated training cannot read pictures").hint("Name other columns."));
        }
        let rows = match share {
            Share::All => (0..self.rows() as u32).collect(),
            Share::Train => rows_of(&self.split(&self.labels()?.0), Rows::Train),
        };
        let mut values = Vec::new();
        let mut column = |column: usize| {
            self.raw.numbers_of(column, &rows, &mut values)?;
            Ok(Sketch::of(values.iter().copied(), count_min))
        };
        let numbers = (0..self.raw.numeric_names.len()).map(&mut column).collect::<Result<_>>()?;
        let texts = (0..self.raw.categorical_names.len()).map(|column| self.counts(column, &rows, count_min)).collect::<Result<_>>()?;
        let mut ids = self.id_columns()?;
        ids.extend(self.excluded_times());
        Ok(TableStatistics {
            rows: rows.len() as u64,
            plan: self.plan.clone(),
            numbers,
            texts,
            label: self.label_statistics(&rows, count_min)?,
            ids,
        })
    }

    fn counts(&self, column: usize, rows: &[u32], count_min: u64) -> Result<Counts> {
        let (table, mut nulls) = (&self.tables[column], 0);
        let (mut counts, mut codes) = (vec![0u64; table.len()], Vec::new());
        self.raw.codes_of(column, rows, &mut codes)?;
        for code in codes {
            match code {
                NULL_CODE => nulls += 1,
                code => counts[code as usize] += 1,
            }
        }
        Ok(Counts::of(table.iter().zip(counts), nulls, count_min))
    }

    fn label_statistics(&self, rows: &[u32], count_min: u64) -> Result<LabelStatistics> {
        let values = match &self.labels {
            LabelColumn::Numbers { values, .. } => Some(Sketch::of(rows.iter().map(|row| values[*row as usize] as f32), count_min)),
            LabelColumn::Texts(..) | LabelColumn::Nothing(_) => None,
        };
        let (labels, names) = self.labels()?;
        let classes = match labels {
            Labels::Value(_) => None,
            Labels::Class(labels) => {
                let mut counts = vec![0u64; names.len()];
                rows.iter().for_each(|row| counts[labels[*row as usize] as usize] += 1);
                Some(Counts::of(names.iter().map(String::as_str).zip(counts), 0, count_min))
            }
        };
        Ok(LabelStatistics { classes, values })
    }

    /// Encodes and labels the rows as everybody does. Rows of a class that nobody told of are left out and counted.
    ///
    /// # Errors
    /// As [`finish_with`](Self::finish_with).
    pub fn finish_shared(self, shared: &Shared, share: Share) -> Result<Dataset> {
        let (labels, own) = if shared.classes.is_empty() { (self.number_labels(&[])?, Vec::new()) } else { self.labels()? };
        let mut split = match share {
            Share::All => vec![Rows::Train; self.rows()],
            Share::Train => self.split(&labels),
        };
        let map = class_map(&own, &shared.classes);
        let mut rows: Vec<u32> = (0..self.rows() as u32).collect();
        let labels = match labels {
            Labels::Value(_) if !shared.classes.is_empty() => return Err(self.label_mismatch(&shared.classes)),
            Labels::Value(values) => Labels::Value(values),
            Labels::Class(labels) => {
                rows.retain(|row| map[labels[*row as usize] as usize].is_some());
                Labels::Class(rows.iter().filter_map(|row| map[labels[*row as usize] as usize]).collect())
            }
        };
        let dropped_rows = self.dropped_rows + (self.rows() - rows.len()) as u64;
        split = rows.iter().map(|row| split[*row as usize]).collect();
        if share == Share::Train {
            check_enough(&split, &labels, &shared.classes, "rows", &self.facts(&labels, &shared.classes))?;
        }
        let inputs = self.encode_with(&shared.encoder, &rows)?;
        Ok(Dataset {
            inputs,
            labels,
            classes: shared.classes.clone(),
            of_items: false,
            split,
            users: Vec::new(),
            anchors_us: Vec::new(),
            encoder: shared.encoder.clone(),
            users_total: self.seen,
            dropped_rows,
            censored_rows: 0,
            sampled_out: self.sampled_out,
            rfm: Vec::new(),
        })
    }
}
