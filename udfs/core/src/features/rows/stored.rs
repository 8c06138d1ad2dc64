//! Column types that are stored with a model, so that generated rows have those of the source.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use serde::{Deserialize, Serialize};

/// A column type as it is stored. What is not here (lists, structs, times of day) is not generated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::features) enum StoredType {
    Boolean,
    Int8,
    Int16,
    Int32,
    Int64,
    UInt8,
    UInt16,
    UInt32,
    UInt64,
    Float16,
    Float32,
    Float64,
    /// Digits in all, and behind the point.
    Decimal(u8, i8),
    Date32,
    Date64,
    /// Decimal digits of a second (0, 3, 6 or 9) and the zone.
    Timestamp(u8, Option<String>),
    Text,
    LargeText,
    TextView,
    Binary,
    LargeBinary,
    BinaryView,
}

impl StoredType {
    /// The type to store for a column; `None` when it is not generated.
    pub(super) fn of(data_type: &DataType) -> Option<Self> {
        Some(match data_type {
            DataType::Boolean => Self::Boolean,
            DataType::Int8 => Self::Int8,
            DataType::Int16 => Self::Int16,
            DataType::Int32 => Self::Int32,
            DataType::Int64 => Self::Int64,
            DataType::UInt8 => Self::UInt8,
            DataType::UInt16 => Self::UInt16,
            DataType::UInt32 => Self::UInt32,
            DataType::UInt64 => Self::UInt64,
            DataType::Float16 => Self::Float16,
            DataType::Float32 => Self::Float32,
            DataType::Float64 => Self::Float64,
            DataType::Decimal32(digits, behind) | DataType::Decimal64(digits, behind) | DataType::Decimal128(digits, behind) => {
                Self::Decimal(*digits, *behind)
            }
            DataType::Date32 => Self::Date32,
            DataType::Date64 => Self::Date64,
            DataType::Timestamp(unit, zone) => {
                let digits = match unit {
                    TimeUnit::Second => 0,
                    TimeUnit::Millisecond => 3,
                    TimeUnit::Microsecond => 6,
                    TimeUnit::Nanosecond => 9,
                };
                Self::Timestamp(digits, zone.as_deref().map(str::to_owned))
            }
            DataType::Utf8 => Self::Text,
            DataType::LargeUtf8 => Self::LargeText,
            DataType::Utf8View => Self::TextView,
            DataType::Binary | DataType::FixedSizeBinary(_) => Self::Binary,
            DataType::LargeBinary => Self::LargeBinary,
            DataType::BinaryView => Self::BinaryView,
            // Generated values are few: a dictionary would save nothing.
            DataType::Dictionary(_, values) => return Self::of(values),
            _ => return None,
        })
    }

    /// The Arrow type.
    pub(super) fn arrow(&self) -> DataType {
        match self {
            Self::Boolean => DataType::Boolean,
            Self::Int8 => DataType::Int8,
            Self::Int16 => DataType::Int16,
            Self::Int32 => DataType::Int32,
            Self::Int64 => DataType::Int64,
            Self::UInt8 => DataType::UInt8,
            Self::UInt16 => DataType::UInt16,
            Self::UInt32 => DataType::UInt32,
            Self::UInt64 => DataType::UInt64,
            Self::Float16 => DataType::Float16,
            Self::Float32 => DataType::Float32,
            Self::Float64 => DataType::Float64,
            Self::Decimal(digits, behind) => DataType::Decimal128(*digits, *behind),
            Self::Date32 => DataType::Date32,
            Self::Date64 => DataType::Date64,
            Self::Timestamp(digits, zone) => {
                let unit = match digits {
                    0 => TimeUnit::Second,
                    3 => TimeUnit::Millisecond,
                    6 => TimeUnit::Microsecond,
                    _ => TimeUnit::Nanosecond,
                };
                DataType::Timestamp(unit, zone.as_deref().map(Into::into))
            }
            Self::Text => DataType::Utf8,
            Self::LargeText => DataType::LargeUtf8,
            Self::TextView => DataType::Utf8View,
            Self::Binary => DataType::Binary,
            Self::LargeBinary => DataType::LargeBinary,
            Self::BinaryView => DataType::BinaryView,
        }
    }

    /// Whether it holds bytes.
    pub(super) fn is_binary(&self) -> bool {
        matches!(self, Self::Binary | Self::LargeBinary | Self::BinaryView)
    }

    /// Whether it is a time, whose number counts in units of `self`.
    pub(super) fn is_time(&self) -> bool {
        matches!(self, Self::Date32 | Self::Date64 | Self::Timestamp(..))
    }

    /// Whether its numbers are whole.
    pub(super) fn is_whole(&self) -> bool {
        let floats = matches!(self, Self::Float16 | Self::Float32 | Self::Float64 | Self::Decimal(..));
        self.is_number() && !floats
    }

    /// Whether it is a number or counts as one.
    pub(super) fn is_number(&self) -> bool {
        !matches!(self, Self::Boolean | Self::Text | Self::LargeText | Self::TextView) && !self.is_binary()
    }
}

/// Name and type of a generated column; a version's record holds them, so that a statement can be planned without reading the
/// model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowField {
    /// Its name.
    pub name: String,
    pub(super) data_type: StoredType,
}

/// The schema of generated rows; every column may be NULL.
#[must_use]
pub fn schema_of(fields: &[RowField]) -> SchemaRef {
    Arc::new(Schema::new(fields.iter().map(|field| Field::new(&field.name, field.data_type.arrow(), true)).collect::<Vec<_>>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_come_back() {
        let types = [
            DataType::Boolean,
            DataType::Int8,
            DataType::UInt64,
            DataType::Float32,
            DataType::Decimal128(10, 2),
            DataType::Date32,
            DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            DataType::Timestamp(TimeUnit::Nanosecond, None),
            DataType::Utf8View,
            DataType::BinaryView,
        ];
        for data_type in types {
            let stored = StoredType::of(&data_type).unwrap();
            assert_eq!(stored.arrow(), data_type);
            assert_eq!(serde_json::from_str::<StoredType>(&serde_json::to_string(&stored).unwrap()).unwrap(), stored);
        }
        assert_eq!(StoredType::of(&DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))), Some(StoredType::Text));
        assert_eq!(StoredType::of(&DataType::new_list(DataType::Int32, true)), None);
    }
}
