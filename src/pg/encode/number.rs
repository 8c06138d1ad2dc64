//! Numbers as PostgreSQL writes them: shortest floats, exact numerics.

use arrow::datatypes::i256;
use bytes::{BufMut, BytesMut};

/// Shortest digits that read back the same, laid out as PostgreSQL does: fixed between 1e-4 and 1e15.
pub(super) fn write_f64(value: f64, output: &mut BytesMut) {
    if !write_special(value.is_nan(), value.is_infinite(), value.is_sign_negative(), output) {
        write_digits(ryu::Buffer::new().format_finite(value), 15, output);
    }
}

/// The same for single precision: fixed between 1e-4 and 1e6.
pub(super) fn write_f32(value: f32, output: &mut BytesMut) {
    if !write_special(value.is_nan(), value.is_infinite(), value.is_sign_negative(), output) {
        write_digits(ryu::Buffer::new().format_finite(value), 6, output);
    }
}

fn write_special(nan: bool, infinite: bool, negative: bool, output: &mut BytesMut) -> bool {
    if nan {
        output.put_slice(b"NaN");
    } else if infinite {
        output.put_slice(if negative { b"-Infinity" } else { b"Infinity" });
    }
    nan || infinite
}

/// Lays ryu's digits out anew. `text` is like `-12.5`, `0.0001` or `1.25e-7`.
fn write_digits(text: &str, fixed_below: i32, output: &mut BytesMut) {
    let (text, negative) = text.strip_prefix('-').map_or((text, false), |text| (text, true));
    if negative {
        output.put_u8(b'-');
    }
    let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    // Digits without leading and trailing zeros, and the power of ten of the first.
    let mut digits = [0_u8; 32];
    let mut count = 0;
    for digit in whole.bytes().chain(fraction.bytes()) {
        if (count > 0 || digit != b'0') && count < digits.len() {
            digits[count] = digit;
            count += 1;
        }
    }
    let leading = whole.bytes().chain(fraction.bytes()).take_while(|digit| *digit == b'0').count() as i32;
    let first = exponent + whole.len() as i32 - 1 - leading;
    while count > 0 && digits[count - 1] == b'0' {
        count -= 1;
    }
    let digits = &digits[..count];
    match digits {
        [] => output.put_u8(b'0'),
        digits if (-4..fixed_below).contains(&first) => write_fixed(digits, first, output),
        [head, tail @ ..] => {
            output.put_u8(*head);
            if !tail.is_empty() {
                output.put_u8(b'.');
                output.put_slice(tail);
            }
            output.put_slice(if first < 0 { b"e-" } else { b"e+" });
            if first.abs() < 10 {
                output.put_u8(b'0');
            }
            output.put_slice(itoa::Buffer::new().format(first.abs()).as_bytes());
        }
    }
}

fn write_fixed(digits: &[u8], first: i32, output: &mut BytesMut) {
    if first < 0 {
        output.put_slice(b"0.");
        output.put_bytes(b'0', (-first - 1) as usize);
        output.put_slice(digits);
        return;
    }
    let whole = first as usize + 1;
    if digits.len() <= whole {
        output.put_slice(digits);
        output.put_bytes(b'0', whole - digits.len());
    } else {
        output.put_slice(&digits[..whole]);
        output.put_u8(b'.');
        output.put_slice(&digits[whole..]);
    }
}

/// A decimal as its unscaled digits: at most 78 of them, most significant first, without leading zeros.
#[derive(Debug)]
pub(super) struct Digits {
    negative: bool,
    digits: [u8; 80],
    start: usize,
}

impl Digits {
    pub(super) fn from_u64(value: u64) -> Self {
        Self::from_text(itoa::Buffer::new().format(value))
    }

    pub(super) fn from_i128(value: i128) -> Self {
        Self::from_text(itoa::Buffer::new().format(value))
    }

    /// Splits in halves below 10^38, so that each is printed by the fast path.
    pub(super) fn from_i256(value: i256) -> Self {
        value.to_i128().map_or_else(|| Self::from_text(&value.to_string()), Self::from_i128)
    }

    fn from_text(text: &str) -> Self {
        let (text, negative) = text.strip_prefix('-').map_or((text, false), |text| (text, true));
        let text = text.trim_start_matches('0').as_bytes();
        let mut digits = [b'0'; 80];
        let start = digits.len() - text.len().min(80);
        digits[start..].copy_from_slice(&text[..text.len().min(80)]);
        Self { negative, digits, start }
    }

    fn digits(&self) -> &[u8] {
        &self.digits[self.start..]
    }

    /// Value × 10^−scale, with exactly `scale` decimals.
    pub(super) fn write_text(&self, scale: i32, output: &mut BytesMut) {
        let digits = self.digits();
        if self.negative {
            output.put_u8(b'-');
        }
        if scale <= 0 {
            if digits.is_empty() {
                output.put_u8(b'0');
            } else {
                output.put_slice(digits);
                output.put_bytes(b'0', scale.unsigned_abs() as usize);
            }
            return;
        }
        let scale = scale as usize;
        let whole = digits.len().saturating_sub(scale);
        if whole == 0 {
            output.put_u8(b'0');
        } else {
            output.put_slice(&digits[..whole]);
        }
        output.put_u8(b'.');
        output.put_bytes(b'0', scale.saturating_sub(digits.len()));
        output.put_slice(&digits[whole..]);
    }

    /// PostgreSQL's binary numeric: base-10000 digits, weight of the first, sign, decimals shown.
    pub(super) fn write_binary(&self, scale: i32, output: &mut BytesMut) {
        let digits = self.digits();
        // Pad so that the decimal point falls between groups of four.
        let tail = (4 - scale.rem_euclid(4)) % 4;
        let power_of_last = -scale - tail;
        let total = digits.len() + tail as usize;
        let lead = (4 - total % 4) % 4;
        let mut groups = [0_i16; 24];
        let count = (total + lead) / 4;
        for (index, digit) in digits.iter().enumerate() {
            let at = lead + index;
            groups[at / 4] += i16::from(digit - b'0') * [1000, 100, 10, 1][at % 4];
        }
        let mut groups = &groups[..if digits.is_empty() { 0 } else { count }];
        let weight = power_of_last / 4 + groups.len() as i32 - 1;
        while let [rest @ .., 0] = groups {
            groups = rest;
        }
        let empty = groups.is_empty();
        output.put_i16(groups.len() as i16);
        output.put_i16(if empty { 0 } else { weight as i16 });
        output.put_u16(if self.negative && !empty { 0x4000 } else { 0 });
        output.put_u16(scale.max(0) as u16);
        for group in groups {
            output.put_i16(*group);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: impl FnOnce(&mut BytesMut)) -> String {
        let mut output = BytesMut::new();
        write(&mut output);
        String::from_utf8(output.to_vec()).unwrap()
    }

    #[test]
    fn floats_read_as_postgres_writes_them() {
        for (value, expected) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (-1.5, "-1.5"),
            (100.0, "100"),
            (123_456_789_012_345.0, "123456789012345"),
            (1e15, "1e+15"),
            (1e14, "100000000000000"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (1.25e-7, "1.25e-07"),
            (1e100, "1e+100"),
            (f64::MAX, "1.7976931348623157e+308"),
            (5e-324, "5e-324"),
            (0.1 + 0.2, "0.30000000000000004"),
            (f64::INFINITY, "Infinity"),
            (f64::NEG_INFINITY, "-Infinity"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(text(|output| write_f64(value, output)), expected);
        }
        for (value, expected) in [(1e6_f32, "1e+06"), (100_000.0, "100000"), (0.1, "0.1"), (3.402_823_5e38, "3.4028235e+38")] {
            assert_eq!(text(|output| write_f32(value, output)), expected);
        }
    }

    #[test]
    fn numerics_keep_their_decimals() {
        for (value, scale, expected) in [
            (0, 0, "0"),
            (0, 2, "0.00"),
            (5, 2, "0.05"),
            (-12345, 2, "-123.45"),
            (12, -2, "1200"),
            (i128::MAX, 38, "1.70141183460469231731687303715884105727"),
        ] {
            assert_eq!(text(|output| Digits::from_i128(value).write_text(scale, output)), expected);
        }
    }

    #[test]
    fn binary_numerics_have_groups_of_four() {
        let binary = |value: i128, scale| {
            let mut output = BytesMut::new();
            Digits::from_i128(value).write_binary(scale, &mut output);
            output.chunks(2).map(|pair| i16::from_be_bytes([pair[0], pair[1]])).collect::<Vec<_>>()
        };
        assert_eq!(binary(0, 2), [0, 0, 0, 2]);
        assert_eq!(binary(1, 0), [1, 0, 0, 0, 1]);
        assert_eq!(binary(10_000, 0), [1, 1, 0, 0, 1]);
        assert_eq!(binary(-12_345, 2), [2, 0, 0x4000, 2, 123, 4500]);
        assert_eq!(binary(5, 3), [1, -1, 0, 3, 50]);
        assert_eq!(binary(1_234_567_890, 1), [3, 2, 0, 1, 1, 2345, 6789], "123456789.0");
        assert_eq!(binary(12, -2), [1, 0, 0, 0, 1200]);
    }
}
