//! `link_ids_from(source)`

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::execute_stream;
use futures::StreamExt;

use super::arguments::{fits, ids_max, now_us, unfit};
use crate::context::{LinkOf, LinkWriter};
use crate::error::{Code, Error, Result};
use crate::functions::MlContext;
use crate::functions::relation::{Arguments, Call, Effect, Kind, MlRelation, Parameter, sql_type};

/// See [`MlRelation::doc`].
#[derive(Debug)]
pub(super) struct LinkIdsFrom;

impl MlRelation for LinkIdsFrom {
    fn name(&self) -> &'static str {
        "link_ids_from"
    }

    fn parameters(&self) -> &'static [Parameter] {
        const PARAMETERS: &[Parameter] = &[Parameter::required(
            "source",
            Kind::Source,
            "The links: columns a and b (bigint or text), and, where they are known, source (text) and at or linked_at (timestamp). Other columns are left out.",
        )];
        PARAMETERS
    }

    fn doc(&self) -> &'static str {
        "Says of each row of a query that its two ids are one person, as link_ids, in one change: all links become visible at once, or none \
         when the statement is cancelled, or when a person would have more than identity_ids_max ids (54000; whether that happens does not depend on the order of \
         rows). The source is streamed, with about 24 bytes kept for a row. ml.identity_links has what it takes, so links can be carried to another \
         data directory. One row: links that are new and that were there, rows without two ids, rows left out because a user is suppressed, \
         and how many persons have more than one id now. Superusers only."
    }

    fn example(&self) -> &'static str {
        "SELECT links, existing, dropped_rows, persons FROM link_ids_from($$SELECT DISTINCT 'web-' || user_id AS a, user_id AS b, 'login' AS source FROM events WHERE user_id < 12400$$)"
    }

    fn schema(&self, _: &Arguments, source: Option<&Schema>, _: &MlContext) -> Result<SchemaRef> {
        Columns::of(source.ok_or_else(|| Error::internal("a source is missing"))?)?;
        let count = |name: &str| Field::new(name, DataType::Int64, false);
        Ok(Arc::new(Schema::new(vec![
            count("links"),
            count("existing"),
            count("dropped_rows"),
            count("suppressed_rows"),
            count("persons"),
        ])))
    }

    fn execute(&self, call: Call) -> Result<SendableRecordBatchStream> {
        let own = call.clone();
        Ok(call.once(async move { Ok(link(&own).await?) }))
    }

    fn effect(&self) -> Option<Effect> {
        Some(Effect::Changes)
    }
}

/// Where the columns are.
#[derive(Debug, Clone, Copy)]
struct Columns {
    a: usize,
    b: usize,
    source: Option<usize>,
    at: Option<usize>,
}

impl Columns {
    fn of(schema: &Schema) -> Result<Self> {
        let find = |name: &str| schema.fields().iter().position(|field| field.name().eq_ignore_ascii_case(name));
        let id = |name: &str| {
            let at = find(name).ok_or_else(|| {
                Error::new(Code::UndefinedColumn, format!("the source of link_ids_from has no column \"{name}\""))
                    .hint("Name the ids a and b: $$SELECT anonymous_id AS a, user_id AS b FROM …$$.")
            })?;
            let kind = schema.field(at).data_type();
            if fits(kind) { Ok(at) } else { Err(unfit("link_ids_from", kind)) }
        };
        let typed = |names: [&str; 2], word: &str, fits: fn(&DataType) -> bool| {
            let Some(at) = names.into_iter().find_map(find) else { return Ok(None) };
            let field = schema.field(at);
            if fits(field.data_type()) {
                return Ok(Some(at));
            }
            let message = format!("column \"{}\" of link_ids_from must be {word}, not {}", field.name(), sql_type(field.data_type()));
            Err(Error::new(Code::DatatypeMismatch, message))
        };
        let text = |kind: &DataType| match kind {
            DataType::Dictionary(_, value) => value.is_string(),
            kind => kind.is_string() || kind.is_null(),
        };
        let time = |kind: &DataType| matches!(kind, DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 | DataType::Null);
        Ok(Self {
            a: id("a")?,
            b: id("b")?,
            source: typed(["source", "source"], "text", text)?,
            at: typed(["at", "linked_at"], "timestamp", time)?,
        })
    }
}

/// Adds a batch's links; says how many rows have no two ids.
fn add(writer: &mut dyn LinkWriter, rows: &RecordBatch, columns: Columns, now_us: i64) -> Result<i64> {
    let internal = |error: arrow::error::ArrowError| Error::internal(error.to_string());
    let text = |at: usize| -> Result<StringArray> {
        let column = cast(rows.column(at), &DataType::Utf8).map_err(internal)?;
        Ok(column.as_string::<i32>().clone())
    };
    let (a, b) = (text(columns.a)?, text(columns.b)?);
    let source = columns.source.map(text).transpose()?;
    let microseconds = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let at = columns.at.map(|at| cast(rows.column(at), &microseconds)).transpose().map_err(internal)?;
    let at = at.as_ref().map(|at| at.as_primitive::<TimestampMicrosecondType>());
    let mut dropped = 0;
    for row in 0..rows.num_rows() {
        if a.is_null(row) || b.is_null(row) {
            dropped += 1;
            continue;
        }
        let source = source.as_ref().filter(|source| source.is_valid(row)).map(|source| source.value(row));
        let at_us = at.filter(|at| at.is_valid(row)).map_or(now_us, |at| at.value(row));
        writer.link(LinkOf { a: a.value(row), b: b.value(row), source, at_us })?;
    }
    Ok(dropped)
}

async fn link(call: &Call) -> Result<RecordBatch> {
    let (statement, now_us) = (call.statement(), now_us());
    let mut writer = call.context.identities.writer(&statement.user)?;
    let source = call.source.as_ref().ok_or_else(|| Error::internal("a source is missing"))?;
    let columns = Columns::of(&source.plan.schema())?;
    let mut rows = execute_stream(Arc::clone(&source.plan), Arc::clone(&call.task)).map_err(Error::from_engine)?;
    let mut dropped = 0;
    while let Some(batch) = rows.next().await {
        dropped += add(&mut *writer, &batch.map_err(Error::from_engine)?, columns, now_us)?;
    }
    drop(rows);
    let done = writer.commit(ids_max(call), statement.cancel.clone()).await?;
    let count = |count: u64| Arc::new(Int64Array::from_value(i64::try_from(count).unwrap_or(i64::MAX), 1)) as ArrayRef;
    let dropped = Arc::new(Int64Array::from_value(dropped, 1)) as ArrayRef;
    let columns = vec![count(done.changed), count(done.same), dropped, count(done.suppressed), count(done.persons)];
    RecordBatch::try_new(Arc::clone(&call.schema), columns).map_err(|error| Error::internal(error.to_string()))
}
