//! The SQL faces: the only room that imports DataFusion.
//!
//! Table-like functions implement [`relation::MlRelation`], one per file, and are listed by [`relations`]; scalar
//! ones are `ScalarUDF`s, listed by [`scalars`]; aggregates and window functions come from the [`package::Package`]s. [`register_all`] puts everything into a session. A statement goes
//! through [`prepare_statement`] before it is planned; [`sql`] does both for a program without a server.
//!
//! What a function does lives in `features`, `train`, `registry` and `kernels`; here arguments become types, plans
//! become streams and results become Arrow.

mod aggregation;
mod arguments;
pub mod audience;
pub mod behavior;
mod blocking;
mod dense_groups;
pub mod dialect;
mod distinct_count;
pub mod experiment;
pub mod features;
pub mod files;
mod grouped;
pub mod identity;
pub mod ml;
mod one_scan;
pub mod package;
mod pairing;
pub mod planner;
pub mod prepass;
pub mod privacy;
pub mod profile;
mod radix_sort;
pub mod reference;
pub mod register;
pub mod relation;
mod run_groups;
pub mod settings;
mod shared_work;
mod single_stage;
pub mod source;
mod ties;
mod typed;
mod utc;

pub use identity::PersonHistories;
pub use package::Package;
pub use prepass::{prepare_df_statement, prepare_statement};
pub use register::{
    MlContext, aggregates, documentation, extension_planners, ml_schema_provider, register_all, relations, scalars, sql, windows,
};
pub use relation::MlRelation;
pub use settings::MlSettings;
pub use source::SortedHistories;
