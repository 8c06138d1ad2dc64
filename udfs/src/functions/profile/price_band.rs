//! `price_band(price, bounds)`

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringBuilder};
use arrow::datatypes::{DataType, Float64Type};
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::{ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDFImpl, Signature};
use datafusion_macros::user_doc;

use crate::error::{Code, Error, Result};
use crate::functions::typed::{Shape, Want, over_rows};

const SHAPE: Shape = Shape { name: "price_band", arguments: &[("price", Want::Number), ("bounds", Want::Text)], required: 2 };

#[user_doc(
    doc_section(label = "Profile Functions"),
    description = "The price band of a price, as a key for pref_vector and pref_top. A bound belongs to the band that it begins. NULL when an argument is NULL or the price is NaN.",
    syntax_example = "price_band(price, bounds)",
    sql_example = "```sql\nSELECT price_band(4.2, '1, 5, 20'), price_band(5, '1, 5, 20'), price_band(99, '1, 5, 20');\n-- 1-5, 5-20, 20+\n```",
    argument(name = "price", description = "The price."),
    argument(name = "bounds", description = "Where bands begin: ascending numbers, separated by commas."),
    related_udf(name = "pref_top")
)]
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct PriceBand {
    signature: Signature,
}

impl PriceBand {
    pub(super) fn new() -> Self {
        Self { signature: SHAPE.signature() }
    }
}

/// Bounds with the names of the bands around them.
#[derive(Debug, Default)]
struct Bands {
    text: String,
    bounds: Vec<f64>,
    names: Vec<String>,
}

impl Bands {
    fn read(text: &str) -> Result<Self> {
        let wrong = || {
            Error::new(Code::InvalidText, format!("\"{text}\" is not a list of bounds"))
                .hint("Write ascending numbers, such as '10, 20, 50'.")
        };
        let words: Vec<&str> = text.split(',').map(str::trim).collect();
        let bounds = words.iter().map(|word| word.parse::<f64>().ok().filter(|bound| bound.is_finite()).ok_or_else(wrong));
        let bounds = bounds.collect::<Result<Vec<_>>>()?;
        if bounds.windows(2).any(|pair| pair[0] >= pair[1]) {
            return Err(Error::invalid(format!("the bounds \"{text}\" do not ascend")));
        }
        let (Some(first), Some(last)) = (words.first(), words.last()) else { return Err(wrong()) };
        let mut names = vec![format!("<{first}")];
        names.extend(words.windows(2).map(|pair| format!("{}-{}", pair[0], pair[1])));
        names.push(format!("{last}+"));
        Ok(Self { text: text.to_owned(), bounds, names })
    }

    fn of(&self, price: f64) -> Option<&str> {
        self.names.get(self.bounds.partition_point(|bound| *bound <= price)).filter(|_| !price.is_nan()).map(String::as_str)
    }
}

fn rows(columns: &[ArrayRef], count: usize) -> Result<ArrayRef> {
    let wrong = || Error::internal("a price and bounds were expected");
    let [prices, bounds] = columns else { return Err(wrong()) };
    let prices = prices.as_primitive_opt::<Float64Type>().ok_or_else(wrong)?;
    let bounds = bounds.as_string_opt::<i32>().ok_or_else(wrong)?;
    let mut out = StringBuilder::with_capacity(count, count * 6);
    let mut bands = Bands::default();
    for row in 0..count {
        if prices.is_null(row) || bounds.is_null(row) {
            out.append_null();
            continue;
        }
        if bands.names.is_empty() || bands.text != bounds.value(row) {
            bands = Bands::read(bounds.value(row))?;
        }
        out.append_option(bands.of(prices.value(row)));
    }
    Ok(Arc::new(out.finish()))
}

impl ScalarUDFImpl for PriceBand {
    fn name(&self) -> &str {
        SHAPE.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, given: &[DataType]) -> DfResult<DataType> {
        SHAPE.check(given)?;
        Ok(DataType::Utf8)
    }

    fn coerce_types(&self, given: &[DataType]) -> DfResult<Vec<DataType>> {
        Ok(SHAPE.coerce(given))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        over_rows(&args, rows)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.doc()
    }
}
