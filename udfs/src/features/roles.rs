//! Which column of a source plays which role: the usual names, or the user's own words.
//!
//! Life of a request: schema + `columns` text → [`resolve_event_columns`] → an [`EventColumns`] that is stored
//! with the model, and a list of [`ColumnDecision`]s with reasons for `describe_events`.

use arrow::datatypes::Schema;
use serde::{Deserialize, Serialize};

use super::events::KeyType;
use crate::error::{Error, Result};

/// What a column of an event source is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Role { User, Time, Event, Item, Category, Value, Price, Quantity, EventId, Label, Extra, Image, Text, Ignored }

/// How the source writes times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum TimeUnit { Timestamp, Date, EpochSeconds, EpochMillis, EpochMicros, Text }

/// Where the value of an event comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ValueColumn {
    /// One column.
    Column(String),
    /// Price times quantity.
    Product(String, String),
}

/// The columns of an event source by role; names as in the source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct EventColumns {
    pub user: String,
    pub time: String,
    pub event: Option<String>,
    pub item: Option<String>,
    pub category: Option<String>,
    pub value: Option<ValueColumn>,
    pub extra: Vec<String>,
    pub key_type: KeyType,
    pub time_unit: TimeUnit,
}

/// One line of `describe_events`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnDecision {
    /// The role that the column plays.
    pub role: Role,
    /// The column.
    pub column_name: String,
    /// Its SQL type.
    pub r#type: String,
    /// What is done with it.
    pub decision: String,
    /// Why.
    pub reason: String,
}

/// Resolves `columns` (`auto` or `user=…, time=…`) against a source's schema.
///
/// # Errors
/// `UndefinedColumn` with the nearest name, `InvalidParameter` for a malformed text.
pub fn resolve_event_columns(
    _schema: &Schema, _columns: &str, _integer_range: &dyn Fn(&str) -> Option<(i64, i64)>,
) -> Result<(EventColumns, Vec<ColumnDecision>)> {
    Err(Error::internal("not wired yet"))
}
