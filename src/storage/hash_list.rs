//! Many users' hashes as a file, `erasures/<id>.hashes`: written once, read with its hash checked, sorted.
//!
//! The catalog's file is written anew with every change, so it names lists of a thousand users and more instead of holding
//! them.

use std::collections::HashSet;
use std::sync::Arc;

use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use portrait_udfs::error::{Code, Error, Result};
use uuid::Uuid;

use super::erasure::UserHash;
use super::store_error;

const FOLDER: &str = "erasures";
const MAGIC: &[u8; 8] = b"PHASHES\x01";
const HEADER_BYTES: usize = 8 + 32;

/// A list that is on the disk and in memory. Two of one file are equal.
#[derive(Debug, Clone)]
pub(crate) struct HashList {
    /// Its file.
    pub(crate) file: Uuid,
    hashes: Arc<Vec<UserHash>>,
}

impl PartialEq for HashList {
    fn eq(&self, other: &Self) -> bool {
        self.file == other.file
    }
}

impl Eq for HashList {}

impl HashList {
    pub(crate) fn hashes(&self) -> &[UserHash] {
        &self.hashes
    }

    pub(crate) fn contains(&self, hash: &UserHash) -> bool {
        self.hashes.binary_search(hash).is_ok()
    }

    /// Writes a list; durable when it returns, and swept at the next start unless a catalog names it by then.
    pub(crate) async fn write(store: &dyn ObjectStore, mut hashes: Vec<UserHash>) -> Result<Self> {
        hashes.sort_unstable();
        hashes.dedup();
        let body = hashes.as_flattened();
        let mut out = Vec::with_capacity(HEADER_BYTES + body.len());
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(blake3::hash(body).as_bytes());
        out.extend_from_slice(body);
        let file = Uuid::now_v7();
        let create = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        store.put_opts(&place(file), out.into(), create).await.map_err(store_error)?;
        Ok(Self { file, hashes: Arc::new(hashes) })
    }

    /// Reads a list.
    ///
    /// # Errors
    /// XX001 naming the file when it is damaged.
    pub(crate) async fn read(store: &dyn ObjectStore, file: Uuid) -> Result<Self> {
        let path = place(file);
        let bytes = store.get(&path).await.map_err(store_error)?.bytes().await.map_err(store_error)?;
        let hashes = decode(&bytes).map_err(|what| Error::new(Code::DataCorrupted, format!("file \"{path}\" is damaged: {what}")))?;
        Ok(Self { file, hashes: Arc::new(hashes) })
    }

    /// Removes a list that no catalog names; what cannot be removed now is swept at the next start.
    pub(crate) async fn remove(store: &dyn ObjectStore, file: Uuid) {
        if let Err(error) = store.delete(&place(file)).await {
            tracing::debug!(%error, %file, "list of hashes not removed");
        }
    }
}

fn place(file: Uuid) -> Path {
    Path::from(format!("{FOLDER}/{file}.hashes"))
}

fn decode(bytes: &[u8]) -> Result<Vec<UserHash>, &'static str> {
    let rest = bytes.strip_prefix(MAGIC).ok_or("it is no list of hashes, or a newer one")?;
    let (hash, body) = rest.split_first_chunk::<32>().ok_or("it is too short")?;
    if blake3::hash(body).as_bytes() != hash {
        return Err("its hash is wrong");
    }
    let (hashes, rest) = body.as_chunks::<16>();
    if !rest.is_empty() || !hashes.is_sorted_by(|one, next| one < next) {
        return Err("it is not sorted");
    }
    Ok(hashes.to_vec())
}

/// Removes lists that the catalog does not name. Call only while nothing else works in the folder.
pub(crate) async fn sweep_lists(store: &dyn ObjectStore, named: &HashSet<Uuid>) -> Result<usize> {
    let listed: Vec<_> = store.list(Some(&Path::from(FOLDER))).try_collect().await.map_err(store_error)?;
    let mut removed = 0;
    for object in listed {
        let id = object.location.filename().and_then(|name| Uuid::parse_str(name.strip_suffix(".hashes")?).ok());
        if id.is_some_and(|id| !named.contains(&id)) {
            store.delete(&object.location).await.map_err(store_error)?;
            removed += 1;
        }
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::DurableLocal;

    #[tokio::test]
    async fn lists_come_back_and_damage_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let store = DurableLocal::open(folder.path()).unwrap();
        let hashes: Vec<UserHash> = (0..100_u8).rev().map(|n| [n; 16]).collect();
        let list = HashList::write(&store, hashes).await.unwrap();
        let other = HashList::write(&store, vec![[7; 16]; 3]).await.unwrap();
        assert_eq!(other.hashes(), [[7; 16]]);
        let read = HashList::read(&store, list.file).await.unwrap();
        assert!(read == list && read.hashes() == list.hashes() && read.contains(&[99; 16]) && !read.contains(&[100; 16]));
        assert_eq!(sweep_lists(&store, &HashSet::from([list.file])).await.unwrap(), 1);
        assert!(HashList::read(&store, other.file).await.is_err());
        let bytes = std::fs::read(folder.path().join(format!("{FOLDER}/{}.hashes", list.file))).unwrap();
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            assert!(decode(&flipped).is_err(), "byte {at}");
            assert!(decode(&bytes[..at]).is_err(), "cut at {at}");
        }
    }
}
