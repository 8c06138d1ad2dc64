//! Locations: named folders of files that roles may be allowed to use (`CREATE LOCATION`).
//!
//! The server's data roots bound what anybody reaches. Superusers, and members of `pg_read_server_files`, reach all of them;
//! everybody else only what lies in a location that was granted.

use portrait_udfs::error::{Code, Error, Result};
use serde::{Deserialize, Serialize};

use super::{Object, ObjectClass, rights};

/// A location as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) struct StoredLocation {
    pub(in super::super) oid: u32,
    pub(in super::super) owner: String,
    /// The folder: absolute and without links, or the prefix of a bucket.
    pub(in super::super) path: String,
    /// Whether files may be written.
    #[serde(default)]
    pub(in super::super) writable: bool,
}

/// A location.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocationInfo {
    /// Its name.
    pub name: String,
    /// Who made it.
    pub owner: String,
    /// The folder.
    pub path: String,
    /// Whether files may be written.
    pub writable: bool,
}

impl super::super::Catalog {
    /// Every location, by name.
    pub fn locations(&self) -> Vec<LocationInfo> {
        let state = self.inner.state();
        let info = |(name, stored): (&String, &StoredLocation)| LocationInfo {
            name: name.clone(),
            owner: stored.owner.clone(),
            path: stored.path.clone(),
            writable: stored.writable,
        };
        state.definitions.access.locations.iter().map(info).collect()
    }

    /// `CREATE LOCATION`: of a folder below a data root.
    ///
    /// # Errors
    /// 42501 for others than superusers and for a folder outside the roots, 42710 for a name that is taken, 22023 for a folder
    /// that does not exist.
    pub async fn create_location(&self, caller: &str, name: &str, path: &str, writable: bool) -> Result<()> {
        self.only_superusers(caller, "create locations")?;
        let path = self.inner.roots.folder_of_location(path)?;
        let (caller, name) = (caller.to_owned(), name.to_owned());
        self.inner
            .change(move |definitions| {
                if definitions.access.locations.contains_key(&name) {
                    return Err(Error::new(Code::DuplicateObject, format!("location \"{name}\" already exists")));
                }
                let oid = definitions.take_oid();
                definitions.access.locations.insert(name, StoredLocation { oid, owner: caller, path, writable });
                Ok(())
            })
            .await
    }

    /// `DROP LOCATION`; false when there was none.
    ///
    /// # Errors
    /// 42501; 42704 when there is none, unless `if_exists`.
    pub async fn drop_location(&self, caller: &str, name: &str, if_exists: bool) -> Result<bool> {
        self.only_superusers(caller, "drop locations")?;
        let name = name.to_owned();
        self.inner
            .change(move |definitions| {
                let dropped = definitions.access.locations.remove(&name).is_some();
                if !dropped && !if_exists {
                    return Err(Error::new(Code::UndefinedObject, format!("location \"{name}\" does not exist")));
                }
                definitions.access.forget(&Object::new(ObjectClass::Location, name));
                Ok(dropped)
            })
            .await
    }

    /// Demands a superuser.
    ///
    /// # Errors
    /// 42501.
    pub fn only_superusers(&self, caller: &str, action: &str) -> Result<()> {
        if rights::is_superuser(&self.inner.state().definitions, caller) {
            return Ok(());
        }
        Err(Error::new(Code::InsufficientPrivilege, format!("permission denied to {action}"))
            .hint(format!("Only superusers may {action}.")))
    }
}
