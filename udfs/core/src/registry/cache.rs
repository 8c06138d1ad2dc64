//! One process-wide copy of each model in use: limited by bytes, least recently used out first.
//!
//! Asking for a version that nobody has loaded makes one asker load it while the others wait for the same copy; when
//! that asker is cancelled, another takes over. A version that a statement holds is never thrown out (it would
//! stay in memory anyway, and be loaded twice); the limit may therefore be exceeded by what is in use, until the
//! cache is next looked at.

use std::collections::HashMap;
use std::sync::Arc;

use object_store::path::Path;
use parking_lot::Mutex;
use tokio::sync::OnceCell;

use super::manifest::{Manifest, ModelRef};
use super::store::corrupted;
use crate::error::{Code, Result};
use crate::models;
use crate::train::Scorer;

/// A version in memory, ready to score; shared by all statements that use it.
#[derive(Debug)]
pub struct LoadedModel {
    /// What was pinned.
    pub reference: ModelRef,
    /// Its manifest.
    pub manifest: Arc<Manifest>,
    /// Its network with calibration; callable from many threads.
    pub scorer: Scorer,
    /// What it costs the cache.
    pub bytes: usize,
}

impl LoadedModel {
    /// Builds the network from the bytes of the weights file `path`; takes as long as copying them.
    pub(super) fn build(reference: ModelRef, manifest: Manifest, weights: &[u8], path: &Path) -> Result<Self> {
        let fits = |error: crate::Error| if error.code == Code::Internal { corrupted(path, &error.message) } else { error };
        let network = match &manifest.ensemble {
            None => models::load_bytes(&manifest.config, weights),
            Some(_) => models::Parameters::from_safetensors(weights)
                .and_then(|parameters| models::load_any(&manifest.config, manifest.ensemble.as_ref(), &parameters)),
        };
        let network = network.map_err(fits)?;
        let scorer = Scorer::new(Arc::from(network), manifest.calibration.clone());
        let bytes = scorer.bytes() + std::mem::size_of::<Self>();
        Ok(Self { reference, manifest: Arc::new(manifest), scorer, bytes })
    }
}

/// One row of `ml.cache`.
#[derive(Debug, Clone)]
pub struct CacheEntry {
    /// The version, with the model's present name.
    pub reference: ModelRef,
    /// Bytes accounted.
    pub bytes: usize,
    /// Statements that use it now; a used one is never thrown out.
    pub users: usize,
    /// Times it was found in the cache.
    pub hits: u64,
    /// Microseconds since 1970 UTC.
    pub loaded_at_us: i64,
    /// Microseconds since 1970 UTC.
    pub used_at_us: i64,
}

/// The cache as a whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheStats {
    /// Limit in bytes.
    pub limit_bytes: usize,
    /// Bytes held.
    pub bytes: usize,
    /// Times a version was found in memory.
    pub hits: u64,
    /// Times one was read from the store.
    pub loads: u64,
    /// Times one was thrown out for space.
    pub evictions: u64,
}

type Key = (Arc<str>, u32);
type Cell = Arc<OnceCell<Arc<LoadedModel>>>;

#[derive(Debug)]
struct Slot {
    cell: Cell,
    hits: u64,
    loaded_at_us: i64,
    used_at_us: i64,
    /// Orders uses; a clock may stand still.
    tick: u64,
}

#[derive(Debug, Default)]
struct Slots {
    by_key: HashMap<Key, Slot>,
    tick: u64,
    stats: CacheStats,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Cache {
    slots: Mutex<Slots>,
}

impl Cache {
    pub(super) fn new(limit_bytes: usize) -> Self {
        let stats = CacheStats { limit_bytes, ..CacheStats::default() };
        Self { slots: Mutex::new(Slots { stats, ..Slots::default() }) }
    }

    /// The version, from memory or through `load`.
    pub(super) async fn get<F, L>(&self, reference: &ModelRef, load: F) -> Result<Arc<LoadedModel>>
    where
        F: FnOnce() -> L,
        L: Future<Output = Result<LoadedModel>>,
    {
        let key = (Arc::clone(&reference.id), reference.version);
        let cell = self.slots.lock().enter(&key);
        let loaded = cell.get_or_try_init(|| async { load().await.map(Arc::new) }).await.map(Arc::clone);
        let mut slots = self.slots.lock();
        match loaded {
            Ok(model) => {
                slots.settle(&key, &cell);
                Ok(model)
            }
            Err(error) => {
                slots.forget_empty(&key, &cell);
                Err(error)
            }
        }
    }

    /// The version if it is in memory; does not count as a use.
    pub(super) fn peek(&self, reference: &ModelRef) -> Option<Arc<LoadedModel>> {
        let key = (Arc::clone(&reference.id), reference.version);
        self.slots.lock().by_key.get(&key).and_then(|slot| slot.cell.get().map(Arc::clone))
    }

    /// Lets go of a version; whether it was there.
    pub(super) fn remove(&self, reference: &ModelRef) -> bool {
        let mut slots = self.slots.lock();
        let key = (Arc::clone(&reference.id), reference.version);
        let removed = slots.by_key.remove(&key).is_some_and(|slot| slot.cell.initialized());
        slots.stats.bytes = slots.bytes();
        removed
    }

    pub(super) fn entries(&self) -> Vec<CacheEntry> {
        let mut slots = self.slots.lock();
        slots.trim();
        let mut found: Vec<(u64, CacheEntry)> = slots
            .by_key
            .values()
            .filter_map(|slot| {
                let model = slot.cell.get()?;
                let entry = CacheEntry {
                    reference: model.reference.clone(),
                    bytes: model.bytes,
                    users: Arc::strong_count(model) - 1,
                    hits: slot.hits,
                    loaded_at_us: slot.loaded_at_us,
                    used_at_us: slot.used_at_us,
                };
                Some((slot.tick, entry))
            })
            .collect();
        found.sort_by_key(|(tick, _)| std::cmp::Reverse(*tick));
        found.into_iter().map(|(_, entry)| entry).collect()
    }

    pub(super) fn stats(&self) -> CacheStats {
        let mut slots = self.slots.lock();
        slots.trim();
        slots.stats
    }
}

impl Slots {
    /// The slot of `key`, made if need be, as just used.
    fn enter(&mut self, key: &Key) -> Cell {
        let now = super::now_us();
        self.tick += 1;
        let tick = self.tick;
        let slot = self.by_key.entry(key.clone()).or_insert_with(|| Slot {
            cell: Cell::default(),
            hits: 0,
            loaded_at_us: 0,
            used_at_us: now,
            tick,
        });
        slot.used_at_us = now;
        slot.tick = tick;
        if slot.cell.initialized() {
            slot.hits += 1;
            self.stats.hits += 1;
        }
        Arc::clone(&slot.cell)
    }

    /// After a successful load: accounts for it and makes room.
    fn settle(&mut self, key: &Key, cell: &Cell) {
        if let Some(slot) = self.by_key.get_mut(key)
            && Arc::ptr_eq(&slot.cell, cell)
            && slot.loaded_at_us == 0
        {
            slot.loaded_at_us = super::now_us();
            self.stats.loads += 1;
        }
        self.trim();
    }

    /// Throws out what no longer fits, least recently used first; what is used stays until it is not.
    fn trim(&mut self) {
        self.stats.bytes = self.bytes();
        while self.stats.bytes > self.stats.limit_bytes {
            let unused = self.by_key.iter().filter(|(_, slot)| slot.cell.get().is_some_and(|model| Arc::strong_count(model) == 1));
            let Some(oldest) = unused.min_by_key(|(_, slot)| slot.tick).map(|(key, _)| key.clone()) else { return };
            self.by_key.remove(&oldest);
            self.stats.evictions += 1;
            self.stats.bytes = self.bytes();
        }
    }

    /// After a failed load: no empty slot stays, unless somebody else is loading it by now.
    fn forget_empty(&mut self, key: &Key, cell: &Cell) {
        let alone = |slot: &Slot| Arc::ptr_eq(&slot.cell, cell) && Arc::strong_count(cell) == 2 && !cell.initialized();
        if self.by_key.get(key).is_some_and(alone) {
            self.by_key.remove(key);
        }
    }

    fn bytes(&self) -> usize {
        self.by_key.values().filter_map(|slot| slot.cell.get()).map(|model| model.bytes).sum()
    }
}
