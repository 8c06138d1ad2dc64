//! Rows of a source → what a generator learns from.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::{cast, concat_batches, filter_record_batch, take_record_batch};
use arrow::datatypes::SchemaRef;

use super::stored::StoredType;
use super::{Content, EncodedRows, RowColumn, RowPlan, column};
use crate::error::{Code, Error, Result};
use crate::features::dataset::ROWS_MIN;
use crate::features::encoder::is_excluded;
use crate::features::images::{Pictures, bytes_of, holds_bytes, no_bytes};
use crate::features::options::Options;
use crate::features::roles::undefined_column;
use crate::features::table_columns::TableColumns;
use crate::kernels::splitmix;

/// Rows that are kept apart, unless the option `test_fraction` says so.
const TEST_FRACTION: f64 = 0.15;

/// Rows of one part.
#[derive(Debug, Clone, Default)]
pub struct Part {
    /// The rows themselves, with the learned columns; empty for pictures.
    pub batch: Option<RecordBatch>,
    /// As vectors; of pictures only their class.
    pub encoded: EncodedRows,
    /// `[rows, height, width, channels]` of pictures.
    pub images: Vec<u8>,
}

/// The rows of a source, ready to learn from.
#[derive(Debug, Clone)]
pub struct RowTable {
    /// How rows become vectors and back; fitted on the train rows.
    pub plan: RowPlan,
    /// Rows to learn from.
    pub train: Part,
    /// Rows kept apart, to compare generated ones with.
    pub test: Part,
    /// The column of `column(label)`.
    pub label: Option<String>,
    /// Rows read.
    pub seen: u64,
    /// Rows left out: without a label or a picture that can be read.
    pub dropped_rows: u64,
    /// Rows left out by the option `sample`.
    pub sampled_out: u64,
    /// What a person should know.
    pub notes: Vec<String>,
}

/// Collects the rows of a source that a generator shall learn.
#[derive(Debug)]
pub struct RowTableBuilder {
    schema: SchemaRef,
    /// Columns that are learned, in the order of the source.
    columns: Vec<(usize, StoredType)>,
    /// Columns of a type that is not generated.
    unusable: Vec<String>,
    label: Option<usize>,
    image: Option<(usize, Pictures)>,
    options: Options,
    batches: Vec<RecordBatch>,
    bytes: usize,
    seen: u64,
    dropped_rows: u64,
    sampled_out: u64,
}

fn position(schema: &SchemaRef, name: &str) -> Result<usize> {
    let exact = schema.fields().iter().position(|field| field.name() == name);
    let alike = || schema.fields().iter().position(|field| field.name().eq_ignore_ascii_case(name));
    exact.or_else(alike).ok_or_else(|| undefined_column(name, schema.fields().iter().map(|field| field.name().as_str())))
}

impl RowTableBuilder {
    /// A builder for rows of `schema`: the columns that `columns` names, or all; pictures alone, with their class in `label`.
    ///
    /// # Errors
    /// `UndefinedColumn`; `DatatypeMismatch` for a picture that is not `bytea`; `InvalidParameter` when nothing can be learned.
    pub fn new(schema: SchemaRef, columns: &TableColumns, label: Option<&str>, options: &Options) -> Result<Self> {
        let label = label.map(|name| position(&schema, name)).transpose()?;
        let image = match &columns.image {
            None => None,
            Some(name) => {
                if columns.features.as_ref().is_none_or(|features| !features.is_empty()) {
                    return Err(Error::invalid("a gan learns pictures or columns, not both")
                        .hint("columns => 'image=photo' learns pictures; their class is the target: target => 'column(label)'."));
                }
                let at = position(&schema, name)?;
                let data_type = schema.field(at).data_type();
                if !holds_bytes(data_type) {
                    return Err(no_bytes(name, data_type));
                }
                Some((at, Pictures::new(schema.field(at).name().clone(), options.image_size)))
            }
        };
        let mut wanted: Vec<usize> = match (&image, &columns.features) {
            (Some((at, _)), _) => vec![*at],
            (None, Some(names)) => names.iter().map(|name| position(&schema, name)).collect::<Result<_>>()?,
            (None, None) => (0..schema.fields().len()).collect(),
        };
        wanted.extend(label);
        wanted.sort_unstable();
        wanted.dedup();
        wanted.retain(|at| Some(*at) == label || !is_excluded(schema.field(*at).name(), &options.exclude));
        let stored = |at: usize| StoredType::of(schema.field(at).data_type());
        let unusable = wanted.iter().filter(|at| stored(**at).is_none()).map(|at| schema.field(*at).name().clone()).collect();
        let columns: Vec<(usize, StoredType)> = wanted.into_iter().filter_map(|at| Some((at, stored(at)?))).collect();
        if columns.iter().all(|(at, stored)| stored.is_binary() && image.as_ref().is_none_or(|(image, _)| image != at)) {
            return Err(Error::invalid("there is no column to learn from")
                .hint("Pictures are named: columns => 'image=photo'. Lists and structs are not generated."));
        }
        let options = options.clone();
        let empty = (Vec::new(), 0, 0, 0, 0);
        let (batches, bytes, seen, dropped_rows, sampled_out) = empty;
        Ok(Self { schema, columns, unusable, label, image, options, batches, bytes, seen, dropped_rows, sampled_out })
    }

    /// Takes a batch of rows.
    ///
    /// # Errors
    /// `DatatypeMismatch`; `OutOfMemory` when there are more rows than an index holds.
    pub fn push(&mut self, batch: &RecordBatch) -> Result<()> {
        let pictures = match &self.image {
            Some((at, pictures)) => Some(bytes_of(batch.column(*at), &pictures.column)?),
            None => None,
        };
        let mut keep = Vec::with_capacity(batch.num_rows());
        for row in 0..batch.num_rows() {
            self.seen += 1;
            let labelled = self.label.is_none_or(|label| batch.column(label).is_valid(row));
            let sampled = self.options.sample >= 1.0 || splitmix::fraction(self.options.seed, self.seen) < self.options.sample;
            let kept = labelled
                && sampled
                && match (&mut self.image, &pictures) {
                    (Some((_, own)), Some(pictures)) => own.push(self.seen, pictures[row])?,
                    _ => true,
                };
            self.sampled_out += u64::from(labelled && !sampled);
            self.dropped_rows += u64::from(!labelled || (sampled && !kept));
            keep.push(kept);
        }
        // Pictures are decoded already.
        let image = self.image.as_ref().map(|(at, _)| *at);
        let own: Vec<usize> = self.columns.iter().map(|(at, _)| *at).filter(|at| Some(*at) != image).collect();
        let failed = |error: arrow::error::ArrowError| Error::internal(format!("rows cannot be kept: {error}"));
        let kept = filter_record_batch(&batch.project(&own).map_err(failed)?, &BooleanArray::from(keep)).map_err(failed)?;
        self.bytes += kept.get_array_memory_size();
        self.batches.push(kept);
        u32::try_from(self.seen).map_err(|_| Error::new(Code::OutOfMemory, "the source has too many rows for a gan"))?;
        Ok(())
    }

    /// The bytes it holds and will hold when finished; for the memory pool.
    #[must_use]
    pub fn bytes(&self) -> usize {
        3 * self.bytes + self.image.as_ref().map_or(0, |(_, pictures)| pictures.bytes())
    }

    /// Fits the plan on the train rows and encodes all rows.
    ///
    /// # Errors
    /// `InvalidParameter` (22023) with counts when there is too little to learn from.
    pub fn finish(self) -> Result<RowTable> {
        let rows: usize = self.batches.iter().map(RecordBatch::num_rows).sum();
        let mut facts = format!("{} rows were read, {} of them could not be used.", self.seen, self.dropped_rows);
        facts.extend(self.image.as_ref().and_then(|(_, pictures)| pictures.facts()));
        if rows < ROWS_MIN {
            let few = Error::invalid(format!("too little data: {rows} rows")).detail(facts);
            return Err(few.hint(format!("At least {ROWS_MIN} rows are needed.")));
        }
        let test_fraction = self.options.test_fraction.unwrap_or(TEST_FRACTION);
        let held_out = |row: &u32| splitmix::fraction(self.options.seed ^ 0x7E57, u64::from(*row)) < test_fraction;
        let (test, train): (Vec<u32>, Vec<u32>) = (0..rows as u32).partition(held_out);
        let all = self.all()?;
        let part = |rows: &[u32]| {
            // Pictures without a class have no column besides.
            if all.num_columns() == 0 {
                let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
                return RecordBatch::try_new_with_options(all.schema(), Vec::new(), &options)
                    .map_err(|error| Error::internal(format!("rows cannot be dealt to parts: {error}")));
            }
            take_record_batch(&all, &UInt32Array::from(rows.to_vec()))
                .map_err(|error| Error::internal(format!("rows cannot be dealt to parts: {error}")))
        };
        let (train_rows, test_rows) = (part(&train)?, part(&test)?);
        drop(all);
        let plan = self.plan(&train_rows)?;
        let label = self.label.map(|at| self.schema.field(at).name().clone());
        if let Some(label) = &label
            && plan.columns.iter().any(|column| column.name == *label && column.content == Content::Omitted)
        {
            return Err(Error::invalid(format!("column \"{label}\" holds too many different values to be a label")));
        }
        if self.image.is_some() && plan.numbers().next().is_some() {
            return Err(Error::invalid("the label of pictures must be a class").detail("It holds too many different numbers."));
        }
        let mut notes = Vec::new();
        let mut left_out = self.unusable.clone();
        left_out.extend(plan.omitted().into_iter().map(|name| format!("{name} (NULL in generated rows)")));
        if !left_out.is_empty() {
            notes.push(format!("not learned: {}", left_out.join(", ")));
        }
        let make = |batch: RecordBatch, rows: &[u32]| -> Result<Part> {
            let encoded = encode(&plan, &batch, rows.len(), self.options.seed)?;
            let images = match (&self.image, plan.image()) {
                (Some((_, pictures)), Some(shape)) => pictures.encode(rows.iter().map(|row| *row as usize), shape)?,
                _ => Vec::new(),
            };
            Ok(Part { batch: Some(batch).filter(|_| images.is_empty()), encoded, images })
        };
        let (train, test) = (make(train_rows, &train)?, make(test_rows, &test)?);
        let Self { seen, dropped_rows, sampled_out, .. } = self;
        Ok(RowTable { plan, train, test, label, seen, dropped_rows, sampled_out, notes })
    }

    /// All rows in one batch of the stored types, without pictures.
    fn all(&self) -> Result<RecordBatch> {
        let failed = |error: arrow::error::ArrowError| Error::internal(format!("rows cannot be joined: {error}"));
        let image = self.image.as_ref().map(|(at, _)| *at);
        let fields: Vec<super::RowField> = self
            .columns
            .iter()
            .filter(|(at, _)| Some(*at) != image)
            .map(|(at, stored)| super::RowField { name: self.schema.field(*at).name().clone(), data_type: stored.clone() })
            .collect();
        let schema = super::schema_of(&fields);
        let cast_all = |batch: &RecordBatch| {
            let columns = batch.columns().iter().zip(schema.fields()).map(|(column, field)| cast(column, field.data_type()));
            let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
            RecordBatch::try_new_with_options(Arc::clone(&schema), columns.collect::<std::result::Result<Vec<_>, _>>()?, &options)
        };
        let batches = self.batches.iter().map(cast_all).collect::<std::result::Result<Vec<_>, _>>().map_err(failed)?;
        if fields.is_empty() {
            let rows = batches.iter().map(RecordBatch::num_rows).sum();
            let options = RecordBatchOptions::new().with_row_count(Some(rows));
            return RecordBatch::try_new_with_options(schema, Vec::new(), &options).map_err(failed);
        }
        concat_batches(&schema, &batches).map_err(failed)
    }

    fn plan(&self, train: &RecordBatch) -> Result<RowPlan> {
        let mut columns = Vec::with_capacity(self.columns.len());
        for (at, stored) in &self.columns {
            let name = self.schema.field(*at).name().clone();
            let content = match &self.image {
                Some((image, pictures)) if image == at => Content::Picture(pictures.plan().shape.generated()),
                _ => column::fit(column_of(train, &name)?, stored, &name)?,
            };
            columns.push(RowColumn { name, data_type: stored.clone(), content });
        }
        if columns.iter().all(|column| column.content == Content::Omitted) {
            return Err(
                Error::invalid("there is no column to learn from").detail("Every column holds a different text in each row, or nothing.")
            );
        }
        Ok(RowPlan { columns })
    }
}

fn column_of<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef> {
    batch.column_by_name(name).ok_or_else(|| Error::internal(format!("column \"{name}\" was not kept")))
}

/// The rows of a batch as vectors.
fn encode(plan: &RowPlan, batch: &RecordBatch, rows: usize, seed: u64) -> Result<EncodedRows> {
    let mut parts = Vec::new();
    let (numbers, classes) = (plan.numbers().map(|(at, _)| at), plan.classes().map(|(at, _)| at));
    for at in numbers.chain(classes) {
        let RowColumn { name, data_type, content } = &plan.columns[at];
        parts.push(column::encode(column_of(batch, name)?, at, data_type, content, name, seed)?);
    }
    let numeric = plan.numbers().count();
    let mut encoded = EncodedRows { rows, ..EncodedRows::default() };
    for row in 0..rows {
        encoded.places.extend(parts[..numeric].iter().map(|part| part[row].1));
        encoded.classes.extend(parts.iter().map(|part| part[row].0));
    }
    Ok(encoded)
}
