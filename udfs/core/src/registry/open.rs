//! The registry itself: opening, refreshing and reading. What changes it is in `lifecycle`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore};
use parking_lot::RwLock;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::cache::{Cache, CacheEntry, CacheStats, LoadedModel};
use super::exact;
use super::index::{self, Index, Model, ModelInfo, State, VersionEntry};
use super::manifest::{FORMAT_VERSION, Manifest, ModelRef, VersionInfo};
use super::permission::{Anyone, ModelAction, ModelPermissions};
use super::store::{Object, Store, corrupted};
use super::transforms::Transforms;
use crate::error::{Code, Error, Result};
use crate::models::{self, Parameters};

/// Weights without a manifest are left alone this long: another process may be about to write the manifest.
const ORPHAN_AGE: Duration = Duration::from_secs(3600);
/// Files read at once while opening.
const READS: usize = 16;

/// All models of one store. One per process, shared by every session.
#[derive(Debug)]
pub struct Registry {
    pub(super) store: Store,
    pub(super) index: Arc<RwLock<Index>>,
    /// Held while changing something, so that this process's changes follow one another.
    pub(super) writer: tokio::sync::Mutex<()>,
    cache: Cache,
    pub(super) permissions: Arc<dyn ModelPermissions>,
    pub(super) transforms: Transforms,
}

/// The part of a manifest that the index keeps.
#[derive(Deserialize)]
struct Head {
    info: VersionInfo,
}

#[derive(Deserialize)]
struct Format {
    format_version: u32,
}

/// What a listing found of one model.
#[derive(Debug, Default)]
struct Found {
    states: BTreeSet<u64>,
    reserved: u32,
    manifests: BTreeSet<u32>,
    weights: BTreeMap<u32, ObjectMeta>,
}

impl Registry {
    /// Opens the registry under `prefix` with a cache of `cache_bytes`; sweeps what half-written versions left.
    ///
    /// A damaged record or manifest does not keep the others from opening: it is reported when it is used.
    ///
    /// # Errors
    /// 58030 when the store cannot be listed or read.
    pub async fn open(store: Arc<dyn ObjectStore>, prefix: Path, cache_bytes: usize) -> Result<Self> {
        let registry = Self {
            store: Store::new(store, prefix),
            index: Arc::default(),
            writer: tokio::sync::Mutex::default(),
            cache: Cache::new(cache_bytes),
            permissions: Arc::new(Anyone),
            transforms: Transforms::default(),
        };
        registry.refresh().await?;
        registry.sweep(ORPHAN_AGE).await;
        Ok(registry)
    }

    /// Asks `permissions` from now on.
    #[must_use]
    pub fn with_permissions(mut self, permissions: Arc<dyn ModelPermissions>) -> Self {
        self.permissions = permissions;
        self
    }

    /// Picks up what other processes changed.
    ///
    /// # Errors
    /// 58030 when the store cannot be listed or read; what was known stays.
    pub async fn refresh(&self) -> Result<()> {
        let _writer = self.writer.lock().await;
        self.reload().await?;
        self.reload_transforms().await
    }

    /// `name` (the active version) or `name@3` to the version to pin; never waits.
    ///
    /// # Errors
    /// 42704 with the nearest name; 55000 when no version is ready or active; XX001 when its manifest is damaged;
    /// 22023 when what follows `@` is not a number.
    pub fn resolve(&self, name_at_version: &str) -> Result<ModelRef> {
        self.index.read().resolve(name_at_version)
    }

    /// Whether `caller` may know of the model `name`: who may score with it. Of one that does not exist (yet, or any more) those
    /// who may do everything.
    pub fn may_see(&self, caller: &str, name: &str) -> bool {
        let owner = self.index.read().existing(name).map(|(_, model)| model.state.owner.clone());
        let (owner, action) = owner.map_or((String::new(), ModelAction::Own), |owner| (owner, ModelAction::Execute));
        self.permissions.check(caller, name, &owner, action).is_ok()
    }

    /// Succeeds when `caller` may train a version of the model `name`, which need not exist yet.
    ///
    /// # Errors
    /// 42501.
    pub fn authorize_training(&self, caller: &str, name: &str) -> Result<()> {
        let owner = self.index.read().existing(name).map(|(_, model)| model.state.owner.clone());
        match owner {
            Ok(owner) => self.permissions.check(caller, name, &owner, ModelAction::Own),
            Err(_) => self.permissions.check_new(caller),
        }
    }

    /// Succeeds when `caller` may do `action` to the model that `name_at_version` names. An unknown model passes:
    /// who resolves it next gets the better error.
    ///
    /// # Errors
    /// 42501.
    pub fn authorize(&self, caller: &str, name_at_version: &str, action: ModelAction) -> Result<()> {
        let (name, _) = index::split_reference(name_at_version)?;
        let owner = self.index.read().existing(name).map(|(_, model)| model.state.owner.clone());
        owner.map_or(Ok(()), |owner| self.permissions.check(caller, name, &owner, action))
    }

    /// What is known of a version without reading files; never waits.
    ///
    /// # Errors
    /// 42704 when it was dropped meanwhile; XX001 when its manifest is damaged.
    pub fn info(&self, reference: &ModelRef) -> Result<Arc<VersionInfo>> {
        self.index.read().info(reference)
    }

    /// The whole manifest, from the cache or the store.
    ///
    /// # Errors
    /// 42704 when it was dropped meanwhile; XX001 naming a damaged file; 58030.
    pub async fn manifest(&self, reference: &ModelRef) -> Result<Arc<Manifest>> {
        if let Some(model) = self.cache.peek(reference) {
            return Ok(Arc::clone(&model.manifest));
        }
        self.read_manifest(reference).await.map(Arc::new)
    }

    /// The version, ready to score: one load however many ask, one copy for all.
    ///
    /// # Errors
    /// 42704 when it was dropped meanwhile; XX001 naming a damaged file; 58030.
    pub async fn load(&self, reference: &ModelRef) -> Result<Arc<LoadedModel>> {
        self.cache.get(reference, || self.read_model(reference)).await
    }

    /// [`load`](Self::load) of a version that is to answer questions.
    ///
    /// # Errors
    /// As there, and as [`may_answer`](Self::may_answer).
    pub async fn load_to_answer(&self, reference: &ModelRef) -> Result<Arc<LoadedModel>> {
        self.may_answer(reference)?;
        self.load(reference).await
    }

    /// Lets go of a version: memory is free when the statements that use it end. Whether it was loaded.
    pub fn unload(&self, reference: &ModelRef) -> bool {
        self.cache.remove(reference)
    }

    /// The weights of a version, checked, as floats: to start another training from, or to compress.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub async fn parameters(&self, reference: &ModelRef) -> Result<Parameters> {
        let manifest = self.manifest(reference).await?;
        let bytes = self.read_weights(reference, &manifest.info).await?;
        models::parameters_of(&manifest.config, &bytes)
    }

    /// Rows of `ml.models`, by name.
    pub fn list_models(&self) -> Vec<ModelInfo> {
        self.index.read().list_models()
    }

    /// Rows of `ml.model_versions`, by name and version.
    pub fn list_versions(&self) -> Vec<VersionEntry> {
        self.index.read().list_versions()
    }

    /// Rows of `ml.cache`, most recently used first.
    pub fn cache_entries(&self) -> Vec<CacheEntry> {
        let mut entries = self.cache.entries();
        let index = self.index.read();
        for entry in &mut entries {
            if let Some(model) = index.models.get(&entry.reference.id) {
                entry.reference.name = model.state.name.as_str().into();
            }
        }
        entries
    }

    /// The cache as a whole.
    pub fn cache_stats(&self) -> CacheStats {
        self.cache.stats()
    }

    pub(super) async fn read_manifest(&self, reference: &ModelRef) -> Result<Manifest> {
        self.info(reference)?;
        let path = self.store.manifest(&reference.id, reference.version);
        let bytes = self.store.read(&path).await?.ok_or_else(|| index::gone(reference))?;
        parse_manifest(&path, &bytes)
    }

    /// The weights file, hash checked.
    pub(super) async fn read_weights(&self, reference: &ModelRef, info: &VersionInfo) -> Result<bytes::Bytes> {
        let path = self.store.weights(&reference.id, reference.version);
        let Some(bytes) = self.store.read(&path).await? else {
            self.info(reference)?;
            return Err(corrupted(&path, "it is missing"));
        };
        check_weights(&path, &bytes, info)?;
        Ok(bytes)
    }

    async fn read_model(&self, reference: &ModelRef) -> Result<LoadedModel> {
        let manifest = self.read_manifest(reference).await?;
        let weights = self.read_weights(reference, &manifest.info).await?;
        let path = self.store.weights(&reference.id, reference.version);
        let reference = reference.clone();
        let built = tokio::task::spawn_blocking(move || LoadedModel::build(reference, manifest, &weights, &path)).await;
        built.map_err(|error| Error::internal(format!("loading a model stopped: {error}")))?
    }

    /// Reads what changed in the store since last time; the caller holds the writer's lock.
    pub(super) async fn reload(&self) -> Result<()> {
        let mut found: BTreeMap<String, Found> = BTreeMap::new();
        for (object, meta) in self.store.list(&self.store.models()).await? {
            match object {
                Object::State { id, sequence } => drop(found.entry(id).or_default().states.insert(sequence)),
                Object::Ticket { id, version } => {
                    let model = found.entry(id).or_default();
                    model.reserved = model.reserved.max(version);
                }
                Object::Manifest { id, version } => {
                    let model = found.entry(id).or_default();
                    model.reserved = model.reserved.max(version);
                    model.manifests.insert(version);
                }
                Object::Weights { id, version } => drop(found.entry(id).or_default().weights.insert(version, meta)),
                Object::Job { .. } | Object::Transform { .. } | Object::Other => {}
            }
        }
        let known = self.index.read().clone();
        let models: Vec<Option<(Arc<str>, Model)>> = stream::iter(found)
            .map(|(id, found)| {
                let before = known.models.get(id.as_str()).cloned();
                async move { self.read_found(&id, found, before).await.map(|model| model.map(|model| (Arc::from(id), model))) }
            })
            .buffered(READS)
            .try_collect()
            .await?;
        let models: BTreeMap<Arc<str>, Model> = models.into_iter().flatten().collect();
        let names = self.settle_names(&models).await?;
        let mut index = self.index.write();
        index.models = models;
        index.names = names;
        drop(index);
        Ok(())
    }

    /// One model as the store has it now; files seen before are not read again.
    async fn read_found(&self, id: &str, found: Found, before: Option<Model>) -> Result<Option<Model>> {
        let newest = found.states.last().copied();
        let (state, damaged) = match &before {
            Some(model) if model.damaged.is_none() && newest.is_none_or(|newest| newest <= model.state.sequence) => {
                (Arc::clone(&model.state), None)
            }
            _ => match self.read_states(id, &found.states).await? {
                Some(read) => read,
                None => return Ok(None),
            },
        };
        let mut model = Model { state, damaged, reserved: found.reserved, versions: BTreeMap::new() };
        if let Some(before) = before {
            model.reserved = model.reserved.max(before.reserved);
            model.versions = before.versions;
            model.versions.retain(|version, info| found.manifests.contains(version) && info.is_ok());
        }
        for version in found.manifests {
            if model.state.shows(version) && !model.versions.contains_key(&version) {
                match self.read_head(id, version).await {
                    Ok(Some(info)) => drop(model.versions.insert(version, Ok(Arc::new(info)))),
                    Ok(None) => {}
                    Err(error) if unreadable(&error) => drop(model.versions.insert(version, Err(error))),
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(Some(model))
    }

    /// The newest record; when that is damaged, the newest one that is not, and what is wrong.
    async fn read_states(&self, id: &str, sequences: &BTreeSet<u64>) -> Result<Option<(Arc<State>, Option<Error>)>> {
        let mut damaged: Option<Error> = None;
        for sequence in sequences.iter().rev() {
            let path = self.store.state(id, *sequence);
            let Some(bytes) = self.store.read(&path).await? else { continue };
            match check_format(&path, &bytes).and_then(|()| parse::<State>(&path, &bytes)) {
                Ok(mut state) => {
                    state.sequence = sequences.last().copied().unwrap_or(*sequence);
                    return Ok(Some((Arc::new(state), damaged)));
                }
                Err(error) => drop(damaged.get_or_insert(error)),
            }
        }
        if let Some(error) = damaged {
            tracing::error!(model = id, %error, "no readable record of the model is left");
        }
        Ok(None)
    }

    async fn read_head(&self, id: &str, version: u32) -> Result<Option<VersionInfo>> {
        let path = self.store.manifest(id, version);
        let Some(bytes) = self.store.read(&path).await? else { return Ok(None) };
        check_format(&path, &bytes)?;
        parse::<Head>(&path, &bytes).map(|head| Some(head.info))
    }

    /// Which model a name means. Two of one name (two processes created it at once) are settled by the claim.
    async fn settle_names(&self, models: &BTreeMap<Arc<str>, Model>) -> Result<HashMap<String, Arc<str>>> {
        let mut candidates: HashMap<&str, Vec<(&Arc<str>, &Model)>> = HashMap::new();
        for (id, model) in models {
            candidates.entry(&model.state.name).or_default().push((id, model));
        }
        let mut names = HashMap::new();
        for (name, mut found) in candidates {
            if found.len() > 1 {
                let claim: Option<Claim> = self.store.read_document(&self.store.claim(name)).await.unwrap_or(None);
                let claimed = |id: &str| claim.as_ref().is_some_and(|claim| claim.id == id);
                found.sort_by_key(|(id, model)| (model.state.dropped, !claimed(id), Arc::clone(id)));
            }
            if let Some((id, _)) = found.first() {
                names.insert(name.to_owned(), Arc::clone(id));
            }
        }
        Ok(names)
    }

    /// Removes weights that never got a manifest, and files of dropped versions that a crash left behind. What
    /// cannot be removed now is tried again at the next start.
    pub(super) async fn sweep(&self, age: Duration) {
        let Ok(objects) = self.store.list(&self.store.models()).await else { return };
        let manifests: BTreeSet<(String, u32)> = objects
            .iter()
            .filter_map(|(object, _)| match object {
                Object::Manifest { id, version } => Some((id.clone(), *version)),
                _ => None,
            })
            .collect();
        let oldest = chrono::Utc::now() - age;
        for (object, meta) in objects {
            let (id, version) = match object {
                Object::Manifest { id, version } | Object::Weights { id, version } => (id, version),
                _ => continue,
            };
            let unfinished = !manifests.contains(&(id.clone(), version)) && meta.last_modified < oldest;
            let dropped = {
                let index = self.index.read();
                index
                    .models
                    .get(id.as_str())
                    .is_some_and(|model| version < model.state.first_version || model.state.dropped_versions.contains(&version))
            };
            if (unfinished || dropped)
                && let Err(error) = self.store.delete(&meta.location).await
            {
                tracing::warn!(%error, "a leftover file stays");
            }
        }
    }
}

/// Which model claimed a name.
#[derive(Debug, Clone, serde::Serialize, Deserialize)]
pub(super) struct Claim {
    pub(super) name: String,
    pub(super) id: String,
}

/// Succeeds when the file's format is one this build reads.
fn check_format(path: &Path, bytes: &[u8]) -> Result<()> {
    let format: Format = parse(path, bytes)?;
    if format.format_version != FORMAT_VERSION {
        return Err(Error::new(Code::FeatureNotSupported, format!("file \"{path}\" has an unknown format"))
            .detail(format!("It has format {}; this server reads format {FORMAT_VERSION}.", format.format_version))
            .hint("Use the version of Portrait that wrote it, or a newer one."));
    }
    Ok(())
}

fn parse<T: DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T> {
    exact::from_bytes(bytes).map_err(|reason| corrupted(path, &reason))
}

/// Whether the fault lies in the file, so that only its version is unusable.
fn unreadable(error: &Error) -> bool {
    matches!(error.code, Code::DataCorrupted | Code::FeatureNotSupported)
}

/// A manifest, checked.
pub(super) fn parse_manifest(path: &Path, bytes: &[u8]) -> Result<Manifest> {
    check_format(path, bytes)?;
    parse(path, bytes)
}

/// Succeeds when `bytes` are the weights that the manifest speaks of.
pub(super) fn check_weights(path: &Path, bytes: &[u8], info: &VersionInfo) -> Result<()> {
    if bytes.len() as u64 != info.weights_bytes {
        return Err(corrupted(path, &format!("it has {} bytes, its manifest says {}", bytes.len(), info.weights_bytes)));
    }
    if blake3::hash(bytes).to_hex().as_str() != info.weights_hash {
        return Err(corrupted(path, "its content does not match the hash in its manifest"));
    }
    Ok(())
}
