//! `DROP {TABLE | VIEW | MATERIALIZED VIEW | EXTERNAL TABLE | FOREIGN TABLE} [IF EXISTS] name [, …] [CASCADE | RESTRICT]`.

use std::fmt;
use std::sync::Arc;

use datafusion::sql::sqlparser::ast::ObjectName;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use portrait_udfs::error::{Code, Error, Result};

use super::support::{end, if_exists, relation_name, words};
use super::{Call, Outcome};
use crate::catalog::ObjectKind;

/// Relations to drop.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Drop {
    kind: ObjectKind,
    if_exists: bool,
    names: Vec<ObjectName>,
}

impl Drop {
    /// Reads what follows `DROP`; `None` when it is not about a relation.
    pub(super) fn parse(parser: &mut Parser<'_>) -> Result<Option<Self>, ParserError> {
        let kind = if words(parser, &["TABLE"]) {
            ObjectKind::Table
        } else if words(parser, &["VIEW"]) {
            ObjectKind::View
        } else if words(parser, &["MATERIALIZED", "VIEW"]) {
            ObjectKind::MaterializedView
        } else if words(parser, &["EXTERNAL", "TABLE"]) || words(parser, &["FOREIGN", "TABLE"]) {
            ObjectKind::ExternalTable
        } else {
            return Ok(None);
        };
        let if_exists = if_exists(parser);
        let names = parser.parse_comma_separated(|parser| parser.parse_object_name(false))?;
        let _ = words(parser, &["CASCADE"]) || words(parser, &["RESTRICT"]);
        end(parser)?;
        Ok(Some(Self { kind, if_exists, names }))
    }

    pub(super) fn tag(&self) -> &'static str {
        match self.kind {
            ObjectKind::Table => "DROP TABLE",
            ObjectKind::ExternalTable => "DROP FOREIGN TABLE",
            ObjectKind::View => "DROP VIEW",
            ObjectKind::MaterializedView => "DROP MATERIALIZED VIEW",
        }
    }

    pub(super) async fn run(&self, call: Call<'_>) -> Result<Outcome> {
        call.before_write()?;
        let catalog = Arc::clone(call.running.engine().catalog());
        let names: Vec<String> = self.names.iter().map(relation_name).collect::<Result<_>>()?;
        // All or none: a missing second table must not leave the first one dropped.
        for name in &names {
            match catalog.describe(name) {
                None if !self.if_exists => return Err(self.missing(name)),
                Some(found) if !self.fits(found.kind) => return Err(self.wrong_kind(name, found.kind)),
                _ => call.must_own(name)?,
            }
        }
        for name in names {
            let (catalog, kind, if_exists, dropped) = (Arc::clone(&catalog), self.kind, self.if_exists, name.clone());
            let found = call.running.run(async move { catalog.drop_relation(kind, &dropped, if_exists).await }).await?;
            if !found {
                call.running.notice(&format!("{} \"{name}\" does not exist, skipping", self.noun()));
            }
        }
        call.after_write();
        Ok(Outcome::done(self.tag()))
    }

    fn noun(&self) -> &'static str {
        match self.kind {
            ObjectKind::Table => "table",
            ObjectKind::ExternalTable => "foreign table",
            ObjectKind::View => "view",
            ObjectKind::MaterializedView => "materialized view",
        }
    }

    fn fits(&self, found: ObjectKind) -> bool {
        found == self.kind || (self.kind == ObjectKind::Table && found == ObjectKind::ExternalTable)
    }

    fn missing(&self, name: &str) -> Error {
        Error::new(Code::UndefinedTable, format!("{} \"{name}\" does not exist", self.noun()))
    }

    fn wrong_kind(&self, name: &str, found: ObjectKind) -> Error {
        let hint = match found {
            ObjectKind::View => "Use DROP VIEW to remove a view.",
            ObjectKind::MaterializedView => "Use DROP MATERIALIZED VIEW to remove a materialized view.",
            ObjectKind::Table => "Use DROP TABLE to remove a table.",
            ObjectKind::ExternalTable => "Use DROP TABLE or DROP FOREIGN TABLE to remove an external table.",
        };
        Error::new(Code::WrongObjectType, format!("\"{name}\" is not a {}", self.noun())).hint(hint)
    }
}

impl fmt::Display for Drop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.names.iter().map(ToString::to_string).collect();
        write!(f, "{} {}{}", self.tag(), if self.if_exists { "IF EXISTS " } else { "" }, names.join(", "))
    }
}
