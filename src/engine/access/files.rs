//! Server files, by role.

use std::sync::Arc;

use object_store::ObjectStore;
use object_store::path::Path;
use portrait_udfs::context::FileAccess;
use portrait_udfs::error::Result;

use crate::catalog::Catalog;

/// The files below the data roots that a role may use.
#[derive(Debug)]
pub(in super::super) struct RoleFiles(pub(in super::super) Arc<Catalog>);

impl FileAccess for RoleFiles {
    fn folder(&self, path: &str, caller: &str, write: bool) -> Result<(Arc<dyn ObjectStore>, Path)> {
        self.0.roots_of(caller, write).folder(path, caller, write)
    }
}
