//! `correlation_matrix(source, columns, method)`

use std::sync::{Arc, LazyLock};

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::error::Result as DfResult;
use datafusion::execution::SendableRecordBatchStream;

use super::columns::{batch, counts, doubles, numbers, schema, texts};
use super::read::{self, Gather, gather, reservation};
use crate::error::{Error, Result};
use crate::functions::MlContext;
use crate::functions::relation::{Arguments, Call, Kind, MlRelation, Parameter};
use crate::kernels::prepare::moments::{PairMoments, PairTable};
use crate::kernels::prepare::order::ranks;

/// Columns at most: the work grows with their square.
const COLUMNS_MAX: usize = 300;

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    schema(&[("feature_a", DataType::Utf8), ("feature_b", DataType::Utf8), ("correlation", DataType::Float64), ("rows", DataType::Int64)])
});

/// See [`MlRelation::doc`].
#[derive(Debug)]
pub(super) struct CorrelationMatrix;

impl MlRelation for CorrelationMatrix {
    fn name(&self) -> &'static str {
        "correlation_matrix"
    }

    fn parameters(&self) -> &'static [Parameter] {
        const PARAMETERS: &[Parameter] = &[
            Parameter::required("source", Kind::Source, "The table."),
            Parameter::optional("columns", Kind::Text, "NULL", "Which columns, 'a, b'; by default every number and boolean."),
            Parameter::optional("method", Kind::Text, "'pearson'", "pearson, or spearman (ranks, ties sharing their mean rank)."),
        ];
        PARAMETERS
    }

    fn doc(&self) -> &'static str {
        "The correlation of every pair of columns, each pair in both orders and each column with itself, so that a pivot is complete. A pair is \
         computed over the rows where both are there, as pandas does; NULL when one side does not vary. Pearson's is one pass in \
         bounded memory and does not depend on partitions; Spearman's holds the columns."
    }

    fn example(&self) -> &'static str {
        "SELECT * FROM correlation_matrix('sessions', columns => '\"BounceRates\", \"ExitRates\", \"PageValues\"')"
    }

    fn schema(&self, _: &Arguments, _: Option<&Schema>, _: &MlContext) -> Result<SchemaRef> {
        Ok(Arc::clone(&SCHEMA))
    }

    fn execute(&self, call: Call) -> Result<SendableRecordBatchStream> {
        let spearman = match call.args.text("method").map(str::to_lowercase).as_deref() {
            None | Some("pearson") => false,
            Some("spearman") => true,
            Some(other) => {
                return Err(Error::invalid(format!("there is no method \"{other}\"")).detail("The methods are pearson and spearman."));
            }
        };
        let own = call.clone();
        Ok(call.once(async move { matrix(&own, spearman).await }))
    }
}

/// Moments of all pairs.
struct Pairs {
    columns: Arc<[usize]>,
    table: PairTable,
}

impl Gather for Pairs {
    fn push(&mut self, batch: &RecordBatch) -> Result<()> {
        self.table.add(&read::numbers(batch, &self.columns)?);
        Ok(())
    }

    fn merge(&mut self, other: Self) {
        self.table.merge(&other.table);
    }

    fn bytes(&self) -> usize {
        self.table.bytes()
    }
}

/// The columns themselves.
struct Held {
    columns: Arc<[usize]>,
    values: Vec<Vec<f64>>,
}

impl Gather for Held {
    fn push(&mut self, batch: &RecordBatch) -> Result<()> {
        let read = read::numbers(batch, &self.columns)?;
        self.values.iter_mut().zip(read).for_each(|(held, values)| held.extend(values));
        Ok(())
    }

    fn merge(&mut self, other: Self) {
        self.values.iter_mut().zip(other.values).for_each(|(held, values)| held.extend(values));
    }

    fn bytes(&self) -> usize {
        self.values.iter().map(|values| values.capacity() * 8).sum()
    }
}

async fn matrix(call: &Call, spearman: bool) -> DfResult<RecordBatch> {
    let source = call.source.as_ref().map(|source| source.plan.schema()).ok_or_else(|| call.args.missing("source"))?;
    let columns: Arc<[usize]> = numbers(&source, call.args.text("columns"), COLUMNS_MAX)?.into();
    let size = columns.len();
    let mut pairs: Vec<(Option<f64>, u64)> = Vec::with_capacity(size * size);
    if spearman {
        let new = || Held { columns: Arc::clone(&columns), values: vec![Vec::new(); size] };
        let (held, _room) = gather(call, "correlation_matrix", new).await?;
        let rows = held.values.first().map_or(0, Vec::len);
        // The ranks of a pair, their order and the columns' own ranks.
        let extra = reservation(call, "correlation_matrix");
        extra.try_resize(rows.saturating_mul(48 + 8 * size))?;
        let token = call.statement().cancel.clone();
        pairs = tokio::task::spawn_blocking(move || spearman_pairs(&held.values, || token.is_cancelled()))
            .await
            .map_err(|error| Error::internal(format!("a worker failed: {error}")))??;
    } else {
        let (found, _room) =
            gather(call, "correlation_matrix", || Pairs { columns: Arc::clone(&columns), table: PairTable::new(size) }).await?;
        for at in 0..size * size {
            let pair = found.table.pair(at / size, at % size);
            pairs.push((pair.and_then(PairMoments::correlation), pair.map_or(0, |pair| pair.x.count)));
        }
    }
    let name = |index: usize| columns.get(index).map(|column| source.field(*column).name().clone());
    let arrays = vec![
        texts((0..size * size).map(|at| name(at / size))),
        texts((0..size * size).map(|at| name(at % size))),
        doubles(pairs.iter().map(|(correlation, _)| *correlation)),
        counts(pairs.iter().map(|(_, rows)| *rows)),
    ];
    batch(&SCHEMA, arrays)
}

/// Correlations of ranks, pair by pair over the rows where both numbers are there.
fn spearman_pairs(columns: &[Vec<f64>], cancelled: impl Fn() -> bool) -> Result<Vec<(Option<f64>, u64)>> {
    let size = columns.len();
    let whole: Vec<Option<Vec<f64>>> = columns.iter().map(|column| (!column.iter().any(|x| x.is_nan())).then(|| ranks(column))).collect();
    let mut found = vec![(None, 0); size * size];
    for i in 0..size {
        for j in i..size {
            if cancelled() {
                return Err(Error::cancelled());
            }
            let mut pair = PairMoments::default();
            match (&whole[i], &whole[j]) {
                (Some(x), Some(y)) => x.iter().zip(y).for_each(|(x, y)| pair.add(*x, *y)),
                _ => {
                    let both = columns[i].iter().zip(&columns[j]).filter(|(x, y)| !x.is_nan() && !y.is_nan());
                    let (x, y): (Vec<f64>, Vec<f64>) = both.unzip();
                    ranks(&x).iter().zip(&ranks(&y)).for_each(|(x, y)| pair.add(*x, *y));
                }
            }
            let answer = (pair.correlation(), pair.x.count);
            (found[i * size + j], found[j * size + i]) = (answer, answer);
        }
    }
    Ok(found)
}
