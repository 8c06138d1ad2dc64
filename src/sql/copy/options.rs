//! Reads a COPY statement: `COPY table [(columns)] FROM STDIN [[WITH] (option value, …)]` and `COPY table [(columns)] | (query)
//! TO STDOUT …`, and the old form of options without parentheses (`CSV HEADER DELIMITER ','`).

use datafusion::sql::sqlparser::ast::{ObjectName, Statement};
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::Token;
use portrait_udfs::error::{Code, Error, Result};

use super::CopyFormat;
use super::to::CopyTo;
use crate::sql::parser::{DIALECT, syntax_error};
use crate::sql::query;
use crate::sql::support::{end, name, words};

/// What the options may be called.
const NAMES: [&str; 8] = ["delimiter", "encoding", "escape", "format", "freeze", "header", "null", "quote"];

/// What a COPY says.
#[derive(Debug)]
pub(in crate::sql) enum Copy {
    From(CopyFrom),
    To(CopyTo),
}

/// What a COPY that takes rows says.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::sql) struct CopyFrom {
    pub(super) table: ObjectName,
    /// The list of columns.
    pub(super) names: Option<Vec<String>>,
    pub(super) options: Options,
}

/// How rows are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) format: CopyFormat,
    pub(super) delimiter: u8,
    pub(super) quote: u8,
    pub(super) escape: u8,
    pub(super) null: Vec<u8>,
    pub(super) header: Header,
}

/// What the first line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Header {
    /// A row.
    None,
    /// Names that are not looked at.
    Skip,
    /// The names of the columns.
    Match,
}

impl Copy {
    /// Reads what follows `COPY`.
    ///
    /// # Errors
    /// 42601; 0A000 for the forms of COPY that are not there; 22023 for values of options.
    pub(in crate::sql) fn parse(parser: &mut Parser<'_>, text: &str) -> Result<Self> {
        let syntax = |error: ParserError| syntax_error(error, text);
        if parser.consume_token(&Token::LParen) {
            let query = parser.parse_query().map_err(syntax)?;
            parser.expect_token(&Token::RParen).map_err(syntax)?;
            query::check(&query)?;
            if !words(parser, &["TO"]) {
                return Err(syntax(expected(parser, "TO")));
            }
            return to(parser, text, Statement::Query(query), false);
        }
        let table = parser.parse_object_name(false).map_err(syntax)?;
        let mut names = None;
        if parser.consume_token(&Token::LParen) {
            names = Some(parser.parse_comma_separated(name).map_err(syntax)?);
            parser.expect_token(&Token::RParen).map_err(syntax)?;
        }
        if words(parser, &["TO"]) {
            return to(parser, text, whole_table(&table, names.as_deref()).map_err(syntax)?, true);
        }
        if !words(parser, &["FROM"]) {
            return Err(syntax(expected(parser, "FROM or TO")));
        }
        peer(parser, text, "STDIN", "COPY from", "Use FROM STDIN (\\copy in psql), portrait import, or CREATE EXTERNAL TABLE.")?;
        let options = options(parser, text)?;
        end(parser).map_err(syntax)?;
        Ok(Self::From(CopyFrom { table, names, options }))
    }
}

/// Reads what follows `TO`.
fn to(parser: &mut Parser<'_>, text: &str, query: Statement, of_table: bool) -> Result<Copy> {
    peer(parser, text, "STDOUT", "COPY to", "Use TO STDOUT (\\copy in psql).")?;
    let options = options(parser, text)?;
    end(parser).map_err(|error| syntax_error(error, text))?;
    if options.header == Header::Match {
        return Err(Error::new(Code::FeatureNotSupported, "cannot use \"match\" with HEADER in COPY TO"));
    }
    Ok(Copy::To(CopyTo { query: Box::new(query), of_table, options }))
}

/// The rows of a table, as a query.
fn whole_table(table: &ObjectName, names: Option<&[String]>) -> std::result::Result<Statement, ParserError> {
    let quoted = |name: &String| format!("\"{}\"", name.replace('"', "\"\""));
    let columns = names.map_or_else(|| "*".to_owned(), |names| names.iter().map(quoted).collect::<Vec<_>>().join(", "));
    Parser::new(&DIALECT).try_with_sql(&format!("SELECT {columns} FROM {table}"))?.parse_statement()
}

/// Reads who is at the other end: the client alone may be.
fn peer(parser: &mut Parser<'_>, text: &str, client: &'static str, verb: &str, hint: &str) -> Result<()> {
    if words(parser, &[client]) {
        return Ok(());
    }
    if matches!(parser.peek_token().token, Token::SingleQuotedString(_)) || words(parser, &["PROGRAM"]) {
        return Err(Error::new(Code::FeatureNotSupported, format!("{verb} a file of the server is not supported")).hint(hint));
    }
    Err(syntax_error(expected(parser, client), text))
}

fn expected(parser: &Parser<'_>, what: &str) -> ParserError {
    let found = parser.peek_token();
    ParserError::ParserError(format!("Expected: {what}, found: {found}{}", found.span.start))
}

/// What was said so far.
#[derive(Default)]
struct Said {
    format: Option<String>,
    delimiter: Option<String>,
    quote: Option<String>,
    escape: Option<String>,
    null: Option<String>,
    header: Option<String>,
}

fn options(parser: &mut Parser<'_>, text: &str) -> Result<Options> {
    let syntax = |error: ParserError| syntax_error(error, text);
    let mut said = Said::default();
    words(parser, &["WITH"]);
    if parser.consume_token(&Token::LParen) {
        loop {
            let option = name(parser).map_err(syntax)?;
            let value = match parser.peek_token().token {
                Token::Comma | Token::RParen => String::new(),
                _ => value(parser).map_err(syntax)?,
            };
            said.set(&option, value)?;
            if !parser.consume_token(&Token::Comma) {
                break;
            }
        }
        parser.expect_token(&Token::RParen).map_err(syntax)?;
    } else {
        while parser.peek_token().token != Token::EOF {
            let option = name(parser).map_err(syntax)?;
            match option.as_str() {
                "csv" | "binary" | "text" => said.set("format", option)?,
                "header" => said.set("header", String::new())?,
                "delimiter" | "delimiters" | "null" | "quote" | "escape" | "encoding" => {
                    words(parser, &["AS"]);
                    let value = value(parser).map_err(syntax)?;
                    said.set(option.strip_suffix("rs").map_or(option.as_str(), |_| "delimiter"), value)?;
                }
                _ => return Err(Error::new(Code::Syntax, format!("syntax error at or near \"{option}\""))),
            }
        }
    }
    said.options()
}

/// A string, word or number.
fn value(parser: &mut Parser<'_>) -> Result<String, ParserError> {
    match parser.next_token().token {
        Token::SingleQuotedString(text) | Token::EscapedStringLiteral(text) => Ok(text),
        Token::Word(word) => Ok(word.value),
        Token::Number(number, _) => Ok(number),
        other => Err(ParserError::ParserError(format!("Expected: a value, found: {other}"))),
    }
}

impl Said {
    fn set(&mut self, option: &str, value: String) -> Result<()> {
        let slot = match option {
            "format" => &mut self.format,
            "delimiter" => &mut self.delimiter,
            "quote" => &mut self.quote,
            "escape" => &mut self.escape,
            "null" => &mut self.null,
            "header" => &mut self.header,
            "freeze" => return Ok(()),
            "encoding" if matches!(value.to_ascii_lowercase().as_str(), "utf8" | "utf-8" | "unicode") => return Ok(()),
            "encoding" => {
                return Err(Error::new(Code::FeatureNotSupported, format!("encoding \"{value}\" is not supported")).hint("Send UTF-8."));
            }
            _ => {
                let error = Error::new(Code::Syntax, format!("option \"{option}\" not recognized"));
                return Err(error.hint(format!("Options of COPY are: {}.", NAMES.join(", "))));
            }
        };
        if slot.replace(value).is_some() {
            return Err(Error::new(Code::Syntax, "conflicting or redundant options"));
        }
        Ok(())
    }

    fn options(self) -> Result<Options> {
        let format = match self.format.as_deref().map(str::to_ascii_lowercase).as_deref() {
            None | Some("text") => CopyFormat::Text,
            Some("csv") => CopyFormat::Csv,
            Some("binary") => CopyFormat::Binary,
            Some(other) => return Err(Error::invalid(format!("COPY format \"{other}\" not recognized"))),
        };
        let csv = format == CopyFormat::Csv;
        for (option, given) in [("QUOTE", &self.quote), ("ESCAPE", &self.escape)] {
            if given.is_some() && !csv {
                return Err(Error::new(Code::FeatureNotSupported, format!("COPY {option} requires CSV mode")));
            }
        }
        let quote = self.quote.as_deref().map_or(Ok(b'"'), |quote| byte("quote", quote))?;
        let escape = self.escape.as_deref().map_or(Ok(quote), |escape| byte("escape", escape))?;
        let delimiter = self.delimiter.as_deref().map_or(Ok(if csv { b',' } else { b'\t' }), |delimiter| byte("delimiter", delimiter))?;
        if matches!(delimiter, b'\n' | b'\r')
            || (csv && delimiter == quote)
            || (!csv && (delimiter == b'\\' || delimiter.is_ascii_alphanumeric()))
        {
            return Err(Error::invalid(format!("COPY delimiter cannot be \"{}\"", char::from(delimiter).escape_default())));
        }
        let null = self.null.unwrap_or_else(|| if csv { String::new() } else { "\\N".into() }).into_bytes();
        let header = match self.header.as_deref().map(str::to_ascii_lowercase).as_deref() {
            None | Some("false" | "off" | "0") => Header::None,
            Some("" | "true" | "on" | "1") => Header::Skip,
            Some("match") => Header::Match,
            Some(_) => return Err(Error::invalid("header requires a Boolean value or \"match\"")),
        };
        if format == CopyFormat::Binary && (header != Header::None || self.delimiter.is_some()) {
            return Err(Error::new(Code::FeatureNotSupported, "cannot specify HEADER or DELIMITER in BINARY mode"));
        }
        Ok(Options { format, delimiter, quote, escape, null, header })
    }
}

fn byte(option: &str, value: &str) -> Result<u8> {
    match value.as_bytes() {
        [byte] => Ok(*byte),
        _ => Err(Error::invalid(format!("COPY {option} must be a single one-byte character"))),
    }
}
