//! Number templates, compiled: a list of patterns and literals, and what they add up to.

use super::error::TemplateError;
use super::fields::Case;
use super::keywords::{starts_with_lower, take_literal};

/// One pattern of a number template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pattern {
    /// `9`
    Digit,
    /// `0`
    Zero,
    /// `.` and `D`
    Point,
    /// `,` and `G`
    Group,
    /// `S`
    Sign,
    /// `MI`
    Minus,
    /// `PL`
    Plus,
    /// `SG`
    PlusMinus,
    /// `PR`
    Brackets,
    /// `L`: a blank, as the `C` locale has no currency.
    Currency,
    /// `V`
    Shift,
    /// `EEEE`
    Exponent,
    /// `RN`
    Roman(Case),
    /// `TH`
    Ordinal(Case),
    /// `FM`
    Fill,
    /// `B`
    Blank,
    /// `C` and `SP`, which PostgreSQL knows and ignores.
    Ignored,
}

/// Patterns in capitals; all of them also exist in small letters. The first that fits is taken.
const KEYWORDS: &[(&str, Pattern)] = &[
    (",", Pattern::Group),
    (".", Pattern::Point),
    ("0", Pattern::Zero),
    ("9", Pattern::Digit),
    ("B", Pattern::Blank),
    ("C", Pattern::Ignored),
    ("D", Pattern::Point),
    ("EEEE", Pattern::Exponent),
    ("FM", Pattern::Fill),
    ("G", Pattern::Group),
    ("L", Pattern::Currency),
    ("MI", Pattern::Minus),
    ("PL", Pattern::Plus),
    ("PR", Pattern::Brackets),
    ("RN", Pattern::Roman(Case::Upper)),
    ("SG", Pattern::PlusMinus),
    ("SP", Pattern::Ignored),
    ("S", Pattern::Sign),
    ("TH", Pattern::Ordinal(Case::Upper)),
    ("V", Pattern::Shift),
];

/// A template for numbers.
#[derive(Debug, Clone)]
pub(crate) struct NumberTemplate {
    pub(super) items: Vec<NumberItem>,
    pub(super) shape: Shape,
}

/// One step of a number template.
#[derive(Debug, Clone, Copy)]
pub(super) enum NumberItem {
    Pattern(Pattern),
    Text(char),
}

/// Where `S` writes its sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SignPlace {
    BeforeNumber,
    BehindNumber,
}

/// What the patterns of a template add up to.
#[derive(Debug, Clone, Default)]
pub(super) struct Shape {
    /// Digits before the point, without those of `V`.
    pub(super) whole_digits: usize,
    /// Digits behind the point.
    pub(super) fraction_digits: usize,
    /// Digits behind `V`.
    pub(super) shift_digits: usize,
    /// Digits before the first `0`, if that is before the point.
    pub(super) zero_start: Option<usize>,
    /// Digits up to the last `0`.
    pub(super) zero_end: usize,
    /// `S`, and the digits before it.
    pub(super) sign: Option<(SignPlace, usize)>,
    pub(super) point: bool,
    pub(super) shift: bool,
    pub(super) fill: bool,
    pub(super) brackets: bool,
    pub(super) minus: bool,
    pub(super) plus: bool,
    pub(super) roman: bool,
    pub(super) exponent: bool,
    pub(super) blank: bool,
}

impl NumberTemplate {
    /// Compiles a template; some patterns exclude each other.
    pub(crate) fn try_new(text: &str) -> Result<Self, TemplateError> {
        let mut items = Vec::new();
        let mut shape = Shape::default();
        let mut rest = text;
        while !rest.is_empty() {
            if let Some((length, pattern)) = keyword(rest) {
                rest = &rest[length..];
                shape.add(pattern)?;
                items.push(NumberItem::Pattern(pattern));
            } else {
                rest = take_literal(rest, |character, _| items.push(NumberItem::Text(character)));
            }
        }
        Ok(Self { items, shape })
    }
}

fn keyword(text: &str) -> Option<(usize, Pattern)> {
    KEYWORDS.iter().find_map(|&(name, pattern)| {
        if text.starts_with(name) {
            return Some((name.len(), pattern));
        }
        starts_with_lower(text, name).then_some((
            name.len(),
            match pattern {
                Pattern::Roman(_) => Pattern::Roman(Case::Lower),
                Pattern::Ordinal(_) => Pattern::Ordinal(Case::Lower),
                other => other,
            },
        ))
    })
}

impl Shape {
    fn add(&mut self, pattern: Pattern) -> Result<(), TemplateError> {
        if self.exponent && pattern != Pattern::Exponent {
            return Err(TemplateError::syntax("\"EEEE\" must be the last pattern used"));
        }
        let mut refuse_if = Ok(());
        let mut refuse = |condition: bool, message: &str| {
            if condition && refuse_if.is_ok() {
                refuse_if = Err(TemplateError::syntax(message));
            }
        };
        let with_own_sign = self.minus || self.plus;
        match pattern {
            Pattern::Digit => refuse(self.brackets, "\"9\" must be ahead of \"PR\""),
            Pattern::Zero => refuse(self.brackets, "\"0\" must be ahead of \"PR\""),
            Pattern::Point => {
                refuse(self.point, "multiple decimal points");
                refuse(self.shift, "cannot use \"V\" and decimal point together");
            }
            Pattern::Shift => refuse(self.point, "cannot use \"V\" and decimal point together"),
            Pattern::Sign => {
                refuse(self.sign.is_some(), "cannot use \"S\" twice");
                refuse(with_own_sign || self.brackets, "cannot use \"S\" and \"PL\"/\"MI\"/\"SG\"/\"PR\" together");
            }
            Pattern::Minus => refuse(self.sign.is_some(), "cannot use \"S\" and \"MI\" together"),
            Pattern::Plus => refuse(self.sign.is_some(), "cannot use \"S\" and \"PL\" together"),
            Pattern::PlusMinus => refuse(self.sign.is_some(), "cannot use \"S\" and \"SG\" together"),
            Pattern::Brackets => {
                refuse(self.sign.is_some() || with_own_sign, "cannot use \"PR\" and \"S\"/\"PL\"/\"MI\"/\"SG\" together");
            }
            Pattern::Exponent => refuse(self.exponent, "cannot use \"EEEE\" twice"),
            _ => {}
        }
        refuse_if?;
        if pattern == Pattern::Exponent && self.excludes_exponent() {
            return Err(TemplateError::syntax("\"EEEE\" is incompatible with other formats")
                .detail("\"EEEE\" may only be used together with digit and decimal point patterns."));
        }
        self.count(pattern);
        Ok(())
    }

    fn excludes_exponent(&self) -> bool {
        self.blank || self.fill || self.sign.is_some() || self.brackets || self.minus || self.plus || self.roman || self.shift
    }

    fn count(&mut self, pattern: Pattern) {
        match pattern {
            Pattern::Digit if self.shift => self.shift_digits += 1,
            Pattern::Digit if self.point => self.fraction_digits += 1,
            Pattern::Digit => self.whole_digits += 1,
            Pattern::Zero => {
                if self.point {
                    self.fraction_digits += 1;
                } else {
                    self.zero_start = self.zero_start.or(Some(self.whole_digits));
                    self.whole_digits += 1;
                }
                self.zero_end = self.whole_digits + self.fraction_digits;
            }
            Pattern::Point => self.point = true,
            Pattern::Shift => self.shift = true,
            Pattern::Sign => {
                let place = if self.point { SignPlace::BehindNumber } else { SignPlace::BeforeNumber };
                // PostgreSQL remembers the digits before a sign only where it is ahead of the point.
                self.sign = Some((place, if self.point { 0 } else { self.whole_digits }));
            }
            Pattern::Minus => self.minus = true,
            Pattern::Plus => self.plus = true,
            Pattern::PlusMinus => (self.minus, self.plus) = (true, true),
            Pattern::Brackets => self.brackets = true,
            Pattern::Roman(_) => self.roman = true,
            Pattern::Exponent => self.exponent = true,
            Pattern::Fill => self.fill = true,
            Pattern::Blank => self.blank |= self.whole_digits == 0 && self.fraction_digits == 0 && self.zero_start.is_none(),
            Pattern::Group | Pattern::Currency | Pattern::Ordinal(_) | Pattern::Ignored => {}
        }
    }
}
