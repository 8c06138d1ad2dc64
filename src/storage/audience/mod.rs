//! Audiences on the disk: one dictionary of user ids for the whole data directory, and one file per version of a set.
//!
//! Bitmaps are small when ids are dense, and users' ids are not: texts, or numbers that are spread out. So every user who was
//! ever in an audience has a number of the store's own ([`dictionary`]), given once in the order of first sight, appended,
//! never changed, never given again; only the id of a user who is erased is taken out, and the number stays nobody's. A set ([`sets`]) is a bitmap of such numbers; sets of one data directory can be compared.
//!
//! Life of `CREATE AUDIENCE`: a [`Builder`] takes the query's rows → unknown ids get numbers in memory → the new numbers become
//! a segment of the dictionary, fsynced → the bitmap becomes a file, fsynced → the catalog's file is replaced by one that names
//! it. Killed before the last step, numbers stay given (they name the same users for whoever sees them next) and the file is
//! swept at the next start: nothing that was acknowledged depends on anything that is not on the disk.
//!
//! Ids that are the same person count as one wherever a set is read ([`persons`]); what is on the disk are ids.
//!
//! Absent on purpose: names of audiences, their queries, SQL.

mod builder;
mod dictionary;
mod persons;
mod sets;

pub(crate) use builder::Builder;
pub(crate) use dictionary::Dictionary;
pub(crate) use persons::Merging;
pub(crate) use sets::{StoredSet, read_set, remove_set, sweep_sets, write_set as replace_set};
