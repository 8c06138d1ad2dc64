//! What a server counts, in the text format that Prometheus reads.
//!
//! Counters grow where things happen (the listener, the connections); what can be asked for (memory, trainings, models) is asked
//! for when somebody scrapes. Names follow Prometheus' conventions: `portrait_…`, base units, `_total` for what only grows.

use std::fmt;
use std::sync::atomic::AtomicI64;
use std::sync::{Arc, Weak};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::activity::Ended;
use crate::engine::Engine;

/// Bounds of durations, in seconds: from a look-up to a training.
const SECONDS: [f64; 14] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 600.0];

type Label = [(&'static str, &'static str); 1];
type Labels = [(&'static str, &'static str); 2];

/// The counters of one server.
pub(crate) struct Metrics {
    registry: Registry,
    connections: Gauge<i64, AtomicI64>,
    accepted: Counter,
    refused: Family<Label, Counter>,
    statements: Family<Labels, Counter>,
    seconds: Histogram,
    rows: Counter,
    cancels: Counter,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    pub(crate) fn new(engine: &Arc<Engine>) -> Self {
        let mut registry = Registry::with_prefix("portrait");
        let (connections, accepted, refused) = (Gauge::default(), Counter::default(), Family::<Label, Counter>::default());
        let (statements, rows, cancels) = (Family::<Labels, Counter>::default(), Counter::default(), Counter::default());
        let seconds = Histogram::new(SECONDS);
        registry.register("connections", "Clients that are logged in", connections.clone());
        registry.register("connections_accepted", "Clients that logged in", accepted.clone());
        registry.register("connections_refused", "Clients that were not let in, by SQLSTATE", refused.clone());
        registry.register("statements", "Statements that ended, by kind and outcome", statements.clone());
        registry.register("statement_seconds", "How long statements took", seconds.clone());
        registry.register("rows_sent", "Rows of statements that ended", rows.clone());
        registry.register("cancel_requests", "Cancel requests with the right key", cancels.clone());
        registry.register_collector(Box::new(Asked(Arc::downgrade(engine))));
        Self { registry, connections, accepted, refused, statements, seconds, rows, cancels }
    }

    /// A client logged in; it counts until the result is dropped.
    pub(crate) fn connected(&self) -> Connected {
        self.accepted.inc();
        self.connections.inc();
        Connected(self.connections.clone())
    }

    /// A client was not let in.
    pub(crate) fn refused(&self, sqlstate: &'static str) {
        self.refused.get_or_create(&[("sqlstate", sqlstate)]).inc();
    }

    /// A statement was cancelled by its key.
    pub(crate) fn cancelled(&self) {
        self.cancels.inc();
    }

    /// A statement ended.
    pub(crate) fn statement(&self, kind: &'static str, ended: Ended, took: Duration) {
        let outcome = match ended {
            Ended::Done(rows) => {
                self.rows.inc_by(rows);
                "00000"
            }
            Ended::Failed(sqlstate) => sqlstate,
        };
        self.statements.get_or_create(&[("kind", kind), ("sqlstate", outcome)]).inc();
        self.seconds.observe(took.as_secs_f64());
    }

    /// Everything as text.
    pub(crate) fn text(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

/// A client that is logged in.
#[derive(Debug)]
pub(crate) struct Connected(Gauge<i64, AtomicI64>);

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// What is asked of the engine when somebody scrapes.
struct Asked(Weak<Engine>);

impl fmt::Debug for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asked").finish_non_exhaustive()
    }
}

impl Collector for Asked {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Some(engine) = self.0.upgrade() else { return Ok(()) };
        let pool = engine.runtime().env().memory_pool.reserved();
        let mut gauge = |name: &str, help: &str, value: i64| -> Result<(), fmt::Error> {
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(value).encode(metric)
        };
        let bytes = |value: usize| i64::try_from(value).unwrap_or(i64::MAX);
        gauge("query_memory_bytes", "Memory that running queries have reserved", bytes(pool))?;
        gauge("query_memory_limit_bytes", "Memory that queries may reserve", bytes(engine.config().memory_limit))?;
        gauge("models", "Models that can be named", bytes(engine.ml().registry.list_models().len()))?;
        let jobs = engine.ml().jobs.list();
        gauge("trainings_running", "Trainings that run or wait", bytes(jobs.iter().filter(|job| !job.state.ended()).count()))?;
        gauge("relations", "Tables and views", bytes(engine.catalog().list().len()))?;
        gauge("store_writable", "1 while the store is this server's to write", i64::from(engine.catalog().may_write().is_ok()))?;
        if let Some(resident) = resident_bytes() {
            gauge("process_resident_memory_bytes", "Resident memory of the process", resident)?;
        }
        let metric = encoder.encode_descriptor("catalog_changes", "Changes of definitions", None, MetricType::Counter)?;
        ConstCounter::new(engine.catalog().changes()).encode(metric)
    }
}

/// What Linux says of this process.
fn resident_bytes() -> Option<i64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<i64>().ok().map(|kib| kib * 1024)
}
