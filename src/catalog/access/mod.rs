//! Who may do what: privileges, memberships of roles, row policies, masks of columns, locations of files.
//!
//! One document inside the catalog's file ([`StoredAccess`]), so that a grant is as durable, and as atomic, as a definition;
//! whatever is dropped takes its grants along in the same change. [`Rights`] answers questions about one role over one version
//! of the catalog. The semantics are PostgreSQL 15's: superusers may do everything to an object, owners everything that nobody
//! took from them, privileges come from all roles that a role is a member of, PUBLIC has what everybody has.
//!
//! Life of a question: the engine's gate asks [`Rights::table`] while a query is planned and gets what the role sees of a table
//! (columns, policies, masks); statements that write ask [`Rights::require`] or [`Rights::require_owner`] before they begin.
//! Here is only what was said; planning and applying policies is the engine's. Absent on purpose: SQL text is kept, not read.

mod acl;
mod defaults;
mod grants;
mod locations;
mod members;
mod policies;
mod privilege;
mod rights;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use acl::{Acl, AclItem, Held, Wanted};
pub use defaults::{DefaultClass, DefaultGrant, StoredDefault};
pub use grants::{Grant, Granted};
pub use locations::LocationInfo;
pub use members::{Membership, PREDEFINED};
pub use policies::{MaskInfo, PolicyCommand, PolicyInfo, RowSecurity, StoredMask, StoredPolicy};
pub use privilege::{Object, ObjectClass, Privilege, Privileges};
pub(super) use rights::is_superuser;
pub use rights::{Columns, Rights, TableRights};

use locations::StoredLocation;

/// Everything that is said about access.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StoredAccess {
    /// Grants by object, where they differ from the initial ones.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) acls: BTreeMap<String, Acl>,
    /// Members by the role that they are members of.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) members: BTreeMap<String, BTreeMap<String, Membership>>,
    /// Policies and masks by table.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) row_security: BTreeMap<String, RowSecurity>,
    /// Folders of files by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) locations: BTreeMap<String, StoredLocation>,
    /// What roles grant on objects that they will make.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) defaults: Vec<StoredDefault>,
}

impl StoredAccess {
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Forgets what was said about an object that is dropped.
    pub(super) fn forget(&mut self, object: &Object) {
        self.acls.remove(&object.key());
        if object.class == ObjectClass::Table {
            self.row_security.remove(&object.name);
        }
    }

    /// Moves what was said about an object to its new name.
    pub(super) fn rename(&mut self, from: &Object, to: &Object) {
        if let Some(acl) = self.acls.remove(&from.key()) {
            self.acls.insert(to.key(), acl);
        }
    }

    /// What was granted on an object by its owner is its new owner's.
    pub(super) fn change_owner(&mut self, object: &Object, from: &str, to: &str) {
        if let Some(acl) = self.acls.get_mut(&object.key()) {
            acl.change_owner(from, to);
        }
    }

    /// Where a role is named: what keeps it from being dropped.
    pub(super) fn names(&self, role: &str) -> Option<String> {
        let granted = self.acls.iter().find(|(_, acl)| acl.names(role)).map(|(object, _)| format!("privileges for {object}"));
        let policy = || {
            let mut tables = self.row_security.iter();
            tables.find(|(_, security)| security.names(role)).map(|(table, _)| format!("target of a policy or mask on table {table}"))
        };
        let location = || self.locations.iter().find(|(_, found)| found.owner == role).map(|(name, _)| format!("owner of location {name}"));
        granted.or_else(|| self.in_defaults(role)).or_else(policy).or_else(location)
    }
}
