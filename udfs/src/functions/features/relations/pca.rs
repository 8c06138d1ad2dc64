//! `pca(source, components, columns, standardize)`

use std::sync::{Arc, LazyLock};

use arrow::array::{Int32Array, RecordBatch};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::error::Result as DfResult;
use datafusion::execution::SendableRecordBatchStream;

use super::columns::{batch, counts, doubles, numbers, schema, texts};
use super::read::{self, Gather, gather};
use crate::error::{Code, Error, Result};
use crate::functions::MlContext;
use crate::functions::relation::{Arguments, Call, Kind, MlRelation, Parameter};
use crate::kernels::prepare::eigen::{self, Components};
use crate::kernels::prepare::moments::PairTable;

/// Columns at most: the work grows with their cube.
const COLUMNS_MAX: usize = 512;

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    schema(&[
        ("component", DataType::Int32),
        ("feature", DataType::Utf8),
        ("loading", DataType::Float64),
        ("mean", DataType::Float64),
        ("scale", DataType::Float64),
        ("explained_variance", DataType::Float64),
        ("explained_variance_ratio", DataType::Float64),
        ("rows", DataType::Int64),
        ("dropped_rows", DataType::Int64),
    ])
});

/// See [`MlRelation::doc`].
#[derive(Debug)]
pub(super) struct Pca;

impl MlRelation for Pca {
    fn name(&self) -> &'static str {
        "pca"
    }

    fn parameters(&self) -> &'static [Parameter] {
        const PARAMETERS: &[Parameter] = &[
            Parameter::required("source", Kind::Source, "The table."),
            Parameter::optional("components", Kind::Integer, "NULL", "How many; by default as many as there are columns."),
            Parameter::optional("columns", Kind::Text, "NULL", "Which columns, 'a, b'; by default every number and boolean."),
            Parameter::optional("standardize", Kind::Boolean, "false", "Whether each column is divided by its standard deviation first."),
        ];
        PARAMETERS
    }

    fn doc(&self) -> &'static str {
        "The principal components of a table's numbers, a row for each component and column: its loading, what was taken off and divided by, and the \
         variance that the component explains. As scikit-learn's PCA (after StandardScaler with standardize), with its rule for the sign: \
         the loading of the greatest size is positive. Rows with a missing number are left out and counted. A row's place on component \
         k is the sum of loading · (x - mean) / scale; to keep components and apply them to other rows use fit_transform with the step pca."
    }

    fn example(&self) -> &'static str {
        "SELECT component, feature, loading, explained_variance_ratio FROM pca('sessions', 2, columns => '\"BounceRates\", \"ExitRates\"')"
    }

    fn schema(&self, _: &Arguments, _: Option<&Schema>, _: &MlContext) -> Result<SchemaRef> {
        Ok(Arc::clone(&SCHEMA))
    }

    fn execute(&self, call: Call) -> Result<SendableRecordBatchStream> {
        let own = call.clone();
        Ok(call.once(async move { components(&own).await }))
    }
}

/// Moments over the rows without a missing number.
struct Complete {
    columns: Arc<[usize]>,
    table: PairTable,
    rows: u64,
    dropped: u64,
}

impl Gather for Complete {
    fn push(&mut self, batch: &RecordBatch) -> Result<()> {
        let mut values = read::numbers(batch, &self.columns)?;
        let rows = batch.num_rows();
        let whole: Vec<bool> = (0..rows).map(|row| values.iter().all(|column| !column[row].is_nan())).collect();
        let kept = whole.iter().filter(|whole| **whole).count();
        if kept < rows {
            for column in &mut values {
                let mut keep = whole.iter();
                column.retain(|_| keep.next().copied().unwrap_or(false));
            }
        }
        self.rows += kept as u64;
        self.dropped += (rows - kept) as u64;
        self.table.add(&values);
        Ok(())
    }

    fn merge(&mut self, other: Self) {
        self.rows += other.rows;
        self.dropped += other.dropped;
        self.table.merge(&other.table);
    }

    fn bytes(&self) -> usize {
        self.table.bytes()
    }
}

/// What is taken off each column, what it is divided by, and the covariance of the result.
fn scaled(found: &Complete, names: &[String], standardize: bool) -> Result<(Vec<f64>, Vec<f64>, Vec<f64>)> {
    let size = names.len();
    let (mut means, mut scales) = (Vec::with_capacity(size), vec![1.0; size]);
    for (i, name) in names.iter().enumerate() {
        let moments = found.table.pair(i, i).map(|pair| pair.x).filter(|moments| moments.is_finite());
        let moments =
            moments.ok_or_else(|| Error::new(Code::NumericOutOfRange, format!("column \"{name}\" holds numbers too large to add up")))?;
        means.push(moments.mean().unwrap_or(0.0));
        if standardize {
            scales[i] = moments.deviation(0).filter(|deviation| *deviation > 0.0).unwrap_or(1.0);
        }
    }
    let mut covariance = found.table.covariances();
    for (at, value) in covariance.iter_mut().enumerate() {
        *value /= scales[at / size] * scales[at % size];
    }
    Ok((means, scales, covariance))
}

async fn components(call: &Call) -> DfResult<RecordBatch> {
    let source = call.source.as_ref().map(|source| source.plan.schema()).ok_or_else(|| call.args.missing("source"))?;
    let columns: Arc<[usize]> = numbers(&source, call.args.text("columns"), COLUMNS_MAX)?.into();
    let size = columns.len();
    let count = call.args.integer_in("components", size as i64, 1..=size as i64)? as usize;
    let new = || Complete { columns: Arc::clone(&columns), table: PairTable::new(size), rows: 0, dropped: 0 };
    let (found, room) = gather(call, "pca", new).await?;
    if found.rows < 2 {
        return Err(Error::invalid("principal components need at least two rows without missing numbers")
            .detail(format!("{} rows have a missing number.", found.dropped))
            .into());
    }
    let names: Vec<String> = columns.iter().map(|column| source.field(*column).name().clone()).collect();
    let (means, scales, covariance) = scaled(&found, &names, call.args.boolean("standardize").unwrap_or(false))?;
    room.try_resize(found.bytes() + 3 * size * size * 8)?;
    let token = call.statement().cancel.clone();
    let check = move || if token.is_cancelled() { Err(Error::cancelled()) } else { Ok(()) };
    let work = move || eigen::principal(&covariance, size, count, check);
    let axes = tokio::task::spawn_blocking(work).await.map_err(|error| Error::internal(format!("a worker failed: {error}")))??;
    rows(&axes, &names, &means, &scales, &found)
}

fn rows(found: &Components, names: &[String], means: &[f64], scales: &[f64], read: &Complete) -> DfResult<RecordBatch> {
    let (count, size) = (found.axes.len(), names.len());
    let by = |values: &[f64], at: usize| values.get(at).copied();
    let arrays = vec![
        Arc::new((0..count * size).map(|at| i32::try_from(at / size + 1).ok()).collect::<Int32Array>()) as arrow::array::ArrayRef,
        texts((0..count * size).map(|at| names.get(at % size))),
        doubles(found.axes.iter().flatten().map(|loading| Some(*loading))),
        doubles((0..count * size).map(|at| by(means, at % size))),
        doubles((0..count * size).map(|at| by(scales, at % size))),
        doubles((0..count * size).map(|at| by(&found.variances, at / size))),
        doubles((0..count * size).map(|at| by(&found.ratios, at / size))),
        counts((0..count * size).map(|_| read.rows)),
        counts((0..count * size).map(|_| read.dropped)),
    ];
    batch(&SCHEMA, arrays)
}
