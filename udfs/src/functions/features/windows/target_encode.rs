//! `target_encode(category, target, key, folds, smooth)`

use arrow::array::ArrayRef;
use datafusion::logical_expr::Documentation;
use datafusion_macros::user_doc;

use super::whole::{Constants, Kind, Parameter, WholePartition, column, doubles};
use crate::error::{Error, Result};
use crate::features::transform::{InputKind, Values, out_of_fold_means};

#[user_doc(
    doc_section(label = "Feature Functions"),
    description = "The mean of the target over the partition's rows of the same category, out of fold: rows are dealt into folds by a hash of the key, and what a row gets is made from the other folds alone, so its own target is not in it. Means are drawn towards the overall mean as if that had been seen smooth times beforehand: scikit-learn's TargetEncoder(smooth=…). NULL is a category of its own; a category that the other folds do not have gets their overall mean. Rows without a target count nowhere. For new rows: fit_transform with the step target.",
    syntax_example = "target_encode(category, target, key, folds => 5, smooth => 20) OVER (…)",
    sql_example = "```sql\nSELECT user_id, target_encode(country, bought, user_id, 2, 0) OVER () FROM (VALUES (1, 'FR', 1), (2, 'FR', 0), (3, 'FR', 1)) AS t(user_id, country, bought);\n```",
    argument(name = "category", description = "A text, a number, a boolean or a time."),
    argument(name = "target", description = "A number or a boolean."),
    argument(name = "key", description = "Rows of the same key are in the same fold: the user, or what tells rows apart."),
    argument(name = "folds", description = "How many folds, 2 to 100; 5 by default."),
    argument(name = "smooth", description = "How many times the overall mean is seen beforehand; 20 by default.")
)]
#[derive(Debug)]
pub(super) struct TargetEncode;

impl WholePartition for TargetEncode {
    fn name(&self) -> &'static str {
        "target_encode"
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.doc()
    }

    fn parameters(&self) -> &'static [Parameter] {
        const {
            &[
                Parameter::required("category", Kind::Category),
                Parameter::required("target", Kind::Number),
                Parameter::required("key", Kind::Category),
                Parameter::optional("folds", Kind::Share(5.0, 2.0, 100.0)),
                Parameter::optional("smooth", Kind::Share(20.0, 0.0, f64::MAX)),
            ]
        }
    }

    fn compute(&self, columns: &[ArrayRef], constants: &Constants) -> Result<ArrayRef> {
        let Values::Numbers(targets) = column(columns, 1, "target", InputKind::Number)?.values else {
            return Err(Error::internal("a number was not read as one"));
        };
        let (category, key) = (column(columns, 0, "category", InputKind::Category)?, column(columns, 2, "key", InputKind::Category)?);
        out_of_fold_means(category, &targets, key, constants.number("folds") as u32, constants.number("smooth")).map(doubles)
    }
}
