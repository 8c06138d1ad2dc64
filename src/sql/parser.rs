//! Cuts a query string at its semicolons and reads each piece.
//!
//! Tokens are made once; each piece is read by the file of its statement, or by DataFusion's parser. Positions are
//! counted in characters from 1, as PostgreSQL counts them.

use std::sync::Arc;

use datafusion::error::DataFusionError;
use datafusion::sql::parser::{DFParser, DFParserBuilder};
use datafusion::sql::sqlparser::parser::ParserError;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};
use portrait_udfs::error::{Code, Error, Result};
use portrait_udfs::functions::dialect::Postgres;

use super::command::Command;
use super::{Statement, as_of};
use crate::error::classify;

/// Longest query string, in bytes. A tree of tokens takes many times the text's size.
const TEXT_BYTES_MAX: usize = 8 << 20;
/// Deepest nesting of parentheses, subqueries and functions.
const NESTING_MAX: usize = 128;
/// Most operators in one expression: a chain of them is a tree of that depth, and planning it takes the square.
const OPERATORS_MAX: usize = 4_000;

/// The dialect of every statement.
pub(super) static DIALECT: Postgres = Postgres;

/// Reads every statement of `sql`. An empty string, or one of comments, has none.
///
/// # Errors
/// [`Code::Syntax`] with a position; [`Code::TooComplex`] for a text that is too long or nested too deeply.
pub fn parse(sql: &str) -> Result<Vec<Statement>> {
    if sql.len() > TEXT_BYTES_MAX {
        return Err(Error::new(Code::TooComplex, "statement is too long")
            .detail(format!("The text has {} bytes; the limit is {TEXT_BYTES_MAX}.", sql.len()))
            .hint("Load data with INSERT in several statements, or from files."));
    }
    if let Some(at) = sql.find('\0') {
        return Err(Error::new(Code::InvalidEncoding, "invalid byte sequence for encoding \"UTF8\": 0x00").at(position(sql, at)));
    }
    let tokens = Tokenizer::new(&DIALECT, sql).tokenize_with_location().map_err(|error| {
        let found = classify(DataFusionError::SQL(Box::new(ParserError::TokenizerError(error.message)), None));
        found.at(character(sql, error.location.line, error.location.column))
    })?;
    let lines = Lines::new(sql);
    let mut statements = Vec::new();
    for piece in tokens.split(|token| token.token == Token::SemiColon) {
        let Some(first) = piece.iter().position(|token| !matches!(token.token, Token::Whitespace(_) | Token::EOF)) else { continue };
        let Some(last) = piece.iter().rposition(|token| !matches!(token.token, Token::Whitespace(_) | Token::EOF)) else { continue };
        let start = lines.byte(piece[first].span.start);
        let end = piece.get(last + 1).map_or(lines.byte(piece[last].span.end).max(start), |next| lines.byte(next.span.start));
        let end = if piece.get(last + 1).is_some() { end } else { end_of_piece(sql, &lines, &tokens, piece, end) };
        statements.push(read(sql, &piece[first..=last], start, end)?);
    }
    Ok(statements)
}

/// Where a piece ends that its last token ends: at the semicolon behind it, or at the end of the text.
fn end_of_piece(sql: &str, lines: &Lines<'_>, tokens: &[TokenWithSpan], piece: &[TokenWithSpan], floor: usize) -> usize {
    let behind = piece.as_ptr_range().end;
    tokens.iter().find(|token| std::ptr::eq(*token, behind)).map_or(sql.len(), |token| lines.byte(token.span.start)).max(floor)
}

fn read(sql: &str, tokens: &[TokenWithSpan], start: usize, end: usize) -> Result<Statement> {
    let operators = longest_chain(tokens);
    if operators > OPERATORS_MAX {
        return Err(Error::new(Code::TooComplex, "statement is too complex")
            .detail(format!("An expression has {operators} operators; the limit is {OPERATORS_MAX}."))
            .hint("Use IN (…) for a long list of values."));
    }
    let text: Arc<str> = sql[start..end].trim_end().into();
    // Spans count from the statement's own start, so that a prepared text and a query string read alike.
    let tokens = Tokenizer::new(&DIALECT, &text).tokenize_with_location().map_err(|error| Error::new(Code::Syntax, error.message))?;
    let characters_before = sql[..start].chars().count();
    let command = as_of::rewrite(unqualified(tokens)).and_then(|tokens| Command::parse(&text, tokens)).map_err(|mut error| {
        error.position = error.position.map(|position| position.saturating_add(u32::try_from(characters_before).unwrap_or(u32::MAX)));
        error
    })?;
    Ok(Statement { command: Arc::new(command), text, start: characters_before })
}

/// `pg_catalog.substring(…)` is `substring(…)`: what has a grammar of its own is no function to the parser.
fn unqualified(mut tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let is_word = |token: &TokenWithSpan, names: &[&str]| matches!(&token.token, Token::Word(word) if word.quote_style.is_none() && names.iter().any(|name| word.value.eq_ignore_ascii_case(name)));
    let special = ["substring", "position", "overlay", "trim", "extract"];
    let mut at = 0;
    while at + 3 < tokens.len() {
        let [schema, dot, name, open] = [&tokens[at], &tokens[at + 1], &tokens[at + 2], &tokens[at + 3]];
        let call = dot.token == Token::Period && open.token == Token::LParen;
        if call && is_word(schema, &["pg_catalog"]) && is_word(name, &special) {
            tokens.drain(at..at + 2);
        }
        at += 1;
    }
    tokens
}

/// The most operators between two commas of one pair of parentheses: how deep a chain can be.
fn longest_chain(tokens: &[TokenWithSpan]) -> usize {
    let (mut longest, mut chains) = (0, vec![0_usize]);
    for token in tokens {
        match &token.token {
            Token::LParen | Token::LBracket => chains.push(0),
            Token::RParen | Token::RBracket if chains.len() > 1 => {
                chains.pop();
            }
            found => {
                if let Some(chain) = chains.last_mut() {
                    *chain = if *found == Token::Comma { 0 } else { *chain + usize::from(is_operator(found)) };
                    longest = longest.max(*chain);
                }
            }
        }
    }
    longest
}

fn is_operator(token: &Token) -> bool {
    match token {
        Token::Word(word) => matches!(
            word.keyword,
            datafusion::sql::sqlparser::keywords::Keyword::AND
                | datafusion::sql::sqlparser::keywords::Keyword::OR
                | datafusion::sql::sqlparser::keywords::Keyword::NOT
                | datafusion::sql::sqlparser::keywords::Keyword::UNION
                | datafusion::sql::sqlparser::keywords::Keyword::EXCEPT
                | datafusion::sql::sqlparser::keywords::Keyword::INTERSECT
                | datafusion::sql::sqlparser::keywords::Keyword::JOIN
        ),
        Token::Plus | Token::Minus | Token::Div | Token::Mod | Token::StringConcat | Token::Mul | Token::DoubleColon => true,
        _ => false,
    }
}

/// DataFusion's parser over the tokens of one statement.
pub(super) fn parser(tokens: Vec<TokenWithSpan>) -> Result<DFParser<'static>> {
    DFParserBuilder::new(tokens).with_dialect(&DIALECT).with_recursion_limit(NESTING_MAX).build().map_err(classify)
}

/// The error of a parser, with its position in `text`.
pub(super) fn syntax_error(error: ParserError, text: &str) -> Error {
    let location = match &error {
        ParserError::ParserError(message) | ParserError::TokenizerError(message) => location_in(message),
        ParserError::RecursionLimitExceeded => None,
    };
    let found = match &error {
        ParserError::ParserError(message) => found_in(message).map(str::to_owned),
        _ => None,
    };
    let classified = classify(DataFusionError::SQL(Box::new(error), None));
    match (found.as_deref(), location) {
        (Some("EOF"), _) => classified.at(position(text, text.len())),
        (Some(found), location) => match last_before(text, found, location).or(location) {
            Some((line, column)) => classified.at(character(text, line, column)),
            None => classified,
        },
        (None, Some((line, column))) => classified.at(character(text, line, column)),
        (None, None) => classified,
    }
}

/// Reads `…, found: FROM at Line: 1, Column: 10`; the parser leaves the place out at the end of the text.
fn found_in(message: &str) -> Option<&str> {
    let (_, found) = message.rsplit_once("found: ")?;
    Some(found.split(" at Line:").next().unwrap_or(found).trim())
}

/// The parser often names the place of the token behind the one that it did not expect: this is the last one of that
/// text up to there.
fn last_before(text: &str, found: &str, limit: Option<(u64, u64)>) -> Option<(u64, u64)> {
    let tokens = Tokenizer::new(&DIALECT, text).tokenize_with_location().ok()?;
    let mut starts =
        tokens.iter().filter(|token| token.token.to_string() == found).map(|token| (token.span.start.line, token.span.start.column));
    starts.rfind(|start| limit.is_none_or(|limit| *start <= limit))
}

/// The same for an error of DataFusion's own parser.
pub(super) fn df_syntax_error(error: DataFusionError, text: &str) -> Error {
    match error {
        DataFusionError::SQL(error, _) => syntax_error(*error, text),
        DataFusionError::Diagnostic(_, inner) => df_syntax_error(*inner, text),
        other => classify(other),
    }
}

/// Reads `… at Line: 1, Column: 10`.
fn location_in(message: &str) -> Option<(u64, u64)> {
    let (_, rest) = message.rsplit_once("Line: ")?;
    let (line, rest) = rest.split_once(", Column: ")?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    Some((line.trim().parse().ok()?, rest[..digits].parse().ok()?))
}

/// The character, counted from 1, at a line and column of `text`, both counted from 1.
pub(super) fn character(text: &str, line: u64, column: u64) -> u32 {
    position(text, Lines::new(text).byte(Location { line, column }))
}

/// What stands in `text` from a token's start on.
pub(super) fn text_from(text: &str, start: Location) -> &str {
    text.get(Lines::new(text).byte(start)..).unwrap_or_default()
}

/// The character, counted from 1, at a byte of `text`.
fn position(text: &str, byte: usize) -> u32 {
    let byte = byte.min(text.len());
    u32::try_from(text.char_indices().take_while(|&(at, _)| at < byte).count() + 1).unwrap_or(u32::MAX)
}

/// Where lines start.
struct Lines<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    fn new(text: &'a str) -> Self {
        let starts = std::iter::once(0).chain(text.bytes().enumerate().filter(|&(_, byte)| byte == b'\n').map(|(at, _)| at + 1)).collect();
        Self { text, starts }
    }

    /// The byte at a location; columns count characters.
    fn byte(&self, at: Location) -> usize {
        let line = usize::try_from(at.line.saturating_sub(1)).unwrap_or(usize::MAX);
        let Some(&start) = self.starts.get(line) else { return self.text.len() };
        let column = usize::try_from(at.column.saturating_sub(1)).unwrap_or(usize::MAX);
        self.text[start..].char_indices().nth(column).map_or(self.text.len(), |(offset, _)| start + offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(sql: &str) -> Vec<String> {
        parse(sql).unwrap().iter().map(|statement| statement.text().to_owned()).collect()
    }

    #[test]
    fn pieces_keep_their_text() {
        assert_eq!(texts("select 1; select 'a;b' ; -- c\n;select $$x;y$$"), ["select 1", "select 'a;b'", "select $$x;y$$"]);
        assert!(texts(" -- nothing\n ; ").is_empty());
        assert_eq!(texts("select 'é' ;\nselect 2"), ["select 'é'", "select 2"]);
    }

    #[test]
    fn syntax_errors_have_positions() {
        let error = parse("SELECT 1; SELECT * FORM t").unwrap_err();
        assert_eq!((error.code, error.position), (Code::Syntax, Some(25)), "{error:?}");
        let error = parse("SELECT 'é',\n  FROM").unwrap_err();
        assert_eq!((error.code, error.position), (Code::Syntax, Some(15)), "{error:?}");
        let error = parse("SELECT (1").unwrap_err();
        assert_eq!((error.message.as_str(), error.position), ("syntax error at end of input", Some(10)));
    }

    #[test]
    fn limits() {
        let deep = format!("SELECT {}1{}", "(".repeat(5000), ")".repeat(5000));
        assert_eq!(parse(&deep).unwrap_err().code, Code::TooComplex);
        let long = format!("SELECT 1 WHERE {}true", "true AND ".repeat(20_000));
        assert_eq!(parse(&long).unwrap_err().code, Code::TooComplex);
        // Many values are not a long expression.
        let wide = format!("INSERT INTO t VALUES {}(1)", "(-1), ".repeat(20_000));
        assert_eq!(parse(&wide).unwrap().len(), 1);
        assert_eq!(parse(&" ".repeat(TEXT_BYTES_MAX + 1)).unwrap_err().code, Code::TooComplex);
        assert_eq!(parse("SELECT '\0'").unwrap_err().code, Code::InvalidEncoding);
    }
}
