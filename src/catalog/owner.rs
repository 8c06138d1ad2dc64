//! Whose a store is that several servers can reach: one server writes to it, and the catalog's file says which.
//!
//! A server puts its name into the file under the condition that nobody else changed it, and takes it out when it stops. One that
//! finds another's name does not start. Should two come to work on one store all the same (one was told to take over from a
//! server that was not gone), the one whose name is no longer there refuses every write from its next change of the catalog on, or
//! from its next look at the file.

use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;

use portrait_udfs::error::{Code, Error, Result};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::file::Definitions;
use super::open::Inner;
use super::roles::write_secret;
use crate::storage::{Store, Tag};

/// In the data directory: what a server is called, so that it finds its own store again after a crash.
const FILE: &str = "server-id";
/// How often a server looks whether the store is still its own.
const LOOK: Duration = Duration::from_secs(10);

/// The server that a store belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StoredOwner {
    id: Uuid,
    host: String,
    since_us: i64,
}

/// Puts this server's name into the catalog's file. True when another server's name was there.
///
/// # Errors
/// 55000 when the store is another server's, unless `take_over`; failures of the store.
pub(super) async fn take(store: &Store, data_dir: &Path, definitions: &mut Definitions, tag: &mut Tag, take_over: bool) -> Result<bool> {
    let Some(name) = store.shared_name().map(str::to_owned) else { return Ok(false) };
    let own = StoredOwner { id: own_id(data_dir)?, host: host_name(), since_us: chrono::Utc::now().timestamp_micros() };
    let others = definitions.owner.as_ref().filter(|owner| owner.id != own.id);
    if let Some(other) = others.filter(|_| !take_over) {
        let since = chrono::DateTime::from_timestamp_micros(other.since_us).unwrap_or_default().format("%Y-%m-%d %H:%M:%S");
        return Err(Error::new(Code::NotReady, format!("the store \"{name}\" is in use by another server"))
            .detail(format!("It runs on host \"{}\", since {since} UTC.", other.host))
            .hint("Stop that server. If it is gone for good, start this one with --take-over."));
    }
    let taken_over = others.is_some();
    definitions.owner = Some(own);
    definitions.write(store, tag).await.map_err(|error| match error.code {
        Code::Serialization => Error::new(Code::NotReady, format!("another server has just started on the store \"{name}\"")),
        _ => error,
    })?;
    if taken_over {
        tracing::warn!(store = %name, "taken over from another server; what that one left unfinished stays until the next start");
    }
    Ok(taken_over)
}

/// The error of every write from now on: another server changed the catalog.
pub(super) fn lost(store: &Store) -> Error {
    let name = store.shared_name().unwrap_or_default();
    let error = Error::new(Code::NotReady, format!("another server has taken over the store \"{name}\""))
        .detail("This server no longer writes to it, and what it shows may be out of date.")
        .hint("Stop this server, and connect to the other one.");
    store.refuse_writes(error.clone());
    error
}

/// Looks now and then whether the store is still this server's, as long as the catalog is open.
pub(super) fn watch(inner: &Arc<Inner>) {
    if inner.store.shared_name().is_none() || inner.store.may_write().is_err() {
        return;
    }
    let inner: Weak<Inner> = Arc::downgrade(inner);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(LOOK).await;
            let Some(inner) = inner.upgrade() else { return };
            match inner.check_owner().await {
                Err(error) if inner.store.may_write().is_err() => {
                    tracing::error!(%error, "this server writes no more");
                    return;
                }
                Err(error) => tracing::debug!(%error, "whose the store is cannot be seen"),
                Ok(()) => {}
            }
        }
    });
}

fn own_id(data_dir: &Path) -> Result<Uuid> {
    let path = data_dir.join(FILE);
    match std::fs::read_to_string(&path) {
        Ok(text) => Uuid::parse_str(text.trim()).map_err(|_| {
            Error::new(Code::DataCorrupted, format!("file \"{}\" is damaged: it holds no id", path.display()))
                .hint("Remove it, and start once with --take-over.")
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let id = Uuid::new_v4();
            write_secret(&path, &format!("{id}\n"))?;
            Ok(id)
        }
        Err(error) => Err(error.into()),
    }
}

/// What people call this machine.
fn host_name() -> String {
    let said = std::fs::read_to_string("/proc/sys/kernel/hostname").or_else(|_| std::env::var("HOSTNAME"));
    said.ok().map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).unwrap_or_else(|| "unknown".into())
}
