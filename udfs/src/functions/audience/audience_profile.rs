//! `audience_profile(audience, source, user => 'user_id', top => 20)`

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::error::Result as DfResult;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::physical_plan::execute_stream;
use futures::StreamExt;

use super::named::{Opened, batch, named, open};
use crate::error::{Error, Result};
use crate::functions::MlContext;
use crate::functions::relation::{Arguments, Call, Kind, MlRelation, Parameter};
use crate::functions::typed::column_at;
use crate::kernels::bitmap::{Bitmap, Collector};
use crate::kernels::intern::Interner;

/// See [`MlRelation::doc`].
#[derive(Debug)]
pub(super) struct AudienceProfile;

/// Values of one column that are told apart; what comes after them is `(other)`.
const VALUES_MAX: usize = 10_000;
const OTHER: &str = "(other)";

impl MlRelation for AudienceProfile {
    fn name(&self) -> &'static str {
        "audience_profile"
    }

    fn parameters(&self) -> &'static [Parameter] {
        const PARAMETERS: &[Parameter] = &[
            Parameter::required("audience", Kind::Text, "`name` (the newest version) or `name@3`."),
            Parameter::required("source", Kind::Source, "Everybody: a column of users and columns of tags."),
            Parameter::optional("user", Kind::Text, "'user_id'", "The column of users."),
            Parameter::optional("top", Kind::Integer, "20", "Values of a tag at most, from 1 to 1000; the rarer ones are `(other)`."),
        ];
        PARAMETERS
    }

    fn doc(&self) -> &'static str {
        "How an audience differs from everybody, tag by tag: for each value of each other column of the source the users of the audience \
         who have it and their share, the users of the source who have it and theirs, and the index, 100 · share / base_share (TGI): 100 \
         is as everybody, 200 twice as frequent. Users are counted, not rows, by person where ids are linked, and NULL is a value of its own; shares are of the \
         audience's users who are in the source, and of all its users. Numbers are best cut into bands first (width_bucket, \
         quantile_bucket). The values that most users have come first."
    }

    fn example(&self) -> &'static str {
        "SELECT tag, value, users, share, base_share, index FROM audience_profile('buyers', (SELECT DISTINCT user_id, country FROM events), top => 3)"
    }

    fn schema(&self, args: &Arguments, source: Option<&Schema>, context: &MlContext) -> Result<SchemaRef> {
        named(args, "audience", context)?;
        args.integer_in("top", 20, 1..=1000)?;
        if let Some(source) = source {
            column_at(source, args.text("user").unwrap_or("user_id"))?;
        }
        let count = |name: &str| Field::new(name, DataType::Int64, false);
        let share = |name: &str| Field::new(name, DataType::Float64, true);
        Ok(Arc::new(Schema::new(vec![
            Field::new("tag", DataType::Utf8, false),
            Field::new("value", DataType::Utf8, true),
            count("users"),
            share("share"),
            count("base_users"),
            share("base_share"),
            share("index"),
        ])))
    }

    fn execute(&self, call: Call) -> Result<SendableRecordBatchStream> {
        let own = call.clone();
        Ok(call.once(async move { rows(&own).await }))
    }
}

/// The users of each value of a column.
#[derive(Debug, Default)]
struct Tag {
    values: Interner,
    users: Vec<Collector>,
    none: Collector,
    other: Collector,
}

/// A value, those of the audience who have it, and all who have it.
struct Row {
    value: Option<String>,
    users: u64,
    base: u64,
}

impl Tag {
    fn add(&mut self, value: Option<&str>, user: u64) {
        let users = match value {
            None => &mut self.none,
            Some(value) => match self.values.find(value) {
                Some(code) => &mut self.users[code as usize],
                None if self.users.len() >= VALUES_MAX => &mut self.other,
                None => {
                    self.values.intern(value);
                    self.users.push(Collector::default());
                    let last = self.users.len() - 1;
                    &mut self.users[last]
                }
            },
        };
        users.insert(user);
    }

    fn heap_bytes(&self) -> usize {
        let users: usize = self.users.iter().map(Collector::heap_bytes).sum();
        let spare = self.users.capacity() * size_of::<Collector>();
        users + spare + self.values.bytes() + self.none.heap_bytes() + self.other.heap_bytes()
    }

    /// The `top` values that most users have, then what is left.
    fn rows(mut self, members: &Bitmap, top: usize) -> Vec<Row> {
        let mut sets: Vec<(Option<String>, Bitmap)> = Vec::new();
        for (value, users) in self.values.iter().zip(&mut self.users) {
            sets.push((Some(value.to_owned()), std::mem::take(users.set())));
        }
        if self.none.count() > 0 {
            sets.push((None, std::mem::take(self.none.set())));
        }
        sets.sort_by_key(|(value, users)| (std::cmp::Reverse(users.len()), value.is_none(), value.clone()));
        let mut other = std::mem::take(self.other.set());
        for (_, users) in sets.drain(top.min(sets.len())..) {
            other.add(users);
        }
        if !other.is_empty() {
            sets.push((Some(OTHER.to_owned()), other));
        }
        sets.into_iter().map(|(value, users)| Row { value, users: users.and_len(members), base: users.len() }).collect()
    }
}

/// Everybody, numbered, and who of them is in the audience.
#[derive(Debug, Default)]
struct Base {
    users: Interner,
    members: Collector,
    tags: Vec<Tag>,
}

impl Base {
    fn push(&mut self, opened: &Opened, rows: &RecordBatch, user: usize, tags: &[usize]) -> Result<()> {
        let text = |at: usize| cast(rows.column(at), &DataType::Utf8).map_err(|error| Error::internal(error.to_string()));
        let no_text = || Error::internal("a column cannot be read as text");
        let users = text(user)?;
        let users = &opened.numbers.called(users.as_string_opt::<i32>().ok_or_else(no_text)?);
        let mut ids = Vec::with_capacity(users.len());
        for (name, number) in users.iter().zip(opened.numbers.find(users)) {
            let Some(name) = name else {
                ids.push(None);
                continue;
            };
            let id = u64::from(self.users.intern(name));
            if number.is_some_and(|number| opened.members.contains(number)) {
                self.members.insert(id);
            }
            ids.push(Some(id));
        }
        for (tag, at) in self.tags.iter_mut().zip(tags) {
            let values = text(*at)?;
            let values = values.as_string_opt::<i32>().ok_or_else(no_text)?;
            for (row, id) in ids.iter().enumerate() {
                if let Some(id) = id {
                    tag.add(values.is_valid(row).then(|| values.value(row)), *id);
                }
            }
        }
        Ok(())
    }

    fn heap_bytes(&self) -> usize {
        self.users.bytes() + self.members.heap_bytes() + self.tags.iter().map(Tag::heap_bytes).sum::<usize>()
    }
}

async fn rows(call: &Call) -> DfResult<RecordBatch> {
    let source = call.source.as_ref().ok_or_else(|| call.args.missing("source"))?;
    let schema = source.plan.schema();
    let user = column_at(&schema, call.args.text("user").unwrap_or("user_id"))?;
    let top = usize::try_from(call.args.integer_in("top", 20, 1..=1000)?).unwrap_or(20);
    let tags: Vec<usize> = (0..schema.fields().len()).filter(|at| *at != user).collect();
    let opened = open(call, "audience").await?;
    let memory = MemoryConsumer::new("audience_profile").register(&call.task.runtime_env().memory_pool);
    let mut base = Base { tags: tags.iter().map(|_| Tag::default()).collect(), ..Base::default() };
    let mut batches = execute_stream(Arc::clone(&source.plan), Arc::clone(&call.task))?;
    while let Some(rows) = batches.next().await {
        base.push(&opened, &rows?, user, &tags)?;
        memory.try_resize(base.heap_bytes())?;
    }
    let everybody = base.users.len() as u64;
    let members = std::mem::take(base.members.set());
    let mut table: Vec<(String, Row)> = Vec::new();
    for (tag, at) in base.tags.into_iter().zip(tags) {
        let name = schema.field(at).name();
        table.extend(tag.rows(&members, top).into_iter().map(|row| (name.clone(), row)));
    }
    Ok(batch(call, columns(&table, members.len(), everybody))?)
}

fn columns(table: &[(String, Row)], members: u64, everybody: u64) -> Vec<ArrayRef> {
    let share = |part: u64, whole: u64| (whole > 0).then(|| part as f64 / whole as f64);
    let index = |row: &Row| Some(100.0 * share(row.users, members)? / share(row.base, everybody)?);
    let counts =
        |count: fn(&Row) -> u64| Arc::new(table.iter().map(|(_, row)| count(row).cast_signed()).collect::<Int64Array>()) as ArrayRef;
    let doubles =
        |value: &dyn Fn(&Row) -> Option<f64>| Arc::new(table.iter().map(|(_, row)| value(row)).collect::<Float64Array>()) as ArrayRef;
    vec![
        Arc::new(StringArray::from_iter_values(table.iter().map(|(tag, _)| tag))),
        Arc::new(table.iter().map(|(_, row)| row.value.as_deref()).collect::<StringArray>()),
        counts(|row| row.users),
        doubles(&|row| share(row.users, members)),
        counts(|row| row.base),
        doubles(&|row| share(row.base, everybody)),
        doubles(&index),
    ]
}
