//! Object stores: where they lie, what they promise, and what their errors mean to a person.
//!
//! Life of a write to S3: `delta` or the catalog asks for a conditional put through [`remote`] → the store accepts or refuses
//! it, or its answer is lost: then what lies under the key tells, and nothing is written twice. Before the first write
//! [`proof`] tries whether the store keeps its promise at all; one that does not is opened for reading only.

#[cfg(test)]
pub(crate) mod faults;
mod prefix;
mod proof;
mod remote;
mod s3;
mod store;

pub(crate) use prefix::{Bucket, RemoteRoot};
pub(crate) use s3::is_remote;
pub use store::Store;
pub(crate) use store::Tag;
