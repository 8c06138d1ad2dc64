//! Memberships: a role may do what the roles may that it is a member of.

use std::collections::{BTreeMap, BTreeSet};

use portrait_udfs::error::{Code, Error, Result};
use serde::{Deserialize, Serialize};

use super::super::file::{Definitions, StoredRole};
use super::StoredAccess;

/// PostgreSQL's predefined roles that mean something here, with their object ids.
pub const PREDEFINED: [(&str, u32); 6] = [
    ("pg_monitor", 3373),
    ("pg_read_all_data", 6181),
    ("pg_write_all_data", 6182),
    ("pg_read_server_files", 4569),
    ("pg_write_server_files", 4570),
    ("pg_signal_backend", 4200),
];

/// How a role is a member of another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// May make others members.
    #[serde(default)]
    pub admin: bool,
    /// Who made it one.
    pub grantor: String,
}

impl StoredAccess {
    /// A role and all roles that it is a member of, however far.
    pub(in super::super) fn closure(&self, role: &str) -> BTreeSet<String> {
        let mut found = BTreeSet::from([role.to_owned()]);
        let mut waiting = vec![role.to_owned()];
        while let Some(member) = waiting.pop() {
            for (group, members) in &self.members {
                if members.contains_key(&member) && found.insert(group.clone()) {
                    waiting.push(group.clone());
                }
            }
        }
        found
    }
}

/// Whether a role exists, be it predefined.
pub(super) fn exists(roles: &BTreeMap<String, StoredRole>, name: &str) -> bool {
    roles.contains_key(name) || PREDEFINED.iter().any(|(known, _)| *known == name)
}

/// 42704 for a role that does not exist.
pub(super) fn must_exist(definitions: &Definitions, name: &str) -> Result<()> {
    if exists(&definitions.roles, name) {
        return Ok(());
    }
    Err(Error::new(Code::UndefinedObject, format!("role \"{name}\" does not exist")))
}

impl super::super::Catalog {
    /// `GRANT group TO member [WITH ADMIN OPTION]`; false when it was one already.
    ///
    /// # Errors
    /// 42704 for a role that does not exist, 42501 for a caller without the admin option, 0LP01 for a circle.
    pub async fn add_member(&self, caller: &str, group: &str, member: &str, admin: bool) -> Result<bool> {
        let (caller, group, member) = (caller.to_owned(), group.to_owned(), member.to_owned());
        self.inner
            .change(move |definitions| {
                must_exist(definitions, &group)?;
                must_exist(definitions, &member)?;
                may_change(definitions, &caller, &group)?;
                if definitions.access.closure(&group).contains(&member) {
                    return Err(Error::new(Code::InvalidGrant, format!("role \"{group}\" is a member of role \"{member}\"")));
                }
                let members = definitions.access.members.entry(group).or_default();
                match members.get_mut(&member) {
                    Some(present) if present.admin || !admin => Ok(false),
                    Some(present) => {
                        present.admin = true;
                        Ok(true)
                    }
                    None => {
                        members.insert(member, Membership { admin, grantor: caller });
                        Ok(true)
                    }
                }
            })
            .await
    }

    /// `REVOKE [ADMIN OPTION FOR] group FROM member`; false when it was none.
    ///
    /// # Errors
    /// As [`add_member`](Self::add_member).
    pub async fn remove_member(&self, caller: &str, group: &str, member: &str, admin_only: bool) -> Result<bool> {
        let (caller, group, member) = (caller.to_owned(), group.to_owned(), member.to_owned());
        self.inner
            .change(move |definitions| {
                must_exist(definitions, &group)?;
                must_exist(definitions, &member)?;
                may_change(definitions, &caller, &group)?;
                let Some(members) = definitions.access.members.get_mut(&group) else { return Ok(false) };
                let Some(present) = members.get_mut(&member) else { return Ok(false) };
                if admin_only {
                    return Ok(std::mem::take(&mut present.admin));
                }
                members.remove(&member);
                if members.is_empty() {
                    definitions.access.members.remove(&group);
                }
                Ok(true)
            })
            .await
    }

    /// Every membership: (role, member, how).
    pub fn memberships(&self) -> Vec<(String, String, Membership)> {
        let state = self.inner.state();
        let all = state.definitions.access.members.iter();
        all.flat_map(|(group, members)| members.iter().map(|(member, how)| (group.clone(), member.clone(), how.clone()))).collect()
    }

    /// What one role may do, in this version of the catalog.
    pub fn rights(&self, role: &str) -> super::Rights {
        super::Rights::new(self.inner.state(), role)
    }
}

/// Superusers, and members with the admin option, change who is a member.
fn may_change(definitions: &Definitions, caller: &str, group: &str) -> Result<()> {
    let roles = definitions.access.closure(caller);
    let admin =
        definitions.access.members.get(group).is_some_and(|members| members.iter().any(|(name, how)| how.admin && roles.contains(name)));
    // Whoever is a superuser only through a membership is none.
    let superuser = super::rights::is_superuser(definitions, caller);
    let of_superuser = definitions.roles.get(group).is_some_and(|role| role.superuser);
    if superuser || (admin && !of_superuser) {
        return Ok(());
    }
    Err(Error::new(Code::InsufficientPrivilege, format!("must have admin option on role \"{group}\"")))
}
