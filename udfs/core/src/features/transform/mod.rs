//! Fitted transforms: from the words of a person to parameters that are learned once, and the same parameters applied to
//! any rows for ever after.
//!
//! Life of a transform: [`steps::parse`] reads `price: median | standard; country: one_hot(20)` → [`fit::Fitting`] collects the
//! columns that the steps read, fits each step on what the steps before it made of them and gives a [`FittedTransform`] → the
//! registry keeps it as one immutable document → [`FittedTransform::apply`] turns the columns of a batch into features. Fitting
//! applies a step with the same code as scoring does, so a feature cannot mean two things.
//!
//! Missing is NULL or NaN. Every feature is a double; a missing one is NULL. What a row becomes depends on that row and
//! the stored parameters alone; what is learned depends on the rows, not on their order.
//!
//! Absent on purpose: SQL, DataFusion, files.

mod apply;
mod column;
mod encode;
mod fit;
mod fitted;
pub mod steps;
#[cfg(test)]
mod tests;

pub use column::{Column, InputKind, Values};
pub use fit::{Fitting, learn_and_apply, out_of_fold_means};
pub use fitted::{Encoding, Fitted, FittedEntry, FittedStep, FittedTransform, Input};
