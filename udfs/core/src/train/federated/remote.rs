//! Federated training between processes that share nothing but an [`Exchange`]: a folder, or a prefix of an object store.
//!
//! ```text
//! plan                       which training is on: its run, and what the workers need to read their rows
//! <run>/hello-<worker>       a worker: statistics of its rows, public keys
//! <run>/terms                the roster, the common encoder, everybody's public keys
//! <run>/call-<turn>          the common weights, and who is asked
//! <run>/update-<turn>-<worker>   what a worker hands over
//! <run>/end                  nobody is asked any more
//! ```
//!
//! Whoever waits looks again and again, and gives up in time. A worker that does not answer is left out of the round and not
//! waited for until its answer to the last call that named it is there. Where updates are masked the sum needs all of them:
//! the turn is called again without the late one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::envelope::{open, seal};
use super::sum::{Keys, Plain, SecureSum, Turn, add};
use super::{Exchange, Terms, Worker};
use crate::error::{Code, Error, Result};
use crate::features::dataset::Dataset;
use crate::features::options::Options;
use crate::features::statistics::TableStatistics;
use crate::models::Parameters;
use crate::train::fit::Watch;
use crate::train::{Part, Progress, candidates};

/// How often a waiting one looks.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// A worker gives up when the coordinator says nothing for so many times the time that workers are waited for.
const SILENCE: f64 = 20.0;

/// What a worker needs to know to read its rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Names this training among those before it.
    pub run: String,
    /// Workers that are waited for, the coordinator not counted.
    pub workers: u32,
    /// The label column.
    pub label: String,
    /// The columns to learn from, as the coordinator wrote them.
    pub columns: String,
    /// The options of the training.
    pub options: Options,
}

#[derive(Debug, Serialize, Deserialize)]
struct Hello {
    worker: String,
    statistics: TableStatistics,
    keys: Vec<Vec<u8>>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Roster {
    workers: Vec<String>,
    /// By worker, then by the other's place.
    keys: Vec<Vec<Vec<u8>>>,
    terms: Terms,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Calling {
    participants: Vec<usize>,
}

const PLAN: &str = "plan";

fn turn_name(turn: Turn) -> String {
    format!("{:06}-{:03}", turn.round, turn.attempt)
}

/// Looks until `look` finds something.
///
/// # Errors
/// `Cancelled`; whatever `look` says. `None` when the time is over.
fn wait<T>(until: Instant, cancel: &CancellationToken, mut look: impl FnMut() -> Result<Option<T>>) -> Result<Option<T>> {
    loop {
        if cancel.is_cancelled() {
            return Err(Error::cancelled());
        }
        if let Some(found) = look()? {
            return Ok(Some(found));
        }
        if Instant::now() >= until {
            return Ok(None);
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

fn after(seconds: f64) -> Instant {
    Instant::now() + Duration::from_secs_f64(seconds)
}

/// A message of this run; `None` when it is not there, or of another run.
fn read<T: DeserializeOwned>(exchange: &dyn Exchange, run: &str, name: &str) -> Result<Option<(T, Vec<u8>)>> {
    let Some(bytes) = exchange.read(name)? else { return Ok(None) };
    let (of, message, body) = open(name, &bytes)?;
    Ok((of == run).then_some((message, body)))
}

/// Whether a name can be a worker's.
///
/// # Errors
/// `InvalidParameter`.
pub fn check_name(name: &str) -> Result<()> {
    let fits = (1..=64).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if fits {
        return Ok(());
    }
    Err(Error::invalid(format!("\"{name}\" cannot be the name of a worker")).hint("It has from 1 to 64 letters, digits and underscores."))
}

/// The side that calls.
#[allow(missing_debug_implementations, reason = "holds an exchange")]
pub struct Coordinator<'a> {
    exchange: &'a dyn Exchange,
    plan: Plan,
    hellos: Vec<Hello>,
    /// Who is waited for.
    present: BTreeSet<usize>,
    /// The last turn that named a worker.
    asked: BTreeMap<usize, Turn>,
    /// The turn that was called last.
    last: Option<Turn>,
}

/// A turn that was called.
#[derive(Debug)]
pub(super) struct Called {
    turn: Turn,
    participants: Vec<usize>,
}

impl<'a> Coordinator<'a> {
    /// Says that a training is on, and waits for the workers: at least one must come.
    ///
    /// # Errors
    /// `NotReady` when nobody comes; `Cancelled`; 58030.
    pub fn open(exchange: &'a dyn Exchange, plan: Plan, wait_seconds: f64, cancel: &CancellationToken) -> Result<Self> {
        exchange.write(PLAN, seal(&plan.run, &plan, &[])?)?;
        let mut coordinator = Self { exchange, plan, hellos: Vec::new(), present: BTreeSet::new(), asked: BTreeMap::new(), last: None };
        match coordinator.gather_hellos(wait_seconds, cancel) {
            Ok(()) => Ok(coordinator),
            Err(error) => {
                coordinator.end()?;
                Err(error)
            }
        }
    }

    fn gather_hellos(&mut self, wait_seconds: f64, cancel: &CancellationToken) -> Result<()> {
        let (prefix, wanted) = (format!("{}/hello-", self.plan.run), self.plan.workers as usize);
        let come = || -> Result<Vec<String>> {
            let is_worker = |name: &String| name.strip_prefix(&prefix).is_some_and(|worker| check_name(worker).is_ok());
            Ok(self.exchange.names(&prefix)?.into_iter().filter(is_worker).collect())
        };
        let all = wait(after(wait_seconds), cancel, || come().map(|names| (names.len() >= wanted).then_some(names)))?;
        let names = all.map_or_else(come, Ok)?;
        for name in names {
            if let Some((hello, _)) = read::<Hello>(self.exchange, &self.plan.run, &name)? {
                self.hellos.push(hello);
            }
        }
        // Places follow from names, not from who was quick.
        self.hellos.sort_by(|a, b| a.worker.cmp(&b.worker));
        self.hellos.truncate(wanted);
        let masks = self.plan.options.federated.as_ref().is_some_and(|settings| settings.masks);
        let least = if masks { 2 } else { 1 };
        if self.hellos.len() < least {
            return Err(Error::new(Code::NotReady, format!("{} of {wanted} workers came", self.hellos.len()))
                .detail(format!("They were waited for {wait_seconds} seconds; at least {least} must come."))
                .hint("Workers call federated_join with the same model and exchange."));
        }
        self.present = (0..self.hellos.len()).collect();
        Ok(())
    }

    /// The workers that came, by place.
    #[must_use]
    pub fn workers(&self) -> Vec<&str> {
        self.hellos.iter().map(|hello| hello.worker.as_str()).collect()
    }

    /// What they told of their rows.
    #[must_use]
    pub fn statistics(&self) -> Vec<(String, TableStatistics)> {
        self.hellos.iter().map(|hello| (hello.worker.clone(), hello.statistics.clone())).collect()
    }

    /// Tells everybody the terms.
    ///
    /// # Errors
    /// 58030.
    pub fn announce(&self, terms: &Terms) -> Result<()> {
        let roster = Roster {
            workers: self.hellos.iter().map(|hello| hello.worker.clone()).collect(),
            keys: self.hellos.iter().map(|hello| hello.keys.clone()).collect(),
            terms: terms.clone(),
        };
        self.exchange.write(&self.name("terms"), seal(&self.plan.run, &roster, &[])?)
    }

    fn name(&self, name: &str) -> String {
        format!("{}/{name}", self.plan.run)
    }

    fn update_name(&self, turn: Turn, worker: usize) -> String {
        self.name(&format!("update-{}-{}", turn_name(turn), self.hellos[worker].worker))
    }

    fn call_turn(&mut self, turn: Turn, common: &Parameters) -> Result<Called> {
        let participants: Vec<usize> = self.present.iter().copied().collect();
        let calling = Calling { participants: participants.clone() };
        let bytes = seal(&self.plan.run, &calling, &common.to_safetensors()?)?;
        self.exchange.write(&self.name(&format!("call-{}", turn_name(turn))), bytes)?;
        for worker in &participants {
            self.asked.insert(*worker, turn);
        }
        if let Some(before) = self.last.replace(turn) {
            self.exchange.remove(&self.name(&format!("call-{}", turn_name(before))))?;
        }
        Ok(Called { turn, participants })
    }

    /// Asks everybody who is there for a round.
    ///
    /// # Errors
    /// `NotReady` when nobody is; 58030.
    pub(super) fn call(&mut self, round: u32, common: &Parameters) -> Result<Called> {
        // Whoever was late and has answered since is there again.
        for (worker, turn) in &self.asked {
            if !self.present.contains(worker) && self.exchange.read(&self.update_name(*turn, *worker))?.is_some() {
                self.present.insert(*worker);
            }
        }
        self.check_present(round)?;
        self.call_turn(Turn { round, attempt: 0 }, common)
    }

    fn check_present(&self, round: u32) -> Result<()> {
        let masks = self.plan.options.federated.as_ref().is_some_and(|settings| settings.masks);
        if self.present.len() >= if masks { 2 } else { 1 } {
            return Ok(());
        }
        Err(Error::new(Code::NotReady, format!("too few workers answer in round {round}")).detail(format!(
            "{} of {} are left.",
            self.present.len(),
            self.hellos.len()
        )))
    }

    /// Adds what the participants hand over to `sum`; says who was left out.
    ///
    /// # Errors
    /// `NotReady` when too few answer; `Cancelled`; 58030.
    pub(super) fn collect(
        &mut self,
        mut called: Called,
        common: &Parameters,
        sum: &mut [u64],
        cancel: &CancellationToken,
        notes: &mut Vec<String>,
    ) -> Result<()> {
        let settings = self.plan.options.federated.clone().ok_or_else(|| Error::internal("a federated training has no settings"))?;
        loop {
            let mut updates: BTreeMap<usize, Vec<u64>> = BTreeMap::new();
            let _all = wait(after(settings.wait_seconds), cancel, || {
                for worker in &called.participants {
                    if !updates.contains_key(worker)
                        && let Some(update) = self.update(called.turn, *worker, sum.len())?
                    {
                        updates.insert(*worker, update);
                    }
                }
                Ok((updates.len() == called.participants.len()).then_some(()))
            })?;
            let late: Vec<usize> = called.participants.iter().copied().filter(|worker| !updates.contains_key(worker)).collect();
            for worker in &late {
                self.present.remove(worker);
                notes.push(format!("worker {} was left out of round {}", self.hellos[*worker].worker, called.turn.round));
            }
            if late.is_empty() || !settings.masks {
                if updates.is_empty() {
                    self.check_present(called.turn.round)?;
                }
                updates.values().for_each(|update| add(sum, update));
                for worker in updates.keys() {
                    self.exchange.remove(&self.update_name(called.turn, *worker))?;
                }
                return Ok(());
            }
            self.check_present(called.turn.round)?;
            called = self.call_turn(Turn { attempt: called.turn.attempt + 1, ..called.turn }, common)?;
        }
    }

    /// What a worker hands over; a damaged update is none.
    fn update(&self, turn: Turn, worker: usize, length: usize) -> Result<Option<Vec<u64>>> {
        let name = self.update_name(turn, worker);
        let body = match read::<Calling>(self.exchange, &self.plan.run, &name) {
            Err(error) if error.code == Code::DataCorrupted => {
                tracing::warn!(%error, "an update is not used");
                return Ok(None);
            }
            other => other?,
        };
        let numbers = body.map(|(_, body)| body.as_chunks::<8>().0.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect::<Vec<_>>());
        Ok(numbers.filter(|numbers| numbers.len() == length))
    }

    /// Says that nobody is asked any more.
    ///
    /// # Errors
    /// 58030.
    pub fn end(&self) -> Result<()> {
        self.exchange.write(&self.name("end"), seal(&self.plan.run, &(), &[])?)?;
        for name in self.exchange.names(&self.name(""))? {
            if name != self.name("end") {
                self.exchange.remove(&name)?;
            }
        }
        Ok(())
    }
}

impl Drop for Coordinator<'_> {
    /// A coordinator that fails, or is cancelled, lets its workers go.
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            tracing::warn!(%error, "the workers of a federated training were not told that it ended");
        }
    }
}

/// Waits for a training that is on.
///
/// # Errors
/// `NotReady` when there is none in time; `Cancelled`; 58030.
pub fn await_plan(exchange: &dyn Exchange, wait_seconds: f64, cancel: &CancellationToken) -> Result<Plan> {
    let found = wait(after(wait_seconds), cancel, || {
        let Some(bytes) = exchange.read(PLAN)? else { return Ok(None) };
        let (run, plan, _) = open::<Plan>(PLAN, &bytes)?;
        Ok(exchange.read(&format!("{run}/end"))?.is_none().then_some(plan))
    })?;
    found.ok_or_else(|| {
        Error::new(Code::NotReady, "no federated training is on")
            .detail(format!("It was waited for {wait_seconds} seconds."))
            .hint("The coordinator calls train_profile_model with the option federated and the same exchange.")
    })
}

/// What a worker did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    /// Rounds that it trained in.
    pub rounds: u32,
    /// Rows that it trained on.
    pub rows: u64,
}

/// A worker that has told its statistics.
#[allow(missing_debug_implementations, reason = "holds keys")]
pub struct Joining<'a> {
    exchange: &'a dyn Exchange,
    plan: Plan,
    name: String,
    keys: Keys,
}

/// A worker that knows the terms.
#[allow(missing_debug_implementations, reason = "holds an exchange")]
pub struct Member<'a> {
    exchange: &'a dyn Exchange,
    plan: Plan,
    name: String,
    place: usize,
    sum: Box<dyn SecureSum>,
    /// What all know.
    pub terms: Terms,
}

impl<'a> Joining<'a> {
    /// Tells the coordinator of rows.
    ///
    /// # Errors
    /// `InvalidParameter` for a name that cannot be one; 58030.
    pub fn hello(exchange: &'a dyn Exchange, plan: Plan, name: &str, statistics: TableStatistics) -> Result<Self> {
        check_name(name)?;
        let keys = Keys::new(plan.workers as usize)?;
        let hello = Hello { worker: name.to_owned(), statistics, keys: keys.public.clone() };
        exchange.write(&format!("{}/hello-{name}", plan.run), seal(&plan.run, &hello, &[])?)?;
        Ok(Self { exchange, plan, name: name.to_owned(), keys })
    }

    /// Waits for the terms.
    ///
    /// # Errors
    /// `NotReady` when the training ended before, or began without this worker; `Cancelled`; 58030.
    pub fn terms(self, cancel: &CancellationToken) -> Result<Member<'a>> {
        let Self { exchange, plan, name, keys } = self;
        let settings = plan.options.federated.clone();
        let seconds = settings.as_ref().map_or(60.0, |settings| settings.wait_seconds);
        let found = wait(after(seconds * SILENCE), cancel, || {
            if exchange.read(&format!("{}/end", plan.run))?.is_some() {
                return Err(Error::new(Code::NotReady, "the federated training ended before its first round"));
            }
            Ok(read::<Roster>(exchange, &plan.run, &format!("{}/terms", plan.run))?.map(|(roster, _)| roster))
        })?;
        let roster = found.ok_or_else(silent)?;
        let Some(place) = roster.workers.iter().position(|worker| *worker == name) else {
            return Err(Error::new(Code::NotReady, "the federated training began without this worker")
                .detail(format!("Its workers are {}.", roster.workers.join(", "))));
        };
        let masks = settings.is_some_and(|settings| settings.masks);
        let sum: Box<dyn SecureSum> = if masks { Box::new(keys.agree(place, &roster.keys)?) } else { Box::new(Plain) };
        Ok(Member { exchange, plan, name, place, sum, terms: roster.terms })
    }
}

fn silent() -> Error {
    Error::new(Code::NotReady, "the coordinator of the federated training does not answer any more")
}

impl Member<'_> {
    /// Trains whenever it is asked, until the end. Blocks; the work runs on threads of its own.
    ///
    /// # Errors
    /// `NotReady` when the coordinator is silent; `Cancelled`; 58030.
    pub fn work(
        self,
        dataset: &Dataset,
        threads: usize,
        cancel: &CancellationToken,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<Joined> {
        candidates::in_pool(threads, move || self.rounds(dataset, cancel, progress))
    }

    fn rounds(self, dataset: &Dataset, cancel: &CancellationToken, progress: &(dyn Fn(Progress) + Send + Sync)) -> Result<Joined> {
        let Self { exchange, plan, name, place, sum, terms } = self;
        let seconds = terms.settings()?.wait_seconds;
        // The coordinator is at place 0 of the seeds.
        let hyper = terms.hyper(place + 1)?;
        let data = terms.data(dataset, (0..dataset.inputs.rows as u32).collect())?;
        let mut worker = Worker::new(&terms, &data, &hyper, place, sum)?;
        let watch = Watch {
            cancel,
            progress,
            deadline: None,
            keep_partial: false,
            metric: &|_| f64::NAN,
            part: Part::Whole,
            checkpoints: None,
            memory: None,
        };
        let mut joined = Joined { rounds: 0, rows: dataset.inputs.rows as u64 };
        let mut known: Option<(u32, Vec<u64>)> = None;
        let mut answered = String::new();
        loop {
            let next = wait(after(seconds * SILENCE), cancel, || next_call(exchange, &plan.run, &answered))?.ok_or_else(silent)?;
            let Some((call, turn)) = next else { return Ok(joined) };
            let Some((calling, body)) = read::<Calling>(exchange, &plan.run, &call)? else { continue };
            answered = call;
            if !calling.participants.contains(&place) {
                continue;
            }
            // Called anew, the round is hidden in another way but not trained again.
            let numbers = match known.take().filter(|(round, _)| *round == turn.round) {
                Some((_, numbers)) => numbers,
                None => {
                    joined.rounds += 1;
                    worker.train(&Parameters::from_safetensors(&body)?, turn.round, &watch)?
                }
            };
            let hidden = worker.hide(&numbers, turn, &calling.participants)?;
            let body: Vec<u8> = hidden.iter().flat_map(|number| number.to_le_bytes()).collect();
            exchange.write(&format!("{}/update-{}-{name}", plan.run, turn_name(turn)), seal(&plan.run, &calling, &body)?)?;
            known = Some((turn.round, numbers));
        }
    }
}

/// The newest call after `answered`; `Some(None)` at the end.
fn next_call(exchange: &dyn Exchange, run: &str, answered: &str) -> Result<Option<Option<(String, Turn)>>> {
    let prefix = format!("{run}/call-");
    let turn = |name: &str| {
        let (round, attempt) = name.strip_prefix(&prefix)?.split_once('-')?;
        Some(Turn { round: round.parse().ok()?, attempt: attempt.parse().ok()? })
    };
    let names = exchange.names(&prefix)?.into_iter().filter(|name| name.as_str() > answered);
    if let Some((turn, name)) = names.filter_map(|name| turn(&name).map(|turn| (turn, name))).max() {
        return Ok(Some(Some((name, turn))));
    }
    Ok(exchange.read(&format!("{run}/end"))?.is_some().then_some(None))
}
