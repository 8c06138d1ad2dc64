//! Formatting templates of PostgreSQL: `to_char`, `to_timestamp`, `to_date` and `to_number` without their SQL face.
//!
//! A template is compiled once ([`DateTimeTemplate`], [`NumberTemplate`]) and then applied to any number of values.
//! What PostgreSQL answers is the definition: oddities that its users can observe are kept, and `cases.tsv` pins them.
//! Names of months and days, signs and separators are those of the `C` locale.
//!
//! The order of steps follows PostgreSQL's `src/backend/utils/adt/formatting.c`, whose licence is in `LICENSE-PostgreSQL`.
//!
//! Absent on purpose: Arrow, DataFusion, time zone rules and NULL. The caller brings a value's offset from UTC and its
//! zone's abbreviation when writing, applies its session's zone when reading, and answers NULL where PostgreSQL does
//! (`to_char` of an infinite timestamp; an empty template, except to write a number or to read a timestamp or date).

mod calendar;
mod digits;
mod error;
mod fields;
mod keywords;
mod number;
mod number_read;
mod number_write;
mod read;
mod resolve;
#[cfg(test)]
mod tests;
mod write;

pub(crate) use digits::{Decimal, Number};
pub(crate) use error::TemplateError;
pub(crate) use keywords::DateTimeTemplate;
pub(crate) use number::NumberTemplate;
pub(crate) use write::DateTimeParts;
