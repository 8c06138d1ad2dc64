//! Sessions, funnels, retention, sequences, paths and attribution: what users do, in order of time.
//!
//! Life of an aggregate: `arguments` and a file per family tell the spellings of the engines apart by types → `events`
//! keeps the rows that matter as times and masks, group by group → a kernel of `kernels::behavior` reads each sorted
//! history. Functions in FROM read a source user by user and count. `core/src/kernels/behavior/SEMANTICS.md` says what ties, NULLs,
//! windows and several matching conditions mean, by example, and where engines differ.
//!
//! This room knows no pattern and no funnel (kernels do), no table and no file (sources come as queries).

mod arguments;
mod attribution;
mod events;
mod funnel_call;
mod funnel_steps;
mod path_edges;
mod range_retention_count;
mod range_retention_sum;
mod reading;
mod retention;
mod retention_matrix;
mod running;
mod sequence_call;
mod sequence_count;
mod sequence_match;
mod sequence_match_events;
mod sequence_next_node;
mod sessionize;
mod settings;
mod time_lists;
mod top_k;
mod window_funnel;
mod window_funnel_events;

use std::sync::Arc;

use datafusion::logical_expr::{AggregateUDF, WindowUDF};

use super::package::Package;
use events::EventAggregate;

pub(super) use running::RunningWindows;
pub use settings::BehaviorOptions;

/// The functions of this room.
pub fn package() -> Package {
    Package {
        scalars: vec![],
        aggregates: vec![
            EventAggregate::udaf(window_funnel::WindowFunnel),
            EventAggregate::udaf(window_funnel_events::WindowFunnelEvents),
            EventAggregate::udaf(sequence_match::SequenceMatch),
            EventAggregate::udaf(sequence_count::SequenceCount),
            EventAggregate::udaf(sequence_match_events::SequenceMatchEvents),
            Arc::new(AggregateUDF::new_from_impl(sequence_next_node::SequenceNextNode::new())),
            Arc::new(AggregateUDF::new_from_impl(retention::Retention::new())),
            EventAggregate::udaf(range_retention_count::RangeRetentionCount),
            Arc::new(AggregateUDF::new_from_impl(range_retention_sum::RangeRetentionSum::new())),
            Arc::new(AggregateUDF::new_from_impl(top_k::TopK::new())),
        ],
        windows: vec![Arc::new(WindowUDF::new_from_impl(sessionize::Sessionize::new()))],
        relations: vec![
            Arc::new(funnel_steps::FunnelSteps),
            Arc::new(retention_matrix::RetentionMatrix),
            Arc::new(path_edges::PathEdges),
            Arc::new(attribution::Attribution),
        ],
    }
}
