//! `WITH (user_column = …, time_column = …, event_id = …, ingested_at = …, retention = …)` of a CREATE TABLE: a table of events.
//!
//! Names are written as PostgreSQL's storage parameters are: a bare word is folded, a quoted one or a string is not.

use datafusion::sql::sqlparser::ast::{CreateTable, CreateTableOptions, Expr, Interval, SqlOption, Value};
use portrait_udfs::error::{Code, Error, Result};
use portrait_udfs::functions::relation::duration_us;

use super::Call;
use super::support::fold;
use crate::storage::{Arrivals, EventOptions, IngestOptions};

/// What a table's WITH may name that is a column.
const COLUMNS: [&str; 4] = ["event_id", "ingested_at", "time_column", "user_column"];
/// How long events are kept.
pub(super) const RETENTION: &str = "retention";

/// Reads the options of a CREATE TABLE; `None` when it has none.
///
/// # Errors
/// 22023 for an option that does not exist or has no name as its value, 42601 for one given twice, 42P16 without user or
/// time; as [`retention`].
pub(super) fn read(table: &CreateTable) -> Result<Option<EventOptions>> {
    let options = match &table.table_options {
        CreateTableOptions::None => return Ok(None),
        CreateTableOptions::With(options) => options,
        _ => {
            return Err(Error::new(Code::FeatureNotSupported, "these table options are not supported")
                .hint("Write WITH (user_column = …, time_column = …)."));
        }
    };
    let mut values: [Option<String>; 4] = Default::default();
    let mut retention_us = None;
    for option in options {
        let SqlOption::KeyValue { key, value } = option else {
            return Err(Error::invalid(format!("unrecognized parameter \"{option}\"")).hint(valid()));
        };
        let name = fold(key);
        let twice = match COLUMNS.iter().position(|known| *known == name) {
            Some(at) => values[at].replace(column(&name, value)?).is_some(),
            None if name == RETENTION => retention_us.replace(retention(value)?).is_some(),
            None => return Err(unrecognized(&name)),
        };
        if twice {
            return Err(specified_twice(&name));
        }
    }
    let [event_id, ingested_at, time, user] = values;
    let (Some(user), Some(time)) = (user, time) else {
        return Err(Error::new(Code::InvalidTableDefinition, "a table of events needs both \"user_column\" and \"time_column\"")
            .hint("Write WITH (user_column = user_id, time_column = event_time, event_id = event_id)."));
    };
    Ok(Some(EventOptions { user, time, event_id, ingested_at, retention_us }))
}

/// The error of a parameter that no table has.
pub(super) fn unrecognized(name: &str) -> Error {
    let error = Error::invalid(format!("unrecognized parameter \"{name}\"")).detail(valid());
    match portrait_udfs::kernels::nearest::nearest(name, names()) {
        Some(near) => error.hint(format!("Perhaps you meant \"{near}\".")),
        None => error,
    }
}

/// The error of a parameter that is given twice.
pub(super) fn specified_twice(name: &str) -> Error {
    Error::new(Code::Syntax, format!("parameter \"{name}\" specified more than once"))
}

/// Whether a table of events has this parameter.
pub(super) fn is_known(name: &str) -> bool {
    names().any(|known| known == name)
}

fn names() -> impl Iterator<Item = &'static str> {
    COLUMNS.into_iter().chain([RETENTION])
}

/// How long events are kept, in microseconds: `'400 days'` or an interval.
///
/// # Errors
/// 22007 for what is no length of time, 22023 for one that is not longer than nothing.
pub(super) fn retention(value: &Expr) -> Result<i64> {
    let text = match value {
        Expr::Interval(Interval { value, leading_field: None, .. }) => text_of(value),
        value => text_of(value),
    };
    let us = text.and_then(duration_us).ok_or_else(|| {
        Error::new(Code::InvalidDatetime, format!("invalid value for parameter \"{RETENTION}\": {value}"))
            .detail("It is a length of time with its unit.")
            .hint("Write retention = '400 days'; a month counts 30 days.")
    })?;
    if us <= 0 {
        return Err(Error::invalid(format!("parameter \"{RETENTION}\" must be longer than zero"))
            .detail("Events are kept for that long.")
            .hint("RESET (retention) keeps all events."));
    }
    Ok(us)
}

fn text_of(value: &Expr) -> Option<&str> {
    match value {
        Expr::Value(found) => match &found.value {
            Value::SingleQuotedString(text) => Some(text),
            _ => None,
        },
        _ => None,
    }
}

fn valid() -> String {
    format!("Valid parameters are: {}.", names().collect::<Vec<_>>().join(", "))
}

fn column(option: &str, value: &Expr) -> Result<String> {
    match value {
        Expr::Identifier(name) => Ok(fold(name)),
        Expr::Value(found) => match &found.value {
            Value::SingleQuotedString(name) => Ok(name.clone()),
            other => Err(not_a_column(option, other)),
        },
        other => Err(not_a_column(option, other)),
    }
}

fn not_a_column(option: &str, value: &dyn std::fmt::Display) -> Error {
    Error::invalid(format!("invalid value for parameter \"{option}\": {value}")).detail("It is the name of a column.")
}

impl Call<'_> {
    /// How this statement's events are taken in.
    pub(super) fn ingest_options(&self) -> IngestOptions {
        let tolerance_ms = self.session.with_settings(|settings| settings.integer("event_future_tolerance"));
        IngestOptions {
            now_us: chrono::Utc::now().timestamp_micros(),
            future_tolerance_us: tolerance_ms.saturating_mul(1000),
            erasures: self.erasures,
        }
    }

    /// Says what became of events that are not simply new.
    pub(super) fn tell(&self, arrivals: &Arrivals) {
        if arrivals.new != arrivals.read {
            self.running.notice(&arrivals.to_string());
        }
    }
}
