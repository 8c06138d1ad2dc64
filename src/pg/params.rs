//! Parameter values: from the bytes of a Bind message, in text or binary, to scalars of the planned type.

use arrow::datatypes::DataType;
use bytes::{Buf, Bytes};
use datafusion::scalar::ScalarValue;
use pgwire::api::Type;

use super::message::utf8;
use super::sqlstate::{PgError, PgResult};
use super::types::{arrow_type, element_of};
use crate::catalog::TextType;
pub(crate) use crate::sql::array_words;

const DAY_US: i64 = 86_400_000_000;
/// 1970-01-01 to 2000-01-01 in days, where PostgreSQL's binary dates begin.
const EPOCH_DAYS: i32 = 10_957;
const EPOCH_US: i64 = EPOCH_DAYS as i64 * DAY_US;

/// Reads one value. `declared` is the type the client speaks, `planned` the type the plan was made with, `zone` the
/// session's time zone (for texts without an offset).
///
/// # Errors
/// 22P02, 22003, 22007 and 22P03, as PostgreSQL words them.
pub(crate) fn decode(value: Option<&Bytes>, binary: bool, declared: &Type, planned: &DataType, zone: &str) -> PgResult<ScalarValue> {
    let Some(bytes) = value else {
        return ScalarValue::try_from(planned).map_err(PgError::from);
    };
    let scalar = if binary { from_binary(bytes.clone(), declared)? } else { from_text(utf8(bytes)?, declared, zone)? };
    if planned == &DataType::Null || scalar.data_type() == *planned {
        return Ok(scalar);
    }
    scalar.cast_to(planned).map_err(|error| {
        let (code, message) = match planned {
            DataType::Timestamp(..) | DataType::Date32 => ("22008", "timestamp out of range".to_owned()),
            DataType::Decimal128(..) | DataType::Decimal256(..) => ("22003", "numeric field overflow".to_owned()),
            planned => ("22P02", format!("parameter of type {} cannot be used as {planned}", declared.name())),
        };
        PgError::new(code, message).detail(error.to_string())
    })
}

fn from_text(text: &str, r#type: &Type, zone: &str) -> PgResult<ScalarValue> {
    if let Some(item) = element_of(r#type) {
        return text_array(text, &item, zone);
    }
    let trimmed = text.trim();
    Ok(match *r#type {
        Type::BOOL => ScalarValue::Boolean(Some(boolean(trimmed).ok_or_else(|| syntax("boolean", text))?)),
        Type::INT2 => ScalarValue::Int16(Some(integer(trimmed, "smallint")?)),
        Type::INT4 => ScalarValue::Int32(Some(integer(trimmed, "integer")?)),
        Type::INT8 => ScalarValue::Int64(Some(integer(trimmed, "bigint")?)),
        Type::OID | Type::REGCLASS | Type::REGTYPE | Type::REGPROC | Type::XID => ScalarValue::Int64(Some(integer(trimmed, "oid")?)),
        Type::FLOAT4 => ScalarValue::Float32(Some(float(trimmed, "real", f32::is_infinite)?)),
        Type::FLOAT8 => ScalarValue::Float64(Some(float(trimmed, "double precision", f64::is_infinite)?)),
        Type::NUMERIC => numeric(trimmed)?,
        Type::BYTEA => ScalarValue::Binary(Some(bytea(text).ok_or_else(|| match text.strip_prefix("\\x") {
            Some(_) => PgError::new("22023", "invalid hexadecimal data"),
            None => syntax("bytea", text),
        })?)),
        Type::DATE | Type::TIME | Type::TIMESTAMP | Type::TIMESTAMPTZ | Type::INTERVAL => datetime(trimmed, r#type, zone)?,
        Type::UUID => ScalarValue::Utf8(Some(TextType::Uuid.read(text)?.into_owned())),
        _ => ScalarValue::Utf8(Some(text.to_owned())),
    })
}

fn datetime(text: &str, r#type: &Type, zone: &str) -> PgResult<ScalarValue> {
    let arrow = match (arrow_type(r#type), r#type) {
        (Some(DataType::Timestamp(unit, _)), &Type::TIMESTAMPTZ) => DataType::Timestamp(unit, Some(zone.into())),
        (Some(arrow), _) => arrow,
        (None, _) => return Err(PgError::internal("a type of dates has no Arrow type")),
    };
    let wrong = || PgError::from(crate::error::datetime(sql_name(r#type), text));
    // Years are counted from 1 on here; the letters must not be dropped as a part that says nothing.
    if text.len() > 2 && text.as_bytes()[text.len() - 2..].eq_ignore_ascii_case(b"bc") {
        return Err(PgError::new("22008", format!("date/time field value out of range: \"{text}\"")));
    }
    // A date may come with a time, and a time stamp without one.
    let text = match *r#type {
        Type::DATE => text.split([' ', 'T']).next().unwrap_or(text),
        Type::TIMESTAMP => without_offset(text),
        _ => text,
    };
    let spelled_out = match *r#type {
        Type::INTERVAL => super::interval::spelled_out(text),
        Type::TIMESTAMP | Type::TIMESTAMPTZ => super::compat::timestamp_spelled_out(text),
        _ => None,
    };
    let scalar = ScalarValue::try_from_string(spelled_out.unwrap_or_else(|| text.to_owned()), &arrow).map_err(|_| wrong())?;
    match arrow_type(r#type) {
        _ if scalar.is_null() => Err(wrong()),
        Some(target) if target != arrow => scalar.cast_to(&target).map_err(|_| wrong()),
        _ => Ok(scalar),
    }
}

/// A time stamp without zone has no use for an offset: PostgreSQL drops it unread, and drivers send it all the same.
fn without_offset(text: &str) -> &str {
    let Some(time) = text.find([' ', 'T']) else { return text };
    text[time..].find(['+', '-', 'Z', 'z']).map_or(text, |offset| text[..time + offset].trim_end())
}

fn from_binary(mut bytes: Bytes, r#type: &Type) -> PgResult<ScalarValue> {
    if let Some(item) = element_of(r#type) {
        return binary_array(bytes, &item);
    }
    let size = match *r#type {
        Type::BOOL => Some(1),
        Type::INT2 => Some(2),
        Type::INT4 | Type::FLOAT4 | Type::DATE | Type::OID | Type::REGCLASS | Type::REGTYPE | Type::REGPROC | Type::XID => Some(4),
        Type::INT8 | Type::FLOAT8 | Type::TIME | Type::TIMESTAMP | Type::TIMESTAMPTZ => Some(8),
        Type::INTERVAL | Type::UUID => Some(16),
        _ => None,
    };
    if size.is_some_and(|size| size != bytes.len()) {
        return Err(incorrect());
    }
    let range = || PgError::new("22008", "timestamp out of range");
    Ok(match *r#type {
        Type::BOOL => ScalarValue::Boolean(Some(bytes.get_u8() != 0)),
        Type::INT2 => ScalarValue::Int16(Some(bytes.get_i16())),
        Type::INT4 => ScalarValue::Int32(Some(bytes.get_i32())),
        Type::INT8 => ScalarValue::Int64(Some(bytes.get_i64())),
        Type::OID | Type::REGCLASS | Type::REGTYPE | Type::REGPROC | Type::XID => ScalarValue::Int64(Some(bytes.get_u32().into())),
        Type::FLOAT4 => ScalarValue::Float32(Some(bytes.get_f32())),
        Type::FLOAT8 => ScalarValue::Float64(Some(bytes.get_f64())),
        Type::NUMERIC => binary_numeric(bytes)?,
        Type::BYTEA => ScalarValue::Binary(Some(bytes.to_vec())),
        Type::DATE => ScalarValue::Date32(Some(bytes.get_i32().checked_add(EPOCH_DAYS).ok_or_else(range)?)),
        Type::TIME => ScalarValue::Time64Microsecond(Some(bytes.get_i64())),
        Type::TIMESTAMP => ScalarValue::TimestampMicrosecond(Some(bytes.get_i64().checked_add(EPOCH_US).ok_or_else(range)?), None),
        Type::TIMESTAMPTZ => {
            ScalarValue::TimestampMicrosecond(Some(bytes.get_i64().checked_add(EPOCH_US).ok_or_else(range)?), Some("UTC".into()))
        }
        Type::INTERVAL => {
            let (us, days, months) = (bytes.get_i64(), bytes.get_i32(), bytes.get_i32());
            let nanoseconds = us.checked_mul(1000).ok_or_else(|| PgError::new("22008", "interval out of range"))?;
            ScalarValue::new_interval_mdn(months, days, nanoseconds)
        }
        Type::UUID => ScalarValue::Utf8(Some(uuid::Uuid::from_slice(&bytes).map_err(|_| incorrect())?.to_string())),
        Type::JSONB => {
            if bytes.is_empty() || bytes.get_u8() != 1 {
                return Err(incorrect());
            }
            ScalarValue::Utf8(Some(utf8(&bytes)?.to_owned()))
        }
        _ => ScalarValue::Utf8(Some(utf8(&bytes)?.to_owned())),
    })
}

/// Elements of any number of dimensions, read as one list.
fn binary_array(mut bytes: Bytes, item: &Type) -> PgResult<ScalarValue> {
    let take = |bytes: &mut Bytes| if bytes.remaining() >= 4 { Ok(bytes.get_i32()) } else { Err(incorrect()) };
    let dimensions = take(&mut bytes)?;
    let (_flags, oid) = (take(&mut bytes)?, take(&mut bytes)? as u32);
    if oid != item.oid() {
        return Err(PgError::new("42804", "wrong element type"));
    }
    let mut count = usize::from(dimensions > 0);
    match dimensions {
        0 => {}
        1 => {
            count = usize::try_from(take(&mut bytes)?).map_err(|_| incorrect())?;
            take(&mut bytes)?;
        }
        _ => return Err(PgError::new("0A000", "parameters that are multidimensional arrays are not supported")),
    }
    if count > bytes.remaining() / 4 {
        return Err(incorrect());
    }
    let mut values = Vec::with_capacity(count);
    let arrow = arrow_type(item).unwrap_or(DataType::Utf8);
    for _ in 0..count {
        values.push(match take(&mut bytes)? {
            -1 => ScalarValue::try_from(&arrow)?,
            length => {
                let length = usize::try_from(length).ok().filter(|length| *length <= bytes.remaining()).ok_or_else(incorrect)?;
                from_binary(bytes.split_to(length), item)?
            }
        });
    }
    if bytes.has_remaining() {
        return Err(incorrect());
    }
    list(values, &arrow)
}

/// An array of one type: numerics come with as many decimals as each has.
fn list(mut values: Vec<ScalarValue>, arrow: &DataType) -> PgResult<ScalarValue> {
    let scales = values.iter().filter(|value| !value.is_null());
    let scale = scales.filter_map(|value| if let ScalarValue::Decimal128(_, _, scale) = value { Some(*scale) } else { None }).max();
    let arrow = match (arrow, scale) {
        (DataType::Decimal128(precision, _), Some(scale)) => DataType::Decimal128(*precision, scale),
        _ => arrow.clone(),
    };
    for value in &mut values {
        if value.data_type() != arrow && matches!(arrow, DataType::Decimal128(..)) {
            *value = value.cast_to(&arrow).map_err(|_| PgError::new("22003", "numeric field overflow"))?;
        }
    }
    Ok(ScalarValue::List(ScalarValue::new_list_nullable(&values, &arrow)))
}

/// `{1,NULL,"a b"}`, of one dimension.
fn text_array(text: &str, item: &Type, zone: &str) -> PgResult<ScalarValue> {
    let words = array_words(text).ok_or_else(|| PgError::new("22P02", format!("malformed array literal: \"{text}\"")))?;
    let arrow = arrow_type(item).unwrap_or(DataType::Utf8);
    let value = |word: Option<String>| match word {
        Some(word) => from_text(&word, item, zone),
        None => Ok(ScalarValue::try_from(&arrow)?),
    };
    let values = words.into_iter().map(value).collect::<PgResult<Vec<_>>>()?;
    list(values, &arrow)
}

fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "t" | "tr" | "tru" | "true" | "y" | "ye" | "yes" | "on" | "1" => Some(true),
        "f" | "fa" | "fal" | "fals" | "false" | "n" | "no" | "of" | "off" | "0" => Some(false),
        _ => None,
    }
}

/// A number that is infinite only when it says so.
fn float<T: std::str::FromStr + Copy>(text: &str, name: &str, is_infinite: fn(T) -> bool) -> PgResult<T> {
    let value: T = text.parse().map_err(|_| syntax(name, text))?;
    if is_infinite(value) && text.bytes().any(|byte| byte.is_ascii_digit()) {
        return Err(PgError::new("22003", format!("\"{text}\" is out of range for type {name}")));
    }
    Ok(value)
}

fn integer<T: TryFrom<i64>>(text: &str, name: &str) -> PgResult<T> {
    let wide: i128 = text.parse().map_err(|_| syntax(name, text))?;
    i64::try_from(wide)
        .ok()
        .and_then(|value| T::try_from(value).ok())
        .ok_or_else(|| PgError::new("22003", format!("value \"{text}\" is out of range for type {name}")))
}

/// A decimal with as many decimals as it has, up to 38 digits in all.
fn numeric(text: &str) -> PgResult<ScalarValue> {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().map_err(|_| syntax("numeric", text))?),
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let (negative, whole) = match whole.strip_prefix('-') {
        Some(whole) => (true, whole),
        None => (false, whole.strip_prefix('+').unwrap_or(whole)),
    };
    let digits = format!("{whole}{fraction}");
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(syntax("numeric", text));
    }
    let scale = i32::try_from(fraction.len()).unwrap_or(i32::MAX).saturating_sub(exponent);
    decimal(&digits, scale, negative)
}

/// `digits` × 10^−scale.
fn decimal(digits: &str, mut scale: i32, negative: bool) -> PgResult<ScalarValue> {
    let range = || PgError::new("22003", "value overflows numeric format").detail("A numeric parameter has at most 38 digits.");
    let mut digits = digits.trim_start_matches('0').to_owned();
    if digits.is_empty() {
        digits.push('0');
        scale = scale.clamp(0, 38);
    }
    if scale < 0 {
        if scale < -38 {
            return Err(range());
        }
        digits.extend(std::iter::repeat_n('0', scale.unsigned_abs() as usize));
        scale = 0;
    }
    while scale > 38 && digits.ends_with('0') {
        digits.pop();
        scale -= 1;
    }
    let scale = i8::try_from(scale).ok().filter(|scale| *scale <= 38).ok_or_else(range)?;
    let value: i128 = digits.parse().map_err(|_| range())?;
    if digits.len() > 38 {
        return Err(range());
    }
    Ok(ScalarValue::Decimal128(Some(if negative { -value } else { value }), 38, scale))
}

fn binary_numeric(mut bytes: Bytes) -> PgResult<ScalarValue> {
    if bytes.remaining() < 8 {
        return Err(incorrect());
    }
    let (count, weight) = (usize::from(bytes.get_u16()), i32::from(bytes.get_i16()));
    let (sign, scale) = (bytes.get_u16(), i32::from(bytes.get_u16()));
    if bytes.remaining() != 2 * count {
        return Err(incorrect());
    }
    if !matches!(sign, 0 | 0x4000) {
        return Err(PgError::new("0A000", "numeric NaN and infinity are not supported"));
    }
    let mut digits = String::with_capacity(4 * count);
    for _ in 0..count {
        let group = bytes.get_u16();
        if group > 9999 {
            return Err(incorrect());
        }
        digits.push_str(&format!("{group:04}"));
    }
    // The last group has weight `weight − count + 1`; then bring it to the scale that was declared.
    let mut power = 4 * (weight - count as i32 + 1);
    while -power > scale && digits.ends_with('0') {
        digits.pop();
        power += 1;
    }
    while -power < scale && digits.len() < 77 {
        digits.push('0');
        power -= 1;
    }
    decimal(&digits, -power, sign == 0x4000)
}

/// `\x` and hex digits, or the old escape format.
pub(crate) fn bytea(text: &str) -> Option<Vec<u8>> {
    if let Some(hex) = text.strip_prefix("\\x") {
        let digits: Vec<u8> = hex.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
        if !digits.len().is_multiple_of(2) {
            return None;
        }
        let nibble = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        return digits.chunks(2).map(|pair| Some((nibble(pair[0])? << 4) | nibble(pair[1])?)).collect();
    }
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let [byte, tail @ ..] = rest {
        rest = tail;
        match (byte, tail) {
            (b'\\', [b'\\', after @ ..]) => {
                bytes.push(b'\\');
                rest = after;
            }
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..]) => {
                bytes.push(((a - b'0') << 6) | ((b - b'0') << 3) | (c - b'0'));
                rest = after;
            }
            (b'\\', _) => return None,
            (byte, _) => bytes.push(*byte),
        }
    }
    Some(bytes)
}

fn sql_name(r#type: &Type) -> &'static str {
    match *r#type {
        Type::DATE => "date",
        Type::TIME => "time",
        Type::TIMESTAMP => "timestamp",
        Type::TIMESTAMPTZ => "timestamp with time zone",
        _ => "interval",
    }
}

fn syntax(name: &str, text: &str) -> PgError {
    PgError::new("22P02", format!("invalid input syntax for type {name}: \"{text}\""))
}

fn incorrect() -> PgError {
    PgError::new("22P03", "incorrect binary data format in bind parameter")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn days(year: i32, month: u32, day: u32) -> i32 {
        (chrono::NaiveDate::from_ymd_opt(year, month, day).unwrap() - chrono::NaiveDate::default()).num_days() as i32
    }

    fn text(value: &str, r#type: &Type) -> PgResult<ScalarValue> {
        from_text(value, r#type, "UTC")
    }

    #[test]
    fn texts_are_read_as_postgres_reads_them() {
        assert_eq!(text(" on ", &Type::BOOL).unwrap(), ScalarValue::Boolean(Some(true)));
        assert_eq!(text("-7", &Type::INT2).unwrap(), ScalarValue::Int16(Some(-7)));
        assert_eq!(text("Infinity", &Type::FLOAT8).unwrap(), ScalarValue::Float64(Some(f64::INFINITY)));
        assert_eq!(text("1.50", &Type::NUMERIC).unwrap(), ScalarValue::Decimal128(Some(150), 38, 2));
        assert_eq!(text("-1.5e3", &Type::NUMERIC).unwrap(), ScalarValue::Decimal128(Some(-1500), 38, 0));
        assert_eq!(text("\\x00Ff", &Type::BYTEA).unwrap(), ScalarValue::Binary(Some(vec![0, 255])));
        assert_eq!(text("a\\\\\\001", &Type::BYTEA).unwrap(), ScalarValue::Binary(Some(vec![b'a', b'\\', 1])));
        assert_eq!(text("2024-02-29", &Type::DATE).unwrap(), ScalarValue::Date32(Some(days(2024, 2, 29))));
        assert_eq!(text("2024-02-29 00:00:00", &Type::DATE).unwrap(), ScalarValue::Date32(Some(days(2024, 2, 29))));
        let stamp = i64::from(days(2024, 2, 29)) * DAY_US + 3_600_000_000;
        assert_eq!(text("2024-02-29 01:00:00", &Type::TIMESTAMP).unwrap(), ScalarValue::TimestampMicrosecond(Some(stamp), None));
        assert_eq!(text("2024-02-29 01:00:00+05:30", &Type::TIMESTAMP).unwrap(), ScalarValue::TimestampMicrosecond(Some(stamp), None));
        for offset in ["2024-02-29 03:00:00+02", "2024-02-29 03:00:00+02:00", "2024-02-29T01:00:00Z"] {
            assert_eq!(text(offset, &Type::TIMESTAMPTZ).unwrap(), ScalarValue::TimestampMicrosecond(Some(stamp), Some("UTC".into())));
        }
        let berlin = from_text("2024-02-29 02:00:00", &Type::TIMESTAMPTZ, "Europe/Berlin").unwrap();
        assert_eq!(berlin, ScalarValue::TimestampMicrosecond(Some(stamp), Some("UTC".into())));
    }

    #[test]
    fn intervals_may_have_a_clock() {
        let expected = ScalarValue::new_interval_mdn(14, 3, 14_706_500_000_000);
        assert_eq!(text("1 year 2 mons 3 days 04:05:06.5", &Type::INTERVAL).unwrap(), expected);
        assert_eq!(text("14 months 3 days 14706.5 seconds", &Type::INTERVAL).unwrap(), expected);
    }

    #[test]
    fn bad_texts_have_their_codes() {
        for (value, r#type, code) in [
            ("x", Type::INT4, "22P02"),
            ("", Type::INT4, "22P02"),
            ("40000", Type::INT2, "22003"),
            ("maybe", Type::BOOL, "22P02"),
            ("2024-13-01", Type::DATE, "22008"),
            ("0044-03-15 BC", Type::DATE, "22008"),
            ("1e39", Type::FLOAT4, "22003"),
            ("nonsense", Type::TIMESTAMPTZ, "22007"),
            ("{1,2", Type::INT4_ARRAY, "22P02"),
            ("{1,}", Type::INT4_ARRAY, "22P02"),
            ("1e99", Type::NUMERIC, "22003"),
            ("\\xabc", Type::BYTEA, "22023"),
        ] {
            assert_eq!(text(value, &r#type).unwrap_err().sqlstate, code, "{value}");
        }
    }

    #[test]
    fn arrays_keep_nulls_and_quotes() {
        let ScalarValue::List(list) = text(r#"{a,NULL,"NULL","q\"\\",""}"#, &Type::TEXT_ARRAY).unwrap() else { panic!() };
        let items = arrow::array::cast::as_string_array(list.values()).iter().collect::<Vec<_>>();
        assert_eq!(items, [Some("a"), None, Some("NULL"), Some("q\"\\"), Some("")]);
        // Blanks around elements mean nothing: drivers write `{"r", "v"}`.
        let ScalarValue::List(list) = text(r#" { "r", " v " , w x ,null } "#, &Type::TEXT_ARRAY).unwrap() else { panic!() };
        let items = arrow::array::cast::as_string_array(list.values()).iter().collect::<Vec<_>>();
        assert_eq!(items, [Some("r"), Some(" v "), Some("w x"), None]);
        let ScalarValue::List(list) = text("{}", &Type::FLOAT4_ARRAY).unwrap() else { panic!() };
        assert_eq!(list.values().len(), 0);
        let bytes = Bytes::from_static(&[0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 2, 188, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 4, 0x3f, 0x80, 0, 0]);
        let ScalarValue::List(list) = from_binary(bytes, &Type::FLOAT4_ARRAY).unwrap() else { panic!() };
        assert_eq!(list.values().len(), 1);
    }

    #[test]
    fn numerics_of_an_array_keep_their_values() {
        let expected = text("{12.50,NULL,-0.001}", &Type::NUMERIC_ARRAY).unwrap();
        let ScalarValue::List(list) = &expected else { panic!("{expected:?}") };
        assert_eq!(ScalarValue::try_from_array(&list.value(0), 0).unwrap(), ScalarValue::Decimal128(Some(12_500), 38, 3));
        assert_eq!(ScalarValue::try_from_array(&list.value(0), 2).unwrap(), ScalarValue::Decimal128(Some(-1), 38, 3));
        let numerics: [&[u16]; 2] = [&[2, 0, 0, 2, 12, 5000], &[1, 0xffff, 0x4000, 3, 10]];
        let mut bytes: Vec<u8> = [1, 1, 1700, 3, 1].into_iter().flat_map(i32::to_be_bytes).collect();
        let mut element = |groups: &[u16]| {
            bytes.extend((groups.len() as i32 * 2).to_be_bytes());
            bytes.extend(groups.iter().flat_map(|group| group.to_be_bytes()));
        };
        element(numerics[0]);
        element(numerics[1]);
        element(numerics[1]);
        let ScalarValue::List(list) = from_binary(bytes.into(), &Type::NUMERIC_ARRAY).unwrap() else { panic!() };
        assert_eq!(ScalarValue::try_from_array(&list.value(0), 0).unwrap(), ScalarValue::Decimal128(Some(12_500), 38, 3));
        assert_eq!(ScalarValue::try_from_array(&list.value(0), 1).unwrap(), ScalarValue::Decimal128(Some(-1), 38, 3));
    }

    #[test]
    fn binary_numerics_are_exact() {
        let of = |groups: &[u16]| from_binary(groups.iter().flat_map(|group| group.to_be_bytes()).collect(), &Type::NUMERIC);
        assert_eq!(of(&[2, 0, 0x4000, 2, 123, 4500]).unwrap(), ScalarValue::Decimal128(Some(-12345), 38, 2));
        assert_eq!(of(&[1, 1, 0, 0, 3]).unwrap(), ScalarValue::Decimal128(Some(30_000), 38, 0));
        assert_eq!(of(&[0, 0, 0, 0]).unwrap(), ScalarValue::Decimal128(Some(0), 38, 0));
        assert_eq!(of(&[0, 0, 0xC000, 0]).unwrap_err().sqlstate, "0A000");
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..48), text in ".{0,24}") {
            for r#type in [Type::BOOL, Type::INT4, Type::NUMERIC, Type::INTERVAL, Type::JSONB, Type::UUID, Type::FLOAT4_ARRAY, Type::TEXT_ARRAY, Type::DATE] {
                let _ = from_binary(Bytes::from(bytes.clone()), &r#type);
                let _ = from_text(&text, &r#type, "UTC");
            }
        }

        #[test]
        fn numerics_come_back(value in any::<i64>(), scale in 0_i32..12) {
            let digits = value.unsigned_abs().to_string();
            let expected = decimal(&digits, scale, value < 0).unwrap();
            let text = format!("{}{digits}e-{scale}", if value < 0 { "-" } else { "" });
            prop_assert_eq!(numeric(&text).unwrap(), expected);
        }
    }
}
