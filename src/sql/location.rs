//! `CREATE LOCATION name AS 'folder' [WRITABLE]` and `DROP LOCATION [IF EXISTS] name`: which server files roles may use.

use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use portrait_udfs::error::Result;

use super::support::{end, if_exists, name, words};
use super::{Call, Outcome};

/// A statement about a location.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Location {
    Create { name: String, folder: String, writable: bool },
    Drop { name: String, if_exists: bool },
}

impl Location {
    /// Reads what follows `CREATE` or `DROP` (told by `verb`); `None` when it is about something else.
    pub(super) fn parse(parser: &mut Parser<'_>, verb: &str) -> Result<Option<Self>, ParserError> {
        if !words(parser, &["LOCATION"]) {
            return Ok(None);
        }
        let found = if verb == "DROP" {
            let if_exists = if_exists(parser);
            Self::Drop { name: name(parser)?, if_exists }
        } else {
            let name = name(parser)?;
            if !words(parser, &["AS"]) {
                return parser.expected("AS 'folder'", parser.peek_token());
            }
            let folder = parser.parse_literal_string()?;
            Self::Create { name, folder, writable: words(parser, &["WRITABLE"]) }
        };
        end(parser)?;
        Ok(Some(found))
    }

    pub(super) fn tag(&self) -> &'static str {
        match self {
            Self::Create { .. } => "CREATE LOCATION",
            Self::Drop { .. } => "DROP LOCATION",
        }
    }

    pub(super) async fn run(&self, call: Call<'_>) -> Result<Outcome> {
        call.before_write()?;
        let (catalog, caller) = (call.running.engine().catalog(), call.session.user());
        match self {
            Self::Create { name, folder, writable } => catalog.create_location(&caller, name, folder, *writable).await?,
            Self::Drop { name, if_exists } => {
                if !catalog.drop_location(&caller, name, *if_exists).await? {
                    call.running.notice(&format!("location \"{name}\" does not exist, skipping"));
                }
            }
        }
        call.after_write();
        Ok(Outcome::done(self.tag()))
    }
}
