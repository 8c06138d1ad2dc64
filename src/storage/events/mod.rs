//! Event tables: managed tables that know whose events they hold, when each happened, and which event it is.
//!
//! `CREATE TABLE events (…) WITH (user_column = user_id, time_column = event_time, event_id = event_id)` makes one. What
//! it adds to a managed table:
//!
//! - **Order.** Each commit's files are cut between users and sorted by (user, time): [`scan`] declares that order and
//!   the ranges of users, so that per-user aggregates and windows need no sort and no shuffle. Files of later commits
//!   overlap older ones; [`merge`] reads them as one order until [`optimize`] has rewritten them.
//! - **Exactly once.** An event whose id the table holds already is dropped, whatever file, statement or process brought
//!   it: [`ids`] keeps the ids of each commit, sorted, beside its files. They are derived: missing or damaged ones are
//!   made again from the data.
//! - **Quarantine.** Events without user, time or id, from the future or older than the table keeps them, go to `<table>_quarantine` with the
//!   reason; [`sift`] decides.
//! - **Retention.** `retention = '400 days'` hides events that are that much older than the newest one, and takes them out
//!   of the files in time: [`retain`].
//! - **Two times.** When it happened (the time column) and when it came (`ingested_at`, filled in where it is NULL).
//!
//! Life of an INSERT, COPY or import ([`ingest`]): rows are checked against the table → sifted → spooled, sorted, in
//! bounded memory, with their ids beside them → under the table's ingest lock the ids are compared with those of the
//! latest version → what is new is written → one Delta commit, which fails if any other writer came first; then the
//! comparison is made anew. Before the commit nothing of the statement is visible; after it everything is durable.
//!
//! The declaration is kept in Delta's own table properties (`portrait.userColumn`, …) and in the catalog. Another
//! program may write to the table: its files have no order that we trust and are read unordered until `OPTIMIZE`.
//!
//! Must never know: SQL text, the wire, sessions.

mod columns;
pub(crate) mod erase;
mod files;
mod ids;
pub(crate) mod ingest;
pub(super) mod merge;
pub(crate) mod optimize;
pub(crate) mod retain;
pub(super) mod scan;
mod sift;
mod spans;
mod table;

pub(super) use columns::EventIndices;
pub use columns::{EventColumns, EventOptions, Role};
pub(super) use files::{FileNames, run_of};
pub(super) use ids::{IdSource, StoredIds};
pub use ingest::{Arrivals, IngestOptions};
pub use optimize::Rewritten;
pub(super) use optimize::file_name;
pub(super) use scan::EventScan;
pub(super) use spans::{UserSpan, span_of};
pub(crate) use table::read_files;
pub(super) use table::{IDS, ids_names};
