//! Statistics of experiments: exact sums, moments, tests, distributions. Plain numbers in and out.
//!
//! Life of a test: rows go into a state ([`moments`], [`ranks`], [`contingency`]) in any order and any number of parts →
//! parts are merged → `finish` computes the statistic → [`distributions`] turn it into a p value and an interval. Sums are
//! [`exact`], so a state is the same bit for bit however its rows were split.
//!
//! What this room must never know: SQL, NULLs, column types, names of variants' columns.

pub mod assign;
pub mod contingency;
pub mod distributions;
pub mod exact;
pub mod lift;
pub mod moments;
pub mod proportion;
pub mod ranks;
pub mod sample_size;
pub mod special;
pub mod t_test;
pub mod table;
pub mod windowed;
pub mod wire;

#[cfg(test)]
mod tests;
