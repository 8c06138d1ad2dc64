//! What a generator makes → rows of the source's columns and types.

use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray, Float64Array, RecordBatch, RecordBatchOptions, StringArray, new_null_array};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::DataType;

use super::stored::StoredType;
use super::{Content, RowPlan};
use crate::error::{Error, Result};
use crate::features::png;

/// The first of the largest.
fn largest(values: &[f32]) -> usize {
    let mut best = 0;
    for (at, value) in values.iter().enumerate() {
        if *value > values[best] {
            best = at;
        }
    }
    best
}

fn to_type(array: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    let options = CastOptions { safe: true, ..CastOptions::default() };
    cast_with_options(array, to, &options).map_err(|error| Error::internal(format!("a generated column cannot be made: {error}")))
}

fn numbers(values: Vec<Option<f64>>, stored: &StoredType) -> Result<ArrayRef> {
    let mut array: ArrayRef = Arc::new(Float64Array::from(values));
    if stored.is_whole() {
        array = to_type(&array, &DataType::Int64)?;
    }
    if *stored == StoredType::Date32 {
        array = to_type(&array, &DataType::Int32)?;
    }
    to_type(&array, &stored.arrow())
}

impl RowPlan {
    /// Rows from vectors `[rows, numbers + Σ groups]`, as a table's generator makes them: of each group the largest counts.
    ///
    /// # Errors
    /// `Internal` when the vectors have another width.
    pub fn decode(&self, rows: usize, vectors: &[f32]) -> Result<RecordBatch> {
        let (numeric, groups) = self.shape();
        let width = numeric + groups.iter().sum::<usize>();
        if vectors.len() != rows * width {
            return Err(Error::internal("generated rows have another width than their plan"));
        }
        let starts: Vec<usize> = groups.iter().scan(numeric, |at, width| Some(std::mem::replace(at, *at + width))).collect();
        let chosen = |row: usize, group: usize| largest(&vectors[row * width + starts[group]..][..groups[group]]);
        let (mut number, mut class) = (0, numeric);
        let mut columns = Vec::with_capacity(self.columns.len());
        for column in &self.columns {
            let data_type = column.data_type.arrow();
            columns.push(match &column.content {
                Content::Omitted | Content::Picture(_) => new_null_array(&data_type, rows),
                Content::Number(modes) => {
                    number += 1;
                    let value = |row: usize| modes.decode(chosen(row, number - 1), vectors[row * width + number - 1]);
                    numbers((0..rows).map(value).collect(), &column.data_type)?
                }
                Content::Classes(classes) => {
                    class += 1;
                    let texts: StringArray = (0..rows).map(|row| classes.values[chosen(row, class - 1)].as_deref()).collect();
                    to_type(&(Arc::new(texts) as ArrayRef), &data_type)?
                }
            });
        }
        self.batch(columns, rows)
    }

    /// Pictures in ±1 `[rows, height, width, channels]` of `classes`, as PNG files beside their class.
    ///
    /// # Errors
    /// `Internal` when the pictures have another size.
    pub fn decode_pictures(&self, rows: usize, pictures: &[f32], classes: &[usize]) -> Result<RecordBatch> {
        let shape = self.image().ok_or_else(|| Error::internal("a plan of pictures has none"))?;
        if pictures.len() != rows * shape.len() {
            return Err(Error::internal("generated pictures have another size than their plan"));
        }
        let mut columns = Vec::with_capacity(self.columns.len());
        for column in &self.columns {
            let data_type = column.data_type.arrow();
            columns.push(match &column.content {
                Content::Picture(_) => {
                    let mut files = Vec::with_capacity(rows);
                    for picture in pictures.chunks_exact(shape.len()) {
                        files.push(png::encode(shape, &pixels(picture))?);
                    }
                    to_type(&(Arc::new(BinaryArray::from_iter_values(files)) as ArrayRef), &data_type)?
                }
                Content::Classes(own) => {
                    let text = |class: &usize| own.values.get(*class).and_then(Option::as_deref);
                    let texts: StringArray = classes.iter().map(text).collect();
                    to_type(&(Arc::new(texts) as ArrayRef), &data_type)?
                }
                Content::Omitted | Content::Number(_) => new_null_array(&data_type, rows),
            });
        }
        self.batch(columns, rows)
    }

    fn batch(&self, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(self.schema(), columns, &options)
            .map_err(|error| Error::internal(format!("generated rows do not fit their schema: {error}")))
    }
}

/// Numbers in ±1 as bytes.
#[must_use]
pub(super) fn pixels(picture: &[f32]) -> Vec<u8> {
    picture.iter().map(|value| ((value + 1.0) * 127.5 + 0.5).clamp(0.0, 255.0) as u8).collect()
}
