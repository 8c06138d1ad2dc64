//! `ALTER VIEW [IF EXISTS] name …`: `SET (security_invoker = true, …)`, `RESET (security_invoker, …)`, `OWNER TO role`.

use std::fmt;
use std::sync::Arc;

use datafusion::sql::sqlparser::ast::ObjectName;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use portrait_udfs::error::{Code, Error, Result};

use super::grant::Grantee;
use super::support::{end, if_exists, relation_name, words};
use super::view_options::{changes, only_once};
use super::{Call, Outcome};
use crate::catalog::ObjectKind;

/// A change of a view.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct AlterView {
    view: ObjectName,
    if_exists: bool,
    change: Change,
}

#[derive(Debug, Clone, PartialEq)]
enum Change {
    /// Options with their new values; `None` = RESET.
    Options(Vec<(String, Option<String>)>),
    Owner(Grantee),
}

impl AlterView {
    /// Reads what follows `ALTER`; `None` when it changes something else.
    pub(super) fn parse(parser: &mut Parser<'_>) -> Result<Option<Self>, ParserError> {
        if !words(parser, &["VIEW"]) {
            return Ok(None);
        }
        let if_exists = if_exists(parser);
        let view = parser.parse_object_name(false)?;
        let change = if words(parser, &["SET"]) {
            Change::Options(changes(parser, true)?)
        } else if words(parser, &["RESET"]) {
            Change::Options(changes(parser, false)?)
        } else if words(parser, &["OWNER", "TO"]) {
            Change::Owner(Grantee::parse(parser)?)
        } else {
            // Said to be what PostgreSQL has and this server does not.
            return Ok(None);
        };
        end(parser)?;
        Ok(Some(Self { view, if_exists, change }))
    }

    pub(super) fn tag(&self) -> &'static str {
        "ALTER VIEW"
    }

    pub(super) async fn run(&self, call: Call<'_>) -> Result<Outcome> {
        call.before_write()?;
        let view = relation_name(&self.view)?;
        let (catalog, caller) = (Arc::clone(call.running.engine().catalog()), call.session.user());
        let Some(info) = catalog.describe(&view) else {
            if self.if_exists {
                call.running.notice(&format!("relation \"{view}\" does not exist, skipping"));
                return Ok(Outcome::done(self.tag()));
            }
            return Err(catalog.undefined_table(&view));
        };
        call.must_own(&view)?;
        if info.kind != ObjectKind::View {
            return Err(info.kind.wrong(&view, ObjectKind::View));
        }
        match &self.change {
            Change::Options(changes) => {
                only_once(&changes.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>())?;
                catalog.set_view_options(&caller, &view, changes.clone()).await?;
            }
            Change::Owner(owner) => {
                let owner = owner.role(&call).ok_or_else(|| Error::new(Code::InvalidGrant, "PUBLIC cannot own a view"))?;
                catalog.change_owner(&caller, &view, &owner).await?;
            }
        }
        call.after_write();
        Ok(Outcome::done(self.tag()))
    }
}

impl fmt::Display for AlterView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ALTER VIEW {}{} ", if self.if_exists { "IF EXISTS " } else { "" }, self.view)?;
        let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
        match &self.change {
            Change::Options(changes) => {
                let resets = changes.iter().all(|(_, value)| value.is_none());
                let option = |(name, value): &(String, Option<String>)| match value {
                    Some(value) => format!("{} = '{}'", quoted(name), value.replace('\'', "''")),
                    None => quoted(name),
                };
                let options: Vec<String> = changes.iter().map(option).collect();
                write!(f, "{} ({})", if resets { "RESET" } else { "SET" }, options.join(", "))
            }
            Change::Owner(owner) => write!(f, "OWNER TO {owner}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::command::Command;
    use super::super::parse;
    use super::*;

    fn read(text: &str) -> Result<AlterView> {
        match parse(text)?.remove(0).command.as_ref() {
            Command::AlterView(alter) => Ok(alter.clone()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_read_is_written_and_read_again() {
        for text in [
            "ALTER VIEW v SET (security_invoker = true)",
            "alter view if exists \"A b\" set (security_invoker, security_barrier = 'off')",
            "ALTER VIEW public.v SET (security_barrier = on, security_invoker = 1)",
            "ALTER VIEW v RESET (security_invoker, security_barrier)",
            "ALTER VIEW v OWNER TO \"Ann\"",
        ] {
            let found = read(text).unwrap();
            assert_eq!(read(&found.to_string()).unwrap(), found, "{text}");
        }
        for (text, code) in [
            ("ALTER VIEW v SET (security_invoker = true", Code::Syntax),
            ("ALTER VIEW v SET security_invoker = true", Code::Syntax),
            ("ALTER VIEW v RESET (security_invoker = true)", Code::Syntax),
            ("ALTER VIEW v RENAME TO w", Code::FeatureNotSupported),
        ] {
            assert_eq!(parse(text).unwrap_err().code, code, "{text}");
        }
    }

    #[test]
    fn a_view_may_be_created_with_bare_options() {
        for text in [
            "CREATE VIEW v WITH (security_barrier) AS SELECT 1",
            "CREATE OR REPLACE VIEW v (a) WITH ( security_barrier , security_invoker=on ) AS WITH w AS (SELECT 1) SELECT * FROM w",
            "CREATE VIEW v WITH (security_invoker = 'yes', security_barrier) AS SELECT 1",
        ] {
            assert_eq!(parse(text).unwrap()[0].tag(), "CREATE VIEW", "{text}");
        }
        assert_eq!(parse("CREATE VIEW v AS WITH (a) SELECT 1").unwrap_err().code, Code::Syntax);
    }
}
