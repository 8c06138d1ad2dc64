//! Who was granted what by whom on one object, and how that grows and shrinks.

use std::collections::{BTreeMap, BTreeSet};

use portrait_udfs::error::{Code, Error, Result};
use serde::{Deserialize, Serialize};

use super::privilege::{Privilege, Privileges};

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

    fn add(&mut self, other: Self) {
        self.grow(other.privileges, false);
        self.grow(other.grantable, true);
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
    /// Whether it says what the owner holds, instead of everything.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub owner: bool,
}

impl AclItem {
    fn new(grantee: Option<&str>, grantor: &str, privileges: Privileges) -> Self {
        Self {
            grantee: grantee.map(str::to_owned),
            grantor: grantor.to_owned(),
            held: Held { privileges, grantable: Privileges::NONE },
            columns: BTreeMap::new(),
            owner: false,
        }
    }

    /// Adds what another item of the same two roles holds.
    fn add(&mut self, other: &Self) {
        self.held.add(other.held);
        for (column, held) in &other.columns {
            self.columns.entry(column.clone()).or_default().add(*held);
        }
    }
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

/// The grants on one object. Its owner holds everything and is not among them, until some of that is revoked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Acl(pub Vec<AclItem>);

impl Acl {
    /// What an object of `owner` has before anything is granted on it: `public` for everybody.
    pub(super) fn initial(public: Privileges, owner: &str) -> Self {
        Self(if public.is_empty() { Vec::new() } else { vec![AclItem::new(None, owner, public)] })
    }

    /// What the owner holds, where it is not everything.
    pub fn of_owner(&self) -> Option<&AclItem> {
        self.0.iter().find(|item| item.owner)
    }

    /// Writes down what the owner holds, which is `all` unless that is written down already.
    pub(super) fn spell_out(&mut self, all: Privileges, owner: &str) {
        if self.of_owner().is_none() {
            // An owner that was granted something before it became the owner.
            self.0.retain(|item| item.grantee.as_deref() != Some(owner) || item.grantor != owner);
            self.0.insert(0, AclItem { owner: true, ..AclItem::new(Some(owner), owner, all) });
        }
    }

    /// Forgets what the owner holds where it is everything (again).
    pub(super) fn fold(&mut self, all: Privileges) {
        let whole = |item: &AclItem| item.held == Held { privileges: all, ..Held::default() } && item.columns.is_empty();
        self.0.retain(|item| !item.owner || !whole(item));
    }

    /// Adds the grants of `more`, of the same `owner`, who holds `all` of what it does not say otherwise.
    pub(super) fn merge(&mut self, more: &Self, all: Privileges, owner: &str) {
        for item in &more.0 {
            if item.owner {
                if self.of_owner().is_none() && item.held.grantable.is_empty() {
                    continue;
                }
                self.spell_out(all, owner);
            }
            self.item(item.grantee.as_deref(), &item.grantor).add(item);
        }
        self.fold(all);
    }

    fn item(&mut self, grantee: Option<&str>, grantor: &str) -> &mut AclItem {
        let found = self.0.iter().position(|item| item.grantee.as_deref() == grantee && item.grantor == grantor);
        let at = found.unwrap_or_else(|| {
            self.0.push(AclItem::new(grantee, grantor, Privileges::NONE));
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
    pub(super) fn revoke(
        &mut self,
        wanted: &Wanted,
        grantee: Option<&str>,
        (grantor, owner): (&str, &str),
        option_only: bool,
        cascade: bool,
    ) -> Result<()> {
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
        if let Some(grantee) = grantee { self.drop_orphans(grantee, owner, cascade) } else { Ok(()) }
    }

    /// Takes back what `role` granted with options that it no longer has. An owner has them all, whatever it holds.
    fn drop_orphans(&mut self, role: &str, owner: &str, cascade: bool) -> Result<()> {
        if role == owner {
            return Ok(());
        }
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
        losers.into_iter().try_for_each(|loser| self.drop_orphans(&loser, owner, cascade))
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

    /// Puts `to`, the new owner, in the place of `from`.
    pub(super) fn change_owner(&mut self, from: &str, to: &str) {
        let renamed = |role: &str| if role == from { to.to_owned() } else { role.to_owned() };
        let spelled_out = self.of_owner().is_some();
        for item in std::mem::take(&mut self.0) {
            let (grantee, grantor) = (item.grantee.as_deref().map(renamed), renamed(&item.grantor));
            let own = grantee.as_deref() == Some(to) && grantor == to;
            // Who holds everything needs no grant.
            if !own || spelled_out {
                let sum = self.item(grantee.as_deref(), &grantor);
                sum.owner = own;
                sum.add(&item);
            }
        }
    }

    fn tidy(&mut self) {
        for item in &mut self.0 {
            item.columns.retain(|_, held| !held.is_empty());
        }
        self.0.retain(|item| item.owner || !item.held.is_empty() || !item.columns.is_empty());
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
        let error = acl.revoke(&select(), Some("ann"), ("owner", "owner"), false, false).unwrap_err();
        assert_eq!(error.code, Code::DependentObjects);
        acl = before;
        acl.revoke(&select(), Some("ann"), ("owner", "owner"), true, true).unwrap();
        assert!(acl.has(&roles(&["ann"]), Privilege::Select));
        assert!(!acl.has(&roles(&["bob"]), Privilege::Select) && !acl.has(&roles(&["cid"]), Privilege::Select));
    }

    #[test]
    fn a_whole_table_takes_its_columns_along() {
        let mut acl = Acl::default();
        let columns = BTreeMap::from([("a".to_owned(), Privileges::of(&[Privilege::Select, Privilege::Insert]))]);
        acl.grant(&Wanted { columns, ..Wanted::default() }, Some("ann"), "owner", false).unwrap();
        assert_eq!(acl.columns(&roles(&["ann"]), Privilege::Select), roles(&["a"]));
        acl.revoke(&select(), Some("ann"), ("owner", "owner"), false, false).unwrap();
        assert!(acl.columns(&roles(&["ann"]), Privilege::Select).is_empty());
        assert_eq!(acl.columns(&roles(&["ann"]), Privilege::Insert), roles(&["a"]));
        let text = serde_json::to_string(&acl).unwrap();
        assert_eq!(serde_json::from_str::<Acl>(&text).unwrap(), acl, "{text}");
    }

    #[test]
    fn an_owner_holds_everything_until_some_of_it_is_revoked() {
        let (all, mut acl) = (Privileges::of(&[Privilege::Select, Privilege::Insert]), Acl::default());
        acl.spell_out(all, "owner");
        acl.grant(&select(), Some("ann"), "owner", false).unwrap();
        acl.revoke(&select(), Some("owner"), ("owner", "owner"), false, false).unwrap();
        acl.fold(all);
        assert_eq!(acl.of_owner().unwrap().held.privileges, Privileges::of(&[Privilege::Insert]));
        // What it granted stays, and another owner holds as little.
        assert!(acl.has(&roles(&["ann"]), Privilege::Select) && !acl.has(&roles(&["owner"]), Privilege::Select));
        acl.change_owner("owner", "new");
        assert!(!acl.has(&roles(&["new"]), Privilege::Select) && acl.has(&roles(&["new"]), Privilege::Insert));
        let text = serde_json::to_string(&acl).unwrap();
        assert_eq!(serde_json::from_str::<Acl>(&text).unwrap(), acl, "{text}");
        acl.grant(&select(), Some("new"), "new", false).unwrap();
        acl.fold(all);
        assert!(acl.of_owner().is_none());
        // Nothing at all is not everything.
        acl.spell_out(all, "new");
        acl.revoke(&Wanted { whole: all, ..Wanted::default() }, Some("new"), ("new", "new"), false, false).unwrap();
        assert!(acl.of_owner().is_some_and(|own| own.held.is_empty()));
    }

    #[test]
    fn what_an_owner_granted_hangs_on_nothing() {
        let mut acl = Acl::default();
        acl.grant(&select(), Some("bob"), "owner", true).unwrap();
        acl.grant(&select(), Some("owner"), "bob", false).unwrap();
        acl.revoke(&select(), Some("owner"), ("bob", "owner"), false, false).unwrap();
        assert!(acl.has(&roles(&["bob"]), Privilege::Select));
    }

    #[test]
    fn a_new_owner_needs_no_grant() {
        let mut acl = Acl::default();
        acl.grant(&select(), Some("ann"), "owner", false).unwrap();
        acl.grant(&select(), Some("bob"), "owner", false).unwrap();
        acl.change_owner("owner", "ann");
        assert_eq!(acl.0.len(), 1);
        assert_eq!((acl.0[0].grantee.as_deref(), acl.0[0].grantor.as_str()), (Some("bob"), "ann"));
    }
}
