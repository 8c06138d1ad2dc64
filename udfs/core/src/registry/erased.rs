//! What is known of versions that learned from users who were forgotten since, and what is to be done about it.
//!
//! A version's files never change, so both stand in the model's small record, like the active version: a policy for the
//! model, and for each version whether it holds such users. A version that was made of another one (compressed, warm
//! started) takes that over when it is published; one that is training while users are erased is marked as one that may
//! hold them. Nothing here can make a network forget: only another training can.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::index::{Index, Model};
use super::manifest::{Manifest, ModelRef, VersionInfo};
use super::open::Registry;
use crate::error::{Code, Error, Result};

/// Whether a version learned from users who were erased since.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContainsErased {
    /// It did not.
    #[default]
    No,
    /// It may have: what it was trained on cannot be told any more.
    Unknown,
    /// The users had rows in what it was trained on.
    Yes,
}

impl ContainsErased {
    /// As views show it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::No => "no",
            Self::Unknown => "unknown",
            Self::Yes => "yes",
        }
    }
}

/// What happens to a model that learned from users who are erased.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnErasure {
    /// It answers on; views and receipts say what it holds.
    #[default]
    Disclose,
    /// It answers no more.
    Refuse,
    /// It answers on; receipts ask for another training.
    Retrain,
}

impl OnErasure {
    /// As it is written in SQL.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Disclose => "disclose",
            Self::Refuse => "refuse",
            Self::Retrain => "retrain",
        }
    }

    /// Reads what SQL says.
    ///
    /// # Errors
    /// 22023.
    pub fn parse(text: &str) -> Result<Self> {
        [Self::Disclose, Self::Refuse, Self::Retrain]
            .into_iter()
            .find(|policy| policy.as_str() == text)
            .ok_or_else(|| Error::invalid(format!("\"{text}\" is not a policy")).detail("Policies are: disclose, refuse, retrain."))
    }
}

impl fmt::Display for OnErasure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Index {
    /// Whether a version that can be named holds erased users.
    fn contains_erased(&self, reference: &ModelRef) -> ContainsErased {
        self.models.get(&reference.id).map_or(ContainsErased::No, |model| model.contains_erased(reference.version))
    }

    /// What a new version takes over from those that it was made of.
    fn inherited(&self, info: &VersionInfo) -> ContainsErased {
        let warm = info.options.get("warm_from").and_then(serde_json::Value::as_str);
        let parents = info.compression.as_ref().map(|compression| compression.from.as_str()).into_iter().chain(warm);
        let known = parents.filter_map(|name| self.resolve(name).ok()).map(|parent| self.contains_erased(&parent));
        known.max().unwrap_or_default()
    }
}

impl Model {
    /// Whether a version holds erased users.
    pub(super) fn contains_erased(&self, version: u32) -> ContainsErased {
        self.state.erased.get(&version).copied().unwrap_or_default()
    }
}

impl Registry {
    /// Says what happens to a model that learned from users who are erased. Whether anything changed.
    ///
    /// # Errors
    /// 42704 for an unknown model; 58030.
    pub async fn set_policy(&self, name: &str, policy: OnErasure) -> Result<bool> {
        let _writer = self.writer.lock().await;
        let id = self.index.read().existing(name).map(|(id, _)| Arc::clone(id))?;
        let changed = self.change(&id, |model| {
            let mut state = model.state.as_ref().clone();
            let changed = std::mem::replace(&mut state.on_erasure, policy) != policy;
            Ok(changed.then_some(state))
        });
        Ok(changed.await?.1)
    }

    /// Notes that a version holds erased users, or may; what is known already is never made less.
    ///
    /// # Errors
    /// 58030.
    pub async fn mark_erased(&self, reference: &ModelRef, contains: ContainsErased) -> Result<()> {
        let _writer = self.writer.lock().await;
        self.mark(reference, contains).await
    }

    /// As [`mark_erased`](Self::mark_erased), for somebody who has the writer's lock.
    async fn mark(&self, reference: &ModelRef, contains: ContainsErased) -> Result<()> {
        let marked = self.change(&reference.id, |model| {
            if model.contains_erased(reference.version) >= contains {
                return Ok(None);
            }
            let mut state = model.state.as_ref().clone();
            state.erased.insert(reference.version, contains);
            Ok(Some(state))
        });
        marked.await.map(drop)
    }

    /// Marks a version that is about to appear by those that it was made of. The caller has the writer's lock.
    pub(super) async fn inherit_erased(&self, reference: &ModelRef, info: &VersionInfo) -> Result<()> {
        let contains = self.index.read().inherited(info);
        if contains == ContainsErased::No { Ok(()) } else { self.mark(reference, contains).await }
    }

    /// Versions that are being made right now.
    pub fn list_training(&self) -> Vec<ModelRef> {
        let index = self.index.read();
        let named = |(id, version): &(Arc<str>, u32)| {
            let name = index.models.get(id)?.state.name.as_str().into();
            Some(ModelRef { name, version: *version, id: Arc::clone(id) })
        };
        index.training.iter().filter_map(named).collect()
    }

    /// Whether a version holds erased users, and what its model's policy is; never waits.
    pub fn erased(&self, reference: &ModelRef) -> (ContainsErased, OnErasure) {
        let index = self.index.read();
        let policy = index.models.get(&reference.id).map(|model| model.state.on_erasure).unwrap_or_default();
        (index.contains_erased(reference), policy)
    }

    /// Succeeds when a version may answer questions.
    ///
    /// # Errors
    /// 55000 when it holds erased users, or may, and its model's policy is to refuse.
    pub fn may_answer(&self, reference: &ModelRef) -> Result<()> {
        let learned = match self.erased(reference) {
            (ContainsErased::No, _) | (_, OnErasure::Disclose | OnErasure::Retrain) => return Ok(()),
            (ContainsErased::Unknown, OnErasure::Refuse) => "may have learned",
            (ContainsErased::Yes, OnErasure::Refuse) => "learned",
        };
        Err(Error::new(Code::NotReady, format!("model \"{reference}\" {learned} from users who were erased since"))
            .detail("Its policy is to refuse answers then.")
            .hint(format!(
                "Train it again, or let it answer with SELECT set_model_policy('{}', 'disclose'). ml.model_versions has the statement.",
                reference.name
            )))
    }
}

impl Manifest {
    /// Whether one of the strings that the version knows by name (values of columns, classes) is one of those.
    #[must_use]
    pub fn names_one(&self, is: &dyn Fn(&str) -> bool) -> bool {
        let vocabularies = self.preprocessor.vocabularies();
        self.info.classes.iter().any(|class| is(class)) || vocabularies.iter().any(|known| known.strings().any(|(_, text)| is(text)))
    }
}
