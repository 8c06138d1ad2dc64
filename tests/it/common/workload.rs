//! Everything that writes, at once, and a log of what was acknowledged: whatever happens to the server, [`Workload::check`] tells
//! whether it kept that.
//!
//! A batch is one statement; its number says how it is sent and which rows it has, so that it can be sent again when nobody knows
//! what became of it. Users from [`DOOMED`] on are there to be erased.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::SinkExt;
use parking_lot::Mutex;
use tokio_postgres::{Client, Error};

use super::server::{connect, query, seen, told};

const DOOMED: u64 = 1_000_000;
const FILE_ROWS: u64 = 500;
/// Rows of a batch of the table without ids.
const PLAIN_ROWS: u64 = 10;
/// SQLSTATEs that a statement may end with while others write: changed by others; a file of an older version is gone.
const EXPECTED: [&str; 2] = ["40001", "58030"];

/// Writers, and what they know.
#[derive(Clone, Default)]
pub(crate) struct Workload {
    log: Arc<Mutex<Log>>,
    next: Arc<AtomicU64>,
}

#[derive(Default)]
struct Log {
    events: BTreeMap<u64, State>,
    plain: BTreeMap<u64, State>,
    doomed: BTreeMap<u64, Fate>,
    links: BTreeMap<u64, State>,
    audiences: BTreeMap<u64, State>,
    /// How many statements of each kind were acknowledged.
    done: BTreeMap<&'static str, u64>,
    errors: BTreeMap<String, u64>,
    /// What must not be.
    faults: Vec<String>,
}

/// What is known of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// It was sent, and no answer came.
    Unknown,
    /// It was acknowledged, or seen after a restart.
    Kept,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Unknown,
    /// The user's events were acknowledged.
    There,
    /// Somebody asked for the erasure.
    Leaving,
    /// The erasure was acknowledged.
    Gone,
}

impl Workload {
    /// Makes the tables. A CSV file for the external one goes into the data directory.
    pub(crate) async fn prepare(&self, data: &Path, client: &Client) {
        let mut text = String::from("n\n");
        (0..FILE_ROWS).for_each(|n| text.push_str(&format!("{n}\n")));
        std::fs::create_dir_all(data.join("files")).unwrap();
        std::fs::write(data.join("files/incoming.csv"), text).unwrap();
        for statement in [
            "CREATE EXTERNAL TABLE incoming STORED AS CSV LOCATION 'incoming.csv' OPTIONS ('format.has_header' 'true')",
            "CREATE TABLE events (event_id bigint, user_id bigint, event_time timestamp, batch bigint, price double precision) \
             WITH (user_column = user_id, time_column = event_time, event_id = event_id)",
            "CREATE TABLE plain (batch bigint, n bigint)",
            "CREATE MATERIALIZED VIEW counts WITH (refresh = 'after ingest') AS \
             SELECT user_id, count(*) AS n, sum(price) AS spent FROM events GROUP BY user_id",
            "CREATE MATERIALIZED VIEW totals AS SELECT batch, count(*) AS n FROM plain GROUP BY batch",
        ] {
            seen(client, statement).await;
        }
    }

    /// Starts every writer; they end when the server does. Nothing waits for them.
    pub(crate) fn begin(&self, port: u16) -> Vec<tokio::task::JoinHandle<()>> {
        let unsure: Vec<u64> =
            self.log.lock().events.iter().filter(|(_, state)| **state == State::Unknown).map(|(batch, _)| *batch).collect();
        let mut tasks = Vec::new();
        let mut start = |work: fn(Self, Client, Vec<u64>) -> Work, unsure: Vec<u64>| {
            let own = self.clone();
            tasks.push(tokio::spawn(async move {
                let Ok(client) = connect(port).await else { return };
                work(own, client, unsure).await;
            }));
        };
        let (first, second) = unsure.split_at(unsure.len() / 2);
        start(|own, client, unsure| Box::pin(own.write_events(client, unsure)), first.to_vec());
        start(|own, client, unsure| Box::pin(own.write_events(client, unsure)), second.to_vec());
        start(|own, client, _| Box::pin(own.write_plain(client)), Vec::new());
        start(|own, client, _| Box::pin(own.maintain(client)), Vec::new());
        start(|own, client, _| Box::pin(own.refresh(client)), Vec::new());
        start(|own, client, _| Box::pin(own.erase(client)), Vec::new());
        start(|own, client, _| Box::pin(own.define(client)), Vec::new());
        start(|own, client, _| Box::pin(own.read(client)), Vec::new());
        tasks
    }

    /// Looks at everything after a restart.
    ///
    /// # Errors
    /// What was lost, or is there and must not be.
    pub(crate) async fn check(&self, client: &Client) -> Result<(), String> {
        self.check_events(client).await;
        self.check_plain(client).await;
        self.check_erased(client).await;
        self.check_views(client).await;
        self.check_definitions(client).await;
        let faults = std::mem::take(&mut self.log.lock().faults);
        if faults.is_empty() { Ok(()) } else { Err(faults.join("\n")) }
    }

    /// Waits until one more erasure is acknowledged, or for so long.
    pub(crate) async fn until_erased(&self, most: Duration) {
        let erased = || self.log.lock().done.get("erase_user").copied().unwrap_or(0);
        let (before, began) = (erased(), Instant::now());
        while erased() == before && began.elapsed() < most {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// What was acknowledged so far, and what was refused.
    pub(crate) fn report(&self) -> String {
        let log = self.log.lock();
        format!("acknowledged: {:?}\nrefused: {:?}", log.done, log.errors)
    }

    /// A number nobody has.
    fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn fault(&self, what: String) {
        self.log.lock().faults.push(what);
    }

    /// Notes how a statement ended. `None`: the server is gone.
    fn ended<T>(&self, kind: &'static str, outcome: Result<T, Error>) -> Option<bool> {
        let mut log = self.log.lock();
        match outcome {
            Ok(_) => {
                *log.done.entry(kind).or_default() += 1;
                Some(true)
            }
            Err(error) => {
                let code = error.code()?.code().to_owned();
                if !EXPECTED.contains(&code.as_str()) {
                    log.faults.push(format!("{kind}: {}", told(&error)));
                }
                *log.errors.entry(format!("{kind} {code}")).or_default() += 1;
                Some(false)
            }
        }
    }

    async fn write_events(self, client: Client, unsure: Vec<u64>) {
        let fresh = std::iter::repeat_with(|| self.number());
        for batch in unsure.into_iter().chain(fresh) {
            self.log.lock().events.entry(batch).or_insert(State::Unknown);
            let (kind, outcome) = send_events(&client, batch).await;
            match self.ended(kind, outcome) {
                Some(true) => drop(self.log.lock().events.insert(batch, State::Kept)),
                Some(false) => {}
                None => return,
            }
        }
    }

    async fn write_plain(self, client: Client) {
        loop {
            let batch = self.number();
            self.log.lock().plain.insert(batch, State::Unknown);
            let (kind, outcome) = match batch % 2 {
                0 => {
                    let insert = format!("INSERT INTO plain SELECT {batch}, n FROM generate_series(1, {PLAIN_ROWS}) g(n)");
                    ("insert", query(&client, &insert).await.map(drop))
                }
                _ => {
                    let lines = (1..=PLAIN_ROWS).map(|n| format!("{batch},{n}\n")).collect();
                    ("copy", copy(&client, "COPY plain FROM STDIN (FORMAT csv)", lines).await)
                }
            };
            match self.ended(kind, outcome) {
                Some(true) => drop(self.log.lock().plain.insert(batch, State::Kept)),
                Some(false) => {}
                None => return,
            }
        }
    }

    async fn maintain(self, client: Client) {
        // A server is killed before it comes round to all of them: each time begins with another.
        let first = self.log.lock().plain.len();
        for (kind, statement) in [
            ("optimize", "OPTIMIZE events"),
            ("optimize", "OPTIMIZE plain"),
            ("vacuum", "VACUUM RETAIN 0 HOURS"),
            ("optimize", "OPTIMIZE counts"),
        ]
        .into_iter()
        .cycle()
        .skip(first % 4)
        {
            if self.ended(kind, query(&client, statement).await).is_none() {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }

    async fn refresh(self, client: Client) {
        for view in ["counts", "totals"].into_iter().cycle() {
            if self.ended("refresh", query(&client, &format!("REFRESH MATERIALIZED VIEW {view}")).await).is_none() {
                return;
            }
        }
    }

    /// Takes users away who have events, and gives events to others.
    async fn erase(self, client: Client) {
        loop {
            let there = self.log.lock().doomed.iter().find(|(user, fate)| **fate == Fate::There && *user % 5 != 0).map(|(user, _)| *user);
            let Some(user) = there else {
                match self.give_events(&client, DOOMED + self.number()).await {
                    Some(_) => continue,
                    None => return,
                }
            };
            self.log.lock().doomed.insert(user, Fate::Leaving);
            match self.ended("erase_user", query(&client, &format!("SELECT * FROM erase_user({user})")).await) {
                Some(true) => drop(self.log.lock().doomed.insert(user, Fate::Gone)),
                Some(false) => continue,
                None => return,
            }
            // Suppressed: these must not come in again.
            if self.ended("insert", query(&client, &events_of(user)).await).is_none() {
                return;
            }
            if self.ended("suppress_user", query(&client, &format!("SELECT * FROM suppress_user({})", user + DOOMED)).await).is_none() {
                return;
            }
            // The next one is there before a kill, so that the next server begins with an erasure.
            if self.give_events(&client, DOOMED + self.number()).await.is_none() {
                return;
            }
        }
    }

    async fn give_events(&self, client: &Client, user: u64) -> Option<bool> {
        self.log.lock().doomed.insert(user, Fate::Unknown);
        let given = self.ended("insert", query(client, &events_of(user)).await)?;
        if given {
            self.log.lock().doomed.insert(user, Fate::There);
        }
        Some(given)
    }

    /// Links, and audiences.
    async fn define(self, client: Client) {
        loop {
            let n = self.number();
            self.log.lock().links.insert(n, State::Unknown);
            match self.ended("link_ids", query(&client, &format!("SELECT * FROM link_ids('web {n}', 'app {n}')")).await) {
                Some(true) => drop(self.log.lock().links.insert(n, State::Kept)),
                Some(false) => {}
                None => return,
            }
            self.log.lock().audiences.insert(n, State::Unknown);
            let create = format!("CREATE AUDIENCE a{n} AS SELECT {n} AS user_id UNION ALL SELECT user_id FROM events WHERE user_id < 20");
            match self.ended("create audience", query(&client, &create).await) {
                Some(true) => drop(self.log.lock().audiences.insert(n, State::Kept)),
                Some(false) => {}
                None => return,
            }
            let old = self.log.lock().audiences.iter().find(|(_, state)| **state == State::Kept).map(|(n, _)| *n);
            let Some(old) = old.filter(|_| self.log.lock().audiences.len() > 5) else { continue };
            self.log.lock().audiences.insert(old, State::Unknown);
            match self.ended("drop audience", query(&client, &format!("DROP AUDIENCE a{old}")).await) {
                Some(true) => drop(self.log.lock().audiences.remove(&old)),
                Some(false) => {}
                None => return,
            }
        }
    }

    /// Looks while others write: batches are whole at any time.
    async fn read(self, client: Client) {
        let halves = format!(
            "SELECT (SELECT count(*) FROM (SELECT batch, count(*) AS n FROM plain GROUP BY batch) p WHERE n <> {PLAIN_ROWS}), \
             (SELECT count(*) - count(DISTINCT event_id) FROM events)"
        );
        loop {
            let outcome = query(&client, &halves).await;
            if let Ok(rows) = &outcome
                && rows != &["0|0"]
            {
                self.fault(format!("a reader saw {rows:?} instead of whole batches"));
            }
            if self.ended("select", outcome).is_none() {
                return;
            }
        }
    }

    async fn check_events(&self, client: &Client) {
        let text = format!(
            "SELECT batch, count(*), count(DISTINCT event_id), min(event_id), max(event_id) FROM events WHERE user_id < {DOOMED} GROUP BY batch"
        );
        let mut found = BTreeMap::new();
        for row in seen(client, &text).await {
            let (batch, rest) = row.split_once('|').unwrap();
            found.insert(batch.parse::<u64>().unwrap(), rest.to_owned());
        }
        let refused = "SELECT batch, count(*) FROM events_quarantine WHERE user_id IS NULL GROUP BY batch";
        let refused: BTreeSet<u64> =
            seen(client, refused).await.iter().map(|row| row.split('|').next().unwrap().parse().unwrap()).collect();
        let mut log = self.log.lock();
        let Log { events, faults, .. } = &mut *log;
        for (batch, rest) in &found {
            let rows = rows_of(*batch);
            let whole = format!("{rows}|{rows}|{}|{}", batch * 1000, batch * 1000 + rows - 1);
            if *rest != whole {
                faults.push(format!("batch {batch} is not whole: {rest} instead of {whole}"));
            }
            if events.insert(*batch, State::Kept).is_none() {
                faults.push(format!("batch {batch} was never sent"));
            }
            if has_refused(*batch) && !refused.contains(batch) {
                faults.push(format!("batch {batch}: its row without a user is not in the quarantine"));
            }
        }
        let lost = events.iter().filter(|(batch, state)| **state == State::Kept && !found.contains_key(*batch));
        faults.extend(lost.map(|(batch, _)| format!("batch {batch} of events was acknowledged and is lost")));
        faults.extend(refused.iter().filter(|batch| !has_refused(**batch)).map(|batch| format!("batch {batch} has nothing to refuse")));
    }

    async fn check_plain(&self, client: &Client) {
        let mut found = BTreeMap::new();
        for row in seen(client, "SELECT batch, count(*), count(DISTINCT n), sum(n) FROM plain GROUP BY batch").await {
            let (batch, rest) = row.split_once('|').unwrap();
            found.insert(batch.parse::<u64>().unwrap(), rest.to_owned());
        }
        let mut log = self.log.lock();
        let Log { plain, faults, .. } = &mut *log;
        let whole = format!("{PLAIN_ROWS}|{PLAIN_ROWS}|{}", PLAIN_ROWS * (PLAIN_ROWS + 1) / 2);
        for (batch, rest) in &found {
            if *rest != whole {
                faults.push(format!("batch {batch} of plain is not whole: {rest}"));
            }
            if plain.insert(*batch, State::Kept).is_none() {
                faults.push(format!("batch {batch} of plain was not there before, or never sent"));
            }
        }
        let lost = plain.iter().filter(|(batch, state)| **state == State::Kept && !found.contains_key(*batch));
        faults.extend(lost.map(|(batch, _)| format!("batch {batch} of plain was acknowledged and is lost")));
        // Nobody sends them again: they must not come by themselves.
        plain.retain(|_, state| *state == State::Kept);
    }

    async fn check_erased(&self, client: &Client) {
        let places = ["events", "events_quarantine", "counts"]
            .map(|place| format!("SELECT DISTINCT user_id FROM {place} WHERE user_id >= {DOOMED}"));
        for (at, text) in places.iter().enumerate() {
            let found: BTreeSet<u64> = seen(client, text).await.iter().map(|user| user.parse().unwrap()).collect();
            let mut log = self.log.lock();
            let Log { doomed, faults, .. } = &mut *log;
            faults.extend(
                found
                    .iter()
                    .filter(|user| doomed.get(*user) == Some(&Fate::Gone))
                    .map(|user| format!("erased user {user} is back: {text}")),
            );
            if at == 0 {
                let lost = doomed.iter().filter(|(user, fate)| **fate == Fate::There && !found.contains(*user));
                faults.extend(lost.map(|(user, _)| format!("the events of user {user} were acknowledged and are lost")));
            }
        }
    }

    async fn check_views(&self, client: &Client) {
        for (view, fresh) in [
            ("counts", "SELECT user_id, count(*) AS n, sum(price) AS spent FROM events GROUP BY user_id"),
            ("totals", "SELECT batch, count(*) AS n FROM plain GROUP BY batch"),
        ] {
            seen(client, &format!("REFRESH MATERIALIZED VIEW {view}")).await;
            let mut kept = seen(client, &format!("SELECT * FROM {view}")).await;
            let mut fresh = seen(client, fresh).await;
            kept.sort();
            fresh.sort();
            if kept != fresh {
                self.fault(format!("{view} has {} rows, and its query other {}", kept.len(), fresh.len()));
            }
        }
    }

    async fn check_definitions(&self, client: &Client) {
        let links: BTreeSet<String> = seen(client, "SELECT a || '|' || b FROM ml.identity_links").await.into_iter().collect();
        let audiences = "SELECT name, users FROM ml.audiences";
        let audiences: BTreeSet<u64> =
            seen(client, audiences).await.iter().map(|row| row[1..].split('|').next().unwrap().parse().unwrap()).collect();
        let read = audiences
            .iter()
            .map(|n| format!("SELECT user_id FROM audience('a{n}') WHERE user_id = {n}"))
            .collect::<Vec<_>>()
            .join(" UNION ALL ");
        let members = if read.is_empty() { 0 } else { seen(client, &read).await.len() };
        let mut log = self.log.lock();
        let log = &mut *log;
        for (n, state) in &log.links {
            let there = links.contains(&format!("app {n}|web {n}")) || links.contains(&format!("web {n}|app {n}"));
            if *state == State::Kept && !there {
                log.faults.push(format!("link {n} was acknowledged and is lost"));
            }
        }
        if members != audiences.len() {
            log.faults.push(format!("of {} audiences {members} have their own member", audiences.len()));
        }
        for (n, state) in &log.audiences {
            if *state == State::Kept && !audiences.contains(n) {
                log.faults.push(format!("audience a{n} was acknowledged and is lost"));
            }
        }
        log.faults.extend(
            audiences.iter().filter(|n| !log.audiences.contains_key(*n)).map(|n| format!("audience a{n} is back, or was never made")),
        );
        log.audiences = audiences.iter().map(|n| (*n, State::Kept)).collect();
    }
}

type Work = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

/// Rows of a batch of events that are events.
fn rows_of(batch: u64) -> u64 {
    match batch % 3 {
        0 => 20,
        1 => 200,
        _ => FILE_ROWS,
    }
}

/// Whether a batch has a row without a user besides.
fn has_refused(batch: u64) -> bool {
    batch.is_multiple_of(12)
}

fn events_of(user: u64) -> String {
    format!("INSERT INTO events SELECT {user} * 1000000 + n, {user}, TIMESTAMP '2024-03-01', NULL, 1, NULL FROM generate_series(1, 5) g(n)")
}

fn user_of(batch: u64, n: u64) -> u64 {
    (batch * 31 + n * 7919) % 997
}

async fn send_events(client: &Client, batch: u64) -> (&'static str, Result<(), Error>) {
    let first = batch * 1000;
    match batch % 3 {
        0 => {
            let mut rows: Vec<String> = (0..rows_of(batch))
                .map(|n| format!("({}, {}, TIMESTAMP '2024-01-01', {batch}, {}.5, NULL)", first + n, user_of(batch, n), n % 7))
                .collect();
            if has_refused(batch) {
                rows.push(format!("({}, NULL, TIMESTAMP '2024-01-01', {batch}, 1, NULL)", first + 999));
            }
            ("insert", query(client, &format!("INSERT INTO events VALUES {}", rows.join(", "))).await.map(drop))
        }
        1 => {
            let lines =
                (0..rows_of(batch)).map(|n| format!("{},{},2024-01-02,{batch},{}\n", first + n, user_of(batch, n), n % 5)).collect();
            ("copy", copy(client, "COPY events (event_id, user_id, event_time, batch, price) FROM STDIN (FORMAT csv)", lines).await)
        }
        _ => {
            let insert = format!(
                "INSERT INTO events SELECT {first} + n, (n * 7919) % 997, TIMESTAMP '2024-01-03', {batch}, n % 3, NULL FROM incoming"
            );
            ("insert from file", query(client, &insert).await.map(drop))
        }
    }
}

async fn copy(client: &Client, text: &str, lines: String) -> Result<(), Error> {
    let sink = client.copy_in::<_, Bytes>(text).await?;
    futures::pin_mut!(sink);
    sink.send(Bytes::from(lines)).await?;
    sink.finish().await.map(drop)
}
