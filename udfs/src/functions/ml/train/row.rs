//! The one row that a training returns.

use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::error::Result as DfResult;

use crate::registry::VersionInfo;

/// The columns of `train_profile_model`.
pub(super) static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let field = |name: &str, data_type: DataType| Field::new(name, data_type, true);
    let numbers = |names: &[&str]| names.iter().map(|name| field(name, DataType::Int64)).collect::<Vec<_>>();
    let mut fields = vec![
        Field::new("model", DataType::Utf8, false),
        Field::new("version", DataType::Int32, false),
        Field::new("state", DataType::Utf8, false),
        field("arch", DataType::Utf8),
        Field::new("target", DataType::Utf8, false),
    ];
    fields.extend(numbers(&["users", "train_rows", "valid_rows", "test_rows", "dropped_rows", "censored_rows"]));
    fields.push(field("metric", DataType::Utf8));
    fields.extend([field("test", DataType::Float64), field("baseline", DataType::Float64)]);
    fields.extend([field("epochs", DataType::Int32), field("best_epoch", DataType::Int32), field("parameters", DataType::Int64)]);
    fields.extend([field("device", DataType::Utf8), field("seconds", DataType::Float64)]);
    fields.push(field("as_of", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))));
    fields.extend([Field::new("active", DataType::Boolean, false), field("message", DataType::Utf8)]);
    Arc::new(Schema::new(fields))
});

/// What the row says beside the version itself.
#[derive(Debug, Clone)]
pub(super) struct Outcome {
    pub(super) model: String,
    pub(super) version: u32,
    pub(super) state: &'static str,
    pub(super) target: String,
    /// `None` while it is not trained yet.
    pub(super) info: Option<Arc<VersionInfo>>,
    pub(super) active: bool,
    pub(super) message: String,
}

fn count(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn small(value: u32) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}

impl Outcome {
    pub(super) fn batch(&self) -> DfResult<RecordBatch> {
        let info = self.info.as_deref();
        let text = |value: Option<&str>| Arc::new(StringArray::from(vec![value])) as ArrayRef;
        let long = |of: &dyn Fn(&VersionInfo) -> u64| Arc::new(Int64Array::from(vec![info.map(|i| count(of(i)))])) as ArrayRef;
        let short = |of: &dyn Fn(&VersionInfo) -> u32| Arc::new(Int32Array::from(vec![info.map(|i| small(of(i)))])) as ArrayRef;
        let double = |of: &dyn Fn(&VersionInfo) -> f64| {
            Arc::new(Float64Array::from(vec![info.map(of).filter(|value| value.is_finite())])) as ArrayRef
        };
        let as_of = TimestampMicrosecondArray::from(vec![info.and_then(|i| i.as_of_us)]).with_timezone("UTC");
        let columns: Vec<ArrayRef> = vec![
            text(Some(&self.model)),
            Arc::new(Int32Array::from(vec![small(self.version)])),
            text(Some(self.state)),
            text(info.map(|i| i.arch.as_str())),
            text(Some(&self.target)),
            long(&|i| i.users),
            long(&|i| i.train_rows),
            long(&|i| i.valid_rows),
            long(&|i| i.test_rows),
            long(&|i| i.dropped_rows),
            long(&|i| i.censored_rows),
            text(info.map(|i| i.metric.as_str())),
            double(&|i| i.test),
            double(&|i| i.baseline),
            short(&|i| i.epochs),
            short(&|i| i.best_epoch),
            long(&|i| i.parameters),
            text(info.map(|i| i.device.as_str())),
            double(&|i| i.seconds),
            Arc::new(as_of),
            Arc::new(BooleanArray::from(vec![self.active])),
            text(Some(&self.message)),
        ];
        Ok(RecordBatch::try_new(Arc::clone(&SCHEMA), columns)?)
    }
}
