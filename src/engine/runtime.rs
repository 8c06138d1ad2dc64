//! The query runtime: threads, memory pool and spill space that all queries share.

use std::future::Future;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{FairSpillPool, TrackConsumersPool};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use parking_lot::Mutex;
use portrait_udfs::error::{Code, Error, Result};
use tokio::runtime::{Handle, Runtime};
use tokio::task::JoinHandle;

use crate::config::Config;

/// Stack of a query thread. Planning recurses with the nesting of a statement, and dropping a deep expression recurses
/// without any guard; address space is cheap, an overflow ends the process.
const STACK_BYTES: usize = 64 << 20;
/// How long a thread that reads files waits for the next one; what it had in memory is given back when it ends.
const KEEP_ALIVE: Duration = Duration::from_secs(1);
/// How many of the largest memory consumers an out-of-memory error names.
const CONSUMERS_NAMED: NonZeroUsize = NonZeroUsize::new(3).expect("three is not zero");

/// Threads, memory and spill space of queries.
pub struct QueryRuntime {
    env: Arc<RuntimeEnv>,
    handle: Handle,
    /// `None` once shut down. A runtime must not be dropped on a thread of another one: it is shut down in the background.
    runtime: Mutex<Option<Runtime>>,
    /// Fires timeouts, on a thread of its own: the query threads may all be busy when one is due.
    clock: Mutex<Option<Runtime>>,
    clock_handle: Handle,
}

impl std::fmt::Debug for QueryRuntime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("QueryRuntime").finish_non_exhaustive()
    }
}

impl QueryRuntime {
    /// Starts the threads and empties the spill folder that an earlier process may have left.
    ///
    /// # Errors
    /// When the folder cannot be made or threads cannot be started.
    pub(super) fn start(config: &Config) -> Result<Self> {
        let spill = config.data_dir.join("tmp").join("spill");
        if spill.exists() {
            std::fs::remove_dir_all(&spill)?;
        }
        std::fs::create_dir_all(&spill)?;
        let disk = DiskManagerBuilder::default()
            .with_mode(DiskManagerMode::Directories(vec![spill]))
            .with_max_temp_directory_size(config.spill_limit);
        let pool = TrackConsumersPool::new(FairSpillPool::new(config.memory_limit), CONSUMERS_NAMED);
        let env = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(pool))
            .with_disk_manager_builder(disk)
            .build_arc()
            .map_err(crate::error::classify)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(config.query_threads)
            .thread_stack_size(STACK_BYTES)
            .thread_name("query")
            .thread_keep_alive(KEEP_ALIVE)
            .enable_all()
            .build()?;
        let clock = tokio::runtime::Builder::new_multi_thread().worker_threads(1).thread_name("clock").enable_time().build()?;
        Ok(Self {
            env,
            handle: runtime.handle().clone(),
            runtime: Mutex::new(Some(runtime)),
            clock_handle: clock.handle().clone(),
            clock: Mutex::new(Some(clock)),
        })
    }

    /// Memory pool, spill space and object stores.
    pub fn env(&self) -> &Arc<RuntimeEnv> {
        &self.env
    }

    /// Runs `work` on the query threads.
    ///
    /// # Errors
    /// What `work` returns; [`Code::Internal`] when it panicked (the panic is logged), [`Code::Shutdown`] when the
    /// runtime is gone.
    pub async fn run<T, F>(&self, work: F) -> Result<T>
    where
        F: Future<Output = Result<T>> + Send + 'static,
        T: Send + 'static,
    {
        let mut task = AbortOnDrop(self.spawn(work));
        match (&mut task.0).await {
            Ok(result) => result,
            Err(error) => Err(failed(&error)),
        }
    }

    /// Starts `work` on the query threads.
    pub fn spawn<F>(&self, work: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.handle.spawn(work)
    }

    /// Starts `work` that only waits for a time and is quickly done, on a thread that is never busy.
    pub(super) fn spawn_timer<F>(&self, work: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.clock_handle.spawn(work)
    }

    /// Tells when the query threads have nothing to do.
    pub fn idleness(&self) -> Idleness {
        Idleness { handle: self.handle.clone(), looked: Instant::now(), busy: Duration::ZERO, attended: true }
    }

    /// Stops the threads without waiting for what runs on them.
    pub(super) fn shutdown(&self) {
        for runtime in [&self.runtime, &self.clock] {
            if let Some(runtime) = runtime.lock().take() {
                runtime.shutdown_background();
            }
        }
    }
}

impl Drop for QueryRuntime {
    fn drop(&mut self) {
        self.shutdown();
    }
}

/// Threads that worked for less than one part in so many of the time since they were last looked at are idle.
const IDLE_PARTS: u32 = 10;
/// How long an idle thread waits for the others to wake.
const WAKE: Duration = Duration::from_millis(5);

/// Whether the query threads have nothing to do.
#[derive(Debug)]
pub struct Idleness {
    handle: Handle,
    looked: Instant,
    /// How long all threads together had been busy then.
    busy: Duration,
    /// Whether nothing was done since the threads were last idle.
    attended: bool,
}

impl Idleness {
    /// Runs `work` on each thread if they have become idle since the last call: once after a time of work.
    pub fn attend(&mut self, work: fn()) {
        let (now, busy) = (Instant::now(), self.busy());
        let idle = (busy - self.busy) * IDLE_PARTS < now - self.looked;
        (self.looked, self.busy) = (now, busy);
        if idle && !self.attended {
            self.on_each(work);
            // That was work, too.
            std::thread::sleep(2 * WAKE);
            (self.looked, self.busy) = (Instant::now(), self.busy());
        }
        self.attended = idle;
    }

    fn busy(&self) -> Duration {
        let metrics = self.handle.metrics();
        (0..metrics.num_workers()).map(|worker| metrics.worker_total_busy_duration(worker)).sum()
    }

    /// A thread takes one of as many tasks as there are threads, and keeps it until the others have theirs.
    fn on_each(&self, work: fn()) {
        let threads = self.handle.metrics().num_workers();
        let arrived = Arc::new(AtomicUsize::new(0));
        for _ in 0..threads {
            let arrived = Arc::clone(&arrived);
            self.handle.spawn(async move {
                work();
                arrived.fetch_add(1, Ordering::Relaxed);
                let began = Instant::now();
                while arrived.load(Ordering::Relaxed) < threads && began.elapsed() < WAKE {
                    std::thread::sleep(WAKE / 50);
                }
            });
        }
    }
}

/// The error of a task that did not finish.
pub(super) fn failed(error: &tokio::task::JoinError) -> Error {
    if error.is_cancelled() {
        Error::new(Code::Shutdown, "terminating connection due to administrator command")
    } else {
        Error::internal("a query task panicked")
    }
}

/// A task that ends when nobody waits for it any more.
pub(super) struct AbortOnDrop<T>(pub(super) JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
