//! A folder through which processes train together: the object-store side of [`Exchange`].

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStoreExt};
use tokio::runtime::Handle;

use super::store;
use super::transfer::Folder;
use crate::error::Result;
use crate::train::federated::Exchange;

/// Messages as objects of one folder. Blocks on the store: for threads that train, never for those that serve.
#[derive(Debug, Clone)]
pub struct FolderExchange {
    folder: Folder,
    handle: Handle,
}

impl FolderExchange {
    /// The messages about `model` in a folder. Needs a Tokio runtime.
    #[must_use]
    pub fn new(folder: Folder, model: &str) -> Self {
        let Folder { store, path } = folder;
        Self { folder: Folder { store, path: path.join(model) }, handle: Handle::current() }
    }

    fn path(&self, name: &str) -> Path {
        name.split('/').filter(|part| !part.is_empty()).fold(self.folder.path.clone(), |path, part| path.join(part))
    }
}

impl Exchange for FolderExchange {
    fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        Ok(self.handle.block_on(store::read(self.folder.store.as_ref(), &self.path(name)))?.map(Vec::from))
    }

    fn write(&self, name: &str, bytes: Vec<u8>) -> Result<()> {
        self.handle.block_on(store::replace(self.folder.store.as_ref(), &self.path(name), Bytes::from(bytes)))
    }

    fn names(&self, prefix: &str) -> Result<Vec<String>> {
        let folder = self.path(prefix.rsplit_once('/').map_or("", |(folder, _)| folder));
        let listed = self.folder.store.list(Some(&folder)).try_collect::<Vec<ObjectMeta>>();
        let found = self.handle.block_on(listed).map_err(|error| store::failed("list", &folder, &error))?;
        let name = |meta: ObjectMeta| {
            let parts = meta.location.prefix_match(&self.folder.path)?;
            Some(parts.map(|part| part.as_ref().to_owned()).collect::<Vec<_>>().join("/"))
        };
        let mut names: Vec<String> = found.into_iter().filter_map(name).filter(|name| name.starts_with(prefix)).collect();
        names.sort_unstable();
        Ok(names)
    }

    fn remove(&self, name: &str) -> Result<()> {
        let path = self.path(name);
        match self.handle.block_on(self.folder.store.delete(&path)) {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(store::failed("remove", &path, &error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use object_store::memory::InMemory;

    use super::*;

    #[test]
    fn names_are_read_back_from_their_folder() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let _guard = runtime.enter();
        let folder = Folder { store: Arc::new(InMemory::new()), path: Path::from("shared/exchange") };
        let (one, other) = (FolderExchange::new(folder.clone(), "m"), FolderExchange::new(folder, "m2"));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for name in ["plan", "r/hello-b", "r/hello-a", "r/call-1", "r2/hello-c"] {
                    one.write(name, name.as_bytes().to_vec()).unwrap();
                }
                assert_eq!(one.names("r/hello-").unwrap(), ["r/hello-a", "r/hello-b"]);
                assert_eq!(one.names("r/").unwrap().len(), 3);
                assert_eq!(one.read("r/call-1").unwrap().unwrap(), b"r/call-1");
                assert_eq!(other.read("plan").unwrap(), None);
                one.remove("r/call-1").unwrap();
                one.remove("r/call-1").unwrap();
                assert_eq!(one.read("r/call-1").unwrap(), None);
                assert!(other.names("r/").unwrap().is_empty());
            });
        });
    }
}
