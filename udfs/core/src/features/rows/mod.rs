//! Rows of a table as a generator sees them, and generated rows as a table again: the original columns with their names and
//! types.
//!
//! Life of a row: a [`RowTable`] is collected from batches of the source → each column becomes the classes of its few values,
//! or a number by its [modes] → the generator learns the vectors → what it makes is [decoded](RowPlan::decode): the class's own
//! value, or the mode's value plus a share of its spread, rounded and held in the range as the source is. NULL is a class, or a
//! mode, of its own.
//!
//! The [`RowPlan`] is stored with the model. Absent on purpose: networks.

mod collect;
mod column;
mod decode;
pub mod modes;
mod stored;
#[cfg(test)]
mod tests;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use serde::{Deserialize, Serialize};

pub use self::collect::{RowTable, RowTableBuilder};
pub use self::stored::{RowField, schema_of};

use self::modes::NumberModes;
use self::stored::StoredType;
use super::inputs::ImageShape;
use super::table::column_of;
use crate::error::Result;

/// What a column of a generated row is made of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Content {
    /// It was not learned: NULL in every row.
    Omitted,
    /// One of a few values.
    Classes(Classes),
    /// A number.
    Number(NumberModes),
    /// A picture.
    Picture(ImageShape),
}

/// The values of a column as text, NULL among them where the source has it, most frequent first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Classes {
    pub(super) values: Vec<Option<String>>,
    /// Rows of each.
    pub(super) counts: Vec<u64>,
}

/// One column of the source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct RowColumn {
    pub(super) name: String,
    pub(super) data_type: StoredType,
    pub(super) content: Content,
}

/// How rows of a table are made from what a generator makes; part of a model's encoder.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RowPlan {
    pub(super) columns: Vec<RowColumn>,
}

/// Vectors of rows: for each row the place of its numbers within their modes, and the index of each group's one.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EncodedRows {
    /// How many.
    pub rows: usize,
    /// `[rows, numbers]`, within ±1.
    pub places: Vec<f32>,
    /// `[rows, groups]`: the mode of each number, then the class of each other column.
    pub classes: Vec<u32>,
}

impl RowPlan {
    /// The columns of generated rows, for planning.
    #[must_use]
    pub fn fields(&self) -> Vec<RowField> {
        self.columns.iter().map(|column| RowField { name: column.name.clone(), data_type: column.data_type.clone() }).collect()
    }

    /// The schema of generated rows.
    #[must_use]
    pub fn schema(&self) -> SchemaRef {
        schema_of(&self.fields())
    }

    pub(super) fn numbers(&self) -> impl Iterator<Item = (usize, &NumberModes)> {
        self.columns.iter().enumerate().filter_map(|(at, column)| match &column.content {
            Content::Number(modes) => Some((at, modes)),
            _ => None,
        })
    }

    pub(super) fn classes(&self) -> impl Iterator<Item = (usize, &Classes)> {
        self.columns.iter().enumerate().filter_map(|(at, column)| match &column.content {
            Content::Classes(classes) => Some((at, classes)),
            _ => None,
        })
    }

    /// The column of the picture.
    #[must_use]
    pub fn image_column(&self) -> Option<&str> {
        self.columns.iter().find(|column| matches!(column.content, Content::Picture(_))).map(|column| column.name.as_str())
    }

    /// The picture of a row, if rows are pictures.
    #[must_use]
    pub fn image(&self) -> Option<ImageShape> {
        self.columns.iter().find_map(|column| match &column.content {
            Content::Picture(shape) => Some(*shape),
            _ => None,
        })
    }

    /// Numbers of a row's vector, and the widths of its groups: modes first, then classes.
    #[must_use]
    pub fn shape(&self) -> (usize, Vec<usize>) {
        let modes: Vec<usize> = self.numbers().map(|(_, modes)| modes.len()).collect();
        (modes.len(), modes.into_iter().chain(self.classes().map(|(_, classes)| classes.values.len())).collect())
    }

    /// How often each class of each column that is no number occurs in the training rows.
    #[must_use]
    pub fn class_counts(&self) -> Vec<Vec<u64>> {
        self.classes().map(|(_, classes)| classes.counts.clone()).collect()
    }

    /// The condition of a generated row, as a column of all classes after another: a column at random, and one of its
    /// classes as often as the source has it; for pictures their class. `uniform`: two numbers in `[0, 1)`.
    #[must_use]
    pub fn condition(&self, uniform: [f64; 2]) -> Option<usize> {
        let all: Vec<&Classes> = self.classes().map(|(_, classes)| classes).collect();
        let column = (uniform[0] * all.len() as f64) as usize;
        let classes = all.get(column)?;
        let before: usize = all[..column].iter().map(|classes| classes.values.len()).sum();
        let total: u64 = classes.counts.iter().sum();
        let mut left = uniform[1] * total as f64;
        for (class, count) in classes.counts.iter().enumerate() {
            left -= *count as f64;
            if left < 0.0 {
                return Some(before + class);
            }
        }
        Some(before)
    }

    /// Columns that every generated row leaves NULL.
    #[must_use]
    pub fn omitted(&self) -> Vec<&str> {
        self.columns.iter().filter(|column| column.content == Content::Omitted).map(|column| column.name.as_str()).collect()
    }

    /// Names of the columns that are learned, with the number of classes or modes of each.
    pub(super) fn features(&self) -> impl Iterator<Item = (&str, Option<usize>, bool)> {
        self.columns.iter().filter_map(|column| match &column.content {
            Content::Omitted => None,
            Content::Classes(classes) => Some((column.name.as_str(), Some(classes.values.len()), false)),
            Content::Number(_) => Some((column.name.as_str(), None, false)),
            Content::Picture(_) => Some((column.name.as_str(), None, true)),
        })
    }
}

/// The values of one column, to compare rows by.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// Numbers; `None` = NULL.
    Numbers(Vec<Option<f64>>),
    /// Classes; `None` = NULL.
    Texts(Vec<Option<String>>),
}

impl RowPlan {
    /// The learned columns of some rows that are no pictures, by name.
    ///
    /// # Errors
    /// `UndefinedColumn` for rows of another table.
    pub fn values(&self, batch: &RecordBatch) -> Result<Vec<(String, Values)>> {
        let mut all = Vec::new();
        for column in &self.columns {
            let array = || column_of(batch, &column.name);
            let values = match &column.content {
                Content::Omitted | Content::Picture(_) => continue,
                Content::Number(_) => Values::Numbers(column::numbers_of(array()?, &column.data_type, &column.name)?),
                Content::Classes(_) => {
                    Values::Texts(column::texts_of(array()?, &column.name)?.iter().map(|v| v.map(str::to_owned)).collect())
                }
            };
            all.push((column.name.clone(), values));
        }
        Ok(all)
    }

    /// The classes of pictures; empty when they have none.
    #[must_use]
    pub fn picture_classes(&self) -> Vec<String> {
        let name = |value: &Option<String>| value.clone().unwrap_or_default();
        self.classes().next().filter(|_| self.image().is_some()).map_or_else(Vec::new, |(_, own)| own.values.iter().map(name).collect())
    }
}
