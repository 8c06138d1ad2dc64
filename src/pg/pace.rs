//! How fast a client asks. One that asks the next thing as soon as it has read the answer is watched for a moment before its thread
//! goes to sleep: to be woken takes longer than the client thinks. With two such clients a thread has no moment to spare.

use std::cell::Cell;
use std::time::{Duration, Instant};

use super::wire::Wire;

/// A client that asked again within this time is quick.
const QUICK: Duration = Duration::from_micros(200);
/// How long it is watched for.
const WATCHED: Duration = Duration::from_micros(100);

thread_local! {
    /// The quick clients of this thread.
    static QUICK_CLIENTS: Cell<usize> = const { Cell::new(0) };
}

/// The pace of one client, which stays with its thread.
#[derive(Debug, Default)]
pub(super) struct Pace {
    quick: bool,
}

impl Pace {
    /// Notes how long a client took to ask again.
    pub(super) fn answered(&mut self, took: Duration) {
        let quick = took < QUICK;
        match (std::mem::replace(&mut self.quick, quick), quick) {
            (false, true) => QUICK_CLIENTS.set(QUICK_CLIENTS.get() + 1),
            (true, false) => QUICK_CLIENTS.set(QUICK_CLIENTS.get().saturating_sub(1)),
            _ => {}
        }
    }

    /// Lets the thread look for messages without sleeping, until one of this client is there or the moment is over.
    pub(super) async fn watch_for(&self, wire: &Wire) {
        if !self.quick || QUICK_CLIENTS.get() > 1 {
            return;
        }
        let began = Instant::now();
        while !wire.has_heard() && began.elapsed() < WATCHED {
            tokio::task::yield_now().await;
        }
    }
}

impl Drop for Pace {
    fn drop(&mut self) {
        self.answered(Duration::MAX);
    }
}
