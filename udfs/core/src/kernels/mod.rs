//! Pure algorithms on slices: no SQL, no DataFusion, no models, no I/O.
//!
//! What belongs here: anything that a SQL face, a feature or a test can call with plain slices and that could
//! be lifted into another program unchanged: session counting, quantiles, nearest names, string interning,
//! counter-based random numbers. A kernel states its complexity and never panics on its input's values.

pub mod behavior;
pub mod bitmap;
pub mod distinct;
pub mod exp2;
pub mod identity;
pub mod intern;
pub mod key_order;
pub mod key_ranges;
pub mod nearest;
pub mod number_hash;
pub mod prepare;
pub mod profile;
pub mod quantile;
pub mod session;
pub mod splitmix;
pub mod stats;
pub mod words;
