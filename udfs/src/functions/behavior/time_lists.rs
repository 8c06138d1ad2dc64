//! Lists of times, one per group.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, ListArray};
use arrow::datatypes::{DataType, Field};
use datafusion::error::Result as DfResult;

use super::arguments::as_times;
use super::events::offsets;

/// Collects the lists.
#[derive(Debug)]
pub(super) struct TimeLists {
    time: DataType,
    times: Vec<i64>,
    places: Vec<usize>,
}

impl TimeLists {
    pub(super) fn new(time: &DataType) -> Self {
        Self { time: time.clone(), times: vec![], places: vec![0] }
    }

    pub(super) fn push(&mut self, times: &[i64]) {
        self.times.extend_from_slice(times);
        self.places.push(self.times.len());
    }

    pub(super) fn take(&mut self) -> DfResult<ArrayRef> {
        let times = as_times(Int64Array::from(std::mem::take(&mut self.times)), &self.time)?;
        let offsets = offsets(&std::mem::replace(&mut self.places, vec![0]))?;
        let field = Arc::new(Field::new_list_field(self.time.clone(), true));
        Ok(Arc::new(ListArray::try_new(field, offsets, times, None)?))
    }
}
