//! What the distance functions share: types, NULLs, dimensions.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, ListArray};
use arrow::datatypes::{DataType, Field, Float32Type};
use datafusion::common::Result as DataFusionResult;
use datafusion::common::utils::take_function_args;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, Signature, Volatility};

use crate::error::{Code, Error, Result};

/// Two vectors, bound by position or by the names `a` and `b`.
pub(super) fn signature() -> Signature {
    let mut signature = Signature::user_defined(Volatility::Immutable);
    signature.parameter_names = Some(vec!["a".into(), "b".into()]);
    signature
}

/// Lists of numbers become `float4[]`; anything else stays, and [`return_type`] refuses it: of an error here the engine
/// would keep the text alone.
pub(super) fn coerce(name: &str, given: &[DataType]) -> Vec<DataType> {
    vectors(name, given).unwrap_or_else(|_| given.to_vec())
}

/// A number, for two vectors.
///
/// # Errors
/// 42883 for another number of arguments, 42804 for arguments of other types.
pub(super) fn return_type(name: &str, given: &[DataType]) -> Result<DataType> {
    vectors(name, given).map(|_| DataType::Float64)
}

fn vectors(name: &str, given: &[DataType]) -> Result<Vec<DataType>> {
    if given.len() != 2 {
        let error = Error::new(Code::UndefinedFunction, format!("function {name} takes 2 arguments"));
        return Err(error.detail(format!("{} arguments were given.", given.len())).hint(format!("The arguments are {name}(a, b).")));
    }
    let vector = DataType::List(Arc::new(Field::new_list_field(DataType::Float32, true)));
    let fits = |found: &DataType| match found {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            item.data_type().is_numeric() || item.data_type().is_null()
        }
        other => other.is_null(),
    };
    match given.iter().find(|found| !fits(found)) {
        Some(found) => Err(Error::new(Code::DatatypeMismatch, format!("{name} compares two arrays of numbers, got {found}"))),
        None => Ok(vec![vector; 2]),
    }
}

/// Applies `kernel` to each pair; NULL when either is NULL.
///
/// # Errors
/// 22023 when the two have different dimensions or an element is NULL.
pub(super) fn apply(name: &str, args: &ScalarFunctionArgs, kernel: fn(&[f32], &[f32]) -> f64) -> DataFusionResult<ColumnarValue> {
    let [a, b] = take_function_args(name, &args.args)?;
    let constant = matches!((a, b), (ColumnarValue::Scalar(_), ColumnarValue::Scalar(_)));
    let rows = if constant { 1 } else { args.number_rows };
    let (a, b) = (a.to_array(rows)?, b.to_array(rows)?);
    let values = pairs(a.as_list::<i32>(), b.as_list::<i32>(), kernel)?;
    if constant {
        return Ok(ColumnarValue::Scalar(datafusion::common::ScalarValue::try_from_array(&values, 0)?));
    }
    Ok(ColumnarValue::Array(Arc::new(values) as ArrayRef))
}

fn pairs(a: &ListArray, b: &ListArray, kernel: fn(&[f32], &[f32]) -> f64) -> Result<Float64Array> {
    let (left, right) = (a.values().as_primitive::<Float32Type>(), b.values().as_primitive::<Float32Type>());
    let range = |list: &ListArray, row: usize| list.value_offsets()[row] as usize..list.value_offsets()[row + 1] as usize;
    let mut out = Vec::with_capacity(a.len());
    for row in 0..a.len() {
        if a.is_null(row) || b.is_null(row) {
            out.push(None);
            continue;
        }
        let (at_left, at_right) = (range(a, row), range(b, row));
        if at_left.len() != at_right.len() {
            return Err(Error::invalid(format!("different vector dimensions {} and {}", at_left.len(), at_right.len())));
        }
        let holes = left.null_count() > 0 && at_left.clone().any(|at| left.is_null(at));
        if holes || (right.null_count() > 0 && at_right.clone().any(|at| right.is_null(at))) {
            return Err(Error::invalid("a vector must not contain nulls"));
        }
        out.push(Some(kernel(&left.values()[at_left], &right.values()[at_right])));
    }
    Ok(Float64Array::from(out))
}

/// Σ aᵢ·bᵢ in four running sums, in double precision.
pub(super) fn dot(a: &[f32], b: &[f32]) -> f64 {
    let mut sums = [0.0_f64; 4];
    let (a4, b4) = (a.chunks_exact(4), b.chunks_exact(4));
    let tail: f64 = a4.remainder().iter().zip(b4.remainder()).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum();
    for (x, y) in a4.zip(b4) {
        for lane in 0..4 {
            sums[lane] += f64::from(x[lane]) * f64::from(y[lane]);
        }
    }
    sums.iter().sum::<f64>() + tail
}

#[cfg(test)]
pub(super) mod tests {
    use arrow::array::{Float32Builder, ListBuilder};

    use super::*;

    fn list(rows: &[Option<&[Option<f32>]>]) -> ListArray {
        let mut builder = ListBuilder::new(Float32Builder::new());
        for row in rows {
            match row {
                Some(items) => builder.append_value(items.iter().copied()),
                None => builder.append_null(),
            }
        }
        builder.finish()
    }

    /// `kernel` over two vectors.
    pub(in super::super) fn check(kernel: fn(&[f32], &[f32]) -> f64, a: &[f32], b: &[f32], expected: f64) {
        let found = kernel(a, b);
        assert!((found - expected).abs() < 1e-12 || (found.is_nan() && expected.is_nan()), "{a:?} {b:?}: {found}");
    }

    #[test]
    fn nulls_give_null_and_dimensions_must_agree() {
        let some = |items: &'static [Option<f32>]| Some(items);
        let a = list(&[some(&[Some(1.0), Some(2.0)]), None, some(&[]), some(&[Some(1.0), Some(1.0)])]);
        let b = list(&[some(&[Some(3.0), Some(4.0)]), some(&[Some(1.0)]), some(&[]), None]);
        let found = pairs(&a, &b, dot).unwrap();
        assert_eq!(found, Float64Array::from(vec![Some(11.0), None, Some(0.0), None]));
        // A sliced array starts in the middle of its values.
        assert_eq!(pairs(&a.slice(1, 2), &b.slice(1, 2), dot).unwrap(), Float64Array::from(vec![None, Some(0.0)]));

        let error = pairs(&list(&[some(&[Some(1.0)])]), &list(&[some(&[Some(1.0), Some(2.0)])]), dot).unwrap_err();
        assert_eq!((error.code, error.message.as_str()), (Code::InvalidParameter, "different vector dimensions 1 and 2"));
        let error = pairs(&list(&[some(&[None])]), &list(&[some(&[Some(1.0)])]), dot).unwrap_err();
        assert_eq!(error.code, Code::InvalidParameter);
    }

    #[test]
    fn dot_products_of_any_length() {
        for length in 0..20 {
            let a: Vec<f32> = (0..length).map(|i| i as f32 - 3.0).collect();
            let expected: f64 = a.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
            assert_eq!(dot(&a, &a), expected, "{length}");
        }
    }
}
