//! What the registry holds, in memory: pure data, so that resolving a name never waits.
//!
//! A [`State`] record says what may change of a model; [`Index`] joins the newest record of each model with the
//! versions found. Nothing here reads or writes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::erased::{ContainsErased, OnErasure};
use super::manifest::{ModelRef, VersionInfo};
use crate::error::{Code, Error, Result};
use crate::kernels::nearest::nearest;

/// Characters a model name may have.
const NAME_LEN_MAX: usize = 128;

/// One row of `ml.models`.
#[derive(Debug, Clone)]
pub struct ModelInfo {
    /// Model name.
    pub name: String,
    /// The version that the bare name means.
    pub active_version: Option<u32>,
    /// `active`; `ready` when no version is active; `failed` when its files are damaged.
    pub state: &'static str,
    /// The role that owns it.
    pub owner: String,
    /// Bytes of the weights of all its versions.
    pub bytes: u64,
    /// Microseconds since 1970 UTC.
    pub created_at_us: i64,
    /// The active version, or the newest one; `None` when its manifest is damaged.
    pub version: Option<Arc<VersionInfo>>,
    /// Whether that version learned from users who were erased since.
    pub contains_erased: ContainsErased,
    /// What happens then.
    pub on_erasure: OnErasure,
}

/// One row of `ml.model_versions`.
#[derive(Debug, Clone)]
pub struct VersionEntry {
    /// What it is called now.
    pub reference: ModelRef,
    /// `active`, `ready` or `failed` (damaged).
    pub state: &'static str,
    /// What its manifest says; `None` when that is damaged.
    pub info: Option<Arc<VersionInfo>>,
    /// Why it is `failed`.
    pub message: Option<String>,
    /// Whether it learned from users who were erased since.
    pub contains_erased: ContainsErased,
}

/// What may change of a model; each change is the next record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    pub(super) format_version: u32,
    /// Tells two writers of the same sequence apart.
    pub(super) commit: String,
    pub(super) id: String,
    pub(super) sequence: u64,
    pub(super) name: String,
    /// Names it had before; their version numbers are not given out again.
    pub(super) previous_names: Vec<String>,
    pub(super) owner: String,
    pub(super) created_at_us: i64,
    pub(super) active: Option<u32>,
    /// Versions that were active before, the latest last.
    pub(super) activations: Vec<u32>,
    /// Versions below belong to a dropped model of this name.
    pub(super) first_version: u32,
    pub(super) dropped_versions: BTreeSet<u32>,
    pub(super) dropped: bool,
    /// What happens when users are erased that it learned from.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) on_erasure: OnErasure,
    /// Versions that hold erased users, or may.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) erased: BTreeMap<u32, ContainsErased>,
}

fn is_default(policy: &OnErasure) -> bool {
    *policy == OnErasure::default()
}

impl State {
    /// Whether `version` may be seen, if it has a manifest.
    pub(super) fn shows(&self, version: u32) -> bool {
        !self.dropped && version >= self.first_version && !self.dropped_versions.contains(&version)
    }
}

/// A model: its newest record, and what was found of its versions.
#[derive(Debug, Clone)]
pub(super) struct Model {
    pub(super) state: Arc<State>,
    /// Why the newest record cannot be read; `state` is then an older one.
    pub(super) damaged: Option<Error>,
    /// The highest number ever reserved.
    pub(super) reserved: u32,
    /// Versions with a manifest, also those that the state hides.
    pub(super) versions: BTreeMap<u32, Result<Arc<VersionInfo>>>,
}

impl Model {
    /// Versions that can be seen.
    pub(super) fn visible(&self) -> impl DoubleEndedIterator<Item = (u32, &Result<Arc<VersionInfo>>)> {
        self.versions.iter().filter(|(version, _)| self.state.shows(**version)).map(|(version, info)| (*version, info))
    }

    fn state_of(&self, version: u32) -> &'static str {
        match (self.versions.get(&version), self.state.active == Some(version)) {
            (Some(Ok(_)), true) => "active",
            (Some(Ok(_)), false) => "ready",
            _ => "failed",
        }
    }
}

/// All models by id, and which id a name means.
#[derive(Debug, Default, Clone)]
pub(super) struct Index {
    pub(super) models: BTreeMap<Arc<str>, Model>,
    pub(super) names: HashMap<String, Arc<str>>,
    /// Versions that are being made in this process.
    pub(super) training: BTreeSet<(Arc<str>, u32)>,
}

impl Index {
    /// Takes a model's record up, and the name that it carries.
    pub(super) fn set_state(&mut self, id: &Arc<str>, state: State) {
        if let Some(model) = self.models.get_mut(id) {
            if model.state.name != state.name && self.names.get(&model.state.name) == Some(id) {
                self.names.remove(&model.state.name);
            }
            self.names.insert(state.name.clone(), Arc::clone(id));
            model.state = Arc::new(state);
            model.damaged = None;
        }
    }

    /// The model of that name, also a dropped one.
    pub(super) fn named(&self, name: &str) -> Option<(&Arc<str>, &Model)> {
        let id = self.names.get(name)?;
        self.models.get_key_value(id)
    }

    /// The model of that name, for somebody who wants to use or change it.
    pub(super) fn existing(&self, name: &str) -> Result<(&Arc<str>, &Model)> {
        self.named(name).filter(|(id, model)| self.exists(id, model)).ok_or_else(|| self.unknown(name))
    }

    /// Whether anybody should know of it: a first training that never ended leaves a record but no model.
    fn exists(&self, id: &Arc<str>, model: &Model) -> bool {
        let made = || model.damaged.is_some() || model.visible().next().is_some() || self.trained_now(id).next().is_some();
        !model.state.dropped && made()
    }

    fn trained_now(&self, id: &Arc<str>) -> impl DoubleEndedIterator<Item = u32> {
        self.training.range((Arc::clone(id), 0)..=(Arc::clone(id), u32::MAX)).map(|(_, version)| *version)
    }

    /// The next number for a model of that name: above every number that the name ever had.
    pub(super) fn next_version(&self, name: &str) -> u32 {
        let had = |model: &&Model| model.state.name == name || model.state.previous_names.iter().any(|previous| previous == name);
        self.models.values().filter(had).map(|model| model.reserved.max(model.state.first_version.saturating_sub(1))).max().unwrap_or(0) + 1
    }

    /// `name` or `name@3` to a version that is ready.
    pub(super) fn resolve(&self, text: &str) -> Result<ModelRef> {
        let (name, version) = split_reference(text)?;
        let (id, model) = self.existing(name)?;
        if let Some(error) = &model.damaged {
            let hint = format!("Choose its active version again with SELECT activate_model('{name}', version), or drop the model.");
            return Err(error.clone().hint(hint));
        }
        let version = match version {
            Some(version) => version,
            None => model.state.active.ok_or_else(|| self.not_active(name, id, model))?,
        };
        match model.versions.get(&version).filter(|_| model.state.shows(version)) {
            Some(Ok(_)) => Ok(ModelRef { name: name.into(), version, id: Arc::clone(id) }),
            Some(Err(error)) => Err(error.clone()),
            None => Err(self.not_there(name, version, model)),
        }
    }

    /// Why a version of an existing model cannot be used.
    pub(super) fn not_there(&self, name: &str, version: u32, model: &Model) -> Error {
        if self.training.contains(&(Arc::from(model.state.id.as_str()), version)) {
            return training(name, version, model);
        }
        let known: Vec<String> = model.visible().map(|(version, _)| version.to_string()).collect();
        let detail = match known.len() {
            0 => "It has no version yet.".to_owned(),
            1 => format!("It has version {}.", known[0]),
            _ => format!("It has versions {}.", known.join(", ")),
        };
        Error::new(Code::UndefinedObject, format!("version {version} of model \"{name}\" does not exist")).detail(detail)
    }

    /// What is known of a pinned version.
    pub(super) fn info(&self, reference: &ModelRef) -> Result<Arc<VersionInfo>> {
        let model = self.models.get(&reference.id);
        match model.filter(|model| model.state.shows(reference.version)).and_then(|model| model.versions.get(&reference.version)) {
            Some(Ok(info)) => Ok(Arc::clone(info)),
            Some(Err(error)) => Err(error.clone()),
            None => Err(gone(reference)),
        }
    }

    /// Rows of `ml.models`, by name.
    pub(super) fn list_models(&self) -> Vec<ModelInfo> {
        let mut rows: Vec<_> = self.models.values().filter_map(model_info).collect();
        rows.sort_by(|a, b| a.name.cmp(&b.name));
        rows
    }

    /// Rows of `ml.model_versions`, by name and version.
    pub(super) fn list_versions(&self) -> Vec<VersionEntry> {
        let mut rows = Vec::new();
        for (id, model) in &self.models {
            for (version, info) in model.visible() {
                rows.push(VersionEntry {
                    reference: ModelRef { name: model.state.name.as_str().into(), version, id: Arc::clone(id) },
                    state: model.state_of(version),
                    info: info.as_ref().ok().map(Arc::clone),
                    message: info.as_ref().err().map(ToString::to_string),
                    contains_erased: model.contains_erased(version),
                });
            }
        }
        rows.sort_by(|a, b| a.reference.cmp(&b.reference));
        rows
    }

    fn not_active(&self, name: &str, id: &Arc<str>, model: &Model) -> Error {
        if let Some((version, _)) = model.visible().next_back() {
            return Error::new(Code::NotReady, format!("model \"{name}\" has no active version"))
                .detail(format!("Version {version} is ready."))
                .hint(format!("Activate it with SELECT activate_model('{name}', {version}), or name it: '{name}@{version}'."));
        }
        training(name, self.trained_now(id).next_back().unwrap_or(model.reserved), model)
    }

    fn unknown(&self, name: &str) -> Error {
        let known: BTreeSet<&str> =
            self.models.iter().filter(|(id, model)| self.exists(id, model)).map(|(_, model)| model.state.name.as_str()).collect();
        let error = Error::new(Code::UndefinedObject, format!("model \"{name}\" does not exist")).detail(listed(&known));
        match nearest(name, known.iter().copied()) {
            Some(near) => error.hint(format!("Did you mean \"{near}\"?")),
            None => error.hint("Train it with train_profile_model, or list the models with SELECT * FROM ml.models."),
        }
    }
}

fn model_info(model: &Model) -> Option<ModelInfo> {
    if model.state.dropped {
        return None;
    }
    let active = model.state.active.filter(|version| model.state.shows(*version));
    let (version, info) = match active.and_then(|version| model.versions.get(&version).map(|info| (version, info))) {
        Some(found) => found,
        None => model.visible().next_back()?,
    };
    let bytes = model.visible().filter_map(|(_, info)| info.as_ref().ok()).map(|info| info.weights_bytes).sum();
    Some(ModelInfo {
        name: model.state.name.clone(),
        active_version: active,
        state: if model.damaged.is_some() { "failed" } else { model.state_of(version) },
        owner: model.state.owner.clone(),
        bytes,
        created_at_us: model.state.created_at_us,
        version: info.as_ref().ok().map(Arc::clone),
        contains_erased: model.contains_erased(version),
        on_erasure: model.state.on_erasure,
    })
}

/// `name` or `name@3`, taken apart.
///
/// # Errors
/// 22023 when what follows `@` is not a version number.
pub(super) fn split_reference(text: &str) -> Result<(&str, Option<u32>)> {
    let Some((name, version)) = text.split_once('@') else { return Ok((text, None)) };
    let version = version.parse::<u32>().map_err(|_| {
        Error::invalid(format!("\"{version}\" is not a version number"))
            .detail(format!("The model was given as \"{text}\"."))
            .hint("Write name for the active version, or name@3 for version 3.")
    })?;
    Ok((name, Some(version)))
}

/// Succeeds when `name` can be the name of a model.
///
/// # Errors
/// 22023 otherwise.
pub(super) fn check_name(name: &str) -> Result<()> {
    let length = name.chars().count();
    let reason = if name.trim().is_empty() {
        "It is empty."
    } else if name.trim() != name {
        "It starts or ends with a space."
    } else if name.contains('@') {
        "The character @ separates a name from a version."
    } else if name.chars().any(char::is_control) {
        "It contains a control character."
    } else if length > NAME_LEN_MAX {
        "It is longer than 128 characters."
    } else {
        return Ok(());
    };
    Err(Error::invalid(format!("\"{}\" is not a model name", name.escape_debug())).detail(reason))
}

/// The error of a version that was dropped after a statement pinned it.
pub(super) fn gone(reference: &ModelRef) -> Error {
    Error::new(Code::UndefinedObject, format!("version {} of model \"{}\" does not exist", reference.version, reference.name))
        .detail("It was dropped after the statement was planned.")
}

fn training(name: &str, version: u32, model: &Model) -> Error {
    let active = match model.state.active {
        Some(active) => format!("Version {version} is training; version {active} is active."),
        None => format!("Version {version} is training."),
    };
    Error::new(Code::NotReady, format!("version {version} of model \"{name}\" is not ready"))
        .detail(active)
        .hint(format!("Wait for it with SELECT wait_for_model('{name}'), or watch it in ml.jobs."))
}

fn listed(names: &BTreeSet<&str>) -> String {
    let first: Vec<String> = names.iter().take(5).map(|name| format!("\"{name}\"")).collect();
    match names.len() {
        0 => "The registry holds no models.".to_owned(),
        1 => format!("The registry holds one model: {}.", first[0]),
        count if count > first.len() => format!("The registry holds {count} models, among them {}.", first.join(", ")),
        count => format!("The registry holds {count} models: {}.", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_taken_apart() {
        assert_eq!(split_reference("shopper").unwrap(), ("shopper", None));
        assert_eq!(split_reference("shopper@3").unwrap(), ("shopper", Some(3)));
        for text in ["shopper@", "shopper@x", "shopper@-1", "shopper@1@2", "shopper@99999999999"] {
            assert_eq!(split_reference(text).unwrap_err().code, Code::InvalidParameter, "{text}");
        }
    }

    #[test]
    fn names_are_checked() {
        for name in ["shopper", "Käufer 2026", "a/b", "用户画像", "x"] {
            check_name(name).unwrap();
        }
        for name in ["", " ", " a", "a ", "a@b", "a\nb", "\u{0}", &"x".repeat(129)] {
            assert_eq!(check_name(name).unwrap_err().code, Code::InvalidParameter, "{name:?}");
        }
    }
}
