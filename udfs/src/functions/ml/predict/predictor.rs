//! The seam between the plan node and a loaded model: questions about users, rows or sequences in, answers out.

use std::fmt;
use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use datafusion::physical_plan::metrics::{Count, ExecutionPlanMetricsSet, MetricBuilder};

use super::answers::{Answers, Layout};
use crate::error::Result;
use crate::features::KeyType;
use crate::features::events::UserKey;

/// One user at one moment (microseconds since 1970 UTC).
pub(crate) type Key = (UserKey, i64);

/// One given sequence; `None` for a NULL one.
pub(crate) type GivenSequence<'a> = Option<SequenceRow<'a>>;

/// The events of a given sequence, oldest first; items and times, if given, one for each.
#[derive(Debug, Clone, Default)]
pub(crate) struct SequenceRow<'a> {
    pub(crate) events: Vec<&'a str>,
    pub(crate) items: Option<Vec<&'a str>>,
    pub(crate) times_us: Option<Vec<i64>>,
}

/// What `EXPLAIN ANALYZE` shows.
#[derive(Debug, Clone)]
pub(crate) struct Tally {
    /// Rows that went through the network.
    pub(crate) forward_passes: Count,
    /// Users (at one moment each) whose answer was not known yet.
    pub(crate) distinct_users: Count,
    /// Look-ups in the users' histories.
    pub(crate) lookups: Count,
}

impl Tally {
    pub(crate) fn new(metrics: &ExecutionPlanMetricsSet, partition: usize) -> Self {
        let count = |name: &'static str| MetricBuilder::new(metrics).counter(name, partition);
        Self { forward_passes: count("forward_passes"), distinct_users: count("distinct_users"), lookups: count("lookups") }
    }
}

/// A version of a model, loaded, for one execution.
#[async_trait]
pub(crate) trait Predictor: Send + Sync + fmt::Debug {
    /// Class names in the order of the network's outputs; empty for regression.
    fn classes(&self) -> &[String];

    /// The type of its users' keys; `None` for a model of labelled rows.
    fn key_type(&self) -> Option<KeyType>;

    /// Numbers in an embedding.
    fn embedding_dim(&self) -> usize;

    /// The default of `as_of`; `None` when the source has no events.
    async fn watermark_us(&self) -> Result<Option<i64>>;

    /// Answers for `keys`, sorted and distinct, one row for each in their order.
    async fn users(&self, keys: &[Key], layout: &Arc<Layout>, tally: &Tally) -> Result<Answers>;

    /// Answers for rows of features, bound by column name.
    fn rows(&self, rows: &RecordBatch, layout: &Arc<Layout>, tally: &Tally) -> Result<Answers>;

    /// Answers for given sequences.
    fn sequences(&self, given: &[GivenSequence<'_>], layout: &Arc<Layout>, tally: &Tally) -> Result<Answers>;
}
