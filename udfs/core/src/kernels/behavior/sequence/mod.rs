//! Event patterns such as `(?1).*(?2)(?t<=600)(?3)`: whether, how often and where they occur in a history.
//!
//! [`Pattern`] reads the text; [`Pattern::matches`], [`count`](Pattern::count) and [`first`](Pattern::first) look at the rows that
//! satisfy some condition, in order of time and then of mask. One pass backwards over the rows says at each row which of
//! the pattern's events can stand there so that the rest follows; the earliest match is then read off forwards. O(rows ×
//! events of the pattern) for every pattern: nothing backtracks, no history is too long.

mod matcher;
mod pattern;
#[cfg(test)]
mod tests;

pub use matcher::Search;
pub use pattern::{Comparison, EVENTS_MAX, Pattern, PatternError};
