//! Which statement runs on which connection, and the keys that allow to cancel it.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::activity::Backend;

/// Bytes of the key in protocol 3.2; protocol 3.0 has room for four.
pub(crate) const LONG_KEY_BYTES: usize = 32;
/// Bytes of the key in protocol 3.0.
pub(crate) const SHORT_KEY_BYTES: usize = 4;

/// The statement that runs on a connection, if one does.
#[derive(Debug, Default)]
pub(crate) struct Running(Mutex<Option<CancellationToken>>);

impl Running {
    /// A token for a statement that starts now.
    pub(crate) fn start(&self) -> CancellationToken {
        let token = CancellationToken::new();
        self.resume(&token);
        token
    }

    /// A suspended statement goes on.
    pub(crate) fn resume(&self, token: &CancellationToken) {
        *self.0.lock() = Some(token.clone());
    }

    /// The statement ended: a cancel that arrives later must not hit the next one.
    pub(crate) fn finish(&self) {
        *self.0.lock() = None;
    }

    /// Cancels the statement that runs now.
    pub(crate) fn cancel(&self) {
        if let Some(token) = &*self.0.lock() {
            token.cancel();
        }
    }
}

#[derive(Debug)]
struct Entry {
    key: Vec<u8>,
    user: String,
    running: Arc<Running>,
    /// Fired when the connection must end.
    end: CancellationToken,
    backend: Arc<Backend>,
}

/// All connections that can be cancelled, by process id.
#[derive(Debug, Default)]
pub(crate) struct CancelRegistry {
    connections: Mutex<HashMap<i32, Entry>>,
}

impl CancelRegistry {
    /// Enters the connection of `user`'s session `id` with a random key of `key_bytes` bytes. It leaves when the result is
    /// dropped.
    pub(crate) fn register(self: &Arc<Self>, backend: Backend, key_bytes: usize, running: Arc<Running>) -> Registration {
        let mut key = vec![0; key_bytes];
        rand::RngCore::fill_bytes(&mut rand::rng(), &mut key);
        let (pid, user, backend, end) = (backend.pid, backend.user.clone(), Arc::new(backend), CancellationToken::new());
        let entry = Entry { key: key.clone(), user, running, end: end.clone(), backend: Arc::clone(&backend) };
        self.connections.lock().insert(pid, entry);
        Registration { registry: Arc::clone(self), pid, key, end, backend }
    }

    /// What every connection does, by its number.
    pub(crate) fn backends(&self) -> Vec<Arc<Backend>> {
        let mut found: Vec<_> = self.connections.lock().values().map(|entry| Arc::clone(&entry.backend)).collect();
        found.sort_by_key(|backend| backend.pid);
        found
    }

    /// How many connections a role has.
    pub(crate) fn count(&self, user: &str) -> usize {
        self.connections.lock().values().filter(|entry| entry.user == user).count()
    }

    /// Cancels what runs on connection `pid` when `key` is its key; says whether it was.
    pub(crate) fn cancel(&self, pid: i32, key: &[u8]) -> bool {
        let connections = self.connections.lock();
        let Some(entry) = connections.get(&pid) else { return false };
        let matches = same(&entry.key, key);
        if matches {
            entry.running.cancel();
        }
        matches
    }

    /// Cancels what runs on connection `pid` when `may` allows it for its user; says whether it did. `None` when there is
    /// no such connection.
    pub(crate) fn cancel_for(&self, pid: i32, may: impl Fn(&str) -> bool) -> Option<bool> {
        self.stop(pid, may, false)
    }

    /// As [`cancel_for`](Self::cancel_for), and the connection ends.
    pub(crate) fn end_for(&self, pid: i32, may: impl Fn(&str) -> bool) -> Option<bool> {
        self.stop(pid, may, true)
    }

    fn stop(&self, pid: i32, may: impl Fn(&str) -> bool, end: bool) -> Option<bool> {
        let connections = self.connections.lock();
        let entry = connections.get(&pid)?;
        let allowed = may(&entry.user);
        if allowed {
            entry.running.cancel();
        }
        if allowed && end {
            entry.end.cancel();
        }
        Some(allowed)
    }

    /// Cancels whatever runs.
    pub(crate) fn cancel_all(&self) {
        self.connections.lock().values().for_each(|entry| entry.running.cancel());
    }
}

/// A connection's place in the registry.
#[derive(Debug)]
pub(crate) struct Registration {
    registry: Arc<CancelRegistry>,
    pub(crate) pid: i32,
    pub(crate) key: Vec<u8>,
    /// Fired when the connection must end.
    pub(crate) end: CancellationToken,
    pub(crate) backend: Arc<Backend>,
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.registry.connections.lock().remove(&self.pid);
    }
}

/// Compares in a time that depends on the lengths only.
fn same(left: &[u8], right: &[u8]) -> bool {
    left.len() == right.len() && std::hint::black_box(left.iter().zip(right).fold(0, |difference, (a, b)| difference | (a ^ b))) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_right_key_cancels_and_only_the_running_statement() {
        let registry = Arc::new(CancelRegistry::default());
        let running = Arc::new(Running::default());
        let registration = registry.register(Backend::of_test(7, "ann"), SHORT_KEY_BYTES, Arc::clone(&running));
        let token = running.start();
        assert!(!registry.cancel(registration.pid, &[0; 3]));
        assert!(!registry.cancel(registration.pid + 1, &registration.key));
        assert!(!token.is_cancelled());
        running.finish();
        assert!(registry.cancel(registration.pid, &registration.key), "the key is right, but nothing runs");
        assert!(!token.is_cancelled());
        let token = running.start();
        assert!(registry.cancel(registration.pid, &registration.key));
        assert!(token.is_cancelled());
        let token = running.start();
        assert_eq!(registry.cancel_for(registration.pid, |user| user == "bob"), Some(false));
        assert!(!token.is_cancelled());
        assert_eq!(registry.cancel_for(registration.pid, |user| user == "ann"), Some(true));
        assert!(token.is_cancelled());
        assert_eq!(registry.cancel_for(registration.pid + 1, |_| true), None);
        assert!(!registration.end.is_cancelled());
        assert_eq!(registry.end_for(registration.pid, |_| true), Some(true));
        assert!(registration.end.is_cancelled());
        assert_eq!((registry.count("ann"), registry.count("bob"), registry.backends().len()), (1, 0, 1));
        let (pid, key) = (registration.pid, registration.key.clone());
        drop(registration);
        assert!(!registry.cancel(pid, &key));
    }
}
