//! The history of a user who has several ids: the events of all of them, in their order, under the id that was asked for.
//!
//! Life of a question: users are taken a few thousand ids at a time → without linked ones among them the source answers as it is →
//! otherwise the rows of all their persons' ids are read at once, counted in the memory pool, and given out user by user, those of
//! one person merged by time. Scans of everybody stay as they are: they go by the column of users.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array};
use arrow::compute::{LexicographicalComparator, SortColumn, SortOptions, concat_batches, take};
use arrow::datatypes::{DataType, Int64Type, SchemaRef};
use async_trait::async_trait;
use datafusion::error::Result as DfResult;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, SessionState};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt, stream};

use crate::context::{EventSource, HistoryProvider, IdentityProvider, StatementContext, UserHistories};
use crate::error::Result;
use crate::features::KeyType;
use crate::features::events::UserKey;
use crate::functions::ml::predict::loaded::key_array;
use crate::kernels::identity::{People, Reader, whole};

/// Ids of users that are looked up at once, about.
const IDS_AT_ONCE: usize = 8192;
/// Rows of a batch of merged histories, about.
const BATCH_ROWS: usize = 8192;

/// Histories of another provider, by person.
#[derive(Debug)]
pub struct PersonHistories {
    inner: Arc<dyn HistoryProvider>,
    identities: Arc<dyn IdentityProvider>,
}

impl PersonHistories {
    /// Histories of `inner`, of all ids that `identities` say a user has.
    pub fn new(inner: Arc<dyn HistoryProvider>, identities: Arc<dyn IdentityProvider>) -> Self {
        Self { inner, identities }
    }
}

#[async_trait]
impl HistoryProvider for PersonHistories {
    async fn open(&self, session: &SessionState, source: &EventSource) -> Result<Arc<dyn UserHistories>> {
        // First: a source that calls resolve_user is known by the state that the statement sees.
        let people = StatementContext::of(session.config()).people(&*self.identities).clone();
        let inner = self.inner.open(session, source).await?;
        if people.are_plain() {
            return Ok(inner);
        }
        Ok(Arc::new(Merged { inner, people, pool: Arc::clone(&session.runtime_env().memory_pool) }))
    }
}

/// One opened source.
struct Merged {
    inner: Arc<dyn UserHistories>,
    people: People,
    pool: Arc<dyn MemoryPool>,
}

impl fmt::Debug for Merged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Merged").field("inner", &self.inner).finish_non_exhaustive()
    }
}

/// Users who are looked up together.
struct Part {
    users: ArrayRef,
    /// For each of them the ids whose events are theirs; `None` when nobody has others.
    ids: Option<Vec<Vec<UserKey>>>,
}

fn key_at(users: &ArrayRef, at: usize) -> UserKey {
    match users.data_type() {
        DataType::Int64 => UserKey::Int64(users.as_primitive::<Int64Type>().value(at)),
        _ => UserKey::Utf8(Arc::from(users.as_string::<i32>().value(at))),
    }
}

/// The ids of a user that a source with such keys can have.
fn ids_of(reader: &Reader<'_>, user: &UserKey) -> Option<Vec<UserKey>> {
    match user {
        UserKey::Int64(number) => {
            let ids = reader.ids(&number.to_string())?;
            Some(ids.into_iter().filter_map(|id| whole(id).map(UserKey::Int64)).collect())
        }
        UserKey::Utf8(text) => Some(reader.ids(text)?.into_iter().map(|id| UserKey::Utf8(Arc::from(id))).collect()),
    }
}

/// Cuts sorted users into parts of about as many ids.
fn parts(people: &People, users: &ArrayRef) -> Vec<Part> {
    let reader = people.read();
    let (mut parts, mut start, mut held, mut linked) = (Vec::new(), 0, 0, false);
    let mut ids: Vec<Vec<UserKey>> = Vec::new();
    for at in 0..users.len() {
        let user = key_at(users, at);
        let found = ids_of(&reader, &user);
        linked |= found.is_some();
        let found = found.unwrap_or_else(|| vec![user]);
        held += found.len();
        ids.push(found);
        if held >= IDS_AT_ONCE || at + 1 == users.len() {
            let ids = std::mem::take(&mut ids);
            parts.push(Part { users: users.slice(start, at + 1 - start), ids: linked.then_some(ids) });
            (start, held, linked) = (at + 1, 0, false);
        }
    }
    parts
}

#[async_trait]
impl UserHistories for Merged {
    fn watermark_us(&self) -> Option<i64> {
        self.inner.watermark_us()
    }

    fn dropped_rows(&self) -> u64 {
        self.inner.dropped_rows()
    }

    fn fingerprint(&self) -> Option<String> {
        self.inner.fingerprint()
    }

    async fn scan(&self, partitions: usize) -> Result<Vec<SendableRecordBatchStream>> {
        self.inner.scan(partitions).await
    }

    async fn lookup(&self, users: ArrayRef) -> Result<SendableRecordBatchStream> {
        let parts = parts(&self.people, &users);
        if parts.iter().all(|part| part.ids.is_none()) {
            return self.inner.lookup(users).await;
        }
        let schema = self.inner.lookup(users.slice(0, 0)).await?.schema();
        let (inner, of, memory) =
            (Arc::clone(&self.inner), Arc::clone(&schema), MemoryConsumer::new("PersonHistories").register(&self.pool));
        let rows = stream::iter(parts).then(move |part| {
            let (inner, schema, memory) = (Arc::clone(&inner), Arc::clone(&of), memory.new_empty());
            async move { part.rows(inner, schema, memory).await }
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows.try_flatten())))
    }
}

impl Part {
    async fn rows(
        self,
        inner: Arc<dyn UserHistories>,
        schema: SchemaRef,
        memory: MemoryReservation,
    ) -> DfResult<BoxStream<'static, DfResult<RecordBatch>>> {
        let Some(ids) = self.ids else { return Ok(inner.lookup(self.users).await?.boxed()) };
        let mut wanted: Vec<&UserKey> = ids.iter().flatten().collect();
        wanted.sort_unstable();
        wanted.dedup();
        let key_type = if matches!(self.users.data_type(), DataType::Int64) { KeyType::Int64 } else { KeyType::Utf8 };
        let mut rows = inner.lookup(key_array(wanted.into_iter(), key_type)).await?;
        let mut batches = Vec::new();
        while let Some(batch) = rows.try_next().await? {
            // Once as it comes, once as one piece.
            memory.try_grow(2 * batch.get_array_memory_size())?;
            batches.push(batch);
        }
        let events = concat_batches(&schema, &batches)?;
        drop(batches);
        Ok(stream::iter(Events::new(events, self.users, ids, key_type, memory)?).boxed())
    }
}

/// The rows of some ids, given out user by user.
struct Events {
    rows: RecordBatch,
    /// Where the rows of an id are.
    places: BTreeMap<UserKey, Range<u32>>,
    users: ArrayRef,
    ids: Vec<Vec<UserKey>>,
    key_type: KeyType,
    /// The next user.
    next: usize,
    order: LexicographicalComparator,
    _memory: MemoryReservation,
}

impl Events {
    fn new(rows: RecordBatch, users: ArrayRef, ids: Vec<Vec<UserKey>>, key_type: KeyType, memory: MemoryReservation) -> DfResult<Self> {
        let mut places: BTreeMap<UserKey, Range<u32>> = BTreeMap::new();
        let mut last = None;
        for row in 0..rows.num_rows() {
            let (key, at) = (key_at(rows.column(0), row), row as u32);
            if last.as_ref() == Some(&key)
                && let Some(place) = places.get_mut(&key)
            {
                place.end = at + 1;
            } else {
                places.insert(key.clone(), at..at + 1);
                last = Some(key);
            }
        }
        // As sources are sorted.
        let options = Some(SortOptions { descending: false, nulls_first: false });
        let columns: Vec<SortColumn> =
            rows.columns().iter().skip(1).map(|column| SortColumn { values: Arc::clone(column), options }).collect();
        let order = LexicographicalComparator::try_new(&columns)?;
        Ok(Self { rows, places, users, ids, key_type, next: 0, order, _memory: memory })
    }

    fn batch(&self, keys: &[UserKey], rows: Vec<u32>) -> DfResult<RecordBatch> {
        let rows = UInt32Array::from(rows);
        let mut columns = vec![key_array(keys.iter(), self.key_type)];
        for column in self.rows.columns().iter().skip(1) {
            columns.push(take(column, &rows, None)?);
        }
        Ok(RecordBatch::try_new(self.rows.schema(), columns)?)
    }
}

impl Iterator for Events {
    type Item = DfResult<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        let (mut keys, mut rows): (Vec<UserKey>, Vec<u32>) = (Vec::new(), Vec::new());
        while rows.len() < BATCH_ROWS
            && let Some(ids) = self.ids.get(self.next)
        {
            let found = ids.iter().filter_map(|id| self.places.get(id).cloned());
            let (start, mut several) = (rows.len(), 0);
            for place in found {
                rows.extend(place);
                several += 1;
            }
            if several > 1 {
                let order = &self.order;
                rows[start..].sort_unstable_by(|a, b| order.compare(*a as usize, *b as usize).then(a.cmp(b)));
            }
            keys.resize(rows.len(), key_at(&self.users, self.next));
            self.next += 1;
        }
        if rows.is_empty() {
            return None;
        }
        Some(self.batch(&keys, rows))
    }
}

#[cfg(test)]
mod tests;
