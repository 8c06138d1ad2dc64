//! `ALTER DEFAULT PRIVILEGES`: what is granted on the objects that a role will make.
//!
//! `ALTER DEFAULT PRIVILEGES [FOR {ROLE | USER} role [, …]] [IN SCHEMA schema [, …]] {GRANT privileges ON objects TO role [, …] [WITH
//! GRANT OPTION] | REVOKE [GRANT OPTION FOR] privileges ON objects FROM role [, …] [CASCADE | RESTRICT]}`, where the objects are
//! TABLES (also views), MODELS, AUDIENCES, or FUNCTIONS, ROUTINES, SEQUENCES, TYPES and SCHEMAS, which nobody makes here.

use std::fmt;
use std::sync::Arc;

use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use portrait_udfs::error::{Code, Error, Result};

use super::grant::{Grantee, Words, privileges};
use super::support::{end, name, words};
use super::{Call, Outcome};
use crate::catalog::{DefaultClass, DefaultGrant, Privilege, Privileges};

/// A change of default privileges.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct DefaultPrivileges {
    /// Whose objects; none = those of whoever says so.
    roles: Vec<Grantee>,
    schemas: Vec<String>,
    revoke: bool,
    words: Words,
    class: DefaultClass,
    grantees: Vec<Grantee>,
    /// WITH GRANT OPTION, or GRANT OPTION FOR.
    option: bool,
    cascade: bool,
}

impl DefaultPrivileges {
    /// Reads what follows `ALTER`; `None` when it is about something else.
    pub(super) fn parse(parser: &mut Parser<'_>) -> Result<Option<Self>, ParserError> {
        if !words(parser, &["DEFAULT", "PRIVILEGES"]) {
            return Ok(None);
        }
        let (mut roles, mut schemas) = (Vec::new(), Vec::new());
        loop {
            if roles.is_empty() && (words(parser, &["FOR", "ROLE"]) || words(parser, &["FOR", "USER"])) {
                roles = parser.parse_comma_separated(Grantee::parse)?;
            } else if schemas.is_empty() && words(parser, &["IN", "SCHEMA"]) {
                schemas = parser.parse_comma_separated(name)?;
            } else {
                break;
            }
        }
        let revoke = words(parser, &["REVOKE"]);
        if !revoke && !words(parser, &["GRANT"]) {
            return parser.expected("GRANT or REVOKE", parser.peek_token());
        }
        let mut option = revoke && words(parser, &["GRANT", "OPTION", "FOR"]);
        let privileges = privileges(parser)?;
        let class = class(parser)?;
        let preposition = if revoke { "FROM" } else { "TO" };
        if !words(parser, &[preposition]) {
            return parser.expected(preposition, parser.peek_token());
        }
        let grantees = parser.parse_comma_separated(Grantee::parse)?;
        option |= !revoke && words(parser, &["WITH", "GRANT", "OPTION"]);
        let cascade = revoke && words(parser, &["CASCADE"]);
        let _ = revoke && !cascade && words(parser, &["RESTRICT"]);
        end(parser)?;
        Ok(Some(Self { roles, schemas, revoke, words: privileges, class, grantees, option, cascade }))
    }

    pub(super) fn tag(&self) -> &'static str {
        "ALTER DEFAULT PRIVILEGES"
    }

    pub(super) async fn run(&self, call: Call<'_>) -> Result<Outcome> {
        call.before_write()?;
        let (catalog, caller) = (Arc::clone(call.running.engine().catalog()), call.session.user());
        let change = DefaultGrant {
            roles: self.roles(&call)?,
            schemas: self.schemas.clone(),
            class: self.class,
            privileges: self.privileges()?,
            grantees: self.grantees.iter().map(|grantee| grantee.role(&call)).collect(),
            option: self.option,
            cascade: self.cascade,
            revoke: self.revoke,
            models: self.models(&call),
        };
        call.running.run(async move { catalog.alter_defaults(&caller, change).await }).await?;
        call.after_write();
        Ok(Outcome::done(self.tag()))
    }

    fn roles(&self, call: &Call<'_>) -> Result<Vec<String>> {
        if self.roles.is_empty() {
            return Ok(vec![call.session.user()]);
        }
        let missing = || Error::new(Code::UndefinedObject, "role \"public\" does not exist");
        self.roles.iter().map(|role| role.role(call).ok_or_else(missing)).collect()
    }

    fn privileges(&self) -> Result<Privileges> {
        if self.words.iter().any(|(_, columns)| !columns.is_empty()) {
            return Err(Error::new(Code::InvalidGrant, "default privileges cannot be set for columns"));
        }
        let meant = |privilege: Option<Privilege>| privilege.map_or_else(|| self.class.privileges(), |one| Privileges::of(&[one]));
        Ok(self.words.iter().fold(Privileges::NONE, |sum, (privilege, _)| sum.and(meant(*privilege))))
    }

    /// The models and transforms that there are, where it is about them: (name, owner).
    fn models(&self, call: &Call<'_>) -> Vec<(String, String)> {
        if self.class != DefaultClass::Models {
            return Vec::new();
        }
        let registry = &call.running.engine().ml().registry;
        let models = registry.list_models().into_iter().map(|info| (info.name, info.owner));
        let transforms = registry.list_transforms();
        models.chain(transforms.iter().map(|found| (found.name.clone(), found.owner.clone()))).collect()
    }
}

fn class(parser: &mut Parser<'_>) -> Result<DefaultClass, ParserError> {
    if words(parser, &["ROUTINES"]) {
        return Ok(DefaultClass::Functions);
    }
    match DefaultClass::ALL.into_iter().find(|class| words(parser, &[class.word()])) {
        Some(class) => Ok(class),
        None => parser.expected("TABLES, MODELS, AUDIENCES, FUNCTIONS, SEQUENCES, TYPES or SCHEMAS", parser.peek_token()),
    }
}

impl fmt::Display for DefaultPrivileges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quoted = |name: &String| format!("\"{}\"", name.replace('"', "\"\""));
        let list = |roles: &[Grantee]| roles.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        f.write_str(self.tag())?;
        if !self.roles.is_empty() {
            write!(f, " FOR ROLE {}", list(&self.roles))?;
        }
        if !self.schemas.is_empty() {
            write!(f, " IN SCHEMA {}", self.schemas.iter().map(quoted).collect::<Vec<_>>().join(", "))?;
        }
        let option = if self.option && self.revoke { "GRANT OPTION FOR " } else { "" };
        write!(f, " {} {option}", if self.revoke { "REVOKE" } else { "GRANT" })?;
        let word = |(privilege, columns): &(Option<Privilege>, Vec<String>)| {
            let columns = columns.iter().map(quoted).collect::<Vec<_>>().join(", ");
            let columns = if columns.is_empty() { columns } else { format!(" ({columns})") };
            format!("{}{columns}", privilege.map_or("ALL", Privilege::word))
        };
        let words: Vec<String> = self.words.iter().map(word).collect();
        let preposition = if self.revoke { "FROM" } else { "TO" };
        write!(f, "{} ON {} {preposition} {}", words.join(", "), self.class.word(), list(&self.grantees))?;
        f.write_str(if self.option && !self.revoke { " WITH GRANT OPTION" } else { "" })?;
        f.write_str(if self.cascade { " CASCADE" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::super::command::Command;
    use super::super::parse;
    use super::*;

    fn read(text: &str) -> Result<DefaultPrivileges> {
        match parse(text)?.remove(0).command.as_ref() {
            Command::DefaultPrivileges(found) => Ok(found.clone()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_read_is_written_and_read_again() {
        for text in [
            "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO ann",
            "alter default privileges for role ann, \"Bob\" in schema public grant select, insert on tables to public",
            "ALTER DEFAULT PRIVILEGES IN SCHEMA public FOR USER CURRENT_USER GRANT ALL PRIVILEGES ON TABLES TO GROUP ann WITH GRANT OPTION",
            "ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON ROUTINES FROM PUBLIC RESTRICT",
            "ALTER DEFAULT PRIVILEGES REVOKE GRANT OPTION FOR EXECUTE ON MODELS FROM ann CASCADE",
            "ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT USAGE, SELECT ON SEQUENCES TO ann",
            "ALTER DEFAULT PRIVILEGES GRANT SELECT (a) ON TABLES TO ann",
        ] {
            let found = read(text).unwrap();
            assert_eq!(read(&found.to_string()).unwrap(), found, "{text}");
        }
        for text in [
            "ALTER DEFAULT PRIVILEGES GRANT SELECT ON t TO ann",
            "ALTER DEFAULT PRIVILEGES GRANT ann TO bob",
            "ALTER DEFAULT PRIVILEGES FOR ROLE ann FOR ROLE bob GRANT SELECT ON TABLES TO ann",
            "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO ann CASCADE",
            "ALTER DEFAULT PRIVILEGES",
        ] {
            assert_eq!(parse(text).unwrap_err().code, Code::Syntax, "{text}");
        }
    }
}
