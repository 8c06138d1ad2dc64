//! `table FOR VERSION AS OF n` and `table FOR TIMESTAMP AS OF '…'` (`FOR SYSTEM_TIME AS OF` too): an older version of a
//! managed table.
//!
//! The parser does not know these clauses. They are taken out of the tokens before it sees them, and the table's name
//! becomes one that says which version is meant; it keeps its own name as alias, so that columns are found by it.

use chrono::{DateTime, NaiveDate, NaiveDateTime};
use datafusion::sql::sqlparser::keywords::{Keyword, RESERVED_FOR_TABLE_ALIAS};
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Word};
use portrait_udfs::error::{Code, Error, Result};

use crate::catalog::{AS_OF_MARK, AsOf};

/// Rewrites every such clause in the tokens of a statement.
///
/// # Errors
/// 42601 for a clause without a table or a value, 22007 for a time that is none.
pub(super) fn rewrite(tokens: Vec<TokenWithSpan>) -> Result<Vec<TokenWithSpan>> {
    if !tokens.iter().any(|token| is_word(&token.token, "OF")) {
        return Ok(tokens);
    }
    let mut rewritten: Vec<TokenWithSpan> = Vec::with_capacity(tokens.len());
    let mut rest = tokens.as_slice();
    while let Some((token, after)) = rest.split_first() {
        let Some((kind, behind)) = clause(rest) else {
            rewritten.push(token.clone());
            rest = after;
            continue;
        };
        let (wanted, behind) = value(kind, behind)?;
        let name = rewritten.iter_mut().rev().find(|token| !matches!(token.token, Token::Whitespace(_)));
        let Some(TokenWithSpan { token: Token::Word(name), .. }) = name else {
            return Err(Error::new(Code::Syntax, "AS OF needs the name of a table before it"));
        };
        let plain = if name.quote_style.is_some() { name.value.clone() } else { name.value.to_lowercase() };
        let alias = quoted(&plain);
        *name = quoted(&format!("{plain}{AS_OF_MARK}{wanted}"));
        if !has_alias(behind) {
            let at = |token| TokenWithSpan { token, span: rest[0].span };
            let space = || Token::Whitespace(datafusion::sql::sqlparser::tokenizer::Whitespace::Space);
            rewritten.extend([at(space()), at(Token::make_keyword("AS")), at(space()), at(Token::Word(alias))]);
        }
        rest = behind;
    }
    Ok(rewritten)
}

#[derive(Clone, Copy)]
enum Kind {
    Version,
    Time,
}

/// What follows the words of a clause, when these tokens begin one.
fn clause(tokens: &[TokenWithSpan]) -> Option<(Kind, &[TokenWithSpan])> {
    let behind = skip(tokens, "FOR")?;
    let (kind, behind) = match skip(behind, "VERSION") {
        Some(behind) => (Kind::Version, behind),
        None => (Kind::Time, skip(behind, "TIMESTAMP").or_else(|| skip(behind, "SYSTEM_TIME"))?),
    };
    Some((kind, skip(skip(behind, "AS")?, "OF")?))
}

/// The tokens behind a word and the space after it.
fn skip<'a>(tokens: &'a [TokenWithSpan], word: &str) -> Option<&'a [TokenWithSpan]> {
    let (first, rest) = tokens.split_first()?;
    is_word(&first.token, word).then(|| trimmed(rest))
}

fn trimmed(tokens: &[TokenWithSpan]) -> &[TokenWithSpan] {
    let spaces = tokens.iter().take_while(|token| matches!(token.token, Token::Whitespace(_))).count();
    &tokens[spaces..]
}

fn value(kind: Kind, tokens: &[TokenWithSpan]) -> Result<(AsOf, &[TokenWithSpan])> {
    let tokens = match kind {
        Kind::Time => skip(tokens, "TIMESTAMP").or_else(|| skip(tokens, "TIMESTAMPTZ")).unwrap_or(tokens),
        Kind::Version => tokens,
    };
    let missing = |what: &str| Error::new(Code::Syntax, format!("AS OF needs {what} behind it"));
    match (kind, tokens.split_first().map(|(first, behind)| (&first.token, behind))) {
        (Kind::Version, Some((Token::Number(number, _), behind))) => {
            let version = number.parse().map_err(|_| Error::invalid(format!("invalid version: {number}")))?;
            Ok((AsOf::Version(version), behind))
        }
        (Kind::Version, _) => Err(missing("the number of a version")),
        (Kind::Time, Some((Token::SingleQuotedString(text), behind))) => Ok((AsOf::Time(time(text)?), behind)),
        (Kind::Time, _) => Err(missing("a time in quotes")),
    }
}

/// Microseconds since 1970; UTC where no offset is given.
fn time(text: &str) -> Result<i64> {
    let trimmed = text.trim();
    for format in ["%Y-%m-%dT%H:%M:%S%.f%#z", "%Y-%m-%d %H:%M:%S%.f%#z", "%Y-%m-%d %H:%M:%S%.f %#z"] {
        if let Ok(found) = DateTime::parse_from_str(trimmed, format) {
            return Ok(found.timestamp_micros());
        }
    }
    let plain = trimmed.strip_suffix(['Z', 'z']).unwrap_or(trimmed);
    for format in ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M"] {
        if let Ok(found) = NaiveDateTime::parse_from_str(plain, format) {
            return Ok(found.and_utc().timestamp_micros());
        }
    }
    let day = NaiveDate::parse_from_str(plain, "%Y-%m-%d").ok().and_then(|day| day.and_hms_opt(0, 0, 0));
    day.map(|day| day.and_utc().timestamp_micros())
        .ok_or_else(|| Error::new(Code::InvalidDatetime, format!("invalid input syntax for type timestamp: \"{text}\"")))
}

/// Whether the query names the table itself.
fn has_alias(behind: &[TokenWithSpan]) -> bool {
    match trimmed(behind).first().map(|token| &token.token) {
        Some(Token::Word(word)) => word.keyword == Keyword::AS || !RESERVED_FOR_TABLE_ALIAS.contains(&word.keyword),
        _ => false,
    }
}

fn quoted(name: &str) -> Word {
    Word { value: name.to_owned(), quote_style: Some('"'), keyword: Keyword::NoKeyword }
}

fn is_word(token: &Token, word: &str) -> bool {
    matches!(token, Token::Word(found) if found.quote_style.is_none() && found.value.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::tokenizer::Tokenizer;

    use super::*;

    fn rewritten(sql: &str) -> Result<String> {
        let tokens = Tokenizer::new(&super::super::parser::DIALECT, sql).tokenize_with_location().unwrap();
        let tokens = rewrite(tokens)?;
        let text: String = tokens.iter().map(|token| token.token.to_string()).collect();
        Ok(text.replace(AS_OF_MARK, "@").split_whitespace().collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn clauses_become_names() {
        for (sql, expected) in [
            ("SELECT 1 FROM t FOR VERSION AS OF 3 WHERE a", "SELECT 1 FROM \"t@version=3\" AS \"t\" WHERE a"),
            ("FROM public.T for version as of 0 x", "FROM public.\"t@version=0\" x"),
            ("FROM \"T\" FOR SYSTEM_TIME AS OF '1970-01-01 00:00:01' AS x", "FROM \"T@time=1000000\" AS x"),
            ("FROM t FOR TIMESTAMP AS OF TIMESTAMP '1970-01-01T01:00:00+01:00', u", "FROM \"t@time=0\" AS \"t\", u"),
            ("SELECT 'FOR VERSION AS OF 3', of FROM t", "SELECT 'FOR VERSION AS OF 3', of FROM t"),
        ] {
            assert_eq!(rewritten(sql).unwrap(), expected);
        }
    }

    #[test]
    fn what_is_no_version_is_refused() {
        for (sql, code) in [
            ("FROM t FOR VERSION AS OF x", Code::Syntax),
            ("FROM t FOR VERSION AS OF", Code::Syntax),
            ("FROM (SELECT 1) FOR VERSION AS OF 3", Code::Syntax),
            ("FROM t FOR TIMESTAMP AS OF 'soon'", Code::InvalidDatetime),
        ] {
            assert_eq!(rewritten(sql).unwrap_err().code, code, "{sql}");
        }
    }
}
