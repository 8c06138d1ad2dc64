//! What Portrait's SQL functions compute with, free of any query engine.
//!
//! `features` turn Arrow into numbers; `models` are networks on candle tensors; `train` fits them; `registry` keeps
//! immutable versions; `kernels` are pure algorithms. Imports point one way: `registry → {train, models, features}`,
//! `train → {models, features}`, `features → kernels`. The SQL faces are the crate `portrait-udfs`, which gives these
//! rooms on under the same names; here nobody knows SQL, a plan or a session, so that a change to a function builds
//! without the networks, and a change to a network without the engine.

pub mod error;
pub mod features;
pub mod kernels;
pub mod models;
pub mod registry;
pub mod train;

pub use error::{Code, Error, Result};
