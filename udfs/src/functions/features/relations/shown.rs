//! The values of a column as keys that are ordered like them, and keys as a person reads them.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Decimal128Type, Float64Type, Int64Type, TimeUnit, TimestampMicrosecondType};
use chrono::DateTime;

use crate::error::{Error, Result};
use crate::kernels::prepare::histogram::Scale;
use crate::kernels::prepare::profile::ColumnProfile;

/// How the values of a column are read and written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown {
    Integer,
    Double,
    /// With so many digits after the point.
    Decimal(u8, i8),
    Date,
    Time,
    /// With a time zone.
    Instant,
    Text,
    /// Nothing but whether it is there.
    Opaque,
}

impl Shown {
    pub(super) fn of(data_type: &DataType) -> Self {
        match data_type {
            DataType::Dictionary(_, value) => Self::of(value),
            DataType::UInt64 => Self::Decimal(20, 0),
            found if found.is_integer() => Self::Integer,
            DataType::Float16 | DataType::Float32 | DataType::Float64 | DataType::Decimal256(..) => Self::Double,
            DataType::Decimal32(precision, scale) | DataType::Decimal64(precision, scale) | DataType::Decimal128(precision, scale) => {
                Self::Decimal(*precision, *scale)
            }
            DataType::Date32 | DataType::Date64 => Self::Date,
            DataType::Timestamp(_, None) => Self::Time,
            DataType::Timestamp(_, Some(_)) => Self::Instant,
            found if found.is_string() => Self::Text,
            DataType::Boolean | DataType::Time32(_) | DataType::Time64(_) | DataType::Interval(_) | DataType::Duration(_) => Self::Text,
            _ => Self::Opaque,
        }
    }

    /// Whether quantiles, and for numbers mean and deviation, mean something.
    pub(super) const fn is_ordered(self) -> bool {
        !matches!(self, Self::Text | Self::Opaque)
    }

    pub(super) const fn is_number(self) -> bool {
        matches!(self, Self::Integer | Self::Double | Self::Decimal(..))
    }

    pub(super) const fn scale(self) -> Scale {
        match self {
            Self::Date | Self::Time | Self::Instant => Scale::Times,
            _ => Scale::Numbers,
        }
    }

    /// Adds the rows of an array to a profile.
    pub(super) fn add(self, array: &ArrayRef, profile: &mut ColumnProfile) -> Result<()> {
        let to =
            |data_type: DataType| cast(array, &data_type).map_err(|error| Error::internal(format!("a column cannot be read: {error}")));
        match self {
            Self::Opaque => {
                let missing = array.logical_null_count() as u64;
                profile.add_missing(missing);
                profile.rows += array.len() as u64 - missing;
            }
            Self::Integer => {
                let array = to(DataType::Int64)?;
                each(array.as_primitive::<Int64Type>().iter(), profile, |value, profile| profile.add(&integer_key(value), value as f64));
            }
            Self::Double => {
                let array = to(DataType::Float64)?;
                let values = array.as_primitive::<Float64Type>().iter().map(|value| value.filter(|value| !value.is_nan()));
                each(values, profile, |value, profile| profile.add(&double_key(value), value));
            }
            Self::Decimal(precision, scale) => {
                let array = to(DataType::Decimal128(precision, scale))?;
                let unit = 10_f64.powi(i32::from(scale));
                each(array.as_primitive::<Decimal128Type>().iter(), profile, |value, profile| {
                    profile.add(&((value ^ i128::MIN) as u128).to_be_bytes(), value as f64 / unit);
                });
            }
            Self::Date | Self::Time | Self::Instant => {
                let zone = (self == Self::Instant).then(|| "UTC".into());
                let array = to(DataType::Timestamp(TimeUnit::Microsecond, zone))?;
                each(array.as_primitive::<TimestampMicrosecondType>().iter(), profile, |value, profile| {
                    profile.add(&integer_key(value), value as f64);
                });
            }
            Self::Text => {
                let array = to(DataType::Utf8)?;
                each(array.as_string::<i32>().iter(), profile, |value, profile| profile.add(value.as_bytes(), f64::NAN));
            }
        }
        Ok(())
    }

    /// A key as text.
    pub(super) fn text(self, key: &[u8]) -> String {
        let eight = || key.try_into().map(u64::from_be_bytes).unwrap_or_default();
        match self {
            Self::Integer => ((eight() as i64) ^ i64::MIN).to_string(),
            Self::Double => {
                let ordered = eight();
                f64::from_bits(if ordered >> 63 == 1 { ordered ^ (1 << 63) } else { !ordered }).to_string()
            }
            Self::Decimal(_, scale) => {
                let value = key.try_into().map(u128::from_be_bytes).unwrap_or_default() as i128 ^ i128::MIN;
                decimal_text(value, scale)
            }
            Self::Date | Self::Time | Self::Instant => self.time_text(eight() as i64 ^ i64::MIN),
            Self::Text | Self::Opaque => String::from_utf8_lossy(key).into_owned(),
        }
    }

    /// A quantile as text.
    pub(super) fn quantile_text(self, value: f64) -> String {
        match self {
            Self::Date | Self::Time | Self::Instant => self.time_text(value.round() as i64),
            // Fifteen digits: what interpolation leaves in the last place is of no use to a reader.
            _ if value.fract() != 0.0 => format!("{value:.14e}").parse().unwrap_or(value).to_string(),
            _ => value.to_string(),
        }
    }

    fn time_text(self, us: i64) -> String {
        let Some(time) = DateTime::from_timestamp_micros(us) else { return us.to_string() };
        let form = match self {
            Self::Date => "%Y-%m-%d",
            Self::Instant => "%Y-%m-%d %H:%M:%S%.f+00",
            _ => "%Y-%m-%d %H:%M:%S%.f",
        };
        time.format(form).to_string()
    }
}

/// Walks over values; runs of missing ones are counted.
fn each<T>(values: impl Iterator<Item = Option<T>>, profile: &mut ColumnProfile, mut add: impl FnMut(T, &mut ColumnProfile)) {
    for value in values {
        match value {
            Some(value) => add(value, profile),
            None => profile.add_missing(1),
        }
    }
}

fn integer_key(value: i64) -> [u8; 8] {
    ((value ^ i64::MIN) as u64).to_be_bytes()
}

fn double_key(value: f64) -> [u8; 8] {
    // Minus zero is zero.
    let bits = (value + 0.0).to_bits();
    (if bits >> 63 == 0 { bits | (1 << 63) } else { !bits }).to_be_bytes()
}

fn decimal_text(value: i128, scale: i8) -> String {
    let digits = value.unsigned_abs().to_string();
    let sign = if value < 0 { "-" } else { "" };
    let Ok(scale) = usize::try_from(scale) else { return format!("{sign}{digits}{}", "0".repeat(usize::from(scale.unsigned_abs()))) };
    if scale == 0 {
        return format!("{sign}{digits}");
    }
    let digits = format!("{digits:0>width$}", width = scale + 1);
    let (whole, rest) = digits.split_at(digits.len() - scale);
    format!("{sign}{whole}.{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_ordered_like_values_and_read_back() {
        let integers = [i64::MIN, -5, 0, 7, i64::MAX];
        assert!(integers.windows(2).all(|pair| integer_key(pair[0]) < integer_key(pair[1])));
        let doubles = [f64::NEG_INFINITY, -1.5, -1e-300, 0.0, 2.0, f64::INFINITY];
        assert!(doubles.windows(2).all(|pair| double_key(pair[0]) < double_key(pair[1])));
        assert_eq!(Shown::Integer.text(&integer_key(-5)), "-5");
        assert_eq!((Shown::Double.text(&double_key(-1.5)), Shown::Double.text(&double_key(-0.0))), ("-1.5".into(), "0".into()));
        assert_eq!(
            (decimal_text(-5, 2), decimal_text(12345, 2), decimal_text(7, 0), decimal_text(7, -2)),
            ("-0.05".into(), "123.45".into(), "7".into(), "700".into())
        );
        assert_eq!(Shown::Date.time_text(86_400_000_000), "1970-01-02");
        assert_eq!(Shown::Instant.time_text(1_500_000), "1970-01-01 00:00:01.500+00");
    }
}
