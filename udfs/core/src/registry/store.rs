//! The only code that builds object paths, and the few operations the registry needs of a store.
//!
//! ```text
//! names/<blake3 of the name>.json         which model claimed the name first; settles two creations at once
//! models/<id>/state/<sequence>.json       name, active version …; the highest sequence is the truth
//! models/<id>/<version>/ticket.json       the number is taken, for ever
//! models/<id>/<version>/weights.safetensors
//! models/<id>/<version>/manifest.json     written last: the version exists
//! jobs/<job id>.json                      one training; replaced as it goes
//! transforms/<blake3 of the name>/<version>.json   one fitted transform, or that it was dropped
//! checkpoints/<id>/<key>/<label>.ckpt     where an unfinished training is; replaced as it goes
//! ```
//!
//! Everything but jobs, checkpoints and name claims is written once. A put whose answer was an error may have landed all the
//! same (a lost reply): it is settled by reading the object back.

use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::exact;
use crate::error::{Code, Error, Result};

pub(super) const WEIGHTS: &str = "weights.safetensors";
pub(super) const MANIFEST: &str = "manifest.json";
const TICKET: &str = "ticket.json";

/// What a path under the registry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Object {
    State { id: String, sequence: u64 },
    Ticket { id: String, version: u32 },
    Weights { id: String, version: u32 },
    Manifest { id: String, version: u32 },
    Job { id: i64 },
    Transform { key: String, version: u32 },
    Other,
}

/// What became of a conditional put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Put {
    Created,
    Exists,
}

/// An object store and the registry's place in it.
#[derive(Debug, Clone)]
pub(super) struct Store {
    inner: Arc<dyn ObjectStore>,
    root: Path,
}

impl Store {
    pub(super) fn new(inner: Arc<dyn ObjectStore>, root: Path) -> Self {
        Self { inner, root }
    }

    pub(super) fn claim(&self, name: &str) -> Path {
        self.root.clone().join("names").join(format!("{}.json", blake3::hash(name.as_bytes()).to_hex()))
    }

    pub(super) fn models(&self) -> Path {
        self.root.clone().join("models")
    }

    pub(super) fn state(&self, id: &str, sequence: u64) -> Path {
        self.models().join(id).join("state").join(format!("{sequence:010}.json"))
    }

    pub(super) fn ticket(&self, id: &str, version: u32) -> Path {
        self.version(id, version).join(TICKET)
    }

    pub(super) fn weights(&self, id: &str, version: u32) -> Path {
        self.version(id, version).join(WEIGHTS)
    }

    pub(super) fn manifest(&self, id: &str, version: u32) -> Path {
        self.version(id, version).join(MANIFEST)
    }

    pub(super) fn jobs(&self) -> Path {
        self.root.clone().join("jobs")
    }

    pub(super) fn job(&self, id: i64) -> Path {
        self.jobs().join(format!("{id:010}.json"))
    }

    pub(super) fn transforms(&self) -> Path {
        self.root.clone().join("transforms")
    }

    pub(super) fn transform(&self, key: &str, version: u32) -> Path {
        self.transforms().join(key).join(format!("{version:06}.json"))
    }

    pub(super) fn checkpoints(&self, id: &str) -> Path {
        self.root.clone().join("checkpoints").join(id)
    }

    pub(super) fn checkpoint_key(&self, id: &str, key: &str) -> Path {
        self.checkpoints(id).join(key)
    }

    pub(super) fn checkpoint(&self, id: &str, key: &str, label: &str) -> Path {
        self.checkpoint_key(id, key).join(format!("{label}.ckpt"))
    }

    fn version(&self, id: &str, version: u32) -> Path {
        self.models().join(id).join(format!("{version:06}"))
    }

    /// What `path` is; the inverse of the functions above.
    pub(super) fn object(&self, path: &Path) -> Object {
        let Some(parts) = path.prefix_match(&self.root) else { return Object::Other };
        let parts: Vec<_> = parts.map(|part| part.as_ref().to_owned()).collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let number = |name: &str| name.strip_suffix(".json").and_then(|digits| digits.parse::<u64>().ok());
        match parts.as_slice() {
            ["jobs", file] => number(file).and_then(|id| i64::try_from(id).ok()).map_or(Object::Other, |id| Object::Job { id }),
            ["transforms", key, file] => match number(file).and_then(|version| u32::try_from(version).ok()) {
                Some(version) => Object::Transform { key: (*key).to_owned(), version },
                None => Object::Other,
            },
            ["models", id, "state", file] => {
                number(file).map_or(Object::Other, |sequence| Object::State { id: (*id).to_owned(), sequence })
            }
            ["models", id, version, file] => match (version.parse::<u32>(), *file) {
                (Ok(version), TICKET) => Object::Ticket { id: (*id).to_owned(), version },
                (Ok(version), WEIGHTS) => Object::Weights { id: (*id).to_owned(), version },
                (Ok(version), MANIFEST) => Object::Manifest { id: (*id).to_owned(), version },
                _ => Object::Other,
            },
            _ => Object::Other,
        }
    }

    /// Every object under `folder`.
    pub(super) async fn list(&self, folder: &Path) -> Result<Vec<(Object, ObjectMeta)>> {
        let found: Vec<ObjectMeta> = self.inner.list(Some(folder)).try_collect().await.map_err(|error| failed("list", folder, &error))?;
        Ok(found.into_iter().map(|meta| (self.object(&meta.location), meta)).collect())
    }

    /// The bytes of an object; `None` when there is none.
    pub(super) async fn read(&self, path: &Path) -> Result<Option<Bytes>> {
        read(self.inner.as_ref(), path).await
    }

    /// A checked document; `None` when there is none, XX001 naming the file when it is damaged.
    pub(super) async fn read_document<T: DeserializeOwned>(&self, path: &Path) -> Result<Option<T>> {
        let Some(bytes) = self.read(path).await? else { return Ok(None) };
        exact::from_bytes(&bytes).map(Some).map_err(|reason| corrupted(path, &reason))
    }

    /// Writes an object that must not exist yet.
    pub(super) async fn create(&self, path: &Path, bytes: Bytes) -> Result<Put> {
        create(self.inner.as_ref(), path, bytes).await
    }

    /// Like [`create`](Self::create), for a document.
    pub(super) async fn create_document<T: Serialize>(&self, path: &Path, value: &T) -> Result<Put> {
        self.create(path, document(value)?).await
    }

    /// Writes an object, replacing the one that may be there.
    pub(super) async fn replace_document<T: Serialize>(&self, path: &Path, value: &T) -> Result<()> {
        replace(self.inner.as_ref(), path, document(value)?).await
    }

    /// Writes bytes, replacing those that may be there.
    pub(super) async fn replace(&self, path: &Path, bytes: Bytes) -> Result<()> {
        replace(self.inner.as_ref(), path, bytes).await
    }

    /// Removes an object; none there is fine.
    pub(super) async fn delete(&self, path: &Path) -> Result<()> {
        match self.inner.delete(path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(failed("remove", path, &error)),
        }
    }
}

/// `value` as a document with a checksum.
pub(super) fn document<T: Serialize>(value: &T) -> Result<Bytes> {
    exact::to_bytes(value).map(Bytes::from).map_err(|reason| Error::internal(format!("could not write a document: {reason}")))
}

pub(super) async fn read(store: &dyn ObjectStore, path: &Path) -> Result<Option<Bytes>> {
    let found = match store.get(path).await {
        Ok(found) => found.bytes().await,
        Err(error) => Err(error),
    };
    match found {
        Ok(bytes) => Ok(Some(bytes)),
        Err(object_store::Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(failed("read", path, &error)),
    }
}

pub(super) async fn create(store: &dyn ObjectStore, path: &Path, bytes: Bytes) -> Result<Put> {
    let options = PutOptions::from(PutMode::Create);
    let Err(error) = store.put_opts(path, PutPayload::from_bytes(bytes.clone()), options).await else {
        return Ok(Put::Created);
    };
    // Lost replies: what is there may be ours.
    match (read(store, path).await, &error) {
        (Ok(Some(found)), _) if found == bytes => Ok(Put::Created),
        (_, object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => Ok(Put::Exists),
        _ => Err(failed("write", path, &error)),
    }
}

pub(super) async fn replace(store: &dyn ObjectStore, path: &Path, bytes: Bytes) -> Result<()> {
    store.put(path, PutPayload::from_bytes(bytes)).await.map(|_| ()).map_err(|error| failed("write", path, &error))
}

/// The error of a damaged file.
pub(super) fn corrupted(path: &Path, reason: &str) -> Error {
    Error::new(Code::DataCorrupted, format!("file \"{path}\" is damaged: {reason}"))
}

/// What a store says, as an error that names the file; a full disk keeps its own code.
pub(super) fn failed(verb: &str, path: &Path, error: &object_store::Error) -> Error {
    // A store of the program's may say itself what is wrong.
    if let Some(found) = Error::find(error) {
        return found.clone();
    }
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    let mut code = Code::Io;
    while let Some(next) = cause {
        if let Some(io) = next.downcast_ref::<std::io::Error>() {
            code = Error::from(std::io::Error::from(io.kind())).code;
        }
        cause = next.source();
    }
    Error::new(code, format!("could not {verb} file \"{path}\"")).detail(format!("{error}."))
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use super::*;

    #[test]
    fn paths_are_read_back() {
        let store = Store::new(Arc::new(InMemory::new()), Path::from("data/registry"));
        let id = "0199";
        let cases = [
            (store.state(id, 12), Object::State { id: id.into(), sequence: 12 }),
            (store.ticket(id, 3), Object::Ticket { id: id.into(), version: 3 }),
            (store.weights(id, 1_000_000), Object::Weights { id: id.into(), version: 1_000_000 }),
            (store.manifest(id, 3), Object::Manifest { id: id.into(), version: 3 }),
            (store.job(8), Object::Job { id: 8 }),
            (store.transform("ab", 12), Object::Transform { key: "ab".into(), version: 12 }),
            (store.claim("shopper"), Object::Other),
            (store.checkpoint(id, "key", "dnn"), Object::Other),
            (Path::from("elsewhere/models/a/state/0000000001.json"), Object::Other),
            (store.models().join("stray.tmp"), Object::Other),
        ];
        for (path, object) in cases {
            assert_eq!(store.object(&path), object, "{path}");
        }
    }

    #[tokio::test]
    async fn create_happens_once() {
        let store = Store::new(Arc::new(InMemory::new()), Path::from(""));
        let path = store.claim("a");
        assert_eq!(store.create(&path, Bytes::from_static(b"1")).await.unwrap(), Put::Created);
        assert_eq!(store.create(&path, Bytes::from_static(b"2")).await.unwrap(), Put::Exists);
        assert_eq!(store.read(&path).await.unwrap().unwrap().as_ref(), b"1");
    }
}
