//! Which columns of an event table are the user, the time, the event's id and the time of arrival.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use portrait_udfs::error::{Code, Error, Result};
use portrait_udfs::functions::relation::duration_text;
use serde::{Deserialize, Serialize};

use super::ids::IdSource;

/// The column of a quarantine that says why an event is there.
pub(crate) const REASON: &str = "quarantine_reason";
/// The name of the column that says when an event came, unless the table names another.
const INGESTED_AT: &str = "ingested_at";
/// Delta's table properties, in the order of [`EventColumns`]'s fields.
const KEYS: [&str; 4] = ["portrait.userColumn", "portrait.timeColumn", "portrait.eventId", "portrait.ingestedAt"];

/// What `CREATE TABLE … WITH (…)` says, by column name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventOptions {
    /// `user_column`.
    pub user: String,
    /// `time_column`.
    pub time: String,
    /// `event_id`.
    pub event_id: Option<String>,
    /// `ingested_at`.
    pub ingested_at: Option<String>,
    /// `retention`, in microseconds.
    pub retention_us: Option<i64>,
}

/// The columns of an event table that mean something to the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventColumns {
    /// Whose event it is: an integer or a text.
    pub user: String,
    /// When it happened: a timestamp.
    pub time: String,
    /// Which event it is; `None` = events are not told apart, and none is a duplicate.
    pub event_id: Option<String>,
    /// When it came.
    pub ingested_at: String,
    /// The relation that holds events that were refused.
    pub quarantine: String,
    /// How much older than the newest event one may be, in microseconds; `None` = all are kept. What the catalog says counts;
    /// an open table has it as `DeltaTable::retention_us`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention_us: Option<i64>,
}

/// What a managed table is for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Rows of any kind.
    #[default]
    Plain,
    /// Events.
    Events(EventColumns),
    /// Events that another table refused.
    Quarantine {
        /// The table.
        of: String,
        /// Its column for the time of arrival.
        ingested_at: String,
    },
    /// The rows of a query.
    Derived {
        /// The column that says whose a row is; `None` = a row is nobody's.
        user: Option<String>,
    },
}

impl Role {
    /// Whether it is a table of rows of any kind.
    pub fn is_plain(&self) -> bool {
        self == &Self::Plain
    }

    /// The columns of a table of events.
    pub fn events(&self) -> Option<&EventColumns> {
        match self {
            Self::Events(columns) => Some(columns),
            _ => None,
        }
    }

    /// Delta's table properties.
    pub(crate) fn properties(&self) -> Vec<(String, Option<String>)> {
        match self {
            Self::Plain => Vec::new(),
            Self::Events(columns) => columns.properties(),
            Self::Quarantine { of, .. } => vec![("portrait.quarantineOf".to_owned(), Some(of.clone()))],
            Self::Derived { user } => vec![("portrait.derivedUserColumn".to_owned(), Some(user.clone().unwrap_or_default()))],
        }
    }

    /// What tells the rows of a table with these columns apart; `None` = nothing does.
    pub(crate) fn id_source(&self, schema: &Schema) -> Option<IdSource> {
        match self {
            Self::Plain | Self::Derived { .. } => None,
            Self::Events(columns) => columns.indices(schema).ok()?.event_id.map(IdSource::Column),
            Self::Quarantine { ingested_at, .. } => {
                let told = |name: &str| name != REASON && name != ingested_at;
                let columns = schema.fields().iter().enumerate().filter(|(_, field)| told(field.name()));
                Some(IdSource::Row(columns.map(|(index, _)| index).collect()))
            }
        }
    }
}

/// Where those columns are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EventIndices {
    pub(crate) user: usize,
    pub(crate) time: usize,
    pub(crate) event_id: Option<usize>,
    pub(crate) ingested_at: usize,
}

impl EventIndices {
    /// The columns whose values are nearly all different: the time, and the event's id.
    pub(in crate::storage) fn distinct(self) -> Vec<usize> {
        std::iter::once(self.time).chain(self.event_id).collect()
    }
}

impl EventColumns {
    /// Checks `options` against the columns of table `name`; adds the column for the time of arrival when it is missing.
    /// `schema` is what the table keeps ([`crate::storage::types::table_schema`]).
    ///
    /// # Errors
    /// 42703 for a column that does not exist, 42804 for one of the wrong type, 22023 for one that has two parts.
    pub(crate) fn resolve(name: &str, schema: &SchemaRef, options: &EventOptions) -> Result<(Self, SchemaRef)> {
        let mut fields: Vec<Arc<Field>> = schema.fields().iter().cloned().collect();
        let ingested_at = options.ingested_at.clone().unwrap_or_else(|| INGESTED_AT.to_owned());
        if schema.fields().find(&ingested_at).is_none() {
            fields.push(Arc::new(Field::new(&ingested_at, arrival_type(), true)));
        }
        // What lacks a user or a time is quarantined, not refused: NOT NULL of these columns is kept by construction.
        let columns = Self {
            user: options.user.clone(),
            time: options.time.clone(),
            event_id: options.event_id.clone(),
            ingested_at,
            quarantine: format!("{name}_quarantine"),
            retention_us: options.retention_us,
        };
        let own = [Some(&columns.user), Some(&columns.time), columns.event_id.as_ref(), Some(&columns.ingested_at)];
        let parts: Vec<&String> = own.into_iter().flatten().collect();
        if let Some(twice) = parts.iter().enumerate().find_map(|(at, part)| parts[..at].contains(part).then_some(part)) {
            return Err(Error::invalid(format!("column \"{twice}\" cannot be two parts of an event table")));
        }
        let nullable = |field: &Arc<Field>| match parts.contains(&field.name()) {
            true => Arc::new(field.as_ref().clone().with_nullable(true)),
            false => Arc::clone(field),
        };
        let schema: SchemaRef = Arc::new(Schema::new(fields.iter().map(nullable).collect::<Fields>()));
        columns.indices(&schema)?;
        if schema.fields().find(REASON).is_some() {
            return Err(Error::new(Code::InvalidTableDefinition, format!("an event table cannot have a column \"{REASON}\""))
                .hint("The table's quarantine uses that name."));
        }
        Ok((columns, schema))
    }

    /// Where the columns are.
    ///
    /// # Errors
    /// As [`resolve`](Self::resolve).
    pub(crate) fn indices(&self, schema: &Schema) -> Result<EventIndices> {
        let user_type = |found: &DataType| is_key(found);
        let id_type = |found: &DataType| is_key(found) || found == &DataType::BinaryView;
        let time_type = |found: &DataType| matches!(found, DataType::Timestamp(TimeUnit::Microsecond, _));
        let event_id = self.event_id.as_ref().map(|name| column(schema, "event_id", name, id_type, "an integer, text or bytea"));
        Ok(EventIndices {
            user: column(schema, "user_column", &self.user, user_type, "an integer or text")?,
            time: column(schema, "time_column", &self.time, time_type, "a timestamp")?,
            event_id: event_id.transpose()?,
            ingested_at: column(schema, "ingested_at", &self.ingested_at, |found| found == &arrival_type(), "timestamp with time zone")?,
        })
    }

    /// The columns of the quarantine: the reason, then the table's, none of them required.
    pub(crate) fn quarantine_schema(schema: &Schema) -> SchemaRef {
        let reason = Arc::new(Field::new(REASON, DataType::Utf8View, true));
        let rest = schema.fields().iter().map(|field| Arc::new(field.as_ref().clone().with_nullable(true)));
        Arc::new(Schema::new(std::iter::once(reason).chain(rest).collect::<Fields>()))
    }

    /// Delta's table properties.
    fn properties(&self) -> Vec<(String, Option<String>)> {
        let values = [Some(&self.user), Some(&self.time), self.event_id.as_ref(), Some(&self.ingested_at)];
        KEYS.iter().zip(values).filter_map(|(key, value)| Some(((*key).to_owned(), Some(value?.clone())))).collect()
    }

    /// The declaration as `CREATE TABLE … WITH (…)` takes it, for catalogs.
    pub fn storage_parameters(&self) -> BTreeMap<&'static str, Cow<'_, str>> {
        let mut found = BTreeMap::from([
            ("user_column", Cow::from(&self.user)),
            ("time_column", Cow::from(&self.time)),
            ("ingested_at", Cow::from(&self.ingested_at)),
        ]);
        if let Some(id) = &self.event_id {
            found.insert("event_id", Cow::from(id));
        }
        if let Some(retention_us) = self.retention_us {
            found.insert("retention", Cow::from(duration_text(retention_us)));
        }
        found
    }
}

fn arrival_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// Types that users and events are called by.
fn is_key(found: &DataType) -> bool {
    found.is_signed_integer() || found == &DataType::Utf8View
}

fn column(schema: &Schema, option: &str, name: &str, fits: impl Fn(&DataType) -> bool, wanted: &str) -> Result<usize> {
    let Some((index, field)) = schema.fields().find(name) else {
        let names = schema.fields().iter().map(|field| field.name().as_str());
        let error = Error::new(Code::UndefinedColumn, format!("column \"{name}\" named in \"{option}\" does not exist"));
        return Err(match portrait_udfs::kernels::nearest::nearest(name, names) {
            Some(near) => error.hint(format!("Perhaps you meant \"{near}\".")),
            None => error,
        });
    };
    if !fits(field.data_type()) {
        return Err(Error::new(Code::DatatypeMismatch, format!("column \"{name}\" cannot be the \"{option}\" of an event table"))
            .detail(format!("It must be {wanted}.")));
    }
    Ok(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema() -> SchemaRef {
        Arc::new(Schema::new(vec![
            Field::new("user_id", DataType::Int64, false),
            Field::new("event_time", DataType::Timestamp(TimeUnit::Microsecond, None), true),
            Field::new("event_id", DataType::Utf8View, true),
            Field::new("price", DataType::Float64, true),
        ]))
    }

    fn options(user: &str, time: &str, event_id: Option<&str>) -> EventOptions {
        EventOptions { user: user.into(), time: time.into(), event_id: event_id.map(Into::into), ..EventOptions::default() }
    }

    #[test]
    fn the_time_of_arrival_is_added() {
        let (columns, kept) = EventColumns::resolve("events", &schema(), &options("user_id", "event_time", Some("event_id"))).unwrap();
        assert_eq!(columns.indices(&kept).unwrap(), EventIndices { user: 0, time: 1, event_id: Some(2), ingested_at: 4 });
        assert!(kept.field(0).is_nullable(), "an event without user is quarantined, not refused");
        assert_eq!(columns.quarantine, "events_quarantine");
        assert_eq!(columns.properties().len(), 4);
        assert_eq!(EventColumns::quarantine_schema(&kept).field(0).name(), REASON);
    }

    #[test]
    fn declarations_that_cannot_work_are_refused() {
        for (options, code) in [
            (options("user", "event_time", None), Code::UndefinedColumn),
            (options("price", "event_time", None), Code::DatatypeMismatch),
            (options("user_id", "price", None), Code::DatatypeMismatch),
            (options("user_id", "event_time", Some("price")), Code::DatatypeMismatch),
            (options("user_id", "event_time", Some("user_id")), Code::InvalidParameter),
        ] {
            assert_eq!(EventColumns::resolve("e", &schema(), &options).unwrap_err().code, code, "{options:?}");
        }
    }
}
