//! Row policies (`CREATE POLICY`) and masks of columns (`CREATE MASK`), as text.

use std::collections::{BTreeMap, BTreeSet};

use portrait_udfs::error::{Code, Error, Result};
use serde::{Deserialize, Serialize};

use super::super::file::Definitions;
use super::rights::Rights;
use super::{Object, members};

/// What a policy is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PolicyCommand {
    /// Reading and adding.
    All,
    /// Reading.
    Select,
    /// Adding.
    Insert,
}

impl PolicyCommand {
    /// Its word in SQL.
    pub fn word(self) -> &'static str {
        match self {
            Self::All => "ALL",
            Self::Select => "SELECT",
            Self::Insert => "INSERT",
        }
    }
}

/// One row policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredPolicy {
    /// Object id.
    pub oid: u32,
    /// What it is about.
    pub command: PolicyCommand,
    /// Rows that any permissive policy lets through are seen, if all restrictive ones let them through.
    pub permissive: bool,
    /// For whom; none = everybody.
    pub roles: BTreeSet<String>,
    /// The condition that rows which are read fulfil.
    pub using: Option<String>,
    /// The condition that new rows fulfil; `using` without it.
    pub check: Option<String>,
}

/// One mask: what some roles see in a column instead of its values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredMask {
    /// Object id.
    pub oid: u32,
    /// The column.
    pub column: String,
    /// For whom; none = everybody but the owner.
    pub roles: BTreeSet<String>,
    /// The expression that takes the column's place.
    pub expr: String,
}

/// Policies and masks of one table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowSecurity {
    /// `ALTER TABLE … ENABLE ROW LEVEL SECURITY`.
    #[serde(default)]
    pub enabled: bool,
    /// `ALTER TABLE … FORCE ROW LEVEL SECURITY`: for the owner as well.
    #[serde(default)]
    pub forced: bool,
    /// By name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub policies: BTreeMap<String, StoredPolicy>,
    /// By name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub masks: BTreeMap<String, StoredMask>,
}

impl RowSecurity {
    pub(super) fn names(&self, role: &str) -> bool {
        self.policies.values().any(|policy| policy.roles.contains(role)) || self.masks.values().any(|mask| mask.roles.contains(role))
    }
}

/// A policy and the table that it is on.
#[derive(Debug, Clone)]
pub struct PolicyInfo {
    /// The table.
    pub table: String,
    /// The policy's name.
    pub name: String,
    /// What it says.
    pub policy: StoredPolicy,
}

/// A mask and the table that it is on.
#[derive(Debug, Clone)]
pub struct MaskInfo {
    /// The table.
    pub table: String,
    /// The mask's name.
    pub name: String,
    /// What it says.
    pub mask: StoredMask,
}

impl super::super::Catalog {
    /// Policies, by table and name.
    pub fn policies(&self) -> Vec<PolicyInfo> {
        let state = self.inner.state();
        let tables = state.definitions.access.row_security.iter();
        let of_table = |(table, security): (&String, &RowSecurity)| {
            let info =
                |(name, policy): (&String, &StoredPolicy)| PolicyInfo { table: table.clone(), name: name.clone(), policy: policy.clone() };
            security.policies.iter().map(info).collect::<Vec<_>>()
        };
        tables.flat_map(of_table).collect()
    }

    /// Masks, by table and name.
    pub fn masks(&self) -> Vec<MaskInfo> {
        let state = self.inner.state();
        let tables = state.definitions.access.row_security.iter();
        let of_table = |(table, security): (&String, &RowSecurity)| {
            let info = |(name, mask): (&String, &StoredMask)| MaskInfo { table: table.clone(), name: name.clone(), mask: mask.clone() };
            security.masks.iter().map(info).collect::<Vec<_>>()
        };
        tables.flat_map(of_table).collect()
    }

    /// The policies and masks of a table.
    pub fn row_security(&self, table: &str) -> RowSecurity {
        self.inner.state().definitions.access.row_security.get(table).cloned().unwrap_or_default()
    }

    /// `CREATE POLICY`, or with `replace` `ALTER POLICY`. The object id is given here.
    ///
    /// # Errors
    /// 42P01, 42501 for others than the owner, 42704 for a role that does not exist, 42710 for a name that is taken.
    pub async fn put_policy(&self, caller: &str, table: &str, name: &str, policy: StoredPolicy, replace: bool) -> Result<()> {
        let (caller, table, name) = (caller.to_owned(), table.to_owned(), name.to_owned());
        self.inner
            .change(move |definitions| {
                must_own_table(definitions, &caller, &table)?;
                policy.roles.iter().try_for_each(|role| members::must_exist(definitions, role))?;
                let oid = definitions.take_oid();
                let policies = &mut definitions.access.row_security.entry(table.clone()).or_default().policies;
                match (policies.get(&name), replace) {
                    (Some(_), false) => Err(duplicate("policy", &name, &table)),
                    (None, true) => Err(missing("policy", &name, &table)),
                    (present, _) => {
                        let oid = present.map_or(oid, |present| present.oid);
                        policies.insert(name, StoredPolicy { oid, ..policy });
                        Ok(())
                    }
                }
            })
            .await
    }

    /// `CREATE MASK`. The object id is given here.
    ///
    /// # Errors
    /// As [`put_policy`](Self::put_policy); 42710 also for a column that has a mask for one of the roles.
    pub async fn put_mask(&self, caller: &str, table: &str, name: &str, mask: StoredMask) -> Result<()> {
        let (caller, table, name) = (caller.to_owned(), table.to_owned(), name.to_owned());
        self.inner
            .change(move |definitions| {
                must_own_table(definitions, &caller, &table)?;
                mask.roles.iter().try_for_each(|role| members::must_exist(definitions, role))?;
                let oid = definitions.take_oid();
                let masks = &mut definitions.access.row_security.entry(table.clone()).or_default().masks;
                if masks.contains_key(&name) {
                    return Err(duplicate("mask", &name, &table));
                }
                let same = |other: &&StoredMask| {
                    other.column == mask.column && (other.roles == mask.roles || !other.roles.is_disjoint(&mask.roles))
                };
                if masks.values().find(same).is_some() {
                    return Err(Error::new(
                        Code::DuplicateObject,
                        format!("column \"{}\" of table \"{table}\" has a mask already", mask.column),
                    )
                    .hint("Drop it first: DROP MASK name ON table."));
                }
                masks.insert(name, StoredMask { oid, ..mask });
                Ok(())
            })
            .await
    }

    /// `DROP POLICY`; false when there was none.
    ///
    /// # Errors
    /// 42P01, 42501; 42704 when there is none, unless `if_exists`.
    pub async fn drop_policy(&self, caller: &str, table: &str, name: &str, if_exists: bool) -> Result<bool> {
        self.drop_of_table(caller, table, name, if_exists, "policy", |security, name| security.policies.remove(name).is_some()).await
    }

    /// `DROP MASK`; false when there was none.
    ///
    /// # Errors
    /// As [`drop_policy`](Self::drop_policy).
    pub async fn drop_mask(&self, caller: &str, table: &str, name: &str, if_exists: bool) -> Result<bool> {
        self.drop_of_table(caller, table, name, if_exists, "mask", |security, name| security.masks.remove(name).is_some()).await
    }

    async fn drop_of_table(
        &self,
        caller: &str,
        table: &str,
        name: &str,
        if_exists: bool,
        what: &'static str,
        drop: fn(&mut RowSecurity, &str) -> bool,
    ) -> Result<bool> {
        let (caller, table, name) = (caller.to_owned(), table.to_owned(), name.to_owned());
        self.inner
            .change(move |definitions| {
                must_own_table(definitions, &caller, &table)?;
                let security = definitions.access.row_security.entry(table.clone()).or_default();
                let dropped = drop(security, &name);
                if *security == RowSecurity::default() {
                    definitions.access.row_security.remove(&table);
                }
                if dropped || if_exists { Ok(dropped) } else { Err(missing(what, &name, &table)) }
            })
            .await
    }

    /// `ALTER TABLE … {ENABLE | DISABLE | FORCE | NO FORCE} ROW LEVEL SECURITY`; `None` leaves a thing as it is.
    ///
    /// # Errors
    /// 42P01, 42501.
    pub async fn set_row_security(&self, caller: &str, table: &str, enabled: Option<bool>, forced: Option<bool>) -> Result<()> {
        let (caller, table) = (caller.to_owned(), table.to_owned());
        self.inner
            .change(move |definitions| {
                must_own_table(definitions, &caller, &table)?;
                let security = definitions.access.row_security.entry(table).or_default();
                security.enabled = enabled.unwrap_or(security.enabled);
                security.forced = forced.unwrap_or(security.forced);
                Ok(())
            })
            .await
    }
}

fn must_own_table(definitions: &Definitions, caller: &str, table: &str) -> Result<()> {
    let relation = definitions.relations.get(table);
    let relation = relation.ok_or_else(|| Error::new(Code::UndefinedTable, format!("relation \"{table}\" does not exist")))?;
    Rights::owner_in(definitions, caller, &relation.owner, &Object::table(table))
}

fn duplicate(what: &str, name: &str, table: &str) -> Error {
    Error::new(Code::DuplicateObject, format!("{what} \"{name}\" for table \"{table}\" already exists"))
}

fn missing(what: &str, name: &str, table: &str) -> Error {
    Error::new(Code::UndefinedObject, format!("{what} \"{name}\" for table \"{table}\" does not exist"))
}
