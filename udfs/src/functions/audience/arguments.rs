//! What the scalar functions of this room share: bitmaps and ids among their arguments, and results.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, BinaryBuilder, BooleanArray, Int64Array};
use arrow::datatypes::{Int64Type, UInt64Type};
use datafusion::common::ScalarValue;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs};

use crate::context::StatementContext;
use crate::error::{Code, Error, Result};
use crate::functions::grouped::append;
use crate::kernels::bitmap::{Bitmap, Bsi, Malformed, Order};

/// One batch of a call.
#[derive(Debug)]
pub(super) struct Call<'a> {
    args: &'a ScalarFunctionArgs,
    rows: usize,
}

/// The bitmaps (or indexes) of an argument: one that is the same for all rows is read once.
#[derive(Debug)]
pub(super) enum Sets<T> {
    Same(Option<T>),
    Each(BinaryArray),
}

/// What can be read from bytes.
pub(super) trait Readable: Clone {
    /// What messages call it.
    const WHAT: &'static str;
    /// Where one comes from.
    const HINT: &'static str;
    fn read(bytes: &[u8]) -> Result<Self, Malformed>;
}

impl Readable for Bitmap {
    const WHAT: &'static str = "a bitmap";
    const HINT: &'static str = "A bitmap is what group_bitmap_state and bitmap_build make: roaring's portable 64-bit format.";

    fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        Self::read(bytes)
    }
}

impl Readable for Bsi {
    const WHAT: &'static str = "a bit-sliced index";
    const HINT: &'static str = "An index is what bsi_build makes.";

    fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        Self::read(bytes)
    }
}

/// Reads a value.
///
/// # Errors
/// 22P02 that says what is wrong with the bytes.
pub(super) fn read<T: Readable>(bytes: &[u8]) -> Result<T> {
    T::read(bytes).map_err(|malformed| {
        let mut what = malformed.to_string();
        if let Some(first) = what.get_mut(..1) {
            first.make_ascii_uppercase();
        }
        Error::new(Code::InvalidText, format!("the value is not {}", T::WHAT)).detail(format!("{what}.")).hint(T::HINT)
    })
}

impl<T: Readable> Sets<T> {
    /// The value of a row; `None` for NULL.
    pub(super) fn get(&self, row: usize) -> Result<Option<Cow<'_, T>>> {
        match self {
            Self::Same(value) => Ok(value.as_ref().map(Cow::Borrowed)),
            Self::Each(column) if column.is_null(row) => Ok(None),
            Self::Each(column) => read(column.value(row)).map(|found| Some(Cow::Owned(found))),
        }
    }
}

/// The ids of a column of whole numbers; a negative one is nobody's.
///
/// # Errors
/// A bug of ours for another type.
pub(super) fn ids(column: &ArrayRef) -> Result<impl Fn(usize) -> Option<i128> + use<>> {
    let signed = column.as_primitive_opt::<Int64Type>().cloned();
    let unsigned = column.as_primitive_opt::<UInt64Type>().cloned();
    if signed.is_none() && unsigned.is_none() && !column.data_type().is_null() {
        return Err(Error::internal(format!("ids are {}", column.data_type())));
    }
    Ok(move |row: usize| match (&signed, &unsigned) {
        (Some(column), _) => column.is_valid(row).then(|| i128::from(column.value(row))),
        (_, Some(column)) => column.is_valid(row).then(|| i128::from(column.value(row))),
        _ => None,
    })
}

/// An id that goes into a bitmap.
///
/// # Errors
/// 22003 for a negative one.
pub(super) fn member(id: i128) -> Result<u64> {
    u64::try_from(id).map_err(|_| {
        Error::new(Code::NumericOutOfRange, "a bitmap has no negative members")
            .detail(format!("The id is {id}."))
            .hint("Shift the ids, or let CREATE AUDIENCE number them.")
    })
}

/// A member of a bitmap as a value.
///
/// # Errors
/// 22003 for one that does not fit.
pub(super) fn bigint(id: u64) -> Result<i64> {
    i64::try_from(id).map_err(|_| Error::new(Code::NumericOutOfRange, format!("the member {id} is out of range for type bigint")))
}

/// The sum of an index as a value.
///
/// # Errors
/// 22003 for one that does not fit.
pub(super) fn total(sum: i128) -> Result<i64> {
    i64::try_from(sum).map_err(|_| Error::new(Code::NumericOutOfRange, "bigint out of range").detail(format!("The sum is {sum}.")))
}

impl<'a> Call<'a> {
    /// Who runs the statement.
    pub(super) fn caller(&self) -> String {
        StatementContext::of_options(&self.args.config_options).user.clone()
    }

    /// Runs `rows` over a batch; constants give a constant.
    ///
    /// # Errors
    /// Those of `rows`.
    pub(super) fn run(args: &'a ScalarFunctionArgs, rows: impl FnOnce(&Self) -> Result<ArrayRef>) -> DfResult<ColumnarValue> {
        let constant = args.args.iter().all(|value| matches!(value, ColumnarValue::Scalar(_)));
        let call = Self { args, rows: if constant { 1 } else { args.number_rows } };
        let result = rows(&call)?;
        if constant {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?));
        }
        Ok(ColumnarValue::Array(result))
    }

    /// How many rows the batch has.
    pub(super) const fn rows(&self) -> usize {
        self.rows
    }

    /// Whether an argument was given.
    pub(super) fn has(&self, index: usize) -> bool {
        index < self.args.args.len()
    }

    fn argument(&self, index: usize) -> Result<&ColumnarValue> {
        self.args.args.get(index).ok_or_else(|| Error::internal(format!("there is no argument {index}")))
    }

    /// An argument as a column.
    pub(super) fn column(&self, index: usize) -> Result<ArrayRef> {
        self.argument(index)?.to_array(self.rows).map_err(Error::from_engine)
    }

    /// An argument of bitmaps or indexes.
    pub(super) fn sets<T: Readable>(&self, index: usize) -> Result<Sets<T>> {
        let wrong = || Error::internal(format!("argument {index} is not bytes"));
        match self.argument(index)? {
            ColumnarValue::Scalar(value) if value.is_null() => Ok(Sets::Same(None)),
            ColumnarValue::Scalar(ScalarValue::Binary(Some(bytes))) => Ok(Sets::Same(Some(read(bytes)?))),
            ColumnarValue::Scalar(_) => Err(wrong()),
            ColumnarValue::Array(column) if column.data_type().is_null() => Ok(Sets::Same(None)),
            ColumnarValue::Array(column) => column.as_binary_opt::<i32>().cloned().map(Sets::Each).ok_or_else(wrong),
        }
    }

    /// An argument of whole numbers.
    pub(super) fn ids(&self, index: usize) -> Result<impl Fn(usize) -> Option<i128> + use<>> {
        ids(&self.column(index)?)
    }

    /// A column of whole numbers.
    pub(super) fn integers(&self, mut value: impl FnMut(usize) -> Result<Option<i64>>) -> Result<ArrayRef> {
        Ok(Arc::new((0..self.rows).map(&mut value).collect::<Result<Int64Array>>()?))
    }

    /// A column of booleans.
    pub(super) fn booleans(&self, mut value: impl FnMut(usize) -> Result<Option<bool>>) -> Result<ArrayRef> {
        Ok(Arc::new((0..self.rows).map(&mut value).collect::<Result<BooleanArray>>()?))
    }

    /// A column of bitmaps.
    pub(super) fn bitmaps(&self, mut value: impl FnMut(usize) -> Result<Option<Bitmap>>) -> Result<ArrayRef> {
        self.bytes(|row| Ok(value(row)?.map(Bitmap::to_bytes)))
    }

    /// A column of bytes.
    pub(super) fn bytes(&self, mut value: impl FnMut(usize) -> Result<Option<Vec<u8>>>) -> Result<ArrayRef> {
        let mut out = BinaryBuilder::new();
        for row in 0..self.rows {
            match value(row)? {
                Some(bytes) => append(&mut out, &bytes)?,
                None => out.append_null(),
            }
        }
        Ok(Arc::new(out.finish()))
    }

    /// What `apply` makes of the bitmaps of two arguments; `None` when either is NULL.
    pub(super) fn two<R>(&self, apply: impl Fn(&Bitmap, &Bitmap) -> R) -> Result<impl Fn(usize) -> Result<Option<R>>> {
        let (left, right) = (self.sets::<Bitmap>(0)?, self.sets::<Bitmap>(1)?);
        Ok(move |row| {
            let (Some(left), Some(right)) = (left.get(row)?, right.get(row)?) else { return Ok(None) };
            Ok(Some(apply(&left, &right)))
        })
    }

    /// What `apply` makes of an index and of the crowd that the argument at `crowd` may name.
    pub(super) fn within<R>(
        &self,
        crowd: usize,
        apply: impl Fn(&Bsi, Option<&Bitmap>) -> Result<R>,
    ) -> Result<impl Fn(usize) -> Result<Option<R>>> {
        let index = self.sets::<Bsi>(0)?;
        let crowd = if self.has(crowd) { Some(self.sets::<Bitmap>(crowd)?) } else { None };
        Ok(move |row| {
            let Some(index) = index.get(row)? else { return Ok(None) };
            match &crowd {
                None => apply(&index, None).map(Some),
                Some(crowd) => match crowd.get(row)? {
                    Some(crowd) => apply(&index, Some(&crowd)).map(Some),
                    None => Ok(None),
                },
            }
        })
    }

    /// The ids whose numbers, compared with the second argument, are what `choose` takes.
    pub(super) fn compared(&self, name: &str, choose: impl Fn(Order) -> Bitmap) -> Result<ArrayRef> {
        let (index, value) = (self.sets::<Bsi>(0)?, self.ids(1)?);
        self.bitmaps(|row| {
            let (Some(index), Some(value)) = (index.get(row)?, value(row)) else { return Ok(None) };
            Ok(Some(choose(index.compare(number(name, value)?))))
        })
    }
}

/// A number that an index can hold.
///
/// # Errors
/// 22003 for one that it cannot.
pub(super) fn number(name: &str, value: i128) -> Result<i64> {
    let error = || Error::new(Code::NumericOutOfRange, "bigint out of range").detail(format!("{name} was given {value}."));
    i64::try_from(value).map_err(|_| error())
}

/// A count that must not be below zero.
///
/// # Errors
/// 22023 for one that is.
pub(super) fn not_negative(name: &str, argument: &str, value: i128) -> Result<u64> {
    let error = || Error::invalid(format!("argument \"{argument}\" of {name} must not be negative")).detail(format!("It is {value}."));
    u64::try_from(value).map_err(|_| error())
}

/// `ScalarUDFImpl` for a struct with the fields `signature` and `aliases`, whose file has a `SHAPE` and the function
/// `rows(&Call) -> Result<ArrayRef>`.
macro_rules! scalar {
    ($function:ident, $result:expr) => {
        impl datafusion::logical_expr::ScalarUDFImpl for $function {
            fn name(&self) -> &str {
                SHAPE.name
            }

            fn aliases(&self) -> &[String] {
                &self.aliases
            }

            fn signature(&self) -> &datafusion::logical_expr::Signature {
                &self.signature
            }

            fn return_type(&self, given: &[arrow::datatypes::DataType]) -> datafusion::error::Result<arrow::datatypes::DataType> {
                SHAPE.check(given)?;
                Ok($result)
            }

            fn coerce_types(&self, given: &[arrow::datatypes::DataType]) -> datafusion::error::Result<Vec<arrow::datatypes::DataType>> {
                Ok(SHAPE.coerce(given))
            }

            fn invoke_with_args(
                &self,
                args: datafusion::logical_expr::ScalarFunctionArgs,
            ) -> datafusion::error::Result<datafusion::logical_expr::ColumnarValue> {
                $crate::functions::audience::arguments::Call::run(&args, rows)
            }

            fn documentation(&self) -> Option<&datafusion::logical_expr::Documentation> {
                self.doc()
            }
        }
    };
}
pub(super) use scalar;
