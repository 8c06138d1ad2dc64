//! By which rule a funnel is read: words, bits and dialects.

use std::fmt;

use super::super::super::nearest::nearest;

/// Whose meaning a call has where engines differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Dialect {
    /// Our own: ClickHouse's rules without their defects, Doris's words as Doris 4.1 means them.
    #[default]
    Portrait,
    /// ClickHouse as it is: one chain per step even where that loses one, rows with a NULL are left out.
    Clickhouse,
    /// Doris from 4.1: a row takes at most one step.
    Doris41,
    /// Doris before 4.1: unrelated rows break `fixed`.
    Doris3,
    /// StarRocks: only the first condition that a row satisfies counts.
    Starrocks,
}

impl Dialect {
    /// All names, as `funnel_compat` takes them.
    pub const NAMES: [&'static str; 5] = ["portrait", "clickhouse", "doris41", "doris3", "starrocks"];

    /// The dialect of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "portrait" => Self::Portrait,
            "clickhouse" => Self::Clickhouse,
            "doris41" => Self::Doris41,
            "doris3" => Self::Doris3,
            "starrocks" => Self::Starrocks,
            _ => return None,
        })
    }
}

/// A rule of ClickHouse's family: one chain per step, later starts replace earlier ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct LevelRule {
    /// `strict_deduplication`: a step that is taken again ends the search.
    pub deduplication: bool,
    /// `strict_order`: any other event ends the search.
    pub order: bool,
    /// `strict_increase`: each step is later than the one before.
    pub increase: bool,
    /// `strict_once`: a row takes at most one step.
    pub once: bool,
    /// `allow_reentry`: a step that comes too early is left out instead of ending the search.
    pub reentry: bool,
    /// `strict_increase` as ClickHouse computes it: the newest chain of a step replaces one that could still go on.
    pub newest_only: bool,
    /// Only the first condition that a row satisfies counts.
    pub first_only: bool,
}

impl LevelRule {
    /// Whether no word changes the default.
    pub(super) const fn is_plain(self) -> bool {
        !(self.deduplication || self.order || self.increase || self.once || self.first_only)
    }

    /// Whether a block extends the chains as they stood before it.
    pub(super) const fn extends_old(self) -> bool {
        (self.increase || self.once) && !self.loses_chains()
    }

    /// Whether a newer chain replaces one that could still go on.
    pub(super) const fn loses_chains(self) -> bool {
        self.increase && self.newest_only && !self.once
    }
}

/// How a funnel is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Mode {
    /// ClickHouse's family.
    Levels(LevelRule),
    /// Doris: every row of the first step is tried as a start; between two steps no earlier step may come again.
    Deduplication,
    /// Doris: the next matching row must be the next step.
    Fixed {
        /// Whether rows that satisfy no condition break the chain too (before 4.1).
        unmatched_break: bool,
    },
    /// StarRocks: 1 deduplication, 2 fixed, 4 increase, in any sum but 4 alone and 0.
    Bits(u8),
}

/// Why words or bits are no mode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModeError {
    /// No such word.
    Unknown(String),
    /// `allow_reentry` without `strict_order`.
    ReentryWithoutOrder,
    /// A word of Doris together with another rule.
    Together(String),
    /// Bits outside 0 to 7.
    Bits(i64),
}

/// Words that choose a rule.
const WORDS: [&str; 12] = [
    "default",
    "strict_deduplication",
    "strict_order",
    "strict_increase",
    "strict_once",
    "once",
    "allow_reentry",
    "strict",
    "timestamp_dedup",
    "deduplication",
    "fixed",
    "increase",
];

impl fmt::Display for ModeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(word) => {
                write!(f, "there is no funnel mode \"{word}\"")?;
                match nearest(word, WORDS.into_iter().chain(Dialect::NAMES)) {
                    Some(near) => write!(f, ", perhaps \"{near}\""),
                    None => Ok(()),
                }
            }
            Self::ReentryWithoutOrder => f.write_str("the funnel mode allow_reentry needs strict_order"),
            Self::Together(word) => write!(f, "the funnel mode \"{word}\" cannot be joined with others"),
            Self::Bits(bits) => write!(f, "a funnel mode cannot be {bits}"),
        }
    }
}

impl std::error::Error for ModeError {}

impl ModeError {
    /// What may be written instead.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Bits(_) => "It is a sum of 1 (deduplication), 2 (fixed) and 4 (increase).".to_owned(),
            _ => format!("Modes are {}; {} say whose meaning they have.", WORDS.join(", "), Dialect::NAMES.join(", ")),
        }
    }
}

impl Mode {
    /// Reads words, separated by commas. The name of a dialect among them overrides `dialect`.
    ///
    /// # Errors
    /// Words that are unknown or do not go together.
    pub fn words(text: &str, dialect: Dialect) -> Result<Self, ModeError> {
        let words: Vec<String> = text.split(',').map(|word| word.trim().to_lowercase()).filter(|word| !word.is_empty()).collect();
        let dialect = Self::dialect(text, dialect);
        let mut rule = Self::default_rule(dialect);
        let mut other = None;
        let mut named = 0;
        for word in words.iter().filter(|word| Dialect::named(word).is_none()) {
            named += 1;
            match word.as_str() {
                "default" => named -= 1,
                "strict_deduplication" | "strict" => rule.deduplication = true,
                "strict_order" => rule.order = true,
                "strict_increase" | "timestamp_dedup" | "increase" => rule.increase = true,
                "strict_once" | "once" => rule.once = true,
                "allow_reentry" => rule.reentry = true,
                "deduplication" => other = Some((word, Self::Deduplication)),
                "fixed" => other = Some((word, Self::Fixed { unmatched_break: dialect == Dialect::Doris3 })),
                _ => return Err(ModeError::Unknown(word.clone())),
            }
        }
        match other {
            Some((word, _)) if named > 1 => Err(ModeError::Together(word.clone())),
            Some((_, mode)) => Ok(mode),
            None if rule.reentry && !rule.order => Err(ModeError::ReentryWithoutOrder),
            None => Ok(Self::Levels(rule)),
        }
    }

    /// The dialect that `text` names, or `dialect`.
    #[must_use]
    pub fn dialect(text: &str, dialect: Dialect) -> Dialect {
        text.split(',').filter_map(|word| Dialect::named(word.trim().to_lowercase().as_str())).next_back().unwrap_or(dialect)
    }

    /// Reads StarRocks's sum of bits.
    ///
    /// # Errors
    /// A number outside 0 to 7.
    pub fn bits(bits: i64) -> Result<Self, ModeError> {
        let first = LevelRule { first_only: true, ..LevelRule::default() };
        match bits {
            0 => Ok(Self::Levels(first)),
            4 => Ok(Self::Levels(LevelRule { increase: true, ..first })),
            1..=7 => Ok(Self::Bits(u8::try_from(bits).unwrap_or(0))),
            _ => Err(ModeError::Bits(bits)),
        }
    }

    /// What a dialect means by no word at all.
    fn default_rule(dialect: Dialect) -> LevelRule {
        LevelRule {
            once: matches!(dialect, Dialect::Doris41 | Dialect::Doris3),
            newest_only: dialect == Dialect::Clickhouse,
            first_only: dialect == Dialect::Starrocks,
            ..LevelRule::default()
        }
    }

    pub(super) const fn needs_unmatched(self) -> bool {
        match self {
            Self::Levels(rule) => rule.order,
            Self::Fixed { unmatched_break } => unmatched_break,
            Self::Deduplication | Self::Bits(_) => false,
        }
    }
}
