//! Arrow → numbers: which column plays which role, what is to be predicted, what is known of a user at an
//! anchor, and how that becomes the dense arrays a network reads.
//!
//! Life of an event: a [`roles`] guess (or the user's words) names the columns → the SQL face casts them to the
//! canonical schema of [`events`], in user order → [`events::UserReader`] hands out one user's history at a time
//! → [`dataset`] cuts it at the anchors of [`anchor`] and asks [`target`] for the label → [`tabular`] and
//! [`sequence`] compute features → the fitted [`encoder`] turns them into an [`inputs::Inputs`]. Rows of labelled tables
//! come from their columns, and pictures among them through `images`; rows that a generator learns and makes through [`rows`]. Preprocessing that a person words and
//! keeps under a name is [`transform`].
//!
//! What does not fit in memory goes through [`spill`] into files that the program around gives.
//!
//! Absent on purpose: SQL, DataFusion, tensors, folders. Training and scoring call the same code, so a feature
//! cannot mean two things.

pub mod anchor;
pub mod dataset;
pub mod encoder;
pub mod events;
mod images;
pub mod inputs;
pub mod numeric;
pub mod options;
mod picture;
mod png;
pub mod roles;
pub mod rows;
pub(crate) mod select;
pub mod sequence;
pub mod spill;
pub mod spilled;
pub mod statistics;
mod table;
mod table_columns;
pub mod tabular;
pub mod target;
#[cfg(test)]
mod testing;
mod text;
pub mod transform;
pub mod vocabulary;

pub use dataset::{Dataset, EventDatasetBuilder, Share, TableDatasetBuilder};
pub use encoder::{Encoder, FeatureInfo, FeatureKind, HistoryEncoder};
pub use events::{KeyType, Strings, UserHistory, UserKey, UserReader, canonical_schema};
pub use inputs::{ImageShape, InputShape, Inputs, Labels, Rows};
pub use options::{OPTION_KEYS, OptionDoc, Options};
pub use roles::{ColumnDecision, EventColumns, Role, TimeUnit, ValueColumn};
pub use rows::{RowField, RowPlan, RowTable, RowTableBuilder};
pub use spill::{SpillFile, SpillSpace};
pub use spilled::Spilled;
pub use table_columns::TableColumns;
pub use target::Target;
