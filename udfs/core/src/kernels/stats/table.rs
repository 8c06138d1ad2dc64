//! Counts of pairs of categories, in any order of arrival.

use std::collections::{BTreeMap, BTreeSet};

use super::contingency::{ChiSquared, independence};
use super::wire::{Reader, put_text, put_u64};

/// Categories on one side, at most: a column with more is an id, not a category.
pub const CATEGORIES_MAX: usize = 1000;

/// What one entry of a map costs beside its text.
const ENTRY_BYTES: usize = 64;

/// More than [`CATEGORIES_MAX`] categories on one side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooManyCategories;

/// A table of counts; cells come and go in the order of the categories' bytes, so its result does not depend on arrival.
#[derive(Debug, Clone, Default)]
pub struct Table {
    rows: BTreeMap<Box<str>, BTreeMap<Box<str>, u64>>,
    bytes: usize,
}

impl Table {
    /// Counts a pair.
    ///
    /// # Errors
    /// Too many categories.
    pub fn add(&mut self, row: &str, column: &str) -> Result<(), TooManyCategories> {
        self.add_many(row, column, 1)
    }

    fn add_many(&mut self, row: &str, column: &str, count: u64) -> Result<(), TooManyCategories> {
        if !self.rows.contains_key(row) {
            if self.rows.len() >= CATEGORIES_MAX {
                return Err(TooManyCategories);
            }
            self.bytes += row.len() + ENTRY_BYTES;
            self.rows.insert(row.into(), BTreeMap::new());
        }
        let Some(cells) = self.rows.get_mut(row) else { return Ok(()) };
        if let Some(cell) = cells.get_mut(column) {
            *cell += count;
            return Ok(());
        }
        if cells.len() >= CATEGORIES_MAX {
            return Err(TooManyCategories);
        }
        self.bytes += column.len() + ENTRY_BYTES;
        cells.insert(column.into(), count);
        Ok(())
    }

    /// Adds what `other` counted.
    ///
    /// # Errors
    /// Too many categories.
    pub fn merge(&mut self, other: &Self) -> Result<(), TooManyCategories> {
        for (row, cells) in &other.rows {
            for (column, count) in cells {
                self.add_many(row, column, *count)?;
            }
        }
        Ok(())
    }

    /// Tests independence.
    ///
    /// # Errors
    /// Too many categories.
    pub fn test(&self, correct: bool) -> Result<ChiSquared, TooManyCategories> {
        let columns: BTreeSet<&str> = self.rows.values().flat_map(|cells| cells.keys().map(AsRef::as_ref)).collect();
        if columns.len() > CATEGORIES_MAX {
            return Err(TooManyCategories);
        }
        let count = |cells: &BTreeMap<Box<str>, u64>, column: &str| cells.get(column).copied().unwrap_or(0);
        let cells: Vec<u64> = self.rows.values().flat_map(|cells| columns.iter().map(|column| count(cells, column))).collect();
        Ok(independence(&cells, columns.len(), correct))
    }

    /// Bytes on the heap, roughly.
    #[must_use]
    pub const fn heap_bytes(&self) -> usize {
        self.bytes
    }

    /// Appends its bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_u64(out, self.rows.values().map(|cells| cells.len() as u64).sum());
        for (row, cells) in &self.rows {
            for (column, count) in cells {
                put_text(out, row);
                put_text(out, column);
                put_u64(out, *count);
            }
        }
    }

    /// Reads what [`encode`](Self::encode) wrote.
    pub fn decode(from: &mut Reader<'_>) -> Option<Self> {
        let mut table = Self::default();
        for _ in 0..from.count(24)? {
            let (row, column) = (from.text()?, from.text()?);
            table.add_many(row, column, from.u64()?).ok()?;
        }
        Some(table)
    }
}
