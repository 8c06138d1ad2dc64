//! What the registry holds, in memory.

use std::sync::Arc;

use super::manifest::VersionInfo;

/// One row of `ml.models`.
#[derive(Debug, Clone)]
pub struct ModelInfo {
    /// Model name.
    pub name: String,
    /// The version that the bare name means.
    pub active_version: Option<u32>,
    /// `active`, or `ready` when no version is active.
    pub state: &'static str,
    /// The role that owns it.
    pub owner: String,
    /// Bytes of all its versions.
    pub bytes: u64,
    /// Microseconds since 1970 UTC.
    pub created_at_us: i64,
    /// The active version, or the newest one.
    pub version: Arc<VersionInfo>,
}

/// One row of `ml.model_versions`.
#[derive(Debug, Clone)]
pub struct VersionEntry {
    /// Model name.
    pub name: String,
    /// Version number.
    pub version: u32,
    /// `active`, `ready` or `failed` (damaged).
    pub state: &'static str,
    /// What its manifest says; `None` when that is damaged.
    pub info: Option<Arc<VersionInfo>>,
    /// Why it is `failed`.
    pub message: String,
}
