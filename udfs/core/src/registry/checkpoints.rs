//! Checkpoints of trainings that have not ended: what a killed process left for the same statement to go on from.
//!
//! A model has the checkpoints of one training at a time. They lie under a key that names everything the result follows
//! from; a training with another key removes them and starts anew. The store makes each write atomic and durable.

use std::fmt;

use bytes::Bytes;
use tokio::runtime::Handle;

use super::manifest::ModelRef;
use super::open::Registry;
use super::store::Store;
use crate::error::Result;
use crate::train::CheckpointStore;

/// What an earlier training of the model left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Earlier {
    /// Nothing.
    Nothing,
    /// Checkpoints of this very training.
    Same,
    /// Checkpoints of another one, which are removed.
    Other,
}

/// The checkpoints of one training. Blocks on the store: for threads that train, never for those that serve.
#[derive(Clone)]
pub struct RunCheckpoints {
    store: Store,
    id: String,
    key: String,
    handle: Handle,
}

impl fmt::Debug for RunCheckpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunCheckpoints").field("id", &self.id).field("key", &self.key).finish_non_exhaustive()
    }
}

impl Registry {
    /// The checkpoints of the training of `model` that `key` names, and what was there before. Needs a Tokio runtime.
    ///
    /// # Errors
    /// 58030 when the store cannot be listed or cleared.
    pub async fn checkpoints(&self, model: &ModelRef, key: &str) -> Result<(RunCheckpoints, Earlier)> {
        let own = RunCheckpoints { store: self.store.clone(), id: model.id.to_string(), key: key.to_owned(), handle: Handle::current() };
        let mut earlier = Earlier::Nothing;
        let folder = self.store.checkpoint_key(&own.id, key);
        for (_, meta) in self.store.list(&self.store.checkpoints(&own.id)).await? {
            if meta.location.prefix_matches(&folder) {
                earlier = Earlier::Same;
            } else {
                self.store.delete(&meta.location).await?;
                if earlier == Earlier::Nothing {
                    earlier = Earlier::Other;
                }
            }
        }
        Ok((own, earlier))
    }

    /// Removes whatever checkpoints a model has; what cannot be removed is logged and stays.
    pub(super) async fn forget_checkpoints(&self, id: &str) {
        remove(&self.store, id).await;
    }
}

async fn remove(store: &Store, id: &str) {
    let removed = async {
        for (_, meta) in store.list(&store.checkpoints(id)).await? {
            store.delete(&meta.location).await?;
        }
        Ok::<_, crate::Error>(())
    };
    if let Err(error) = removed.await {
        tracing::warn!(model = id, %error, "checkpoints could not be removed");
    }
}

impl RunCheckpoints {
    /// Removes them: the training has ended well.
    pub async fn remove(&self) {
        remove(&self.store, &self.id).await;
    }
}

impl CheckpointStore for RunCheckpoints {
    fn load(&self, label: &str) -> Result<Option<Vec<u8>>> {
        let path = self.store.checkpoint(&self.id, &self.key, label);
        Ok(self.handle.block_on(self.store.read(&path))?.map(Vec::from))
    }

    fn save(&self, label: &str, bytes: Vec<u8>) -> Result<()> {
        let path = self.store.checkpoint(&self.id, &self.key, label);
        self.handle.block_on(self.store.replace(&path, Bytes::from(bytes)))
    }
}
