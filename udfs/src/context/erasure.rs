//! What forgets users: a server's store.

use std::fmt;

use async_trait::async_trait;

use crate::error::{Code, Error, Result};

/// What an erasure took out of one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErasedFrom {
    /// `table`, `audience`, `copies of histories` or `model`.
    pub kind: String,
    /// Its name.
    pub object: String,
    /// Rows of a table, versions of an audience.
    pub removed: u64,
    /// Files that were written anew or removed.
    pub files: u64,
    /// What is left to do by hand; empty = nothing.
    pub remark: String,
}

/// One erasure, as the audit keeps it. It names nobody: users are hashed with a key of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErasureInfo {
    /// Its number.
    pub id: u64,
    /// How many users.
    pub count: u64,
    /// Keyed hashes of the users, hexadecimal: of the first thousand.
    pub users: Vec<String>,
    /// Whether events of these users are refused from then on.
    pub suppressed: bool,
    /// The role that asked for it.
    pub requested_by: String,
    /// Microseconds since 1970 UTC.
    pub requested_at_us: i64,
    /// When the last byte was gone; `None` while it is under way: the users are hidden from every answer already.
    pub finished_at_us: Option<i64>,
    /// What it took out of what.
    pub removed: Vec<ErasedFrom>,
}

/// What was removed of a table because it was too old.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retained {
    /// The table.
    pub table: String,
    /// What happened before this time went, in microseconds since 1970 UTC; `None` = there are no events.
    pub cutoff_us: Option<i64>,
    /// Rows that went.
    pub removed: u64,
    /// Files that held them.
    pub files: u64,
}

/// Forgets users, and what is too old.
#[async_trait]
pub trait ErasureProvider: Send + Sync + fmt::Debug {
    /// Takes users, called by their ids as text, out of everything. When it returns, their bytes are gone.
    ///
    /// # Errors
    /// 42501 for a role that may not; failures of the store, and then the users are hidden and the rest is done later.
    async fn erase(&self, users: Vec<String>, suppress: bool, caller: &str) -> Result<ErasureInfo>;

    /// Refuses events of users from now on, without touching what is there. Returns how many are new.
    ///
    /// # Errors
    /// 42501, failures of the store.
    async fn suppress(&self, users: Vec<String>, caller: &str) -> Result<u64>;

    /// Takes events of users again. Returns how many were suppressed.
    ///
    /// # Errors
    /// 42501, failures of the store.
    async fn unsuppress(&self, users: Vec<String>, caller: &str) -> Result<u64>;

    /// Every erasure, the oldest first.
    fn list(&self) -> Vec<ErasureInfo>;

    /// How many users there are whose events are not taken, and hashes of a thousand of them, as in [`ErasureInfo::users`].
    fn suppressed(&self) -> (u64, Vec<String>) {
        (0, Vec::new())
    }

    /// Takes events out of a table that are older than it keeps them: as of its newest event, or as of another time.
    ///
    /// # Errors
    /// 42P01, 42809, 42501; 55000 for a table that keeps all; failures of the store.
    async fn apply_retention(&self, _table: &str, _as_of_us: Option<i64>, _caller: &str) -> Result<Vec<Retained>> {
        Err(nothing())
    }
}

/// Nothing to forget: the default of a program that keeps no events.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoErasure;

fn nothing() -> Error {
    Error::new(Code::FeatureNotSupported, "this program keeps no events")
}

#[async_trait]
impl ErasureProvider for NoErasure {
    async fn erase(&self, _: Vec<String>, _: bool, _: &str) -> Result<ErasureInfo> {
        Err(nothing())
    }

    async fn suppress(&self, _: Vec<String>, _: &str) -> Result<u64> {
        Err(nothing())
    }

    async fn unsuppress(&self, _: Vec<String>, _: &str) -> Result<u64> {
        Err(nothing())
    }

    fn list(&self) -> Vec<ErasureInfo> {
        Vec::new()
    }
}
