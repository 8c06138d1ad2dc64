//! `path_edges(source, …)`: the paths of users as the edges of a Sankey diagram.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::error::Result as DfResult;
use datafusion::execution::SendableRecordBatchStream;

use super::funnel_steps::quantile_seconds;
use super::reading::{COLUMNS, Collector, Names, Row, SOURCE, each_user, event_source, renumber, schema};
use crate::error::{Error, Result};
use crate::functions::MlContext;
use crate::functions::relation::{Arguments, Call, Kind, MlRelation, Parameter};
use crate::kernels::behavior::paths::{Edge, Edges, Key, Rule, Visit};

/// See [`MlRelation::doc`].
#[derive(Debug)]
pub(super) struct PathEdges;

const NAME: &str = "path_edges";
const HALF_HOUR_US: i64 = 1_800_000_000;

fn columns() -> SchemaRef {
    schema(&[
        ("step", DataType::Int64),
        ("source", DataType::Utf8),
        ("target", DataType::Utf8),
        ("users", DataType::Int64),
        ("sessions", DataType::Int64),
        ("median_seconds", DataType::Float64),
    ])
}

impl MlRelation for PathEdges {
    fn name(&self) -> &'static str {
        NAME
    }

    fn parameters(&self) -> &'static [Parameter] {
        const PARAMETERS: &[Parameter] = &[
            SOURCE,
            Parameter::optional(
                "start",
                Kind::Text,
                "NULL",
                "Where paths begin: a session's first such event (its last, in reverse); a session's first event without it.",
            ),
            Parameter::optional("depth", Kind::Integer, "5", "How many edges a path has at most, 1 to 50."),
            Parameter::optional("reverse", Kind::Boolean, "false", "Follow events back in time: what led to `start`."),
            Parameter::optional(
                "session_gap",
                Kind::Duration,
                "'30 minutes'",
                "A session ends after such a time without events (inclusive).",
            ),
            Parameter::optional("collapse", Kind::Boolean, "true", "An event that repeats itself counts once."),
            COLUMNS,
        ];
        PARAMETERS
    }

    fn doc(&self) -> &'static str {
        "One row for each step and each pair of events that follow one another there: different users, sessions, and the median time between them. \
         Where a session ends, the target is NULL; so what flows into an event at one step flows out of it at the next. Events at one time are \
         taken by their names."
    }

    fn example(&self) -> &'static str {
        "SELECT step, source, target, users FROM path_edges('events', start => 'purchase', depth => 3, session_gap => '30 days')"
    }

    fn schema(&self, _: &Arguments, _: Option<&Schema>, _: &MlContext) -> Result<SchemaRef> {
        Ok(columns())
    }

    fn execute(&self, call: Call) -> Result<SendableRecordBatchStream> {
        let depth = usize::try_from(call.args.integer_in("depth", 5, 1..=50)?).unwrap_or(1);
        let gap = call.args.micros("session_gap").unwrap_or(HALF_HOUR_US);
        let session_gap = u64::try_from(gap).map_err(|_| Error::invalid(format!("session_gap of {NAME} cannot be negative")))?;
        let rule = Rule {
            start: None,
            depth,
            reverse: call.args.boolean("reverse").unwrap_or(false),
            session_gap,
            collapse: call.args.boolean("collapse").unwrap_or(true),
        };
        let own = call.clone();
        Ok(call.once(async move { rows(&own, rule).await }))
    }
}

/// The paths of one stream of users.
struct Paths {
    start: Option<String>,
    rule: Rule,
    edges: Option<Edges>,
    visits: Vec<Visit>,
}

impl Collector for Paths {
    fn user(&mut self, rows: &mut Vec<Row>, names: &mut Names) {
        let rule = Rule { start: self.start.as_ref().map(|start| names.events.intern(start)), ..self.rule };
        self.visits.clear();
        self.visits.extend(rows.iter().filter_map(|row| Some(Visit { time: row.time, event: row.event? })));
        self.edges.get_or_insert_with(|| Edges::new(rule)).user(&self.visits);
    }

    fn heap_bytes(&self) -> usize {
        self.edges.as_ref().map_or(0, Edges::heap_bytes) + self.visits.capacity() * size_of::<Visit>()
    }
}

async fn rows(call: &Call, rule: Rule) -> DfResult<RecordBatch> {
    let source = event_source(call, vec![], None).await?;
    let start = call.args.text("start").map(str::to_owned);
    let make = || Paths { start: start.clone(), rule, edges: None, visits: vec![] };
    let streams = each_user(call, &source, make).await?;
    let (events, numbers) = renumber(streams.iter().map(|(_, names)| &names.events));
    let mut all = Edges::new(rule);
    for ((paths, _), numbers) in streams.into_iter().zip(&numbers) {
        if let Some(edges) = paths.edges {
            all.merge(edges.renumbered(numbers));
        }
    }
    let mut edges: Vec<(Key, Edge)> = all.into_edges().collect();
    edges.sort_unstable_by_key(|((step, source, target), _)| (*step, *source, target.is_none(), *target));
    table(&events, &mut edges)
}

fn table(events: &[String], edges: &mut [(Key, Edge)]) -> DfResult<RecordBatch> {
    let name = |event: u32| events.get(event as usize).map(String::as_str);
    let median = |edge: &mut Edge| {
        let mut durations: Vec<i64> = edge.durations.iter().map(|duration| i64::try_from(*duration).unwrap_or(i64::MAX)).collect();
        durations.sort_unstable();
        quantile_seconds(&durations, 0.5)
    };
    let count = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let medians: Float64Array = edges.iter_mut().map(|(_, edge)| median(edge)).collect();
    let arrays: Vec<ArrayRef> = vec![
        Arc::new(edges.iter().map(|(key, _)| Some(i64::from(key.0))).collect::<Int64Array>()),
        Arc::new(edges.iter().map(|(key, _)| name(key.1)).collect::<StringArray>()),
        Arc::new(edges.iter().map(|(key, _)| key.2.and_then(name)).collect::<StringArray>()),
        Arc::new(edges.iter().map(|(_, edge)| Some(count(edge.users))).collect::<Int64Array>()),
        Arc::new(edges.iter().map(|(_, edge)| Some(count(edge.sessions))).collect::<Int64Array>()),
        Arc::new(medians),
    ];
    Ok(RecordBatch::try_new(columns(), arrays)?)
}
