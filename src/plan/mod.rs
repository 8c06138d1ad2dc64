//! Our own plan nodes and optimiser rules that do not belong to a function; one per file.
//!
//! A rule is given to a session when the engine builds it. What it must never know: SQL text, the protocol, where
//! tables lie.

mod join_slices;

pub use join_slices::SliceJoins;
