//! `is_outlier(x, method, threshold)`

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray};
use arrow::datatypes::DataType;
use datafusion::logical_expr::Documentation;
use datafusion_macros::user_doc;

use super::whole::{Constants, Kind, Parameter, WholePartition, column};
use crate::error::{Code, Error, Result};
use crate::features::transform::{InputKind, Values};
use crate::kernels::nearest::nearest;
use crate::kernels::prepare::moments::Moments;
use crate::kernels::prepare::order;

const METHODS: [&str; 3] = ["iqr", "zscore", "mad"];

#[user_doc(
    doc_section(label = "Feature Functions"),
    description = "Whether a number is an outlier of its partition. iqr: beyond the quartiles widened by threshold (1.5) times their distance, Tukey's fences; zscore: more than threshold (3) standard deviations from the mean, with n below the line; mad: a modified z-score 0.6745 · |x - median| / MAD above threshold (3.5; Iglewicz & Hoaglin), which outliers themselves cannot hide from. Bounds belong to the inside. Where the partition does not vary nothing is an outlier, except by mad, where every other number is. NULL for a missing number.",
    syntax_example = "is_outlier(x, method => 'iqr', threshold => NULL) OVER (…)",
    sql_example = "```sql\nSELECT price, is_outlier(price) OVER () FROM (VALUES (1.0), (2.0), (3.0), (4.0), (100.0)) AS t(price);\n-- only 100\n```",
    argument(name = "x", description = "A number. NULL and NaN are missing."),
    argument(name = "method", description = "iqr (the default), zscore or mad."),
    argument(name = "threshold", description = "How far out; 1.5, 3 and 3.5 by default.")
)]
#[derive(Debug)]
pub(super) struct IsOutlier;

impl WholePartition for IsOutlier {
    fn name(&self) -> &'static str {
        "is_outlier"
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.doc()
    }

    fn parameters(&self) -> &'static [Parameter] {
        const {
            &[
                Parameter::required("x", Kind::Number),
                Parameter::optional("method", Kind::Word("iqr")),
                Parameter::optional("threshold", Kind::Share(f64::NAN, 0.0, f64::MAX)),
            ]
        }
    }

    fn output(&self, _types: &[DataType]) -> DataType {
        DataType::Boolean
    }

    fn compute(&self, columns: &[ArrayRef], constants: &Constants) -> Result<ArrayRef> {
        let Values::Numbers(values) = column(columns, 0, "x", InputKind::Number)?.values else {
            return Err(Error::internal("a number was not read as one"));
        };
        let outside = outside(constants.word("method"), constants.number("threshold"), &values)?;
        Ok(Arc::new(values.iter().map(|x| (!x.is_nan()).then(|| outside(*x))).collect::<BooleanArray>()))
    }
}

/// Whether a number is outside what `values` are.
fn outside(method: &str, threshold: f64, values: &[f64]) -> Result<Box<dyn Fn(f64) -> bool>> {
    let or = |default: f64| if threshold.is_nan() { default } else { threshold };
    match method {
        "iqr" => {
            let (low, high) = order::fences(&order::sorted(values), or(1.5)).unwrap_or((f64::NEG_INFINITY, f64::INFINITY));
            Ok(Box::new(move |x| x < low || x > high))
        }
        "zscore" => {
            let moments = Moments::of(values);
            if !moments.is_finite() {
                return Err(Error::new(Code::NumericOutOfRange, "the numbers are too large to add up").hint("Use the method iqr or mad."));
            }
            let (mean, deviation) = (moments.mean().unwrap_or(0.0), moments.deviation(0).unwrap_or(0.0));
            let limit = or(3.0) * deviation;
            Ok(Box::new(move |x| deviation > 0.0 && (x - mean).abs() > limit))
        }
        "mad" => {
            let (median, deviation) = order::median_absolute_deviation(&order::sorted(values)).unwrap_or((0.0, 0.0));
            let limit = or(3.5) * deviation / 0.6745;
            Ok(Box::new(move |x| (x - median).abs() > limit))
        }
        other => {
            let error = Error::invalid(format!("there is no method \"{other}\"")).detail("The methods are iqr, zscore and mad.");
            Err(match nearest(other, METHODS) {
                Some(near) => error.hint(format!("Perhaps you meant \"{near}\".")),
                None => error,
            })
        }
    }
}
