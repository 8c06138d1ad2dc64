//! Aggregates that keep the rows of all groups in columns: how one becomes the engine's accumulators, one for many groups, one
//! for a single group. [`super::grouped`] is for those with one small state per group.

use std::fmt::Debug;

use arrow::array::{ArrayRef, BooleanArray};
use datafusion::common::ScalarValue;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::{Accumulator, EmitTo, GroupsAccumulator};

use crate::error::{Code, Error};

/// What an aggregate does with the rows of many groups.
pub(super) trait Aggregation: Debug + Send + Sync + 'static {
    /// Adds rows; `groups` has the group of each.
    fn update(&mut self, values: &[ArrayRef], groups: &[usize], filter: Option<&BooleanArray>) -> DfResult<()>;
    /// Adds partial states; `groups` has the group of each.
    fn merge(&mut self, states: &[ArrayRef], groups: &[usize]) -> DfResult<()>;
    /// The values of the first `count` groups. Changes no state that is seen.
    fn values(&mut self, count: usize) -> DfResult<ArrayRef>;
    /// The partial states of the first `count` groups. Changes no state that is seen.
    fn states(&mut self, count: usize) -> DfResult<Vec<ArrayRef>>;
    /// Forgets the first `count` groups; group `count` becomes group 0.
    fn forget(&mut self, count: usize);
    /// The partial state of each row as if it were a group of its own.
    fn row_states(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> DfResult<Vec<ArrayRef>>;
    /// Bytes on the heap.
    fn heap_bytes(&self) -> usize;
}

/// Many groups.
#[derive(Debug)]
pub(super) struct Grouped<A> {
    aggregation: A,
    groups: usize,
}

impl<A: Aggregation> Grouped<A> {
    pub(super) fn new(aggregation: A) -> Self {
        Self { aggregation, groups: 0 }
    }

    fn see(&mut self, groups: usize) -> DfResult<()> {
        if u32::try_from(groups).is_err() {
            return Err(Error::new(Code::TooComplex, "there are more than four billion groups").into());
        }
        self.groups = groups;
        Ok(())
    }

    fn emitted(&mut self, emit: EmitTo) -> usize {
        match emit {
            EmitTo::All => self.groups,
            EmitTo::First(count) => count.min(self.groups),
        }
    }

    fn forget(&mut self, count: usize) {
        self.aggregation.forget(count);
        self.groups -= count;
    }
}

impl<A: Aggregation> GroupsAccumulator for Grouped<A> {
    fn update_batch(&mut self, values: &[ArrayRef], groups: &[usize], filter: Option<&BooleanArray>, total: usize) -> DfResult<()> {
        self.see(total)?;
        self.aggregation.update(values, groups, filter)
    }

    fn evaluate(&mut self, emit: EmitTo) -> DfResult<ArrayRef> {
        let count = self.emitted(emit);
        let values = self.aggregation.values(count)?;
        self.forget(count);
        Ok(values)
    }

    fn state(&mut self, emit: EmitTo) -> DfResult<Vec<ArrayRef>> {
        let count = self.emitted(emit);
        let states = self.aggregation.states(count)?;
        self.forget(count);
        Ok(states)
    }

    fn merge_batch(&mut self, values: &[ArrayRef], groups: &[usize], total: usize) -> DfResult<()> {
        self.see(total)?;
        self.aggregation.merge(values, groups)
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> DfResult<Vec<ArrayRef>> {
        self.aggregation.row_states(values, filter)
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.aggregation.heap_bytes()
    }
}

/// One group: a query without GROUP BY, a window.
#[derive(Debug)]
pub(super) struct Single<A> {
    aggregation: A,
    /// Zeros, as many as a batch has rows.
    groups: Vec<usize>,
}

impl<A: Aggregation> Single<A> {
    pub(super) fn new(aggregation: A) -> Self {
        Self { aggregation, groups: vec![] }
    }
}

impl<A: Aggregation> Accumulator for Single<A> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> DfResult<()> {
        self.groups.resize(values.first().map_or(0, |array| array.len()), 0);
        self.aggregation.update(values, &self.groups, None)
    }

    fn evaluate(&mut self) -> DfResult<ScalarValue> {
        ScalarValue::try_from_array(&self.aggregation.values(1)?, 0)
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.groups.capacity() * size_of::<usize>() + self.aggregation.heap_bytes()
    }

    fn state(&mut self) -> DfResult<Vec<ScalarValue>> {
        self.aggregation.states(1)?.iter().map(|array| ScalarValue::try_from_array(array, 0)).collect()
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> DfResult<()> {
        self.groups.resize(states.first().map_or(0, |array| array.len()), 0);
        self.aggregation.merge(states, &self.groups)
    }
}
