//! Stored audiences as relations see them: the version a call names, and its members as columns.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field};

use crate::context::{AudienceKey, AudienceRef, UserNumbers};
use crate::error::{Error, Result};
use crate::functions::MlContext;
use crate::functions::relation::{Arguments, Call};
use crate::kernels::bitmap::Bitmap;

/// Users of one batch.
pub(super) const BATCH_USERS: u64 = 8192;

/// The type of a column of users.
pub(super) fn user_type(key: AudienceKey) -> DataType {
    match key {
        AudienceKey::BigInt => DataType::Int64,
        AudienceKey::Text => DataType::Utf8,
    }
}

/// The column `user_id`.
pub(super) fn user_field(key: AudienceKey) -> Field {
    Field::new("user_id", user_type(key), false)
}

/// The audience that an argument names; `None` while it is a parameter.
///
/// # Errors
/// 22023 for NULL, and those of [`AudienceRef::resolve`].
pub(super) fn named(args: &Arguments, argument: &str, context: &MlContext) -> Result<Option<AudienceRef>> {
    if args.is_unbound(argument) {
        return Ok(None);
    }
    AudienceRef::resolve(&*context.audiences, args.required_text(argument)?).map(Some)
}

/// A version of an audience, read.
#[derive(Debug, Clone)]
pub(super) struct Opened {
    pub(super) members: Arc<Bitmap>,
    pub(super) numbers: Arc<dyn UserNumbers>,
}

/// Reads the audience that an argument names.
///
/// # Errors
/// As [`named`], and when it cannot be read.
pub(super) async fn open(call: &Call, argument: &str) -> Result<Opened> {
    let found = AudienceRef::resolve(&*call.context.audiences, call.args.required_text(argument)?)?;
    open_version(call, &found).await
}

/// Reads a version, by person.
///
/// # Errors
/// When it cannot be read.
pub(super) async fn open_version(call: &Call, found: &AudienceRef) -> Result<Opened> {
    let audiences = &call.context.audiences;
    audiences.check(&call.statement().user, &found.name)?;
    // In this order: the numbers know whoever is in the set.
    let members = audiences.members(&found.name, found.version).await?;
    let numbers = audiences.numbers().await?;
    Ok(Opened { members: numbers.persons(&members), numbers })
}

/// The users of some numbers, as a column of type `wanted`.
///
/// # Errors
/// XX000 when a number means nobody.
pub(super) fn users(numbers: &dyn UserNumbers, ids: &[u64], wanted: &DataType) -> Result<ArrayRef> {
    let names = numbers.names(ids);
    if arrow::array::Array::null_count(&names) > 0 {
        return Err(Error::internal("an audience has members that the dictionary does not know"));
    }
    let names: ArrayRef = Arc::new(names);
    cast(&names, wanted).map_err(|error| Error::internal(error.to_string()))
}

/// The next users of a set from `next` on, and where to go on; `None` at its end.
pub(super) fn page(set: &Bitmap, next: u64) -> Option<(Vec<u64>, u64)> {
    let ids: Vec<u64> = set.from(next, BATCH_USERS).iter().collect();
    let last = *ids.last()?;
    Some((ids, last.saturating_add(1)))
}

/// A batch of a relation's schema.
///
/// # Errors
/// A bug of ours when the columns do not fit.
pub(super) fn batch(call: &Call, columns: Vec<ArrayRef>) -> Result<RecordBatch> {
    RecordBatch::try_new(Arc::clone(&call.schema), columns).map_err(|error| Error::internal(error.to_string()))
}
