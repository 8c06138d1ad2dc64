//! `to_number`: every pattern takes its character off the text, fitting or not.

use super::digits::Decimal;
use super::error::TemplateError;
use super::number::{NumberItem, NumberTemplate, Pattern, Shape};

/// The digits behind the point of a number that `V` divides.
const SHIFTED_SCALE: usize = 16;

/// A text while it is read. Patterns count bytes, as in PostgreSQL.
struct Reader<'a> {
    text: &'a [u8],
    at: usize,
    shape: &'a Shape,
    sign: Option<u8>,
    /// Digits and at most one point.
    number: String,
    whole_digits: usize,
    fraction_digits: usize,
    point: bool,
}

impl NumberTemplate {
    /// Reads a number.
    pub(crate) fn read_number(&self, text: &str) -> Result<Decimal, TemplateError> {
        let shape = &self.shape;
        for (unsupported, name) in [(shape.exponent, "EEEE"), (shape.roman, "RN")] {
            if unsupported {
                return Err(TemplateError::unsupported(format!("\"{name}\" not supported for input")));
            }
        }
        let mut reader = Reader {
            text: text.as_bytes(),
            at: 0,
            shape,
            sign: None,
            number: String::new(),
            whole_digits: 0,
            fraction_digits: 0,
            point: false,
        };
        for item in &self.items {
            if reader.at >= reader.text.len() {
                break;
            }
            match item {
                NumberItem::Text(_) => reader.skip_character(),
                NumberItem::Pattern(pattern) => reader.pattern(*pattern),
            }
        }
        reader.finish()
    }
}

impl Reader<'_> {
    fn pattern(&mut self, pattern: Pattern) {
        let byte = self.text[self.at];
        match pattern {
            Pattern::Digit | Pattern::Zero => self.digit(true),
            Pattern::Point => self.digit(false),
            Pattern::Group => self.at += usize::from(!self.shape.fill && byte == b','),
            Pattern::Minus => self.own_sign(b"-"),
            Pattern::Plus => self.own_sign(b"+"),
            Pattern::PlusMinus => self.own_sign(b"-+"),
            Pattern::Currency => self.skip_other(1),
            Pattern::Ordinal(_) if !self.shape.point => self.skip_other(2),
            _ => {}
        }
    }

    /// A sign with a place of its own; something else there is skipped unless it belongs to a number.
    fn own_sign(&mut self, signs: &[u8]) {
        let byte = self.text[self.at];
        if signs.contains(&byte) {
            self.sign = Some(byte);
            self.at += 1;
        } else {
            self.skip_other(1);
        }
    }

    /// A position of the number: blank, sign, digit or point, and the sign behind the last digit.
    fn digit(&mut self, is_digit: bool) {
        self.position(is_digit);
        self.at += 1;
    }

    fn position(&mut self, is_digit: bool) {
        if self.peek(0) == Some(b' ') {
            self.at += 1;
        }
        if is_digit && self.sign.is_none() && self.whole_digits + self.fraction_digits == 0 {
            self.sign_before();
        }
        let Some(byte) = self.peek(0) else { return };
        let mut was_read = false;
        if byte.is_ascii_digit() {
            if self.point && self.fraction_digits == self.shape.fraction_digits {
                return;
            }
            self.number.push(char::from(byte));
            *(if self.point { &mut self.fraction_digits } else { &mut self.whole_digits }) += 1;
            was_read = true;
        } else if self.shape.point && !self.point && byte == b'.' {
            self.number.push('.');
            self.point = true;
            was_read = true;
        }
        if self.sign.is_none() && self.whole_digits + self.fraction_digits > 0 {
            self.sign_behind(byte, was_read);
        }
    }

    fn sign_before(&mut self) {
        let Some(byte) = self.peek(0) else { return };
        let sign = match byte {
            b'-' | b'+' => byte,
            b'<' if self.shape.brackets => b'-',
            _ => return,
        };
        self.sign = Some(sign);
        self.at += 1;
    }

    /// `S` stands right behind the last digit; where `MI`, `PL` and `SG` stand is not always known.
    fn sign_behind(&mut self, byte: u8, was_read: bool) {
        if self.shape.sign.is_some() {
            let next = self.peek(1).filter(|next| was_read && matches!(next, b'-' | b'+'));
            if next.is_some() {
                self.sign = next;
                self.at += 1;
            }
        } else if !was_read && (self.shape.plus || self.shape.minus) && matches!(byte, b'-' | b'+') {
            self.sign = Some(byte);
        }
    }

    fn peek(&self, ahead: usize) -> Option<u8> {
        self.text.get(self.at + ahead).copied()
    }

    fn skip_character(&mut self) {
        self.at += match self.text[self.at] {
            0xc0..0xe0 => 2,
            0xe0..0xf0 => 3,
            0xf0.. => 4,
            _ => 1,
        };
    }

    /// Skips up to `count` characters that cannot be a part of a number.
    fn skip_other(&mut self, count: usize) {
        for _ in 0..count {
            if self.peek(0).is_none_or(|byte| b"0123456789.,+-".contains(&byte)) {
                return;
            }
            self.skip_character();
        }
    }

    fn finish(self) -> Result<Decimal, TemplateError> {
        let number = self.number.strip_suffix('.').unwrap_or(&self.number);
        let sign = char::from(self.sign.unwrap_or(b' '));
        if !number.bytes().any(|byte| byte.is_ascii_digit()) {
            return Err(TemplateError::new("22P02", format!("invalid input syntax for type numeric: \"{sign}{number}\"")));
        }
        let scale = self.fraction_digits;
        let precision = self.shape.whole_digits + self.shape.shift_digits + scale;
        let digits: String = number.chars().filter(char::is_ascii_digit).collect();
        let significant = digits.trim_start_matches('0').len();
        let overflow = || TemplateError::number_range("numeric field overflow");
        let whole_max = precision - scale;
        if significant > scale + whole_max {
            let bound = if whole_max > 0 { format!("10^{whole_max}") } else { "1".to_owned() };
            return Err(overflow()
                .detail(format!("A field with precision {precision}, scale {scale} must round to an absolute value less than {bound}.")));
        }
        // More digits than a decimal of 128 bits has: PostgreSQL would go on.
        let mut unscaled: i128 = digits.parse().map_err(|_| overflow())?;
        let mut scale = scale;
        if self.shape.shift {
            scale = SHIFTED_SCALE;
            let kept = SHIFTED_SCALE.checked_sub(self.shape.shift_digits);
            let factor = kept.map_or(0, |kept| 10_i128.pow(kept as u32));
            unscaled = unscaled.checked_mul(factor).ok_or_else(overflow)?;
        }
        Ok(Decimal { unscaled: if sign == '-' { -unscaled } else { unscaled }, scale: scale as i32 })
    }
}
