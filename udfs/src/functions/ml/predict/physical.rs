//! A group and its questions with physical expressions, and their evaluation on a batch.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::DataType;
use arrow::record_batch::RecordBatch;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;

use super::answers::{Answers, Layout};
use crate::registry::ModelRef;

/// See [`Subject`](super::call::Subject).
#[derive(Debug, Clone)]
pub(crate) enum PhysicalSubject {
    User(Arc<dyn PhysicalExpr>),
    Row(Arc<dyn PhysicalExpr>),
    Sequence { events: Arc<dyn PhysicalExpr>, items: Option<Arc<dyn PhysicalExpr>>, times: Option<Arc<dyn PhysicalExpr>> },
}

/// See [`Group`](super::call::Group).
#[derive(Debug, Clone)]
pub(crate) struct PhysicalGroup {
    pub(crate) model: ModelRef,
    pub(crate) subject: PhysicalSubject,
    pub(crate) as_of: Option<Arc<dyn PhysicalExpr>>,
}

impl PhysicalGroup {
    pub(crate) fn expressions(&self) -> impl Iterator<Item = &Arc<dyn PhysicalExpr>> {
        let (first, items, times) = match &self.subject {
            PhysicalSubject::User(one) | PhysicalSubject::Row(one) => (one, None, None),
            PhysicalSubject::Sequence { events, items, times } => (events, items.as_ref(), times.as_ref()),
        };
        std::iter::once(first).chain(items).chain(times).chain(self.as_of.as_ref())
    }
}

impl fmt::Display for PhysicalGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "model={}", self.model)?;
        match &self.subject {
            PhysicalSubject::User(user) => write!(f, ", user={user}")?,
            PhysicalSubject::Row(row) => write!(f, ", row={row}")?,
            PhysicalSubject::Sequence { events, .. } => write!(f, ", events={events}")?,
        }
        self.as_of.iter().try_for_each(|as_of| write!(f, ", as_of={as_of}"))
    }
}

/// See [`Question`](super::call::Question).
#[derive(Debug, Clone)]
pub(crate) enum PhysicalQuestion {
    Intent,
    Probability(Arc<dyn PhysicalExpr>),
    Value,
    Embedding { normalize: bool },
}

/// One answer and the column that holds it.
#[derive(Debug, Clone)]
pub(crate) struct PhysicalOutput {
    pub(crate) column: String,
    pub(crate) question: PhysicalQuestion,
}

impl PhysicalOutput {
    pub(crate) fn data_type(&self) -> DataType {
        match self.question {
            PhysicalQuestion::Intent => DataType::Utf8,
            PhysicalQuestion::Probability(_) | PhysicalQuestion::Value => DataType::Float64,
            PhysicalQuestion::Embedding { .. } => DataType::new_list(DataType::Float32, true),
        }
    }

    /// The expression of the class, if the question names one.
    pub(crate) fn class(&self) -> Option<&Arc<dyn PhysicalExpr>> {
        match &self.question {
            PhysicalQuestion::Probability(class) => Some(class),
            _ => None,
        }
    }

    /// The column of answers for `batch`, whose rows have the answers `rows`.
    pub(crate) fn column(
        &self,
        batch: &RecordBatch,
        rows: &[u32],
        answers: &Answers,
        layout: &Layout,
        classes: &[String],
    ) -> Result<ArrayRef> {
        match &self.question {
            PhysicalQuestion::Intent => Ok(answers.intent_column(rows, classes)),
            PhysicalQuestion::Value => Ok(answers.value_column(rows)),
            PhysicalQuestion::Embedding { normalize } => Ok(answers.embedding_column(rows, *normalize)?),
            PhysicalQuestion::Probability(class) => match class.evaluate(batch)? {
                ColumnarValue::Scalar(value) => {
                    let kept = scalar_text(&value)
                        .and_then(|class| classes.iter().position(|known| known == class))
                        .and_then(|class| layout.class_position(class));
                    Ok(answers.probability_column(rows, |_| kept))
                }
                ColumnarValue::Array(column) => {
                    let positions: HashMap<&str, usize> = classes
                        .iter()
                        .enumerate()
                        .filter_map(|(index, class)| Some((class.as_str(), layout.class_position(index)?)))
                        .collect();
                    let column = arrow::compute::cast(&column, &DataType::Utf8)?;
                    let column = column.as_string::<i32>();
                    Ok(answers
                        .probability_column(rows, |row| column.is_valid(row).then(|| positions.get(column.value(row)).copied()).flatten()))
                }
            },
        }
    }
}

impl fmt::Display for PhysicalOutput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.question {
            PhysicalQuestion::Intent => f.write_str("intent"),
            PhysicalQuestion::Probability(class) => write!(f, "probability({class})"),
            PhysicalQuestion::Value => f.write_str("value"),
            PhysicalQuestion::Embedding { normalize: true } => f.write_str("embedding"),
            PhysicalQuestion::Embedding { normalize: false } => f.write_str("embedding(raw)"),
        }
    }
}

fn scalar_text(value: &ScalarValue) -> Option<&str> {
    value.try_as_str().flatten()
}

/// The expression with its columns moved to other places; names stay.
pub(crate) fn move_columns(expression: Arc<dyn PhysicalExpr>, place: &impl Fn(usize) -> usize) -> Result<Arc<dyn PhysicalExpr>> {
    let moved = expression.transform_up(|part| {
        Ok(match part.downcast_ref::<Column>() {
            Some(column) if place(column.index()) != column.index() => {
                let moved: Arc<dyn PhysicalExpr> = Arc::new(Column::new(column.name(), place(column.index())));
                Transformed::yes(moved)
            }
            _ => Transformed::no(part),
        })
    })?;
    Ok(moved.data)
}
