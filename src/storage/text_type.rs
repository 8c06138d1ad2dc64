//! PostgreSQL's types whose values are kept as texts: which one a column has, which texts it takes, and how they are written.
//!
//! The engine has no word for them. A field of texts says in its metadata, under [`TYPE_KEY`], which type it has; whoever writes
//! rows reads them with it, so that a column holds nothing else, and each value in one way only: equal values are equal texts,
//! and texts sort as values do.

use std::borrow::Cow;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, StringViewBuilder};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field};
use portrait_udfs::error::{Code, Error, Result};

/// Field metadata that names a PostgreSQL type.
pub const TYPE_KEY: &str = "pg.type";

/// A type whose values are texts of a certain form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TextType {
    /// 32 hexadecimal digits, kept as `a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11`.
    Uuid,
    /// Any JSON value, kept as it was written; `jsonb` too.
    Json,
}

impl TextType {
    /// The type of a column; `None` for one of plain text, or of anything else.
    pub fn of(field: &Field) -> Option<Self> {
        let is_text = matches!(field.data_type(), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
        let name = field.metadata().get(TYPE_KEY).filter(|_| is_text)?;
        [Self::Uuid, Self::Json].into_iter().find(|known| known.name() == name)
    }

    /// The name in PostgreSQL.
    pub fn name(self) -> &'static str {
        match self {
            Self::Uuid => "uuid",
            Self::Json => "json",
        }
    }

    /// The field of texts, with this type.
    #[must_use]
    pub fn mark(self, field: Field) -> Field {
        field.with_metadata([(TYPE_KEY.to_owned(), self.name().to_owned())].into())
    }

    /// `made`, with the type that `given` has.
    pub fn carry(given: &Field, made: Field) -> Field {
        match Self::of(given) {
            Some(found) => found.mark(made),
            None => made,
        }
    }

    /// The one way in which a value is written.
    ///
    /// # Errors
    /// 22P02 for a text that is no value.
    pub fn read(self, text: &str) -> Result<Cow<'_, str>> {
        match self {
            Self::Uuid if is_canonical(text.as_bytes()) => Ok(Cow::Borrowed(text)),
            Self::Uuid => uuid(text.as_bytes())
                .map(|id| Cow::Owned(id.to_string()))
                .ok_or_else(|| Error::new(Code::InvalidText, format!("invalid input syntax for type uuid: \"{text}\""))),
            Self::Json => match serde_json::from_str::<serde::de::IgnoredAny>(text) {
                Ok(_) => Ok(Cow::Borrowed(text)),
                Err(error) => Err(Error::new(Code::InvalidText, "invalid input syntax for type json").detail(format!("{error}."))),
            },
        }
    }

    /// As [`read`](Self::read), for a column of texts. An error comes with the row that it is about.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_all(self, values: &ArrayRef) -> std::result::Result<ArrayRef, (usize, Error)> {
        let convert = |values: &dyn Array, to: &DataType| cast(values, to).map_err(|error| (0, Error::internal(error.to_string())));
        let texts = convert(values.as_ref(), &DataType::Utf8View)?;
        let texts = texts.as_string_view();
        // Most rows come as they are kept: nothing is copied before the first one that does not.
        let mut made: Option<StringViewBuilder> = None;
        for (row, text) in texts.iter().enumerate() {
            let read = text.map(|text| self.read(text)).transpose().map_err(|error| (row, error))?;
            if made.is_none() && matches!(read, Some(Cow::Owned(_))) {
                let mut before = StringViewBuilder::with_capacity(texts.len());
                before.extend(texts.iter().take(row));
                made = Some(before);
            }
            if let Some(made) = &mut made {
                made.append_option(read);
            }
        }
        match made {
            Some(mut made) => convert(&made.finish(), values.data_type()),
            None => Ok(Arc::clone(values)),
        }
    }
}

/// Whether a text is written as uuids are kept.
fn is_canonical(text: &[u8]) -> bool {
    let fits = |(at, byte): (usize, &u8)| match at {
        8 | 13 | 18 | 23 => *byte == b'-',
        _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
    };
    text.len() == 36 && text.iter().enumerate().all(fits)
}

/// As PostgreSQL reads it: digits of either case, a hyphen behind any group of four, braces around all of it.
fn uuid(text: &[u8]) -> Option<uuid::Uuid> {
    let mut rest = match text {
        [b'{', inside @ .., b'}'] => inside,
        other => other,
    };
    let mut bytes = [0_u8; 16];
    for (at, byte) in bytes.iter_mut().enumerate() {
        let [high, low, after @ ..] = rest else { return None };
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        *byte = (digit(*high)? << 4) | digit(*low)?;
        rest = match after {
            [b'-', after @ ..] if at % 2 == 1 && at < 15 => after,
            after => after,
        };
    }
    rest.is_empty().then(|| uuid::Uuid::from_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{StringArray, StringViewArray};
    use proptest::prelude::*;

    use super::*;

    const ID: &str = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";

    #[test]
    fn uuids_as_postgresql_reads_them() {
        for text in [
            ID,
            "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11",
            "{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}",
            "a0eebc999c0b4ef8bb6d6bb9bd380a11",
            "a0ee-bc99-9c0b-4ef8-bb6d-6bb9-bd38-0a11",
            "{A0EEBC99-9c0b4ef8-bb6d6bb9-bd380a11}",
        ] {
            assert_eq!(TextType::Uuid.read(text).unwrap(), ID, "{text}");
        }
        for text in [
            "",
            "{}",
            "{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
            "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}",
            " a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
            "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1",
            "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a111",
            "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11-",
            "a0eebc99--9c0b-4ef8-bb6d-6bb9bd380a11",
            "a-0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
            "urn:uuid:a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
            "g0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
        ] {
            let error = TextType::Uuid.read(text).unwrap_err();
            assert_eq!((error.code, error.message), (Code::InvalidText, format!("invalid input syntax for type uuid: \"{text}\"")));
        }
    }

    #[test]
    fn columns_are_read_whole() {
        let upper = ID.to_uppercase();
        let given: ArrayRef = Arc::new(StringViewArray::from(vec![Some(ID), None, Some(&upper), None]));
        let expected: ArrayRef = Arc::new(StringViewArray::from(vec![Some(ID), None, Some(ID), None]));
        assert_eq!(&TextType::Uuid.read_all(&given).unwrap(), &expected);
        let given: ArrayRef = Arc::new(StringArray::from(vec![Some(upper.as_str()), None]));
        assert_eq!(TextType::Uuid.read_all(&given).unwrap().data_type(), &DataType::Utf8);
        // What is right already is not copied.
        assert!(Arc::ptr_eq(&TextType::Uuid.read_all(&expected).unwrap(), &expected));
        let wrong: ArrayRef = Arc::new(StringArray::from(vec![Some(ID), Some("x")]));
        assert_eq!(TextType::Uuid.read_all(&wrong).unwrap_err().0, 1);
        let json: ArrayRef = Arc::new(StringArray::from(vec![Some("{\"a\": [1]}"), Some("{a}")]));
        assert_eq!(TextType::Json.read_all(&json).unwrap_err().0, 1);
    }

    #[test]
    fn fields_say_their_type() {
        let field = |data_type| TextType::Uuid.mark(Field::new("id", data_type, true));
        assert_eq!(TextType::of(&field(DataType::Utf8View)), Some(TextType::Uuid));
        assert_eq!(TextType::of(&field(DataType::Int64)), None);
        assert_eq!(TextType::of(&Field::new("id", DataType::Utf8, true)), None);
    }

    proptest! {
        #[test]
        fn texts_never_panic_and_sort_as_values(a in any::<u128>(), b in any::<u128>(), text in ".{0,40}") {
            let _ = TextType::Uuid.read(&text);
            let (a, b) = (uuid::Uuid::from_u128(a), uuid::Uuid::from_u128(b));
            let written = |id: uuid::Uuid| TextType::Uuid.read(&id.braced().to_string().to_uppercase()).unwrap().into_owned();
            prop_assert_eq!(written(a).cmp(&written(b)), a.cmp(&b));
        }
    }
}
