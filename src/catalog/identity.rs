//! Links between ids in the catalog: who may make them, and who is who for functions.

use std::sync::{Arc, Weak};

use async_trait::async_trait;
use portrait_udfs::context::{IdentityProvider, LinkOf, LinkWriter, Linked};
use portrait_udfs::error::{Code, Error, Result};
use portrait_udfs::kernels::identity::People;
use tokio_util::sync::CancellationToken;

use super::Catalog;
use super::open::Inner;
use crate::storage::identity::Batch;

impl Catalog {
    /// Links between ids for functions. It does not keep the catalog alive.
    pub fn identities(&self) -> Arc<dyn IdentityProvider> {
        Arc::new(Identities { inner: Arc::downgrade(&self.inner) })
    }

    /// Changes with every change of links between ids, also of those that an erasure takes out.
    pub fn identity_version(&self) -> u64 {
        self.inner.identities.version()
    }
}

#[derive(Debug)]
struct Identities {
    inner: Weak<Inner>,
}

#[derive(Debug)]
struct Writer(Batch);

impl IdentityProvider for Identities {
    fn people(&self) -> People {
        self.inner.upgrade().map(|inner| inner.identities.people()).unwrap_or_default()
    }

    fn writer(&self, caller: &str) -> Result<Box<dyn LinkWriter>> {
        let inner = self.inner.upgrade().ok_or_else(|| Error::new(Code::Shutdown, "the server is shutting down"))?;
        let state = inner.state();
        if !super::access::is_superuser(&state.definitions, caller) {
            return Err(Error::new(Code::InsufficientPrivilege, "permission denied to link ids")
                .hint("Only superusers may say who is the same person: it changes what everybody sees, and whom an erasure reaches."));
        }
        Ok(Box::new(Writer(inner.identities.batch())))
    }
}

#[async_trait]
impl LinkWriter for Writer {
    fn link(&mut self, link: LinkOf<'_>) -> Result<()> {
        self.0.link(link)
    }

    fn unlink(&mut self, a: &str, b: &str) -> Result<()> {
        self.0.unlink(a, b)
    }

    async fn commit(self: Box<Self>, ids_max: usize, cancel: CancellationToken) -> Result<Linked> {
        self.0.commit(ids_max, cancel).await
    }
}
