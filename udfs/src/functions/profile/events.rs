//! What the table functions of this room read: the events of a source, user by user, as of a point in time.
//!
//! The columns are recognised as training recognises them; of the canonical columns only the roles are read. Histories come from
//! the provider of the context, so a server's index serves here too.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Schema, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::common::runtime::SpawnedTask;
use datafusion::error::Result as DfResult;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use futures::StreamExt;
use tokio_util::sync::CancellationToken;

use super::orders::{Customers, Orders, Pieces};
use crate::context::{EventSource, UserHistories};
use crate::error::{Code, Error, Result};
use crate::features::events::Strings;
use crate::features::roles::resolve_event_columns;
use crate::features::{EventColumns, KeyType, UserHistory, UserReader};
use crate::functions::ml::predict::subject::Users;
use crate::functions::relation::{Argument, Arguments, Call, Kind, Parameter};
use crate::functions::source::{event_types, orders_of, resolve_columns};
use crate::kernels::identity::{People, whole};
use crate::kernels::nearest::nearest;

pub(super) const SOURCE: Parameter = Parameter::required("source", Kind::Source, "The events.");
pub(super) const COLUMNS: Parameter =
    Parameter::optional("columns", Kind::Text, "'auto'", "Which columns play which role, as in train_profile_model.");
pub(super) const AS_OF: Parameter = Parameter::optional(
    "as_of",
    Kind::Timestamp,
    "NULL",
    "Only events up to this time count; by default the largest event time of the source.",
);
pub(super) const EVENT: Parameter =
    Parameter::optional("event", Kind::Text, "NULL", "Only events of this type count, such as 'purchase'; all of them by default.");

/// The type of `as_of` and other times.
pub(super) fn time_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// The type of the users of a source; checks the roles.
///
/// # Errors
/// 42703 and 22023 as training says them.
pub(super) fn key_type(args: &Arguments, source: Option<&Schema>) -> Result<KeyType> {
    let source = source.ok_or_else(|| args.missing("source"))?;
    let (columns, _) = resolve_event_columns(source, args.text("columns").unwrap_or("auto"), &|_| None)?;
    Ok(columns.key_type)
}

/// The events of a source, opened.
#[derive(Debug)]
pub(super) struct Events {
    source: EventSource,
    /// The roles of the columns that the histories carry.
    read: EventColumns,
    pub(super) histories: Arc<dyn UserHistories>,
    pub(super) as_of_us: i64,
    event: Option<String>,
    people: People,
}

impl Events {
    /// Opens the source of a call.
    ///
    /// # Errors
    /// What is wrong with the source or its columns.
    pub(super) async fn open(call: &Call) -> DfResult<Self> {
        let (source, event) = roles(call).await?;
        let histories = call.context.histories.open(&call.session, &source).await?;
        Ok(Self::new(call, source, histories, event))
    }

    /// Opens the source of a call that wants to know when users did something and what it was worth, no more.
    ///
    /// # Errors
    /// What is wrong with the source or its columns.
    pub(super) async fn open_orders(call: &Call) -> DfResult<Self> {
        let (source, event) = roles(call).await?;
        let Some(of) = &event else { return Self::open(call).await };
        // Few events of a log are of one type: sorting those is less than reading the histories of all.
        let (histories, columns) = orders_of(&call.session, &source, of).await?;
        Ok(Self { read: columns, ..Self::new(call, source, histories, event) })
    }

    fn new(call: &Call, source: EventSource, histories: Arc<dyn UserHistories>, event: Option<String>) -> Self {
        let as_of_us = call.args.micros("as_of").or(histories.watermark_us()).unwrap_or_default();
        let people = call.statement().people(&*call.context.identities).clone();
        Self { read: source.columns.clone(), source, histories, as_of_us, event, people }
    }

    /// The roles of the source's columns.
    pub(super) const fn columns(&self) -> &EventColumns {
        &self.source.columns
    }

    /// Fails when no column says what an event was worth.
    ///
    /// # Errors
    /// 42703.
    pub(super) fn need_value(&self) -> Result<()> {
        if self.source.columns.value.is_some() {
            return Ok(());
        }
        Err(Error::new(Code::UndefinedColumn, "the source has no column of values")
            .hint("Name it with columns => 'auto, value=price*quantity', or whatever holds the money."))
    }

    /// Every user's orders, counted in the memory pool. Streams of users are read side by side.
    ///
    /// # Errors
    /// What reading the source says; 53200; 57014; 22023 for a type of event that no user has.
    pub(super) async fn orders(&self, call: &Call, name: &'static str) -> DfResult<(Customers, MemoryReservation)> {
        let memory = MemoryConsumer::new(name).register(call.task.memory_pool());
        let mut reading = vec![];
        for stream in self.histories.scan(call.session.config().target_partitions().max(1)).await? {
            let reader = UserReader::new(stream.schema(), &self.read)?;
            let orders = UserOrders { stream, reader, as_of_us: self.as_of_us, cancel: call.statement().cancel.clone() };
            reading.push(SpawnedTask::spawn(orders.read(memory.new_empty())));
        }
        let mut found = Vec::with_capacity(reading.len());
        for task in reading {
            let (orders, held) = task.join().await.map_err(|error| Error::internal(format!("reading events failed: {error}")))??;
            memory.try_grow(held.free())?;
            found.push(orders);
        }
        let found = Customers::new(found);
        if let Some(event) = self.event.as_ref().filter(|_| found.is_empty()) {
            let types = event_types(&call.session, &self.source, TYPES_SHOWN).await?;
            if !types.is_empty() && !types.contains(event) {
                return Err(unknown_event(event, &types).into());
            }
        }
        Ok((found, memory))
    }

    /// A text where users are numbers may be an id of somebody who has a number too.
    fn known_as<'v>(&self, value: &'v ScalarValue) -> Cow<'v, ScalarValue> {
        let foreign = |text: &&str| self.source.columns.key_type == KeyType::Int64 && whole(text).is_none();
        let text = value.try_as_str().flatten().filter(foreign);
        let reader = self.people.read();
        match text.and_then(|text| whole(reader.canonical(text))) {
            Some(number) => Cow::Owned(ScalarValue::Int64(Some(number))),
            None => Cow::Borrowed(value),
        }
    }

    /// The history of one user up to the point in time; `None` for NULL and unknown users.
    ///
    /// # Errors
    /// 22P02 for a text that is no number where users are numbers; what reading the source says.
    pub(super) async fn user(&self, args: &Arguments) -> DfResult<Option<(UserHistory, Strings)>> {
        let Some(Argument::Any(value)) = args.get("user_id") else { return Ok(None) };
        let value = self.known_as(value);
        let user: ArrayRef = match Users::new(&value.to_array()?, self.source.columns.key_type)? {
            Users::Int64(keys) => Arc::new(keys),
            Users::Utf8(keys) => Arc::new(keys),
        };
        if user.null_count() > 0 {
            return Ok(None);
        }
        let mut stream = self.histories.lookup(user).await?;
        let mut reader = UserReader::new(stream.schema(), &self.read)?;
        let mut found = None;
        while let Some(batch) = stream.next().await {
            reader.push(&batch?)?;
            found = found.or_else(|| reader.next_user());
        }
        let found = found.or_else(|| reader.next_user()).or_else(|| reader.finish());
        Ok(found.filter(|history| history.times_us.first().is_some_and(|first_us| *first_us <= self.as_of_us)).map(|history| {
            let strings = reader.strings().clone();
            (history, strings)
        }))
    }
}

/// The source of a call with the roles of its columns, and the type of event that counts.
async fn roles(call: &Call) -> DfResult<(EventSource, Option<String>)> {
    let sql = call.source.as_ref().ok_or_else(|| call.args.missing("source"))?.sql.as_str();
    let (mut columns, _) = resolve_columns(&call.session, sql, call.args.text("columns").unwrap_or("auto")).await?;
    columns.extra.clear();
    columns.text.clear();
    columns.image = None;
    let event = call.args.text("event").map(str::to_owned);
    if event.is_some() && columns.event.is_none() {
        return Err(Error::new(Code::UndefinedColumn, "the source has no column of event types")
            .hint("Name it with columns => 'auto, event=…', or leave out the argument \"event\".")
            .into());
    }
    Ok((EventSource { sql: sql.to_owned(), columns }, event))
}

/// Reads the users of one stream.
struct UserOrders {
    stream: SendableRecordBatchStream,
    reader: UserReader,
    as_of_us: i64,
    cancel: CancellationToken,
}

impl UserOrders {
    async fn read(mut self, memory: MemoryReservation) -> DfResult<(Pieces, MemoryReservation)> {
        let (mut found, as_of_us) = (Pieces::default(), self.as_of_us);
        let add = |found: &mut Pieces, history: &UserHistory| match Orders::of(history, as_of_us) {
            Some(orders) => found.add(orders, &memory),
            None => Ok(()),
        };
        while let Some(batch) = self.stream.next().await {
            if self.cancel.is_cancelled() {
                return Err(Error::cancelled().into());
            }
            self.reader.push(&batch?)?;
            self.reader.each_user(|history| add(&mut found, history))?;
        }
        if let Some(history) = self.reader.finish() {
            add(&mut found, &history)?;
        }
        Ok((found, memory))
    }
}

/// Types that are remembered for a message, at most.
const TYPES_SHOWN: usize = 20;

fn unknown_event(event: &str, types: &BTreeSet<String>) -> Error {
    let there = types.iter().map(String::as_str).collect::<Vec<_>>();
    let error = Error::invalid(format!("no user has an event \"{event}\"")).detail(format!("There are {}.", there.join(", ")));
    match nearest(event, there.iter().copied()) {
        Some(near) => error.hint(format!("Perhaps you meant \"{near}\".")),
        None => error,
    }
}
