//! `WITH (user_column = …, time_column = …, event_id = …, ingested_at = …)` of a CREATE TABLE: a table of events.
//!
//! Names are written as PostgreSQL's storage parameters are: a bare word is folded, a quoted one or a string is not.

use datafusion::sql::sqlparser::ast::{CreateTable, CreateTableOptions, Expr, SqlOption, Value};
use portrait_udfs::error::{Code, Error, Result};

use super::Call;
use super::support::fold;
use crate::storage::{Arrivals, EventOptions, IngestOptions};

/// What a table's WITH may name.
const NAMES: [&str; 4] = ["event_id", "ingested_at", "time_column", "user_column"];

/// Reads the options of a CREATE TABLE; `None` when it has none.
///
/// # Errors
/// 22023 for an option that does not exist or has no name as its value, 42601 for one given twice, 42P16 without user or
/// time.
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
    for option in options {
        let SqlOption::KeyValue { key, value } = option else {
            return Err(Error::invalid(format!("unrecognized parameter \"{option}\"")).hint(valid()));
        };
        let name = fold(key);
        let Some(at) = NAMES.iter().position(|known| *known == name) else {
            let error = Error::invalid(format!("unrecognized parameter \"{name}\"")).detail(valid());
            return Err(match portrait_udfs::kernels::nearest::nearest(&name, NAMES) {
                Some(near) => error.hint(format!("Perhaps you meant \"{near}\".")),
                None => error,
            });
        };
        if values[at].replace(column(&name, value)?).is_some() {
            return Err(Error::new(Code::Syntax, format!("parameter \"{name}\" specified more than once")));
        }
    }
    let [event_id, ingested_at, time, user] = values;
    let (Some(user), Some(time)) = (user, time) else {
        return Err(Error::new(Code::InvalidTableDefinition, "a table of events needs both \"user_column\" and \"time_column\"")
            .hint("Write WITH (user_column = user_id, time_column = event_time, event_id = event_id)."));
    };
    Ok(Some(EventOptions { user, time, event_id, ingested_at }))
}

fn valid() -> String {
    format!("Valid parameters are: {}.", NAMES.join(", "))
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
        IngestOptions { now_us: chrono::Utc::now().timestamp_micros(), future_tolerance_us: tolerance_ms.saturating_mul(1000) }
    }

    /// Says what became of events that are not simply new.
    pub(super) fn tell(&self, arrivals: &Arrivals) {
        if arrivals.new != arrivals.read {
            self.running.notice(&arrivals.to_string());
        }
    }
}
