//! Algorithms behind profiles: decaying sums, preferences, recency–frequency–money, life cycle, life-time value, joins as of a
//! point in time. Plain numbers in and out.
//!
//! What this room must never know: SQL, NULLs, where events come from.

pub mod as_of;
pub mod bgnbd;
pub mod decay;
pub mod lifecycle;
pub mod preference;
pub mod rfm;
