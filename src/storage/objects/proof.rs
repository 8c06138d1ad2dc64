//! Whether a store keeps what commits rest on: of two creations of one key the second fails, and a replacement fails when the
//! object was changed meanwhile. Some stores that speak S3's protocol ignore those conditions and say that all went well.

use object_store::path::Path;
use object_store::{Error as StoreError, ObjectStore, ObjectStoreExt, PutMode, Result, UpdateVersion};

const FOLDER: &str = ".portrait-probe";

/// Tries it on an object of its own. `None`: the promise is kept; else what is wrong, as a whole sentence.
///
/// # Errors
/// A store that cannot be reached.
pub(super) async fn what_is_wrong(store: &dyn ObjectStore) -> Result<Option<&'static str>> {
    let key = Path::from_iter([FOLDER, &uuid::Uuid::new_v4().to_string()]);
    let found = try_conditions(store, &key).await;
    if !matches!(found, Ok(Some(NO_WRITES))) {
        // What is left over is one small object.
        let _ = store.delete(&key).await;
    }
    found
}

const NO_WRITES: &str = "The store does not let this server write.";
const NO_CONDITIONS: &str = "The store has no conditional writes.";
const NO_TAGS: &str = "The store gives its objects no tags.";
const CREATED_TWICE: &str = "The store lets a key be created twice.";
const NOT_REPLACED: &str = "The store does not replace an object under a condition.";
const OVERWRITTEN: &str = "The store replaces an object that was changed meanwhile.";

async fn try_conditions(store: &dyn ObjectStore, key: &Path) -> Result<Option<&'static str>> {
    let first = match store.put_opts(key, "1".into(), PutMode::Create.into()).await {
        Ok(put) => UpdateVersion { e_tag: put.e_tag, version: put.version },
        Err(StoreError::NotImplemented { .. }) => return Ok(Some(NO_CONDITIONS)),
        Err(StoreError::PermissionDenied { .. } | StoreError::Unauthenticated { .. }) => return Ok(Some(NO_WRITES)),
        Err(error) => return Err(error),
    };
    if first.e_tag.is_none() {
        return Ok(Some(NO_TAGS));
    }
    match store.put_opts(key, "2".into(), PutMode::Create.into()).await {
        Err(StoreError::AlreadyExists { .. } | StoreError::Precondition { .. }) => {}
        Ok(_) => return Ok(Some(CREATED_TWICE)),
        Err(error) => return Err(error),
    }
    match store.put_opts(key, "3".into(), PutMode::Update(first.clone()).into()).await {
        Ok(_) => {}
        Err(StoreError::NotImplemented { .. } | StoreError::Precondition { .. } | StoreError::AlreadyExists { .. }) => {
            return Ok(Some(NOT_REPLACED));
        }
        Err(error) => return Err(error),
    }
    match store.put_opts(key, "4".into(), PutMode::Update(first).into()).await {
        Err(StoreError::Precondition { .. } | StoreError::AlreadyExists { .. }) => Ok(None),
        Ok(_) => Ok(Some(OVERWRITTEN)),
        Err(error) => Err(error),
    }
}
