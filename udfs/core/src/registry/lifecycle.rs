//! How a model changes: versions are reserved and published; a record moves the name, the active version, or drops.
//!
//! Each function below is one conditional put at its point of no return; what it writes before that is invisible, what
//! it removes afterwards is already hidden. A crash anywhere leaves the old state or the new one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};

use super::erased::OnErasure;
use super::index::{Index, Model, State, check_name};
use super::manifest::{FORMAT_VERSION, Manifest, ModelRef};
use super::now_us;
use super::open::{Claim, Registry};
use super::store::{Put, document};
use crate::error::{Code, Error, Result};
use crate::models::Parameters;

/// Attempts to publish a record when other processes publish theirs at the same time.
const ATTEMPTS_MAX: u32 = 16;
/// How far rollbacks can go back.
const ACTIVATIONS_KEPT: usize = 64;
/// Records of a model that are kept: the newest ones, so that a damaged one does not hide the model's name.
const STATES_KEPT: u64 = 3;

/// A new version that somebody wants to make.
#[derive(Debug, Clone)]
pub struct VersionRequest {
    /// Model name; the model is created when it does not exist.
    pub name: String,
    /// Becomes the owner of a new model.
    pub owner: String,
    /// The statement that trains it.
    pub statement: String,
}

/// A reserved version number. Dropped without [`Registry::publish`], the number stays unused for ever.
#[derive(Debug)]
pub struct VersionTicket {
    /// The version to be.
    pub reference: ModelRef,
    index: Arc<RwLock<Index>>,
}

impl Drop for VersionTicket {
    fn drop(&mut self) {
        self.index.write().training.remove(&(Arc::clone(&self.reference.id), self.reference.version));
    }
}

/// What `activate` and `rollback` did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Activation {
    /// The version that is active now.
    pub reference: ModelRef,
    /// The one that was active before; `None` when there was none.
    pub previous: Option<u32>,
    /// Whether anything changed.
    pub changed: bool,
}

/// Marks a version number as taken.
#[derive(Debug, Serialize, Deserialize)]
struct Reservation {
    format_version: u32,
    /// Tells two reservations of one number apart.
    commit: String,
    owner: String,
    statement: String,
    created_at_us: i64,
}

impl Registry {
    /// Reserves the next version number of a model, creating the model if need be. While the ticket lives, the
    /// version is `not ready` for whoever asks.
    ///
    /// # Errors
    /// 22023 for a name that cannot be one; 58030 or 53100 when the store fails.
    pub async fn begin_version(&self, request: VersionRequest) -> Result<VersionTicket> {
        check_name(&request.name)?;
        let _writer = self.writer.lock().await;
        let id = self.ensure_model(&request).await?;
        let reservation = Reservation {
            format_version: FORMAT_VERSION,
            commit: commit_id(),
            owner: request.owner,
            statement: request.statement,
            created_at_us: now_us(),
        };
        let ticket = document(&reservation)?;
        let mut version = self.index.read().next_version(&request.name);
        while self.store.create(&self.store.ticket(&id, version), ticket.clone()).await? == Put::Exists {
            version = version.checked_add(1).ok_or_else(|| Error::internal("version numbers are used up"))?;
        }
        let mut index = self.index.write();
        if let Some(model) = index.models.get_mut(&id) {
            model.reserved = model.reserved.max(version);
        }
        index.training.insert((Arc::clone(&id), version));
        drop(index);
        let reference = ModelRef { name: request.name.as_str().into(), version, id };
        Ok(VersionTicket { reference, index: Arc::clone(&self.index) })
    }

    /// Writes the weights, then the manifest: from then on the version is `ready`. Fills in `model`, `version`,
    /// `weights_hash`, `weights_bytes` and the format.
    ///
    /// # Errors
    /// 55000 when the model was dropped meanwhile; 58030 or 53100 when the store fails.
    pub async fn publish(&self, ticket: VersionTicket, manifest: Manifest, parameters: &Parameters) -> Result<ModelRef> {
        self.publish_bytes(ticket, manifest, Bytes::from(parameters.to_safetensors()?)).await
    }

    /// [`publish`](Self::publish) of the bytes of a weights file: compressed weights, or those of another registry.
    ///
    /// # Errors
    /// As [`publish`](Self::publish).
    pub async fn publish_bytes(&self, ticket: VersionTicket, mut manifest: Manifest, weights: Bytes) -> Result<ModelRef> {
        let reference = ticket.reference.clone();
        manifest.format_version = FORMAT_VERSION;
        manifest.info.version = reference.version;
        manifest.info.weights_hash = blake3::hash(&weights).to_hex().to_string();
        manifest.info.weights_bytes = weights.len() as u64;
        manifest.info.model = self.current_name(&reference)?;
        let body = document(&manifest)?;
        self.put_new(&self.store.weights(&reference.id, reference.version), weights).await?;

        let _writer = self.writer.lock().await;
        self.current_name(&reference)?;
        self.inherit_erased(&reference, &manifest.info).await?;
        self.put_new(&self.store.manifest(&reference.id, reference.version), body).await?;
        let mut index = self.index.write();
        if let Some(model) = index.models.get_mut(&reference.id) {
            model.versions.insert(reference.version, Ok(Arc::new(manifest.info)));
        }
        Ok(reference)
    }

    /// Makes `version` (`None` = the newest one) what the bare name means. Atomic; doing it twice changes nothing.
    ///
    /// # Errors
    /// 42704 for an unknown model or version, 55000 when it is not ready, XX001 when it is damaged.
    pub async fn activate(&self, name: &str, version: Option<u32>) -> Result<Activation> {
        let _writer = self.writer.lock().await;
        let (id, version) = {
            let index = self.index.read();
            let (id, model) = index.existing(name)?;
            let newest = || model.visible().filter(|(_, info)| info.is_ok()).map(|(version, _)| version).next_back();
            let version = version.or_else(newest).unwrap_or(model.reserved);
            (Arc::clone(id), version)
        };
        self.change(&id, |model| {
            check_version(name, version, model, &self.index)?;
            if model.state.active == Some(version) && model.damaged.is_none() {
                return Ok(None);
            }
            let mut state = model.state.as_ref().clone();
            state.activations.extend(state.active.filter(|active| *active != version));
            let forgotten = state.activations.len().saturating_sub(ACTIVATIONS_KEPT);
            state.activations.drain(..forgotten);
            state.active = Some(version);
            Ok(Some(state))
        })
        .await
        .map(|(before, changed)| Activation { reference: reference(name, version, &id), previous: before.active, changed })
    }

    /// Activates the version that was active before the present one.
    ///
    /// # Errors
    /// 42704 for an unknown model; 55000 when there is no version to go back to.
    pub async fn rollback(&self, name: &str) -> Result<Activation> {
        let _writer = self.writer.lock().await;
        let id = self.index.read().existing(name).map(|(id, _)| Arc::clone(id))?;
        let mut version = 0;
        let (before, changed) = self
            .change(&id, |model| {
                let mut state = model.state.as_ref().clone();
                version = loop {
                    let Some(previous) = state.activations.pop() else { return Err(no_previous(name, model)) };
                    let usable = model.visible().any(|(version, info)| version == previous && info.is_ok());
                    if usable && state.active != Some(previous) {
                        break previous;
                    }
                };
                state.active = Some(version);
                Ok(Some(state))
            })
            .await?;
        Ok(Activation { reference: reference(name, version, &id), previous: before.active, changed })
    }

    /// Gives the model another name. Versions keep their numbers; statements that hold the model go on; a training
    /// that runs publishes under the new name. Whether anything changed.
    ///
    /// # Errors
    /// 42704 for an unknown model; 42710 when the name is taken; 22023 when it cannot be a name.
    pub async fn rename(&self, name: &str, to: &str) -> Result<bool> {
        check_name(to)?;
        let _writer = self.writer.lock().await;
        let id = self.index.read().existing(name).map(|(id, _)| Arc::clone(id))?;
        if name == to {
            return Ok(false);
        }
        if self.index.read().existing(to).is_ok() {
            return Err(taken(to));
        }
        self.claim(to, &id).await?;
        self.change(&id, |model| {
            let mut state = model.state.as_ref().clone();
            if !state.previous_names.contains(&state.name) {
                state.previous_names.push(state.name);
            }
            state.name = to.to_owned();
            Ok(Some(state))
        })
        .await?;
        self.forget(&self.store.claim(name)).await;
        self.permissions.renamed(name, to).await?;
        Ok(true)
    }

    /// Drops one version, or (`None`) the model with all its versions. Statements that have it in memory go on.
    /// The versions that went.
    ///
    /// # Errors
    /// 42704 for an unknown model or version; 55000 for the active version of a model.
    pub async fn drop_model(&self, name: &str, version: Option<u32>) -> Result<Vec<u32>> {
        let _writer = self.writer.lock().await;
        let id = self.index.read().existing(name).map(|(id, _)| Arc::clone(id))?;
        if version.is_none() {
            self.permissions.dropped(name).await?;
        }
        let mut going: BTreeSet<u32> = BTreeSet::new();
        self.change(&id, |model| {
            let mut state = model.state.as_ref().clone();
            match version {
                Some(version) => {
                    check_known(name, version, model, &self.index)?;
                    if state.active == Some(version) {
                        return Err(still_active(name, version));
                    }
                    state.dropped_versions.insert(version);
                    going = BTreeSet::from([version]);
                }
                None => {
                    state.dropped = true;
                    state.active = None;
                    state.activations.clear();
                    state.first_version = model.reserved.saturating_add(1);
                    state.on_erasure = OnErasure::default();
                    state.erased.clear();
                    state.dropped_versions.clear();
                    going = model.visible().map(|(version, _)| version).collect();
                }
            }
            Ok(Some(state))
        })
        .await?;
        for version in &going {
            self.unload(&reference(name, *version, &id));
            // The version is gone already; the next start removes what cannot be removed now.
            self.forget(&self.store.manifest(&id, *version)).await;
            self.forget(&self.store.weights(&id, *version)).await;
        }
        if version.is_none() {
            self.forget_checkpoints(&id).await;
        }
        if let Some(model) = self.index.write().models.get_mut(&id) {
            model.versions.retain(|version, _| !going.contains(version));
        }
        Ok(going.into_iter().collect())
    }

    /// The id of the model named in `request`, made (or made anew after a drop) if need be.
    async fn ensure_model(&self, request: &VersionRequest) -> Result<Arc<str>> {
        let known = self.index.read().named(&request.name).map(|(id, model)| (Arc::clone(id), model.clone()));
        if let Some((id, model)) = known {
            if model.state.dropped {
                self.change(&id, |model| Ok(model.state.dropped.then(|| revived(model, &request.owner)))).await?;
            } else if model.visible().next().is_none() {
                // Its creation may have been cut off before the name was claimed.
                return self.claim_or_yield(&request.name, id).await;
            }
            return Ok(id);
        }
        let id: Arc<str> = uuid::Uuid::now_v7().simple().to_string().into();
        let state = State {
            format_version: FORMAT_VERSION,
            commit: commit_id(),
            id: id.to_string(),
            sequence: 1,
            name: request.name.clone(),
            previous_names: Vec::new(),
            owner: request.owner.clone(),
            created_at_us: now_us(),
            active: None,
            activations: Vec::new(),
            first_version: self.index.read().next_version(&request.name),
            dropped_versions: BTreeSet::new(),
            dropped: false,
            on_erasure: OnErasure::default(),
            erased: BTreeMap::new(),
        };
        self.put_new(&self.store.state(&id, 1), document(&state)?).await?;
        {
            let mut index = self.index.write();
            let model = Model { state: Arc::new(state.clone()), damaged: None, reserved: 0, versions: BTreeMap::new() };
            index.models.insert(Arc::clone(&id), model);
            index.set_state(&id, state);
        }
        self.claim_or_yield(&request.name, id).await
    }

    /// Claims a name for a new model; when another process was first, its model.
    async fn claim_or_yield(&self, name: &str, id: Arc<str>) -> Result<Arc<str>> {
        match self.claim(name, &id).await {
            Ok(()) => Ok(id),
            Err(error) if error.code == Code::DuplicateObject => {
                self.forget(&self.store.state(&id, 1)).await;
                self.reload().await?;
                self.index.read().named(name).map(|(id, _)| Arc::clone(id)).ok_or(error)
            }
            Err(error) => Err(error),
        }
    }

    /// Claims a name for a model, taking it over from one that no longer has it.
    async fn claim(&self, name: &str, id: &Arc<str>) -> Result<()> {
        let path = self.store.claim(name);
        let claim = Claim { name: name.to_owned(), id: id.to_string() };
        if self.store.create_document(&path, &claim).await? == Put::Created {
            return Ok(());
        }
        let holder: Option<Claim> = self.store.read_document(&path).await.unwrap_or(None);
        if holder.as_ref().is_some_and(|holder| holder.id == claim.id) {
            return Ok(());
        }
        self.reload().await?;
        let live = holder.is_some_and(|holder| {
            let index = self.index.read();
            index.models.get(holder.id.as_str()).is_some_and(|model| model.state.name == name && !model.state.dropped)
        });
        if live { Err(taken(name)) } else { self.store.replace_document(&path, &claim).await }
    }

    /// Publishes the next record of a model: `next` sees the newest one and says what shall be (`None` = as it is).
    /// The record before, and whether anything changed. The caller holds the writer's lock.
    pub(super) async fn change(&self, id: &Arc<str>, mut next: impl FnMut(&Model) -> Result<Option<State>>) -> Result<(Arc<State>, bool)> {
        for _ in 0..ATTEMPTS_MAX {
            let model = self.index.read().models.get(id).cloned().ok_or_else(|| Error::internal("a model left the index"))?;
            if let Some(error) = model.damaged.as_ref().filter(|error| error.code != Code::DataCorrupted) {
                return Err(error.clone());
            }
            let before = Arc::clone(&model.state);
            let Some(mut state) = next(&model)? else { return Ok((before, false)) };
            state.sequence = before.sequence + 1;
            state.commit = commit_id();
            state.format_version = FORMAT_VERSION;
            if self.store.create_document(&self.store.state(id, state.sequence), &state).await? == Put::Created {
                let old = state.sequence.checked_sub(STATES_KEPT);
                self.index.write().set_state(id, state);
                if let Some(old) = old.filter(|old| *old > 0) {
                    self.forget(&self.store.state(id, old)).await;
                }
                return Ok((before, true));
            }
            self.reload().await?;
        }
        Err(Error::new(Code::NotReady, "the model is being changed by others").hint("Try again."))
    }

    /// Writes a file that nobody else writes; finding it there is our own earlier attempt gone wrong.
    async fn put_new(&self, path: &object_store::path::Path, bytes: Bytes) -> Result<()> {
        match self.store.create(path, bytes).await? {
            Put::Created => Ok(()),
            Put::Exists => Err(Error::internal(format!("file \"{path}\" exists already"))),
        }
    }

    /// Removes what is not needed any more; failing is harmless, the next start tries again.
    async fn forget(&self, path: &object_store::path::Path) {
        if let Err(error) = self.store.delete(path).await {
            tracing::warn!(%error, "a leftover file stays");
        }
    }

    fn current_name(&self, reference: &ModelRef) -> Result<String> {
        let index = self.index.read();
        match index.models.get(&reference.id).filter(|model| model.state.shows(reference.version)) {
            Some(model) => Ok(model.state.name.clone()),
            None => Err(Error::new(Code::NotReady, format!("model \"{}\" was dropped while it was training", reference.name))
                .detail(format!("Version {} is not kept.", reference.version))),
        }
    }
}

/// A dropped model's record, alive again; its old versions stay hidden.
fn revived(model: &Model, owner: &str) -> State {
    let mut state = model.state.as_ref().clone();
    state.dropped = false;
    state.owner = owner.to_owned();
    state.created_at_us = now_us();
    state
}

fn reference(name: &str, version: u32, id: &Arc<str>) -> ModelRef {
    ModelRef { name: name.into(), version, id: Arc::clone(id) }
}

fn commit_id() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

/// Succeeds when the version is ready.
fn check_version(name: &str, version: u32, model: &Model, index: &RwLock<Index>) -> Result<()> {
    match model.visible().find(|(found, _)| *found == version) {
        Some((_, Ok(_))) => Ok(()),
        Some((_, Err(error))) => Err(error.clone()),
        None => Err(index.read().not_there(name, version, model)),
    }
}

/// Succeeds when the version is there, damaged or not.
fn check_known(name: &str, version: u32, model: &Model, index: &RwLock<Index>) -> Result<()> {
    match model.visible().any(|(found, _)| found == version) {
        true => Ok(()),
        false => Err(index.read().not_there(name, version, model)),
    }
}

fn taken(name: &str) -> Error {
    Error::new(Code::DuplicateObject, format!("model \"{name}\" already exists"))
        .hint(format!("Drop it first with SELECT drop_model('{name}'), or choose another name."))
}

fn still_active(name: &str, version: u32) -> Error {
    Error::new(Code::NotReady, format!("version {version} of model \"{name}\" is active"))
        .detail("The active version cannot be dropped alone.")
        .hint(format!("Activate another version first, or drop the whole model with SELECT drop_model('{name}')."))
}

fn no_previous(name: &str, model: &Model) -> Error {
    let detail = match model.state.active {
        Some(active) => format!("Version {active} is active, and no version was active before it."),
        None => "No version was ever active.".to_owned(),
    };
    Error::new(Code::NotReady, format!("model \"{name}\" has no version to go back to"))
        .detail(detail)
        .hint("List the versions with SELECT * FROM ml.model_versions, and choose one with activate_model.")
}
