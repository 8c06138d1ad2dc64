//! `BEGIN`, `START TRANSACTION`, `COMMIT`, `END`, `ROLLBACK`, `ABORT`, `SAVEPOINT`, `RELEASE`, `ROLLBACK TO`.
//!
//! Each statement that writes is one durable commit of its own; a block groups settings, and an error inside it refuses
//! what follows until it ends. A client that writes inside a block is told so. Temporary tables are the session's own, and what a
//! block does to them is undone by ROLLBACK.

use std::fmt;

use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::Token;
use portrait_udfs::error::Result;

use super::support::{end, name, words};
use super::{Call, Outcome};
use crate::engine::settings::Scope;
use crate::engine::{Session, TransactionStatus};

/// A statement about the transaction.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Transaction {
    /// `BEGIN`, `START TRANSACTION`; the word decides the tag.
    Begin { modes: Modes, start: bool },
    /// `COMMIT`, `END`.
    Commit { chain: bool },
    /// `ROLLBACK`, `ABORT`.
    Rollback { chain: bool },
    /// `SAVEPOINT name`.
    Savepoint(String),
    /// `RELEASE name`.
    Release(String),
    /// `ROLLBACK TO name`.
    RollbackTo(String),
}

/// `ISOLATION LEVEL …`, `READ ONLY`, `DEFERRABLE`.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Modes {
    isolation: Option<&'static str>,
    read_only: Option<bool>,
    deferrable: Option<bool>,
}

impl Modes {
    /// Reads a list of modes up to the end of the statement.
    pub(super) fn parse(parser: &mut Parser<'_>) -> Result<Self, ParserError> {
        let mut modes = Self::default();
        loop {
            if words(parser, &["ISOLATION", "LEVEL"]) {
                let levels: [(&[&str], &'static str); 4] = [
                    (&["SERIALIZABLE"], "serializable"),
                    (&["REPEATABLE", "READ"], "repeatable read"),
                    (&["READ", "COMMITTED"], "read committed"),
                    (&["READ", "UNCOMMITTED"], "read uncommitted"),
                ];
                match levels.iter().find(|(spelled, _)| words(parser, spelled)) {
                    Some((_, level)) => modes.isolation = Some(level),
                    None => return parser.expected("an isolation level", parser.peek_token()),
                }
            } else if words(parser, &["READ", "ONLY"]) {
                modes.read_only = Some(true);
            } else if words(parser, &["READ", "WRITE"]) {
                modes.read_only = Some(false);
            } else if words(parser, &["NOT", "DEFERRABLE"]) {
                modes.deferrable = Some(false);
            } else if words(parser, &["DEFERRABLE"]) {
                modes.deferrable = Some(true);
            } else {
                end(parser)?;
                return Ok(modes);
            }
            let _ = parser.consume_token(&Token::Comma);
        }
    }

    /// Sets the modes of this transaction, or with `session` of all to come.
    pub(super) fn apply(&self, session: &Session, to_session: bool) -> Result<()> {
        let scope = if to_session { Scope::Session } else { Scope::Transaction };
        let name = |bare: &str| if to_session { format!("default_transaction_{bare}") } else { format!("transaction_{bare}") };
        session.change_settings(|settings| {
            if let Some(level) = self.isolation {
                settings.set(&name("isolation"), Some(level), scope)?;
            }
            for (bare, value) in [("read_only", self.read_only), ("deferrable", self.deferrable)] {
                if let Some(value) = value {
                    settings.set(&name(bare), Some(if value { "on" } else { "off" }), scope)?;
                }
            }
            Ok(())
        })
    }
}

impl Transaction {
    /// Reads a statement whose first word is not consumed yet.
    pub(super) fn parse(parser: &mut Parser<'_>) -> Result<Self, ParserError> {
        if words(parser, &["START", "TRANSACTION"]) {
            return Ok(Self::Begin { modes: Modes::parse(parser)?, start: true });
        }
        if words(parser, &["BEGIN"]) {
            work(parser);
            return Ok(Self::Begin { modes: Modes::parse(parser)?, start: false });
        }
        let found = if words(parser, &["SAVEPOINT"]) {
            Self::Savepoint(name(parser)?)
        } else if words(parser, &["RELEASE"]) {
            words(parser, &["SAVEPOINT"]);
            Self::Release(name(parser)?)
        } else if words(parser, &["COMMIT"]) || words(parser, &["END"]) {
            work(parser);
            Self::Commit { chain: chain(parser) }
        } else {
            parser.next_token();
            work(parser);
            if words(parser, &["TO"]) {
                words(parser, &["SAVEPOINT"]);
                Self::RollbackTo(name(parser)?)
            } else {
                Self::Rollback { chain: chain(parser) }
            }
        };
        end(parser)?;
        Ok(found)
    }

    pub(super) fn tag(&self) -> &'static str {
        match self {
            Self::Begin { start: false, .. } => "BEGIN",
            Self::Begin { start: true, .. } => "START TRANSACTION",
            Self::Commit { .. } => "COMMIT",
            Self::Rollback { .. } | Self::RollbackTo(_) => "ROLLBACK",
            Self::Savepoint(_) => "SAVEPOINT",
            Self::Release(_) => "RELEASE",
        }
    }

    /// Whether a failed transaction accepts it.
    pub(super) fn ends_transaction(&self) -> bool {
        matches!(self, Self::Commit { .. } | Self::Rollback { .. } | Self::RollbackTo(_))
    }

    pub(super) async fn run(&self, call: &Call<'_>) -> Result<Outcome> {
        let session = call.session;
        match self {
            Self::Begin { modes, .. } => {
                if !session.begin() {
                    call.running.notice("there is already a transaction in progress");
                }
                modes.apply(session, false)?;
            }
            Self::Commit { chain } => {
                let ended = session.end(true).await?;
                tell_undone(call, ended.undone);
                match ended.before {
                    TransactionStatus::Idle => call.running.notice("there is no transaction in progress"),
                    TransactionStatus::Active => {}
                    TransactionStatus::Failed => return self.chained(call, *chain, "ROLLBACK"),
                }
                return self.chained(call, *chain, "COMMIT");
            }
            Self::Rollback { chain } => {
                let ended = session.end(false).await?;
                tell_undone(call, ended.undone);
                if ended.before == TransactionStatus::Idle {
                    call.running.notice("there is no transaction in progress");
                } else if ended.wrote {
                    call.running.notice("what the transaction's statements wrote was committed by each of them and stays");
                }
                return self.chained(call, *chain, "ROLLBACK");
            }
            Self::Savepoint(name) => session.savepoint(name)?,
            Self::Release(name) => session.release(name)?,
            Self::RollbackTo(name) => tell_undone(call, session.rollback_to(name).await?),
        }
        Ok(Outcome::done(self.tag()))
    }

    fn chained(&self, call: &Call<'_>, chain: bool, tag: &'static str) -> Result<Outcome> {
        if chain {
            call.session.begin();
        }
        Ok(Outcome::done(tag))
    }
}

/// Says that what ROLLBACK should have undone stays.
fn tell_undone(call: &Call<'_>, undone: bool) {
    if !undone {
        call.running.notice("a temporary table keeps the rows that came in the transaction: users were erased from it meanwhile");
    }
}

/// `WORK` or `TRANSACTION`, which say nothing.
fn work(parser: &mut Parser<'_>) {
    let _ = words(parser, &["WORK"]) || words(parser, &["TRANSACTION"]);
}

/// `AND [NO] CHAIN`.
fn chain(parser: &mut Parser<'_>) -> bool {
    if words(parser, &["AND", "NO", "CHAIN"]) {
        return false;
    }
    words(parser, &["AND", "CHAIN"])
}

impl fmt::Display for Modes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(level) = self.isolation {
            write!(f, " ISOLATION LEVEL {}", level.to_uppercase())?;
        }
        match self.read_only {
            Some(true) => f.write_str(" READ ONLY")?,
            Some(false) => f.write_str(" READ WRITE")?,
            None => {}
        }
        match self.deferrable {
            Some(true) => f.write_str(" DEFERRABLE"),
            Some(false) => f.write_str(" NOT DEFERRABLE"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
        match self {
            Self::Begin { modes, .. } => write!(f, "{}{modes}", self.tag()),
            Self::Commit { chain } => write!(f, "COMMIT{}", if *chain { " AND CHAIN" } else { "" }),
            Self::Rollback { chain } => write!(f, "ROLLBACK{}", if *chain { " AND CHAIN" } else { "" }),
            Self::Savepoint(name) => write!(f, "SAVEPOINT {}", quoted(name)),
            Self::Release(name) => write!(f, "RELEASE SAVEPOINT {}", quoted(name)),
            Self::RollbackTo(name) => write!(f, "ROLLBACK TO SAVEPOINT {}", quoted(name)),
        }
    }
}
