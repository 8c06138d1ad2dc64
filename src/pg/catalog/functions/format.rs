//! `format(template, …)`: `%s` a value, `%I` an identifier, `%L` a literal, `%%` a percent sign; `%2$s` names an argument.

use arrow::datatypes::DataType;
use datafusion::scalar::ScalarValue;

use super::names::{quote_identifier, quote_literal};
use super::{Function, function, text, utf8};
use crate::engine::Session;
use crate::error::{Code, Error, Result};

const ARGUMENTS_MAX: usize = 64;

pub(super) fn functions() -> Vec<Function> {
    vec![function("format", 1..=ARGUMENTS_MAX, DataType::Utf8, format_text)]
}

fn format_text(_: &Session, row: &[ScalarValue]) -> Result<ScalarValue> {
    let Some(template) = text(row, 0) else { return Ok(utf8(None)) };
    let (mut output, mut next) = (String::with_capacity(template.len()), 1);
    let mut rest = template.as_str();
    while let Some((before, after)) = rest.split_once('%') {
        output.push_str(before);
        let (position, after) = position(after);
        let Some(kind) = after.chars().next() else { return Err(Error::invalid("unterminated format() type specifier")) };
        rest = &after[kind.len_utf8()..];
        if kind == '%' {
            output.push('%');
            continue;
        }
        let at = position.unwrap_or(next);
        next = at + 1;
        if at == 0 || at >= row.len() {
            return Err(Error::invalid("too few arguments for format()"));
        }
        match (kind, text(row, at)) {
            ('s', value) => output.push_str(value.as_deref().unwrap_or_default()),
            ('I', Some(value)) => output.push_str(&quote_identifier(&value)),
            ('I', None) => return Err(Error::new(Code::InvalidParameter, "null values cannot be formatted as an SQL identifier")),
            ('L', value) => output.push_str(&value.map_or_else(|| "NULL".to_owned(), |value| quote_literal(&value))),
            _ => {
                return Err(
                    Error::invalid(format!("unrecognized format() type specifier \"{kind}\"")).hint("For a single \"%\" use \"%%\".")
                );
            }
        }
    }
    output.push_str(rest);
    Ok(utf8(output))
}

/// `2$` before the letter.
fn position(text: &str) -> (Option<usize>, &str) {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    match (text[..digits].parse(), text[digits..].strip_prefix('$')) {
        (Ok(number), Some(rest)) => (Some(number), rest),
        _ => (None, text),
    }
}
