//! What several statements need: names, small results, checks before a write.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::sql::sqlparser::ast::{Ident, ObjectName, ObjectNamePart};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::Token;
use portrait_udfs::error::{Code, Error, Result};

use super::{Call, Outcome, RowTag};
use crate::catalog::{Object, ObjectClass, PUBLIC, Privilege, Rights};

/// Longest name, in bytes: PostgreSQL's limit times four, so that no script that runs there fails here.
const NAME_BYTES_MAX: usize = 252;

/// A bare name as written: folded to lower case unless quoted.
pub(super) fn fold(ident: &Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_lowercase() }
}

/// The bare name of a relation in schema `public`.
///
/// # Errors
/// [`Code::UndefinedSchema`] for another schema, [`Code::UndefinedDatabase`] for another database.
pub(super) fn relation_name(name: &ObjectName) -> Result<String> {
    let (schema, bare) = qualified(name)?;
    schema.map_or(Ok(()), |schema| in_public(&schema))?;
    Ok(bare)
}

/// The schema of a relation's name, if it has one, and the bare name.
///
/// # Errors
/// [`Code::FeatureNotSupported`] for another database, [`Code::TooComplex`] for a name that is too long.
pub(super) fn qualified(name: &ObjectName) -> Result<(Option<String>, String)> {
    let parts: Vec<String> = name
        .0
        .iter()
        .map(|part| match part {
            ObjectNamePart::Identifier(ident) => Ok(fold(ident)),
            ObjectNamePart::Function(_) => Err(Error::new(Code::Syntax, format!("\"{name}\" is not a name"))),
        })
        .collect::<Result<_>>()?;
    let (schema, bare) = match parts.as_slice() {
        [bare] => (None, bare),
        [schema, bare] => (Some(schema), bare),
        [database, schema, bare] if database == "portrait" => (Some(schema), bare),
        [database, _, _] => {
            return Err(Error::new(Code::FeatureNotSupported, format!("cross-database references are not implemented: \"{database}\"")));
        }
        _ => return Err(Error::new(Code::Syntax, format!("improper qualified name: {name}"))),
    };
    if bare.is_empty() {
        return Err(Error::new(Code::Syntax, "zero-length delimited identifier"));
    }
    if bare.len() > NAME_BYTES_MAX {
        return Err(Error::new(Code::TooComplex, "identifier is too long")
            .detail(format!("The name has {} bytes; the limit is {NAME_BYTES_MAX}.", bare.len())));
    }
    Ok((schema.cloned(), bare.clone()))
}

/// Refuses a schema in which nothing can be made or changed.
///
/// # Errors
/// [`Code::InsufficientPrivilege`] for what describes the server, [`Code::UndefinedSchema`] for one that does not exist.
pub(super) fn in_public(schema: &str) -> Result<()> {
    match schema {
        "public" => Ok(()),
        "ml" | "pg_catalog" | "information_schema" => {
            Err(Error::new(Code::InsufficientPrivilege, format!("permission denied for schema {schema}"))
                .detail("The schema describes the server; its relations cannot be changed."))
        }
        other => {
            Err(Error::new(Code::UndefinedSchema, format!("schema \"{other}\" does not exist"))
                .hint("Tables and views live in schema public."))
        }
    }
}

/// Text columns of these names.
pub(super) fn text_schema(names: &[&str]) -> SchemaRef {
    Arc::new(Schema::new(names.iter().map(|name| Field::new(*name, DataType::Utf8, false)).collect::<Vec<_>>()))
}

/// A few rows of text, column by column.
///
/// # Errors
/// [`Code::Internal`] when the columns differ in length.
pub(super) fn text_rows(schema: SchemaRef, columns: Vec<Vec<String>>, word: &'static str) -> Result<Outcome> {
    let arrays = columns.into_iter().map(|column| Arc::new(StringArray::from(column)) as ArrayRef).collect();
    let batch = RecordBatch::try_new(Arc::clone(&schema), arrays).map_err(|error| Error::internal(error.to_string()))?;
    Ok(Outcome::Rows { schema, stream: once(batch), tag: RowTag::Word(word) })
}

/// A stream of one batch.
pub(super) fn once(batch: RecordBatch) -> SendableRecordBatchStream {
    let schema = batch.schema();
    Box::pin(RecordBatchStreamAdapter::new(schema, futures::stream::once(std::future::ready(Ok::<_, DataFusionError>(batch)))))
}

impl Call<'_> {
    /// Refuses a write in a read-only transaction, and says once that it will not wait for COMMIT.
    ///
    /// # Errors
    /// [`Code::ReadOnly`], also for a store that is open for reading only.
    pub(super) fn before_write(&self) -> Result<()> {
        self.before_write_of(self.statement.tag())
    }

    /// As [`before_write`](Self::before_write), of what is called `what`.
    ///
    /// # Errors
    /// [`Code::ReadOnly`].
    pub(super) fn before_write_of(&self, what: &str) -> Result<()> {
        self.refuse_read_only(what)?;
        self.running.engine().catalog().may_write()
    }

    /// Refuses what is called `what` in a read-only transaction, whatever the store is opened for.
    ///
    /// # Errors
    /// [`Code::ReadOnly`].
    pub(super) fn refuse_read_only(&self, what: &str) -> Result<()> {
        let read_only =
            self.session.with_settings(|settings| settings.bool("transaction_read_only") || settings.bool("default_transaction_read_only"));
        if read_only {
            return Err(Error::new(Code::ReadOnly, format!("cannot execute {what} in a read-only transaction")));
        }
        Ok(())
    }

    /// What the statement's role may do.
    pub(super) fn rights(&self) -> Rights {
        self.running.engine().catalog().rights(&self.session.user())
    }

    /// Demands that the role owns a table or view; one that does not exist passes.
    ///
    /// # Errors
    /// 42501.
    pub(super) fn must_own(&self, table: &str) -> Result<()> {
        let found = self.running.engine().catalog().describe(table);
        self.rights().require_owner(&Object::table(table)).map_err(|error| match found {
            Some(info) => Error { message: format!("must be owner of {} {table}", info.kind.words()), ..error },
            None => error,
        })
    }

    /// Demands that the role may make tables and views.
    ///
    /// # Errors
    /// 42501.
    pub(super) fn may_create(&self) -> Result<()> {
        self.rights().require(Privilege::Create, &Object::new(ObjectClass::Schema, PUBLIC))
    }

    /// After a write inside a transaction block: it is durable already, and the client should know.
    pub(super) fn after_write(&self) {
        if self.session.wrote_in_transaction() {
            self.running.notice("each statement that writes is committed at once; ROLLBACK will not undo it");
        }
    }
}

/// Whether the next words are `words`, in any case; consumes them when they are.
pub(super) fn words(parser: &mut Parser<'_>, words: &[&str]) -> bool {
    let all = words.iter().enumerate().all(|(at, word)| is_word(&parser.peek_nth_token(at).token, word));
    if all {
        for _ in words {
            parser.next_token();
        }
    }
    all
}

fn is_word(token: &Token, word: &str) -> bool {
    matches!(token, Token::Word(found) if found.quote_style.is_none() && found.value.eq_ignore_ascii_case(word))
}

/// Demands the end of the statement.
pub(super) fn end(parser: &Parser<'_>) -> Result<(), ParserError> {
    let next = parser.peek_token();
    if next.token == Token::EOF { Ok(()) } else { parser.expected("end of statement", next) }
}

/// A name, folded.
pub(super) fn name(parser: &mut Parser<'_>) -> Result<String, ParserError> {
    parser.parse_identifier().map(|ident| fold(&ident))
}

/// `IF EXISTS`.
pub(super) fn if_exists(parser: &mut Parser<'_>) -> bool {
    parser.parse_keywords(&[Keyword::IF, Keyword::EXISTS])
}
