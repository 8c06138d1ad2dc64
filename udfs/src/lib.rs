//! SQL functions and deep user models for any DataFusion program: train, evaluate, score.
//!
//! `functions` are the SQL faces and the only room that imports DataFusion; `features` turn Arrow into numbers;
//! `models` are networks on candle tensors; `train` fits them; `registry` keeps immutable versions; `kernels` are
//! pure algorithms. Imports point one way: `functions → {registry, train, features, kernels}`,
//! `registry → {train, models, features}`, `train → {models, features}`, `features → kernels`.
//! What a function needs of the program around it comes through the traits in [`context`].

#[cfg(feature = "sql")]
pub mod context;
pub mod error;
pub mod features;
#[cfg(feature = "sql")]
pub mod functions;
pub mod kernels;
pub mod models;
pub mod registry;
pub mod train;

pub use error::{Code, Error, Result};
