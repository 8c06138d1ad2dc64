//! Server files, by role.

use std::sync::{Arc, Weak};

use object_store::ObjectStore;
use object_store::path::Path;
use portrait_udfs::context::FileAccess;
use portrait_udfs::error::{Code, Error, Result};

use crate::catalog::Catalog;

/// The files below the data roots that a role may use. It must not hold the catalog, as [`super::ModelRights`].
#[derive(Debug)]
pub(in super::super) struct RoleFiles(pub(in super::super) Weak<Catalog>);

impl FileAccess for RoleFiles {
    fn folder(&self, path: &str, caller: &str, write: bool) -> Result<(Arc<dyn ObjectStore>, Path)> {
        let catalog = self.0.upgrade().ok_or_else(|| Error::new(Code::Shutdown, "the server is shutting down"))?;
        catalog.roots_of(caller, write).folder(path, caller, write)
    }
}
