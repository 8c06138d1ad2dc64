//! SQL functions and deep user models for any DataFusion program: train, evaluate, score.
//!
//! `functions` are the SQL faces; what they compute with are the rooms of `portrait-core`, given on here: `features` turn
//! Arrow into numbers; `models` are networks on candle tensors; `train` fits them; `registry` keeps immutable versions;
//! `kernels` are pure algorithms. What a function needs of the program around it comes through the traits in [`context`].

pub mod context;
pub mod functions;

pub use portrait_core::{Code, Error, Result, error, features, kernels, models, registry, train};
