//! What one role may do, over one version of the catalog.

use std::collections::BTreeSet;
use std::sync::Arc;

use portrait_udfs::error::Result;

use super::super::file::Definitions;
use super::super::open::State;
use super::{Acl, Object, ObjectClass, PolicyCommand, Privilege, StoredMask, StoredPolicy};

/// The rights of a role.
#[derive(Debug, Clone)]
pub struct Rights {
    state: Arc<State>,
    role: String,
    superuser: bool,
    /// The role and all that it is a member of.
    roles: BTreeSet<String>,
}

/// Columns of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Columns {
    /// All of them.
    All,
    /// These, or none.
    Some(BTreeSet<String>),
}

/// What a role sees of a table.
#[derive(Debug, Clone)]
pub struct TableRights {
    /// The columns that it may read.
    pub select: Columns,
    /// The row policies for what it reads, by name; `None` = it sees all rows.
    pub policies: Option<Vec<(String, StoredPolicy)>>,
    /// The masks that it sees columns through, by name.
    pub masks: Vec<(String, StoredMask)>,
}

impl TableRights {
    /// Whether the table is seen as it is.
    pub fn is_whole(&self) -> bool {
        self.select == Columns::All && self.policies.is_none() && self.masks.is_empty()
    }
}

/// Whether a role may do everything. Before there is any role, as in a program that embeds the engine, everybody may.
pub(in super::super) fn is_superuser(definitions: &Definitions, role: &str) -> bool {
    definitions.roles.is_empty() || definitions.roles.get(role).is_some_and(|role| role.superuser)
}

impl Rights {
    pub(in super::super) fn new(state: Arc<State>, role: &str) -> Self {
        let superuser = is_superuser(&state.definitions, role);
        let roles = state.definitions.access.closure(role);
        Self { state, role: role.to_owned(), superuser, roles }
    }

    /// Whose they are.
    pub fn role(&self) -> &str {
        &self.role
    }

    /// Whether the role may do everything.
    pub fn superuser(&self) -> bool {
        self.superuser
    }

    /// Whether the role is `other` or a member of it.
    pub fn is_member(&self, other: &str) -> bool {
        self.superuser || self.roles.contains(other)
    }

    /// Whether the role may act as `other` by `SET ROLE`.
    pub fn may_become(&self, other: &str) -> bool {
        self.is_member(other)
    }

    /// Who owns an object; `None` for what belongs to the superusers, and for models, whose owners the registry knows.
    fn owner(&self, object: &Object) -> Option<&str> {
        let definitions = &self.state.definitions;
        match object.class {
            ObjectClass::Table => definitions.relations.get(&object.name).map(|relation| relation.owner.as_str()),
            ObjectClass::Audience => definitions.audiences.get(&object.name).map(|audience| audience.owner.as_str()),
            ObjectClass::Location => definitions.access.locations.get(&object.name).map(|location| location.owner.as_str()),
            ObjectClass::Schema | ObjectClass::Database | ObjectClass::Function | ObjectClass::Model => None,
        }
    }

    /// Whether the role may change and drop an object.
    pub fn owns(&self, object: &Object) -> bool {
        self.superuser || self.owner(object).is_some_and(|owner| self.roles.contains(owner))
    }

    /// As [`owns`](Self::owns), of an object whose owner is known.
    pub fn owns_of(&self, owner: &str) -> bool {
        self.superuser || self.roles.contains(owner)
    }

    /// The grants on an object, also the initial ones.
    pub fn acl(&self, object: &Object) -> Acl {
        let access = &self.state.definitions.access;
        access.acls.get(&object.key()).cloned().unwrap_or_else(|| access.built_in(object, self.owner(object).unwrap_or_default()))
    }

    /// Whether the role has a privilege on a whole object: it was granted it, or owns the object and did not give the privilege up.
    pub fn may(&self, privilege: Privilege, object: &Object) -> bool {
        self.holds(privilege, object, self.owner(object))
    }

    fn holds(&self, privilege: Privilege, object: &Object, owner: Option<&str>) -> bool {
        if self.superuser || self.predefined(privilege, object.class) {
            return true;
        }
        let access = &self.state.definitions.access;
        let own = owner.is_some_and(|owner| self.roles.contains(owner));
        let holds = |acl: &Acl| (own && acl.of_owner().is_none()) || acl.has(&self.roles, privilege);
        match access.acls.get(&object.key()) {
            Some(acl) => holds(acl),
            None => holds(&access.built_in(object, owner.unwrap_or_default())),
        }
    }

    /// What the predefined roles grant.
    fn predefined(&self, privilege: Privilege, class: ObjectClass) -> bool {
        let member = |role: &str| self.roles.contains(role);
        match (class, privilege) {
            (ObjectClass::Table | ObjectClass::Audience, Privilege::Select) => member("pg_read_all_data"),
            (ObjectClass::Table, Privilege::Insert | Privilege::Update | Privilege::Delete) => member("pg_write_all_data"),
            (ObjectClass::Schema, Privilege::Usage) => member("pg_read_all_data") || member("pg_write_all_data"),
            _ => false,
        }
    }

    /// As [`may`](Self::may), of a model (or transform) of `owner`.
    pub fn may_execute_model(&self, model: &str, owner: &str) -> bool {
        self.holds(Privilege::Execute, &Object::new(ObjectClass::Model, model), Some(owner))
    }

    /// The columns of a table on which the role has a privilege.
    pub fn columns(&self, privilege: Privilege, table: &str) -> Columns {
        let object = Object::table(table);
        if self.may(privilege, &object) {
            return Columns::All;
        }
        let acl = self.state.definitions.access.acls.get(&object.key());
        Columns::Some(acl.map(|acl| acl.columns(&self.roles, privilege)).unwrap_or_default())
    }

    /// What the role sees of a table.
    pub fn table(&self, name: &str) -> TableRights {
        let owner = self.owns(&Object::table(name));
        let security = self.state.definitions.access.row_security.get(name);
        let masks = security.filter(|_| !owner).map(|security| {
            let seen = security.masks.iter().filter(|(_, mask)| self.concerns(&mask.roles));
            seen.map(|(name, mask)| (name.clone(), mask.clone())).collect()
        });
        TableRights {
            select: self.columns(Privilege::Select, name),
            policies: self.policies(name, PolicyCommand::Select),
            masks: masks.unwrap_or_default(),
        }
    }

    /// The policies that rows of a table fulfil for the role; `None` = none are asked.
    pub fn policies(&self, table: &str, command: PolicyCommand) -> Option<Vec<(String, StoredPolicy)>> {
        let security = self.state.definitions.access.row_security.get(table).filter(|security| security.enabled)?;
        if self.superuser || (!security.forced && self.owns(&Object::table(table))) {
            return None;
        }
        let concerns =
            |policy: &StoredPolicy| self.concerns(&policy.roles) && (policy.command == command || policy.command == PolicyCommand::All);
        let found = security.policies.iter().filter(|(_, policy)| concerns(policy));
        Some(found.map(|(name, policy)| (name.clone(), policy.clone())).collect())
    }

    /// Whether something is for the role: for everybody, or for a role that it is a member of.
    fn concerns(&self, roles: &BTreeSet<String>) -> bool {
        roles.is_empty() || !roles.is_disjoint(&self.roles)
    }

    /// Whether any function has grants of its own: until then everybody may call all of them.
    pub fn restricts_functions(&self) -> bool {
        !self.superuser && self.state.definitions.access.acls.keys().any(|object| object.starts_with("function "))
    }

    /// The folders of files that the role may read (or with `write`, write); `None` = all that the server may.
    pub fn locations(&self, write: bool) -> Option<Vec<String>> {
        let all = if write { "pg_write_server_files" } else { "pg_read_server_files" };
        if self.superuser || self.roles.contains(all) {
            return None;
        }
        let locations = self.state.definitions.access.locations.iter();
        let granted = locations.filter(|(name, _)| self.may(Privilege::Usage, &Object::new(ObjectClass::Location, name.as_str())));
        Some(granted.filter(|(_, location)| location.writable || !write).map(|(_, location)| location.path.clone()).collect())
    }

    /// Demands a privilege on a whole object.
    ///
    /// # Errors
    /// 42501.
    pub fn require(&self, privilege: Privilege, object: &Object) -> Result<()> {
        if self.may(privilege, object) { Ok(()) } else { Err(object.denied()) }
    }

    /// Demands that the role owns an object; one that does not exist passes: who looks for it next says so.
    ///
    /// # Errors
    /// 42501.
    pub fn require_owner(&self, object: &Object) -> Result<()> {
        let exists = self.owner(object).is_some();
        if !exists || self.owns(object) { Ok(()) } else { Err(object.not_owned()) }
    }

    /// Demands that `caller` is `owner`, a member of it, or a superuser.
    pub(in super::super) fn owner_in(definitions: &Definitions, caller: &str, owner: &str, object: &Object) -> Result<()> {
        if is_superuser(definitions, caller) || definitions.access.closure(caller).contains(owner) {
            return Ok(());
        }
        Err(object.not_owned())
    }
}
