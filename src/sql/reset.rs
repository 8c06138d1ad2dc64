//! `RESET name`, `RESET ALL`, `DISCARD {ALL | PLANS | SEQUENCES | TEMP}`: back to what the session started with.

use std::fmt;

use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use portrait_udfs::error::{Code, Error, Result};

use super::set::setting_name;
use super::support::{end, words};
use super::{Call, Outcome};
use crate::engine::TransactionStatus;
use crate::engine::settings::Scope;

/// Forgets what the session changed.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Reset {
    /// `RESET name`.
    One(String),
    /// `RESET ALL`.
    All,
    /// `RESET ROLE`.
    Role,
    /// `RESET SESSION AUTHORIZATION`.
    Authorization,
    /// `DISCARD ALL`: settings, prepared statements, everything.
    DiscardAll,
    /// `DISCARD PLANS`, `SEQUENCES`, of which nothing is kept, or `TEMP`.
    Discard(&'static str),
}

impl Reset {
    /// Reads a statement whose first word is not consumed yet.
    pub(super) fn parse(parser: &mut Parser<'_>) -> Result<Self, ParserError> {
        let found = if words(parser, &["DISCARD"]) {
            if words(parser, &["ALL"]) {
                Self::DiscardAll
            } else if words(parser, &["PLANS"]) {
                Self::Discard("PLANS")
            } else if words(parser, &["SEQUENCES"]) {
                Self::Discard("SEQUENCES")
            } else if words(parser, &["TEMP"]) || words(parser, &["TEMPORARY"]) {
                Self::Discard("TEMP")
            } else {
                return parser.expected("ALL, PLANS, SEQUENCES or TEMP", parser.peek_token());
            }
        } else {
            parser.next_token();
            if words(parser, &["ALL"]) {
                Self::All
            } else if words(parser, &["TIME", "ZONE"]) {
                Self::One("TimeZone".into())
            } else if words(parser, &["SESSION", "AUTHORIZATION"]) {
                Self::Authorization
            } else if words(parser, &["ROLE"]) {
                Self::Role
            } else {
                Self::One(setting_name(parser)?)
            }
        };
        end(parser)?;
        Ok(found)
    }

    pub(super) fn tag(&self) -> &'static str {
        match self {
            Self::One(_) | Self::All | Self::Role | Self::Authorization => "RESET",
            Self::DiscardAll => "DISCARD ALL",
            Self::Discard("PLANS") => "DISCARD PLANS",
            Self::Discard("SEQUENCES") => "DISCARD SEQUENCES",
            Self::Discard(_) => "DISCARD TEMP",
        }
    }

    pub(super) async fn run(&self, call: &Call<'_>) -> Result<Outcome> {
        match self {
            Self::One(name) => call.session.change_settings(|settings| settings.set(name, None, Scope::Session))?,
            Self::All => call.session.change_settings(crate::engine::settings::Settings::reset_all),
            Self::DiscardAll => {
                if call.session.transaction() != TransactionStatus::Idle {
                    return Err(Error::new(Code::ActiveTransaction, "DISCARD ALL cannot run inside a transaction block"));
                }
                call.session.set_authorization(None, Scope::Session)?;
                call.session.change_settings(crate::engine::settings::Settings::reset_all);
                call.session.forget_prepared(None)?;
                call.session.close_cursor(None)?;
                call.session.temporary().clear();
            }
            Self::Role => call.session.set_role(None, Scope::Session)?,
            Self::Authorization => call.session.set_authorization(None, Scope::Session)?,
            Self::Discard("TEMP") => call.session.temporary().clear(),
            Self::Discard(_) => {}
        }
        Ok(Outcome::done(self.tag()))
    }
}

impl fmt::Display for Reset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(name) => write!(f, "RESET {name}"),
            Self::All => f.write_str("RESET ALL"),
            Self::Role => f.write_str("RESET ROLE"),
            Self::Authorization => f.write_str("RESET SESSION AUTHORIZATION"),
            Self::DiscardAll | Self::Discard(_) => f.write_str(self.tag()),
        }
    }
}
