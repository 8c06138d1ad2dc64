//! The settings of a session: one table of names, and the values that one session holds.
//!
//! `definitions` is the table (name, type, default, range, who may change it, documentation); `value` reads and prints
//! values the way PostgreSQL does; `Settings` holds a session's values in layers: defaults, what the client said at
//! its start, what `SET` changed, what `SET LOCAL` changed until the end of the transaction.

mod definitions;
mod value;

use std::collections::BTreeMap;

use portrait_udfs::error::{Code, Error, Result};
use portrait_udfs::functions::MlSettings;

pub(crate) use value::time_zone;

pub use definitions::{Change, DEFINITIONS, Definition, Kind, Unit};

/// How long a `SET` lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Until the session ends (or the transaction is rolled back).
    Session,
    /// Until the transaction ends.
    Transaction,
}

/// One line of `SHOW ALL` and `pg_settings`.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    /// The name as PostgreSQL spells it.
    pub name: String,
    /// The value as `SHOW` prints it.
    pub value: String,
    /// What it does.
    pub doc: String,
    /// What `RESET` would restore.
    pub reset_value: String,
    /// The row of the table; `None` for settings that a client made up (`myapp.user`).
    pub definition: Option<&'static Definition>,
}

/// The values of one session.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    startup: BTreeMap<String, String>,
    session: BTreeMap<String, String>,
    local: BTreeMap<String, String>,
    /// The session layer as it was at BEGIN; restored by ROLLBACK.
    saved: Option<BTreeMap<String, String>>,
}

impl Settings {
    /// The canonical text of `name`'s value, without a unit (`statement_timeout` in milliseconds).
    ///
    /// # Errors
    /// [`Code::UndefinedObject`] for a name that is not in the table, with the nearest one.
    pub fn raw(&self, name: &str) -> Result<String> {
        let found = find(name);
        let key = found.map_or_else(|| name.to_ascii_lowercase(), |definition| definition.key());
        match self.local.get(&key).or_else(|| self.session.get(&key)).or_else(|| self.startup.get(&key)) {
            Some(value) => Ok(value.clone()),
            None => found.map(|definition| definition.default.to_owned()).ok_or_else(|| unknown(name)),
        }
    }

    /// The value of `name` as `SHOW` prints it.
    ///
    /// # Errors
    /// As [`raw`](Self::raw).
    pub fn show(&self, name: &str) -> Result<String> {
        let raw = self.raw(name)?;
        Ok(find(name).map_or_else(|| raw.clone(), |definition| value::print(definition, &raw)))
    }

    /// An integer setting; 0 where it is not one.
    pub fn integer(&self, name: &str) -> i64 {
        self.raw(name).ok().and_then(|raw| raw.parse().ok()).unwrap_or(0)
    }

    /// A boolean setting.
    pub fn bool(&self, name: &str) -> bool {
        self.raw(name).is_ok_and(|raw| raw == "on")
    }

    /// Sets `name` to `text`; `None` = the default.
    ///
    /// # Errors
    /// [`Code::UndefinedObject`] for an unknown name, [`Code::FixedSetting`] for one that cannot be changed,
    /// [`Code::InvalidParameter`] for a value out of range.
    pub fn set(&mut self, name: &str, text: Option<&str>, scope: Scope) -> Result<()> {
        let (key, canonical) = check(name, text)?;
        let layer = match scope {
            Scope::Session => {
                self.local.remove(&key);
                &mut self.session
            }
            Scope::Transaction => &mut self.local,
        };
        match canonical {
            Some(canonical) => layer.insert(key, canonical),
            None if scope == Scope::Session => layer.remove(&key),
            None => {
                let default = self.startup.get(&key).cloned().or_else(|| find(name).map(|found| found.default.to_owned()));
                default.and_then(|default| layer.insert(key, default))
            }
        };
        Ok(())
    }

    /// Sets what describes the session itself (`session_authorization`); no `SET` changes it.
    pub(crate) fn describe_session(&mut self, name: &'static str, value: impl Into<String>) {
        self.startup.insert(name.to_owned(), value.into());
    }

    /// Sets who the session acts as (`role`, `session_authorization`), which no `SET` of a setting does; `None` = the default.
    pub(crate) fn assume(&mut self, name: &'static str, value: Option<&str>, scope: Scope) {
        let layer = match scope {
            Scope::Session => {
                self.local.remove(name);
                &mut self.session
            }
            Scope::Transaction => &mut self.local,
        };
        match (value, scope) {
            (Some(value), _) => layer.insert(name.to_owned(), value.to_owned()),
            (None, Scope::Session) => layer.remove(name),
            (None, Scope::Transaction) => {
                let default = self.startup.get(name).cloned().or_else(|| find(name).map(|found| found.default.to_owned()));
                default.and_then(|default| layer.insert(name.to_owned(), default))
            }
        };
    }

    /// What the client said when it connected: becomes what `RESET` restores.
    ///
    /// # Errors
    /// As [`set`](Self::set).
    pub fn set_startup(&mut self, name: &str, text: &str) -> Result<()> {
        let (key, canonical) = check(name, Some(text))?;
        canonical.and_then(|canonical| self.startup.insert(key, canonical));
        Ok(())
    }

    /// `RESET ALL`.
    pub fn reset_all(&mut self) {
        // Who the session acts as is no setting in this sense, as in PostgreSQL.
        self.session.retain(|name, _| matches!(name.as_str(), "role" | "session_authorization"));
        self.local.retain(|name, _| matches!(name.as_str(), "role" | "session_authorization"));
    }

    /// BEGIN: remembers the values for a ROLLBACK.
    pub fn begin(&mut self) {
        self.saved = Some(self.session.clone());
    }

    /// The end of a transaction: `SET LOCAL` ends; a rolled-back `SET` is undone.
    pub fn end(&mut self, commit: bool) {
        self.local.clear();
        if let (Some(saved), false) = (self.saved.take(), commit) {
            self.session = saved;
        }
    }

    /// Every setting, by name.
    pub fn all(&self) -> Vec<Setting> {
        let mut all: Vec<Setting> = DEFINITIONS.iter().map(|definition| self.describe(definition)).collect();
        all.extend(definitions::ml().iter().map(|definition| self.describe(definition)));
        let made_up = self.startup.keys().chain(self.session.keys()).chain(self.local.keys()).filter(|key| find(key).is_none());
        let mut made_up: Vec<&String> = made_up.collect();
        made_up.sort();
        made_up.dedup();
        all.extend(made_up.into_iter().map(|key| Setting {
            name: key.clone(),
            value: self.raw(key).unwrap_or_default(),
            doc: String::new(),
            reset_value: String::new(),
            definition: None,
        }));
        all.sort_by_cached_key(|setting| setting.name.to_ascii_lowercase());
        all
    }

    fn describe(&self, definition: &'static Definition) -> Setting {
        let reset = self.startup.get(&definition.key()).map_or(definition.default, String::as_str);
        Setting {
            name: definition.name.to_owned(),
            value: self.show(definition.name).unwrap_or_default(),
            doc: definition.doc.to_owned(),
            reset_value: value::print(definition, reset),
            definition: Some(definition),
        }
    }

    /// The settings whose changes a client is told about (`ParameterStatus`): name and value.
    pub fn reported(&self) -> Vec<(&'static str, String)> {
        DEFINITIONS
            .iter()
            .filter(|definition| definition.reported)
            .map(|definition| (definition.name, self.show(definition.name).unwrap_or_default()))
            .collect()
    }

    /// The settings with a prefix (`ml.`, `datafusion.`) that differ from their default: full name and raw value.
    pub fn with_prefix(&self, prefix: &str) -> Vec<(String, String)> {
        let mut found: BTreeMap<&String, &String> = BTreeMap::new();
        for layer in [&self.startup, &self.session, &self.local] {
            found.extend(layer.iter().filter(|(key, _)| key.starts_with(prefix)));
        }
        found.into_iter().map(|(key, value)| (key.clone(), value.clone())).collect()
    }
}

/// The row of the table for `name`, in any case.
pub fn find(name: &str) -> Option<&'static Definition> {
    let same = |definition: &&Definition| definition.name.eq_ignore_ascii_case(name);
    DEFINITIONS.iter().find(same).or_else(|| definitions::ml().iter().find(same))
}

/// Checks a name and a value: the key and the canonical text.
fn check(name: &str, text: Option<&str>) -> Result<(String, Option<String>)> {
    let Some(definition) = find(name) else {
        // `myapp.user`: PostgreSQL keeps whatever a client stores under a name with a dot.
        return match name.split_once('.') {
            Some((class, rest)) if !rest.is_empty() && !["ml", "datafusion", "portrait"].contains(&class.to_ascii_lowercase().as_str()) => {
                Ok((name.to_ascii_lowercase(), Some(text.unwrap_or_default().to_owned())))
            }
            _ => Err(unknown(name)),
        };
    };
    match definition.change {
        Change::Never => {
            let same = text.is_some_and(|text| text.eq_ignore_ascii_case(definition.default));
            if !same {
                return Err(Error::new(Code::FixedSetting, format!("parameter \"{}\" cannot be changed", definition.name)));
            }
        }
        Change::Start => {
            return Err(Error::new(
                Code::FixedSetting,
                format!("parameter \"{}\" cannot be changed without restarting the server", definition.name),
            ));
        }
        Change::Session => {}
    }
    if let (Some(option), Some(text)) = (definition.name.strip_prefix("ml."), text) {
        MlSettings::check(option, text)?;
    }
    Ok((definition.key(), text.map(|text| value::parse(definition, text)).transpose()?))
}

fn unknown(name: &str) -> Error {
    let error = Error::new(Code::UndefinedObject, format!("unrecognized configuration parameter \"{name}\""));
    let names = DEFINITIONS.iter().chain(definitions::ml()).map(|definition| definition.name);
    match crate::error::nearest(name, names) {
        Some(near) => error.hint(format!("Perhaps you meant \"{near}\".")),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers() {
        let mut settings = Settings::default();
        settings.set_startup("application_name", "start").unwrap();
        settings.set("application_name", Some("set"), Scope::Session).unwrap();
        settings.set("APPLICATION_NAME", Some("local"), Scope::Transaction).unwrap();
        assert_eq!(settings.show("application_name").unwrap(), "local");
        settings.end(true);
        assert_eq!(settings.show("application_name").unwrap(), "set");
        settings.set("application_name", None, Scope::Session).unwrap();
        assert_eq!(settings.show("application_name").unwrap(), "start");
    }

    #[test]
    fn rollback_undoes_set() {
        let mut settings = Settings::default();
        settings.begin();
        settings.set("statement_timeout", Some("5s"), Scope::Session).unwrap();
        settings.end(false);
        assert_eq!(settings.show("statement_timeout").unwrap(), "0");
    }

    #[test]
    fn durations_print_as_in_postgresql() {
        let mut settings = Settings::default();
        for (given, shown, raw) in
            [("5s", "5s", 5000), ("1500", "1500ms", 1500), ("2 min", "2min", 120_000), ("0", "0", 0), ("1h", "1h", 3_600_000)]
        {
            settings.set("statement_timeout", Some(given), Scope::Session).unwrap();
            assert_eq!(settings.show("statement_timeout").unwrap(), shown);
            assert_eq!(settings.integer("statement_timeout"), raw);
        }
        let error = settings.set("statement_timeout", Some("-1"), Scope::Session).unwrap_err();
        assert_eq!(error.code, Code::InvalidParameter);
    }

    #[test]
    fn unknown_names_get_a_hint() {
        let mut settings = Settings::default();
        let error = settings.set("statement_timeot", Some("5s"), Scope::Session).unwrap_err();
        assert_eq!(error.code, Code::UndefinedObject);
        assert!(error.hint.unwrap().contains("statement_timeout"));
        for name in ["datafusion.runtime.memory_limit", "ml.nonsense", "nonsense"] {
            assert_eq!(settings.set(name, Some("1"), Scope::Session).unwrap_err().code, Code::UndefinedObject, "{name}");
        }
    }

    #[test]
    fn fixed_settings_stay() {
        let mut settings = Settings::default();
        assert_eq!(settings.set("server_version", Some("9"), Scope::Session).unwrap_err().code, Code::FixedSetting);
        assert!(settings.set("myapp.user", Some("7"), Scope::Session).is_ok());
        assert_eq!(settings.show("myapp.user").unwrap(), "7");
    }

    #[test]
    fn every_default_is_a_value() {
        for definition in DEFINITIONS {
            assert_eq!(value::parse(definition, definition.default).unwrap(), definition.default, "{}", definition.name);
            assert!(!definition.doc.is_empty());
        }
    }
}
