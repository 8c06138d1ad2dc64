//! `SET [SESSION | LOCAL] name {TO | =} {value | DEFAULT}`, `SET TIME ZONE`, `SET NAMES`, `SET TRANSACTION …`.

use std::fmt;

use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::Token;
use portrait_udfs::error::Result;

use super::support::{end, name, words};
use super::transaction::Modes;
use super::{Call, Outcome};
use crate::engine::TransactionStatus;
use crate::engine::settings::Scope;

/// A change of settings.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Set {
    /// One setting; `None` = its default.
    Value { scope: Scope, name: String, value: Option<String> },
    /// `SET TRANSACTION` (of this transaction) or `SET SESSION CHARACTERISTICS` (of those to come).
    Modes { modes: Modes, session: bool },
    /// `SET ROLE`; `None` = NONE.
    Role { scope: Scope, role: Option<String> },
    /// `SET SESSION AUTHORIZATION`; `None` = who logged in.
    Authorization { scope: Scope, user: Option<String> },
}

impl Set {
    /// Reads what follows `SET`.
    pub(super) fn parse(parser: &mut Parser<'_>) -> Result<Self, ParserError> {
        if words(parser, &["TRANSACTION"]) {
            return Ok(Self::Modes { modes: Modes::parse(parser)?, session: false });
        }
        if words(parser, &["SESSION", "CHARACTERISTICS", "AS", "TRANSACTION"]) {
            return Ok(Self::Modes { modes: Modes::parse(parser)?, session: true });
        }
        if words(parser, &["SESSION", "AUTHORIZATION"]) {
            return Self::authorization(parser, Scope::Session);
        }
        let scope = if words(parser, &["LOCAL"]) {
            Scope::Transaction
        } else {
            words(parser, &["SESSION"]);
            Scope::Session
        };
        if words(parser, &["SESSION", "AUTHORIZATION"]) {
            return Self::authorization(parser, scope);
        }
        if words(parser, &["ROLE"]) {
            let _ = parser.consume_token(&Token::Eq) || words(parser, &["TO"]);
            let role = Self::value(parser)?;
            end(parser)?;
            return Ok(Self::Role { scope, role: role.filter(|role| !role.eq_ignore_ascii_case("none")) });
        }
        let name = if words(parser, &["TIME", "ZONE"]) {
            "TimeZone".to_owned()
        } else if words(parser, &["NAMES"]) {
            "client_encoding".to_owned()
        } else {
            let name = setting_name(parser)?;
            if !parser.consume_token(&Token::Eq) && !words(parser, &["TO"]) {
                let found = parser.peek_token();
                return parser.expected("TO or =", found);
            }
            name
        };
        let value = Self::values(parser, &name)?;
        end(parser)?;
        Ok(Self::Value { scope, name, value })
    }

    fn authorization(parser: &mut Parser<'_>, scope: Scope) -> Result<Self, ParserError> {
        let user = Self::value(parser)?;
        end(parser)?;
        Ok(Self::Authorization { scope, user })
    }

    /// A value or a list of them; `None` = DEFAULT.
    fn values(parser: &mut Parser<'_>, name: &str) -> Result<Option<String>, ParserError> {
        let Some(first) = Self::item(parser, name)? else { return Ok(None) };
        let mut value = first;
        while parser.consume_token(&Token::Comma) {
            let Some(next) = Self::item(parser, name)? else {
                let found = parser.peek_token();
                return parser.expected("a value", found);
            };
            value.push_str(", ");
            value.push_str(&next);
        }
        Ok(Some(value))
    }

    fn value(parser: &mut Parser<'_>) -> Result<Option<String>, ParserError> {
        Self::item(parser, "")
    }

    fn item(parser: &mut Parser<'_>, name: &str) -> Result<Option<String>, ParserError> {
        let next = parser.next_token();
        Ok(Some(match next.token {
            Token::Word(word) if word.quote_style.is_none() && word.value.eq_ignore_ascii_case("default") => return Ok(None),
            // A schema of the path keeps its quotes, which decide whether its case counts.
            Token::Word(word) if word.quote_style.is_some() && name.eq_ignore_ascii_case("search_path") && !is_plain(&word.value) => {
                quoted(&word.value)
            }
            Token::Word(word) if word.quote_style.is_some() => word.value,
            Token::Word(word) => word.value.to_lowercase(),
            Token::SingleQuotedString(text) | Token::EscapedStringLiteral(text) => text,
            Token::DollarQuotedString(text) => text.value,
            Token::Number(number, _) => number,
            Token::Minus => match parser.next_token().token {
                Token::Number(number, _) => format!("-{number}"),
                _ => return parser.expected("a number", parser.peek_token()),
            },
            Token::Plus => return Self::item(parser, name),
            _ => return parser.expected("a value", next),
        }))
    }

    pub(super) fn run(&self, call: &Call<'_>) -> Result<Outcome> {
        match self {
            Self::Value { scope, name, value } => {
                if *scope == Scope::Transaction && call.session.transaction() == TransactionStatus::Idle {
                    call.running.notice("SET LOCAL can only be used in transaction blocks");
                    // It would end at once: only the check is left of it.
                    call.session.with_settings(Clone::clone).set(name, value.as_deref(), *scope)?;
                } else {
                    call.session.change_settings(|settings| settings.set(name, value.as_deref(), *scope))?;
                }
            }
            Self::Modes { modes, session } => modes.apply(call.session, *session)?,
            Self::Role { scope, role } => call.session.set_role(role.as_deref(), *scope)?,
            Self::Authorization { scope, user } => call.session.set_authorization(user.as_deref(), *scope)?,
        }
        Ok(Outcome::done("SET"))
    }
}

/// A setting's name: `statement_timeout`, `ml.epochs`.
pub(super) fn setting_name(parser: &mut Parser<'_>) -> Result<String, ParserError> {
    let mut full = name(parser)?;
    while parser.consume_token(&Token::Period) {
        full.push('.');
        full.push_str(&name(parser)?);
    }
    Ok(full)
}

/// Whether a name means the same without its quotes.
fn is_plain(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_lowercase() || first == '_')
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

impl fmt::Display for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value { scope, name, value } => {
                write!(f, "SET {}{name} = ", if *scope == Scope::Transaction { "LOCAL " } else { "" })?;
                match value {
                    Some(value) => write!(f, "'{}'", value.replace('\'', "''")),
                    None => f.write_str("DEFAULT"),
                }
            }
            Self::Modes { modes, session: false } => write!(f, "SET TRANSACTION{modes}"),
            Self::Modes { modes, session: true } => write!(f, "SET SESSION CHARACTERISTICS AS TRANSACTION{modes}"),
            Self::Role { scope, role } => {
                let local = if *scope == Scope::Transaction { "LOCAL " } else { "" };
                write!(f, "SET {local}ROLE {}", role.as_ref().map_or_else(|| "NONE".to_owned(), |role| quoted(role)))
            }
            Self::Authorization { scope, user } => {
                let local = if *scope == Scope::Transaction { "LOCAL " } else { "" };
                write!(f, "SET {local}SESSION AUTHORIZATION {}", user.as_ref().map_or_else(|| "DEFAULT".to_owned(), |user| quoted(user)))
            }
        }
    }
}
