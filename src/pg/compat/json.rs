//! `->`, `->>`, `#>` and `#>>`: parts of a JSON text, as they are written in it.

use std::sync::Arc;

use arrow::array::types::Int64Type;
use arrow::array::{Array, ArrayRef, AsArray, StringBuilder};
use arrow::datatypes::DataType;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::ScalarUDF;

use super::kernel::{Kernel, Returns, refused, uncast};
use crate::error::{Code, Error, Result};
use crate::pg::params;

pub(super) fn functions() -> Vec<Arc<ScalarUDF>> {
    vec![get(), get_text(), path(), path_text()]
}

fn kernel(
    name: &'static str,
    coerce: fn(&[DataType]) -> DfResult<Vec<DataType>>,
    type_name: Option<&'static str>,
    run: fn(&[ArrayRef], &DataType) -> Result<ArrayRef>,
) -> Arc<ScalarUDF> {
    Kernel { name, coerce, returns: Returns::This(DataType::Utf8), type_name, run }.function()
}

pub(super) fn get() -> Arc<ScalarUDF> {
    kernel("json_object_field", member, Some("json"), |columns, _| run(columns, false, false))
}

pub(super) fn get_text() -> Arc<ScalarUDF> {
    kernel("json_object_field_text", member, None, |columns, _| run(columns, false, true))
}

pub(super) fn path() -> Arc<ScalarUDF> {
    kernel("json_extract_path_of", steps, Some("json"), |columns, _| run(columns, true, false))
}

pub(super) fn path_text() -> Arc<ScalarUDF> {
    kernel("json_extract_path_text_of", steps, None, |columns, _| run(columns, true, true))
}

fn is_text(found: &DataType) -> bool {
    matches!(found, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null)
}

/// A JSON text, and the name of a member or the place of an element.
fn member(given: &[DataType]) -> DfResult<Vec<DataType>> {
    match given {
        [json, key] if is_text(json) && is_text(key) => Ok(vec![DataType::Utf8, DataType::Utf8]),
        [json, key] if is_text(json) && key.is_integer() => Ok(vec![DataType::Utf8, DataType::Int64]),
        _ => refused("->"),
    }
}

/// A JSON text and a path: a list of names and places, or its text.
fn steps(given: &[DataType]) -> DfResult<Vec<DataType>> {
    match given {
        [json, path] if is_text(json) && is_text(path) => Ok(vec![DataType::Utf8, DataType::Utf8]),
        [json, DataType::List(_)] if is_text(json) => Ok(vec![DataType::Utf8, DataType::new_list(DataType::Utf8, true)]),
        _ => refused("#>"),
    }
}

/// Where to go from a value.
#[derive(Debug)]
enum Step {
    Member(String),
    Element(i64),
    /// A word of a path: an element's place or a member's name, whichever the value has.
    Word(String),
}

/// `is_path`: the keys are paths.
fn run(columns: &[ArrayRef], is_path: bool, as_text: bool) -> Result<ArrayRef> {
    let [texts, keys] = columns else { return Err(uncast("->")) };
    let texts = texts.as_string_opt::<i32>().ok_or_else(|| uncast("->"))?;
    let mut found = StringBuilder::with_capacity(texts.len(), 0);
    for row in 0..texts.len() {
        if texts.is_null(row) || keys.is_null(row) {
            found.append_null();
            continue;
        }
        let steps = if is_path { path_at(keys, row)? } else { vec![step_at(keys, row)?] };
        let part = steps.iter().try_fold(Some(texts.value(row).trim()), |value, step| value.map_or(Ok(None), |value| part(value, step)))?;
        match part {
            Some("null") if as_text => found.append_null(),
            Some(part) if as_text && part.starts_with('"') => found.append_value(unquoted(part)?),
            part => found.append_option(part),
        }
    }
    Ok(Arc::new(found.finish()))
}

fn step_at(keys: &ArrayRef, row: usize) -> Result<Step> {
    if let Some(places) = keys.as_primitive_opt::<Int64Type>() {
        return Ok(Step::Element(places.value(row)));
    }
    Ok(Step::Member(keys.as_string_opt::<i32>().ok_or_else(|| uncast("->"))?.value(row).to_owned()))
}

fn path_at(keys: &ArrayRef, row: usize) -> Result<Vec<Step>> {
    if let Some(paths) = keys.as_string_opt::<i32>() {
        return words(paths.value(row));
    }
    let words = keys.as_list_opt::<i32>().ok_or_else(|| uncast("#>"))?.value(row);
    let words = words.as_string_opt::<i32>().ok_or_else(|| uncast("#>"))?;
    Ok(words.iter().map(|word| Step::Word(word.unwrap_or_default().to_owned())).collect())
}

/// The member or element of a value; `None` when it has none such.
fn part<'a>(value: &'a str, step: &Step) -> Result<Option<&'a str>> {
    let place = match step {
        Step::Element(place) => Some(*place),
        Step::Word(word) => word.parse().ok(),
        Step::Member(_) => None,
    };
    let name = match step {
        Step::Member(name) | Step::Word(name) => Some(name),
        Step::Element(_) => None,
    };
    match (value.as_bytes().first(), name, place) {
        (Some(b'{'), Some(name), _) => {
            // Of members of one name the last counts.
            let mut found = None;
            for (key, value) in Parts::of(value) {
                if unquoted(key?)? == *name {
                    found = Some(value?);
                }
            }
            Ok(found)
        }
        (Some(b'['), _, Some(place)) => {
            let elements = Parts::of(value).map(|(_, element)| element).collect::<Result<Vec<_>>>()?;
            let place = if place < 0 { place + elements.len() as i64 } else { place };
            Ok(usize::try_from(place).ok().and_then(|place| elements.get(place).copied()))
        }
        _ => Ok(None),
    }
}

fn unquoted(text: &str) -> Result<String> {
    serde_json::from_str(text).map_err(|_| invalid())
}

fn invalid() -> Error {
    Error::new(Code::InvalidText, "invalid input syntax for type json")
}

/// The members of an object or the elements of an array, as they are written. An element's key is empty.
struct Parts<'a> {
    text: &'a str,
    at: usize,
    object: bool,
}

impl<'a> Parts<'a> {
    fn of(text: &'a str) -> Self {
        Self { text, at: 1, object: text.starts_with('{') }
    }

    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip(&mut self, wanted: impl Fn(u8) -> bool) {
        while self.byte().is_some_and(&wanted) {
            self.at += 1;
        }
    }

    fn blanks(&mut self) {
        self.skip(|byte| byte.is_ascii_whitespace());
    }

    /// A value from here to its end: brackets are counted, strings passed over.
    fn value(&mut self) -> Result<&'a str> {
        let (start, mut depth) = (self.at, 0_usize);
        while let Some(byte) = self.byte() {
            match byte {
                b'"' => {
                    self.string()?;
                    if depth == 0 {
                        break;
                    }
                    continue;
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' if depth == 0 => break,
                b'}' | b']' => {
                    depth -= 1;
                    if depth == 0 {
                        self.at += 1;
                        break;
                    }
                }
                b',' if depth == 0 => break,
                _ => {}
            }
            self.at += 1;
        }
        Some(self.text[start..self.at].trim()).filter(|value| !value.is_empty()).ok_or_else(invalid)
    }

    /// A string from its quote to the one that ends it.
    fn string(&mut self) -> Result<&'a str> {
        let start = self.at;
        self.at += 1;
        loop {
            match self.byte().ok_or_else(invalid)? {
                b'\\' => self.at += 2,
                b'"' => {
                    self.at += 1;
                    return self.text.get(start..self.at).ok_or_else(invalid);
                }
                _ => self.at += 1,
            }
        }
    }

    fn key(&mut self) -> Result<&'a str> {
        if !self.object {
            return Ok("");
        }
        let key = if self.byte() == Some(b'"') { self.string()? } else { return Err(invalid()) };
        self.blanks();
        if self.byte() != Some(b':') {
            return Err(invalid());
        }
        self.at += 1;
        self.blanks();
        Ok(key)
    }
}

impl<'a> Iterator for Parts<'a> {
    type Item = (Result<&'a str>, Result<&'a str>);

    fn next(&mut self) -> Option<Self::Item> {
        self.skip(|byte| byte.is_ascii_whitespace() || byte == b',');
        if matches!(self.byte(), None | Some(b'}' | b']')) {
            return None;
        }
        let key = self.key();
        let value = if key.is_ok() { self.value() } else { Err(invalid()) };
        if key.is_err() || value.is_err() {
            self.at = self.text.len();
        }
        self.blanks();
        Some((key, value))
    }
}

/// A path's text: `{a,0,b}`.
fn words(text: &str) -> Result<Vec<Step>> {
    let words = params::array_words(text).ok_or_else(|| Error::new(Code::InvalidText, format!("malformed array literal: \"{text}\"")))?;
    Ok(words.into_iter().map(|word| Step::Word(word.unwrap_or_default())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(json: &str, step: Step) -> Option<String> {
        part(json, &step).unwrap().map(str::to_owned)
    }

    #[test]
    fn parts_keep_their_writing() {
        let member = |name: &str| Step::Member(name.to_owned());
        assert_eq!(at(r#"{"a": {"b" : [1, 2.50]}, "c": "x,}"}"#, member("a")).unwrap(), r#"{"b" : [1, 2.50]}"#);
        assert_eq!(at(r#"{"a": 1, "c": "x,}\""}"#, member("c")).unwrap(), r#""x,}\"""#);
        assert_eq!(at(r#"{"a": 1, "a":2 }"#, member("a")).unwrap(), "2");
        assert_eq!(at(r#"[1, "x", [3]]"#, Step::Element(-1)).unwrap(), "[3]");
        assert_eq!(at(r#"[1, "x", [3]]"#, Step::Word("1".into())).unwrap(), r#""x""#);
        for (json, step) in
            [("1", member("a")), ("[1]", member("a")), ("{}", member("a")), ("[1]", Step::Element(1)), ("null", member("a"))]
        {
            assert_eq!(at(json, step), None, "{json}");
        }
        assert!(part(r#"{"a""#, &member("b")).is_err());
        assert!(part(r#"{"a":"#, &member("a")).is_err());
    }
}
