//! Date/time templates, compiled: text in, a list of fields and literals out.

use super::fields::{Case, Field};

/// Patterns in capitals; all of them also exist in small letters. The longest that fits is taken.
const KEYWORDS: &[(&str, Field)] = &[
    ("A.D.", Field::Era { dotted: true, case: Case::Upper }),
    ("A.M.", Field::Meridiem { dotted: true, case: Case::Upper }),
    ("AD", Field::Era { dotted: false, case: Case::Upper }),
    ("AM", Field::Meridiem { dotted: false, case: Case::Upper }),
    ("B.C.", Field::Era { dotted: true, case: Case::Upper }),
    ("BC", Field::Era { dotted: false, case: Case::Upper }),
    ("CC", Field::Century),
    ("DAY", Field::DayName(Case::Upper)),
    ("DDD", Field::DayOfYear),
    ("DD", Field::DayOfMonth),
    ("DY", Field::DayAbbreviation(Case::Upper)),
    ("D", Field::DayOfWeek),
    ("FF1", Field::Fraction(1)),
    ("FF2", Field::Fraction(2)),
    ("FF3", Field::Fraction(3)),
    ("FF4", Field::Fraction(4)),
    ("FF5", Field::Fraction(5)),
    ("FF6", Field::Fraction(6)),
    ("FX", Field::Exact),
    ("HH24", Field::Hour24),
    ("HH12", Field::Hour12),
    ("HH", Field::Hour12),
    ("IDDD", Field::IsoDayOfYear),
    ("ID", Field::IsoDayOfWeek),
    ("IW", Field::IsoWeek),
    ("IYYY", Field::IsoYear(4)),
    ("IYY", Field::IsoYear(3)),
    ("IY", Field::IsoYear(2)),
    ("I", Field::IsoYear(1)),
    ("J", Field::JulianDay),
    ("MI", Field::Minute),
    ("MM", Field::Month),
    ("MONTH", Field::MonthName(Case::Upper)),
    ("MON", Field::MonthAbbreviation(Case::Upper)),
    ("MS", Field::Millisecond),
    ("OF", Field::Offset),
    ("P.M.", Field::Meridiem { dotted: true, case: Case::Upper }),
    ("PM", Field::Meridiem { dotted: false, case: Case::Upper }),
    ("Q", Field::Quarter),
    ("RM", Field::RomanMonth(Case::Upper)),
    ("SSSSS", Field::SecondOfDay),
    ("SSSS", Field::SecondOfDay),
    ("SS", Field::Second),
    ("TZH", Field::ZoneHour),
    ("TZM", Field::ZoneMinute),
    ("TZ", Field::Zone(Case::Upper)),
    ("US", Field::Microsecond),
    ("WW", Field::Week),
    ("W", Field::WeekOfMonth),
    ("Y,YYY", Field::YearWithComma),
    ("YYYY", Field::Year(4)),
    ("YYY", Field::Year(3)),
    ("YY", Field::Year(2)),
    ("Y", Field::Year(1)),
];

/// Names that are written with a capital only when the pattern is.
const CAPITALIZED: &[(&str, Field)] = &[
    ("Month", Field::MonthName(Case::Capital)),
    ("Mon", Field::MonthAbbreviation(Case::Capital)),
    ("Day", Field::DayName(Case::Capital)),
    ("Dy", Field::DayAbbreviation(Case::Capital)),
];

/// A template for dates, timestamps and intervals.
#[derive(Debug, Clone)]
pub(crate) struct DateTimeTemplate {
    pub(super) items: Vec<Item>,
}

/// One step of a template.
#[derive(Debug, Clone)]
pub(super) enum Item {
    Field(FieldItem),
    /// White space outside of quotes.
    Space(char),
    /// ASCII punctuation outside of quotes.
    Separator(char),
    /// Any other character.
    Text(char),
}

/// A field with its modifiers.
#[derive(Debug, Clone)]
pub(super) struct FieldItem {
    pub(super) field: Field,
    /// As it stands in the template, for messages.
    pub(super) name: String,
    /// `FM`: neither blanks nor leading zeros.
    pub(super) fill: bool,
    /// `TM`: a name in the session's language, which has no blanks behind it.
    pub(super) translated: bool,
    /// `TH` or `th` behind the field.
    pub(super) ordinal: Option<Case>,
    /// A number is read as far as its digits go, not just its width: nothing that follows could be taken for a part of it.
    pub(super) greedy: bool,
}

impl DateTimeTemplate {
    /// Compiles a template. Every text is one: what is no pattern stands for itself.
    pub(crate) fn new(text: &str) -> Self {
        let mut items = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let (fill, translated) = take_prefix(&mut rest);
            if let Some((name, field)) = keyword(rest) {
                rest = &rest[name.len()..];
                let ordinal = take_suffix(&mut rest);
                items.push(Item::Field(FieldItem { field, name: name.to_owned(), fill, translated, ordinal, greedy: false }));
            } else {
                rest = take_literal(rest, |character, quoted| items.push(literal(character, quoted)));
            }
        }
        set_greedy(&mut items);
        Self { items }
    }
}

/// The modifier in front of a pattern.
fn take_prefix(rest: &mut &str) -> (bool, bool) {
    for (prefix, modifiers) in [("FM", (true, false)), ("fm", (true, false)), ("TM", (false, true)), ("tm", (false, true))] {
        if let Some(behind) = rest.strip_prefix(prefix) {
            *rest = behind;
            return modifiers;
        }
    }
    (false, false)
}

/// The modifier behind a pattern. `SP` is accepted and means nothing, as in PostgreSQL.
fn take_suffix(rest: &mut &str) -> Option<Case> {
    for (suffix, ordinal) in [("TH", Some(Case::Upper)), ("th", Some(Case::Lower)), ("SP", None)] {
        if let Some(behind) = rest.strip_prefix(suffix) {
            *rest = behind;
            return ordinal;
        }
    }
    None
}

/// The longest pattern that `text` starts with.
fn keyword(text: &str) -> Option<(&str, Field)> {
    let mut found: Option<(&str, Field)> = None;
    let mut offer = |name: &'static str, field: Field| {
        if found.is_none_or(|(longest, _)| longest.len() < name.len()) {
            found = text.get(..name.len()).map(|spelled| (spelled, field));
        }
    };
    for &(name, field) in KEYWORDS {
        if text.starts_with(name) {
            offer(name, field);
        } else if starts_with_lower(text, name) {
            offer(name, field.lower());
        }
    }
    for &(name, field) in CAPITALIZED {
        if text.starts_with(name) {
            offer(name, field);
        }
    }
    found
}

/// Whether `text` starts with `name` in small letters.
pub(super) fn starts_with_lower(text: &str, name: &str) -> bool {
    text.len() >= name.len() && text.bytes().zip(name.bytes()).all(|(byte, capital)| byte == capital.to_ascii_lowercase())
}

/// Takes one literal off the front of `text`, or all that is between two quotes, and returns the rest.
pub(super) fn take_literal(text: &str, mut push: impl FnMut(char, bool)) -> &str {
    let mut characters = text.chars();
    match characters.next() {
        Some('"') => {
            while let Some(character) = characters.next() {
                match character {
                    '"' => break,
                    // A backslash at the very end stands for itself.
                    '\\' => push(characters.next().unwrap_or('\\'), true),
                    _ => push(character, true),
                }
            }
        }
        // Outside of quotes a backslash only takes a quote's meaning away.
        Some('\\') if characters.as_str().starts_with('"') => {
            characters.next();
            push('"', false);
        }
        Some(character) => push(character, false),
        None => {}
    }
    characters.as_str()
}

fn literal(character: char, quoted: bool) -> Item {
    match character {
        _ if quoted => Item::Text(character),
        _ if is_separator(character) => Item::Separator(character),
        _ if is_space(character) => Item::Space(character),
        _ => Item::Text(character),
    }
}

/// ASCII punctuation.
pub(super) fn is_separator(character: char) -> bool {
    character.is_ascii_punctuation()
}

/// White space of the `C` locale.
pub(super) fn is_space(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\n' | '\x0b' | '\x0c' | '\r')
}

fn set_greedy(items: &mut [Item]) {
    let mut digits_follow = false;
    for item in items.iter_mut().rev() {
        digits_follow = match item {
            Item::Field(item) => {
                item.greedy = item.fill || item.ordinal.is_some() || !digits_follow;
                item.field.is_digits()
            }
            Item::Space(character) | Item::Separator(character) | Item::Text(character) => character.is_ascii_digit(),
        };
    }
}
