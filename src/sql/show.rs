//! `SHOW name`, `SHOW ALL`, `SHOW TIME ZONE`, `SHOW TRANSACTION ISOLATION LEVEL`.

use std::fmt;

use arrow::datatypes::SchemaRef;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use portrait_udfs::error::Result;

use super::set::setting_name;
use super::support::{end, text_rows, text_schema, words};
use super::{Call, Outcome};
use crate::engine::settings::find;

/// Prints settings.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Show {
    /// Every setting.
    All,
    /// One setting.
    One(String),
}

impl Show {
    /// Reads what follows `SHOW`.
    pub(super) fn parse(parser: &mut Parser<'_>) -> Result<Self, ParserError> {
        let found = if words(parser, &["ALL"]) {
            Self::All
        } else if words(parser, &["TIME", "ZONE"]) {
            Self::One("TimeZone".into())
        } else if words(parser, &["TRANSACTION", "ISOLATION", "LEVEL"]) {
            Self::One("transaction_isolation".into())
        } else if words(parser, &["SESSION", "AUTHORIZATION"]) {
            Self::One("session_authorization".into())
        } else {
            Self::One(setting_name(parser)?)
        };
        end(parser)?;
        Ok(found)
    }

    /// Its columns: the setting's name, or name, setting and description.
    pub(super) fn schema(&self) -> SchemaRef {
        match self {
            Self::All => text_schema(&["name", "setting", "description"]),
            Self::One(name) => text_schema(&[find(name).map_or(name.as_str(), |found| found.name)]),
        }
    }

    pub(super) fn run(&self, call: &Call<'_>) -> Result<Outcome> {
        let columns = match self {
            Self::One(name) => vec![vec![call.session.with_settings(|settings| settings.show(name))?]],
            Self::All => {
                let all = call.session.with_settings(crate::engine::settings::Settings::all);
                let mut columns = vec![Vec::new(), Vec::new(), Vec::new()];
                for setting in all {
                    columns[0].push(setting.name);
                    columns[1].push(setting.value);
                    columns[2].push(setting.doc);
                }
                columns
            }
        };
        text_rows(self.schema(), columns, "SHOW")
    }
}

impl fmt::Display for Show {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("SHOW ALL"),
            Self::One(name) => write!(f, "SHOW {name}"),
        }
    }
}
