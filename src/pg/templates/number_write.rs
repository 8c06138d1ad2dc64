//! `to_char` for numbers: the value becomes a string of digits, which is then laid out under the template.

use super::digits::{Decimal, Number, float_fixed, float_scientific, roman};
use super::error::TemplateError;
use super::fields::Case;
use super::number::{NumberItem, NumberTemplate, Pattern, Shape, SignPlace};
use super::write::{ordinal_suffix, push_name};

/// A value's digits, ready to be laid out.
struct Digits {
    text: String,
    is_negative: bool,
    /// Digit patterns that have nothing to write before the number starts.
    leading: usize,
}

impl NumberTemplate {
    /// Appends a number to `out`. One that does not fit is written as `#`; an error means that PostgreSQL could not even
    /// compute with it. On an error `out` may have got a part of the text.
    pub(crate) fn write_number(&self, out: &mut String, value: Number) -> Result<(), TemplateError> {
        if self.items.is_empty() {
            return Ok(());
        }
        let mut shape = self.shape.clone();
        if shape.roman {
            // Nothing but `FM` counts beside `RN`.
            shape = Shape { roman: true, fill: shape.fill, ..Shape::default() };
            let digits = Digits { text: roman(roman_value(value)?), is_negative: false, leading: 0 };
            return Layout::new(out, shape, &digits).write(&self.items);
        }
        if shape.exponent {
            out.push_str(&exponent(value, &shape));
            return Ok(());
        }
        let digits = digits(value, &mut shape)?;
        Layout::new(out, shape, &digits).write(&self.items)
    }
}

fn roman_value(value: Number) -> Result<i32, TemplateError> {
    let in_int4 = |value: Option<i32>| value.ok_or_else(|| TemplateError::number_range("integer out of range"));
    match value {
        Number::Int4(value) => Ok(value),
        Number::Int8(value) => in_int4(i32::try_from(value).ok()),
        Number::Float4(value) => Ok(value.round_ties_even() as i32),
        Number::Float8(value) => Ok(value.round_ties_even() as i32),
        Number::Decimal(value) => in_int4(value.fixed(0, 0).parse().ok()),
    }
}

/// The number as `EEEE` shows it, with a blank where a minus would be.
fn exponent(value: Number, shape: &Shape) -> String {
    let places = shape.fraction_digits;
    let text = match value {
        Number::Int4(value) => float_scientific(value.into(), places),
        Number::Int8(value) => Decimal { unscaled: value.into(), scale: 0 }.scientific(places),
        Number::Decimal(value) => value.scientific(places),
        Number::Float4(value) if value.is_finite() => float_scientific(value.into(), places),
        Number::Float8(value) if value.is_finite() => float_scientific(value, places),
        Number::Float4(_) | Number::Float8(_) => {
            // Hash signs for the digits before and behind the point and for the four characters of the exponent.
            return format!(" {}.{}", "#".repeat(shape.whole_digits), "#".repeat(places + 4));
        }
    };
    if text.starts_with('-') { text } else { format!(" {text}") }
}

/// The number's digits with the point, if the template has one; hash signs if they are more than the template's.
fn digits(value: Number, shape: &mut Shape) -> Result<Digits, TemplateError> {
    let shift = if shape.shift { shape.shift_digits } else { 0 };
    shape.whole_digits += shift;
    let out_of_range = || TemplateError::number_range("bigint out of range");
    let whole = |value: i64, places: usize| Decimal { unscaled: value.into(), scale: 0 }.fixed(0, places);
    let places = shape.fraction_digits;
    let text = match value {
        Number::Int4(value) => {
            // The product wraps, and a factor that does not fit is the lowest integer.
            let factor = 10_i32.checked_pow(shift as u32).unwrap_or(i32::MIN);
            whole(value.wrapping_mul(if shape.shift { factor } else { 1 }).into(), places)
        }
        Number::Int8(value) => {
            let factor = 10_i64.checked_pow(shift as u32).ok_or_else(out_of_range)?;
            whole(value.checked_mul(factor).ok_or_else(out_of_range)?, places)
        }
        Number::Float4(value) => {
            let value = value * 10_f64.powf(shift as f64) as f32;
            float_digits(value.into(), f32::DIGITS, shape)
        }
        Number::Float8(value) => float_digits(value * 10_f64.powf(shift as f64), f64::DIGITS, shape),
        Number::Decimal(value) => value.fixed(shift, places),
    };
    let (is_negative, text) = match text.strip_prefix('-') {
        Some(text) => (true, text.to_owned()),
        None => (false, text),
    };
    let length = text.find('.').unwrap_or(text.len());
    if length > shape.whole_digits {
        let text = format!("{}.{}", "#".repeat(shape.whole_digits), "#".repeat(shape.fraction_digits));
        return Ok(Digits { text, is_negative, leading: 0 });
    }
    Ok(Digits { text, is_negative, leading: shape.whole_digits - length })
}

/// A float has no more digits than its type can tell apart: the rest is not written.
fn float_digits(value: f64, digits_max: u32, shape: &mut Shape) -> String {
    let whole = float_fixed(value.abs(), 0).len();
    shape.fraction_digits = shape.fraction_digits.min((digits_max as usize).saturating_sub(whole));
    float_fixed(value, shape.fraction_digits)
}

/// A number on its way into the template's positions.
struct Layout<'a> {
    out: &'a mut String,
    shape: Shape,
    digits: &'a [u8],
    text: &'a str,
    /// The next digit.
    next: usize,
    is_negative: bool,
    leading: usize,
    sign_place: Option<SignPlace>,
    brackets: bool,
    sign_done: bool,
    /// Digit positions passed.
    position: usize,
    /// The digit position that has the number's end behind it.
    end: Option<usize>,
    /// With `FM`: the last digit that is not a superfluous zero.
    last_relevant: Option<usize>,
    /// Whether the last position wrote a digit; separators between blanks are blanks.
    in_number: bool,
}

impl<'a> Layout<'a> {
    fn new(out: &'a mut String, shape: Shape, digits: &'a Digits) -> Self {
        let own_sign = shape.minus || shape.plus;
        // `PL` leaves the minus to the number.
        let only_plus = shape.plus && !shape.minus;
        let brackets = shape.brackets && !(shape.fill && !own_sign && !digits.is_negative);
        let plain_positive = !digits.is_negative && !shape.roman && shape.fill && shape.sign.is_none();
        let sign_place =
            shape.sign.map(
                |(place, before)| {
                    if before == shape.whole_digits && place == SignPlace::BeforeNumber { SignPlace::BehindNumber } else { place }
                },
            );
        let sign_done = if own_sign { !only_plus } else { plain_positive };
        let count = shape.whole_digits + shape.fraction_digits + usize::from(shape.point);
        let with_sign = usize::from(digits.leading > 0) + usize::from(!sign_done && digits.leading == 0);
        let end = (count + with_sign).checked_sub(2);
        Self {
            out,
            digits: digits.text.as_bytes(),
            text: &digits.text,
            next: 0,
            is_negative: digits.is_negative,
            leading: digits.leading,
            sign_place,
            brackets,
            sign_done,
            position: 0,
            end,
            last_relevant: last_relevant(&shape, digits),
            in_number: false,
            shape,
        }
    }

    fn write(mut self, items: &[NumberItem]) -> Result<(), TemplateError> {
        for item in items {
            let goes_on = match *item {
                NumberItem::Text(character) => {
                    self.out.push(character);
                    true
                }
                NumberItem::Pattern(pattern) => self.pattern(pattern)?,
            };
            if !goes_on {
                break;
            }
        }
        Ok(())
    }

    /// Writes one pattern. `false` where PostgreSQL's text ends early: it writes a zero byte there.
    fn pattern(&mut self, pattern: Pattern) -> Result<bool, TemplateError> {
        let fill = self.shape.fill;
        let or_blank = |shown: bool, character: char| match (shown, fill) {
            (true, _) => Some(character),
            (false, false) => Some(' '),
            (false, true) => None,
        };
        match pattern {
            Pattern::Digit | Pattern::Zero | Pattern::Point => return Ok(self.digit(pattern)),
            Pattern::Group => self.out.extend(or_blank(self.in_number, ',')),
            Pattern::Currency => self.out.push(' '),
            Pattern::Minus => self.out.extend(or_blank(self.is_negative, '-')),
            Pattern::Plus => self.out.extend(or_blank(!self.is_negative && !self.shape.roman, '+')),
            Pattern::PlusMinus if self.shape.roman => return Ok(false),
            Pattern::PlusMinus => self.out.push(if self.is_negative { '-' } else { '+' }),
            Pattern::Roman(case) => {
                let width: usize = if fill { 0 } else { 15 };
                self.out.extend(std::iter::repeat_n(' ', width.saturating_sub(self.text.len())));
                push_name(self.out, self.text, case, 0);
            }
            Pattern::Ordinal(case) => self.ordinal(case)?,
            Pattern::Sign | Pattern::Brackets | Pattern::Shift | Pattern::Exponent | Pattern::Fill | Pattern::Blank | Pattern::Ignored => {}
        }
        Ok(true)
    }

    fn ordinal(&mut self, case: Case) -> Result<(), TemplateError> {
        if self.shape.roman || self.digits.first() == Some(&b'#') || self.is_negative || self.shape.point {
            return Ok(());
        }
        if !self.digits.last().is_some_and(u8::is_ascii_digit) {
            return Err(TemplateError::new("22P02", format!("\"{}\" is not a number", self.text)));
        }
        push_name(self.out, ordinal_suffix(self.digits), case, 0);
        Ok(())
    }

    /// Writes one position of the number, with the sign before the first and behind the last.
    fn digit(&mut self, pattern: Pattern) -> bool {
        if self.shape.roman {
            return true;
        }
        self.in_number = false;
        self.sign_before();
        if self.position < self.leading {
            if self.shape.zero_start.is_some_and(|start| start <= self.position) {
                self.out.push('0');
                self.in_number = true;
            } else if !self.shape.fill {
                self.out.push(' ');
            }
        } else if !self.next_digit(pattern) {
            return false;
        }
        self.sign_behind();
        self.position += 1;
        true
    }

    fn next_digit(&mut self, pattern: Pattern) -> bool {
        let Some(&digit) = self.digits.get(self.next) else {
            // A superfluous position, unless `FM` has it left out.
            return self.last_relevant.is_some_and(|last| self.next > last) && pattern != Pattern::Zero;
        };
        if digit == b'.' {
            // A point with nothing behind it is written with `FM` only, and that is the only way to get one.
            self.out.push('.');
        } else if self.last_relevant.is_some_and(|last| self.next > last) && pattern != Pattern::Zero {
            // A zero that `FM` leaves out.
        } else if self.is_bare_zero() {
            if !self.shape.fill {
                self.out.push(' ');
            } else if self.ends_at_point() {
                self.out.push('0');
            }
        } else {
            self.out.push(char::from(digit));
            self.in_number = true;
        }
        self.next += 1;
        true
    }

    /// The sign, as soon as the number is about to start.
    fn sign_before(&mut self) {
        let starts = self.position >= self.leading || self.shape.zero_start == Some(self.position);
        if self.sign_done || !starts || (self.is_bare_zero() && !self.ends_at_point()) {
            return;
        }
        let sign = match self.sign_place {
            Some(SignPlace::BeforeNumber) => Some(if self.is_negative { '-' } else { '+' }),
            Some(SignPlace::BehindNumber) => return,
            None if self.is_negative => Some(if self.brackets { '<' } else { '-' }),
            None => (self.brackets || !self.shape.fill).then_some(' '),
        };
        self.out.extend(sign);
        self.sign_done = true;
    }

    /// The sign or bracket behind the last digit.
    fn sign_behind(&mut self) {
        if self.end != Some(self.position) || self.last_relevant == Some(self.next) {
            return;
        }
        if self.sign_done && self.brackets {
            self.out.push(if self.is_negative { '>' } else { ' ' });
        } else if self.sign_place == Some(SignPlace::BehindNumber) {
            self.out.push(if self.is_negative { '-' } else { '+' });
        }
    }

    /// The 0 of 0.5, which `9.9` does not write.
    fn is_bare_zero(&self) -> bool {
        self.shape.zero_start.is_none() && self.next == 0 && self.digits.first() == Some(&b'0') && self.shape.fraction_digits != 0
    }

    fn ends_at_point(&self) -> bool {
        self.last_relevant.is_some_and(|last| self.digits.get(last) == Some(&b'.'))
    }
}

/// With `FM`, the last character of the number that has to be written: superfluous zeros behind the point are not.
fn last_relevant(shape: &Shape, digits: &Digits) -> Option<usize> {
    if !shape.fill || !shape.point {
        return None;
    }
    let point = digits.text.find('.')?;
    let last = digits.text.rfind(|digit| digit != '0').map_or(point, |last| last.max(point));
    if shape.zero_end <= digits.leading {
        return Some(last);
    }
    // `0` patterns keep their zeros, as far as there are digits for them.
    Some(last.max((digits.text.len() - 1).min(shape.zero_end - digits.leading)))
}
