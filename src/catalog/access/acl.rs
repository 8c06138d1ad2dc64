//! Who was granted what by whom on one object, and how that grows and shrinks.

use std::collections::{BTreeMap, BTreeSet};

use portrait_udfs::error::{Code, Error, Result};
use serde::{Deserialize, Serialize};

use super::privilege::{ObjectClass, Privilege, Privileges};

/// Privileges, and those of them that may be passed on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// What may be done.
    pub privileges: Privileges,
    /// What may be granted to others.
    #[serde(default, skip_serializing_if = "Privileges::is_empty_ref")]
    pub grantable: Privileges,
}

impl Privileges {
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
    fn is_empty_ref(&self) -> bool {
        self.is_empty()
    }
}

impl Held {
    fn is_empty(self) -> bool {
        self.privileges.is_empty()
    }

    fn grow(&mut self, privileges: Privileges, grantable: bool) {
        self.privileges = self.privileges.and(privileges);
        if grantable {
            self.grantable = self.grantable.and(privileges);
        }
    }

    fn shrink(&mut self, privileges: Privileges, option_only: bool) {
        self.grantable = self.grantable.without(privileges);
        if !option_only {
            self.privileges = self.privileges.without(privileges);
        }
    }
}

/// What one role granted another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AclItem {
    /// Who may; `None` = everybody (PUBLIC).
    pub grantee: Option<String>,
    /// Who said so.
    pub grantor: String,
    /// On the whole object.
    #[serde(flatten)]
    pub held: Held,
    /// On single columns.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub columns: BTreeMap<String, Held>,
}

/// Privileges on one object that are granted or revoked together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// On the whole object.
    pub whole: Privileges,
    /// On single columns.
    pub columns: BTreeMap<String, Privileges>,
}

impl Wanted {
    /// Whether nothing is wanted.
    pub fn is_empty(&self) -> bool {
        self.whole.is_empty() && self.columns.values().all(|privileges| privileges.is_empty())
    }
}

/// The grants on one object.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Acl(pub Vec<AclItem>);

impl Acl {
    /// What an object has before anything is granted on it.
    pub(super) fn initial(class: ObjectClass, name: &str, owner: &str) -> Self {
        let privileges = class.public(name);
        let held = Held { privileges, grantable: Privileges::NONE };
        Self(if privileges.is_empty() {
            Vec::new()
        } else {
            vec![AclItem { grantee: None, grantor: owner.into(), held, columns: BTreeMap::new() }]
        })
    }

    fn item(&mut self, grantee: Option<&str>, grantor: &str) -> &mut AclItem {
        let found = self.0.iter().position(|item| item.grantee.as_deref() == grantee && item.grantor == grantor);
        let at = found.unwrap_or_else(|| {
            self.0.push(AclItem {
                grantee: grantee.map(str::to_owned),
                grantor: grantor.to_owned(),
                held: Held::default(),
                columns: BTreeMap::new(),
            });
            self.0.len() - 1
        });
        &mut self.0[at]
    }

    /// `GRANT`.
    ///
    /// # Errors
    /// 0LP01 for a grant option that everybody would have.
    pub(super) fn grant(&mut self, wanted: &Wanted, grantee: Option<&str>, grantor: &str, option: bool) -> Result<()> {
        if option && grantee.is_none() {
            return Err(Error::new(Code::InvalidGrant, "grant options can only be granted to roles"));
        }
        let item = self.item(grantee, grantor);
        item.held.grow(wanted.whole, option);
        for (column, privileges) in &wanted.columns {
            item.columns.entry(column.clone()).or_default().grow(*privileges, option);
        }
        self.tidy();
        Ok(())
    }

    /// `REVOKE`: of what `grantor` granted. A revoke from a whole table takes the columns along, as in PostgreSQL.
    ///
    /// # Errors
    /// 2BP01 when others were granted something by who loses the right to, unless `cascade`.
    pub(super) fn revoke(&mut self, wanted: &Wanted, grantee: Option<&str>, grantor: &str, option_only: bool, cascade: bool) -> Result<()> {
        let item = self.item(grantee, grantor);
        item.held.shrink(wanted.whole, option_only);
        for held in item.columns.values_mut() {
            held.shrink(wanted.whole, option_only);
        }
        for (column, privileges) in &wanted.columns {
            if let Some(held) = item.columns.get_mut(column) {
                held.shrink(*privileges, option_only);
            }
        }
        self.tidy();
        if let Some(grantee) = grantee { self.drop_orphans(grantee, cascade) } else { Ok(()) }
    }

    /// Takes back what `role` granted with options that it no longer has.
    fn drop_orphans(&mut self, role: &str, cascade: bool) -> Result<()> {
        let (whole, columns) = self.grantable(&BTreeSet::from([role.to_owned()]));
        let mut losers = BTreeSet::new();
        for item in self.0.iter_mut().filter(|item| item.grantor == role) {
            let lost = item.held.privileges.without(whole);
            let mut any = !lost.is_empty();
            item.held.shrink(lost, false);
            for (column, held) in &mut item.columns {
                let lost = held.privileges.without(whole.and(columns.get(column).copied().unwrap_or_default()));
                any |= !lost.is_empty();
                held.shrink(lost, false);
            }
            if any {
                losers.extend(item.grantee.clone());
                if !cascade {
                    return Err(Error::new(Code::DependentObjects, "dependent privileges exist").hint("Use CASCADE to revoke them too."));
                }
            }
        }
        self.tidy();
        losers.into_iter().try_for_each(|loser| self.drop_orphans(&loser, cascade))
    }

    /// What some roles may pass on.
    pub(super) fn grantable(&self, roles: &BTreeSet<String>) -> (Privileges, BTreeMap<String, Privileges>) {
        let mut columns: BTreeMap<String, Privileges> = BTreeMap::new();
        let mut whole = Privileges::NONE;
        for item in self.of(roles) {
            whole = whole.and(item.held.grantable);
            for (column, held) in &item.columns {
                let sum = columns.entry(column.clone()).or_default();
                *sum = sum.and(held.grantable);
            }
        }
        (whole, columns)
    }

    /// What some roles, or everybody, were granted.
    pub(super) fn of<'a>(&'a self, roles: &'a BTreeSet<String>) -> impl Iterator<Item = &'a AclItem> {
        self.0.iter().filter(|item| item.grantee.as_ref().is_none_or(|grantee| roles.contains(grantee)))
    }

    /// Whether some roles have a privilege on the whole object.
    pub(super) fn has(&self, roles: &BTreeSet<String>, privilege: Privilege) -> bool {
        self.of(roles).any(|item| item.held.privileges.has(privilege))
    }

    /// The columns on which some roles have a privilege.
    pub(super) fn columns(&self, roles: &BTreeSet<String>, privilege: Privilege) -> BTreeSet<String> {
        let held = self.of(roles).flat_map(|item| &item.columns);
        held.filter(|(_, held)| held.privileges.has(privilege)).map(|(column, _)| column.clone()).collect()
    }

    /// Whether it names a role.
    pub(super) fn names(&self, role: &str) -> bool {
        self.0.iter().any(|item| item.grantee.as_deref() == Some(role) || item.grantor == role)
    }

    /// Gives what `from` granted to `to`, the new owner.
    pub(super) fn change_owner(&mut self, from: &str, to: &str) {
        for item in std::mem::take(&mut self.0) {
            let grantor = if item.grantor == from { to } else { &item.grantor };
            let own = self.item(item.grantee.as_deref(), grantor);
            own.held.grow(item.held.privileges, false);
            own.held.grow(item.held.grantable, true);
            for (column, held) in item.columns {
                let sum = own.columns.entry(column).or_default();
                sum.grow(held.privileges, false);
                sum.grow(held.grantable, true);
            }
        }
    }

    fn tidy(&mut self) {
        for item in &mut self.0 {
            item.columns.retain(|_, held| !held.is_empty());
        }
        self.0.retain(|item| !item.held.is_empty() || !item.columns.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn select() -> Wanted {
        Wanted { whole: Privileges::of(&[Privilege::Select]), ..Wanted::default() }
    }

    fn roles(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn what_is_passed_on_goes_with_its_grantor() {
        let mut acl = Acl::default();
        acl.grant(&select(), Some("ann"), "owner", true).unwrap();
        acl.grant(&select(), Some("bob"), "ann", true).unwrap();
        acl.grant(&select(), Some("cid"), "bob", false).unwrap();
        let before = acl.clone();
        let error = acl.revoke(&select(), Some("ann"), "owner", false, false).unwrap_err();
        assert_eq!(error.code, Code::DependentObjects);
        acl = before;
        acl.revoke(&select(), Some("ann"), "owner", true, true).unwrap();
        assert!(acl.has(&roles(&["ann"]), Privilege::Select));
        assert!(!acl.has(&roles(&["bob"]), Privilege::Select) && !acl.has(&roles(&["cid"]), Privilege::Select));
    }

    #[test]
    fn a_whole_table_takes_its_columns_along() {
        let mut acl = Acl::default();
        let columns = BTreeMap::from([("a".to_owned(), Privileges::of(&[Privilege::Select, Privilege::Insert]))]);
        acl.grant(&Wanted { columns, ..Wanted::default() }, Some("ann"), "owner", false).unwrap();
        assert_eq!(acl.columns(&roles(&["ann"]), Privilege::Select), roles(&["a"]));
        acl.revoke(&select(), Some("ann"), "owner", false, false).unwrap();
        assert!(acl.columns(&roles(&["ann"]), Privilege::Select).is_empty());
        assert_eq!(acl.columns(&roles(&["ann"]), Privilege::Insert), roles(&["a"]));
        let text = serde_json::to_string(&acl).unwrap();
        assert_eq!(serde_json::from_str::<Acl>(&text).unwrap(), acl, "{text}");
    }
}
