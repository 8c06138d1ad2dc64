//! What `rfm_bounds` and `rfm_scores` share: recency, frequency and money per user, and bounds of their bins.

use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type, Schema};
use datafusion::common::ScalarValue;
use datafusion::common::runtime::SpawnedTask;
use datafusion::error::{DataFusionError, Result as DfResult};

use super::orders::{Customers, Orders};
use crate::error::{Code, Error, Result};
use crate::functions::relation::{Arguments, Kind, Parameter};
use crate::kernels::profile::rfm::{bounds, score};

pub(super) const BINS: Parameter = Parameter::optional("bins", Kind::Integer, "5", "How many bins each figure has, from 2 to 100.");

/// The figures, by the names that stored bounds use.
pub(super) const FIGURES: [&str; 3] = ["recency", "frequency", "monetary"];

/// Days between two times.
pub(super) fn days(from_us: i64, to_us: i64) -> f64 {
    (to_us - from_us) as f64 / 86_400e6
}

/// Recency, frequency, money; greater is better, so recency is negative.
pub(super) fn figures(orders: &Orders, as_of_us: i64) -> [f64; 3] {
    [-days(orders.last_us, as_of_us), orders.orders as f64, orders.total]
}

/// How many bins a call asks for.
///
/// # Errors
/// 22023 outside 2 to 100.
pub(super) fn bins(args: &Arguments) -> Result<usize> {
    args.integer_in("bins", 5, 2..=100).map(|bins| bins as usize)
}

/// The inner bounds of the bins of each figure.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Bounds {
    pub(super) figures: [Vec<f64>; 3],
}

impl Bounds {
    /// From the users of a source; each figure is a task.
    ///
    /// # Errors
    /// A bug of ours.
    pub(super) async fn of(users: &Arc<Customers>, as_of_us: i64, bins: usize) -> DfResult<Self> {
        let tasks = [0, 1, 2].map(|at| {
            let users = Arc::clone(users);
            SpawnedTask::spawn(
                async move { bounds(&mut users.iter().map(|orders| figures(orders, as_of_us)[at]).collect::<Vec<_>>(), bins) },
            )
        });
        let mut found = Self { figures: Default::default() };
        for (figure, task) in found.figures.iter_mut().zip(tasks) {
            *figure = task.join_unwind().await.map_err(|error| DataFusionError::ExecutionJoin(Box::new(error)))?;
        }
        Ok(found)
    }

    /// The scores of a user, from 1.
    pub(super) fn scores(&self, figures: [f64; 3]) -> [usize; 3] {
        [0, 1, 2].map(|at| score(figures[at], &self.figures[at]))
    }

    /// How many bins each figure has.
    pub(super) fn bins(&self) -> usize {
        self.figures.iter().map(|bounds| bounds.len() + 1).max().unwrap_or(1)
    }

    /// From the rows of a table that `rfm_bounds` made: metric, bin, bound.
    ///
    /// # Errors
    /// 22023 when they are no such bounds.
    pub(super) fn read(batches: &[RecordBatch]) -> DfResult<Self> {
        let mut found: [Vec<(i64, f64)>; 3] = Default::default();
        for batch in batches {
            let column = |name: &str, to: &DataType| -> DfResult<_> {
                let column = batch.column_by_name(name).ok_or_else(|| no_bounds(format!("It has no column \"{name}\".")))?;
                Ok(cast(column, to)?)
            };
            let (metrics, bins) = (column("metric", &DataType::Utf8)?, column("bin", &DataType::Int64)?);
            let values = column("bound", &DataType::Float64)?;
            let wrong = || no_bounds("Its columns have other types.".to_owned());
            let metrics = metrics.as_string_opt::<i32>().ok_or_else(wrong)?;
            let bins = bins.as_primitive_opt::<Int64Type>().ok_or_else(wrong)?;
            let values = values.as_primitive_opt::<Float64Type>().ok_or_else(wrong)?;
            for row in 0..batch.num_rows() {
                let figure = FIGURES.iter().position(|figure| metrics.is_valid(row) && metrics.value(row) == *figure);
                let (Some(figure), true, true) = (figure, bins.is_valid(row), values.is_valid(row)) else {
                    return Err(no_bounds(format!("Row {} has no metric, bin or bound.", row + 1)).into());
                };
                // Stored recency is in days, the fewer the better.
                let value = if figure == 0 { -values.value(row) } else { values.value(row) };
                found[figure].push((bins.value(row), value));
            }
        }
        let figures = found.map(|mut bounds| {
            bounds.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
            bounds
        });
        for (name, bounds) in FIGURES.iter().zip(&figures) {
            let whole = bounds.iter().zip(1..).all(|((bin, _), expected)| *bin == expected);
            let ascends = bounds.windows(2).all(|pair| pair[0].1 <= pair[1].1);
            if bounds.is_empty() || !whole || !ascends {
                return Err(no_bounds(format!("The bounds of {name} are missing, given twice or do not ascend.")).into());
            }
        }
        Ok(Self { figures: figures.map(|bounds| bounds.into_iter().map(|(_, bound)| bound).collect()) })
    }
}

fn no_bounds(detail: String) -> Error {
    Error::new(Code::InvalidParameter, "argument \"bounds\" is not what rfm_bounds makes").detail(detail)
}

/// A time as `timestamptz`.
pub(super) fn time(us: i64) -> ScalarValue {
    ScalarValue::TimestampMicrosecond(Some(us), Some("UTC".into()))
}

/// The columns that stored bounds need.
///
/// # Errors
/// 22023 when one is missing.
pub(super) fn check_bounds(schema: &Schema) -> Result<()> {
    match ["metric", "bin", "bound"].iter().find(|name| schema.index_of(name).is_err()) {
        Some(missing) => Err(no_bounds(format!("It has no column \"{missing}\"."))),
        None => Ok(()),
    }
}
