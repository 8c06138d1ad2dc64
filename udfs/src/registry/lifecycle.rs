//! How a model changes.

use std::sync::Arc;

use super::manifest::{Manifest, ModelRef};
use super::open::Registry;
use crate::error::{Error, Result};
use crate::models::Parameters;

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

impl Registry {
    /// Reserves the next version number of a model, creating the model if need be.
    ///
    /// # Errors
    /// 22023 for a name that cannot be one.
    pub async fn begin_version(&self, _request: VersionRequest) -> Result<VersionTicket> {
        Err(Error::internal("not landed"))
    }

    /// Writes the weights, then the manifest: from then on the version is `ready`. Sets `model`, `version`,
    /// `weights_hash` and `weights_bytes` of the manifest.
    pub async fn publish(&self, _ticket: VersionTicket, _manifest: Manifest, _parameters: &Parameters) -> Result<ModelRef> {
        Err(Error::internal("not landed"))
    }

    /// Makes `version` what the bare name means; `None` = the newest ready one. Atomic; idempotent.
    pub async fn activate(&self, _name: &str, _version: Option<u32>) -> Result<Activation> {
        Err(Error::internal("not landed"))
    }

    /// Activates the previously active version.
    pub async fn rollback(&self, _name: &str) -> Result<Activation> {
        Err(Error::internal("not landed"))
    }

    /// Gives the model another name; atomic.
    pub async fn rename(&self, _name: &str, _to: &str) -> Result<()> {
        Err(Error::internal("not landed"))
    }

    /// Drops one version, or (`None`) the model. Statements that hold it go on.
    pub async fn drop_model(&self, _name: &str, _version: Option<u32>) -> Result<Vec<u32>> {
        Err(Error::internal("not landed"))
    }

    /// The weights of a version, to start another training from.
    pub async fn parameters(&self, _reference: &ModelRef) -> Result<Parameters> {
        Err(Error::internal("not landed"))
    }

    #[doc(hidden)]
    pub fn unused(_: Arc<()>) {}
}
