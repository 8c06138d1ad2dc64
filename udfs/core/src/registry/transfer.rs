//! Models that travel: a folder with `model.safetensors` and `manifest.json`, the manifest written last.
//!
//! The tensors carry PyTorch's names, so `torch.load_state_dict(safetensors.torch.load_file(…))` reads them; the
//! manifest is the registry's own, checksum and weights' hash included, so a folder that was changed is refused.

use std::sync::Arc;

use bytes::Bytes;
use object_store::ObjectStore;
use object_store::path::Path;

use super::cache::LoadedModel;
use super::lifecycle::VersionRequest;
use super::manifest::{Manifest, ModelRef};
use super::now_us;
use super::open::{Registry, check_weights, parse_manifest};
use super::store::{self, MANIFEST, Put, corrupted};
use crate::error::{Code, Error, Result};

const WEIGHTS: &str = "model.safetensors";

/// A folder in some store.
#[derive(Debug, Clone)]
pub struct Folder {
    /// The store.
    pub store: Arc<dyn ObjectStore>,
    /// The folder's place in it.
    pub path: Path,
}

/// What an import did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// The version that holds the model now.
    pub reference: ModelRef,
    /// `false` when that version had the same weights before.
    pub changed: bool,
    /// Whether the import made it the active version: so when there was none.
    pub activated: bool,
}

impl Registry {
    /// Writes a version to `folder`. `false` when the folder holds this very version already.
    ///
    /// # Errors
    /// 42710 when it holds something else; XX001 when the version is damaged; 58030 or 53100 when a store fails.
    pub async fn export(&self, reference: &ModelRef, folder: &Folder) -> Result<bool> {
        let mut manifest = self.read_manifest(reference).await?;
        let weights = self.read_weights(reference, &manifest.info).await?;
        manifest.info.model = reference.name.to_string();
        let path = folder.path.clone().join(MANIFEST);
        let body = store::document(&manifest)?;
        if let Some(found) = store::read(folder.store.as_ref(), &path).await? {
            let same = parse_manifest(&path, &found).is_ok_and(|found| found.info.weights_hash == manifest.info.weights_hash);
            return if same && found == body { Ok(false) } else { Err(occupied(folder)) };
        }
        // Weights without a manifest are what an export that was cut off left.
        store::replace(folder.store.as_ref(), &folder.path.clone().join(WEIGHTS), weights).await?;
        match store::create(folder.store.as_ref(), &path, body).await? {
            Put::Created => Ok(true),
            Put::Exists => Err(occupied(folder)),
        }
    }

    /// Takes the model in `folder` up as the next version of `request.name`, active when there is no active one.
    ///
    /// # Errors
    /// 42704 when there is no model in the folder; XX001 naming a damaged file; 0A000 for an unknown format; 22023
    /// for a name that cannot be one.
    pub async fn import(&self, request: VersionRequest, folder: &Folder) -> Result<Imported> {
        let (manifest, weights) = read_folder(folder).await?;
        if let Some(reference) = self.holding(&request.name, &manifest) {
            return Ok(Imported { reference, changed: false, activated: false });
        }
        let mut manifest = manifest;
        manifest.info.owner.clone_from(&request.owner);
        manifest.info.created_at_us = now_us();
        let name = request.name.clone();
        let ticket = self.begin_version(request).await?;
        let reference = self.publish_bytes(ticket, manifest, weights).await?;
        let activated = self.resolve(&name).is_err();
        if activated {
            self.activate(&name, Some(reference.version)).await?;
        }
        Ok(Imported { reference, changed: true, activated })
    }

    /// The version of `name` that has the same weights and was trained the same way.
    fn holding(&self, name: &str, manifest: &Manifest) -> Option<ModelRef> {
        let versions = self.list_versions();
        let same = |entry: &&super::VersionEntry| {
            entry.reference.name.as_ref() == name
                && entry.info.as_ref().is_some_and(|info| {
                    info.weights_hash == manifest.info.weights_hash
                        && info.target == manifest.info.target
                        && info.source == manifest.info.source
                })
        };
        versions.iter().find(same).map(|entry| entry.reference.clone())
    }
}

/// The folder's model, checked as far as building its network.
async fn read_folder(folder: &Folder) -> Result<(Manifest, Bytes)> {
    let path = folder.path.clone().join(MANIFEST);
    let Some(body) = store::read(folder.store.as_ref(), &path).await? else {
        return Err(Error::new(Code::UndefinedObject, format!("folder \"{}\" holds no model", folder.path))
            .detail("It has no file manifest.json.")
            .hint("Name a folder that export_model wrote."));
    };
    let manifest = parse_manifest(&path, &body)?;
    let path = folder.path.clone().join(WEIGHTS);
    let Some(weights) = store::read(folder.store.as_ref(), &path).await? else {
        return Err(corrupted(&path, "it is missing"));
    };
    check_weights(&path, &weights, &manifest.info)?;
    let probe = ModelRef { name: manifest.info.model.as_str().into(), version: manifest.info.version, id: Arc::from("") };
    let (copy, bytes) = (manifest.clone(), weights.clone());
    let checked = tokio::task::spawn_blocking(move || LoadedModel::build(probe, copy, &bytes, &path));
    checked.await.map_err(|error| Error::internal(format!("reading a model stopped: {error}")))??;
    Ok((manifest, weights))
}

fn occupied(folder: &Folder) -> Error {
    Error::new(Code::DuplicateObject, format!("folder \"{}\" already holds a model", folder.path)).hint("Choose an empty folder.")
}
