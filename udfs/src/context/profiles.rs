//! Kept profiles (materialized views) as functions see them: what each was made of, and how fresh it is.

use std::fmt;

use async_trait::async_trait;

use crate::error::Result;

/// Something that a profile's query reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProfileInput {
    /// The relation, model or function.
    pub name: String,
    /// `event table`, `table`, `materialized view`, `external table`, `model` or `relation`.
    pub kind: String,
    /// The version that the newest refresh read; `None` when there was no refresh, or nothing tells versions apart.
    pub read: Option<String>,
    /// The version that a refresh would read now.
    pub newest: Option<String>,
}

/// A profile, its definition and its newest refresh.
#[derive(Debug, Clone, PartialEq)]
pub struct ProfileInfo {
    /// Its name.
    pub name: String,
    /// Who made it.
    pub owner: String,
    /// The query that it keeps the rows of.
    pub definition: String,
    /// When it is refreshed: `manual`, `after ingest`, or a time between two refreshes.
    pub refresh: String,
    /// The column that says whose a row is; `None` when a row is nobody's.
    pub user: Option<String>,
    /// Whether new events are followed user by user.
    pub incremental: bool,
    /// Why not.
    pub reason: Option<String>,
    /// The newest refresh.
    pub last: Option<ProfileRefresh>,
    /// Whether its inputs are those that the newest refresh read.
    pub fresh: bool,
    /// The newest event that its tables of events hold now. Microseconds since 1970 UTC.
    pub newest_us: Option<i64>,
    /// Commits to its tables since the newest refresh.
    pub pending_commits: Option<u64>,
    /// Why the refresh that was tried last failed.
    pub error: Option<String>,
    /// What it reads.
    pub inputs: Vec<ProfileInput>,
}

/// One refresh of a profile.
#[derive(Debug, Clone, PartialEq)]
pub struct ProfileRefresh {
    /// The version that it made.
    pub version: u64,
    /// The newest event that it saw; `None` when its inputs hold no events. Microseconds since 1970 UTC.
    pub as_of_us: Option<i64>,
    /// When it was done. Microseconds since 1970 UTC.
    pub refreshed_at_us: i64,
    /// `whole query`, `users with new events` or `nothing new`.
    pub how: String,
    /// Users whose rows were made anew; `None` = all.
    pub users: Option<u64>,
    /// Rows that the profile holds since.
    pub rows: u64,
    /// How long it took.
    pub seconds: f64,
}

/// Keeps profiles.
#[async_trait]
pub trait ProfileProvider: Send + Sync + fmt::Debug {
    /// Every profile, by name.
    ///
    /// # Errors
    /// An input's log that cannot be read.
    async fn list(&self) -> Result<Vec<ProfileInfo>>;
}

/// No profiles: the default of a program that keeps none.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoProfiles;

#[async_trait]
impl ProfileProvider for NoProfiles {
    async fn list(&self) -> Result<Vec<ProfileInfo>> {
        Ok(Vec::new())
    }
}
