//! `one_hot(value, categories)`

use std::sync::Arc;

use arrow::array::{Array, AsArray, Int32Builder, ListBuilder};
use arrow::datatypes::DataType;
use datafusion::common::Result as DfResult;
use datafusion::logical_expr::{ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDFImpl, Signature};
use datafusion_macros::user_doc;

use super::arguments::{count, is_text, list_of, over_rows, signature, wrong_type};
use crate::error::{Error, Result};

const SYNTAX: &str = "one_hot(value, categories)";

#[user_doc(
    doc_section(label = "Feature Functions"),
    description = "1 at the value's place among the categories and 0 elsewhere; all 0 for a value that is not among them and for NULL. NULL when the categories are. For columns with names and categories learned from data: fit_transform with the step one_hot.",
    syntax_example = "one_hot(value, categories)",
    sql_example = "```sql\nSELECT one_hot('cart', ARRAY['view', 'cart', 'purchase']);\n-- {0,1,0}\n```",
    argument(name = "value", description = "A text."),
    argument(name = "categories", description = "text[]; of equal ones the first counts.")
)]
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct OneHot {
    signature: Signature,
}

impl OneHot {
    pub(super) fn new() -> Self {
        Self { signature: signature(&["value", "categories"]) }
    }
}

fn texts() -> DataType {
    list_of(DataType::Utf8)
}

impl ScalarUDFImpl for OneHot {
    fn name(&self) -> &str {
        "one_hot"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> DfResult<Vec<DataType>> {
        let to = |(index, found): (usize, &DataType)| match (index, found) {
            (0, found) if is_text(found) => DataType::Utf8,
            (1, DataType::Null) => texts(),
            (1, DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _)) if is_text(item.data_type()) => {
                texts()
            }
            _ => found.clone(),
        };
        Ok(given.iter().enumerate().map(to).collect())
    }

    fn return_type(&self, given: &[DataType]) -> DfResult<DataType> {
        count(self.name(), given.len(), 2..=2, SYNTAX)?;
        match given {
            [DataType::Utf8, list] if *list == texts() => Ok(list_of(DataType::Int32)),
            [DataType::Utf8, other] => Err(wrong_type(self.name(), "categories", "text[]", other).into()),
            [other, ..] => Err(wrong_type(self.name(), "value", "text", other).into()),
            [] => Err(Error::internal("no arguments").into()),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        over_rows(&args, |arrays, rows| -> Result<_> {
            let [values, categories] = arrays else { return Err(Error::internal("two arguments were expected")) };
            let (values, categories) = (values.as_string::<i32>(), categories.as_list::<i32>());
            let mut made = ListBuilder::new(Int32Builder::new());
            for row in 0..rows {
                if categories.is_valid(row) {
                    let known = categories.value(row);
                    let known = known.as_string::<i32>();
                    let place = values.is_valid(row).then(|| known.iter().position(|found| found == Some(values.value(row)))).flatten();
                    (0..known.len()).for_each(|at| made.values().append_value(i32::from(place == Some(at))));
                }
                made.append(categories.is_valid(row));
            }
            Ok(Arc::new(made.finish()))
        })
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.doc()
    }
}
