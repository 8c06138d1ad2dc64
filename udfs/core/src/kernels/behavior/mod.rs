//! Behaviour of users as algorithms on their events in time order: funnels, sequences, retention, paths, attribution.
//!
//! Two layers. [`event_log`] holds the events of many users, column by column, in whatever order they arrive, and gives
//! each user's events back sorted; its order is total, so nothing depends on arrival, partitions or merges. The other files
//! say what a sorted history means. They know no SQL, no engine and no calendar: times are integers of some unit.

pub mod attribution;
pub mod calendar;
pub mod event_log;
pub mod exact_sum;
pub mod funnel;
pub mod next_node;
pub mod paths;
#[cfg(test)]
mod peers;
pub mod retention;
pub mod sequence;
pub mod top_k;
