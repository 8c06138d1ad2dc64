//! `describe_events(source)`: which column is taken for what, before anything is trained.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, UInt64Type};
use datafusion::common::{Column, ScalarValue};
use datafusion::error::Result as DfResult;
use datafusion::execution::{SendableRecordBatchStream, SessionState};
use datafusion::functions_aggregate::expr_fn::{approx_distinct, count, max, min};
use datafusion::logical_expr::{Expr, LogicalPlanBuilder, lit, try_cast};
use datafusion::physical_plan::collect;

use crate::error::{Error, Result};
use crate::features::ColumnDecision;
use crate::functions::MlContext;
use crate::functions::relation::{Arguments, Call, Kind, MlRelation, Parameter};
use crate::functions::source::{plan_sql, resolve_columns};

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let text = |name: &str, nullable| Field::new(name, DataType::Utf8, nullable);
    let number = |name: &str| Field::new(name, DataType::Int64, true);
    Arc::new(Schema::new(vec![
        text("role", false),
        text("column_name", false),
        text("type", false),
        number("nulls"),
        number("distinct_est"),
        text("min", true),
        text("max", true),
        text("decision", false),
        text("reason", false),
    ]))
});

/// See [`MlRelation::doc`].
#[derive(Debug)]
pub struct DescribeEvents;

impl MlRelation for DescribeEvents {
    fn name(&self) -> &'static str {
        "describe_events"
    }

    fn parameters(&self) -> &'static [Parameter] {
        const PARAMETERS: &[Parameter] = &[
            Parameter::required("source", Kind::Source, "The events to look at."),
            Parameter::optional("columns", Kind::Text, "'auto'", "Roles to check instead of the guess: 'user=customer_id, time=ts, …'."),
        ];
        PARAMETERS
    }

    fn doc(&self) -> &'static str {
        "Shows which column of a source is taken for which role before anything is trained, with its NULLs, distinct values and range, \
         and the reason."
    }

    fn example(&self) -> &'static str {
        "SELECT role, column_name, decision FROM describe_events('events')"
    }

    fn schema(&self, _: &Arguments, _: Option<&Schema>, _: &MlContext) -> Result<SchemaRef> {
        Ok(Arc::clone(&SCHEMA))
    }

    fn execute(&self, call: Call) -> Result<SendableRecordBatchStream> {
        let sql = call.source.as_ref().map(|s| s.sql.clone()).ok_or_else(|| call.args.missing("source"))?;
        let (session, columns) = (call.session.clone(), call.args.text("columns").unwrap_or("auto").to_owned());
        Ok(call.once(async move { describe(&session, &sql, &columns).await }))
    }
}

/// What one pass over the source says about a column.
#[derive(Debug, Default)]
struct Profile {
    nulls: Option<i64>,
    distinct: Option<i64>,
    min: Option<String>,
    max: Option<String>,
}

async fn describe(session: &SessionState, sql: &str, columns: &str) -> DfResult<RecordBatch> {
    let (_, decisions) = resolve_columns(session, sql, columns).await?;
    let profiles = profiles(session, sql).await?;
    let none = Profile::default();
    let of = |d: &ColumnDecision| profiles.get(&d.column_name).unwrap_or(&none);
    let text = |value: &dyn Fn(&ColumnDecision) -> String| Arc::new(StringArray::from_iter_values(decisions.iter().map(value))) as ArrayRef;
    let numbers =
        |value: &dyn Fn(&Profile) -> Option<i64>| Arc::new(Int64Array::from_iter(decisions.iter().map(|d| value(of(d))))) as ArrayRef;
    let texts =
        |value: &dyn Fn(&Profile) -> Option<String>| Arc::new(StringArray::from_iter(decisions.iter().map(|d| value(of(d))))) as ArrayRef;
    let arrays = vec![
        text(&|d| role_name(d)),
        text(&|d| d.column_name.clone()),
        text(&|d| d.r#type.clone()),
        numbers(&|p| p.nulls),
        numbers(&|p| p.distinct),
        texts(&|p| p.min.clone()),
        texts(&|p| p.max.clone()),
        text(&|d| d.decision.clone()),
        text(&|d| d.reason.clone()),
    ];
    Ok(RecordBatch::try_new(Arc::clone(&SCHEMA), arrays)?)
}

fn role_name(decision: &ColumnDecision) -> String {
    match serde_json::to_value(decision.role) {
        Ok(serde_json::Value::String(name)) => name,
        _ => String::new(),
    }
}

/// NULLs, distinct values and range of every column, in one pass.
async fn profiles(session: &SessionState, sql: &str) -> DfResult<HashMap<String, Profile>> {
    let plan = plan_sql(session, sql).await?;
    let schema = plan.schema().as_arrow().clone();
    let mut aggregates = vec![count(lit(1i64)).alias("rows")];
    let mut slots = vec![];
    for (index, field) in schema.fields().iter().enumerate() {
        let column = Expr::Column(Column::from_name(field.name()));
        let mut push = |what: &str, expr: Expr| {
            aggregates.push(expr.alias(format!("{what}{index}")));
            aggregates.len() - 1
        };
        let counted = push("count", count(column.clone()));
        let range = ordered(field.data_type()).then(|| {
            let smallest = push("min", min(column.clone()));
            (smallest, push("max", max(column.clone())))
        });
        let distinct = ordered(field.data_type()).then(|| push("distinct", approx_distinct(countable(column, field.data_type()))));
        slots.push((field.name().clone(), counted, range, distinct));
    }
    let plan = LogicalPlanBuilder::from(plan).aggregate(Vec::<Expr>::new(), aggregates)?.build()?;
    let physical = session.create_physical_plan(&plan).await?;
    let out = physical.schema();
    let batches = collect(physical, session.task_ctx()).await?;
    let row = arrow::compute::concat_batches(&out, &batches)?;
    if row.num_rows() != 1 {
        return Err(Error::internal("an aggregate without groups gave no row").into());
    }
    let rows = integer(row.column(0)).unwrap_or(0);
    let text = |i: usize| ScalarValue::try_from_array(row.column(i), 0).and_then(|v| v.cast_to(&DataType::Utf8)).ok().and_then(as_text);
    let of = |(name, counted, range, distinct): (String, usize, Option<(usize, usize)>, Option<usize>)| {
        let profile = Profile {
            nulls: integer(row.column(counted)).map(|n| rows - n),
            distinct: distinct.and_then(|i| integer(row.column(i))),
            min: range.and_then(|(i, _)| text(i)),
            max: range.and_then(|(_, i)| text(i)),
        };
        (name, profile)
    };
    Ok(slots.into_iter().map(of).collect())
}

fn as_text(value: ScalarValue) -> Option<String> {
    value.try_as_str().flatten().map(str::to_owned)
}

fn integer(column: &ArrayRef) -> Option<i64> {
    if let Some(a) = column.as_primitive_opt::<Int64Type>() {
        return a.is_valid(0).then(|| a.value(0));
    }
    column.as_primitive_opt::<UInt64Type>().filter(|a| a.is_valid(0)).and_then(|a| i64::try_from(a.value(0)).ok())
}

/// Whether a type has a smallest and a largest value that can be shown.
fn ordered(data_type: &DataType) -> bool {
    data_type.is_primitive() || data_type.is_string() || matches!(data_type, DataType::Boolean | DataType::Dictionary(..))
}

/// `approx_distinct` takes few types; text stands for the others.
fn countable(column: Expr, data_type: &DataType) -> Expr {
    if data_type.is_integer() || data_type.is_string() { column } else { try_cast(column, DataType::Utf8) }
}
