//! `DROP {TABLE | VIEW | MATERIALIZED VIEW | EXTERNAL TABLE | FOREIGN TABLE} [IF EXISTS] name [, …] [CASCADE | RESTRICT]`.

use std::fmt;
use std::sync::Arc;

use datafusion::sql::sqlparser::ast::ObjectName;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use portrait_udfs::error::{Code, Error, Result};

use super::dependents::{Dependent, dependents};
use super::support::{end, if_exists, words};
use super::target::Target;
use super::{Call, Outcome};
use crate::catalog::ObjectKind;

/// Relations to drop.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Drop {
    kind: ObjectKind,
    if_exists: bool,
    names: Vec<ObjectName>,
    cascade: bool,
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
        let cascade = words(parser, &["CASCADE"]);
        let _ = !cascade && words(parser, &["RESTRICT"]);
        end(parser)?;
        Ok(Some(Self { kind, if_exists, names, cascade }))
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
        call.refuse_read_only(self.tag())?;
        let catalog = Arc::clone(call.running.engine().catalog());
        let targets: Vec<Target> = self.names.iter().map(|name| Target::of(&call.running, name)).collect::<Result<_>>()?;
        // All or none: a missing second table must not leave the first one dropped.
        for target in &targets {
            match target.describe() {
                None if !self.if_exists => return Err(self.missing(&target.name)),
                Some(found) if !self.fits(found.kind) => return Err(self.wrong_kind(&target.name, found.kind)),
                _ => call.must_own_target(target)?,
            }
        }
        let (own, kept): (Vec<Target>, Vec<Target>) = targets.into_iter().partition(|target| target.temporary().is_some());
        let names: Vec<String> = kept.into_iter().map(|target| target.name).collect();
        if !names.is_empty() {
            catalog.may_write()?;
        }
        self.dependents(&call, &names).await?;
        for Target { name, .. } in own.iter().filter(|target| !target.temporary().is_some_and(|own| own.drop_table(&target.name))) {
            call.running.notice(&format!("{} \"{name}\" does not exist, skipping", self.kind.words()));
        }
        if names.is_empty() {
            return Ok(Outcome::done(self.tag()));
        }
        for name in names {
            let (catalog, kind, if_exists, dropped) = (Arc::clone(&catalog), self.kind, self.if_exists, name.clone());
            let found = call.running.run(async move { catalog.drop_relation(kind, &dropped, if_exists).await }).await?;
            if !found {
                call.running.notice(&format!("{} \"{name}\" does not exist, skipping", self.kind.words()));
            }
        }
        call.after_write();
        Ok(Outcome::done(self.tag()))
    }

    /// Views that read what is dropped go with it, or forbid it.
    async fn dependents(&self, call: &Call<'_>, names: &[String]) -> Result<()> {
        let catalog = call.running.engine().catalog();
        let found = dependents(catalog, names);
        if found.is_empty() {
            return Ok(());
        }
        if !self.cascade {
            let depends =
                |one: &Dependent| format!("{} {} depends on {} {}", one.view.kind.words(), one.view.name, one.on_kind.words(), one.on);
            let all: Vec<String> = found.iter().map(depends).collect();
            let message = match names {
                [only] => format!("cannot drop {} {only} because other objects depend on it", self.kind.words()),
                _ => "cannot drop desired object(s) because other objects depend on them".to_owned(),
            };
            return Err(Error::new(Code::DependentObjects, message)
                .detail(all.join("\n"))
                .hint("Use DROP ... CASCADE to drop the dependent objects too."));
        }
        for one in found.into_iter().rev() {
            call.running.notice(&format!("drop cascades to {} {}", one.view.kind.words(), one.view.name));
            let (catalog, kind, name) = (Arc::clone(catalog), one.view.kind, one.view.name);
            call.running.run(async move { catalog.drop_relation(kind, &name, true).await }).await?;
        }
        Ok(())
    }

    fn fits(&self, found: ObjectKind) -> bool {
        found == self.kind || (self.kind == ObjectKind::Table && found == ObjectKind::ExternalTable)
    }

    fn missing(&self, name: &str) -> Error {
        Error::new(Code::UndefinedTable, format!("{} \"{name}\" does not exist", self.kind.words()))
    }

    fn wrong_kind(&self, name: &str, found: ObjectKind) -> Error {
        let hint = match found {
            ObjectKind::View => "Use DROP VIEW to remove a view.",
            ObjectKind::MaterializedView => "Use DROP MATERIALIZED VIEW to remove a materialized view.",
            ObjectKind::Table => "Use DROP TABLE to remove a table.",
            ObjectKind::ExternalTable => "Use DROP TABLE or DROP FOREIGN TABLE to remove an external table.",
        };
        Error::new(Code::WrongObjectType, format!("\"{name}\" is not a {}", self.kind.words())).hint(hint)
    }
}

impl fmt::Display for Drop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.names.iter().map(ToString::to_string).collect();
        let (exists, cascade) = (if self.if_exists { "IF EXISTS " } else { "" }, if self.cascade { " CASCADE" } else { "" });
        write!(f, "{} {exists}{}{cascade}", self.tag(), names.join(", "))
    }
}
