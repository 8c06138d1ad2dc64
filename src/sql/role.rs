//! `CREATE`, `ALTER` and `DROP` of `ROLE` or `USER`, with `LOGIN`, `SUPERUSER`, `CONNECTION LIMIT` and `PASSWORD`.

use std::fmt;
use std::sync::Arc;

use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::Token;
use portrait_udfs::error::{Code, Error, Result};

use super::support::{end, if_exists, name, words};
use super::{Call, Outcome};
use crate::catalog::RoleOptions;

/// What to do with roles.
pub(super) enum Role {
    /// `CREATE ROLE name …`.
    Create(String, RoleOptions),
    /// `ALTER ROLE name …`.
    Alter(String, RoleOptions),
    /// `DROP ROLE name, …`.
    Drop { names: Vec<String>, if_exists: bool },
}

impl Role {
    /// Reads what follows `CREATE` or `ALTER` or `DROP` (told by `verb`); `None` when it is not about a role.
    pub(super) fn parse(parser: &mut Parser<'_>, verb: &str) -> Result<Option<Self>, ParserError> {
        let user = words(parser, &["USER"]);
        if !user && !words(parser, &["ROLE"]) {
            return Ok(None);
        }
        if verb == "DROP" {
            let if_exists = if_exists(parser);
            let names = parser.parse_comma_separated(name)?;
            end(parser)?;
            return Ok(Some(Self::Drop { names, if_exists }));
        }
        let name = name(parser)?;
        let mut options = Self::options(parser)?;
        if verb == "CREATE" {
            options.login = Some(options.login.unwrap_or(user));
            return Ok(Some(Self::Create(name, options)));
        }
        Ok(Some(Self::Alter(name, options)))
    }

    fn options(parser: &mut Parser<'_>) -> Result<RoleOptions, ParserError> {
        let mut options = RoleOptions::default();
        words(parser, &["WITH"]);
        while parser.peek_token().token != Token::EOF {
            if words(parser, &["LOGIN"]) {
                options.login = Some(true);
            } else if words(parser, &["NOLOGIN"]) {
                options.login = Some(false);
            } else if words(parser, &["SUPERUSER"]) {
                options.superuser = Some(true);
            } else if words(parser, &["NOSUPERUSER"]) {
                options.superuser = Some(false);
            } else if words(parser, &["CONNECTION", "LIMIT"]) {
                let none = parser.consume_token(&Token::Minus);
                let number = parser.parse_literal_uint()?;
                options.connection_limit = Some(if none { None } else { Some(u32::try_from(number).unwrap_or(u32::MAX)) });
            } else if words(parser, &["ENCRYPTED", "PASSWORD"]) || words(parser, &["PASSWORD"]) {
                options.password = Some(if words(parser, &["NULL"]) { None } else { Some(parser.parse_literal_string()?) });
            } else if !["INHERIT", "NOINHERIT", "NOCREATEDB", "NOCREATEROLE", "NOREPLICATION", "NOBYPASSRLS"]
                .iter()
                .any(|word| words(parser, &[word]))
            {
                return parser.expected("a role option such as LOGIN, SUPERUSER or PASSWORD", parser.peek_token());
            }
        }
        Ok(options)
    }

    pub(super) fn tag(&self) -> &'static str {
        match self {
            Self::Create(..) => "CREATE ROLE",
            Self::Alter(..) => "ALTER ROLE",
            Self::Drop { .. } => "DROP ROLE",
        }
    }

    pub(super) async fn run(&self, call: Call<'_>) -> Result<Outcome> {
        call.before_write()?;
        let catalog = Arc::clone(call.running.engine().catalog());
        let me = call.session.user();
        let superuser = call.rights().superuser();
        let own_password = matches!(self, Self::Alter(name, options) if *name == me && options.superuser.is_none() && options.login.is_none() && options.connection_limit.is_none());
        if !superuser && !own_password {
            return Err(Error::new(Code::InsufficientPrivilege, format!("permission denied to {}", self.tag().to_lowercase()))
                .hint("Only superusers change roles; everybody may change their own password."));
        }
        match self {
            Self::Create(name, options) => catalog.create_role(name, options.clone()).await?,
            Self::Alter(name, options) => catalog.alter_role(name, options.clone()).await?,
            Self::Drop { names, if_exists } => {
                if names.contains(&me) {
                    return Err(Error::new(Code::DependentObjects, "current user cannot be dropped"));
                }
                for name in names {
                    if !catalog.drop_role(name, *if_exists).await? {
                        call.running.notice(&format!("role \"{name}\" does not exist, skipping"));
                    }
                }
            }
        }
        Ok(Outcome::done(self.tag()))
    }
}

/// Without passwords: a statement is printed for logs and messages.
impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
        match self {
            Self::Create(name, options) | Self::Alter(name, options) => {
                write!(f, "{} {}", self.tag(), quoted(name))?;
                match options.login {
                    Some(true) => f.write_str(" LOGIN")?,
                    Some(false) => f.write_str(" NOLOGIN")?,
                    None => {}
                }
                match options.superuser {
                    Some(true) => f.write_str(" SUPERUSER")?,
                    Some(false) => f.write_str(" NOSUPERUSER")?,
                    None => {}
                }
                match options.connection_limit {
                    Some(Some(limit)) => write!(f, " CONNECTION LIMIT {limit}")?,
                    Some(None) => f.write_str(" CONNECTION LIMIT -1")?,
                    None => {}
                }
                match options.password {
                    Some(Some(_)) => f.write_str(" PASSWORD '********'"),
                    Some(None) => f.write_str(" PASSWORD NULL"),
                    None => Ok(()),
                }
            }
            Self::Drop { names, if_exists } => {
                let names: Vec<String> = names.iter().map(|name| quoted(name)).collect();
                write!(f, "DROP ROLE {}{}", if *if_exists { "IF EXISTS " } else { "" }, names.join(", "))
            }
        }
    }
}

impl fmt::Debug for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}
