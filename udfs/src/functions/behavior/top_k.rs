//! `top_k(value, k [, weight])`: the most frequent or heaviest values, exactly.

use std::fmt::Debug;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Decimal128Array, Float64Array, ListArray, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Decimal128Type, Field, FieldRef, Float64Type};
use arrow::row::{RowConverter, SortField};
use datafusion::common::ScalarValue;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{Accumulator, AggregateUDFImpl, Documentation, GroupsAccumulator, Signature, Volatility};
use datafusion_macros::user_doc;

use super::arguments::{constant, list_of, no_such_call};
use super::events::{offsets, refuse_distinct};

use crate::error::{Error, Result};
use crate::functions::aggregation::{Aggregation, Grouped, Single};
use crate::kernels::behavior::top_k::{TopK as Totals, Total, Weight};

const NAME: &str = "top_k";
/// The longest list that a call may ask for.
const K_MAX: i64 = 100_000;

#[user_doc(
    doc_section(label = "Behavior Functions"),
    description = "The `k` most frequent values of a group, or those of the greatest total weight, as an array, the greatest first; values of equal weight in their own order. Exact, unlike an approximate top-k: memory grows with the different values, and neither the order of the rows nor the rounding of sums changes the answer. NULL values and rows with a NULL weight are left out.",
    syntax_example = "top_k(value, k [, weight])",
    sql_example = "```sql\nSELECT user_id, top_k(item_id, 3) AS buys, top_k(item_id, 3, price * quantity) AS pays_for\nFROM events GROUP BY user_id ORDER BY user_id LIMIT 10;\n```",
    argument(name = "value", description = "Any type that can be ordered."),
    argument(name = "k", description = "How many, 1 to 100000."),
    argument(name = "weight", description = "A number, not infinite; one for each row without it.")
)]
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct TopK {
    signature: Signature,
    aliases: Vec<String>,
}

impl TopK {
    pub(super) fn new() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable), aliases: vec![] }
    }
}

/// Whole weights keep their digits; all others are doubles.
fn weight_type(given: &DataType) -> Option<DataType> {
    Some(match given {
        DataType::Decimal128(_, scale) => DataType::Decimal128(38, *scale),
        DataType::Decimal32(_, scale) | DataType::Decimal64(_, scale) => DataType::Decimal128(38, *scale),
        integer if integer.is_integer() => DataType::Decimal128(38, 0),
        number if number.is_numeric() || number.is_null() => DataType::Float64,
        _ => return None,
    })
}

fn types(given: &[DataType]) -> Result<Vec<DataType>> {
    let unknown = || no_such_call(NAME, given, &["top_k(value, k)", "top_k(value, k, weight)"]);
    let [value, k, weight @ ..] = given else { return Err(unknown()) };
    if !k.is_integer() || weight.len() > 1 || !RowConverter::supports_fields(&[SortField::new(plain(value))]) {
        return Err(unknown());
    }
    // Texts are read as they come; views are what files are read as.
    let value = match plain(value) {
        DataType::Utf8 => DataType::Utf8View,
        other => other,
    };
    let mut types = vec![value, DataType::Int64];
    if let [weight] = weight {
        types.push(weight_type(weight).ok_or_else(unknown)?);
    }
    Ok(types)
}

/// The type of a value without a dictionary or a view around it.
fn plain(given: &DataType) -> DataType {
    match given {
        DataType::Dictionary(_, value) => plain(value),
        DataType::Utf8View | DataType::Null => DataType::Utf8,
        DataType::BinaryView => DataType::Binary,
        other => other.clone(),
    }
}

fn tops(args: &AccumulatorArgs) -> DfResult<Tops> {
    refuse_distinct(NAME, args)?;
    let k = match constant(NAME, "k", &args.exprs[1])?.cast_to(&DataType::Int64)? {
        ScalarValue::Int64(Some(k)) if (1..=K_MAX).contains(&k) => usize::try_from(k).unwrap_or(1),
        other => return Err(Error::invalid(format!("k of {NAME} must be between 1 and {K_MAX}")).detail(format!("It is {other}.")).into()),
    };
    let value = plain(args.expr_fields[0].data_type());
    let scale = match args.expr_fields.get(2).map(|field| field.data_type()) {
        Some(DataType::Float64) => None,
        Some(DataType::Decimal128(_, scale)) => Some(*scale),
        _ => Some(0),
    };
    let rows = RowConverter::new(vec![SortField::new(value.clone())])?;
    Ok(Tops { k, value, scale, rows, totals: Totals::default() })
}

impl AggregateUDFImpl for TopK {
    fn name(&self) -> &str {
        NAME
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> DfResult<Vec<DataType>> {
        Ok(types(given).unwrap_or_else(|_| given.to_vec()))
    }

    fn return_type(&self, given: &[DataType]) -> DfResult<DataType> {
        let types = types(given)?;
        Ok(list_of(plain(&types[0])))
    }

    fn accumulator(&self, args: AccumulatorArgs) -> DfResult<Box<dyn Accumulator>> {
        Ok(Box::new(Single::new(tops(&args)?)))
    }

    fn groups_accumulator_supported(&self, _: AccumulatorArgs) -> bool {
        true
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> DfResult<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(Grouped::new(tops(&args)?)))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> DfResult<Vec<FieldRef>> {
        let value = plain(args.input_fields[0].data_type());
        let field = |part: &str, item| Arc::new(Field::new(format_state_name(args.name, part), list_of(item), true));
        Ok(vec![field("values", value), field("whole", DataType::Decimal128(38, 0)), field("doubles", DataType::Float64)])
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.doc()
    }
}

/// Totals by group and value: a text is its bytes, other values are rows of the converter.
#[derive(Debug)]
struct Tops {
    k: usize,
    value: DataType,
    /// Digits behind the point of whole weights; `None` for doubles.
    scale: Option<i8>,
    rows: RowConverter,
    totals: Totals,
}

/// The weights of a batch.
enum Weights<'a> {
    Ones,
    Whole(&'a Decimal128Array),
    Doubles(&'a Float64Array),
}

impl<'a> Weights<'a> {
    fn of(scale: Option<i8>, values: &'a [ArrayRef]) -> DfResult<Self> {
        let wrong = || Error::internal("weights have the wrong type");
        let Some(array) = values.get(2) else { return Ok(Self::Ones) };
        if scale.is_some() {
            return Ok(Self::Whole(array.as_primitive_opt::<Decimal128Type>().ok_or_else(wrong)?));
        }
        let doubles = array.as_primitive_opt::<Float64Type>().ok_or_else(wrong)?;
        if let Some(bad) = doubles.iter().flatten().find(|weight| !weight.is_finite()) {
            return Err(Error::invalid(format!("a weight of {NAME} cannot be {bad}")).into());
        }
        Ok(Self::Doubles(doubles))
    }

    /// `None` leaves the row out.
    #[inline]
    fn at(&self, row: usize) -> Option<Weight> {
        match self {
            Self::Ones => Some(Weight::Whole(1)),
            Self::Whole(weights) => weights.is_valid(row).then(|| Weight::Whole(weights.value(row))),
            Self::Doubles(weights) => weights.is_valid(row).then(|| Weight::Double(weights.value(row))),
        }
    }
}

/// Values of a list array, one after the other.
#[derive(Default)]
struct Items {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Items {
    fn push(&mut self, value: &[u8]) {
        self.bytes.extend_from_slice(value);
        self.ends.push(self.bytes.len());
    }

    fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let begins = std::iter::once(&0).chain(&self.ends);
        begins.zip(&self.ends).map(|(begin, end)| &self.bytes[*begin..*end])
    }
}

impl Tops {
    /// A list array whose items are the values.
    fn lists(&self, items: Items, places: &[usize]) -> DfResult<ArrayRef> {
        if self.value == DataType::Utf8 {
            let ends = [vec![0], items.ends].concat();
            return list(Arc::new(StringArray::try_new(offsets(&ends)?, items.bytes.into(), None)?), places);
        }
        let parser = self.rows.parser();
        let mut columns = self.rows.convert_rows(items.iter().map(|row| parser.parse(row)))?;
        let items = columns.pop().ok_or_else(|| Error::internal("a row has no column"))?;
        list(cast(&items, &self.value)?, places)
    }

    /// Tells `each` the code of every value that is not NULL.
    fn take_in(&mut self, values: &ArrayRef, mut each: impl FnMut(usize, u32, &mut Totals)) -> DfResult<()> {
        if let Some(texts) = values.as_string_view_opt() {
            for (row, view) in texts.views().iter().enumerate().filter(|(row, _)| texts.is_valid(*row)) {
                let code = self.totals.code_of_view(*view, || texts.value(row).as_bytes());
                each(row, code, &mut self.totals);
            }
            return Ok(());
        }
        if self.value == DataType::Utf8 {
            return self.take_in(&cast(values, &DataType::Utf8View)?, each);
        }
        let rows = self.rows.convert_columns(&[cast(values, &self.value)?])?;
        for row in (0..values.len()).filter(|row| values.is_valid(*row)) {
            let code = self.totals.code(rows.row(row).as_ref());
            each(row, code, &mut self.totals);
        }
        Ok(())
    }
}

fn list(items: ArrayRef, places: &[usize]) -> DfResult<ArrayRef> {
    let field = Arc::new(Field::new_list_field(items.data_type().clone(), true));
    Ok(Arc::new(ListArray::try_new(field, offsets(places)?, items, None)?))
}

impl Aggregation for Tops {
    #[allow(clippy::cast_possible_truncation, reason = "the number of groups was checked")]
    fn update(&mut self, values: &[ArrayRef], groups: &[usize], filter: Option<&BooleanArray>) -> DfResult<()> {
        let weights = Weights::of(self.scale, values)?;
        self.take_in(&values[0], |row, value, totals| {
            let kept = filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row));
            if let Some(weight) = weights.at(row).filter(|_| kept) {
                totals.add(groups[row] as u32, value, weight);
            }
        })
    }

    #[allow(clippy::cast_possible_truncation, reason = "the number of groups was checked")]
    fn merge(&mut self, states: &[ArrayRef], groups: &[usize]) -> DfResult<()> {
        let wrong = || Error::internal("a partial result has the wrong type");
        let [values, whole, doubles] = states else { return Err(wrong().into()) };
        let list = |array: &ArrayRef| array.as_list_opt::<i32>().cloned().ok_or_else(wrong);
        let (values, whole, doubles) = (list(values)?, list(whole)?, list(doubles)?);
        let wholes = whole.values().as_primitive_opt::<Decimal128Type>().ok_or_else(wrong)?;
        let parts = doubles.values().as_primitive_opt::<Float64Type>().ok_or_else(wrong)?;
        // The group of each item of the lists.
        let mut owners = vec![None; values.values().len()];
        for (row, group) in groups.iter().enumerate().filter(|(row, _)| values.is_valid(*row)) {
            let (from, to) = (values.value_offsets()[row] as usize, values.value_offsets()[row + 1] as usize);
            owners[from..to].fill(Some(*group as u32));
        }
        let scale = self.scale;
        let items = Arc::clone(values.values());
        self.take_in(&items, |item, value, totals| {
            if let Some(group) = owners[item] {
                let weight = if scale.is_some() { Weight::Whole(wholes.value(item)) } else { Weight::Double(parts.value(item)) };
                totals.add(group, value, weight);
            }
        })
    }

    fn values(&mut self, count: usize) -> DfResult<ArrayRef> {
        let mut lengths = vec![0; count];
        let mut items = Items::default();
        self.totals.each(count, self.k, &mut |group, value, _| {
            lengths[group] += 1;
            items.push(value);
        });
        self.lists(items, &places(&lengths))
    }

    fn states(&mut self, count: usize) -> DfResult<Vec<ArrayRef>> {
        let mut lengths = vec![0; count];
        let (mut items, mut wholes, mut parts): (Items, Vec<i128>, Vec<f64>) = (Items::default(), vec![], vec![]);
        self.totals.each(count, usize::MAX, &mut |group, value, total| match total {
            Total::Whole(whole) => {
                lengths[group] += 1;
                items.push(value);
                wholes.push(*whole);
                parts.push(0.0);
            }
            Total::Double(sum) => {
                // Zero has no parts, but the value has been seen.
                for part in if sum.parts().is_empty() { &[0.0] } else { sum.parts() } {
                    lengths[group] += 1;
                    items.push(value);
                    wholes.push(0);
                    parts.push(*part);
                }
            }
        });
        let places = places(&lengths);
        let wholes = Decimal128Array::from(wholes).with_precision_and_scale(38, 0)?;
        Ok(vec![self.lists(items, &places)?, list(Arc::new(wholes), &places)?, list(Arc::new(Float64Array::from(parts)), &places)?])
    }

    fn forget(&mut self, count: usize) {
        self.totals.forget(count);
    }

    fn row_states(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> DfResult<Vec<ArrayRef>> {
        let rows = RowConverter::new(vec![SortField::new(self.value.clone())])?;
        let mut each = Self { k: self.k, value: self.value.clone(), scale: self.scale, rows, totals: Totals::default() };
        each.update(values, &(0..values[0].len()).collect::<Vec<_>>(), filter)?;
        each.states(values[0].len())
    }

    fn heap_bytes(&self) -> usize {
        self.totals.heap_bytes() + self.rows.size()
    }
}

fn places(lengths: &[usize]) -> Vec<usize> {
    let mut places = vec![0];
    places.extend(lengths.iter().scan(0, |end, length| {
        *end += length;
        Some(*end)
    }));
    places
}
