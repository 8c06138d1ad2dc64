//! Texts of types that only PostgreSQL has, read and checked: what casts to `uuid`, `json` and `bytea` become.

use std::fmt::Write as _;
use std::sync::Arc;

use arrow::array::{Array, ListArray};
use arrow::buffer::OffsetBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field};
use datafusion::scalar::ScalarValue;

use super::{Function, function, text, utf8};
use crate::catalog::TextType;
use crate::engine::Session;
use crate::error::{Code, Error, Result};
use crate::pg::params;

pub(super) fn functions() -> Vec<Function> {
    vec![
        Function { type_name: Some("uuid"), ..function("uuid_in", 1..=1, DataType::Utf8, uuid_in) },
        Function {
            type_name: Some("uuid"),
            volatile: true,
            ..function("gen_random_uuid", 0..=0, DataType::Utf8, |_, _| Ok(utf8(uuid::Uuid::new_v4().to_string())))
        },
        Function { type_name: Some("json"), ..function("json_in", 1..=1, DataType::Utf8, json_in) },
        Function { type_name: Some("json"), ..function("json_build_object", 0..=32, DataType::Utf8, json_build_object) },
        Function { type_name: Some("record[]"), ..function("no_records", 0..=0, texts(), |_, _| Ok(no_texts())) },
        Function { type_name: Some("uuid[]"), ..function("uuid_array", 1..=1, texts(), uuid_array) },
        function("plain_text", 1..=1, DataType::Utf8, |_, row| Ok(utf8(text(row, 0)))),
        Function { type_name: Some("json"), ..function("row_to_json", 0..=64, DataType::Utf8, row_to_json) },
        function("bpchar", 1..=1, DataType::Utf8, |_, row| Ok(utf8(text(row, 0)))),
        function("byteain", 1..=1, DataType::Binary, byteain),
        function("array_in", 1..=1, DataType::Utf8, array_in),
        function("like_escape", 2..=2, DataType::Utf8, like_escape),
    ]
}

fn texts() -> DataType {
    DataType::new_list(DataType::Utf8, true)
}

fn no_texts() -> ScalarValue {
    ScalarValue::List(ScalarValue::new_list_nullable(&[], &DataType::Utf8))
}

fn uuid_in(_: &Session, row: &[ScalarValue]) -> Result<ScalarValue> {
    let Some(text) = text(row, 0) else { return Ok(utf8(None)) };
    Ok(utf8(TextType::Uuid.read(&text)?.into_owned()))
}

/// As `rewrite` calls it: what is known to be, or is cast to, an array of uuids.
fn uuid_array(_: &Session, row: &[ScalarValue]) -> Result<ScalarValue> {
    let [ScalarValue::List(list)] = row else { return Ok(ScalarValue::new_null_list(DataType::Utf8, true, 1)) };
    if list.is_null(0) {
        return Ok(ScalarValue::new_null_list(DataType::Utf8, true, 1));
    }
    let items = TextType::Uuid.read_all(&list.value(0)).map_err(|(_, error)| error)?;
    let items = cast(&items, &DataType::Utf8).map_err(|error| Error::internal(error.to_string()))?;
    let item = Arc::new(Field::new_list_field(DataType::Utf8, true));
    Ok(ScalarValue::List(Arc::new(ListArray::new(item, OffsetBuffer::from_lengths([items.len()]), items, None))))
}

fn json_in(_: &Session, row: &[ScalarValue]) -> Result<ScalarValue> {
    let Some(text) = text(row, 0) else { return Ok(utf8(None)) };
    Ok(utf8(TextType::Json.read(&text)?.into_owned()))
}

/// Names and values in turn; drivers ask for it in catalog queries.
fn json_build_object(_: &Session, row: &[ScalarValue]) -> Result<ScalarValue> {
    object(row, [", ", " : "])
}

/// As `rewrite` calls it: the names and values of a row's columns in turn.
fn row_to_json(_: &Session, row: &[ScalarValue]) -> Result<ScalarValue> {
    object(row, [",", ":"])
}

fn object(row: &[ScalarValue], [comma, colon]: [&str; 2]) -> Result<ScalarValue> {
    if row.len() % 2 == 1 {
        return Err(Error::invalid("argument list must have even number of elements"));
    }
    let mut object = String::from("{");
    for at in (0..row.len()).step_by(2) {
        let Some(name) = text(row, at) else { return Err(Error::invalid("argument 1: key must not be null")) };
        let value = match &row[at + 1] {
            value if value.is_null() => "null".to_owned(),
            ScalarValue::Boolean(Some(value)) => value.to_string(),
            value if value.data_type().is_numeric() => value.to_string(),
            _ => serde_json::Value::from(text(row, at + 1)).to_string(),
        };
        let separator = if at == 0 { "" } else { comma };
        // Writing to a text cannot fail.
        let _ = write!(object, "{separator}{}{colon}{value}", serde_json::Value::from(name));
    }
    object.push('}');
    Ok(utf8(object))
}

fn byteain(_: &Session, row: &[ScalarValue]) -> Result<ScalarValue> {
    let Some(text) = text(row, 0) else { return Ok(ScalarValue::Binary(None)) };
    match params::bytea(&text) {
        Some(bytes) => Ok(ScalarValue::Binary(Some(bytes))),
        None if text.starts_with("\\x") => Err(Error::invalid("invalid hexadecimal data")),
        None => Err(Error::new(Code::InvalidText, "invalid input syntax for type bytea")),
    }
}

/// Says what is wrong with an array's text: those that are right never come here.
fn array_in(_: &Session, row: &[ScalarValue]) -> Result<ScalarValue> {
    let Some(text) = text(row, 0) else { return Ok(utf8(None)) };
    if text.replace(' ', "").starts_with("{{") {
        return Err(Error::new(Code::FeatureNotSupported, "arrays of more than one dimension are not supported"));
    }
    Err(Error::new(Code::InvalidText, format!("malformed array literal: \"{text}\""))
        .hint("Write the elements between braces, as in '{1,2,NULL}'."))
}

/// A pattern of `LIKE` whose escape is another character, with backslashes instead.
fn like_escape(_: &Session, row: &[ScalarValue]) -> Result<ScalarValue> {
    let (Some(pattern), Some(escape)) = (text(row, 0), text(row, 1)) else { return Ok(utf8(None)) };
    let mut characters = escape.chars();
    let (escape, more) = (characters.next(), characters.next());
    if more.is_some() {
        return Err(Error::invalid("invalid escape string").hint("Escape string must be empty or one character."));
    }
    let mut escaped = String::with_capacity(pattern.len());
    let mut rest = pattern.chars();
    while let Some(character) = rest.next() {
        if Some(character) == escape {
            escaped.push('\\');
            escaped.extend(rest.next());
        } else {
            if character == '\\' {
                escaped.push('\\');
            }
            escaped.push(character);
        }
    }
    Ok(utf8(escaped))
}
