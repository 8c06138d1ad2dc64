//! `profile_table(source)`: what an analyst looks at first.

use std::sync::{Arc, LazyLock};

use arrow::array::{BooleanArray, RecordBatch};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::error::Result as DfResult;
use datafusion::execution::SendableRecordBatchStream;

use super::columns::{batch, counts, doubles, schema, texts};
use super::read::{Gather, gather};
use super::shown::Shown;
use crate::error::Result;
use crate::functions::MlContext;
use crate::functions::relation::{Arguments, Call, Kind, MlRelation, Parameter, sql_type};
use crate::kernels::prepare::profile::ColumnProfile;

/// Characters of a value in `top_values`.
const VALUE_CHARS: usize = 80;

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let text = DataType::Utf8;
    schema(&[
        ("column_name", text.clone()),
        ("type", text.clone()),
        ("rows", DataType::Int64),
        ("missing", DataType::Int64),
        ("missing_share", DataType::Float64),
        ("distinct_values", DataType::Int64),
        ("min", text.clone()),
        ("q05", text.clone()),
        ("q25", text.clone()),
        ("median", text.clone()),
        ("q75", text.clone()),
        ("q95", text.clone()),
        ("max", text.clone()),
        ("mean", DataType::Float64),
        ("stddev", DataType::Float64),
        ("top_values", text),
        ("approximate", DataType::Boolean),
    ])
});

/// See [`MlRelation::doc`].
#[derive(Debug)]
pub(super) struct ProfileTable;

impl MlRelation for ProfileTable {
    fn name(&self) -> &'static str {
        "profile_table"
    }

    fn parameters(&self) -> &'static [Parameter] {
        const PARAMETERS: &[Parameter] = &[
            Parameter::required("source", Kind::Source, "The table to look at."),
            Parameter::optional("top", Kind::Integer, "5", "How many of the most frequent values to show, 0 to 100."),
        ];
        PARAMETERS
    }

    fn doc(&self) -> &'static str {
        "A row about each column of a source, from one pass in bounded memory: its type, rows, missing values (NULL or NaN), distinct values, \
         range, quantiles (linear interpolation, as percentile_cont), mean, sample deviation and the most frequent values with their \
         counts as JSON. Everything is exact for a column of at most 16384 distinct values (of 4 MiB together). Beyond that \
         `approximate` is true: distinct values are within about 3 %, quantiles within 0.1 % of themselves (times within an hour), and \
         top values are those that are at least one in 400, with counts that may be one in 4000 too high; rows, missing values, range, \
         mean and deviation stay exact. The answer does not depend on the order of rows or on partitions. Booleans and times of day \
         are read as text; of arrays and records only missing values are counted."
    }

    fn example(&self) -> &'static str {
        "SELECT column_name, type, missing, distinct_values, min, median, max, top_values FROM profile_table('sessions')"
    }

    fn schema(&self, _: &Arguments, _: Option<&Schema>, _: &MlContext) -> Result<SchemaRef> {
        Ok(Arc::clone(&SCHEMA))
    }

    fn execute(&self, call: Call) -> Result<SendableRecordBatchStream> {
        let top = call.args.integer_in("top", 5, 0..=100)? as usize;
        let own = call.clone();
        Ok(call.once(async move { profile(&own, top).await }))
    }
}

/// The profiles of all columns.
struct Profiles {
    shown: Vec<Shown>,
    columns: Vec<ColumnProfile>,
}

impl Profiles {
    fn new(schema: &Schema) -> Self {
        let shown: Vec<Shown> = schema.fields().iter().map(|field| Shown::of(field.data_type())).collect();
        let columns = shown.iter().map(|shown| ColumnProfile::new(shown.scale())).collect();
        Self { shown, columns }
    }
}

impl Gather for Profiles {
    fn push(&mut self, batch: &RecordBatch) -> Result<()> {
        for ((shown, profile), array) in self.shown.iter().zip(&mut self.columns).zip(batch.columns()) {
            shown.add(array, profile)?;
        }
        Ok(())
    }

    fn merge(&mut self, other: Self) {
        self.columns.iter_mut().zip(&other.columns).for_each(|(mine, theirs)| mine.merge(theirs));
    }

    fn bytes(&self) -> usize {
        self.columns.iter().map(ColumnProfile::bytes).sum()
    }
}

async fn profile(call: &Call, top: usize) -> DfResult<RecordBatch> {
    let source = call.source.as_ref().map(|source| source.plan.schema()).ok_or_else(|| call.args.missing("source"))?;
    let (found, _room) = gather(call, "profile_table", || Profiles::new(&source)).await?;
    let columns: Vec<(Shown, &ColumnProfile)> = found.shown.iter().copied().zip(&found.columns).collect();
    let text =
        |value: &dyn Fn(Shown, &ColumnProfile) -> Option<String>| texts(columns.iter().map(|(shown, profile)| value(*shown, profile)));
    let count = |value: &dyn Fn(&ColumnProfile) -> u64| counts(columns.iter().map(|(_, profile)| value(profile)));
    let number =
        |value: &dyn Fn(Shown, &ColumnProfile) -> Option<f64>| doubles(columns.iter().map(|(shown, profile)| value(*shown, profile)));
    let quantile = |q: f64| {
        text(&|shown, profile| {
            let found = shown.is_ordered().then(|| profile.quantiles(&[q]).pop().flatten()).flatten();
            found.map(|value| shown.quantile_text(value))
        })
    };
    let distinct = columns.iter().map(|(shown, profile)| (*shown != Shown::Opaque).then(|| profile.distinct() as i64));
    let moments =
        |value: fn(&ColumnProfile) -> Option<f64>| number(&move |shown, profile| if shown.is_number() { value(profile) } else { None });
    let arrays = vec![
        texts(source.fields().iter().map(|field| Some(field.name()))),
        texts(source.fields().iter().map(|field| Some(sql_type(field.data_type())))),
        count(&|profile| profile.rows),
        count(&|profile| profile.missing),
        number(&|_, profile| (profile.rows > 0).then(|| profile.missing as f64 / profile.rows as f64)),
        Arc::new(distinct.collect::<arrow::array::Int64Array>()),
        text(&|shown, profile| profile.range.as_ref().map(|(least, _)| shortened(shown.text(least)))),
        quantile(0.05),
        quantile(0.25),
        quantile(0.5),
        quantile(0.75),
        quantile(0.95),
        text(&|shown, profile| profile.range.as_ref().map(|(_, greatest)| shortened(shown.text(greatest)))),
        moments(|profile| profile.moments.mean()),
        moments(|profile| profile.moments.deviation(1)),
        text(&|shown, profile| (shown != Shown::Opaque && top > 0).then(|| top_values(shown, profile, top))),
        Arc::new(columns.iter().map(|(_, profile)| Some(!profile.is_exact())).collect::<BooleanArray>()),
    ];
    batch(&SCHEMA, arrays)
}

/// `[{"value": "view", "count": 12}, …]`
fn top_values(shown: Shown, profile: &ColumnProfile, top: usize) -> String {
    let value = |(key, count): &(Vec<u8>, u64)| {
        let value = serde_json::Value::String(shortened(shown.text(key)));
        format!("{{\"value\": {value}, \"count\": {count}}}")
    };
    format!("[{}]", profile.top(top).iter().map(value).collect::<Vec<_>>().join(", "))
}

/// A long text with its end left out.
fn shortened(text: String) -> String {
    match text.char_indices().nth(VALUE_CHARS) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or("")),
        None => text,
    }
}
