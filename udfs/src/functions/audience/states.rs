//! What the aggregates of this room keep for a group, and what they make of it.

use std::fmt::Debug;
use std::marker::PhantomData;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryBuilder, Int64Array};

use super::arguments::{ids, member, read};
use crate::error::{Code, Error, Result};
use crate::functions::grouped::{Kernel, Rows, State, States, append};
use crate::kernels::bitmap::{Bitmap, Bsi, Collector, Parts, Sums};
use crate::kernels::stats::wire::Reader;

/// What comes of a group's set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Output {
    /// How many members it has.
    Count,
    /// The set itself.
    Set,
}

fn count(members: u64) -> i64 {
    i64::try_from(members).unwrap_or(i64::MAX)
}

fn column(values: impl Iterator<Item = Result<Option<Vec<u8>>>>) -> Result<ArrayRef> {
    let mut out = BinaryBuilder::new();
    for value in values {
        match value? {
            Some(bytes) => append(&mut out, &bytes)?,
            None => out.append_null(),
        }
    }
    Ok(Arc::new(out.finish()))
}

/// Ids become a set.
#[derive(Debug, Clone)]
pub(super) struct Collect(pub(super) Output);

/// The ids that a group has seen.
#[derive(Debug, Clone, Default)]
pub(super) struct Collected(Collector);

impl State for Collected {
    fn heap_bytes(&self) -> usize {
        self.0.heap_bytes()
    }

    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }

    fn decode(from: &mut Reader<'_>) -> Option<Self> {
        Collector::decode(from.rest()).ok().map(Self)
    }

    fn merge(&mut self, other: Self) -> Result<()> {
        self.0.merge(other.0);
        Ok(())
    }
}

impl Kernel for Collect {
    type State = Collected;

    fn update(&self, rows: &Rows<'_>, states: &mut States<Collected>) -> Result<()> {
        let id = ids(rows.column(0)?)?;
        for (row, group) in rows.iter() {
            if let Some(id) = id(row) {
                let id = member(id)?;
                states.change(group, |state| state.0.insert(id))?;
            }
        }
        Ok(())
    }

    fn finish(&self, states: &mut [Collected]) -> Result<ArrayRef> {
        match self.0 {
            Output::Count => Ok(Arc::new(states.iter_mut().map(|state| count(state.0.count())).collect::<Int64Array>())),
            Output::Set => column(states.iter_mut().map(|state| {
                let mut bytes = Vec::new();
                state.0.set().write(&mut bytes);
                Ok(Some(bytes))
            })),
        }
    }
}

/// How two sets become one, in any order.
pub(super) trait Operation: Debug + Clone + Default + Send + Sync + 'static {
    fn combine(set: Bitmap, other: Bitmap) -> Result<Bitmap>;
}

/// The members of all.
#[derive(Debug, Clone, Default)]
pub(super) struct And;
/// The members of any.
#[derive(Debug, Clone, Default)]
pub(super) struct Or;
/// The members of an odd number of them.
#[derive(Debug, Clone, Default)]
pub(super) struct Xor;

impl Operation for And {
    fn combine(set: Bitmap, other: Bitmap) -> Result<Bitmap> {
        Ok(set.and(&other))
    }
}

impl Operation for Or {
    fn combine(mut set: Bitmap, other: Bitmap) -> Result<Bitmap> {
        set.add(other);
        Ok(set)
    }
}

impl Operation for Xor {
    fn combine(set: Bitmap, other: Bitmap) -> Result<Bitmap> {
        Ok(set.xor(&other))
    }
}

/// Sets become one set.
#[derive(Debug, Clone)]
pub(super) struct Combine<O>(pub(super) Output, pub(super) PhantomData<O>);

/// The sets that a group has so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Combined<O> {
    sets: Parts<Bitmap>,
    operation: PhantomData<O>,
}

impl<O: Operation> State for Combined<O> {
    fn heap_bytes(&self) -> usize {
        self.sets.heap_bytes()
    }

    fn encode(&self, out: &mut Vec<u8>) {
        self.sets.encode(out);
    }

    fn decode(from: &mut Reader<'_>) -> Option<Self> {
        Some(Self { sets: Parts::decode(from)?, operation: PhantomData })
    }

    fn merge(&mut self, other: Self) -> Result<()> {
        self.sets.merge(other.sets, O::combine)
    }
}

impl<O: Operation> Kernel for Combine<O> {
    type State = Combined<O>;

    fn update(&self, rows: &Rows<'_>, states: &mut States<Combined<O>>) -> Result<()> {
        let sets = rows.column(0)?.as_binary_opt::<i32>().ok_or_else(|| Error::internal("bitmaps are not bytes"))?;
        for (row, group) in rows.iter() {
            if sets.is_valid(row) {
                let set = read(sets.value(row))?;
                states.change(group, |state| state.sets.push(set, O::combine))??;
            }
        }
        Ok(())
    }

    fn finish(&self, states: &mut [Combined<O>]) -> Result<ArrayRef> {
        match self.0 {
            Output::Count => {
                let members = |state: &mut Combined<O>| Ok(state.sets.whole(O::combine)?.map_or(0, Bitmap::len));
                let counts = states.iter_mut().map(|state| members(state).map(count)).collect::<Result<Vec<_>>>()?;
                Ok(Arc::new(Int64Array::from(counts)))
            }
            Output::Set => column(states.iter_mut().map(|state| {
                let set = state.sets.whole(O::combine)?.cloned();
                Ok(Some(set.unwrap_or_default().to_bytes()))
            })),
        }
    }
}

/// Numbers of ids become an index.
#[derive(Debug, Clone)]
pub(super) struct Index;

/// The sums that a group has so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Summed(Sums);

fn too_great(id: Option<u64>) -> Error {
    let error = Error::new(Code::NumericOutOfRange, "bigint out of range");
    match id {
        Some(id) => error.detail(format!("It is the sum of id {id}.")),
        None => error.detail("It is the sum of an id that several indexes have."),
    }
}

impl State for Summed {
    fn heap_bytes(&self) -> usize {
        self.0.heap_bytes()
    }

    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }

    fn decode(from: &mut Reader<'_>) -> Option<Self> {
        Sums::decode(from.rest()).ok().map(Self)
    }

    fn merge(&mut self, other: Self) -> Result<()> {
        self.0.merge(other.0);
        Ok(())
    }
}

impl Kernel for Index {
    type State = Summed;

    fn update(&self, rows: &Rows<'_>, states: &mut States<Summed>) -> Result<()> {
        let (id, value) = (ids(rows.column(0)?)?, ids(rows.column(1)?)?);
        for (row, group) in rows.iter() {
            if let (Some(id), Some(value)) = (id(row), value(row)) {
                let id = member(id)?;
                states.change(group, |state| state.0.add(id, value))?;
            }
        }
        Ok(())
    }

    fn finish(&self, states: &mut [Summed]) -> Result<ArrayRef> {
        let index = |state: &mut Summed| state.0.index().map_err(|overflow| too_great(Some(overflow.0)));
        column(states.iter_mut().map(|state| Ok(Some(index(state)?.to_bytes()))))
    }
}

/// Indexes become one index.
#[derive(Debug, Clone)]
pub(super) struct Merge;

/// The indexes that a group has so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Merged(Parts<Bsi>);

fn plus(index: Bsi, other: Bsi) -> Result<Bsi> {
    index.plus(&other).ok_or_else(|| too_great(None))
}

impl State for Merged {
    fn heap_bytes(&self) -> usize {
        self.0.heap_bytes()
    }

    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }

    fn decode(from: &mut Reader<'_>) -> Option<Self> {
        Parts::decode(from).map(Self)
    }

    fn merge(&mut self, other: Self) -> Result<()> {
        self.0.merge(other.0, plus)
    }
}

impl Kernel for Merge {
    type State = Merged;

    fn update(&self, rows: &Rows<'_>, states: &mut States<Merged>) -> Result<()> {
        let indexes = rows.column(0)?.as_binary_opt::<i32>().ok_or_else(|| Error::internal("indexes are not bytes"))?;
        for (row, group) in rows.iter() {
            if indexes.is_valid(row) {
                let index = read(indexes.value(row))?;
                states.change(group, |state| state.0.push(index, plus))??;
            }
        }
        Ok(())
    }

    fn finish(&self, states: &mut [Merged]) -> Result<ArrayRef> {
        column(states.iter_mut().map(|state| Ok(Some(state.0.whole(plus)?.cloned().unwrap_or_default().to_bytes()))))
    }
}
