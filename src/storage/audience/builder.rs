//! The rows of an audience's query become a set on the disk.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::DataType;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use object_store::ObjectStore;
use portrait_udfs::error::{Error, Result};
use portrait_udfs::kernels::bitmap::Collector;

use super::dictionary::Dictionary;
use super::sets::{StoredSet, write_set};

/// Takes user ids, a column at a time.
#[derive(Debug)]
pub(crate) struct Builder {
    store: Arc<dyn ObjectStore>,
    dictionary: Arc<Dictionary>,
    members: Collector,
    memory: MemoryReservation,
}

impl Builder {
    /// A builder without members; its memory comes from `pool`.
    ///
    /// # Errors
    /// As [`Dictionary::load`].
    pub(crate) async fn new(store: Arc<dyn ObjectStore>, dictionary: Arc<Dictionary>, pool: &Arc<dyn MemoryPool>) -> Result<Self> {
        dictionary.load(pool).await?;
        let memory = MemoryConsumer::new("AudienceBuilder").register(pool);
        Ok(Self { store, dictionary, members: Collector::default(), memory })
    }

    /// Adds users; a NULL is nobody.
    ///
    /// # Errors
    /// As [`Dictionary::number`].
    pub(crate) fn push(&mut self, users: &ArrayRef) -> Result<()> {
        let texts = cast(users, &DataType::Utf8).map_err(|error| Error::internal(error.to_string()))?;
        let texts = texts.as_string_opt::<i32>().ok_or_else(|| Error::internal("user ids are no texts"))?;
        let members = &mut self.members;
        self.dictionary.number(texts, |number| members.insert(number))?;
        self.memory.try_resize(self.members.heap_bytes()).map_err(crate::storage::engine_error)
    }

    /// Writes the set, the dictionary first.
    ///
    /// # Errors
    /// 53100, 58030: then nothing is kept but numbers.
    pub(crate) async fn finish(mut self) -> Result<StoredSet> {
        self.dictionary.keep().await?;
        let set = std::mem::take(self.members.set());
        write_set(self.store.as_ref(), set).await
    }
}
