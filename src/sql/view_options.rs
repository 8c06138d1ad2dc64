//! `WITH (security_invoker = …, security_barrier = …)` of a CREATE VIEW, and what ALTER VIEW says of them.
//!
//! A view is planned into the query that reads it, and conditions of that query may be evaluated before the view's own. With
//! `security_barrier` none is but comparisons that cannot fail and tell nothing, as for tables with row policies.

use datafusion::sql::sqlparser::ast::{CreateTableOptions, CreateView, Expr, SqlOption, Value};
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};
use portrait_udfs::error::{Code, Error, Result};

use super::support::{fold, name};
use crate::catalog::ViewOptions;

/// The options of a CREATE VIEW.
///
/// # Errors
/// As [`ViewOptions::set`]; 22023 for one that is given twice.
pub(super) fn read(view: &CreateView) -> Result<ViewOptions> {
    let given = match &view.options {
        CreateTableOptions::None => return Ok(ViewOptions::default()),
        CreateTableOptions::With(options) => options,
        _ => return Err(Error::new(Code::FeatureNotSupported, "these options of a view are not supported")),
    };
    let (mut options, mut names) = (ViewOptions::default(), Vec::new());
    for option in given {
        let SqlOption::KeyValue { key, value } = option else {
            return Err(Error::invalid(format!("unrecognized parameter \"{option}\"")));
        };
        options.set(&fold(key), &text(value))?;
        names.push(fold(key));
    }
    only_once(&names)?;
    Ok(options)
}

/// Refuses an option that is given twice.
///
/// # Errors
/// 22023.
pub(super) fn only_once(names: &[String]) -> Result<()> {
    match names.iter().enumerate().find(|(at, name)| names[..*at].contains(name)) {
        Some((_, twice)) => Err(Error::invalid(format!("parameter \"{twice}\" specified more than once"))),
        None => Ok(()),
    }
}

/// Reads `(name [= value], …)` of ALTER VIEW … SET, or without `values` `(name, …)` of RESET.
pub(super) fn changes(parser: &mut Parser<'_>, values: bool) -> Result<Vec<(String, Option<String>)>, ParserError> {
    parser.expect_token(&Token::LParen)?;
    let found = parser.parse_comma_separated(|parser| {
        let name = name(parser)?;
        Ok((
            name,
            match (values, values && parser.consume_token(&Token::Eq)) {
                (true, true) => Some(text(&parser.parse_expr()?)),
                (true, false) => Some("true".to_owned()),
                (false, _) => None,
            },
        ))
    })?;
    parser.expect_token(&Token::RParen)?;
    Ok(found)
}

fn text(value: &Expr) -> String {
    match value {
        Expr::Identifier(word) => fold(word),
        Expr::Value(found) => match &found.value {
            Value::SingleQuotedString(text) => text.clone(),
            other => other.to_string(),
        },
        other => other.to_string(),
    }
}

/// `WITH (security_barrier)` is `WITH (security_barrier = true)`: the parser wants a value. Other statements stay as they are.
pub(super) fn spelled_out(mut tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let Some(open) = options_at(&tokens) else { return tokens };
    let mut at = open + 1;
    while let Some(token) = tokens.get(at) {
        let span = token.span;
        let ends = matches!(token.token, Token::Comma | Token::RParen);
        let (last, done) = (before(&tokens, at), token.token == Token::RParen);
        // A word that begins an option, and nothing behind it.
        let bare = last.is_some_and(|last| {
            let begins = before(&tokens, last).is_some_and(|first| matches!(tokens[first].token, Token::LParen | Token::Comma));
            matches!(tokens[last].token, Token::Word(_)) && begins
        });
        if ends && bare {
            let added = [Token::Eq, Token::make_keyword("TRUE")].map(|token| TokenWithSpan { token, span });
            tokens.splice(at..at, added);
            at += 2;
        }
        if done {
            break;
        }
        at += 1;
    }
    tokens
}

/// Where the parenthesis behind the WITH of a CREATE VIEW is.
fn options_at(tokens: &[TokenWithSpan]) -> Option<usize> {
    let mut words = tokens.iter().enumerate().filter(|(_, token)| !matches!(token.token, Token::Whitespace(_)));
    let is = |token: &TokenWithSpan, names: &[&str]| matches!(&token.token, Token::Word(word) if word.quote_style.is_none() && names.iter().any(|name| word.value.eq_ignore_ascii_case(name)));
    words.next().filter(|(_, first)| is(first, &["CREATE"]))?;
    let adjectives = ["OR", "REPLACE", "TEMP", "TEMPORARY", "RECURSIVE"];
    words.by_ref().find(|(_, token)| !is(token, &adjectives)).filter(|(_, token)| is(token, &["VIEW"]))?;
    words.by_ref().find(|(_, token)| is(token, &["WITH", "AS"])).filter(|(_, token)| is(token, &["WITH"]))?;
    words.next().filter(|(_, token)| token.token == Token::LParen).map(|(at, _)| at)
}

/// The last token before `at` that is no blank.
fn before(tokens: &[TokenWithSpan], at: usize) -> Option<usize> {
    tokens[..at].iter().rposition(|token| !matches!(token.token, Token::Whitespace(_)))
}
