//! Forgets users: the catalog's tables and audiences, copies of histories, and what is to be said of models.
//!
//! Life of a call: the caller may erase → one erasure at a time → [`Eraser::begin`] hides the users durably → tables, dictionary
//! and copies lose them → models that were trained on those tables are named → the receipt. A failure leaves the users hidden;
//! the next call, or the next start, goes on.

use std::sync::Arc;

use async_trait::async_trait;
use portrait_udfs::context::{ErasedFrom, ErasureInfo, ErasureProvider};
use portrait_udfs::error::Result;
use portrait_udfs::registry::Registry;

use crate::catalog::Eraser;
use crate::storage::HistoryIndex;

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
            self.eraser.note(vec![ErasedFrom { kind, object, removed: copies, files: copies, remark: String::new() }]);
        }
        self.eraser.note(self.trained());
        self.eraser.finish().await
    }

    /// Models that may have learned from the users: they keep what they learned.
    fn trained(&self) -> Vec<ErasedFrom> {
        let live = self.models.list_versions().into_iter().filter(|version| version.info.is_some());
        let row = |version: portrait_udfs::registry::VersionEntry| ErasedFrom {
            kind: "model".into(),
            object: version.reference.to_string(),
            removed: 0,
            files: 0,
            remark: "what it learned from the users' events stays in it: train it again, or drop it".into(),
        };
        live.map(row).collect()
    }
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
            self.eraser.note(vec![ErasedFrom { kind, object, removed, files: 0, remark }]);
        }
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
}
