//! Labels with the values of their keys, cut from two sides that lie in the order of the key.
//!
//! Either side has a stream of its own, or both are picked from one scan ([`OneScan`]). A pair is complete when the values have gone
//! past the last key of its labels; the rest waits. In memory are a few batches, and the rows of one key: they are counted.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::compute::{BatchCoalescer, SortOptions, cast, concat_batches};
use arrow::datatypes::{DataType, Int64Type, SchemaRef};
use arrow::row::{OwnedRow, RowConverter, Rows, SortField};
use datafusion::error::Result as DfResult;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::physical_expr::LexOrdering;
use futures::StreamExt;

use crate::error::{Error, Result};
use crate::functions::one_scan::OneScan;
use crate::functions::ties::in_whole_order;

/// The keys of a batch, as they are compared: NULL before all others.
#[derive(Debug)]
pub(super) enum Keys {
    Whole(Int64Array),
    Other(Rows, ArrayRef),
}

/// One of them.
#[derive(Debug)]
pub(super) enum Key {
    Null,
    Whole(i64),
    Other(OwnedRow),
}

impl Keys {
    fn new(column: &ArrayRef, converter: &RowConverter, key_type: &DataType) -> DfResult<Self> {
        let column = cast(column, key_type)?;
        match column.as_primitive_opt::<Int64Type>() {
            Some(keys) => Ok(Self::Whole(keys.clone())),
            None => Ok(Self::Other(converter.convert_columns(&[Arc::clone(&column)])?, column)),
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Whole(keys) => keys.len(),
            Self::Other(keys, _) => keys.num_rows(),
        }
    }

    pub(super) fn is_null(&self, row: usize) -> bool {
        match self {
            Self::Whole(keys) => keys.is_null(row),
            Self::Other(_, keys) => keys.is_null(row),
        }
    }

    fn at(&self, row: usize) -> Key {
        match self {
            _ if self.is_null(row) => Key::Null,
            Self::Whole(keys) => Key::Whole(keys.value(row)),
            Self::Other(keys, _) => Key::Other(keys.row(row).owned()),
        }
    }

    /// The keys of two batches of one call.
    pub(super) fn compare(&self, row: usize, others: &Self, other: usize) -> std::cmp::Ordering {
        match (self, others) {
            (Self::Whole(keys), Self::Whole(others)) if keys.null_count() == 0 && others.null_count() == 0 => {
                keys.value(row).cmp(&others.value(other))
            }
            (Self::Whole(keys), Self::Whole(others)) => {
                let at = |keys: &Int64Array, row: usize| keys.is_valid(row).then(|| keys.value(row));
                at(keys, row).cmp(&at(others, other))
            }
            (Self::Other(keys, _), Self::Other(others, _)) => keys.row(row).cmp(&others.row(other)),
            // Both sides are cast to one type.
            _ => std::cmp::Ordering::Less,
        }
    }

    fn is_below(&self, row: usize, key: &Key) -> bool {
        match (self, key) {
            (_, Key::Null) => false,
            _ if self.is_null(row) => true,
            (Self::Whole(keys), Key::Whole(key)) => keys.value(row) < *key,
            (Self::Other(keys, _), Key::Other(key)) => keys.row(row) < key.row(),
            _ => true,
        }
    }
}

/// Rows of one side in the order of their keys, that wait.
struct Queue {
    pieces: Vec<RecordBatch>,
    schema: SchemaRef,
    rows: usize,
    column: usize,
    key_type: DataType,
    converter: RowConverter,
}

impl Queue {
    fn new(schema: SchemaRef, column: usize, key_type: &DataType) -> Result<Self> {
        let options = SortOptions { descending: false, nulls_first: true };
        let converter = RowConverter::new(vec![SortField::new_with_options(key_type.clone(), options)])
            .map_err(|error| Error::internal(format!("keys cannot be compared: {error}")))?;
        Ok(Self { pieces: vec![], schema, rows: 0, column, key_type: key_type.clone(), converter })
    }

    fn keys(&self, batch: &RecordBatch) -> DfResult<Keys> {
        Keys::new(batch.column(self.column), &self.converter, &self.key_type)
    }

    fn key(&self, batch: &RecordBatch, row: usize) -> DfResult<Key> {
        Ok(self.keys(&batch.slice(row, 1))?.at(0))
    }

    /// How many rows of `batch` come before the first whose key is `key` or greater. Few are asked: keys of text are dear.
    fn below(&self, batch: &RecordBatch, key: &Key) -> DfResult<usize> {
        let (mut low, mut high) = (0, batch.num_rows());
        while low < high {
            let middle = low.midpoint(high);
            if self.keys(&batch.slice(middle, 1))?.is_below(0, key) { low = middle + 1 } else { high = middle }
        }
        Ok(low)
    }

    fn push(&mut self, batch: RecordBatch) {
        if batch.num_rows() > 0 {
            self.rows += batch.num_rows();
            self.pieces.push(batch);
        }
    }

    fn last(&self) -> DfResult<Option<Key>> {
        self.pieces.last().map(|piece| self.key(piece, piece.num_rows() - 1)).transpose()
    }

    /// All rows as one batch, which stays here; no piece is ever empty.
    fn whole(&mut self) -> DfResult<RecordBatch> {
        match &self.pieces[..] {
            [] => Ok(RecordBatch::new_empty(Arc::clone(&self.schema))),
            [only] => Ok(only.clone()),
            many => {
                let whole = concat_batches(&self.schema, many)?;
                self.pieces = vec![whole.clone()];
                Ok(whole)
            }
        }
    }

    /// Forgets the first `rows` rows of the one batch.
    fn forget(&mut self, rows: usize) {
        self.rows -= rows;
        match self.pieces.first_mut() {
            Some(piece) if rows < piece.num_rows() => *piece = piece.slice(rows, piece.num_rows() - rows),
            _ => self.pieces.clear(),
        }
    }

    /// Forgets rows of smaller keys.
    fn forget_below(&mut self, key: &Key) -> DfResult<()> {
        let mut gone = 0;
        for piece in &self.pieces {
            if !self.keys(&piece.slice(piece.num_rows() - 1, 1))?.is_below(0, key) {
                break;
            }
            gone += 1;
        }
        self.rows -= self.pieces.drain(..gone).map(|piece| piece.num_rows()).sum::<usize>();
        if let Some(piece) = self.pieces.first() {
            let below = self.below(piece, key)?;
            if below > 0 {
                self.pieces[0] = piece.slice(below, piece.num_rows() - below);
                self.rows -= below;
            }
        }
        Ok(())
    }

    fn bytes(&self) -> usize {
        self.pieces.iter().map(RecordBatch::get_array_memory_size).sum()
    }
}

/// Where rows come from.
pub(super) enum Sides {
    /// A stream of labels and one of values, each in its whole order.
    Two(SendableRecordBatchStream, SendableRecordBatchStream),
    /// A stream of a scan that has both, and the orders of their ties.
    One(SendableRecordBatchStream, Arc<OneScan>, [LexOrdering; 2]),
}

/// Labels in order, with all values of their keys.
pub(super) struct Pair {
    pub(super) labels: RecordBatch,
    pub(super) label_keys: Keys,
    pub(super) values: RecordBatch,
    pub(super) value_keys: Keys,
}

/// See the module.
pub(super) struct Pairs {
    sides: Sides,
    labels: Queue,
    values: Queue,
    /// What the scan's batches leave of each side, put together.
    together: [BatchCoalescer; 2],
    /// All values with smaller keys have come; `Key::Null`: none has.
    complete_below: Key,
    /// All values have come.
    ended: bool,
    /// Rows that a pair should have, when there are as many.
    rows: usize,
    ordered: usize,
    memory: MemoryReservation,
}

impl Pairs {
    /// Pairs of labels with these columns and a key at `columns[0]`, and of values with their key at `columns[1]`; keys are compared
    /// as `key_type`. Ties are those of the first `ordered` keys of an order.
    pub(super) fn new(
        sides: Sides,
        schemas: [SchemaRef; 2],
        columns: [usize; 2],
        key_type: &DataType,
        (rows, ordered): (usize, usize),
        memory: MemoryReservation,
    ) -> Result<Self> {
        let [label, value] = schemas;
        let together = [&label, &value].map(|schema| BatchCoalescer::new(Arc::clone(schema), rows));
        let labels = Queue::new(label, columns[0], key_type)?;
        let values = Queue::new(value, columns[1], key_type)?;
        Ok(Self { sides, labels, values, together, complete_below: Key::Null, ended: false, rows, ordered, memory })
    }

    /// The next pair, with at least one label; `None` after the last label.
    pub(super) async fn next(&mut self) -> DfResult<Option<Pair>> {
        loop {
            if self.labels.rows == 0 && !self.read_labels().await? {
                return Ok(None);
            }
            let Some(piece) = self.labels.pieces.first() else { continue };
            let first = self.labels.keys(&piece.slice(0, 1))?;
            self.values.forget_below(&first.at(0))?;
            let enough = self.labels.rows + self.values.rows >= self.rows;
            if self.ended || (enough && first.is_below(0, &self.complete_below)) {
                return self.pair().map(Some);
            }
            self.read_values().await?;
            self.memory.try_resize(self.labels.bytes() + self.values.bytes())?;
        }
    }

    /// The labels whose values have all come.
    fn pair(&mut self) -> DfResult<Pair> {
        // Pieces are joined: for a moment there are two of each.
        self.memory.try_resize(2 * (self.labels.bytes() + self.values.bytes()))?;
        let (all, values) = (self.labels.whole()?, self.values.whole()?);
        let complete = if self.ended { all.num_rows() } else { self.labels.below(&all, &self.complete_below)? };
        let mut labels = all.slice(0, complete);
        self.labels.forget(complete);
        // They stay: the next label may have the last one's key.
        let wanted = if self.ended { values.num_rows() } else { self.values.below(&values, &self.complete_below)? };
        let mut values = values.slice(0, wanted);
        if let Sides::One(_, _, [of_labels, of_values]) = &self.sides {
            labels = in_whole_order(labels, of_labels, self.ordered)?;
            values = in_whole_order(values, of_values, self.ordered)?;
        }
        let (label_keys, value_keys) = (self.labels.keys(&labels)?, self.values.keys(&values)?);
        Ok(Pair { labels, label_keys, values, value_keys })
    }

    /// More labels; false where there are none.
    async fn read_labels(&mut self) -> DfResult<bool> {
        while self.labels.rows == 0 {
            match &mut self.sides {
                Sides::Two(labels, _) => match labels.next().await.transpose()? {
                    Some(batch) => self.labels.push(batch),
                    None => return Ok(false),
                },
                Sides::One(..) if self.ended => return Ok(false),
                Sides::One(..) => {
                    // Nobody wants the values before the next label but those of the last key.
                    let last = std::mem::replace(&mut self.complete_below, Key::Null);
                    self.values.forget_below(&last)?;
                    self.complete_below = last;
                    self.read_scan().await?;
                    self.memory.try_resize(self.values.bytes())?;
                }
            }
        }
        Ok(true)
    }

    async fn read_values(&mut self) -> DfResult<()> {
        let Sides::Two(_, values) = &mut self.sides else { return self.read_scan().await };
        match values.next().await.transpose()? {
            Some(batch) => self.values.push(batch),
            None => self.ended = true,
        }
        if let Some(last) = self.values.last()? {
            self.complete_below = last;
        }
        Ok(())
    }

    /// Batches of the scan until there may be enough rows.
    async fn read_scan(&mut self) -> DfResult<()> {
        let Sides::One(rows, scan, _) = &mut self.sides else { return Ok(()) };
        let [labels, values] = &mut self.together;
        loop {
            let batch = rows.next().await.transpose()?;
            if let Some(batch) = batch.as_ref().filter(|batch| batch.num_rows() > 0) {
                labels.push_batch(scan.side(0, batch)?)?;
                values.push_batch(scan.side(1, batch)?)?;
                let last =
                    Keys::new(&batch.column(scan.key()).slice(batch.num_rows() - 1, 1), &self.values.converter, &self.values.key_type)?;
                self.complete_below = last.at(0);
            }
            self.ended = batch.is_none();
            let held = labels.get_buffered_rows() + values.get_buffered_rows();
            if self.ended || held >= self.rows || labels.has_completed_batch() || values.has_completed_batch() {
                break;
            }
        }
        for (side, queue) in [(labels, &mut self.labels), (values, &mut self.values)] {
            side.finish_buffered_batch()?;
            while let Some(batch) = side.next_completed_batch() {
                queue.push(batch);
            }
        }
        Ok(())
    }
}
