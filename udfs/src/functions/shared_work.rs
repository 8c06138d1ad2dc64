//! Work that the streams of one execution of a node share.

use std::fmt;
use std::sync::Arc;

use datafusion::error::{DataFusionError, Result};
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use parking_lot::Mutex;

/// The result of the work, once for each stream that waits for it.
pub(super) type Work<T> = Shared<BoxFuture<'static, std::result::Result<Arc<T>, Arc<DataFusionError>>>>;

/// Hands the same work to as many streams as an execution has; the next execution begins anew.
pub(super) struct SharedWork<T>(Mutex<Option<(Work<T>, usize)>>);

impl<T> Default for SharedWork<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T> fmt::Debug for SharedWork<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedWork").finish_non_exhaustive()
    }
}

/// The work as streams wait for it.
pub(super) fn work<T: Send + Sync + 'static>(future: impl Future<Output = Result<T>> + Send + 'static) -> Work<T> {
    future.map(|done| done.map(Arc::new).map_err(Arc::new)).boxed().shared()
}

impl<T> SharedWork<T> {
    /// The work for one of `streams` streams; the first of them begins it.
    ///
    /// # Errors
    /// Those of `begin`.
    pub(super) fn of(&self, streams: usize, begin: impl FnOnce() -> Result<Work<T>>) -> Result<Work<T>> {
        let mut shared = self.0.lock();
        let (work, users) = match shared.take() {
            Some((work, users)) => (work, users + 1),
            None => (begin()?, 1),
        };
        // Only the streams hold on to the result when each has its share.
        if users < streams {
            *shared = Some((work.clone(), users));
        }
        Ok(work)
    }
}

/// The result of shared work. The streams that wait are woken by whoever did the last of it: without giving way they would
/// take turns on its thread.
///
/// # Errors
/// Those of the work.
pub(super) async fn done<T>(work: Work<T>) -> Result<Arc<T>> {
    let done = work.await.map_err(DataFusionError::Shared);
    tokio::task::yield_now().await;
    done
}
