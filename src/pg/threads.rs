//! Threads that attend to clients, each with an event loop of its own; a client stays with the one that it was given to.
//!
//! To look a user up takes less time than to wake another thread. Where threads share one loop whoever hears of a message wakes the
//! next one to look for more, and messages change hands; here nobody is woken but by the kernel. Statements that take long run
//! elsewhere, so a thread is free again in no time.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Handle, Runtime};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Stack of a thread; statements run elsewhere, on bigger ones.
const STACK_BYTES: usize = 8 << 20;
/// What clients began and nobody waits for may go on for so long after the last of them.
const LINGER: Duration = Duration::from_secs(5);

/// The threads. They end when this is dropped.
pub(super) struct Threads {
    threads: Vec<Thread>,
    stop: CancellationToken,
}

struct Thread {
    handle: Handle,
    clients: Arc<AtomicUsize>,
}

impl Threads {
    /// One for each processor: with one for every two, a thread was at its limit while processors rested, and look-ups of eight
    /// clients were a quarter slower.
    ///
    /// # Errors
    /// When the system has no more threads.
    pub(super) fn start() -> io::Result<Self> {
        let mut started = Self { threads: vec![], stop: CancellationToken::new() };
        for at in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let (handle, stop) = (runtime.handle().clone(), started.stop.clone());
            let named = std::thread::Builder::new().name(format!("client-{at}")).stack_size(STACK_BYTES);
            named.spawn(move || attend(&runtime, &stop))?;
            started.threads.push(Thread { handle, clients: Arc::default() });
        }
        Ok(started)
    }

    /// Gives a client to the thread that has the fewest.
    pub(super) fn give<F>(&self, tasks: &TaskTracker, client: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let Some(thread) = self.threads.iter().min_by_key(|thread| thread.clients.load(Ordering::Relaxed)) else { return };
        let counted = Counted::new(&thread.clients);
        let task = async move {
            let _counted = counted;
            client.await;
        };
        tasks.spawn_on(task, &thread.handle);
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn attend(runtime: &Runtime, stop: &CancellationToken) {
    runtime.block_on(async {
        stop.cancelled().await;
        let began = Instant::now();
        while runtime.metrics().num_alive_tasks() > 0 && began.elapsed() < LINGER {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
}

/// A client of a thread, until it is dropped.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(clients: &Arc<AtomicUsize>) -> Self {
        clients.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(clients))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
