//! Sets of 64-bit ids as compressed bitmaps, and numbers of ids as bit-sliced indexes: the algebra of audiences.
//!
//! A [`Bitmap`] is a list of 32-bit roaring bitmaps under their high halves. Its bytes ([`format`](mod@format)) are the portable
//! 64-bit roaring format, which CRoaring, its bindings for Java, Go and Python, and ClickHouse read; the form of every
//! container is chosen by the members alone, so equal sets have equal bytes and SQL's `=` compares sets. A [`Bsi`] keeps one
//! number per id as two's-complement slices, one bitmap per bit: comparisons, sums and the greatest k are bitmap
//! operations, and two indexes add up with a ripple of carries.
//!
//! Bytes come from anywhere: [`Bitmap::read`] and [`Bsi::read`] check every length, order and count, allocate no more than a
//! small multiple of what they were given, and name what is wrong. Nothing here panics on values.
//!
//! What this room must never know: SQL, users, where bytes are kept.

pub mod bsi;
pub mod collect;
pub mod format;
mod parts;
mod set;
mod sums;
#[cfg(test)]
mod tests;

pub use bsi::{Bsi, Order};
pub use collect::Collector;
pub use format::Malformed;
pub use parts::{Part, Parts};
pub use set::Bitmap;
pub use sums::Sums;
