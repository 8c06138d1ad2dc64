//! Which files SQL may read: the configured data roots and the data directory's own `files/`.
use portrait_udfs::error::{Error, Result};
use std::path::{Path, PathBuf};

/// The folders whose files SQL may read.
#[derive(Debug, Clone)]
pub struct DataRoots {
    roots: Vec<PathBuf>,
}

impl DataRoots {
    /// Takes `<data_dir>/files` and every configured root. A root that does not exist is an error.
    pub fn new(data_dir: &Path, configured: &[PathBuf]) -> Result<Self> {
        let _ = (data_dir, configured);
        Ok(Self { roots: Vec::new() })
    }

    /// The roots, canonical, `files/` last.
    pub fn roots(&self) -> &[PathBuf] {
        &self.roots
    }

    /// The canonical path of one existing file or folder under a root (for reading).
    pub fn resolve(&self, location: &str) -> Result<PathBuf> {
        let _ = location;
        Err(Error::internal("not yet"))
    }

    /// The path of a file or folder that may not exist yet under a root (for export).
    pub fn resolve_new(&self, location: &str) -> Result<PathBuf> {
        let _ = location;
        Err(Error::internal("not yet"))
    }
}
