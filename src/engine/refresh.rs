//! Refreshes materialized views: user by user where the query allows it, as a whole otherwise.
//!
//! Life of a refresh: the view's turn is taken → its query is planned, and what it reads is looked at → nothing has changed, or
//! new events came to one table of events and the query's rows about a user depend on that user's events alone
//! ([`crate::plan::rows_per_user`]): then the users of the new files are collected, the query runs over their events, and their rows
//! take the place of the old ones → otherwise the whole query runs → one commit → what was read is written down.
//!
//! Invariant: what is written down is never newer than what was read, so that a refresh that ends early is done again and
//! nothing is missed. Knows no SQL text: the catalog plans the query.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::stats::Precision;
use datafusion::common::{Column, ScalarValue};
use datafusion::execution::{SendableRecordBatchStream, SessionState, TaskContext};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use datafusion::physical_plan::execute_stream;
use futures::StreamExt;
use portrait_udfs::context::{ProfileInfo, ProfileInput, ProfileProvider};
use portrait_udfs::error::{Code, Error, Result};

use super::Engine;
use crate::catalog::{InputVersion, Materialized, RefreshPolicy, StoredMaterialized, StoredRefresh};
use crate::error::classify;
use crate::plan::{InputKind, Inputs, Rows, inputs, only_users, rows_per_user, user_of_scan};
use crate::storage::delta::DeltaTable;
use crate::storage::derived::{Replaced, replace_all, replace_users};
use crate::storage::user_set::{UserSet, among};
use crate::storage::{Role, TextType};

/// So many users with new events are always followed one by one; of a large view, a third of its rows are.
const USERS_MIN: u64 = 10_000;
/// Old versions of a view's rows are kept so long.
const VERSIONS_KEPT_MS: i64 = 24 * 3600 * 1000;
/// After so many versions the old ones are looked for.
const VACUUM_EVERY: u64 = 16;
/// How often the schedule is looked at.
const TICK: Duration = Duration::from_secs(1);
/// A view of a view of a view …: the last is refreshed after the first, up to here.
const DEPENDENTS_DEEP: usize = 16;

/// What a refresh did.
#[derive(Debug, Clone, PartialEq)]
pub struct Refreshed {
    /// Users whose rows were made anew; `None` = all.
    pub users: Option<u64>,
    /// Whether anything was done.
    pub changed: bool,
    /// Rows of the view.
    pub rows: u64,
    /// Why the whole query ran although rows were there.
    pub reason: Option<String>,
}

/// What is to be done.
enum Work {
    Nothing,
    Users { events: Arc<DeltaTable>, column: usize, users: Arc<UserSet>, key: usize },
    Whole(Option<String>),
}

impl Engine {
    /// Makes a materialized view, with its rows unless `populate` is false. Returns the rows and why new events will not be
    /// followed user by user.
    ///
    /// # Errors
    /// 42P07; whatever the query finds wrong. Then there is no view.
    pub async fn create_materialized(
        self: &Arc<Self>,
        state: &Arc<SessionState>,
        (name, owner): (&str, &str),
        (query, policy): (&str, RefreshPolicy),
        populate: bool,
    ) -> Result<(u64, Option<String>)> {
        // Before planning: what was read before users were erased must not be kept after it.
        let erasures = self.catalog.erasures_begun();
        let plan = self.catalog.plan_view(query, owner).await?;
        let read = self.inputs(&plan).await?;
        let (user, reason) = match follow(state, &plan, &read) {
            Ok(followed) => (followed.user, None),
            Err(reason) => (None, Some(reason)),
        };
        let table = self.catalog.make_derived(name, &columns(&plan), user.clone()).await?;
        let mut stored = StoredMaterialized { query: query.to_owned(), refresh: policy, reason: reason.clone(), last: None, error: None };
        let mut rows = 0;
        if populate {
            let begun = Instant::now();
            let _turn = table.ingest_turn().await;
            let done = self.run_whole(state, &plan, &table).await?;
            rows = done.rows;
            stored.last = Some(self.record(&read, done, None, begun)?);
        }
        self.catalog.create_materialized(table, stored, owner, erasures).await?;
        Ok((rows, reason))
    }

    /// `REFRESH MATERIALIZED VIEW`.
    ///
    /// # Errors
    /// 42P01, 42809; whatever the query finds wrong. Then the view has the rows that it had.
    pub async fn refresh_materialized(self: &Arc<Self>, state: &Arc<SessionState>, name: &str) -> Result<Refreshed> {
        let table = self.catalog.materialized(name)?.table;
        let _turn = table.ingest_turn().await;
        // Now that nobody else refreshes it.
        let view = self.catalog.materialized(name)?;
        let begun = Instant::now();
        let done = self.refresh_now(state, &view, begun).await;
        if let Err(error) = &done
            && error.code != Code::Cancelled
        {
            self.catalog.refresh_failed(&view, error).await?;
        }
        done
    }

    async fn refresh_now(self: &Arc<Self>, state: &Arc<SessionState>, view: &Materialized, begun: Instant) -> Result<Refreshed> {
        // Whoever asked for it, the view's rows are what its owner may see.
        let state = &self.acting_as(state, &view.owner)?;
        let plan = self.catalog.plan_view(&view.stored.query, &view.owner).await.map_err(|error| match error.detail {
            Some(_) => error,
            None => error.detail(format!("The query of materialized view \"{}\" no longer works.", view.name)),
        })?;
        same_columns(view, &plan)?;
        let read = self.inputs(&plan).await?;
        let followed = follow(state, &plan, &read);
        let work = self.work(view, &read, &followed).await?;
        let (done, users, why) = match work {
            Work::Nothing => {
                let Some(last) = view.stored.last.clone() else { return Err(Error::internal("a view without rows has nothing new")) };
                let (rows, refreshed_at_us, seconds) = (last.rows, chrono::Utc::now().timestamp_micros(), begun.elapsed().as_secs_f64());
                // The same rows may lie in other files now.
                let inputs = versions(&read);
                let refresh = StoredRefresh { refreshed_at_us, how: "nothing new".into(), users: Some(0), seconds, inputs, ..last };
                self.catalog.refreshed(view, refresh, followed.err()).await?;
                return Ok(Refreshed { users: Some(0), changed: false, rows, reason: None });
            }
            Work::Users { events, column, users, key } => {
                let count = users.len() as u64;
                let part = only_users(plan, &events, column, &users)?;
                (self.run_users(state, &part, view, &users, key).await?, Some(count), None)
            }
            Work::Whole(why) => (self.run_whole(state, &plan, &view.table).await?, None, why),
        };
        let refresh = self.record(&read, done, users, begun)?;
        self.catalog.refreshed(view, refresh, followed.err()).await?;
        if done.version % VACUUM_EVERY == 0
            && let Err(error) = view.table.vacuum(VERSIONS_KEPT_MS).await
        {
            tracing::warn!(view = %view.name, %error, "old versions not removed");
        }
        Ok(Refreshed { users, changed: true, rows: done.rows, reason: why })
    }

    /// What has to be done for the view to have its query's rows.
    async fn work(&self, view: &Materialized, read: &Inputs, followed: &std::result::Result<Followed, String>) -> Result<Work> {
        let Some(last) = &view.stored.last else { return Ok(Work::Whole(None)) };
        if let Some(reason) = &read.unsteady {
            return Ok(Work::Whole(Some(reason.clone())));
        }
        let now = versions(read);
        let models = self.models(read);
        if last.models != models {
            return Ok(Work::Whole(Some("another version of a model is active".to_owned())));
        }
        let changed: Vec<&InputVersion> =
            now.iter().filter(|input| input.contents.is_none() || last.inputs.iter().all(|before| before != *input)).collect();
        if changed.is_empty() && now.len() == last.inputs.len() {
            return Ok(Work::Nothing);
        }
        let followed = match followed {
            Ok(followed) => followed,
            Err(reason) => return Ok(Work::Whole(Some(reason.clone()))),
        };
        let [only] = changed.as_slice() else { return Ok(Work::Whole(Some("several of its inputs have changed".to_owned()))) };
        let whole = |why: &str| Ok(Work::Whole(Some(format!("{} \"{}\" {why}", only.kind, only.name))));
        let Some(events) = followed.tables.iter().find(|events| events.name == only.name) else { return whole("has changed") };
        let before = last.inputs.iter().find(|before| before.name == only.name);
        let (Some((was, since)), Some((is, until))) = (before.and_then(|before| before.table), only.table) else {
            return whole("has changed");
        };
        // What hides users is part of the contents, not of the version.
        let hiding = |input: &InputVersion| input.contents.as_ref().is_none_or(|contents| contents.matches(':').count() != 2);
        if was != is || since > until || hiding(only) || before.is_some_and(hiding) {
            return whole("is another one now, or users are being erased");
        }
        let Some(files) = events.table.added_since(since, until).await? else { return whole("lost rows, or its log is no longer kept") };
        let limit = (last.rows / 3).max(USERS_MIN);
        match users_of(&events.table, &self.catalog.runtime(), files, events.column, limit).await? {
            None => whole(&format!("has new events of more than {limit} users")),
            Some(users) if users.len() == 0 => Ok(Work::Nothing),
            Some(mut users) => {
                if read.asks_links {
                    users.add_persons(&self.ml.identities.people())?;
                }
                let (table, column) = (Arc::clone(&events.table), events.column);
                Ok(Work::Users { events: table, column, users: Arc::new(users), key: followed.key })
            }
        }
    }

    async fn run_whole(&self, state: &Arc<SessionState>, plan: &LogicalPlan, table: &Arc<DeltaTable>) -> Result<Replaced> {
        let key = match table.role() {
            Role::Derived { user: Some(user) } => table.schema().fields().find(user).map(|(index, _)| index),
            _ => None,
        };
        let rows = rows_of(state, plan, key, None).await?;
        replace_all(table, &self.catalog.runtime(), rows).await
    }

    async fn run_users(
        &self,
        state: &Arc<SessionState>,
        plan: &LogicalPlan,
        view: &Materialized,
        users: &Arc<UserSet>,
        key: usize,
    ) -> Result<Replaced> {
        let rows = rows_of(state, plan, None, Some((users, key))).await?;
        replace_users(&view.table, &self.catalog.runtime(), (users, key), rows).await
    }

    /// What a plan reads, in the versions of now.
    async fn inputs(&self, plan: &LogicalPlan) -> Result<Inputs> {
        // First the links: newer ones than those that are written down only make the next refresh do more.
        let links = self.ml.identities.people().version();
        let mut read = inputs(plan).await?;
        read.links = read.asks_links.then_some(links);
        Ok(read)
    }

    fn models(&self, read: &Inputs) -> Vec<String> {
        let version = |name: &String| self.ml.registry.resolve(name).map_or_else(|_| name.clone(), |model| model.to_string());
        read.models.iter().map(version).collect()
    }

    fn record(&self, read: &Inputs, done: Replaced, users: Option<u64>, begun: Instant) -> Result<StoredRefresh> {
        let watermarks = read.relations.iter().filter_map(|input| match &input.kind {
            InputKind::Managed(table, version) => watermark(table, Some(*version)),
            _ => None,
        });
        Ok(StoredRefresh {
            version: done.version,
            as_of_us: watermarks.max(),
            refreshed_at_us: chrono::Utc::now().timestamp_micros(),
            how: if users.is_some() { "users with new events" } else { "whole query" }.to_owned(),
            users,
            rows: done.rows,
            seconds: begun.elapsed().as_secs_f64(),
            inputs: versions(read),
            models: self.models(read),
        })
    }

    /// Refreshes the views that follow `table` at each ingest, and those that follow them. A view that cannot be refreshed is told
    /// to `failed`: the rows are in the table already.
    pub async fn refresh_followers(self: &Arc<Self>, state: &Arc<SessionState>, table: &str, failed: &(dyn Fn(&str, &Error) + Sync)) {
        let mut changed = vec![table.to_owned()];
        let mut done = BTreeSet::new();
        for _ in 0..DEPENDENTS_DEEP {
            let follows = |view: &Materialized| {
                view.stored.refresh == RefreshPolicy::AfterIngest
                    && view.stored.last.as_ref().is_some_and(|last| last.inputs.iter().any(|input| changed.contains(&input.name)))
            };
            let views: Vec<Materialized> = self.catalog.list_materialized().into_iter().filter(follows).collect();
            changed = Vec::new();
            for view in views.into_iter().filter(|view| done.insert(view.name.clone())) {
                match self.refresh_materialized(state, &view.name).await {
                    Ok(_) => changed.push(view.name),
                    Err(error) => failed(&view.name, &error),
                }
            }
            if changed.is_empty() {
                return;
            }
        }
    }

    /// Refreshes views when their time has come, until the engine is gone. Call once, on the server's runtime.
    pub fn start_schedule(self: &Arc<Self>) {
        let engine = Arc::downgrade(self);
        tokio::spawn(async move {
            // One that fails waits for its next time, too.
            let mut tried = HashMap::<String, i64>::new();
            loop {
                tokio::time::sleep(TICK).await;
                let Some(engine) = engine.upgrade() else { return };
                let now = chrono::Utc::now().timestamp_micros();
                for view in engine.catalog.list_materialized() {
                    if due(&view, tried.get(&view.name).copied(), now) {
                        tried.insert(view.name.clone(), now);
                        engine.refresh_in_background(&view).await;
                    }
                }
            }
        });
    }

    async fn refresh_in_background(self: &Arc<Self>, view: &Materialized) {
        let (own, name, owner) = (Arc::clone(self), view.name.clone(), view.owner.clone());
        let work = async move {
            let state = Arc::new(own.session(&owner)?.state()?);
            own.refresh_materialized(&own.acting_as(&state, &owner)?, &name).await
        };
        match self.runtime.run(work).await {
            Ok(done) if done.changed => tracing::info!(view = %view.name, rows = done.rows, users = ?done.users, "refreshed"),
            Ok(_) => {}
            Err(error) if error.code == Code::Shutdown => {}
            Err(error) => tracing::warn!(view = %view.name, %error, "not refreshed"),
        }
    }
}

/// Whether a view that is refreshed from time to time is to be refreshed.
fn due(view: &Materialized, tried_us: Option<i64>, now_us: i64) -> bool {
    let RefreshPolicy::Every(seconds) = view.stored.refresh else { return false };
    let wait = i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1_000_000);
    view.stored.last.as_ref().is_some_and(|last| last.refreshed_at_us.max(tried_us.unwrap_or(i64::MIN)).saturating_add(wait) <= now_us)
}

/// The rows of `plan`: sorted by a column, or those of some users alone.
async fn rows_of(
    state: &Arc<SessionState>,
    plan: &LogicalPlan,
    sorted_by: Option<usize>,
    only: Option<(&Arc<UserSet>, usize)>,
) -> Result<SendableRecordBatchStream> {
    let plan = match sorted_by {
        None => plan.clone(),
        Some(key) => {
            let column = Expr::Column(Column::from(plan.schema().qualified_field(key)));
            LogicalPlanBuilder::from(plan.clone())
                .sort(vec![column.sort(true, true)])
                .and_then(LogicalPlanBuilder::build)
                .map_err(classify)?
        }
    };
    let mut physical = state.create_physical_plan(&plan).await.map_err(classify)?;
    if let Some((users, key)) = only {
        let schema = physical.schema();
        let name = schema.field(key).name().clone();
        physical = among(physical, Arc::clone(users), &name, schema.fields().len()).map_err(classify)?;
    }
    execute_stream(physical, Arc::new(TaskContext::from(state.as_ref()))).map_err(classify)
}

/// A table of events whose new events can be followed user by user.
struct FollowedTable {
    name: String,
    table: Arc<DeltaTable>,
    /// Where its user is.
    column: usize,
}

/// How a query's rows follow new events.
struct Followed {
    tables: Vec<FollowedTable>,
    /// The column of the query's rows that says whose a row is.
    key: usize,
    user: Option<String>,
}

/// Whether the rows of `plan` can be followed user by user, for which tables, and by which column. The reason why not otherwise.
fn follow(state: &SessionState, plan: &LogicalPlan, read: &Inputs) -> std::result::Result<Followed, String> {
    if let Some(reason) = &read.unsteady {
        return Err(reason.clone());
    }
    let optimized = state.optimize(plan).map_err(|error| error.to_string())?;
    let events = read.relations.iter().filter_map(|input| match &input.kind {
        InputKind::Managed(table, _) => Some((input, table, table.event_indices()?.user)),
        _ => None,
    });
    let (mut tables, mut keys, mut reason) = (Vec::new(), None::<BTreeSet<usize>>, None);
    for (input, table, column) in events {
        if table.retention_us().is_some() {
            // One user's new event makes others' events too old.
            reason.get_or_insert_with(|| format!("events of \"{}\" grow too old", input.name));
            continue;
        }
        match rows_per_user(&optimized, &|scan| user_of_scan(scan, table)) {
            Ok(Rows::PerUser(columns)) if columns.is_empty() => {
                reason.get_or_insert_with(|| "no column of its rows says whose they are".to_owned());
            }
            Ok(Rows::PerUser(columns)) => {
                let common = match &keys {
                    Some(keys) => keys.intersection(&columns).copied().collect(),
                    None => columns,
                };
                if common.is_empty() {
                    continue;
                }
                keys = Some(common);
                tables.push(FollowedTable { name: input.name.clone(), table: Arc::clone(table), column });
            }
            Ok(Rows::Apart) => {}
            Err(found) => {
                reason.get_or_insert(found);
            }
        }
    }
    match keys.and_then(|keys| keys.first().copied()) {
        Some(key) => Ok(Followed { user: Some(plan.schema().field(key).name().clone()), tables, key }),
        None => Err(reason.unwrap_or_else(|| "it reads no table of events".to_owned())),
    }
}

/// The users in some files; `None` when there are more than `limit`.
async fn users_of(
    table: &Arc<DeltaTable>,
    env: &Arc<datafusion::execution::runtime_env::RuntimeEnv>,
    files: Vec<datafusion::datasource::listing::PartitionedFile>,
    column: usize,
    limit: u64,
) -> Result<Option<UserSet>> {
    let mut users = UserSet::new(table.schema().field(column).data_type(), env);
    if files.is_empty() {
        return Ok(Some(users));
    }
    let mut rows = crate::storage::events::read_files(table, env, files, &[column]).await?;
    while let Some(batch) = rows.next().await {
        users.add(batch.map_err(classify)?.column(0))?;
        if users.len() as u64 > limit {
            return Ok(None);
        }
    }
    Ok(Some(users))
}

/// The columns of a plan as a table keeps them: one of nothing but NULL is text, as in PostgreSQL.
fn columns(plan: &LogicalPlan) -> SchemaRef {
    let kept = |found: &DataType| if found.is_null() { DataType::Utf8 } else { found.clone() };
    let column = |field: &Arc<Field>| TextType::carry(field, Field::new(field.name(), kept(field.data_type()), true));
    Arc::new(Schema::new(plan.schema().fields().iter().map(column).collect::<Vec<_>>()))
}

/// A view keeps the columns that it was made with.
fn same_columns(view: &Materialized, plan: &LogicalPlan) -> Result<()> {
    let found = crate::storage::types::table_schema(&columns(plan), false)?;
    let kept = view.table.schema();
    let same = found.fields().len() == kept.fields().len()
        && found
            .fields()
            .iter()
            .zip(kept.fields())
            .all(|(found, kept)| found.name() == kept.name() && found.data_type() == kept.data_type());
    if same {
        return Ok(());
    }
    Err(Error::new(Code::DatatypeMismatch, format!("the query of materialized view \"{}\" has other columns now", view.name))
        .detail("A table or view that it reads was made anew with other columns.")
        .hint("Drop the materialized view and create it again."))
}

/// What was read, to be written down.
fn versions(read: &Inputs) -> Vec<InputVersion> {
    let version = |input: &crate::plan::Input| {
        let (kind, table) = match &input.kind {
            InputKind::Managed(table, version) => (kind_of(table.role()), Some((table.id(), *version))),
            InputKind::Older => ("table", None),
            InputKind::External => ("external table", None),
            InputKind::Other => ("relation", None),
        };
        InputVersion { name: input.name.clone(), kind: kind.to_owned(), contents: input.contents.clone(), table }
    };
    let links = read.links.map(|version| InputVersion {
        name: "ml.identity_links".into(),
        kind: "links between ids".into(),
        contents: Some(version.to_string()),
        table: None,
    });
    read.relations.iter().map(version).chain(links).collect()
}

fn kind_of(role: &Role) -> &'static str {
    match role {
        Role::Events(_) => "event table",
        Role::Derived { .. } => "materialized view",
        Role::Plain | Role::Quarantine { .. } => "table",
    }
}

/// The newest event of a table, as its files' statistics tell; `version` must be the latest that was seen, if it is given.
fn watermark(table: &DeltaTable, version: Option<u64>) -> Option<i64> {
    let snapshot = table.seen()?;
    if version.is_some_and(|version| version != snapshot.version) {
        return None;
    }
    let time = table.event_indices()?.time;
    match &snapshot.statistics.column_statistics.get(time)?.max_value {
        Precision::Exact(ScalarValue::TimestampMicrosecond(time, _)) | Precision::Inexact(ScalarValue::TimestampMicrosecond(time, _)) => {
            *time
        }
        _ => None,
    }
}

/// What functions see of materialized views.
pub(super) struct Profiles(pub(super) Weak<Engine>);

impl std::fmt::Debug for Profiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Profiles").finish_non_exhaustive()
    }
}

#[async_trait]
impl ProfileProvider for Profiles {
    async fn list(&self) -> Result<Vec<ProfileInfo>> {
        let Some(engine) = self.0.upgrade() else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        for view in engine.catalog.list_materialized() {
            found.push(engine.profile(&view).await?);
        }
        Ok(found)
    }
}

impl Engine {
    /// A view beside its inputs of now.
    async fn profile(&self, view: &Materialized) -> Result<ProfileInfo> {
        // A view whose query no longer works still has rows and a history.
        let planned = match self.catalog.plan_view(&view.stored.query, &view.owner).await {
            Ok(plan) => self.inputs(&plan).await.map(Some),
            Err(error) => Err(error),
        };
        let (now, error) = match planned {
            Ok(now) => (now, view.stored.error.clone()),
            Err(error) => (None, Some(error.message)),
        };
        let last = view.stored.last.as_ref();
        let (mut newest, mut pending, mut fresh) = (None, Some(0_u64), now.is_some() && last.is_some());
        let mut read = Vec::new();
        for (at, is) in now.iter().flat_map(versions).enumerate() {
            let was = last.and_then(|last| last.inputs.iter().find(|before| before.name == is.name));
            fresh &= was == Some(&is) && is.contents.is_some();
            let input = now.as_ref().and_then(|now| now.relations.get(at));
            if let Some(InputKind::Managed(table, version)) = input.map(|input| &input.kind) {
                newest = newest.max(watermark(table, None));
                let since = was.and_then(|was| was.table).filter(|(id, _)| *id == table.id()).map(|(_, version)| version);
                pending = pending.zip(since).map(|(pending, since)| pending + version.saturating_sub(since));
            }
            let shown = |input: &InputVersion| match input.table {
                Some((_, version)) => Some(version.to_string()),
                None => input.contents.as_ref().map(|contents| contents.rsplit(':').next().unwrap_or_default().chars().take(16).collect()),
            };
            read.push(ProfileInput { name: is.name.clone(), kind: is.kind.clone(), read: was.and_then(shown), newest: shown(&is) });
        }
        if let Some(now) = &now {
            let was = last.map(|last| last.models.clone()).unwrap_or_default();
            for (name, newest) in now.models.iter().zip(self.models(now)) {
                let base = name.split('@').next().unwrap_or_default();
                let read_version = was.iter().find(|model| model.split('@').next() == Some(base)).cloned();
                fresh &= read_version.as_ref() == Some(&newest);
                read.push(ProfileInput { name: base.to_owned(), kind: "model".into(), read: read_version, newest: Some(newest) });
            }
            fresh &= now.unsteady.is_none();
        }
        Ok(ProfileInfo {
            name: view.name.clone(),
            owner: view.owner.clone(),
            definition: view.stored.query.clone(),
            refresh: view.stored.refresh.to_string(),
            user: view.user().map(str::to_owned),
            incremental: view.stored.reason.is_none(),
            reason: view.stored.reason.clone(),
            last: last.map(StoredRefresh::info),
            fresh,
            newest_us: newest,
            pending_commits: pending.filter(|_| last.is_some()),
            error,
            inputs: read,
        })
    }
}
