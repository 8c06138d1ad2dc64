//! `OPTIMIZE [TABLE] name` and `VACUUM [TABLE] [name] [RETAIN n HOURS]`: the upkeep of managed tables.

use std::sync::Arc;

use datafusion::sql::sqlparser::ast::ObjectName;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::Token;
use portrait_udfs::error::{Code, Result};

use super::support::{end, relation_name, words};
use super::target::Target;
use super::{Call, Outcome};
use crate::catalog::{ObjectKind, Rewritten, TableInfo, Temporary};

/// How long `VACUUM` keeps old versions, unless it is told: as other programs of Delta Lake do.
const RETENTION_HOURS: i64 = 7 * 24;
const HOUR_MS: i64 = 3_600_000;

/// A statement of upkeep.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Maintain {
    /// Rewrites small and overlapping files.
    Optimize(ObjectName),
    /// Removes the files of old versions: of one table, or of all.
    Vacuum { table: Option<ObjectName>, hours: i64 },
}

impl Maintain {
    /// Reads `OPTIMIZE …` or `VACUUM …`.
    pub(super) fn parse(parser: &mut Parser<'_>) -> Result<Self, ParserError> {
        if words(parser, &["OPTIMIZE"]) {
            words(parser, &["TABLE"]);
            let table = parser.parse_object_name(false)?;
            end(parser)?;
            return Ok(Self::Optimize(table));
        }
        parser.next_token();
        // PostgreSQL's words for how thorough it should be: it always is.
        while words(parser, &["FULL"]) || words(parser, &["ANALYZE"]) || words(parser, &["VERBOSE"]) || words(parser, &["TABLE"]) {}
        let retain =
            |parser: &Parser<'_>| matches!(&parser.peek_token().token, Token::Word(word) if word.value.eq_ignore_ascii_case("RETAIN"));
        let named = parser.peek_token().token != Token::EOF && !retain(parser);
        let table = if named { Some(parser.parse_object_name(false)?) } else { None };
        let mut hours = RETENTION_HOURS;
        if words(parser, &["RETAIN"]) {
            let number = parser.parse_literal_uint()?;
            hours = i64::try_from(number).unwrap_or(i64::MAX / HOUR_MS).min(i64::MAX / HOUR_MS);
            if !words(parser, &["HOURS"]) && !words(parser, &["HOUR"]) {
                let found = parser.peek_token();
                return parser.expected("HOURS", found);
            }
        }
        end(parser)?;
        Ok(Self::Vacuum { table, hours })
    }

    pub(super) fn tag(&self) -> &'static str {
        match self {
            Self::Optimize(_) => "OPTIMIZE",
            Self::Vacuum { .. } => "VACUUM",
        }
    }

    pub(super) async fn run(&self, call: Call<'_>) -> Result<Outcome> {
        call.refuse_read_only(self.tag())?;
        if let Self::Optimize(table) | Self::Vacuum { table: Some(table), .. } = self {
            let target = Target::of(&call.running, table)?;
            if let Some(temporary) = target.temporary() {
                self.of_temporary(&call, &target, temporary).await?;
                return Ok(Outcome::done(self.tag()));
            }
        }
        call.before_write()?;
        match self {
            Self::Optimize(table) => optimize(&call, relation_name(table)?).await?,
            Self::Vacuum { table: Some(table), hours } => vacuum(&call, relation_name(table)?, *hours).await?,
            Self::Vacuum { table: None, hours } => {
                let tables = call.running.engine().catalog().list();
                let rights = call.rights();
                let kept = |info: &TableInfo| matches!(info.kind, ObjectKind::Table | ObjectKind::MaterializedView);
                // As in PostgreSQL: what others own is passed over.
                for info in tables.into_iter().filter(|info| kept(info) && rights.owns_of(&info.owner)) {
                    match vacuum(&call, info.name, *hours).await {
                        // Dropped meanwhile.
                        Err(error) if error.code == Code::UndefinedTable => {}
                        done => done?,
                    }
                }
            }
        }
        call.after_write();
        Ok(Outcome::done(self.tag()))
    }
}

impl Maintain {
    /// The upkeep of a table of the session's own.
    async fn of_temporary(&self, call: &Call<'_>, target: &Target, temporary: &Arc<Temporary>) -> Result<()> {
        call.must_own_target(target)?;
        let (temporary, name) = (Arc::clone(temporary), target.name.clone());
        match *self {
            Self::Optimize(_) => {
                tell_rewritten(call, &target.name, call.running.run(async move { temporary.optimize(&name).await }).await?)
            }
            Self::Vacuum { hours, .. } => {
                let removed = call.running.run(async move { temporary.vacuum(&name, hours * HOUR_MS).await }).await?;
                tell_removed(call, &target.name, removed);
            }
        }
        Ok(())
    }
}

async fn optimize(call: &Call<'_>, name: String) -> Result<()> {
    call.must_own(&name)?;
    let (catalog, shown) = (Arc::clone(call.running.engine().catalog()), name.clone());
    let done = call.running.run(async move { catalog.optimize(&name).await }).await?;
    tell_rewritten(call, &shown, done);
    Ok(())
}

fn tell_rewritten(call: &Call<'_>, shown: &str, done: Rewritten) {
    if done.removed == 0 {
        call.running.notice(&format!("table \"{shown}\" has nothing to rewrite"));
    } else {
        call.running.notice(&format!("table \"{shown}\": {} rows of {} files are in {} files now", done.rows, done.removed, done.added));
    }
}

async fn vacuum(call: &Call<'_>, name: String, hours: i64) -> Result<()> {
    call.must_own(&name)?;
    let (catalog, shown) = (Arc::clone(call.running.engine().catalog()), name.clone());
    let removed = call.running.run(async move { catalog.vacuum(&name, hours * HOUR_MS).await }).await?;
    tell_removed(call, &shown, removed);
    Ok(())
}

fn tell_removed(call: &Call<'_>, shown: &str, removed: u64) {
    if removed > 0 {
        call.running.notice(&format!("table \"{shown}\": {removed} files of old versions removed"));
    }
}
