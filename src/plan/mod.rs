//! Our own plan nodes and optimiser rules that do not belong to a function, and what can be said of a plan; one per file.
//!
//! A rule is given to a session when the engine builds it. What it must never know: SQL text, the protocol, where
//! tables lie.

mod choices;
mod expressions;
mod inputs;
mod join_slices;
mod overflow;
mod per_user;
mod short_texts;
mod text_results;
mod text_types;

pub(crate) use choices::Choices;
pub(crate) use inputs::{Input, InputKind, Inputs, inputs, only_users, user_of_scan};
pub use join_slices::SliceJoins;
pub(crate) use overflow::CheckedArithmetic;
pub(crate) use per_user::{Rows, rows_per_user};
pub(crate) use short_texts::ShortTexts;
pub(crate) use text_results::with_text_types;
pub(crate) use text_types::{TextTypes, read_constants};
