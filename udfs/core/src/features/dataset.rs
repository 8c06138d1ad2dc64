//! Builders of training data: [`EventDatasetBuilder`] for histories, [`TableDatasetBuilder`] for labelled tables.
//!
//! Life of a history: [`EventDatasetBuilder::push`] copies it into compact columns and cuts it into rows at its anchors
//! → [`EventDatasetBuilder::finish`] assigns the parts, checks that there is enough to learn from, fits vocabularies
//! and scales on what the train rows may know, and encodes every row. Nothing of a label window, and nothing of
//! validation or test, reaches what is fitted.
//!
//! What does not fit in memory is [spilled](EventDatasetBuilder::spill): histories and rows go to temporary files, in the
//! order in which they come, and are encoded from there. The dataset is the same, number for number.

mod attachments;
mod events;
mod fingerprint;
mod labels;
mod store;
mod table;

pub use events::EventDatasetBuilder;
pub use labels::stratified_folds;
pub(super) use table::positive_first;
pub use table::{Share, TableDatasetBuilder};

use std::fmt;
use std::sync::Arc;

use super::encoder::Encoder;
use super::events::UserKey;
use super::inputs::{Inputs, Labels, Rows};
use crate::error::{Error, Result};

/// Asks whether to give up; see [`EventDatasetBuilder::interrupted_by`].
#[derive(Clone, Default)]
pub(super) struct Interrupt(Option<Arc<dyn Fn() -> bool + Send + Sync>>);

impl Interrupt {
    fn new(stop: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(stop)))
    }

    /// # Errors
    /// `Cancelled` once the caller wants to stop. Asks at every 1024th `step` only.
    pub(super) fn check(&self, step: usize) -> Result<()> {
        match &self.0 {
            Some(stop) if step.is_multiple_of(1024) && stop() => Err(Error::cancelled()),
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for Interrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Interrupt").field(&self.0.is_some()).finish()
    }
}

/// What writing to and reading from temporary files takes at most: two blocks of engineered rows, and a piece of each file.
const FILE_BUFFERS: usize = 12 << 20;

/// Labelled rows that a training needs at least.
pub const ROWS_MIN: usize = 200;

/// Everything a training reads. Vectors have one entry per row unless said otherwise.
#[derive(Debug, Clone)]
pub struct Dataset {
    /// Encoded rows.
    pub inputs: Inputs,
    /// The truth.
    pub labels: Labels,
    /// Class names by index; of two classes `classes[1]` is the positive one. Empty for numbers.
    pub classes: Vec<String>,
    /// Whether the classes are items (`next_item`).
    pub of_items: bool,
    /// Which part a row belongs to.
    pub split: Vec<Rows>,
    /// Whose row; empty for labelled tables, and where rows lie in files and no option needs it.
    pub users: Vec<UserKey>,
    /// At which anchor; empty for labelled tables.
    pub anchors_us: Vec<i64>,
    /// Fitted on the train rows.
    pub encoder: Encoder,
    /// Distinct users seen, with or without a row; rows for labelled tables.
    pub users_total: u64,
    /// Rows of a labelled table without a label (or without a split time).
    pub dropped_rows: u64,
    /// Anchors whose label window is not fully observed, or whose label is settled only after their part ended.
    pub censored_rows: u64,
    /// Users (rows of labelled tables) left out by the option `sample`.
    pub sampled_out: u64,
    /// `[recency in days, number of events]` at the anchor: the simple baseline; empty for labelled tables.
    pub rfm: Vec<[f32; 2]>,
}

impl Dataset {
    /// The rows of a part, ascending.
    #[must_use]
    pub fn rows_of(&self, part: Rows) -> Vec<u32> {
        rows_of(&self.split, part)
    }

    /// The bytes it holds, without the encoder.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.inputs.bytes() + self.split.len() * (1 + 4 + 8) + self.users.len() * std::mem::size_of::<UserKey>() + self.anchors_us.len() * 8
    }
}

fn rows_of(split: &[Rows], part: Rows) -> Vec<u32> {
    (0..split.len() as u32).filter(|row| split[*row as usize] == part).collect()
}

/// Which of `classes` each of `own` is; `other` for the rest where there is such a class.
fn class_map(own: &[String], classes: &[String]) -> Vec<Option<u32>> {
    let find = |name: &str| classes.iter().position(|class| class == name).map(|class| class as u32);
    let other = find(super::target::OTHER_CLASS);
    own.iter().map(|name| find(name).or(other)).collect()
}

/// Checks that there is enough to learn from. `facts` is the DETAIL: the counts of what was seen.
fn check_enough(split: &[Rows], labels: &Labels, classes: &[String], unit: &str, facts: &str) -> Result<()> {
    let hint = format!("At least {ROWS_MIN} labelled {unit} with more than one label, in all of train, validation and test, are needed.");
    if split.len() < ROWS_MIN {
        return Err(Error::invalid(format!("too little data: {} labelled {unit}", split.len())).detail(facts.to_owned()).hint(hint));
    }
    for part in [Rows::Train, Rows::Validation, Rows::Test] {
        if !split.contains(&part) {
            let name = match part {
                Rows::Train => "train",
                Rows::Validation => "validation",
                Rows::Test => "test",
            };
            return Err(Error::invalid(format!("too little data: no labelled {unit} for {name}")).detail(facts.to_owned()).hint(hint));
        }
    }
    let train = rows_of(split, Rows::Train);
    match labels {
        Labels::Class(labels) => {
            let first = labels[train[0] as usize];
            if train.iter().all(|row| labels[*row as usize] == first) {
                let name = classes.get(first as usize).map_or("", String::as_str);
                return Err(Error::invalid(format!("there is only one class to learn: every label in train is \"{name}\""))
                    .detail(facts.to_owned())
                    .hint(hint));
            }
            check_both_classes(split, labels, classes, facts)?;
        }
        Labels::Value(values) => {
            let first = values[train[0] as usize];
            if train.iter().all(|row| values[*row as usize] == first) {
                let message = format!("there is nothing to learn: every label in train is {first}");
                return Err(Error::invalid(message).detail(facts.to_owned()).hint(hint));
            }
        }
    }
    Ok(())
}

/// Of two classes both must occur where the model is chosen and where it is measured: no ranking can be judged otherwise.
fn check_both_classes(split: &[Rows], labels: &[u32], classes: &[String], facts: &str) -> Result<()> {
    for (part, name) in [(Rows::Validation, "validation"), (Rows::Test, "test")] {
        let rows = rows_of(split, part);
        let first = labels[rows[0] as usize];
        if classes.len() == 2 && rows.iter().all(|row| labels[*row as usize] == first) {
            return Err(Error::invalid(format!("there is only one class in {name}: every label is \"{}\"", classes[first as usize]))
                .detail(facts.to_owned())
                .hint("Validation and test are the last horizons of the log: end the source before its events become sparse, or choose another horizon."));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
