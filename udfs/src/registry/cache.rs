//! One process-wide copy of each model in use.

use std::sync::Arc;

use super::manifest::{Manifest, ModelRef};
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

/// One row of `ml.cache`.
#[derive(Debug, Clone)]
pub struct CacheEntry {
    /// Model name at the time of loading.
    pub name: String,
    /// Version number.
    pub version: u32,
    /// Bytes accounted.
    pub bytes: usize,
    /// Statements that use it now; a used one is never evicted.
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
    /// Found in memory.
    pub hits: u64,
    /// Read from the store.
    pub loads: u64,
    /// Thrown out for space.
    pub evictions: u64,
}
