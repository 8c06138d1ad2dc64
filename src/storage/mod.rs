//! Bytes on an object store: where they lie, that they are durable, and what may be read.
//!
//! Life of an INSERT: `catalog` names the table → [`delta`] streams rows into Parquet files through
//! [`durable`] (each fsynced before it has a name) → one Delta commit makes them visible. A table of events takes each
//! event once and keeps users together ([`events`]). Life of a `SELECT`:
//! [`delta`] or [`external`] lists the files of now and hands DataFusion a stock `DataSourceExec`. Life of a
//! prediction for one user: [`history`] keeps a derived, user-ordered copy of an event source and reads only the
//! pages that hold that user; tables that lie by user are asked the same way ([`lookup`]). Sets of users and the numbers that their
//! bitmaps are made of: [`audience`]. Links between ids: [`identity`]. The rows of a query that are kept: [`derived`]. All of it
//! lies in a folder, or in a bucket ([`objects`]), and what is read of tables is checked against their [`checksums`].
//!
//! Absent on purpose: SQL text, the wire protocol, models. Nothing outside this room builds an object path.

pub(crate) mod audience;
mod checked;
mod checksums;
pub(crate) mod delta;
pub(crate) mod derived;
pub mod durable;
mod encoding;
pub(crate) mod erasure;
pub mod events;
pub mod external;
mod file_writer;
pub(crate) mod hash_list;
pub mod history;
pub(crate) mod identity;
mod intake;
mod lookup;
pub mod managed;
pub mod objects;
pub mod roots;
mod run_merge;
mod sort;
mod statistics;
mod text_type;
pub(crate) mod types;
pub(crate) mod user_set;
pub(crate) mod versions;
mod writer;

pub use durable::DurableLocal;
pub(crate) use durable::make_folder;
pub use events::{Arrivals, EventColumns, EventOptions, IngestOptions, Role};
pub use external::{ExternalSource, ExternalTable, FileKind};
pub use history::HistoryIndex;
pub(crate) use intake::PlainIntake;
pub(crate) use lookup::Lookups;
pub use managed::ManagedTable;
pub use objects::Store;
pub(crate) use objects::Tag;
pub use roots::DataRoots;
pub use text_type::{TYPE_KEY, TextType};

use portrait_udfs::error::{Code, Error};

/// A store's failure as an error of ours: disk full and missing files keep their meaning.
pub(crate) fn store_error(error: object_store::Error) -> Error {
    if let Some(found) = Error::find(&error) {
        return found.clone();
    }
    if let object_store::Error::NotFound { path, .. } = &error {
        return Error::new(Code::Io, format!("file \"{path}\" does not exist"));
    }
    io_cause(&error).map_or_else(
        || Error::new(Code::Io, error.to_string()),
        |cause| match Error::from(std::io::Error::from(cause.kind())).code {
            Code::DiskFull => crate::error::disk_full(),
            kind => Error::new(kind, error.to_string()),
        },
    )
}

/// The operating system's error at the bottom of a chain, when there is one.
pub(crate) fn io_cause<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a std::io::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<std::io::Error>() {
            // One that was made of another error has that one inside, and skips it in `source`.
            let inner = found.get_ref().map(|inner| inner as &(dyn std::error::Error + 'static));
            return inner.and_then(io_cause).or(Some(found));
        }
        next = error.source();
    }
    None
}

/// An error of DataFusion's on its way through this room: ours comes back whole, others are classified.
pub(crate) use crate::error::classify as engine_error;
