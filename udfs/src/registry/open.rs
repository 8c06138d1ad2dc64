//! Opening and reading.

use std::sync::Arc;

use object_store::ObjectStore;
use object_store::path::Path;

use super::cache::{CacheEntry, CacheStats, LoadedModel};
use super::index::{ModelInfo, VersionEntry};
use super::manifest::{Manifest, ModelRef, VersionInfo};
use super::permission::{ModelAction, ModelPermissions};
use crate::error::{Error, Result};

/// See the module.
#[derive(Debug)]
pub struct Registry {}

impl Registry {
    /// Opens the registry under `prefix`; sweeps what half-written versions left.
    pub async fn open(_store: Arc<dyn ObjectStore>, _prefix: Path, _cache_bytes: usize) -> Result<Self> {
        Err(Error::internal("not landed"))
    }

    /// Asks `permissions` from now on.
    #[must_use]
    pub fn with_permissions(self, _permissions: Arc<dyn ModelPermissions>) -> Self {
        self
    }

    /// Picks up what other processes changed.
    pub async fn refresh(&self) -> Result<()> {
        Err(Error::internal("not landed"))
    }

    /// `name` (the active version) or `name@3`; never waits.
    ///
    /// # Errors
    /// 42704 with the nearest name; 55000 when no version is ready or active; XX001 when its manifest is damaged.
    pub fn resolve(&self, _name_at_version: &str) -> Result<ModelRef> {
        Err(Error::internal("not landed"))
    }

    /// Succeeds when `caller` may do `action` to the model `name` (42501 otherwise; an unknown model passes).
    pub fn authorize(&self, _caller: &str, _name: &str, _action: ModelAction) -> Result<()> {
        Err(Error::internal("not landed"))
    }

    /// What is known of a version without reading files; never waits.
    pub fn info(&self, _reference: &ModelRef) -> Result<Arc<VersionInfo>> {
        Err(Error::internal("not landed"))
    }

    /// The whole manifest, from the cache or the store.
    pub async fn manifest(&self, _reference: &ModelRef) -> Result<Arc<Manifest>> {
        Err(Error::internal("not landed"))
    }

    /// The version, ready to score: one load however many ask, one copy for all.
    pub async fn load(&self, _reference: &ModelRef) -> Result<Arc<LoadedModel>> {
        Err(Error::internal("not landed"))
    }

    /// Rows of `ml.models`, by name.
    pub fn list_models(&self) -> Vec<ModelInfo> {
        vec![]
    }

    /// Rows of `ml.model_versions`, by name and version.
    pub fn list_versions(&self) -> Vec<VersionEntry> {
        vec![]
    }

    /// Rows of `ml.cache`, most recently used first.
    pub fn cache_entries(&self) -> Vec<CacheEntry> {
        vec![]
    }

    /// The cache as a whole.
    pub fn cache_stats(&self) -> CacheStats {
        CacheStats::default()
    }
}
