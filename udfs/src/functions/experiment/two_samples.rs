//! What the tests of two samples share: rows (value, group 0 or 1) and a state per sample.

use std::fmt::Debug;

use arrow::array::Array;
use arrow::datatypes::{Float64Type, Int64Type};

use crate::error::{Error, Result};
use crate::functions::grouped::{Rows, State, States};
use crate::functions::typed::Want;
use crate::kernels::stats::moments::Moments;
use crate::kernels::stats::proportion::Proportion;
use crate::kernels::stats::wire::{Reader, put_f64, put_u64};

/// The arguments that every test of two samples begins with.
pub(super) const VALUE: (&str, Want) = ("value", Want::Number);
pub(super) const GROUP: (&str, Want) = ("group", Want::Whole);

/// One sample of a test.
pub(super) trait Sample: Clone + Default + Debug + Send + Sync + 'static {
    fn add(&mut self, value: f64);
    fn merge(&mut self, other: Self);
    fn heap_bytes(&self) -> usize;
    fn encode(&self, out: &mut Vec<u8>);
    fn decode(from: &mut Reader<'_>) -> Option<Self>;
}

/// Both samples.
#[derive(Debug, Clone, Default)]
pub(super) struct TwoSamples<S> {
    pub(super) first: S,
    pub(super) second: S,
}

impl<S: Sample> State for TwoSamples<S> {
    fn heap_bytes(&self) -> usize {
        self.first.heap_bytes() + self.second.heap_bytes()
    }

    fn encode(&self, out: &mut Vec<u8>) {
        self.first.encode(out);
        self.second.encode(out);
    }

    fn decode(from: &mut Reader<'_>) -> Option<Self> {
        Some(Self { first: S::decode(from)?, second: S::decode(from)? })
    }

    fn merge(&mut self, other: Self) -> Result<()> {
        self.first.merge(other.first);
        self.second.merge(other.second);
        Ok(())
    }
}

/// Takes rows of (value, group) into the samples.
///
/// # Errors
/// 22023 for a group that is neither 0 nor 1.
pub(super) fn take<S: Sample>(function: &str, rows: &Rows<'_>, states: &mut States<TwoSamples<S>>) -> Result<()> {
    let (values, samples) = (rows.numbers::<Float64Type>(0)?, rows.numbers::<Int64Type>(1)?);
    for (row, group) in rows.iter().filter(|(row, _)| values.is_valid(*row) && samples.is_valid(*row)) {
        let value = values.value(row);
        match samples.value(row) {
            0 => states.change(group, |state| state.first.add(value))?,
            1 => states.change(group, |state| state.second.add(value))?,
            other => return Err(wrong_group(function, other)),
        }
    }
    Ok(())
}

/// The error for a group that is neither 0 nor 1.
pub(super) fn wrong_group(function: &str, group: i64) -> Error {
    Error::invalid(format!("argument \"group\" of {function} must be 0 or 1, not {group}"))
        .hint("Compare two variants: FILTER (WHERE variant IN ('a', 'b')) with variant = 'b' as the group.")
}

impl Sample for Moments {
    fn add(&mut self, value: f64) {
        self.add(value);
    }

    fn merge(&mut self, other: Self) {
        self.merge(&other);
    }

    fn heap_bytes(&self) -> usize {
        self.heap_bytes()
    }

    fn encode(&self, out: &mut Vec<u8>) {
        self.encode(out);
    }

    fn decode(from: &mut Reader<'_>) -> Option<Self> {
        Self::decode(from)
    }
}

/// All values, for tests of ranks.
impl Sample for Vec<f64> {
    fn add(&mut self, value: f64) {
        self.push(value);
    }

    fn merge(&mut self, mut other: Self) {
        if self.is_empty() {
            std::mem::swap(self, &mut other);
        }
        self.append(&mut other);
    }

    fn heap_bytes(&self) -> usize {
        self.capacity() * size_of::<f64>()
    }

    fn encode(&self, out: &mut Vec<u8>) {
        put_u64(out, self.len() as u64);
        self.iter().for_each(|value| put_f64(out, *value));
    }

    fn decode(from: &mut Reader<'_>) -> Option<Self> {
        let count = from.count(size_of::<f64>())?;
        (0..count).map(|_| from.f64()).collect()
    }
}

/// Successes: values that are not zero.
impl Sample for Proportion {
    fn add(&mut self, value: f64) {
        self.trials += 1;
        self.successes += u64::from(value != 0.0);
    }

    fn merge(&mut self, other: Self) {
        self.trials += other.trials;
        self.successes += other.successes;
    }

    fn heap_bytes(&self) -> usize {
        0
    }

    fn encode(&self, out: &mut Vec<u8>) {
        put_u64(out, self.successes);
        put_u64(out, self.trials);
    }

    fn decode(from: &mut Reader<'_>) -> Option<Self> {
        Some(Self { successes: from.u64()?, trials: from.u64()? })
    }
}
