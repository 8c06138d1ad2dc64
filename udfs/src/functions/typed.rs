//! Types of the arguments of functions that take many kinds: what is cast, what is refused, and constants among columns.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use arrow::datatypes::{DataType, IntervalUnit, Schema, TimeUnit};
use arrow::record_batch::RecordBatch;
use datafusion::common::ScalarValue;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, Signature, Volatility};

use super::relation::{Argument, Kind, sql_type};
use crate::error::{Code, Error, Result};

/// What an argument may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Want {
    /// Any number; a double.
    Number,
    /// A whole number or a boolean; a 64-bit integer.
    Whole,
    /// A timestamp or a date; microseconds UTC.
    Time,
    /// A length of time: an interval or its text.
    Duration,
    /// Text.
    Text,
    /// Anything that has a text: categories, user ids.
    Name,
    /// The same, read many times: a view stays a view.
    Key,
    /// Bytes: a bitmap, an index.
    Bytes,
    /// A whole number that may be an id; 64 bits, unsigned where it was.
    Id,
    /// An array of such.
    Ids,
}

impl Want {
    fn sql_name(self) -> &'static str {
        match self {
            Self::Number => "a number",
            Self::Whole => "a whole number or a boolean",
            Self::Time => "a timestamp",
            Self::Duration => "an interval",
            Self::Text => "a text",
            Self::Name | Self::Key => "a text or a number",
            Self::Bytes => "a bitmap",
            Self::Id => "a whole number",
            Self::Ids => "an array of whole numbers",
        }
    }

    fn fits(self, given: &DataType) -> bool {
        let text = matches!(given, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
        let value = match given {
            DataType::Dictionary(_, value) => value,
            other => other,
        };
        match self {
            _ if given.is_null() => true,
            Self::Number => given.is_numeric(),
            Self::Whole => given.is_integer() || *given == DataType::Boolean,
            Self::Time => text || matches!(given, DataType::Timestamp(..) | DataType::Date32 | DataType::Date64),
            Self::Duration => text || matches!(given, DataType::Interval(_) | DataType::Duration(_)),
            Self::Text => text || matches!(value, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View),
            Self::Name | Self::Key => {
                !value.is_nested() && !matches!(value, DataType::Binary | DataType::LargeBinary | DataType::BinaryView)
            }
            Self::Bytes => {
                matches!(value, DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_))
            }
            Self::Id => given.is_integer(),
            Self::Ids => match given {
                DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
                    item.data_type().is_integer() || item.data_type().is_null()
                }
                _ => false,
            },
        }
    }

    /// The type that a value of another type is cast to.
    pub(super) fn target_type(self) -> DataType {
        self.target(&DataType::Null)
    }

    fn target(self, given: &DataType) -> DataType {
        match self {
            Self::Number => DataType::Float64,
            Self::Whole => DataType::Int64,
            Self::Time => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Self::Duration if matches!(given, DataType::Interval(_) | DataType::Duration(_)) => {
                DataType::Interval(IntervalUnit::MonthDayNano)
            }
            Self::Key if *given == DataType::Utf8View => DataType::Utf8View,
            Self::Duration | Self::Text | Self::Name | Self::Key => DataType::Utf8,
            Self::Bytes => DataType::Binary,
            Self::Id if *given == DataType::UInt64 => DataType::UInt64,
            Self::Id => DataType::Int64,
            Self::Ids => match given {
                DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
                    DataType::new_list(Self::Id.target(item.data_type()), true)
                }
                _ => DataType::new_list(DataType::Int64, true),
            },
        }
    }
}

/// The arguments of a function: names, kinds, and how many must be given.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) name: &'static str,
    pub(super) arguments: &'static [(&'static str, Want)],
    pub(super) required: usize,
}

impl Shape {
    /// Arguments bound by position or by name.
    pub(super) fn signature(&self) -> Signature {
        let mut signature = Signature::user_defined(Volatility::Immutable);
        signature.parameter_names = Some(self.arguments.iter().map(|(name, _)| (*name).to_owned()).collect());
        signature
    }

    /// What fits is cast; anything else stays and [`check`](Self::check) refuses it: of an error here the engine would keep the
    /// text alone.
    pub(super) fn coerce(&self, given: &[DataType]) -> Vec<DataType> {
        let kinds = self.arguments.iter().map(|(_, want)| Some(*want)).chain(std::iter::repeat(None));
        let cast = |(found, want): (&DataType, Option<Want>)| match want.filter(|want| want.fits(found)) {
            Some(want) => want.target(found),
            None => found.clone(),
        };
        given.iter().zip(kinds).map(cast).collect()
    }

    /// Refuses another number of arguments (42883) and other types (42804).
    ///
    /// # Errors
    /// Those.
    pub(super) fn check(&self, given: &[DataType]) -> Result<()> {
        let Self { name, arguments, required } = self;
        if given.len() < *required || given.len() > arguments.len() {
            let most = arguments.len();
            let takes = if *required == most { format!("{most} arguments") } else { format!("{required} to {most} arguments") };
            let names = arguments.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
            return Err(Error::new(Code::UndefinedFunction, format!("function {name} takes {takes}"))
                .detail(format!("{} arguments were given.", given.len()))
                .hint(format!("The arguments are {name}({names}).")));
        }
        match given.iter().zip(*arguments).find(|(found, (_, want))| !want.fits(found)) {
            Some((found, (argument, want))) => {
                let message = format!("argument \"{argument}\" of {name} must be {}", want.sql_name());
                Err(Error::new(Code::DatatypeMismatch, message).detail(format!("Its type is {}.", sql_type(found))))
            }
            None => Ok(()),
        }
    }

    /// The value of an argument that must be constant; `None` when it is not given or NULL.
    ///
    /// # Errors
    /// 22023 for a column.
    pub(super) fn constant(&self, args: &AccumulatorArgs<'_>, index: usize) -> Result<Option<ScalarValue>> {
        let Some(expr) = args.exprs.get(index) else { return Ok(None) };
        match expr.evaluate(&RecordBatch::new_empty(Arc::new(Schema::empty()))) {
            Ok(ColumnarValue::Scalar(value)) => Ok(Some(value).filter(|value| !value.is_null())),
            _ => Err(Error::invalid(format!("argument \"{}\" of {} must be a constant", self.argument(index), self.name))),
        }
    }

    /// A constant argument, read as `kind`.
    ///
    /// # Errors
    /// As [`constant`](Self::constant), and 22P02 or 22023 when it cannot be read.
    pub(super) fn bound(&self, args: &AccumulatorArgs<'_>, index: usize, kind: Kind) -> Result<Option<Argument>> {
        let Some(value) = self.constant(args, index)? else { return Ok(None) };
        Argument::bind(self.name, self.argument(index), kind, value)
    }

    /// A constant between two bounds, both excluded.
    ///
    /// # Errors
    /// 22023 outside them.
    pub(super) fn constant_between(&self, args: &AccumulatorArgs<'_>, index: usize, default: f64, (low, high): (f64, f64)) -> Result<f64> {
        match self.bound(args, index, Kind::Float)? {
            None => Ok(default),
            Some(Argument::Float(value)) if value > low && value < high => Ok(value),
            Some(_) => {
                Err(Error::invalid(format!("argument \"{}\" of {} must be above {low} and below {high}", self.argument(index), self.name)))
            }
        }
    }

    /// A constant text; `None` when it is not given or NULL.
    ///
    /// # Errors
    /// As [`bound`](Self::bound).
    pub(super) fn constant_text(&self, args: &AccumulatorArgs<'_>, index: usize) -> Result<Option<String>> {
        match self.bound(args, index, Kind::Text)? {
            Some(Argument::Text(text)) => Ok(Some(text)),
            _ => Ok(None),
        }
    }

    /// A constant length of time above zero, in microseconds.
    ///
    /// # Errors
    /// 22023 when it is NULL, zero or negative; 22P02 when it cannot be read.
    pub(super) fn constant_duration(&self, args: &AccumulatorArgs<'_>, index: usize) -> Result<i64> {
        let name = self.argument(index);
        match self.bound(args, index, Kind::Duration)? {
            Some(Argument::Micros(us)) if us > 0 => Ok(us),
            Some(_) => Err(Error::invalid(format!("argument \"{name}\" of {} must be longer than zero", self.name))),
            None => Err(Error::invalid(format!("argument \"{name}\" of {} must not be null", self.name))),
        }
    }

    fn argument(&self, index: usize) -> &'static str {
        self.arguments.get(index).map_or("", |(name, _)| name)
    }
}

/// The error for a word that is not among those an argument may be.
pub(super) fn unknown_word(function: &str, argument: &str, given: &str, valid: &[&str]) -> Error {
    let error = Error::invalid(format!("argument \"{argument}\" of {function} cannot be \"{given}\""))
        .detail(format!("Valid values are: {}.", valid.join(", ")));
    match crate::kernels::nearest::nearest(given, valid.iter().copied()) {
        Some(near) => error.hint(format!("Perhaps you meant \"{near}\".")),
        None => error,
    }
}

/// The place of a column, or 42703 with the nearest name.
pub(super) fn column_at(source: &Schema, name: &str) -> Result<usize> {
    source.index_of(name).map_err(|_| {
        let names = source.fields().iter().map(|field| field.name().as_str());
        let error = Error::new(Code::UndefinedColumn, format!("column \"{name}\" does not exist"))
            .detail(format!("The source has the columns {}.", names.clone().collect::<Vec<_>>().join(", ")));
        match crate::kernels::nearest::nearest(name, names) {
            Some(near) => error.hint(format!("Perhaps you meant the column \"{near}\".")),
            None => error,
        }
    })
}

/// The place of a column of numbers or booleans.
///
/// # Errors
/// 42703, or 42804 for another type.
pub(super) fn number_at(source: &Schema, name: &str) -> Result<usize> {
    let at = column_at(source, name)?;
    let found = source.field(at).data_type();
    if found.is_numeric() || *found == DataType::Boolean {
        return Ok(at);
    }
    Err(Error::new(Code::DatatypeMismatch, format!("column \"{name}\" must be a number or a boolean"))
        .detail(format!("Its type is {}.", sql_type(found))))
}

/// Makes columns of a scalar function's arguments, runs `rows` over them, and gives a scalar back for scalars.
///
/// # Errors
/// Those of `rows`.
pub(super) fn over_rows(args: &ScalarFunctionArgs, rows: impl FnOnce(&[ArrayRef], usize) -> Result<ArrayRef>) -> DfResult<ColumnarValue> {
    let constant = args.args.iter().all(|value| matches!(value, ColumnarValue::Scalar(_)));
    let count = if constant { 1 } else { args.number_rows };
    let columns = args.args.iter().map(|value| value.to_array(count)).collect::<DfResult<Vec<_>>>()?;
    let result = rows(&columns, count)?;
    if constant && result.len() == 1 {
        return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?));
    }
    Ok(ColumnarValue::Array(result))
}
