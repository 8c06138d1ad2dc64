//! Names → immutable model versions on an object store, and the jobs that make them.
//!
//! A model is an id with numbered versions; a version is `weights.safetensors` plus `manifest.json`, written once,
//! the manifest last. What may change (the name, the active version, whether it is dropped) is one small record
//! per model, and every change publishes the next numbered record with a conditional create: readers see the old
//! state or the new one, also after a crash in the middle, also from another process.
//!
//! Life of a version: [`Registry::begin_version`] reserves its number → training → [`Registry::publish`] writes
//! weights, then the manifest → [`Registry::activate`] moves the name → a statement [`resolve`](Registry::resolve)s
//! `name` or `name@3` once, to a [`ModelRef`] that its plan carries → [`Registry::load`] checks the hash of what
//! it reads and shares one copy among all statements.
//!
//! Fitted transforms are kept beside the models, one document a version: `transforms` says why.
//!
//! Absent on purpose: SQL, Arrow, DataFusion. Only `store` builds object paths.

mod cache;
mod checkpoints;
mod erased;
mod exact;
mod exchange;
mod index;
mod jobs;
mod lifecycle;
mod manifest;
mod open;
mod permission;
pub mod sample;
mod store;
mod transfer;
mod transforms;

pub use cache::{CacheEntry, CacheStats, LoadedModel};
pub use checkpoints::{Earlier, RunCheckpoints};
pub use erased::{ContainsErased, OnErasure};
pub use exchange::FolderExchange;
pub use index::{ModelInfo, VersionEntry};
pub use jobs::{JobHandle, JobInfo, JobProgress, JobRequest, JobState, Jobs};
pub use lifecycle::{Activation, VersionRequest, VersionTicket};
pub use manifest::{Compression, FORMAT_VERSION, Manifest, ModelRef, StoredSource, VersionInfo};
pub use open::Registry;
pub use permission::{Anyone, ModelAction, ModelPermissions};
pub use transfer::{Folder, Imported};
pub use transforms::{StoredTransform, check_transform_name};

/// The time now, microseconds since 1970 UTC.
fn now_us() -> i64 {
    chrono::Utc::now().timestamp_micros()
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
