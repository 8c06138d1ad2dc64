//! `resolve_user(id)`

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, StringBuilder};
use arrow::datatypes::{DataType, Int64Type};
use datafusion::common::utils::take_function_args;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::{ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};
use datafusion_macros::user_doc;

use super::arguments::{fits, unfit};
use crate::context::StatementContext;
use crate::error::{Code, Error, Result};
use crate::functions::MlContext;
use crate::kernels::identity::People;

#[user_doc(
    doc_section(label = "Identity Functions"),
    description = "The id that the person behind any id is called by: the smallest of the person's ids, whole numbers before texts, numbers by value, texts by their bytes. An id that was never linked is its own; NULL gives NULL. bigint gives bigint, text gives text: a person who has a number is called by one. All rows of a statement see the same links; the next statement sees newer ones.",
    syntax_example = "resolve_user(id)",
    sql_example = "```sql\nSELECT resolve_user(user_id) AS person, count(*) AS events FROM events GROUP BY 1 ORDER BY events DESC LIMIT 3;\n```",
    argument(name = "id", description = "An id: bigint or text."),
    related_udf(name = "link_ids")
)]
pub(super) struct ResolveUser {
    context: Arc<MlContext>,
    signature: Signature,
}

impl ResolveUser {
    pub(super) fn new(context: &Arc<MlContext>) -> Self {
        let mut signature = Signature::user_defined(Volatility::Stable);
        signature.parameter_names = Some(vec!["id".to_owned()]);
        Self { context: Arc::clone(context), signature }
    }
}

/// The type that ids of a type are read as, and come back as; other types stay, and are refused later.
fn read_as(given: &DataType) -> DataType {
    let value = match given {
        DataType::Dictionary(_, value) => value.as_ref(),
        other => other,
    };
    match value {
        // Not all of them are bigint.
        DataType::UInt64 => DataType::Utf8,
        value if value.is_integer() => DataType::Int64,
        value if fits(value) => DataType::Utf8,
        _ => given.clone(),
    }
}

fn resolve(people: &People, ids: &ArrayRef) -> Result<ArrayRef> {
    if people.are_plain() {
        return Ok(Arc::clone(ids));
    }
    let reader = people.read();
    match ids.data_type() {
        DataType::Int64 => {
            let ids = ids.as_primitive::<Int64Type>();
            Ok(Arc::new(ids.iter().map(|id| id.map(|id| reader.canonical_whole(id))).collect::<Int64Array>()))
        }
        DataType::Utf8 => {
            let ids = ids.as_string::<i32>();
            let mut out = StringBuilder::with_capacity(ids.len(), ids.value_data().len());
            ids.iter().for_each(|id| out.append_option(id.map(|id| reader.canonical(id))));
            Ok(Arc::new(out.finish()))
        }
        other => Err(unfit("resolve_user", other)),
    }
}

impl ScalarUDFImpl for ResolveUser {
    fn name(&self) -> &str {
        "resolve_user"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> DfResult<Vec<DataType>> {
        Ok(given.iter().map(read_as).collect())
    }

    fn return_type(&self, given: &[DataType]) -> DfResult<DataType> {
        match given {
            [kind] if matches!(kind, DataType::Int64 | DataType::Utf8) => Ok(kind.clone()),
            [kind] if read_as(kind) != *kind => Ok(read_as(kind)),
            [kind] => Err(unfit("resolve_user", kind).into()),
            _ => Err(Error::new(Code::UndefinedFunction, "function resolve_user takes 1 argument")
                .detail(format!("{} arguments were given.", given.len()))
                .into()),
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DfResult<ColumnarValue> {
        let statement = StatementContext::of_options(&args.config_options);
        let people = statement.people(&*self.context.identities);
        let [ids] = take_function_args(self.name(), &args.args)?;
        match ids {
            ColumnarValue::Array(ids) => Ok(ColumnarValue::Array(resolve(people, ids)?)),
            ColumnarValue::Scalar(id) => {
                let found = resolve(people, &id.to_array()?)?;
                Ok(ColumnarValue::Scalar(datafusion::common::ScalarValue::try_from_array(&found, 0)?))
            }
        }
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.doc()
    }
}

impl fmt::Debug for ResolveUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResolveUser").finish_non_exhaustive()
    }
}

impl PartialEq for ResolveUser {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.context, &other.context)
    }
}

impl Eq for ResolveUser {}

impl Hash for ResolveUser {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.context).hash(state);
    }
}
