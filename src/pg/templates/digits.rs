//! Numbers as decimal digits, rounded as PostgreSQL's `numeric` and the C library's `printf` do it.

/// A decimal number: `unscaled` / 10^`scale`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Decimal {
    /// All digits.
    pub(crate) unscaled: i128,
    /// How many of them stand behind the point.
    pub(crate) scale: i32,
}

/// A number of one of PostgreSQL's types, which differ in rounding and in what is too large.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Number {
    /// `integer`
    Int4(i32),
    /// `bigint`
    Int8(i64),
    /// `real`
    Float4(f32),
    /// `double precision`
    Float8(f64),
    /// `numeric`
    Decimal(Decimal),
}

impl Decimal {
    /// The number times 10^`shift` with `places` digits behind the point, halves rounded away from zero.
    pub(super) fn fixed(self, shift: usize, places: usize) -> String {
        let scale = i64::from(self.scale) - shift as i64;
        let mut digits = self.unscaled.unsigned_abs().to_string();
        if scale < 0 && self.unscaled != 0 {
            digits.push_str(&"0".repeat(scale.unsigned_abs() as usize));
        }
        let scale = scale.max(0) as usize;
        let digits = round(format!("{digits:0>width$}", width = scale + 1), scale, places);
        let is_negative = self.unscaled < 0 && digits.bytes().any(|digit| digit != b'0');
        let (whole, fraction) = digits.split_at(digits.len() - places);
        let point = if places > 0 { "." } else { "" };
        format!("{}{whole}{point}{fraction}", if is_negative { "-" } else { "" })
    }

    /// One digit before the point and `places` behind it, with a power of ten. Where rounding makes the one digit a 10,
    /// it stays one, as in PostgreSQL.
    pub(super) fn scientific(self, places: usize) -> String {
        let digits = self.unscaled.unsigned_abs().to_string();
        let behind = digits.len() - 1;
        let exponent = if self.unscaled == 0 { 0 } else { behind as i64 - i64::from(self.scale) };
        let digits = round(digits, behind, places);
        let (whole, fraction) = digits.split_at(digits.len() - places);
        let point = if places > 0 { "." } else { "" };
        format!("{}{whole}{point}{fraction}{}", if self.unscaled < 0 { "-" } else { "" }, exponent_text(exponent))
    }
}

/// Brings digits, of which `scale` are behind the point, to `places` of them, halves rounded up.
fn round(digits: String, scale: usize, places: usize) -> String {
    if scale <= places {
        return digits + &"0".repeat(places - scale);
    }
    let (kept, dropped) = digits.split_at(digits.len() - (scale - places));
    let mut kept = kept.as_bytes().to_vec();
    let mut carry = dropped.as_bytes().first().is_some_and(|digit| *digit >= b'5');
    for digit in kept.iter_mut().rev() {
        if !carry {
            break;
        }
        carry = *digit == b'9';
        *digit = if carry { b'0' } else { *digit + 1 };
    }
    let kept: String = kept.into_iter().map(char::from).collect();
    if carry { format!("1{kept}") } else { kept }
}

/// `%.*f`
pub(super) fn float_fixed(value: f64, places: usize) -> String {
    non_finite(value).map_or_else(|| format!("{value:.places$}"), str::to_owned)
}

/// `%.*e`
pub(super) fn float_scientific(value: f64, places: usize) -> String {
    let text = format!("{value:.places$e}");
    match text.split_once('e') {
        Some((digits, exponent)) => format!("{digits}{}", exponent_text(exponent.parse().unwrap_or(0))),
        None => text,
    }
}

fn non_finite(value: f64) -> Option<&'static str> {
    match value {
        _ if value.is_nan() => Some("NaN"),
        f64::INFINITY => Some("Infinity"),
        f64::NEG_INFINITY => Some("-Infinity"),
        _ => None,
    }
}

/// The power of ten, at least two digits.
fn exponent_text(exponent: i64) -> String {
    format!("e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
}

/// A number from 1 to 3999 in Roman numerals; 15 hash signs for any other.
pub(super) fn roman(value: i32) -> String {
    const NUMERALS: [(i32, &str); 13] = [
        (1000, "M"),
        (900, "CM"),
        (500, "D"),
        (400, "CD"),
        (100, "C"),
        (90, "XC"),
        (50, "L"),
        (40, "XL"),
        (10, "X"),
        (9, "IX"),
        (5, "V"),
        (4, "IV"),
        (1, "I"),
    ];
    if !(1..=3999).contains(&value) {
        return "#".repeat(15);
    }
    let mut rest = value;
    let mut text = String::new();
    for (worth, numeral) in NUMERALS {
        while rest >= worth {
            text.push_str(numeral);
            rest -= worth;
        }
    }
    text
}
