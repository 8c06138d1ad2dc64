//! Retention in the catalog: how long tables of events keep them, and the removal of what is older.

use std::sync::Arc;

use portrait_udfs::context::Retained;
use portrait_udfs::error::{Code, Error, Result};

use super::erasure::Eraser;
use super::file::Body;
use super::open::{Entry, Inner, Object};
use super::{Catalog, TableInfo};
use crate::storage::Role;
use crate::storage::delta::DeltaTable;
use crate::storage::events::erase::Erased;
use crate::storage::events::retain::{Extent, apply, apply_to_quarantine};

impl Catalog {
    /// `ALTER TABLE name SET (retention = …)`, or with `None` RESET: from then on older events are in no answer. Returns since
    /// when events are shown; `None` = all are, or there are none.
    ///
    /// # Errors
    /// 42P01; 42809 for what is no table of events; 42501 for others than its owner and superusers.
    pub async fn set_retention(&self, name: &str, retention_us: Option<i64>, caller: &str) -> Result<Option<i64>> {
        let (own, caller) = (name.to_owned(), caller.to_owned());
        let entry = self.inner.state().entries.get(name).map(Arc::clone).ok_or_else(|| self.undefined_table(name))?;
        events_of(&entry)?;
        self.inner
            .change(move |definitions| {
                let missing = || Error::new(Code::UndefinedTable, format!("relation \"{own}\" does not exist"));
                let owner = definitions.relations.get(&own).ok_or_else(missing)?.owner.clone();
                super::access::Rights::owner_in(definitions, &caller, &owner, &super::access::Object::table(own.as_str()))?;
                let relation = definitions.relations.get_mut(&own).ok_or_else(missing)?;
                match &mut relation.body {
                    Body::Managed { role: Role::Events(columns), .. } => columns.retention_us = retention_us,
                    _ => return Err(no_events(&own)),
                }
                Ok(())
            })
            .await?;
        let entry = self.inner.state().entries.get(name).map(Arc::clone);
        match entry {
            Some(entry) => events_of(&entry)?.cutoff().await,
            None => Ok(None),
        }
    }
}

impl Eraser {
    /// Takes events out of a table's files, and refusals out of its quarantine's, that are older than it keeps them: as of the
    /// newest event, or as of another time.
    ///
    /// # Errors
    /// 42P01; 42809 for what is no table of events; 42501 for others than its owner and superusers; 55000 for a table that
    /// keeps all events; 40001 and failures of the store: then nothing of a table has changed.
    pub async fn apply_retention(&self, name: &str, as_of_us: Option<i64>, caller: &str) -> Result<Vec<Retained>> {
        let inner = self.inner()?;
        let (table, quarantine) = tables(&inner, name, caller)?;
        if table.retention_us().is_none() {
            return Err(Error::new(Code::NotReady, format!("table \"{name}\" has no retention"))
                .detail("It keeps all its events.")
                .hint(format!("Declare one: ALTER TABLE {name} SET (retention = '400 days').")));
        }
        let env = Arc::clone(&inner.env.read());
        let (cutoff_us, gone) = apply(&table, &env, as_of_us, Extent::All).await?;
        let mut done = vec![retained(&table, cutoff_us, gone)];
        if let (Some(quarantine), Some(cutoff_us)) = (quarantine, cutoff_us) {
            let gone = apply_to_quarantine(&quarantine, &env, cutoff_us).await?;
            done.push(retained(&quarantine, Some(cutoff_us), gone));
        }
        Ok(done)
    }
}

fn retained(table: &DeltaTable, cutoff_us: Option<i64>, gone: Erased) -> Retained {
    Retained { table: table.name().to_owned(), cutoff_us, removed: gone.rows, files: gone.files }
}

/// A table of events and its quarantine, for somebody who may take events away.
fn tables(inner: &Inner, name: &str, caller: &str) -> Result<(Arc<DeltaTable>, Option<Arc<DeltaTable>>)> {
    let state = inner.state();
    let entry = state.entries.get(name).ok_or_else(|| Error::new(Code::UndefinedTable, format!("relation \"{name}\" does not exist")))?;
    let table = Arc::clone(events_of(entry)?);
    let TableInfo { owner, events, .. } = &entry.info;
    super::access::Rights::owner_in(&state.definitions, caller, owner, &super::access::Object::table(name))?;
    let quarantine = events.as_ref().and_then(|events| state.entries.get(&events.quarantine));
    let quarantine = quarantine.and_then(|entry| match &entry.object {
        Object::Managed(table) => Some(Arc::clone(table)),
        _ => None,
    });
    Ok((table, quarantine))
}

fn events_of(entry: &Entry) -> Result<&Arc<DeltaTable>> {
    match &entry.object {
        Object::Managed(table) if table.role().events().is_some() => Ok(table),
        _ => Err(no_events(&entry.info.name)),
    }
}

fn no_events(name: &str) -> Error {
    Error::new(Code::WrongObjectType, format!("\"{name}\" is not a table of events"))
        .detail("Only a table that says which column is the time can tell which rows are old.")
        .hint("Make one with CREATE TABLE … WITH (user_column = …, time_column = …).")
}
