//! What the sums over decaying terms share.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Float64Array};
use arrow::datatypes::{Float64Type, TimestampMicrosecondType};

use crate::error::{Error, Result};
use crate::functions::grouped::{Kernel, Rows, State, States};
use crate::kernels::profile::decay::{Decay, DecayedSum, Term};
use crate::kernels::stats::wire::{Reader, put_i64};

/// What is made of the terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Output {
    Sum,
    Average,
    /// The weights alone.
    Count,
}

/// Where the arguments are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Places {
    /// `None` for a count.
    pub(super) value: Option<usize>,
    pub(super) time: usize,
    pub(super) as_of: Option<usize>,
}

/// Sums over decaying terms, its constants bound.
#[derive(Debug, Clone)]
pub(super) struct Decayed {
    pub(super) decay: Decay,
    pub(super) output: Output,
    pub(super) places: Places,
}

/// What a group has seen. Small: where rows come in any order, most of the time goes into reaching it.
#[derive(Debug, Clone, Default)]
pub(super) struct Terms {
    clock: Clock,
    /// The terms; for a count the weights.
    sum: DecayedSum,
    /// For an average.
    weights: Option<Box<DecayedSum>>,
}

/// The point in time of a group: `as_of` where it is given, else the newest time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    as_of_us: i64,
    newest_us: i64,
}

impl Default for Clock {
    fn default() -> Self {
        Self { as_of_us: i64::MIN, newest_us: i64::MIN }
    }
}

impl Clock {
    /// Whether an event is known by `as_of`; notes both times.
    pub(super) fn note(&mut self, time_us: i64, as_of_us: Option<i64>) -> bool {
        self.as_of_us = self.as_of_us.max(as_of_us.unwrap_or(i64::MIN));
        let known = as_of_us.is_none_or(|as_of_us| time_us <= as_of_us);
        if known {
            self.newest_us = self.newest_us.max(time_us);
        }
        known
    }

    pub(super) fn merge(&mut self, other: Self) {
        self.as_of_us = self.as_of_us.max(other.as_of_us);
        self.newest_us = self.newest_us.max(other.newest_us);
    }

    /// The point in time; `None` without events.
    pub(super) fn now_us(&self) -> Option<i64> {
        let given = Some(self.as_of_us).filter(|us| *us != i64::MIN);
        (self.newest_us != i64::MIN).then(|| given.unwrap_or(self.newest_us))
    }

    /// The newest event; `None` without events.
    pub(super) fn newest_us(&self) -> Option<i64> {
        Some(self.newest_us).filter(|us| *us != i64::MIN)
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        put_i64(out, self.as_of_us);
        put_i64(out, self.newest_us);
    }

    pub(super) fn decode(from: &mut Reader<'_>) -> Option<Self> {
        Some(Self { as_of_us: from.i64()?, newest_us: from.i64()? })
    }
}

impl Terms {
    #[inline]
    fn add(&mut self, decayed: &Decayed, time_us: i64, term: Term, as_of_us: Option<i64>) {
        if !self.clock.note(time_us, as_of_us) {
            return;
        }
        self.sum.add_term(term);
        if decayed.output == Output::Average {
            self.weights.get_or_insert_default().add(decayed.decay, 1.0, time_us);
        }
    }
}

impl State for Terms {
    #[inline]
    fn heap_bytes(&self) -> usize {
        self.sum.heap_bytes() + self.weights.as_ref().map_or(0, |weights| size_of::<DecayedSum>() + weights.heap_bytes())
    }

    fn encode(&self, out: &mut Vec<u8>) {
        self.clock.encode(out);
        self.sum.encode(out);
        out.push(u8::from(self.weights.is_some()));
        if let Some(weights) = &self.weights {
            weights.encode(out);
        }
    }

    fn decode(from: &mut Reader<'_>) -> Option<Self> {
        let (clock, sum) = (Clock::decode(from)?, DecayedSum::decode(from)?);
        let weights = if from.byte()? == 0 { None } else { Some(Box::new(DecayedSum::decode(from)?)) };
        Some(Self { clock, sum, weights })
    }

    fn merge(&mut self, other: Self) -> Result<()> {
        self.sum.merge(&other.sum);
        if let Some(weights) = &other.weights {
            self.weights.get_or_insert_default().merge(weights);
        }
        self.clock.merge(other.clock);
        Ok(())
    }
}

/// A decay from a half-life in microseconds.
///
/// # Errors
/// 22023 when it is shorter than a millisecond.
pub(super) fn decay(function: &str, half_life_us: f64) -> Result<Decay> {
    Decay::new(half_life_us).ok_or_else(|| Error::invalid(format!("{function} needs a half-life of a millisecond or more")))
}

impl Kernel for Decayed {
    type State = Terms;

    fn update(&self, rows: &Rows<'_>, states: &mut States<Self::State>) -> Result<()> {
        let times = rows.numbers::<TimestampMicrosecondType>(self.places.time)?;
        let values = self.places.value.map(|at| rows.numbers::<Float64Type>(at)).transpose()?;
        let as_of = self.places.as_of.filter(|at| *at < rows.columns.len());
        let as_of = as_of.map(|at| rows.numbers::<TimestampMicrosecondType>(at)).transpose()?;
        let known = |(row, _): &(usize, usize)| times.is_valid(*row) && values.is_none_or(|values| values.is_valid(*row));
        // Terms of their own, apart from states: the processor works at many of them at once.
        let of = |(time_us, value): (&i64, f64)| self.decay.term(value, *time_us);
        let terms: Vec<Term> = match values {
            Some(values) => times.values().iter().zip(values.values().iter().copied()).map(of).collect(),
            None => times.values().iter().zip(std::iter::repeat(1.0)).map(of).collect(),
        };
        let mut rows = rows.iter().filter(known).peekable();
        // Rows often come group by group.
        while let Some((first, group)) = rows.next() {
            states.change(group, |state| {
                let mut next = Some(first);
                while let Some(row) = next {
                    let as_of_us = as_of.filter(|column| column.is_valid(row)).map(|column| column.value(row));
                    state.add(self, times.value(row), terms[row], as_of_us);
                    next = rows.next_if(|(_, other)| *other == group).map(|(row, _)| row);
                }
            })?;
        }
        Ok(())
    }

    fn finish(&self, states: &mut [Self::State]) -> Result<ArrayRef> {
        let result = |terms: &mut Terms| {
            let now_us = terms.clock.now_us()?;
            Some(match self.output {
                Output::Sum | Output::Count => terms.sum.at(self.decay, now_us),
                // As of the newest term: far from it both would be zero.
                Output::Average => {
                    let newest_us = terms.clock.newest_us;
                    terms.sum.at(self.decay, newest_us) / terms.weights.as_ref()?.at(self.decay, newest_us)
                }
            })
        };
        Ok(Arc::new(states.iter_mut().map(result).collect::<Float64Array>()))
    }
}
