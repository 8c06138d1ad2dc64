//! The target language: what is to be predicted of a user after the anchor.
//!
//! `next_event` · `next_item` · `purchase` (does that event happen within the horizon) · `ladder(view<cart<purchase)`
//! · `count(purchase)` · `sum(price)` · `sum(price, purchase)` · `column(label)` · `none`. A name that holds one of
//! `" < , ( )` or blanks at its ends is written in double quotes (a quote inside doubled); an event that is called
//! like a keyword is written `event("none")`.
//!
//! Life of a target: text → [`Target::parse`] → labels from (anchor, anchor + horizon] in [`super::anchor`] →
//! [`Display`](fmt::Display) into the manifest, which parses back to the same value.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The class of a row in which nothing of interest happened within the horizon.
pub const NONE_CLASS: &str = "none";
/// The class that gathers labels outside the kept classes of `next_item`.
pub const OTHER_CLASS: &str = "other";

/// What is to be predicted.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Target {
    /// The type of the user's next event, or [`NONE_CLASS`].
    NextEvent,
    /// The item of the user's next event that has one, or [`NONE_CLASS`].
    NextItem,
    /// Whether an event of this type happens; classes [`NONE_CLASS`] and the event.
    Event(String),
    /// The deepest of these stages that is reached, or [`NONE_CLASS`]; shallowest first.
    Ladder(Vec<String>),
    /// How many events of this type happen.
    Count(String),
    /// The sum of a column over the events (of one type); NULL adds nothing.
    Sum {
        /// The column.
        column: String,
        /// Only events of this type.
        event: Option<String>,
    },
    /// A column of a source that already holds one labelled row per entity.
    Column(String),
    /// No labels: for networks that learn without.
    None,
}

const FORMS: &str = "Targets are next_event, next_item, an event type such as purchase, ladder(view<cart<purchase), \
                     count(<event>), sum(<column>[, <event>]), column(<label>) and none.";

impl Target {
    /// Reads a target.
    ///
    /// # Errors
    /// `InvalidParameter` (22023) that says what is wrong and lists the forms.
    pub fn parse(text: &str) -> Result<Self> {
        let trimmed = text.trim();
        if trimmed.is_empty() {
            return Err(bad(text, "the target is empty"));
        }
        let mut parser = Parser { rest: trimmed };
        if trimmed.starts_with('"') {
            let name = parser.name("<,()").map_err(|reason| bad(text, reason))?;
            return parser.end().map(|()| Self::Event(name)).map_err(|reason| bad(text, reason));
        }
        let word_end = trimmed.find('(').unwrap_or(trimmed.len());
        let word = trimmed[..word_end].trim().to_ascii_lowercase();
        if word_end == trimmed.len() {
            return match word.as_str() {
                "next_event" => Ok(Self::NextEvent),
                "next_item" => Ok(Self::NextItem),
                "none" => Ok(Self::None),
                _ if trimmed.contains(['"', '<', ',', ')']) => Err(bad(text, "it is not one of the forms")),
                _ => Ok(Self::Event(trimmed.to_owned())),
            };
        }
        parser.rest = &trimmed[word_end + 1..];
        let target = match word.as_str() {
            "ladder" => parser.ladder(),
            "count" => parser.name("<,()").map(Self::Count),
            "column" => parser.name(",()").map(Self::Column),
            "event" => parser.name("<,()").map(Self::Event),
            "sum" => parser.sum(),
            _ => Err("the function before the parenthesis is unknown"),
        };
        let target = target.map_err(|reason| bad(text, reason))?;
        parser.close().map_err(|reason| bad(text, reason))?;
        Ok(target)
    }

    /// Whether the label is a class rather than a number.
    #[must_use]
    pub const fn is_classification(&self) -> bool {
        matches!(self, Self::NextEvent | Self::NextItem | Self::Event(_) | Self::Ladder(_))
    }

    /// Whether it needs a source of events; `column(…)` does not.
    #[must_use]
    pub const fn needs_events(&self) -> bool {
        !matches!(self, Self::Column(_))
    }

    /// The event types it names, for a check against the data.
    #[must_use]
    pub fn events(&self) -> Vec<&str> {
        match self {
            Self::Event(event) | Self::Count(event) | Self::Sum { event: Some(event), .. } => vec![event],
            Self::Ladder(stages) => stages.iter().map(String::as_str).collect(),
            _ => Vec::new(),
        }
    }
}

fn bad(text: &str, reason: &str) -> Error {
    Error::invalid(format!("invalid target \"{text}\"")).detail(format!("In this target, {reason}.")).hint(FORMS)
}

struct Parser<'a> {
    rest: &'a str,
}

impl Parser<'_> {
    /// A bare name up to one of `stops`, or a quoted one.
    fn name(&mut self, stops: &str) -> Result<String, &'static str> {
        self.rest = self.rest.trim_start();
        if !self.rest.starts_with('"') {
            let end = self.rest.find(|c| stops.contains(c) || c == '"').unwrap_or(self.rest.len());
            let name = self.rest[..end].trim_end();
            if name.is_empty() {
                return Err("a name is missing");
            }
            let name = name.to_owned();
            self.rest = &self.rest[end..];
            return Ok(name);
        }
        let mut name = String::new();
        let mut characters = self.rest.char_indices().skip(1).peekable();
        while let Some((index, character)) = characters.next() {
            if character != '"' {
                name.push(character);
            } else if characters.peek().is_some_and(|(_, next)| *next == '"') {
                name.push('"');
                characters.next();
            } else {
                self.rest = &self.rest[index + 1..];
                return if name.is_empty() { Err("a name is empty") } else { Ok(name) };
            }
        }
        Err("a double quote is not closed")
    }

    fn take(&mut self, expected: char) -> bool {
        self.rest = self.rest.trim_start();
        match self.rest.strip_prefix(expected) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn end(&self) -> Result<(), &'static str> {
        if self.rest.trim().is_empty() { Ok(()) } else { Err("something follows its end") }
    }

    fn close(&mut self) -> Result<(), &'static str> {
        if self.take(')') { self.end() } else { Err("the closing parenthesis is missing or not where it should be") }
    }

    fn ladder(&mut self) -> Result<Target, &'static str> {
        let mut stages = vec![self.name("<,()")?];
        while self.take('<') {
            stages.push(self.name("<,()")?);
        }
        if stages.len() < 2 {
            return Err("a ladder needs at least two stages, separated by <");
        }
        if stages.len() > 32 {
            return Err("a ladder has at most 32 stages");
        }
        if stages.iter().any(|stage| stage == NONE_CLASS) {
            return Err("a stage is called none, which is the class of users who reach no stage");
        }
        if (1..stages.len()).any(|i| stages[..i].contains(&stages[i])) {
            return Err("a stage is named twice");
        }
        Ok(Target::Ladder(stages))
    }

    fn sum(&mut self) -> Result<Target, &'static str> {
        let column = self.name(",()")?;
        let event = if self.take(',') { Some(self.name("<,()")?) } else { None };
        Ok(Target::Sum { column, event })
    }
}

/// A name inside parentheses: bare when that reads back as itself.
fn quoted(name: &str) -> String {
    if name.is_empty() || name != name.trim() || name.contains(['"', '<', ',', '(', ')']) {
        format!("\"{}\"", name.replace('"', "\"\""))
    } else {
        name.to_owned()
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NextEvent => f.write_str("next_event"),
            Self::NextItem => f.write_str("next_item"),
            Self::None => f.write_str("none"),
            Self::Event(name) if ["next_event", "next_item", "none"].contains(&name.to_ascii_lowercase().as_str()) => {
                write!(f, "event({})", quoted(name))
            }
            Self::Event(name) => f.write_str(&quoted(name)),
            Self::Ladder(stages) => {
                let stages: Vec<String> = stages.iter().map(|stage| quoted(stage)).collect();
                write!(f, "ladder({})", stages.join("<"))
            }
            Self::Count(event) => write!(f, "count({})", quoted(event)),
            Self::Sum { column, event: None } => write!(f, "sum({})", quoted(column)),
            Self::Sum { column, event: Some(event) } => write!(f, "sum({}, {})", quoted(column), quoted(event)),
            Self::Column(column) => write!(f, "column({})", quoted(column)),
        }
    }
}

impl TryFrom<String> for Target {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        Self::parse(&text)
    }
}

impl From<Target> for String {
    fn from(target: Target) -> Self {
        target.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn forms() {
        let ladder = |stages: &[&str]| Target::Ladder(stages.iter().map(|s| (*s).to_owned()).collect());
        for (text, target) in [
            ("next_event", Target::NextEvent),
            (" NEXT_ITEM ", Target::NextItem),
            ("none", Target::None),
            ("purchase", Target::Event("purchase".into())),
            ("add to cart", Target::Event("add to cart".into())),
            ("event(none)", Target::Event("none".into())),
            ("ladder(pv<cart<buy)", ladder(&["pv", "cart", "buy"])),
            ("Ladder( view < \"a<b\" )", ladder(&["view", "a<b"])),
            ("count(purchase)", Target::Count("purchase".into())),
            ("sum(price)", Target::Sum { column: "price".into(), event: None }),
            ("sum(price, purchase)", Target::Sum { column: "price".into(), event: Some("purchase".into()) }),
            ("column(Revenue)", Target::Column("Revenue".into())),
            ("column(a<b)", Target::Column("a<b".into())),
        ] {
            assert_eq!(Target::parse(text).unwrap(), target, "{text}");
        }
    }

    #[test]
    fn mistakes_say_what_is_wrong() {
        for (text, part) in [
            ("", "empty"),
            ("ladder(a)", "at least two"),
            ("ladder(a<a)", "twice"),
            ("ladder(a<none)", "none"),
            ("ladder(a<b", "parenthesis"),
            ("ladder(a<b) x", "follows"),
            ("sum()", "missing"),
            ("avg(price)", "unknown"),
            ("count(a,b)", "parenthesis"),
            ("\"abc", "not closed"),
            ("a<b", "not one of the forms"),
        ] {
            let error = Target::parse(text).unwrap_err();
            assert_eq!(error.code, crate::error::Code::InvalidParameter, "{text}");
            assert!(error.detail.as_deref().unwrap().contains(part), "{text}: {error:?}");
        }
    }

    fn any_target() -> impl Strategy<Value = Target> {
        let name = "[ a-c\"<,()én]{0,6}x[ a-c\"<,()]{0,4}|none|next_event|purchase";
        let stages = proptest::collection::btree_set("[ab\"<,() ]{1,4}x", 2..5).prop_map(|set| set.into_iter().collect::<Vec<_>>());
        prop_oneof![
            Just(Target::NextEvent),
            Just(Target::NextItem),
            Just(Target::None),
            name.prop_map(Target::Event),
            name.prop_map(Target::Count),
            name.prop_map(Target::Column),
            (name, proptest::option::of(name)).prop_map(|(column, event)| Target::Sum { column, event }),
            stages.prop_map(Target::Ladder),
        ]
    }

    proptest! {
        #[test]
        fn display_parses_back(target in any_target()) {
            prop_assert_eq!(Target::parse(&target.to_string()).unwrap(), target);
        }

        #[test]
        fn parse_never_panics(text in "\\PC{0,24}") {
            let _ = Target::parse(&text);
        }
    }
}
