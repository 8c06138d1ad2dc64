//! Forgets users: the catalog's tables and audiences, copies of histories, and what is to be said of models.
//!
//! Life of a call: the caller may erase → one erasure at a time → [`Eraser::begin`] hides the users durably → tables, dictionary
//! and copies lose them → models that were trained on those tables are named → the receipt. A failure leaves the users hidden;
//! the next call, or the next start, goes on.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use portrait_udfs::context::{ErasedFrom, ErasureInfo, ErasureProvider, Retained};
use portrait_udfs::error::Result;
use portrait_udfs::registry::{ContainsErased, ModelRef, OnErasure, Registry, VersionInfo};

use crate::catalog::{Eraser, Reads};
use crate::storage::HistoryIndex;

/// How long an erasure that goes on waits until queries can be planned; then models count as those that may hold the users.
const PLANNER_WAIT: Duration = Duration::from_millis(20);
const PLANNER_WAITS: u32 = 250;

/// What functions erase with.
#[derive(Clone)]
pub(super) struct Erasures {
    eraser: Eraser,
    histories: Arc<HistoryIndex>,
    models: Arc<Registry>,
}

impl std::fmt::Debug for Erasures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Erasures").finish_non_exhaustive()
    }
}

impl Erasures {
    pub(super) fn new(eraser: Eraser, histories: Arc<HistoryIndex>, models: Arc<Registry>) -> Self {
        Self { eraser, histories, models }
    }

    /// Goes on with what an interrupted process began.
    pub(super) fn resume(&self) {
        if !self.eraser.is_pending() {
            return;
        }
        let own = self.clone();
        tokio::spawn(async move {
            let _turn = own.eraser.turn().await;
            own.until_it_plans().await;
            match own.carry_out(true).await {
                Ok(done) => tracing::info!(erasure = done.id, "an erasure that was interrupted is done"),
                Err(error) => tracing::warn!(%error, "an erasure that was interrupted cannot go on; its users stay hidden"),
            }
        });
    }

    /// Everything after the users are hidden.
    async fn carry_out(&self, again: bool) -> Result<ErasureInfo> {
        self.eraser.erase_rows(again).await?;
        let copies = self.histories.remove_all()?;
        if copies > 0 {
            let (kind, object) = ("copies of histories".to_owned(), "all".to_owned());
            self.eraser.note(vec![ErasedFrom { kind, object, removed: copies, files: copies, remark: String::new() }]).await?;
        }
        self.note_models().await?;
        self.eraser.finish().await
    }

    /// Waits for whoever opens the engine to say how queries are planned, which comes right after.
    async fn until_it_plans(&self) {
        for _ in 0..PLANNER_WAITS {
            if self.eraser.can_plan() {
                return;
            }
            tokio::time::sleep(PLANNER_WAIT).await;
        }
    }

    /// Marks what is being trained while an erasure begins: it may have read the users' rows.
    async fn note_trainings(&self) -> Result<()> {
        for reference in self.models.list_training() {
            self.models.mark_erased(&reference, ContainsErased::Unknown).await?;
            let remark = "its training had begun before: it may learn from the users".to_owned();
            self.eraser.note(vec![of_model(&reference, remark)]).await?;
        }
        Ok(())
    }

    /// Marks versions that learned from the users, or may have: they keep what they learned.
    async fn note_models(&self) -> Result<()> {
        let Some((since_us, held)) = self.eraser.progress() else { return Ok(()) };
        for version in self.models.list_versions() {
            if version.info.as_ref().is_some_and(|info| info.created_at_us > since_us) {
                // Its training began while the users were hidden, or was marked when they were.
                continue;
            }
            let contains = self.contains(version.info.as_deref(), &held).await;
            let names = match self.models.manifest(&version.reference).await {
                Ok(manifest) => manifest.names_one(&|text| self.eraser.is_going(text)),
                // A damaged one is told by its state.
                Err(_) => false,
            };
            let contains = if names { ContainsErased::Yes } else { contains };
            if contains == ContainsErased::No {
                continue;
            }
            self.models.mark_erased(&version.reference, contains).await?;
            let (contains, policy) = self.models.erased(&version.reference);
            self.eraser.note(vec![of_model(&version.reference, remark(contains, policy, names))]).await?;
        }
        Ok(())
    }

    /// Whether a version learned from users who had rows in the tables `held`.
    async fn contains(&self, info: Option<&VersionInfo>, held: &BTreeSet<String>) -> ContainsErased {
        let Some(source) = info.and_then(|info| info.source.as_ref()) else { return ContainsErased::Unknown };
        match self.eraser.reads(&source.sql).await {
            Ok(reads) if !reads.tables.is_disjoint(held) => ContainsErased::Yes,
            Ok(Reads { others: false, .. }) => ContainsErased::No,
            Ok(_) | Err(_) => ContainsErased::Unknown,
        }
    }
}

fn of_model(reference: &ModelRef, remark: String) -> ErasedFrom {
    ErasedFrom { kind: "model".into(), object: reference.to_string(), removed: 0, files: 0, remark }
}

/// What a receipt says of a version.
fn remark(contains: ContainsErased, policy: OnErasure, names: bool) -> String {
    let learned = match contains {
        ContainsErased::Yes => "it learned from the users' events, and keeps that",
        _ => "it may have learned from the users: what it was trained on is not in managed tables, or not any more",
    };
    let then = match policy {
        OnErasure::Disclose => "it answers on: train it again, or drop it",
        OnErasure::Refuse => "it refuses answers from now on: train it again",
        OnErasure::Retrain => "it is to be trained again",
    };
    let files = if names { "; its files name a user among the values that it knows: drop the version" } else { "" };
    format!("{learned}; {then}{files}")
}

#[async_trait]
impl ErasureProvider for Erasures {
    async fn erase(&self, users: Vec<String>, suppress: bool, caller: &str) -> Result<ErasureInfo> {
        self.eraser.authorize(caller, "erase")?;
        let _turn = self.eraser.turn().await;
        let again = self.eraser.is_pending();
        let ids = self.eraser.all_ids(&users)?;
        self.eraser.begin(&ids, suppress, caller).await?;
        if ids.len() > users.len() {
            let remark = format!("{} ids were asked for; links between ids say that those persons have {}", users.len(), ids.len());
            let (kind, object, removed) = ("ids of persons".to_owned(), "all".to_owned(), ids.len() as u64);
            self.eraser.note(vec![ErasedFrom { kind, object, removed, files: 0, remark }]).await?;
        }
        self.note_trainings().await?;
        self.carry_out(again).await.map_err(|error| {
            let hint = "The users are in no answer any more. Erase any user, or start the server again, to go on.";
            if error.hint.is_some() { error } else { error.hint(hint) }
        })
    }

    async fn suppress(&self, users: Vec<String>, caller: &str) -> Result<u64> {
        self.eraser.authorize(caller, "suppress")?;
        self.eraser.suppress(users).await
    }

    async fn unsuppress(&self, users: Vec<String>, caller: &str) -> Result<u64> {
        self.eraser.authorize(caller, "suppress")?;
        self.eraser.unsuppress(users).await
    }

    fn list(&self) -> Vec<ErasureInfo> {
        self.eraser.list()
    }

    fn suppressed(&self) -> (u64, Vec<String>) {
        self.eraser.suppressed()
    }

    async fn apply_retention(&self, table: &str, as_of_us: Option<i64>, caller: &str) -> Result<Vec<Retained>> {
        let done = self.eraser.apply_retention(table, as_of_us, caller).await?;
        if done.iter().any(|table| table.removed > 0) {
            // Copies of older contents would keep the events until somebody asks for the same source again.
            self.histories.remove_all()?;
        }
        Ok(done)
    }
}
