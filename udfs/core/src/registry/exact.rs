//! JSON that survives: a checksum over its own bytes, and floats that come back bit for bit.
//!
//! The document's first member is `"blake3"`, the hash of every byte after that line, so one flipped bit is found
//! before anything is believed. Numbers are read with the standard library's correctly rounded parser: the usual
//! fast JSON float parser may be off in the last place, and a scaler that is off by one unit after a restart would
//! break "the back-test reproduces the training row". A `null` read as a float is NaN, which is how one is written.
//!
//! Absent on purpose: object paths (the caller names the file in errors).

use serde::de::value::{Error as ReadError, MapAccessDeserializer, MapDeserializer, SeqDeserializer};
use serde::de::{DeserializeOwned, Deserializer, Error as _, IntoDeserializer, Visitor};
use serde::{Serialize, forward_to_deserialize_any};

/// Nesting beyond this is refused, so that a hostile file cannot exhaust the stack.
const DEPTH_MAX: usize = 96;
const HEAD: &str = "{\n  \"blake3\": \"";
const HASH_LEN: usize = 64;

/// `value` (a struct with at least one field) as a document with a checksum.
pub(super) fn to_bytes<T: Serialize>(value: &T) -> Result<Vec<u8>, String> {
    let text = serde_json::to_string_pretty(value).map_err(|error| error.to_string())?;
    let body = text.strip_prefix("{\n").ok_or("not an object with members")?;
    let rest = format!("\",\n{body}\n");
    let hash = blake3::hash(rest.as_bytes()).to_hex();
    Ok(format!("{HEAD}{hash}{rest}").into_bytes())
}

/// Checks and reads a document; the error says what is wrong with it, lower case, without a final dot.
pub(super) fn from_bytes<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let text = checked(bytes)?;
    let body = &text[HEAD.len() + HASH_LEN + 3..];
    let node = Parser { text: body, at: 0 }.members(0)?;
    T::deserialize(node).map_err(|error| format!("cannot be read: {error}"))
}

fn checked(bytes: &[u8]) -> Result<&str, String> {
    let start = HEAD.len() + HASH_LEN;
    if bytes.len() < start + 3 || !bytes.starts_with(HEAD.as_bytes()) || !bytes.is_char_boundary_at(start) {
        return Err("does not start with its checksum".into());
    }
    let stated = &bytes[HEAD.len()..start];
    if blake3::hash(&bytes[start..]).to_hex().as_bytes() != stated {
        return Err("checksum does not match".into());
    }
    std::str::from_utf8(bytes).map_err(|_| "is not UTF-8 text".into())
}

trait AsciiBoundary {
    fn is_char_boundary_at(&self, at: usize) -> bool;
}

impl AsciiBoundary for [u8] {
    fn is_char_boundary_at(&self, at: usize) -> bool {
        self[..at].is_ascii() && self[at..].starts_with(b"\",\n")
    }
}

/// A parsed document; numbers keep their text.
#[derive(Debug)]
enum Node {
    Null,
    Bool(bool),
    Number(String),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

#[derive(Debug)]
struct Key(String);

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl Parser<'_> {
    /// The members of an object whose opening brace is read already; the document must end with it.
    fn members(mut self, depth: usize) -> Result<Node, String> {
        let node = self.map(depth)?;
        self.space();
        if self.at == self.text.len() { Ok(node) } else { Err("has text after its end".into()) }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\t' | b'\r')) {
            self.at += 1;
        }
    }

    fn take(&mut self, byte: u8) -> bool {
        self.space();
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, byte: u8) -> Result<(), String> {
        if self.take(byte) { Ok(()) } else { Err(format!("expected \"{}\" at byte {}", byte as char, self.at)) }
    }

    fn word(&mut self, word: &str, node: Node) -> Result<Node, String> {
        if self.text[self.at..].starts_with(word) {
            self.at += word.len();
            return Ok(node);
        }
        Err(format!("expected a value at byte {}", self.at))
    }

    fn value(&mut self, depth: usize) -> Result<Node, String> {
        if depth > DEPTH_MAX {
            return Err("is nested too deeply".into());
        }
        self.space();
        match self.peek() {
            Some(b'{') => {
                self.at += 1;
                self.map(depth + 1)
            }
            Some(b'[') => {
                self.at += 1;
                self.list(depth + 1)
            }
            Some(b'"') => self.string().map(Node::Text),
            Some(b't') => self.word("true", Node::Bool(true)),
            Some(b'f') => self.word("false", Node::Bool(false)),
            Some(b'n') => self.word("null", Node::Null),
            _ => self.number(),
        }
    }

    fn map(&mut self, depth: usize) -> Result<Node, String> {
        let mut entries = Vec::new();
        if self.take(b'}') {
            return Ok(Node::Map(entries));
        }
        loop {
            self.space();
            let key = Key(self.string()?);
            self.expect(b':')?;
            entries.push((key, self.value(depth)?));
            if !self.take(b',') {
                self.expect(b'}')?;
                return Ok(Node::Map(entries));
            }
        }
    }

    fn list(&mut self, depth: usize) -> Result<Node, String> {
        let mut items = Vec::new();
        if self.take(b']') {
            return Ok(Node::List(items));
        }
        loop {
            items.push(self.value(depth)?);
            if !self.take(b',') {
                self.expect(b']')?;
                return Ok(Node::List(items));
            }
        }
    }

    fn string(&mut self) -> Result<String, String> {
        let start = self.at;
        self.expect(b'"')?;
        let mut escaped = false;
        while let Some(byte) = self.peek() {
            self.at += 1;
            match byte {
                b'\\' => {
                    escaped = true;
                    self.at += 1;
                }
                b'"' if !escaped => return Ok(self.text[start + 1..self.at - 1].to_owned()),
                b'"' => return serde_json::from_str(&self.text[start..self.at]).map_err(|error| error.to_string()),
                _ => {}
            }
        }
        Err("ends inside a text".into())
    }

    fn number(&mut self) -> Result<Node, String> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E')) {
            self.at += 1;
        }
        if start == self.at {
            return Err(format!("expected a value at byte {start}"));
        }
        Ok(Node::Number(self.text[start..self.at].to_owned()))
    }
}

fn float<F: std::str::FromStr>(text: &str) -> Result<F, ReadError> {
    text.parse().map_err(|_| ReadError::custom(format!("\"{text}\" is not a number")))
}

impl<'de> Deserializer<'de> for Node {
    type Error = ReadError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self {
            Self::Null => visitor.visit_unit(),
            Self::Bool(value) => visitor.visit_bool(value),
            Self::Number(text) => {
                if let Ok(value) = text.parse::<u64>() {
                    visitor.visit_u64(value)
                } else if let Ok(value) = text.parse::<i64>() {
                    visitor.visit_i64(value)
                } else {
                    visitor.visit_f64(float(&text)?)
                }
            }
            Self::Text(value) => visitor.visit_string(value),
            Self::List(items) => visitor.visit_seq(SeqDeserializer::new(items.into_iter())),
            Self::Map(entries) => visitor.visit_map(MapDeserializer::new(entries.into_iter())),
        }
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self {
            Self::Number(text) => visitor.visit_f64(float(&text)?),
            Self::Null => visitor.visit_f64(f64::NAN),
            other => other.deserialize_any(visitor),
        }
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self {
            Self::Number(text) => visitor.visit_f32(float(&text)?),
            Self::Null => visitor.visit_f32(f32::NAN),
            other => other.deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self {
            Self::Null => visitor.visit_none(),
            other => visitor.visit_some(other),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _name: &'static str, visitor: V) -> Result<V::Value, ReadError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        match self {
            Self::Text(variant) => visitor.visit_enum(variant.into_deserializer()),
            Self::Map(entries) if entries.len() == 1 => {
                visitor.visit_enum(MapAccessDeserializer::new(MapDeserializer::new(entries.into_iter())))
            }
            _ => Err(ReadError::custom("expected the name of a variant")),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 char str string bytes byte_buf
        unit unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

impl<'de> IntoDeserializer<'de, ReadError> for Node {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

macro_rules! integer_keys {
    ($($method:ident $visit:ident $type:ty),*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
            visitor.$visit(float::<$type>(&self.0)?)
        }
    )*};
}

/// A member's name; maps keyed by integers write them as text.
impl<'de> Deserializer<'de> for Key {
    type Error = ReadError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        visitor.visit_string(self.0)
    }

    integer_keys!(deserialize_u32 visit_u32 u32, deserialize_u64 visit_u64 u64, deserialize_i32 visit_i32 i32, deserialize_i64 visit_i64 i64);

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        visitor.visit_enum(self.0.into_deserializer())
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _name: &'static str, visitor: V) -> Result<V::Value, ReadError> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i128 u8 u16 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

impl<'de> IntoDeserializer<'de, ReadError> for Key {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    enum Kind {
        Unit,
        One(f64),
        Two(String, i64),
        Named { at: u32, of: Option<f32> },
    }

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Document {
        text: String,
        numbers: Vec<f64>,
        small: Vec<f32>,
        kinds: Vec<Kind>,
        keyed: BTreeMap<u32, i64>,
        named: BTreeMap<String, bool>,
        options: serde_json::Value,
        nothing: Option<u8>,
        pair: (u64, i64),
    }

    fn document(text: String, numbers: Vec<f64>, small: Vec<f32>) -> Document {
        Document {
            keyed: BTreeMap::from([(7, -1), (u32::MAX, i64::MIN)]),
            named: BTreeMap::from([(text.clone(), true)]),
            kinds: vec![
                Kind::Unit,
                Kind::One(0.1 + 0.2),
                Kind::Two(text.clone(), -5),
                Kind::Named { at: 3, of: None },
                Kind::Named { at: 4, of: small.first().copied() },
            ],
            options: serde_json::json!({"epochs": 3, "l2": 0.25, "exclude": ["a\u{1}", null, true]}),
            nothing: None,
            pair: (u64::MAX, i64::MIN),
            text,
            numbers,
            small,
        }
    }

    proptest! {
        // Every finite float comes back with its bits: the stock JSON parser fails this for about one double in five.
        #[test]
        fn documents_come_back_exactly(
            text in any::<String>(),
            numbers in prop::collection::vec(any::<f64>().prop_filter("finite", |x| x.is_finite()), 0..20),
            small in prop::collection::vec(any::<f32>().prop_filter("finite", |x| x.is_finite()), 0..20),
        ) {
            let document = document(text, numbers, small);
            let bytes = to_bytes(&document).unwrap();
            let _: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
            let back: Document = from_bytes(&bytes).unwrap();
            prop_assert_eq!(&back, &document);
            for (a, b) in back.numbers.iter().zip(&document.numbers) {
                prop_assert_eq!(a.to_bits(), b.to_bits());
            }
        }

        #[test]
        fn any_bytes_are_refused_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(from_bytes::<Document>(&bytes).is_err());
        }

        // A valid checksum over nonsense: the parser itself must not panic.
        #[test]
        fn any_text_is_refused_without_panic(body in "[\\[\\]{}\":,a-z0-9.\\\\ é-]{0,80}") {
            let rest = format!("\",\n{body}");
            let bytes = format!("{HEAD}{}{rest}", blake3::hash(rest.as_bytes()).to_hex());
            prop_assert!(from_bytes::<Document>(bytes.as_bytes()).is_err());
        }
    }

    #[test]
    fn every_flipped_byte_is_found() {
        let bytes = to_bytes(&document("é\"\\\n".into(), vec![0.1], vec![])).unwrap();
        for at in 0..bytes.len() {
            let mut broken = bytes.clone();
            broken[at] ^= 1;
            assert!(from_bytes::<Document>(&broken).is_err(), "byte {at}");
        }
        for length in 0..bytes.len() {
            assert!(from_bytes::<Document>(&bytes[..length]).is_err(), "cut to {length}");
        }
    }

    #[test]
    fn deep_nesting_is_refused() {
        let rest = format!("\",\n\"a\":{}", "[".repeat(100_000));
        let bytes = format!("{HEAD}{}{rest}", blake3::hash(rest.as_bytes()).to_hex());
        assert_eq!(from_bytes::<serde_json::Value>(bytes.as_bytes()).unwrap_err(), "is nested too deeply");
    }

    #[test]
    fn not_a_number_comes_back_as_one() {
        #[derive(Serialize, Deserialize)]
        struct One {
            value: f64,
        }
        let back: One = from_bytes(&to_bytes(&One { value: f64::NAN }).unwrap()).unwrap();
        assert!(back.value.is_nan());
    }
}
