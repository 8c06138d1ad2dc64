//! One version of a set as a file, `audiences/sets/<id>.set`: written once, read with its hash checked.

use std::collections::HashSet;

use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use portrait_udfs::error::{Code, Error, Result};
use portrait_udfs::kernels::bitmap::Bitmap;
use uuid::Uuid;

use crate::storage::store_error;

const FOLDER: &str = "audiences/sets";
const MAGIC: &[u8; 8] = b"PAUDSET\x01";
const HEADER_BYTES: usize = 8 + 32;

/// A set that is on the disk.
#[derive(Debug, Clone)]
pub(crate) struct StoredSet {
    /// Its file.
    pub(crate) file: Uuid,
    /// How many members it has.
    pub(crate) members: u64,
    /// Bytes of the file.
    pub(crate) bytes: u64,
    /// BLAKE3 of the bitmap, hexadecimal: equal sets have equal hashes.
    pub(crate) hash: String,
}

fn place(file: Uuid) -> Path {
    Path::from(format!("{FOLDER}/{file}.set"))
}

/// Writes a set; durable when it returns, and swept at the next start unless a catalog names it by then.
pub(crate) async fn write_set(store: &dyn ObjectStore, mut set: Bitmap) -> Result<StoredSet> {
    let members = set.len();
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&[0; 32]);
    set.write(&mut out);
    drop(set);
    let hash = blake3::hash(&out[HEADER_BYTES..]);
    out[MAGIC.len()..HEADER_BYTES].copy_from_slice(hash.as_bytes());
    let (file, bytes) = (Uuid::now_v7(), out.len() as u64);
    let create = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
    store.put_opts(&place(file), out.into(), create).await.map_err(store_error)?;
    Ok(StoredSet { file, members, bytes, hash: hash.to_hex().to_string() })
}

/// Reads a set.
///
/// # Errors
/// XX001 naming the file when it is damaged.
pub(crate) async fn read_set(store: &dyn ObjectStore, file: Uuid) -> Result<Bitmap> {
    let path = place(file);
    let bytes = store.get(&path).await.map_err(store_error)?.bytes().await.map_err(store_error)?;
    decode(&bytes).map_err(|what| Error::new(Code::DataCorrupted, format!("file \"{path}\" is damaged: {what}")))
}

fn decode(bytes: &[u8]) -> Result<Bitmap, String> {
    let rest = bytes.strip_prefix(MAGIC).ok_or("it is no set of users, or a newer one")?;
    let (hash, body) = rest.split_first_chunk::<32>().ok_or("it is too short")?;
    if blake3::hash(body).as_bytes() != hash {
        return Err("its hash is wrong".into());
    }
    Bitmap::read(body).map_err(|malformed| malformed.to_string())
}

/// Removes a set that no catalog names any more; what cannot be removed now is swept at the next start.
pub(crate) async fn remove_set(store: &dyn ObjectStore, file: Uuid) {
    if let Err(error) = store.delete(&place(file)).await {
        tracing::debug!(%error, %file, "dropped audience not removed");
    }
}

/// Removes the sets that the catalog does not name. Call only while nothing else works in the folder.
pub(crate) async fn sweep_sets(store: &dyn ObjectStore, named: &HashSet<Uuid>) -> Result<usize> {
    let listed = store.list_with_delimiter(Some(&Path::from(FOLDER))).await.map_err(store_error)?;
    let mut removed = 0;
    for file in listed.objects.into_iter().map(|object| object.location) {
        let id = file.filename().and_then(|name| name.split('.').next()).and_then(|stem| Uuid::parse_str(stem).ok());
        if id.is_some_and(|id| !named.contains(&id)) {
            store.delete(&file).await.map_err(store_error)?;
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
    async fn sets_come_back_and_damage_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let store = DurableLocal::open(folder.path()).unwrap();
        let set = Bitmap::from_ascending(&[1, 5, 70_000, 1 << 33]);
        let stored = write_set(&store, set.clone()).await.unwrap();
        let other = write_set(&store, Bitmap::from_ids(vec![1 << 33, 70_000, 5, 1])).await.unwrap();
        assert_eq!((stored.members, &stored.hash), (4, &other.hash));
        assert_eq!(read_set(&store, stored.file).await.unwrap(), set);

        assert_eq!(sweep_sets(&store, &HashSet::from([stored.file])).await.unwrap(), 1);
        assert!(read_set(&store, other.file).await.is_err());

        let path = folder.path().join(format!("{FOLDER}/{}.set", stored.file));
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(bytes.len() as u64, stored.bytes);
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 4;
            assert!(decode(&flipped).is_err(), "byte {at}");
            assert!(decode(&bytes[..at]).is_err(), "cut at {at}");
        }
        std::fs::write(&path, &bytes[..9]).unwrap();
        assert_eq!(read_set(&store, stored.file).await.unwrap_err().code, Code::DataCorrupted);
    }
}
