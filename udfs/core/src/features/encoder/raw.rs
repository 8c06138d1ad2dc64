//! Rows before encoding: every number and code of every row, from which features are fitted and then encoded.
//!
//! Fitting wants one column of many rows, encoding all columns of one row after another. In memory rows lie row by row;
//! those that do not fit go to a file in blocks, column by column within a block (PAX, Ailamaki et al., 2001), so that
//! either way of reading touches only what it wants.

use crate::error::Result;
use crate::features::dataset::Interrupt;
use crate::features::encoder::Fitted;
use crate::features::inputs::Inputs;
use crate::features::spill::{Log, Number, SpillSpace, get_all};
use crate::features::spilled::RowSink;
use crate::features::vocabulary::NULL_ID;
use crate::kernels::intern::{Interner, NULL_CODE};

/// Bytes of a block in a file. Tests see many of them.
const BLOCK_BYTES: usize = if cfg!(test) { 1 << 14 } else { 1 << 21 };

/// Rows before encoding. `numbers` and `codes` are those in memory, row-major: all rows, or those behind the last block
/// in the file. Rows are appended there; [`settle`](Self::settle) comes after each.
#[derive(Debug, Clone, Default)]
pub(in crate::features) struct RawRows {
    pub(in crate::features) numeric_names: Vec<String>,
    pub(in crate::features) categorical_names: Vec<String>,
    pub(in crate::features) numbers: Vec<f32>,
    pub(in crate::features) codes: Vec<u32>,
    /// Going through the rows ends when it says so.
    pub(in crate::features) interrupt: Interrupt,
    file: Option<Blocks>,
}

/// Whole blocks of rows in a file.
#[derive(Debug, Clone)]
struct Blocks {
    log: Log,
    /// Rows of a block.
    rows: usize,
    count: usize,
}

impl RawRows {
    /// No rows of these columns.
    pub(in crate::features) fn new(numeric_names: Vec<String>, categorical_names: Vec<String>) -> Self {
        Self { numeric_names, categorical_names, ..Self::default() }
    }

    const fn width(&self) -> usize {
        self.numeric_names.len() + self.categorical_names.len()
    }

    /// Moves the rows to a file, and those that are still to come.
    pub(in crate::features) fn spill(&mut self, space: &dyn SpillSpace) -> Result<()> {
        if self.width() == 0 || self.file.is_some() {
            return Ok(());
        }
        let rows = (BLOCK_BYTES / (4 * self.width())).max(16);
        self.file = Some(Blocks { log: Log::create(space, "engineered rows")?, rows, count: 0 });
        self.settle()?;
        self.numbers.shrink_to_fit();
        self.codes.shrink_to_fit();
        Ok(())
    }

    /// Writes whole blocks, if rows go to a file.
    pub(in crate::features) fn settle(&mut self) -> Result<()> {
        let (numeric, categorical, width) = (self.numeric_names.len(), self.categorical_names.len(), self.width());
        let Some(file) = &mut self.file else { return Ok(()) };
        let waiting = (self.numbers.len() + self.codes.len()) / width;
        let whole = waiting / file.rows * file.rows;
        for start in (0..whole).step_by(file.rows) {
            let rows = start..start + file.rows;
            for column in 0..numeric {
                rows.clone().for_each(|row| self.numbers[row * numeric + column].put(file.log.end()));
            }
            for column in 0..categorical {
                rows.clone().for_each(|row| self.codes[row * categorical + column].put(file.log.end()));
            }
            file.log.settle()?;
            file.count += 1;
        }
        self.numbers.drain(..whole * numeric);
        self.codes.drain(..whole * categorical);
        Ok(())
    }

    /// Rows in the file.
    fn in_file(&self) -> usize {
        self.file.as_ref().map_or(0, |file| file.rows * file.count)
    }

    /// The numbers of a column in `rows`, which ascend, in place of what `to` held.
    pub(in crate::features) fn numbers_of(&self, column: usize, rows: &[u32], to: &mut Vec<f32>) -> Result<()> {
        let (width, before) = (self.numeric_names.len(), self.in_file());
        self.column(column, rows, to, |row| self.numbers[(row - before) * width + column])
    }

    /// The codes of a column in `rows`, which ascend, in place of what `to` held.
    pub(in crate::features) fn codes_of(&self, column: usize, rows: &[u32], to: &mut Vec<u32>) -> Result<()> {
        let (width, before) = (self.categorical_names.len(), self.in_file());
        self.column(self.numeric_names.len() + column, rows, to, |row| self.codes[(row - before) * width + column])
    }

    /// A column of a block's: from the blocks in the file, then from memory.
    fn column<T: Number>(&self, column: usize, rows: &[u32], to: &mut Vec<T>, in_memory: impl Fn(usize) -> T) -> Result<()> {
        self.interrupt.check(0)?;
        to.clear();
        to.reserve_exact(rows.len());
        let mut rest = rows;
        if let Some(file) = &self.file {
            let mut bytes = vec![0; file.rows * T::BYTES];
            while let Some(block) = rest.first().map(|row| *row as usize / file.rows).filter(|block| *block < file.count) {
                let end = ((block + 1) * file.rows) as u32;
                let (own, others) = rest.split_at(rest.partition_point(|row| *row < end));
                self.interrupt.check(0)?;
                file.log.read_at(file.column_at(block, column, self.width()), &mut bytes)?;
                to.extend(own.iter().map(|row| T::get(&bytes[(*row as usize - block * file.rows) * T::BYTES..][..T::BYTES])));
                rest = others;
            }
        }
        to.extend(rest.iter().map(|row| in_memory(*row as usize)));
        Ok(())
    }

    /// A reader of whole rows.
    pub(in crate::features) fn cursor(&self) -> RawCursor<'_> {
        RawCursor { raw: self, row: 0, block: None, numbers: Vec::new(), codes: Vec::new() }
    }

    /// Encodes the rows `0..rows` into `sink`; `more` adds what a row has besides.
    pub(in crate::features) fn encode(
        &self,
        rows: usize,
        fitted: &Fitted,
        tables: &[&Interner],
        sink: &mut RowSink,
        mut more: impl FnMut(usize, &mut Inputs) -> Result<()>,
    ) -> Result<()> {
        // One look-up per distinct string, not per row.
        let ids: Vec<Vec<u32>> =
            fitted.categorical.iter().map(|f| tables[f.source].iter().map(|text| f.vocabulary.id(text)).collect()).collect();
        let mut cursor = self.cursor();
        for row in 0..rows {
            self.interrupt.check(row)?;
            cursor.seek(row)?;
            let inputs = sink.inputs();
            inputs.numeric.extend(fitted.numeric.iter().map(|feature| feature.encode(cursor.number(feature.source))));
            for (feature, ids) in fitted.categorical.iter().zip(&ids) {
                let code = cursor.code(feature.source);
                inputs.categorical.push(if code == NULL_CODE { NULL_ID } else { ids[code as usize] });
            }
            more(row, inputs)?;
            sink.settle()?;
        }
        Ok(())
    }
}

impl Blocks {
    /// Where a column of a block begins.
    const fn column_at(&self, block: usize, column: usize, width: usize) -> u64 {
        (block * width + column) as u64 * self.rows as u64 * 4
    }
}

/// Reads rows in ascending order.
#[derive(Debug)]
pub(in crate::features) struct RawCursor<'a> {
    raw: &'a RawRows,
    row: usize,
    /// The block of the file that `numbers` and `codes` hold, column by column.
    block: Option<usize>,
    numbers: Vec<f32>,
    codes: Vec<u32>,
}

impl RawCursor<'_> {
    /// Goes to a row.
    pub(in crate::features) fn seek(&mut self, row: usize) -> Result<()> {
        self.row = row;
        if row >= self.raw.in_file() {
            return Ok(());
        }
        let Some(file) = &self.raw.file else { return Ok(()) };
        let block = row / file.rows;
        if self.block == Some(block) {
            return Ok(());
        }
        self.block = None;
        let mut bytes = vec![0; file.rows * self.raw.width() * 4];
        file.log.read_at(file.column_at(block, 0, self.raw.width()), &mut bytes)?;
        let (numbers, codes) = bytes.split_at(file.rows * self.raw.numeric_names.len() * 4);
        self.numbers.clear();
        self.codes.clear();
        get_all(numbers, &mut self.numbers);
        get_all(codes, &mut self.codes);
        self.block = Some(block);
        Ok(())
    }

    /// A number of the row.
    pub(in crate::features) fn number(&self, column: usize) -> f32 {
        match &self.raw.file {
            Some(file) if self.row < file.rows * file.count => self.numbers[column * file.rows + self.row % file.rows],
            _ => self.raw.numbers[(self.row - self.raw.in_file()) * self.raw.numeric_names.len() + column],
        }
    }

    /// A code of the row.
    pub(in crate::features) fn code(&self, column: usize) -> u32 {
        match &self.raw.file {
            Some(file) if self.row < file.rows * file.count => self.codes[column * file.rows + self.row % file.rows],
            _ => self.raw.codes[(self.row - self.raw.in_file()) * self.raw.categorical_names.len() + column],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::spill::testing::Space;
    use crate::kernels::splitmix;

    fn rows(count: usize, spill_after: Option<(usize, &Space)>) -> RawRows {
        let names = |count: usize| (0..count).map(|i| format!("c{i}")).collect::<Vec<_>>();
        let mut raw = RawRows::new(names(5), names(3));
        for row in 0..count as u64 {
            raw.numbers.extend((0..5).map(|column| splitmix::fraction(column, row) as f32));
            raw.codes.extend((0..3).map(|column| splitmix::at(100 + column, row) as u32 % 50));
            raw.settle().unwrap();
            if let Some((_, space)) = spill_after.filter(|(after, _)| *after == row as usize) {
                raw.spill(space).unwrap();
            }
        }
        raw
    }

    #[test]
    fn rows_read_alike_from_memory_and_from_files() {
        let space = Space::default();
        // Blocks of 512 rows: before the first one, after two and a half, at the very end; none whole.
        for (count, after) in [(3000, 0), (3000, 1300), (3000, 2999), (1024, 5), (300, 100), (1, 0)] {
            let (here, there) = (rows(count, None), rows(count, Some((after, &space))));
            assert!(there.numbers.len() < 512 * 5);
            assert_eq!(here.numbers.len(), count * 5);
            let some: Vec<u32> = (0..count as u32).filter(|row| splitmix::at(7, u64::from(*row)).is_multiple_of(3)).collect();
            let all: Vec<u32> = (0..count as u32).collect();
            for wanted in [&some[..], &all[..], &all[count - 1..], &[]] {
                let (mut a, mut b) = (vec![1.0], vec![]);
                here.numbers_of(3, wanted, &mut a).unwrap();
                there.numbers_of(3, wanted, &mut b).unwrap();
                assert_eq!((a.len(), &a), (wanted.len(), &b));
                let (mut a, mut b) = (vec![], vec![9]);
                here.codes_of(2, wanted, &mut a).unwrap();
                there.codes_of(2, wanted, &mut b).unwrap();
                assert_eq!(a, b);
                let (mut a, mut b) = (here.cursor(), there.cursor());
                for row in wanted {
                    a.seek(*row as usize).unwrap();
                    b.seek(*row as usize).unwrap();
                    assert_eq!((a.number(4), a.number(0), a.code(1)), (b.number(4), b.number(0), b.code(1)), "{row}");
                }
            }
        }
        assert_eq!(space.files(), 0);
    }

    #[test]
    fn a_full_disk_is_an_error() {
        let space = Space::default();
        space.0.full_at.store(1, std::sync::atomic::Ordering::SeqCst);
        let mut raw = RawRows::new((0..60_000).map(|i| i.to_string()).collect(), vec![]);
        raw.numbers.resize(60_000 * 16, 0.0);
        assert_eq!(raw.spill(&space).unwrap_err().code, crate::error::Code::DiskFull);
        drop(raw);
        assert_eq!(space.files(), 0);
    }
}
