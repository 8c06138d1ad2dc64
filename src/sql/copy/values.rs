//! Columns of text as columns of a table's types, read as PostgreSQL reads them.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BinaryBuilder, BooleanArray, ListArray, StringArray, StringBuilder};
use arrow::buffer::OffsetBuffer;
use arrow::compute::{CastOptions, cast, cast_with_options};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, TimeUnit};
use portrait_udfs::error::{Code, Error, Result};
use portrait_udfs::functions::relation::sql_type;

use crate::sql::array_words;
use crate::storage::TextType;

/// Refuses columns that cannot be read from text.
///
/// # Errors
/// 0A000 naming the column.
pub(super) fn check(schema: &Schema) -> Result<()> {
    match schema.fields().iter().find(|field| !is_read(field.data_type())) {
        Some(field) => Err(Error::new(Code::FeatureNotSupported, format!("column \"{}\" cannot be copied from text", field.name()))
            .detail(format!("It has type {}.", sql_type(field.data_type())))
            .hint("Leave it out of the list of columns, or use INSERT or portrait import.")),
        None => Ok(()),
    }
}

fn is_read(data_type: &DataType) -> bool {
    match data_type {
        DataType::List(item) => !item.data_type().is_nested(),
        other => !other.is_nested(),
    }
}

/// Reads `texts` as values of `field`. An error comes with the row it is about.
pub(super) fn read(texts: &StringArray, field: &Field, zone: &str) -> std::result::Result<ArrayRef, (usize, Error)> {
    match field.data_type() {
        DataType::Utf8View | DataType::Utf8 => {
            let values = convert(texts, field.data_type()).map_err(|error| (0, error))?;
            match TextType::of(field) {
                Some(found) => found.read_all(&values),
                None => Ok(values),
            }
        }
        DataType::Boolean => booleans(texts),
        DataType::Binary | DataType::BinaryView => binaries(texts, field.data_type()),
        DataType::Timestamp(TimeUnit::Microsecond, None) => {
            let plain: StringArray = texts.iter().map(|text| text.map(without_offset)).collect();
            parsed(texts, &plain, field.data_type(), field.data_type())
        }
        DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => {
            let local = DataType::Timestamp(TimeUnit::Microsecond, Some(zone.into()));
            parsed(texts, texts, &local, field.data_type())
        }
        DataType::List(item) => lists(texts, item, zone),
        other => parsed(texts, texts, other, other),
    }
}

/// All elements are read at once.
fn lists(texts: &StringArray, item: &FieldRef, zone: &str) -> std::result::Result<ArrayRef, (usize, Error)> {
    let (mut words, mut lengths, mut rows) = (StringBuilder::new(), Vec::with_capacity(texts.len()), Vec::new());
    for (row, text) in texts.iter().enumerate() {
        let malformed = |text: &str| (row, Error::new(Code::InvalidText, format!("malformed array literal: \"{text}\"")));
        let found = text.map_or_else(|| Ok(Vec::new()), |text| array_words(text).ok_or_else(|| malformed(text)))?;
        lengths.push(found.len());
        rows.extend(std::iter::repeat_n(row, found.len()));
        words.extend(found);
    }
    let values = read(&words.finish(), item, zone).map_err(|(at, error)| (rows.get(at).copied().unwrap_or_default(), error))?;
    let list = ListArray::try_new(Arc::clone(item), OffsetBuffer::from_lengths(lengths), values, texts.nulls().cloned());
    Ok(Arc::new(list.map_err(|error| (0, Error::internal(error.to_string())))?))
}

/// Parses `plain`; what it says of `texts` is meant.
fn parsed(texts: &StringArray, plain: &StringArray, through: &DataType, to: &DataType) -> std::result::Result<ArrayRef, (usize, Error)> {
    let safe = CastOptions { safe: true, ..Default::default() };
    let read = |texts: &StringArray| cast_with_options(texts, through, &safe).map_err(|error| (0, Error::internal(error.to_string())));
    let mut values = read(plain)?;
    if values.null_count() != texts.null_count() {
        // PostgreSQL leaves spaces around a value out.
        values = read(&plain.iter().map(|text| text.map(str::trim)).collect())?;
    }
    let wrong = (values.null_count() != texts.null_count())
        .then(|| (0..texts.len()).find(|&row| values.is_null(row) && !texts.is_null(row)))
        .flatten();
    match wrong {
        Some(row) => Err((row, invalid(texts.value(row), to))),
        None => convert(&values, to).map_err(|error| (0, error)),
    }
}

fn convert(values: &dyn Array, to: &DataType) -> Result<ArrayRef> {
    cast(values, to).map_err(|error| Error::new(Code::NumericOutOfRange, error.to_string()))
}

fn invalid(text: &str, to: &DataType) -> Error {
    let name = sql_type(to);
    if to.is_integer() && text.trim().parse::<i128>().is_ok() {
        return Error::new(Code::NumericOutOfRange, format!("value \"{text}\" is out of range for type {name}"));
    }
    let code = if to.is_temporal() { Code::InvalidDatetime } else { Code::InvalidText };
    Error::new(code, format!("invalid input syntax for type {name}: \"{text}\""))
}

fn booleans(texts: &StringArray) -> std::result::Result<ArrayRef, (usize, Error)> {
    let read = |(row, text): (usize, Option<&str>)| {
        text.map(|text| boolean(text).ok_or_else(|| (row, invalid(text, &DataType::Boolean)))).transpose()
    };
    let values = texts.iter().enumerate().map(read).collect::<std::result::Result<BooleanArray, _>>()?;
    Ok(Arc::new(values))
}

/// The words of `boolin`, and what begins them.
fn boolean(text: &str) -> Option<bool> {
    let text = text.trim().to_ascii_lowercase();
    let begins = |word: &str, least: usize| text.len() >= least && word.starts_with(&text);
    match text.as_str() {
        "1" => Some(true),
        "0" => Some(false),
        _ if begins("true", 1) || begins("yes", 1) || text == "on" => Some(true),
        _ if begins("false", 1) || begins("no", 1) || begins("off", 2) => Some(false),
        _ => None,
    }
}

fn binaries(texts: &StringArray, to: &DataType) -> std::result::Result<ArrayRef, (usize, Error)> {
    let mut values = BinaryBuilder::new();
    for (row, text) in texts.iter().enumerate() {
        let bytes = text.map(|text| bytea(text).ok_or_else(|| (row, Error::new(Code::InvalidText, "invalid input syntax for type bytea"))));
        values.append_option(bytes.transpose()?);
    }
    convert(&values.finish(), to).map_err(|error| (0, error))
}

/// `\x…` in hexadecimal digits, or text with `\\` and `\ooo`.
fn bytea(text: &str) -> Option<Vec<u8>> {
    if let Some(digits) = text.strip_prefix("\\x") {
        let digits: Vec<u8> = digits.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
        let (pairs, []) = digits.as_chunks::<2>() else { return None };
        let digit = |byte: u8| char::from(byte).to_digit(16);
        return pairs.iter().map(|[high, low]| Some((digit(*high)? * 16 + digit(*low)?) as u8)).collect();
    }
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        match (byte, after) {
            (b'\\', [b'\\', after @ ..]) => {
                bytes.push(b'\\');
                rest = after;
            }
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..]) => {
                bytes.push((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'));
                rest = after;
            }
            (b'\\', _) => return None,
            _ => bytes.push(byte),
        }
    }
    Some(bytes)
}

/// A time stamp without zone has no use for an offset: PostgreSQL drops it unread.
fn without_offset(text: &str) -> &str {
    let text = text.trim();
    let Some(time) = text.find([' ', 'T']) else { return text };
    text[time..].find(['+', '-', 'Z', 'z']).map_or(text, |offset| text[..time + offset].trim_end())
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use arrow::datatypes::{Int16Type, TimestampMicrosecondType};

    use super::*;

    fn column(data_type: DataType, texts: &[Option<&str>]) -> std::result::Result<ArrayRef, (usize, Error)> {
        read(&StringArray::from(texts.to_vec()), &Field::new("x", data_type, true), "Europe/Berlin")
    }

    #[test]
    fn values_as_in_postgresql() {
        let numbers = column(DataType::Int16, &[Some("7"), None, Some(" -3 ")]).unwrap();
        assert_eq!(numbers.as_primitive::<Int16Type>().iter().collect::<Vec<_>>(), [Some(7), None, Some(-3)]);
        let times = |zone: Option<&str>, text| {
            let array = column(DataType::Timestamp(TimeUnit::Microsecond, zone.map(Into::into)), &[Some(text)]).unwrap();
            array.as_primitive::<TimestampMicrosecondType>().value(0)
        };
        assert_eq!(times(None, "1970-01-01 00:00:01+05"), 1_000_000);
        assert_eq!(times(Some("UTC"), "1970-01-01 01:00:01"), 1_000_000);
        assert_eq!(times(Some("UTC"), "1970-01-01T00:00:01Z"), 1_000_000);
        let flags = column(DataType::Boolean, &[Some("t"), Some("OFF"), Some("1"), Some("no")]).unwrap();
        assert_eq!(flags.as_boolean(), &BooleanArray::from(vec![true, false, true, false]));
        let bytes = column(DataType::BinaryView, &[Some("\\x00fF"), Some("a\\\\\\001")]).unwrap();
        assert_eq!((bytes.as_binary_view().value(0), bytes.as_binary_view().value(1)), (&[0, 255][..], &b"a\\\x01"[..]));
    }

    #[test]
    fn wrong_values_are_named() {
        for (data_type, text, code) in [
            (DataType::Int16, "40000", Code::NumericOutOfRange),
            (DataType::Int64, "4x", Code::InvalidText),
            (DataType::Boolean, "o", Code::InvalidText),
            (DataType::Timestamp(TimeUnit::Microsecond, None), "yesterday?", Code::InvalidDatetime),
            (DataType::BinaryView, "\\x0", Code::InvalidText),
        ] {
            let (row, error) = column(data_type.clone(), &[None, Some(text)]).unwrap_err();
            assert_eq!((row, error.code), (1, code), "{data_type} {text}");
        }
    }
}
