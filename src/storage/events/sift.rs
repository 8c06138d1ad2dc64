//! Decides of each incoming row whether it is an event, and lays it out for the spool.
//!
//! A spooled row begins with what it is sorted by: user, time and the number of its arrival. A refused row begins with
//! its number and the reason. Numbers count the rows of a statement as they came, so that of two events with one id the
//! first is kept, whatever the order they are written in.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, Scalar, StringViewArray, UInt64Array};
use datafusion::arrow::array::{TimestampMicrosecondArray, new_null_array};
use datafusion::arrow::compute::kernels::zip::zip;
use datafusion::arrow::compute::{filter_record_batch, is_not_null, not};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef, TimestampMicrosecondType};
use datafusion::arrow::error::ArrowError;
use portrait_udfs::error::{Error, Result};

use super::columns::{EventColumns, EventIndices};

/// A longer user is refused: each file's first and last user are kept in the table's log.
const USER_BYTES_MAX: usize = 1024;
/// Columns of a spooled event before the table's others.
const SPOOL_KEYS: usize = 3;

/// How rows of one statement are sifted.
pub(super) struct Sift {
    indices: EventIndices,
    schema: SchemaRef,
    /// The columns of a spooled event.
    spool: SchemaRef,
    /// The columns of a spooled refusal.
    refused: SchemaRef,
    reasons: Reasons,
    now_us: i64,
    /// Later events are from the future.
    latest_us: i64,
    /// Earlier events are older than the table keeps them.
    earliest_us: Option<i64>,
}

struct Reasons {
    no_user: String,
    long_user: String,
    no_time: String,
    future: String,
    old: String,
    no_id: String,
}

impl Sift {
    /// Sifts rows of a table with these columns. `latest_us` is the latest time that an event may have.
    pub(super) fn new(columns: &EventColumns, schema: &SchemaRef, now_us: i64, latest_us: i64) -> Result<Self> {
        let indices = columns.indices(schema)?;
        let number: FieldRef = Arc::new(Field::new("\u{2063}row", DataType::UInt64, false));
        let keys = [Arc::clone(&schema.fields()[indices.user]), Arc::clone(&schema.fields()[indices.time]), Arc::clone(&number)];
        let others = others(schema, &indices).map(|index| Arc::clone(&schema.fields()[index]));
        let spool = Arc::new(Schema::new(keys.into_iter().chain(others).collect::<Fields>()));
        let quarantine = EventColumns::quarantine_schema(schema);
        let refused = Arc::new(Schema::new(std::iter::once(number).chain(quarantine.fields().iter().cloned()).collect::<Fields>()));
        let reasons = Reasons {
            no_user: format!("{} is null", columns.user),
            long_user: format!("{} is longer than {USER_BYTES_MAX} bytes", columns.user),
            no_time: format!("{} is null", columns.time),
            future: format!("{} is in the future", columns.time),
            old: format!("{} is older than the table's retention", columns.time),
            no_id: columns.event_id.as_ref().map(|id| format!("{id} is null")).unwrap_or_default(),
        };
        Ok(Self { indices, schema: Arc::clone(schema), spool, refused, reasons, now_us, latest_us, earliest_us: None })
    }

    /// From now on refuses events before this time.
    pub(super) fn refuse_before(&mut self, earliest_us: Option<i64>) {
        self.earliest_us = earliest_us;
    }

    /// The columns of a spooled event; the first three are its order.
    pub(super) fn spool_schema(&self) -> &SchemaRef {
        &self.spool
    }

    /// The columns of a spooled refusal: its number, then the quarantine's.
    pub(super) fn refused_schema(&self) -> &SchemaRef {
        &self.refused
    }

    /// Of rows that fit the table, the events and the refusals, as they are spooled. `first` is the first row's number.
    pub(super) fn split(&self, rows: &RecordBatch, first: u64) -> Result<(RecordBatch, RecordBatch)> {
        self.split_rows(rows, first).map_err(|error| Error::internal(format!("sifting events: {error}")))
    }

    fn split_rows(&self, rows: &RecordBatch, first: u64) -> std::result::Result<(RecordBatch, RecordBatch), ArrowError> {
        let mut columns = rows.columns().to_vec();
        columns[self.indices.ingested_at] = arrived(&columns[self.indices.ingested_at], self.now_us)?;
        let number: ArrayRef = Arc::new(UInt64Array::from_iter_values((first..).take(rows.num_rows())));
        let reasons = self.reasons(rows);
        let event = |columns: &[ArrayRef]| {
            let keys = [Arc::clone(&columns[self.indices.user]), Arc::clone(&columns[self.indices.time]), Arc::clone(&number)];
            let others = others(&self.schema, &self.indices).map(|index| Arc::clone(&columns[index]));
            RecordBatch::try_new(Arc::clone(&self.spool), keys.into_iter().chain(others).collect())
        };
        let Some(reasons) = reasons else {
            return Ok((event(&columns)?, RecordBatch::new_empty(Arc::clone(&self.refused))));
        };
        let refused: BooleanArray = is_not_null(&reasons)?;
        let events = filter_record_batch(&event(&columns)?, &not(&refused)?)?;
        let all = [number, Arc::new(reasons) as ArrayRef].into_iter().chain(columns).collect();
        let refusals = filter_record_batch(&RecordBatch::try_new(Arc::clone(&self.refused), all)?, &refused)?;
        Ok((events, refusals))
    }

    /// Why rows are refused; `None` when none is.
    fn reasons(&self, rows: &RecordBatch) -> Option<StringViewArray> {
        let (user, time) = (rows.column(self.indices.user), rows.column(self.indices.time));
        let texts = user.as_string_view_opt();
        let times = time.as_primitive::<TimestampMicrosecondType>();
        let id = self.indices.event_id.map(|index| rows.column(index));
        let reason = |row: usize| {
            if user.is_null(row) {
                return Some(self.reasons.no_user.as_str());
            }
            if texts.is_some_and(|texts| texts.value(row).len() > USER_BYTES_MAX) {
                return Some(self.reasons.long_user.as_str());
            }
            if times.is_null(row) {
                return Some(self.reasons.no_time.as_str());
            }
            if times.value(row) > self.latest_us {
                return Some(self.reasons.future.as_str());
            }
            if self.earliest_us.is_some_and(|earliest| times.value(row) < earliest) {
                return Some(self.reasons.old.as_str());
            }
            id.filter(|id| id.is_null(row)).map(|_| self.reasons.no_id.as_str())
        };
        let whole = |column: &ArrayRef| column.null_count() == 0;
        let sound = whole(user) && whole(time) && id.is_none_or(whole);
        let all: Vec<Option<&str>> = (0..rows.num_rows()).map(reason).collect();
        let none = sound && all.iter().all(Option::is_none);
        (!none).then(|| StringViewArray::from_iter(all))
    }
}

/// A spooled event's columns in the order of the table.
pub(super) fn unspool(spooled: &RecordBatch, schema: &SchemaRef, indices: &EventIndices) -> Result<RecordBatch> {
    let mut next = SPOOL_KEYS;
    let columns = (0..schema.fields().len()).map(|index| {
        let at = match index {
            index if index == indices.user => 0,
            index if index == indices.time => 1,
            _ => {
                next += 1;
                next - 1
            }
        };
        Arc::clone(spooled.column(at))
    });
    RecordBatch::try_new(Arc::clone(schema), columns.collect()).map_err(|error| Error::internal(format!("spooled events: {error}")))
}

/// The columns besides user and time.
fn others(schema: &Schema, indices: &EventIndices) -> impl Iterator<Item = usize> + use<> {
    let (user, time) = (indices.user, indices.time);
    (0..schema.fields().len()).filter(move |index| *index != user && *index != time)
}

/// The times of arrival: those that are given, now for the others.
fn arrived(given: &ArrayRef, now_us: i64) -> std::result::Result<ArrayRef, ArrowError> {
    if given.null_count() == 0 {
        return Ok(Arc::clone(given));
    }
    let zone = match given.data_type() {
        DataType::Timestamp(_, zone) => zone.clone(),
        _ => return Ok(new_null_array(given.data_type(), given.len())),
    };
    let now = |len| TimestampMicrosecondArray::from_value(now_us, len).with_timezone_opt(zone.clone());
    if given.null_count() == given.len() {
        return Ok(Arc::new(now(given.len())));
    }
    zip(&is_not_null(given)?, given, &Scalar::new(now(1)))
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{Int64Array, StringViewArray};
    use datafusion::arrow::datatypes::TimeUnit;

    use super::super::columns::{EventOptions, REASON};
    use super::*;

    #[test]
    fn rows_are_kept_or_refused_with_a_reason() {
        let schema: SchemaRef = Arc::new(Schema::new(vec![
            Field::new("kind", DataType::Utf8View, true),
            Field::new("at", DataType::Timestamp(TimeUnit::Microsecond, None), true),
            Field::new("who", DataType::Int64, true),
            Field::new("id", DataType::Utf8View, true),
        ]));
        let options = EventOptions { user: "who".into(), time: "at".into(), event_id: Some("id".into()), ..EventOptions::default() };
        let (columns, schema) = EventColumns::resolve("e", &schema, &options).unwrap();
        let rows = RecordBatch::try_new(
            Arc::clone(&schema),
            vec![
                Arc::new(StringViewArray::from(vec![Some("a"), Some("b"), Some("c"), Some("d"), None])) as ArrayRef,
                Arc::new(TimestampMicrosecondArray::from(vec![Some(5), Some(5), None, Some(11), Some(10)])),
                Arc::new(Int64Array::from(vec![Some(1), None, Some(3), Some(4), Some(5)])),
                Arc::new(StringViewArray::from(vec![Some("1"), Some("2"), Some("3"), Some("4"), Some("5")])),
                new_null_array(schema.field(4).data_type(), 5),
            ],
        )
        .unwrap();
        let mut sift = Sift::new(&columns, &schema, 7, 10).unwrap();
        let (events, refusals) = sift.split(&rows, 100).unwrap();
        assert_eq!(events.schema().field(0).name(), "who");
        assert_eq!(events.column(2).as_ref(), &UInt64Array::from(vec![100, 104]));
        let back = unspool(&events, &schema, &columns.indices(&schema).unwrap()).unwrap();
        assert_eq!(back.column(0).as_ref(), &StringViewArray::from(vec![Some("a"), None]));
        assert_eq!(back.column(4).as_primitive::<TimestampMicrosecondType>().values(), &[7, 7]);
        let reasons: Vec<&str> = refusals.column_by_name(REASON).unwrap().as_string_view().iter().flatten().collect();
        assert_eq!(reasons, ["who is null", "at is null", "at is in the future"]);
        assert_eq!(refusals.column(0).as_ref(), &UInt64Array::from(vec![101, 102, 103]));
        sift.refuse_before(Some(6));
        let (events, refusals) = sift.split(&rows, 0).unwrap();
        assert_eq!(events.column(2).as_ref(), &UInt64Array::from(vec![4]));
        let reasons: Vec<&str> = refusals.column_by_name(REASON).unwrap().as_string_view().iter().flatten().collect();
        assert_eq!(reasons[0], "at is older than the table's retention");
    }
}
