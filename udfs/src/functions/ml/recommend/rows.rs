//! Result rows of this family.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int32Array, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;

use super::subject::Items;
use crate::error::{Code, Error, Result};
use crate::features::KeyType;
use crate::features::events::UserKey;
use crate::functions::ml::predict::loaded::key_array;
use crate::train::retrieve::{Reason, Recommended};

/// The columns of recommended items.
pub(super) fn item_schema(key: KeyType) -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("user_id", key.data_type(), false),
        Field::new("rank", DataType::Int32, false),
        Field::new("item_id", DataType::Utf8, false),
        Field::new("score", DataType::Float64, false),
        Field::new("reason", DataType::Utf8, false),
    ]))
}

/// The columns of users like another.
pub(super) fn user_schema(key: KeyType) -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("user_id", key.data_type(), false), Field::new("similarity", DataType::Float64, false)]))
}

/// Recommended items of some users, best first.
pub(super) fn item_rows(users: &[UserKey], found: &[Vec<Recommended>], items: &Items, schema: &SchemaRef) -> Result<RecordBatch> {
    let all = || found.iter().flatten();
    let keys = users.iter().zip(found).flat_map(|(user, found)| std::iter::repeat_n(user, found.len()));
    let ranks = found.iter().flat_map(|found| 1..=i32::try_from(found.len()).unwrap_or(i32::MAX));
    let columns: Vec<ArrayRef> = vec![
        key_array(keys, key_type(schema)),
        Arc::new(ranks.collect::<Int32Array>()),
        Arc::new(StringArray::from(all().map(|item| items.classes[item.class as usize].as_str()).collect::<Vec<_>>())),
        Arc::new(Float64Array::from_iter_values(all().map(|item| item.score))),
        Arc::new(StringArray::from(all().map(|item| words(item.reason, items)).collect::<Vec<_>>())),
    ];
    batch(schema, columns)
}

/// Users by similarity.
pub(super) fn user_rows(found: &[(f64, UserKey)], schema: &SchemaRef) -> Result<RecordBatch> {
    let columns: Vec<ArrayRef> = vec![
        key_array(found.iter().map(|(_, user)| user), key_type(schema)),
        Arc::new(Float64Array::from_iter_values(found.iter().map(|(similarity, _)| *similarity))),
    ];
    batch(schema, columns)
}

fn key_type(schema: &SchemaRef) -> KeyType {
    if schema.field(0).data_type() == &DataType::Int64 { KeyType::Int64 } else { KeyType::Utf8 }
}

fn batch(schema: &SchemaRef, columns: Vec<ArrayRef>) -> Result<RecordBatch> {
    RecordBatch::try_new(Arc::clone(schema), columns).map_err(|error| {
        // The type of user_id was decided while planning; a version that became active since may differ.
        Error::new(Code::NotReady, "the model changed while the statement ran")
            .detail(format!("{error}."))
            .hint("Prepare the statement again.")
    })
}

/// A reason for people.
fn words(reason: Reason, items: &Items) -> String {
    let name = |class: u32| items.classes.get(class as usize).map_or("", String::as_str);
    match reason {
        Reason::Adds(class, share) => format!("because of \"{}\", which makes {:.0} % of the score", name(class), 100.0 * share),
        Reason::Like(class, cosine) => format!("like \"{}\" in the history (similarity {cosine:.2})", name(class)),
        Reason::Seen => "in the history already".to_owned(),
        Reason::Popular => "popular; the history has no item that the model knows".to_owned(),
        Reason::Likely => "likely after the whole history".to_owned(),
    }
}
