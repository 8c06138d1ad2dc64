//! `audience_diff(audience, other => NULL)`

use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::stream;

use super::named::{batch, named, open_version, page, user_field, users};
use crate::context::{AudienceKey, AudienceRef, UserNumbers};
use crate::error::{Code, Error, Result};
use crate::functions::MlContext;
use crate::functions::relation::{Arguments, Call, Kind, MlRelation, Parameter};
use crate::kernels::bitmap::Bitmap;

/// See [`MlRelation::doc`].
#[derive(Debug)]
pub(super) struct AudienceDiff;

/// Who came and who went.
struct Changes {
    added: Bitmap,
    removed: Bitmap,
    numbers: Arc<dyn UserNumbers>,
}

/// Where the rows are: in `removed`, from a number on.
#[derive(Clone, Copy)]
struct Place {
    removed: bool,
    next: u64,
}

impl MlRelation for AudienceDiff {
    fn name(&self) -> &'static str {
        "audience_diff"
    }

    fn parameters(&self) -> &'static [Parameter] {
        const PARAMETERS: &[Parameter] = &[
            Parameter::required("audience", Kind::Text, "What was: `name` (the newest version) or `name@3`."),
            Parameter::optional(
                "other",
                Kind::Text,
                "NULL",
                "What is: another audience or version. Without it the version before the named one is compared with that one.",
            ),
        ];
        PARAMETERS
    }

    fn doc(&self) -> &'static str {
        "Who came and who went: the users that `other` has and `audience` has not (change 'added'), and the other way round ('removed'). \
         With one argument it is what the last REFRESH AUDIENCE changed. In no particular order."
    }

    fn example(&self) -> &'static str {
        "SELECT change, count(*) AS users FROM audience_diff('buyers', 'germans') GROUP BY change ORDER BY change"
    }

    fn schema(&self, args: &Arguments, _: Option<&Schema>, context: &MlContext) -> Result<SchemaRef> {
        let key = match named(args, "audience", context)? {
            Some(first) if !args.is_unbound("other") => {
                let (before, after) = both(args, context, first)?;
                if before.key == after.key { before.key } else { AudienceKey::Text }
            }
            _ => AudienceKey::Text,
        };
        Ok(Arc::new(Schema::new(vec![user_field(key), Field::new("change", DataType::Utf8, false)])))
    }

    fn execute(&self, call: Call) -> Result<SendableRecordBatchStream> {
        let (schema, statement, call) = (Arc::clone(&call.schema), call.statement(), Arc::new(call));
        let start = (None::<Arc<Changes>>, Place { removed: false, next: 0 });
        let rows = stream::try_unfold(start, move |(changes, place)| {
            let (call, statement) = (Arc::clone(&call), Arc::clone(&statement));
            async move {
                if statement.cancel.is_cancelled() {
                    return Err(Error::cancelled().into());
                }
                let changes = match changes {
                    Some(changes) => changes,
                    None => Arc::new(compare(&call).await?),
                };
                let Some((ids, place)) = changes.page(place) else { return Ok(None) };
                let word = if place.removed { "removed" } else { "added" };
                let words: ArrayRef = Arc::new(StringArray::from_iter_values(ids.iter().map(|_| word)));
                let column = users(&*changes.numbers, &ids, call.schema.field(0).data_type())?;
                Ok(Some((batch(&call, vec![column, words])?, (Some(changes), place))))
            }
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
    }
}

/// What is compared: (what was, what is).
fn both(args: &Arguments, context: &MlContext, first: AudienceRef) -> Result<(AudienceRef, AudienceRef)> {
    if let Some(other) = args.text("other") {
        return Ok((first, AudienceRef::resolve(&*context.audiences, other)?));
    }
    let versions = context.audiences.get(&first.name).map(|found| found.versions).unwrap_or_default();
    match versions.iter().rev().find(|known| known.version < first.version) {
        Some(before) => Ok((AudienceRef { version: before.version, ..first.clone() }, first)),
        None => Err(Error::new(Code::UndefinedObject, format!("audience \"{}\" has no version before {}", first.name, first.version))
            .hint("REFRESH AUDIENCE makes a new version when the users changed.")),
    }
}

async fn compare(call: &Call) -> Result<Changes> {
    let first = named(&call.args, "audience", &call.context)?.ok_or_else(|| call.args.missing("audience"))?;
    let (before, after) = both(&call.args, &call.context, first)?;
    let (before, after) = (open_version(call, &before).await?, open_version(call, &after).await?);
    // As the later one sees persons: links may have changed between the two.
    let before = after.numbers.persons(&before.members);
    Ok(Changes { added: after.members.and_not(&before), removed: before.and_not(&after.members), numbers: after.numbers })
}

impl Changes {
    fn page(&self, place: Place) -> Option<(Vec<u64>, Place)> {
        if !place.removed
            && let Some((ids, next)) = page(&self.added, place.next)
        {
            return Some((ids, Place { removed: false, next }));
        }
        let next = if place.removed { place.next } else { 0 };
        page(&self.removed, next).map(|(ids, next)| (ids, Place { removed: true, next }))
    }
}
