//! The dictionary of user ids: a text per number, numbers dense from 0.
//!
//! On the disk it is a list of segments, `audiences/ids/<first number>.ids`, each written once: the header says how many ids
//! follow and has a BLAKE3 hash of them, the ids are texts with their lengths in LEB128. A segment is created under a name
//! that must not exist, so no number is given twice even by a program that lost its memory. In memory it is a table of texts
//! that is read at the first use and counts against the query memory.

use std::borrow::Cow;
use std::sync::Arc;

use datafusion::arrow::array::{Array, StringArray, StringBuilder};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use parking_lot::RwLock;
use portrait_udfs::error::{Code, Error, Result};
use portrait_udfs::kernels::intern::Interner;

use crate::storage::erasure::Users;
use crate::storage::store_error;

const FOLDER: &str = "audiences/ids";
const MAGIC: &[u8; 8] = b"PUSERID\x01";
/// Magic, first number, count, hash.
const HEADER_BYTES: usize = 8 + 8 + 8 + 32;
/// Ids of one segment at most: what is written at once stays small.
const SEGMENT_IDS: usize = 1 << 20;
/// What the ids of erased users begin with: no text that SQL knows has it.
const NOBODY: char = '\0';
/// Numbers that there are.
const IDS_MAX: usize = u32::MAX as usize - 1;

/// All user ids that have numbers.
#[derive(Debug)]
pub(crate) struct Dictionary {
    store: Arc<dyn ObjectStore>,
    table: RwLock<Table>,
    /// One load or append at a time.
    gate: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Table {
    names: Interner,
    /// How many of them are on the disk; `None` before the first use.
    stored: Option<usize>,
    memory: Option<MemoryReservation>,
}

impl Table {
    /// The name of a number, unless it is one of `gone`, which ascend.
    fn name_but(&self, code: u32, gone: &[u32]) -> Cow<'_, str> {
        match gone.binary_search(&code) {
            Ok(_) => Cow::Owned(format!("{NOBODY}{code}")),
            Err(_) => Cow::Borrowed(self.names.get(code)),
        }
    }

    /// The numbers from `first` on that are those of `users`, ascending.
    fn numbers_of(&self, users: &Users, first: u32) -> Vec<u32> {
        let end = u32::try_from(self.names.len()).unwrap_or(u32::MAX);
        (first..end).filter(|code| users.contains(self.names.get(*code))).collect()
    }

    /// Takes the names of `gone` out of memory, and those of `users` that came after the first `seen` numbers.
    fn forget(&mut self, users: &Users, mut gone: Vec<u32>, seen: usize) {
        gone.extend(self.numbers_of(users, u32::try_from(seen).unwrap_or(u32::MAX)));
        // Both tables are there for a moment. It must go on all the same: the users have to be forgotten.
        if let Some(memory) = &self.memory {
            memory.grow(self.names.bytes());
        }
        let mut names = Interner::default();
        for code in 0..u32::try_from(self.names.len()).unwrap_or(u32::MAX) {
            names.intern(&self.name_but(code, &gone));
        }
        self.names = names;
        if let Some(memory) = &self.memory {
            memory.resize(self.names.bytes());
        }
    }

    fn count_memory(&self) -> Result<()> {
        let Some(memory) = &self.memory else { return Ok(()) };
        memory.try_resize(self.names.bytes()).map_err(crate::storage::engine_error)
    }
}

impl Dictionary {
    /// A dictionary that is not read yet.
    pub(crate) fn new(store: Arc<dyn ObjectStore>) -> Arc<Self> {
        Arc::new(Self { store, table: RwLock::default(), gate: tokio::sync::Mutex::new(()) })
    }

    /// Reads the segments, the first time; the table's memory comes from `pool`.
    ///
    /// # Errors
    /// XX001 for a damaged segment, naming it; 53200.
    pub(crate) async fn load(&self, pool: &Arc<dyn MemoryPool>) -> Result<()> {
        if self.table.read().stored.is_some() {
            return Ok(());
        }
        let _one_at_a_time = self.gate.lock().await;
        if self.table.read().stored.is_some() {
            return Ok(());
        }
        let mut table = Table { memory: Some(MemoryConsumer::new("AudienceDictionary").register(pool)), ..Table::default() };
        let folder = Path::from(FOLDER);
        let files: Vec<_> = self.store.list(Some(&folder)).try_collect().await.map_err(store_error)?;
        for file in files {
            let bytes = self.store.get(&file.location).await.map_err(store_error)?.bytes().await.map_err(store_error)?;
            read_segment(&bytes, &mut table.names).map_err(|what| damaged(&file.location, what))?;
            table.count_memory()?;
        }
        table.stored = Some(table.names.len());
        *self.table.write() = table;
        Ok(())
    }

    /// The numbers of `users`, new ones for those that have none; NULLs are left out. Nothing is durable before
    /// [`keep`](Self::keep).
    ///
    /// # Errors
    /// 54000 when there are no more numbers, 53200 when the table has no more memory.
    pub(crate) fn number(&self, users: &StringArray, mut each: impl FnMut(u64)) -> Result<()> {
        let mut table = self.table.write();
        if table.names.len() + users.len() > IDS_MAX {
            return Err(Error::new(Code::TooComplex, "there are more than four billion user ids"));
        }
        for user in users.iter().flatten() {
            each(u64::from(table.names.intern(user)));
        }
        table.count_memory()
    }

    /// The numbers of `users` that have one.
    pub(crate) fn find(&self, users: &StringArray) -> Vec<Option<u64>> {
        let table = self.table.read();
        users.iter().map(|user| table.names.find(user?).map(u64::from)).collect()
    }

    /// Works with the names and their numbers as they are now.
    pub(super) fn with_names<T>(&self, work: impl FnOnce(&Interner) -> T) -> T {
        work(&self.table.read().names)
    }

    /// The numbers of users who are among `users`.
    pub(crate) fn numbers_of(&self, users: &Users) -> Vec<u64> {
        self.table.read().numbers_of(users, 0).into_iter().map(u64::from).collect()
    }

    /// Takes the ids of `users` out; their numbers stay, and are nobody's.
    ///
    /// # Errors
    /// 58030: then some segments still have them, and another call goes on.
    pub(crate) async fn forget(&self, users: &Users) -> Result<()> {
        let _one_at_a_time = self.gate.lock().await;
        let (gone, stored, seen) = {
            let table = self.table.read();
            (table.numbers_of(users, 0), table.stored.unwrap_or(0), table.names.len())
        };
        if gone.is_empty() {
            return Ok(());
        }
        let folder = Path::from(FOLDER);
        let files: Vec<_> = self.store.list(Some(&folder)).try_collect().await.map_err(store_error)?;
        let first = |path: &Path| path.filename().and_then(|name| name.strip_suffix(".ids")?.parse::<usize>().ok());
        let mut firsts: Vec<usize> = files.iter().filter_map(|file| first(&file.location)).collect();
        firsts.sort_unstable();
        for (at, first) in firsts.iter().enumerate() {
            let end = firsts.get(at + 1).copied().unwrap_or(stored);
            if gone.iter().any(|code| (*first..end).contains(&(*code as usize))) {
                let segment = {
                    let table = self.table.read();
                    let codes = (*first..end.min(table.names.len())).filter_map(|code| u32::try_from(code).ok());
                    write_segment(codes.map(|code| table.name_but(code, &gone)), *first)
                };
                let path = Path::from(format!("{FOLDER}/{first:010}.ids"));
                self.store.put_opts(&path, segment.into(), PutOptions::default()).await.map_err(store_error)?;
            }
        }
        // Last: until every segment is written, the next call must find them.
        self.table.write().forget(users, gone, seen);
        Ok(())
    }

    /// The ids of `numbers`; NULL for a number that was never given, or whose user was erased.
    pub(crate) fn names(&self, numbers: &[u64]) -> StringArray {
        let table = self.table.read();
        let mut out = StringBuilder::new();
        for number in numbers {
            match u32::try_from(*number) {
                Ok(code) if (code as usize) < table.names.len() && !table.names.get(code).starts_with(NOBODY) => {
                    out.append_value(table.names.get(code));
                }
                _ => out.append_null(),
            }
        }
        out.finish()
    }

    /// Makes every number that was given durable. Carried through even when the caller goes away.
    ///
    /// # Errors
    /// 53100, 58030: then the numbers are kept in memory, and the next call tries again.
    pub(crate) async fn keep(self: &Arc<Self>) -> Result<()> {
        let own = Arc::clone(self);
        tokio::spawn(async move { own.keep_now().await })
            .await
            .map_err(|error| Error::internal(format!("the dictionary's writer ended early: {error}")))?
    }

    async fn keep_now(&self) -> Result<()> {
        let _one_at_a_time = self.gate.lock().await;
        loop {
            let (first, segment, end) = {
                let table = self.table.read();
                let Some(first) = table.stored else { return Err(Error::internal("the dictionary was never read")) };
                let end = table.names.len().min(first + SEGMENT_IDS);
                if first == end {
                    return Ok(());
                }
                let names = (first..end).filter_map(|code| u32::try_from(code).ok()).map(|code| table.names.get(code));
                (first, write_segment(names, first), end)
            };
            let path = Path::from(format!("{FOLDER}/{first:010}.ids"));
            let create = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
            let end = match self.store.put_opts(&path, segment.into(), create).await {
                Ok(_) => end,
                // An earlier attempt wrote it and was told that it failed.
                Err(object_store::Error::AlreadyExists { .. }) => self.written_before(&path, first).await?,
                Err(error) => return Err(store_error(error)),
            };
            self.table.write().stored = Some(end);
        }
    }

    /// Where a segment ends that is there already, if it says what the table says.
    async fn written_before(&self, path: &Path, first: usize) -> Result<usize> {
        let bytes = self.store.get(path).await.map_err(store_error)?.bytes().await.map_err(store_error)?;
        let table = self.table.read();
        let mut names: Interner = (0..first).map(|code| table.names.get(u32::try_from(code).unwrap_or(u32::MAX))).collect();
        read_segment(&bytes, &mut names).map_err(|what| damaged(path, what))?;
        let same = (first..names.len()).all(|code| {
            let code = u32::try_from(code).unwrap_or(u32::MAX);
            table.names.get(code) == names.get(code)
        });
        if same && names.len() <= table.names.len() { Ok(names.len()) } else { Err(damaged(path, "it names other users")) }
    }
}

fn damaged(path: &Path, what: &str) -> Error {
    Error::new(Code::DataCorrupted, format!("file \"{path}\" is damaged: {what}"))
}

fn write_segment<T: AsRef<str>>(names: impl Iterator<Item = T>, first: usize) -> Vec<u8> {
    let (mut body, mut count) = (Vec::new(), 0_u64);
    for name in names {
        let name = name.as_ref().as_bytes();
        count += 1;
        let mut length = name.len();
        while length >= 0x80 {
            body.push(length as u8 | 0x80);
            length >>= 7;
        }
        body.push(length as u8);
        body.extend_from_slice(name);
    }
    let mut out = Vec::with_capacity(HEADER_BYTES + body.len());
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&(first as u64).to_le_bytes());
    out.extend_from_slice(&count.to_le_bytes());
    let hash = blake3::Hasher::new().update(&out).update(&body).finalize();
    out.extend_from_slice(hash.as_bytes());
    out.extend(body);
    out
}

/// Adds a segment's ids to `names`, which it must follow.
fn read_segment(bytes: &[u8], names: &mut Interner) -> Result<(), &'static str> {
    let (header, mut body) = bytes.split_at_checked(HEADER_BYTES).ok_or("it is too short")?;
    let (said, hash) = header.split_at(HEADER_BYTES - 32);
    if blake3::Hasher::new().update(said).update(body).finalize().as_bytes() != hash {
        return Err("its hash is wrong");
    }
    let numbers = said.strip_prefix(MAGIC).ok_or("it is no segment of user ids, or a newer one")?;
    let number = |at: usize| numbers.get(at..).and_then(|rest| rest.first_chunk::<8>()).map(|bytes| u64::from_le_bytes(*bytes));
    if number(0) != Some(names.len() as u64) {
        return Err("it does not follow the one before");
    }
    for _ in 0..number(8).unwrap_or(0) {
        let mut length = 0_usize;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = body.split_first().ok_or("an id is cut off")?;
            body = rest;
            length |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        let (name, rest) = body.split_at_checked(length).ok_or("an id is cut off")?;
        body = rest;
        let name = std::str::from_utf8(name).map_err(|_| "an id is no text")?;
        let before = names.len();
        if names.intern(name) as usize != before {
            return Err("an id has two numbers");
        }
    }
    if body.is_empty() { Ok(()) } else { Err("something follows its ids") }
}

#[cfg(test)]
mod tests {
    use datafusion::execution::memory_pool::UnboundedMemoryPool;

    use super::*;
    use crate::storage::DurableLocal;

    fn users(names: &[&str]) -> StringArray {
        StringArray::from(names.to_vec())
    }

    async fn open(folder: &std::path::Path) -> Arc<Dictionary> {
        let dictionary = Dictionary::new(Arc::new(DurableLocal::open(folder).unwrap()));
        let pool: Arc<dyn MemoryPool> = Arc::new(UnboundedMemoryPool::default());
        dictionary.load(&pool).await.unwrap();
        dictionary
    }

    fn numbers(dictionary: &Dictionary, names: &[&str]) -> Vec<u64> {
        let mut out = vec![];
        dictionary.number(&users(names), |number| out.push(number)).unwrap();
        out
    }

    #[tokio::test]
    async fn numbers_stay_and_are_never_given_again() {
        let folder = tempfile::tempdir().unwrap();
        let long = "ü".repeat(300);
        {
            let dictionary = open(folder.path()).await;
            assert_eq!(numbers(&dictionary, &["a", "", "b", "a"]), [0, 1, 2, 0]);
            dictionary.keep().await.unwrap();
            assert_eq!(numbers(&dictionary, &[&long, "b"]), [3, 2]);
            dictionary.keep().await.unwrap();
            dictionary.keep().await.unwrap();
            // Not kept: forgotten, as if it had never been.
            assert_eq!(numbers(&dictionary, &["lost"]), [4]);
        }
        let dictionary = open(folder.path()).await;
        assert_eq!(dictionary.find(&users(&["b", "lost", "a", &long])), [Some(2), None, Some(0), Some(3)]);
        assert_eq!(numbers(&dictionary, &["new", "", "lost"]), [4, 1, 5]);
        let names = dictionary.names(&[5, 3, 1, 99, u64::MAX]);
        assert_eq!(names.iter().collect::<Vec<_>>(), [Some("lost"), Some(long.as_str()), Some(""), None, None]);
    }

    #[tokio::test]
    async fn forgotten_ids_are_nobodys_and_the_others_stay() {
        use crate::storage::erasure::hash_of;

        let folder = tempfile::tempdir().unwrap();
        let dictionary = open(folder.path()).await;
        let key = [3; 32];
        let gone = Users::new(key, ["b", "late"].into_iter().map(|user| hash_of(&key, user)).collect());
        numbers(&dictionary, &["a", "b"]);
        dictionary.keep().await.unwrap();
        numbers(&dictionary, &["c"]);
        dictionary.keep().await.unwrap();
        // Has a number, and is in no segment yet.
        numbers(&dictionary, &["late", "d"]);
        dictionary.forget(&gone).await.unwrap();
        let expected = [Some("a"), None, Some("c"), None, Some("d")];
        assert_eq!(dictionary.names(&[0, 1, 2, 3, 4]).iter().collect::<Vec<_>>(), expected);
        assert_eq!(numbers(&dictionary, &["b", "d"]), [5, 4]);
        dictionary.keep().await.unwrap();
        let again = open(folder.path()).await;
        assert_eq!(again.names(&[0, 1, 2, 3, 4]).iter().collect::<Vec<_>>(), expected);
        assert_eq!(again.find(&users(&["b", "late", "d"])), [Some(5), None, Some(4)]);
        for file in std::fs::read_dir(folder.path().join("audiences/ids")).unwrap() {
            let bytes = std::fs::read(file.unwrap().path()).unwrap();
            assert!(!bytes.windows(4).any(|part| part == b"late"));
        }
    }

    #[tokio::test]
    async fn an_attempt_that_was_written_and_not_acknowledged() {
        let folder = tempfile::tempdir().unwrap();
        let dictionary = open(folder.path()).await;
        assert_eq!(numbers(&dictionary, &["a", "b"]), [0, 1]);
        dictionary.keep().await.unwrap();
        // As if the answer had been lost.
        dictionary.table.write().stored = Some(0);
        assert_eq!(numbers(&dictionary, &["c"]), [2]);
        dictionary.keep().await.unwrap();
        let again = open(folder.path()).await;
        assert_eq!(again.find(&users(&["a", "b", "c"])), [Some(0), Some(1), Some(2)]);
        // What another wrote under the name is not taken for ours.
        dictionary.table.write().stored = Some(0);
        dictionary.table.write().names = ["x", "y", "z"].into_iter().collect();
        assert_eq!(dictionary.keep().await.unwrap_err().code, Code::DataCorrupted);
    }

    #[tokio::test]
    async fn every_flipped_byte_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let dictionary = open(folder.path()).await;
        numbers(&dictionary, &["a", "bb", "ccc"]);
        dictionary.keep().await.unwrap();
        let path = folder.path().join("audiences/ids/0000000000.ids");
        let bytes = std::fs::read(&path).unwrap();
        for place in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[place] ^= 0x10;
            assert!(read_segment(&flipped, &mut Interner::default()).is_err(), "byte {place}");
            assert!(read_segment(&bytes[..place], &mut Interner::default()).is_err(), "cut at {place}");
        }
        std::fs::write(&path, &bytes[1..]).unwrap();
        let dictionary = Dictionary::new(Arc::clone(&dictionary.store));
        let pool: Arc<dyn MemoryPool> = Arc::new(UnboundedMemoryPool::default());
        let error = dictionary.load(&pool).await.unwrap_err();
        assert_eq!(error.code, Code::DataCorrupted);
        assert!(error.message.contains("audiences/ids/0000000000.ids"), "{error}");
    }
}
