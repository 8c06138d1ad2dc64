//! Which PostgreSQL type an Arrow column is on the wire, and which Arrow type a declared parameter has.
//!
//! A field may say more than its Arrow type does: metadata [`TYPE_KEY`] names the PostgreSQL type of a catalog
//! column (`oid`, `name`, `char`, …), and `sql` says which relation a column of a result is of.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, IntervalUnit, Schema, TimeUnit};
use pgwire::api::Type;
use pgwire::messages::PgWireBackendMessage;
use pgwire::messages::data::{FieldDescription, RowDescription};

use super::sqlstate::{PgError, PgResult};
pub(crate) use crate::catalog::TYPE_KEY;
use crate::catalog::TextType;
use crate::sql::origin;

/// The type a column has on the wire.
pub(crate) fn field_type(field: &Field) -> Type {
    let named = field.metadata().get(TYPE_KEY).and_then(|name| match name.as_str() {
        "oid" => Some(Type::OID),
        "name" => Some(Type::NAME),
        "char" => Some(Type::CHAR),
        "regproc" => Some(Type::REGPROC),
        "regclass" => Some(Type::REGCLASS),
        "regtype" => Some(Type::REGTYPE),
        "json" => Some(Type::JSON),
        "uuid" => Some(Type::UUID),
        "uuid[]" => Some(Type::UUID_ARRAY),
        "json[]" => Some(Type::JSON_ARRAY),
        "xid" => Some(Type::XID),
        "oid[]" => Some(Type::OID_ARRAY),
        "record[]" => Some(Type::RECORD_ARRAY),
        "name[]" => Some(Type::NAME_ARRAY),
        "int2vector" => Some(Type::INT2_VECTOR),
        "oidvector" => Some(Type::OID_VECTOR),
        _ => None,
    });
    named.unwrap_or_else(|| data_type(field.data_type()))
}

/// The type an Arrow type has on the wire.
pub(crate) fn data_type(arrow: &DataType) -> Type {
    match arrow {
        DataType::Boolean => Type::BOOL,
        DataType::Int8 | DataType::UInt8 | DataType::Int16 => Type::INT2,
        DataType::UInt16 | DataType::Int32 => Type::INT4,
        DataType::UInt32 | DataType::Int64 => Type::INT8,
        DataType::UInt64 | DataType::Decimal32(..) | DataType::Decimal64(..) | DataType::Decimal128(..) | DataType::Decimal256(..) => {
            Type::NUMERIC
        }
        DataType::Float16 | DataType::Float32 => Type::FLOAT4,
        DataType::Float64 => Type::FLOAT8,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => Type::BYTEA,
        DataType::Date32 | DataType::Date64 => Type::DATE,
        DataType::Time32(_) | DataType::Time64(_) => Type::TIME,
        DataType::Timestamp(_, None) => Type::TIMESTAMP,
        DataType::Timestamp(_, Some(_)) => Type::TIMESTAMPTZ,
        DataType::Interval(_) | DataType::Duration(_) => Type::INTERVAL,
        DataType::Dictionary(_, value) => data_type(value),
        DataType::RunEndEncoded(_, value) => data_type(value.data_type()),
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::FixedSizeList(item, _)
        | DataType::ListView(item)
        | DataType::LargeListView(item) => array_of(&item_type(item)),
        DataType::Struct(_) | DataType::Map(..) | DataType::Union(..) => Type::JSON,
        DataType::Null | DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Type::TEXT,
    }
}

/// The type of texts, or of lists of texts, that are more than that.
pub(crate) fn text_type(text: TextType, arrow: &DataType) -> Type {
    let item = match text {
        TextType::Uuid => Type::UUID,
        TextType::Json => Type::JSON,
    };
    if arrow.is_list() { array_of(&item) } else { item }
}

/// The innermost element of nested lists: PostgreSQL's arrays have dimensions, not nesting.
fn item_type(item: &Field) -> Type {
    match item.data_type() {
        DataType::List(inner)
        | DataType::LargeList(inner)
        | DataType::FixedSizeList(inner, _)
        | DataType::ListView(inner)
        | DataType::LargeListView(inner) => item_type(inner),
        _ => field_type(item),
    }
}

fn array_of(item: &Type) -> Type {
    match *item {
        Type::BOOL => Type::BOOL_ARRAY,
        Type::INT2 => Type::INT2_ARRAY,
        Type::INT4 => Type::INT4_ARRAY,
        Type::INT8 => Type::INT8_ARRAY,
        Type::NUMERIC => Type::NUMERIC_ARRAY,
        Type::FLOAT4 => Type::FLOAT4_ARRAY,
        Type::FLOAT8 => Type::FLOAT8_ARRAY,
        Type::BYTEA => Type::BYTEA_ARRAY,
        Type::DATE => Type::DATE_ARRAY,
        Type::TIME => Type::TIME_ARRAY,
        Type::TIMESTAMP => Type::TIMESTAMP_ARRAY,
        Type::TIMESTAMPTZ => Type::TIMESTAMPTZ_ARRAY,
        Type::INTERVAL => Type::INTERVAL_ARRAY,
        Type::JSON => Type::JSON_ARRAY,
        Type::UUID => Type::UUID_ARRAY,
        Type::OID => Type::OID_ARRAY,
        Type::NAME => Type::NAME_ARRAY,
        Type::CHAR => Type::CHAR_ARRAY,
        _ => Type::TEXT_ARRAY,
    }
}

/// The element of an array type.
pub(crate) fn element_of(array: &Type) -> Option<Type> {
    match array.kind() {
        postgres_types::Kind::Array(item) => Some(item.clone()),
        _ => None,
    }
}

/// Bytes of a value in binary; −1 when they vary.
pub(crate) fn type_size(r#type: &Type) -> i16 {
    match *r#type {
        Type::BOOL | Type::CHAR => 1,
        Type::INT2 => 2,
        Type::INT4 | Type::FLOAT4 | Type::DATE | Type::OID | Type::REGPROC | Type::REGCLASS | Type::REGTYPE | Type::XID => 4,
        Type::INT8 | Type::FLOAT8 | Type::TIME | Type::TIMESTAMP | Type::TIMESTAMPTZ => 8,
        Type::INTERVAL | Type::UUID => 16,
        Type::NAME => 64,
        _ => -1,
    }
}

/// `numeric(p,s)` as PostgreSQL packs it; −1 for every other type.
pub(crate) fn type_modifier(arrow: &DataType) -> i32 {
    match arrow {
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale) => ((i32::from(*precision) << 16) | (i32::from(*scale) & 0x7ff)) + 4,
        DataType::Dictionary(_, value) => type_modifier(value),
        _ => -1,
    }
}

/// `RowDescription` of a schema. `formats` as in a Bind message: none = text, one = all, else one per column.
pub(crate) fn row_description(schema: &Schema, formats: &Formats) -> PgWireBackendMessage {
    let fields = schema.fields().iter().enumerate().map(|(index, field)| {
        let r#type = field_type(field);
        let name = field.name().replace('\0', "");
        let (size, modifier) = (type_size(&r#type), type_modifier(field.data_type()));
        let (table, column) = origin(field).unwrap_or_default();
        FieldDescription::new(name, table as i32, column, r#type.oid(), size, modifier, i16::from(formats.is_binary(index)))
    });
    PgWireBackendMessage::RowDescription(RowDescription::new(fields.collect()))
}

/// Which columns go out in binary.
#[derive(Debug, Clone, Default)]
pub(crate) struct Formats(Vec<i16>);

impl Formats {
    /// As a Bind message has them, checked against the columns.
    pub(crate) fn new(formats: Vec<i16>, columns: usize) -> PgResult<Self> {
        if formats.len() > 1 && formats.len() != columns {
            let count = formats.len();
            return Err(PgError::new("08P01", format!("bind message has {count} result formats but query has {columns} columns")));
        }
        Ok(Self(formats))
    }

    /// Whether column `index` goes out in binary.
    pub(crate) fn is_binary(&self, index: usize) -> bool {
        match self.0.as_slice() {
            [] => false,
            [all] => *all == 1,
            each => each.get(index) == Some(&1),
        }
    }
}

/// The Arrow type of a declared parameter type. `None` leaves it to the planner (`unknown`, or no type).
///
/// # Errors
/// 42704 for an OID that no type has here.
pub(crate) fn declared(oid: u32) -> PgResult<Option<DataType>> {
    if oid == 0 || oid == Type::UNKNOWN.oid() {
        return Ok(None);
    }
    let missing = || PgError::new("42704", format!("type with OID {oid} does not exist"));
    let r#type = Type::from_oid(oid).ok_or_else(missing)?;
    arrow_type(&r#type).map(Some).ok_or_else(missing)
}

/// The Arrow type that values of a PostgreSQL type are read into.
pub(crate) fn arrow_type(r#type: &Type) -> Option<DataType> {
    if let Some(item) = element_of(r#type) {
        return Some(DataType::List(Arc::new(Field::new_list_field(arrow_type(&item)?, true))));
    }
    Some(match *r#type {
        Type::BOOL => DataType::Boolean,
        Type::INT2 => DataType::Int16,
        Type::INT4 => DataType::Int32,
        Type::INT8 | Type::OID | Type::REGCLASS | Type::REGTYPE | Type::REGPROC | Type::XID => DataType::Int64,
        Type::FLOAT4 => DataType::Float32,
        Type::FLOAT8 => DataType::Float64,
        Type::NUMERIC => crate::sql::NUMERIC,
        Type::BYTEA => DataType::Binary,
        Type::DATE => DataType::Date32,
        Type::TIME => DataType::Time64(TimeUnit::Microsecond),
        Type::TIMESTAMP => DataType::Timestamp(TimeUnit::Microsecond, None),
        Type::TIMESTAMPTZ => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        Type::INTERVAL => DataType::Interval(IntervalUnit::MonthDayNano),
        Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME | Type::CHAR | Type::JSON | Type::JSONB | Type::UUID | Type::UNKNOWN => {
            DataType::Utf8
        }
        _ => return None,
    })
}
