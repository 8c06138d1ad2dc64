//! The text of a pattern and what may lie between its events.

use std::fmt;

/// More events than a pattern may have: one bit each while it is looked for.
pub const EVENTS_MAX: usize = 64;

/// How an elapsed time is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Comparison {
    /// `<`
    Less,
    /// `<=`
    AtMost,
    /// `>`
    More,
    /// `>=`
    AtLeast,
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
}

/// What lies between an event and the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gap {
    /// Nothing.
    None,
    /// `.*`: any rows.
    Any,
    /// `(?t…)`: any rows, the next one at such a distance; `then_any`: `.*` after it, so the row at that distance may be any
    /// row up to the next event.
    Time { comparison: Comparison, distance: u64, then_any: bool },
}

/// An event of the pattern: the bits of which one must be set, and the gap after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token {
    /// The condition's bit; all bits for `.`.
    pub(super) bits: u64,
    pub(super) gap: Gap,
}

/// A pattern. An implicit `.*` comes first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    pub(super) tokens: Vec<Token>,
}

/// Why a text is no pattern; positions count bytes from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PatternError {
    /// Something else should stand here.
    Syntax {
        /// Where.
        position: usize,
        /// What was expected.
        expected: &'static str,
    },
    /// `(?9)` with fewer conditions.
    Condition {
        /// The number written.
        number: u64,
        /// How many conditions there are.
        conditions: usize,
    },
    /// `(?t…)` with no event before it, or two between the same events.
    MisplacedTime {
        /// Where.
        position: usize,
    },
    /// More than 64 events.
    TooLong,
}

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax { position, expected } => write!(f, "invalid pattern: {expected} expected at position {position}"),
            Self::Condition { number, conditions } => write!(f, "invalid pattern: there is no condition {number} among {conditions}"),
            Self::MisplacedTime { position } => write!(f, "invalid pattern: the time at position {position} does not follow an event"),
            Self::TooLong => write!(f, "invalid pattern: it has more than {EVENTS_MAX} events"),
        }
    }
}

impl std::error::Error for PatternError {}

/// A reader of the text.
struct Reader<'a> {
    text: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn eat(&mut self, word: &str) -> bool {
        let found = self.text[self.at..].starts_with(word.as_bytes());
        self.at += if found { word.len() } else { 0 };
        found
    }

    fn expect(&mut self, word: &str, expected: &'static str) -> Result<(), PatternError> {
        if self.eat(word) { Ok(()) } else { Err(self.syntax(expected)) }
    }

    fn syntax(&self, expected: &'static str) -> PatternError {
        PatternError::Syntax { position: self.at + 1, expected }
    }

    fn number(&mut self) -> Result<u64, PatternError> {
        let digits = self.text[self.at..].iter().take_while(|c| c.is_ascii_digit()).count();
        let text = &self.text[self.at..self.at + digits];
        let number = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or(self.syntax("a number"))?;
        self.at += digits;
        Ok(number)
    }

    fn comparison(&mut self) -> Result<Comparison, PatternError> {
        const ALL: [(&str, Comparison); 6] = [
            ("<=", Comparison::AtMost),
            ("<", Comparison::Less),
            (">=", Comparison::AtLeast),
            (">", Comparison::More),
            ("==", Comparison::Equal),
            ("!=", Comparison::NotEqual),
        ];
        ALL.into_iter().find(|(sign, _)| self.eat(sign)).map(|(_, found)| found).ok_or(self.syntax("one of <= < >= > == !="))
    }
}

impl Pattern {
    /// Reads a pattern over `conditions` conditions; times count `unit` of the time column each.
    ///
    /// # Errors
    /// Text that is no pattern, conditions that do not exist.
    pub fn parse(text: &str, conditions: usize, unit: u64) -> Result<Self, PatternError> {
        let mut reader = Reader { text: text.as_bytes(), at: 0 };
        let mut tokens: Vec<Token> = vec![];
        while reader.at < reader.text.len() {
            let begin = reader.at;
            let bits = if reader.eat("(?t") {
                let comparison = reader.comparison()?;
                let distance = reader.number()?.saturating_mul(unit);
                reader.expect(")", "a closing parenthesis")?;
                let misplaced = PatternError::MisplacedTime { position: begin + 1 };
                let last = tokens.last_mut().ok_or(misplaced.clone())?;
                if matches!(last.gap, Gap::Time { .. }) {
                    return Err(misplaced);
                }
                last.gap = Gap::Time { comparison, distance, then_any: false };
                continue;
            } else if reader.eat("(?") {
                let number = reader.number()?;
                reader.expect(")", "a closing parenthesis")?;
                match usize::try_from(number) {
                    Ok(n) if n >= 1 && n <= conditions.min(64) => 1 << (n - 1),
                    _ => return Err(PatternError::Condition { number, conditions }),
                }
            } else if reader.eat(".*") {
                match tokens.last_mut().map(|last| &mut last.gap) {
                    Some(Gap::Time { then_any, .. }) => *then_any = true,
                    Some(gap) => *gap = Gap::Any,
                    None => {}
                }
                continue;
            } else if reader.eat(".") {
                u64::MAX
            } else {
                return Err(reader.syntax("(?N), (?t…), . or .*"));
            };
            if tokens.len() == EVENTS_MAX {
                return Err(PatternError::TooLong);
            }
            tokens.push(Token { bits, gap: Gap::None });
        }
        Ok(Self { tokens })
    }
}
