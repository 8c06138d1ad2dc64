//! Preparing columns: moments, order statistics, sketches, feature scores and principal components on plain slices.
//!
//! One rule holds for all of it: a result depends on the multiset of values, never on their order or on how they were split
//! and merged. Counts are integers; order statistics sort; sketches are unions or sums of integers; sums of doubles are
//! carried in twice the precision ([`moments::Sum`]), so that what the order changes lies some fifty bits below the last one
//! that is returned.
//!
//! NaN is a missing value everywhere (that is how pandas writes one into Parquet); no kernel here sees a NULL.

pub mod arena;
pub mod eigen;
pub mod folds;
pub mod frequent;
pub mod histogram;
pub mod hyperloglog;
pub mod moments;
pub mod order;
pub mod profile;
pub mod scores;
