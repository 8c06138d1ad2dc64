//! Waiting inside functions that the engine calls as ordinary ones.

use std::future::Future;
use std::sync::OnceLock;

use tokio::runtime::{Handle, Runtime, RuntimeFlavor};

use crate::error::{Error, Result};

/// Waits for `work` without holding up the runtime that the caller is on.
///
/// On the usual multi-threaded runtime the worker hands its other tasks over first. A caller without one (a plain
/// thread, a test's single-threaded runtime) waits for a runtime of ours.
pub(super) fn block_on<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> Result<T> {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    let (sender, receiver) = std::sync::mpsc::sync_channel(1);
    let work = async move { drop(sender.send(work.await)) };
    let receive = || receiver.recv().map_err(|_| Error::internal("a function stopped in the middle"));
    if let Ok(handle) = Handle::try_current()
        && handle.runtime_flavor() == RuntimeFlavor::MultiThread
    {
        handle.spawn(work);
        return tokio::task::block_in_place(receive);
    }
    let runtime = match RUNTIME.get() {
        Some(runtime) => runtime,
        None => {
            let mut builder = tokio::runtime::Builder::new_multi_thread();
            let made = builder.worker_threads(1).thread_name("portrait-blocking").enable_all().build()?;
            if let Err(spare) = RUNTIME.set(made) {
                spare.shutdown_background();
            }
            RUNTIME.get().ok_or_else(|| Error::internal("no runtime"))?
        }
    };
    runtime.spawn(work);
    receive()
}
