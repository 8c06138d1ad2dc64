//! What `active_hours` and `peak_hour` share: events per hour of the day.

use std::str::FromStr;
use std::sync::Arc;

use arrow::array::timezone::Tz;
use arrow::array::{Array, ArrayRef, Int32Array, Int64Builder, ListBuilder};
use arrow::datatypes::TimestampMicrosecondType;
use chrono::{DateTime, Timelike};
use datafusion::logical_expr::function::AccumulatorArgs;

use crate::error::{Code, Error, Result};
use crate::functions::grouped::{Kernel, Rows, State, States};
use crate::functions::typed::{Shape, Want};
use crate::kernels::stats::wire::{Reader, put_u64};

/// The arguments of both.
pub(super) const fn shape(name: &'static str) -> Shape {
    const ARGUMENTS: &[(&str, Want)] = &[("event_time", Want::Time), ("time_zone", Want::Text)];
    Shape { name, arguments: ARGUMENTS, required: 1 }
}

/// Events per hour.
#[derive(Debug, Clone, Default)]
pub(super) struct Day {
    hours: [u64; 24],
}

impl State for Day {
    fn heap_bytes(&self) -> usize {
        0
    }

    fn encode(&self, out: &mut Vec<u8>) {
        self.hours.iter().for_each(|hour| put_u64(out, *hour));
    }

    fn decode(from: &mut Reader<'_>) -> Option<Self> {
        let mut day = Self::default();
        for hour in &mut day.hours {
            *hour = from.u64()?;
        }
        Some(day)
    }

    fn merge(&mut self, other: Self) -> Result<()> {
        self.hours.iter_mut().zip(other.hours).for_each(|(hour, more)| *hour += more);
        Ok(())
    }
}

/// Counts per hour in a time zone, constants bound.
#[derive(Debug, Clone)]
pub(super) struct Hours {
    zone: Tz,
    /// The busiest hour instead of all.
    peak: bool,
}

impl Hours {
    /// Of a call.
    ///
    /// # Errors
    /// 22023 for a time zone that nobody knows.
    pub(super) fn new(shape: &Shape, args: &AccumulatorArgs<'_>, peak: bool) -> Result<Self> {
        let zone = shape.constant_text(args, 1)?.unwrap_or_else(|| "+00:00".to_owned());
        let zone = Tz::from_str(&zone).map_err(|_| {
            Error::new(Code::InvalidParameter, format!("time zone \"{zone}\" not recognized"))
                .hint("Write an offset such as '+08:00' or a name such as 'Europe/Berlin'.")
        })?;
        Ok(Self { zone, peak })
    }
}

impl Kernel for Hours {
    type State = Day;

    fn update(&self, rows: &Rows<'_>, states: &mut States<Self::State>) -> Result<()> {
        let times = rows.numbers::<TimestampMicrosecondType>(0)?;
        for (row, group) in rows.iter().filter(|(row, _)| times.is_valid(*row)) {
            let Some(time) = DateTime::from_timestamp_micros(times.value(row)) else { continue };
            let hour = time.with_timezone(&self.zone).hour() as usize;
            states.change(group, |day| day.hours.iter_mut().skip(hour).take(1).for_each(|count| *count += 1))?;
        }
        Ok(())
    }

    fn finish(&self, states: &mut [Self::State]) -> Result<ArrayRef> {
        let empty = |day: &Day| day.hours.iter().all(|count| *count == 0);
        if self.peak {
            // The earliest of the busiest.
            let peak = |day: &Day| (0..24).rev().max_by_key(|hour| day.hours[*hour]).and_then(|hour| i32::try_from(hour).ok());
            return Ok(Arc::new(states.iter().map(|day| peak(day).filter(|_| !empty(day))).collect::<Int32Array>()));
        }
        let mut out = ListBuilder::new(Int64Builder::new());
        for day in states {
            if empty(day) {
                out.append_null();
                continue;
            }
            let counts = day.hours.iter().map(|count| i64::try_from(*count).ok());
            out.append_value(counts);
        }
        Ok(Arc::new(out.finish()))
    }
}
