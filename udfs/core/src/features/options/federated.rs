//! The option of federated training.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Given;
use super::learning::Fields;
use crate::error::{Error, Result};

/// The option `federated`: training over rows that stay with their owners (McMahan et al., 2017).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Federated {
    /// Sources of this process that take part as workers.
    pub sources: Vec<String>,
    /// The folder where other processes take part.
    pub exchange: Option<String>,
    /// How many other processes are waited for.
    pub workers: u32,
    /// Rounds at most.
    pub rounds: u32,
    /// Passes of each worker over its rows in a round.
    pub local_epochs: u32,
    /// How strongly a worker is held at the common weights (FedProx; Li et al., 2020); 0 = not at all.
    pub mu: f64,
    /// Statistics of fewer rows are not told.
    pub min_count: u32,
    /// Whether updates are hidden from the coordinator, which sees their sum alone.
    pub masks: bool,
    /// How long a worker is waited for.
    pub wait_seconds: f64,
}

const EXAMPLE: &str =
    "For example '{\"sources\": [\"shop_a\", \"shop_b\"], \"rounds\": 20}', or '{\"exchange\": \"exchange/\", \"workers\": 4}'.";

/// `{"sources": […]}` or `{"exchange": "path", "workers": 4}`, with the settings of the rounds.
pub(super) fn federated(given: &Given<'_>) -> Result<Option<Federated>> {
    let Some(value) = given.object()? else { return Ok(None) };
    let keys = ["sources", "exchange", "workers", "rounds", "local_epochs", "mu", "min_count", "secure_sum", "wait_seconds"];
    let fields = Fields::new(given.key, &value, &keys)?;
    let sources = fields.given("sources", sources)?.unwrap_or_default();
    let exchange = fields.given("exchange", |given| given.optional_text())?.flatten();
    let workers = fields.given("workers", |given| given.integer(1, 1000))?;
    match (&exchange, sources.len(), workers) {
        (None, 1.., None) => {}
        (Some(_), 0, Some(_)) => {}
        (Some(_), 0, None) => return Err(Error::invalid("option \"federated\" needs the number of \"workers\" to wait for").hint(EXAMPLE)),
        (None, 1.., Some(_)) => return Err(Error::invalid("\"workers\" of option \"federated\" belongs to \"exchange\"").hint(EXAMPLE)),
        _ => return Err(Error::invalid("option \"federated\" needs either \"sources\" or \"exchange\"").hint(EXAMPLE)),
    }
    let masks = fields.given("secure_sum", |given| given.one_of(&[("none", false), ("masks", true)]))?.unwrap_or(false);
    if masks && sources.len().max(workers.unwrap_or(0) as usize) < 2 {
        return Err(Error::invalid("masks hide nothing of a single worker").detail("The sum of one update is that update."));
    }
    Ok(Some(Federated {
        sources,
        exchange,
        workers: workers.unwrap_or(0),
        rounds: fields.given("rounds", |given| given.integer(1, 10_000))?.unwrap_or(20),
        local_epochs: fields.given("local_epochs", |given| given.integer(1, 100))?.unwrap_or(1),
        mu: fields.given("mu", |given| given.optional_number(0.0, 1000.0))?.flatten().unwrap_or(0.0),
        min_count: fields.given("min_count", |given| given.integer(1, 1_000_000))?.unwrap_or(5),
        masks,
        wait_seconds: fields.given("wait_seconds", |given| given.optional_number(0.1, 86_400.0))?.flatten().unwrap_or(60.0),
    }))
}

/// Sources as they are written in SQL: names, paths, queries. A query may hold commas, so that a list is a JSON array.
fn sources(given: &Given<'_>) -> Result<Vec<String>> {
    let expected = "a JSON array of from 1 to 1000 sources";
    let Some(Value::Array(listed)) = given.json() else { return Err(given.bad(expected)) };
    let listed: Option<Vec<String>> =
        listed.iter().map(|one| one.as_str().map(str::trim).filter(|one| !one.is_empty()).map(str::to_owned)).collect();
    listed.filter(|listed| (1..=1000).contains(&listed.len())).ok_or_else(|| given.bad(expected))
}
