//! From a [`View`] to a table of the engine, and the columns they are made of.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use async_trait::async_trait;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::catalog::{SchemaProvider, TableProvider};
use datafusion::common::Result as DataFusionResult;
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use futures::{TryFutureExt, stream};

use super::MlContext;
use crate::context::StatementContext;
use crate::error::{Error, Result};
use crate::registry::ModelAction;

/// One view.
#[async_trait]
pub(super) trait View: fmt::Debug + Send + Sync + 'static {
    /// Its name in the schema `ml`.
    fn name(&self) -> &'static str;

    /// Column names and types, in order. Columns are only ever appended.
    fn columns(&self) -> &'static [(&'static str, Kind)];

    /// Who sees a row.
    fn seen_by(&self) -> SeenBy {
        SeenBy::Everybody
    }

    /// Its rows now: one column per entry of [`columns`](Self::columns). A view of many rows has [pages](Self::page) instead.
    async fn rows(&self, context: &MlContext) -> Result<Vec<Column>> {
        let _ = context;
        Err(Error::internal(format!("view {} has no rows", self.name())))
    }

    /// Its rows from a place on, and where to go on: the first place is 0. All rows at once unless a view says otherwise.
    async fn page(&self, context: &MlContext, statement: &StatementContext, from: usize) -> Result<Option<(Vec<Column>, usize)>> {
        let _ = statement;
        if from == 0 { Ok(Some((self.rows(context).await?, 1))) } else { Ok(None) }
    }
}

/// Who sees the rows of a view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SeenBy {
    /// Everybody.
    Everybody,
    /// Who may use the model that a column names, and the owner that another column names.
    UsersOfModel { model: &'static str, owner: Option<&'static str> },
    /// Who may use the transform that a column names.
    UsersOfTransform(&'static str),
    /// Who may read the audience that a column names.
    ReadersOfAudience(&'static str),
    /// Who may do everything.
    Superusers,
}

impl SeenBy {
    /// Which of some rows `caller` sees; `None` = all.
    fn mask(self, names: &[(&'static str, Kind)], columns: &[Column], context: &MlContext, caller: &str) -> Option<BooleanArray> {
        let texts = |wanted: &str| {
            let at = names.iter().position(|(name, _)| *name == wanted)?;
            if let Some(Column::Text(values)) = columns.get(at) { Some(values) } else { None }
        };
        // Views of many rows name few things.
        let mut known: HashMap<String, bool> = HashMap::new();
        let mut once = |name: &Option<String>, ask: &dyn Fn(&str) -> bool| match name {
            Some(name) => *known.entry(name.clone()).or_insert_with(|| ask(name)),
            None => false,
        };
        match self {
            Self::Everybody => None,
            Self::UsersOfModel { model, owner } => {
                let owners = owner.and_then(texts);
                let own = |row: usize| owners.is_some_and(|owners| owners[row].as_deref() == Some(caller));
                let may = |name: &str| context.registry.may_see(caller, name);
                Some(texts(model)?.iter().enumerate().map(|(row, name)| Some(own(row) || once(name, &may))).collect())
            }
            Self::UsersOfTransform(name) => {
                let may = |name: &str| context.registry.authorize_transform(caller, name, ModelAction::Execute).is_ok();
                Some(texts(name)?.iter().map(|name| Some(once(name, &may))).collect())
            }
            Self::ReadersOfAudience(name) => {
                let may = |name: &str| context.audiences.check(caller, name).is_ok();
                Some(texts(name)?.iter().map(|name| Some(once(name, &may))).collect())
            }
            Self::Superusers => {
                let rows = columns.first().map_or(0, Column::len);
                (!context.registry.may_see(caller, "")).then(|| BooleanArray::from(vec![false; rows]))
            }
        }
    }
}

/// Rows of one page.
pub(super) const PAGE_ROWS: usize = 8192;

/// A column's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Bool,
    Text,
    Int,
    BigInt,
    Float,
    /// With time zone, microseconds.
    Time,
}

/// A column's values.
#[derive(Debug)]
pub(super) enum Column {
    Bool(Vec<Option<bool>>),
    Text(Vec<Option<String>>),
    Int(Vec<Option<i32>>),
    BigInt(Vec<Option<i64>>),
    Float(Vec<Option<f64>>),
    Time(Vec<Option<i64>>),
}

const UTC: &str = "UTC";

impl Kind {
    fn data_type(self) -> DataType {
        match self {
            Self::Bool => DataType::Boolean,
            Self::Text => DataType::Utf8,
            Self::Int => DataType::Int32,
            Self::BigInt => DataType::Int64,
            Self::Float => DataType::Float64,
            Self::Time => DataType::Timestamp(TimeUnit::Microsecond, Some(UTC.into())),
        }
    }
}

impl Column {
    fn len(&self) -> usize {
        match self {
            Self::Bool(values) => values.len(),
            Self::Text(values) => values.len(),
            Self::Int(values) => values.len(),
            Self::BigInt(values) => values.len(),
            Self::Float(values) => values.len(),
            Self::Time(values) => values.len(),
        }
    }

    fn into_array(self) -> ArrayRef {
        match self {
            Self::Bool(values) => Arc::new(BooleanArray::from(values)),
            Self::Text(values) => Arc::new(StringArray::from(values)),
            Self::Int(values) => Arc::new(Int32Array::from(values)),
            Self::BigInt(values) => Arc::new(Int64Array::from(values)),
            // What was never measured is NULL, not NaN.
            Self::Float(values) => {
                Arc::new(Float64Array::from(values.into_iter().map(|value| value.filter(|value| !value.is_nan())).collect::<Vec<_>>()))
            }
            Self::Time(values) => Arc::new(TimestampMicrosecondArray::from(values).with_timezone(UTC)),
        }
    }
}

/// Collects one column from the rows' source.
pub(super) fn text<T>(rows: &[T], value: impl Fn(&T) -> Option<&str>) -> Column {
    Column::Text(rows.iter().map(|row| value(row).map(str::to_owned)).collect())
}

/// As [`text`], for a yes or no.
pub(super) fn bool<T>(rows: &[T], value: impl Fn(&T) -> Option<bool>) -> Column {
    Column::Bool(rows.iter().map(value).collect())
}

/// As [`text`], for a count.
pub(super) fn big<T>(rows: &[T], value: impl Fn(&T) -> Option<u64>) -> Column {
    Column::BigInt(rows.iter().map(|row| value(row).and_then(|value| i64::try_from(value).ok())).collect())
}

/// As [`text`], for a small number.
pub(super) fn int<T>(rows: &[T], value: impl Fn(&T) -> Option<u32>) -> Column {
    Column::Int(rows.iter().map(|row| value(row).and_then(|value| i32::try_from(value).ok())).collect())
}

/// As [`text`], for a measurement.
pub(super) fn float<T>(rows: &[T], value: impl Fn(&T) -> Option<f64>) -> Column {
    Column::Float(rows.iter().map(value).collect())
}

/// As [`text`], for a time in microseconds since 1970 UTC.
pub(super) fn time<T>(rows: &[T], value: impl Fn(&T) -> Option<i64>) -> Column {
    Column::Time(rows.iter().map(value).collect())
}

/// The schema `ml`; nobody adds tables to it.
#[derive(Debug)]
pub(super) struct MlSchema {
    tables: Vec<(&'static str, Arc<dyn TableProvider>)>,
}

impl MlSchema {
    pub(super) fn new(views: Vec<Arc<dyn View>>, context: &Arc<MlContext>) -> Self {
        let table = |view: Arc<dyn View>| {
            let fields: Vec<Field> = view.columns().iter().map(|(name, kind)| Field::new(*name, kind.data_type(), true)).collect();
            let (name, schema) = (view.name(), Arc::new(Schema::new(fields)));
            let rows = Arc::new(Rows { view, schema: Arc::clone(&schema), context: Arc::clone(context) });
            StreamingTable::try_new(schema, vec![rows]).ok().map(|table| (name, Arc::new(table) as Arc<dyn TableProvider>))
        };
        Self { tables: views.into_iter().filter_map(table).collect() }
    }
}

#[async_trait]
impl SchemaProvider for MlSchema {
    fn table_names(&self) -> Vec<String> {
        self.tables.iter().map(|(name, _)| (*name).to_owned()).collect()
    }

    async fn table(&self, name: &str) -> DataFusionResult<Option<Arc<dyn TableProvider>>> {
        Ok(self.tables.iter().find(|(known, _)| *known == name).map(|(_, table)| Arc::clone(table)))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.tables.iter().any(|(known, _)| *known == name)
    }
}

/// The rows of a view, made when the plan runs.
struct Rows {
    view: Arc<dyn View>,
    schema: SchemaRef,
    context: Arc<MlContext>,
}

impl fmt::Debug for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rows").field("view", &self.view.name()).finish_non_exhaustive()
    }
}

impl PartitionStream for Rows {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, task: Arc<TaskContext>) -> SendableRecordBatchStream {
        let (view, schema, context) = (Arc::clone(&self.view), Arc::clone(&self.schema), Arc::clone(&self.context));
        let statement = StatementContext::of(task.session_config());
        let stream = stream::try_unfold(0, move |from| {
            let (view, schema) = (Arc::clone(&view), Arc::clone(&schema));
            let (context, statement) = (Arc::clone(&context), Arc::clone(&statement));
            let made = async move {
                if statement.cancel.is_cancelled() {
                    return Err(Error::cancelled());
                }
                let Some((columns, next)) = view.page(&context, &statement, from).await? else { return Ok(None) };
                let seen = view.seen_by().mask(view.columns(), &columns, &context, &statement.user);
                let arrays = columns.into_iter().map(Column::into_array).collect();
                let batch = RecordBatch::try_new(schema, arrays);
                let batch = batch.map_err(|error| Error::internal(format!("view {}: {error}", view.name())))?;
                let batch = match seen {
                    Some(seen) => filter_record_batch(&batch, &seen).map_err(|error| Error::internal(error.to_string()))?,
                    None => batch,
                };
                Ok(Some((batch, next)))
            };
            made.map_err(DataFusionError::from)
        });
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), stream))
    }
}
