//! What lookups keep in memory: footers, and columns of blocks that were read lately. A share of the pool at most.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, new_null_array};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation};
use object_store::ObjectStore;
use object_store::path::Path;
use parking_lot::{Mutex, RwLock};
use portrait_udfs::error::{Error, Result};
use quick_cache::{Equivalent, Weighter};

use super::blocks::{Block, Footer, User};

/// A share of the pool, and what is enough in any case.
const SHARE_OF_POOL: usize = 16;
const BYTES_MAX: usize = 1 << 30;
/// What an entry takes beside its value, about.
const ENTRY_BYTES: usize = 256;
/// What the cache reckons an entry to be.
const USUAL_BYTES: usize = 16 << 10;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key<P = Path> {
    Footer(P),
    /// The number of a footer, that of a block, and the place of a column in the file.
    Column(u64, u32, usize),
}

impl Equivalent<Key> for Key<&Path> {
    fn equivalent(&self, key: &Key) -> bool {
        matches!((self, key), (Self::Footer(a), Key::Footer(b)) if *a == b)
    }
}

#[derive(Debug, Clone)]
enum Entry {
    Footer(Arc<Footer>),
    Column(Column),
}

/// A column of a block.
#[derive(Debug, Clone)]
pub(super) struct Column {
    pub(super) values: ArrayRef,
    /// Whether it is that of the users, and [ascends](User::ascend).
    pub(super) users_ascend: bool,
}

#[derive(Debug, Clone, Copy)]
struct Bytes;

impl Weighter<Key, Entry> for Bytes {
    fn weight(&self, _: &Key, entry: &Entry) -> u64 {
        let bytes = match entry {
            Entry::Footer(footer) => footer.bytes(),
            Entry::Column(column) => column.values.get_array_memory_size(),
        };
        (bytes + ENTRY_BYTES) as u64
    }
}

/// See the module. Without a pool nothing is kept.
#[derive(Debug, Default)]
pub(super) struct Cache(RwLock<Option<Arc<Kept>>>);

struct Kept {
    entries: quick_cache::sync::Cache<Key, Entry, Bytes>,
    memory: Mutex<MemoryReservation>,
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kept").field("bytes", &self.entries.weight()).finish_non_exhaustive()
    }
}

impl Kept {
    fn keep(&self, key: Key, entry: Entry) {
        self.entries.insert(key, entry);
        let memory = self.memory.lock();
        if memory.try_resize(usize::try_from(self.entries.weight()).unwrap_or(usize::MAX)).is_err() {
            // Statements need the memory more.
            self.entries.clear();
            memory.free();
        }
    }
}

impl Cache {
    pub(super) fn set_pool(&self, pool: &Arc<dyn MemoryPool>) {
        let bytes = match pool.memory_limit() {
            MemoryLimit::Finite(bytes) => (bytes / SHARE_OF_POOL).min(BYTES_MAX),
            _ => BYTES_MAX,
        };
        let memory = Mutex::new(MemoryConsumer::new("lookups").register(pool));
        *self.0.write() =
            Some(Arc::new(Kept { entries: quick_cache::sync::Cache::with_weighter(bytes / USUAL_BYTES, bytes as u64, Bytes), memory }));
    }

    fn kept(&self) -> Option<Arc<Kept>> {
        self.0.read().clone()
    }

    /// The footer of a file.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub(super) async fn footer(&self, store: &Arc<dyn ObjectStore>, file: &PartitionedFile, user: &str) -> Result<Arc<Footer>> {
        let (kept, location) = (self.kept(), &file.object_meta.location);
        if let Some(Entry::Footer(footer)) = kept.as_ref().and_then(|kept| kept.entries.get(&Key::Footer(location))) {
            return Ok(footer);
        }
        let footer = Arc::new(Footer::read(store, location, file.object_meta.size, user).await?);
        if let Some(kept) = kept {
            kept.keep(Key::Footer(location.clone()), Entry::Footer(Arc::clone(&footer)));
        }
        Ok(footer)
    }

    /// The footer of a file, if it is in memory.
    pub(super) fn known_footer(&self, location: &Path) -> Option<Arc<Footer>> {
        match self.kept()?.entries.get(&Key::Footer(location))? {
            Entry::Footer(footer) => Some(footer),
            Entry::Column(_) => None,
        }
    }

    /// The columns `names` of a block, if all are in memory.
    pub(super) fn known_columns(&self, footer: &Footer, block: &Block, names: &[&str]) -> Option<Vec<Column>> {
        let kept = self.kept()?;
        let known = |name: &&str| match kept.entries.get(&Key::<Path>::Column(footer.number, block.number, footer.place_of(name)?))? {
            Entry::Column(column) => Some(column),
            Entry::Footer(_) => None,
        };
        names.iter().map(known).collect()
    }

    /// The columns `names` of a block, in the types of `schema`.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub(super) async fn columns(
        &self,
        store: &Arc<dyn ObjectStore>,
        footer: &Footer,
        block: &Block,
        names: &[&str],
        schema: &SchemaRef,
    ) -> Result<Vec<ArrayRef>> {
        let kept = self.kept();
        let key = |name: &str| footer.place_of(name).map(|place| Key::<Path>::Column(footer.number, block.number, place));
        let known = |name: &&str| match kept.as_ref()?.entries.get(&key(name)?)? {
            Entry::Column(column) => Some(column.values),
            Entry::Footer(_) => None,
        };
        let mut found: Vec<Option<ArrayRef>> = names.iter().map(known).collect();
        let missing: Vec<usize> = (0..names.len()).filter(|at| found[*at].is_none()).collect();
        if !missing.is_empty() {
            let wanted: Vec<&str> = missing.iter().map(|at| names[*at]).collect();
            for (at, column) in missing.into_iter().zip(footer.columns(store, block, &wanted).await?) {
                let kind = schema.field(at).data_type();
                let column = match column {
                    Some(column) => cast(&column, kind).map_err(|error| Error::internal(format!("column \"{}\": {error}", names[at])))?,
                    // Another program's file, from before the column.
                    None => new_null_array(kind, block.rows.len()),
                };
                if let (Some(kept), Some(key)) = (&kept, key(names[at])) {
                    let users_ascend = footer.place_of(names[at]) == footer.users && User::ascend(&column);
                    kept.keep(key, Entry::Column(Column { values: Arc::clone(&column), users_ascend }));
                }
                found[at] = Some(column);
            }
        }
        Ok(found.into_iter().flatten().collect())
    }
}
