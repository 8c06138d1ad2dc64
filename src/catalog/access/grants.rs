//! `GRANT` and `REVOKE` on objects: who may, and what comes of it.

use std::collections::BTreeMap;

use portrait_udfs::error::{Code, Error, Result};

use super::super::file::Definitions;
use super::{Acl, Object, ObjectClass, Privileges, Wanted, members, rights};

/// One GRANT or REVOKE.
#[derive(Debug, Clone)]
pub struct Grant {
    /// The objects, which exist. Of models also who owns them: (object, owner).
    pub objects: Vec<(Object, Option<String>)>,
    /// What is granted or revoked.
    pub wanted: Wanted,
    /// To or from whom; `None` = PUBLIC.
    pub grantees: Vec<Option<String>>,
    /// `WITH GRANT OPTION`, or `GRANT OPTION FOR`.
    pub option: bool,
    /// REVOKE … CASCADE.
    pub cascade: bool,
    /// REVOKE rather than GRANT.
    pub revoke: bool,
}

/// What came of a GRANT or REVOKE.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Granted {
    /// Objects on which the caller could grant only a part of what was asked: PostgreSQL warns of them.
    pub partly: Vec<String>,
}

impl super::super::Catalog {
    /// Carries out a GRANT or REVOKE: on all objects, or on none.
    ///
    /// # Errors
    /// 42501 for a caller that holds no grant option, 42704 for a role that does not exist, 0LP01 for a privilege that such an
    /// object does not have, 2BP01 for a REVOKE that others depend on.
    pub async fn grant(&self, caller: &str, grant: Grant) -> Result<Granted> {
        let caller = caller.to_owned();
        self.inner
            .change(move |definitions| {
                for grantee in grant.grantees.iter().flatten() {
                    members::must_exist(definitions, grantee)?;
                }
                let mut done = Granted::default();
                for (object, owner) in &grant.objects {
                    if !grant_on(definitions, &caller, object, owner.as_deref(), &grant)? {
                        done.partly.push(object.name.clone());
                    }
                }
                Ok(done)
            })
            .await
    }

    /// Forgets the grants on a model that is dropped.
    ///
    /// # Errors
    /// When the catalog cannot be written.
    pub async fn forget_model(&self, name: &str) -> Result<()> {
        let object = Object::new(ObjectClass::Model, name);
        if !self.inner.state().definitions.access.acls.contains_key(&object.key()) {
            return Ok(());
        }
        self.inner
            .change(move |definitions| {
                definitions.access.forget(&object);
                Ok(())
            })
            .await
    }

    /// Moves the grants on a model to its new name.
    ///
    /// # Errors
    /// When the catalog cannot be written.
    pub async fn rename_model(&self, from: &str, to: &str) -> Result<()> {
        let (from, to) = (Object::new(ObjectClass::Model, from), Object::new(ObjectClass::Model, to));
        if !self.inner.state().definitions.access.acls.contains_key(&from.key()) {
            return Ok(());
        }
        self.inner
            .change(move |definitions| {
                definitions.access.rename(&from, &to);
                Ok(())
            })
            .await
    }

    /// Every object that has grants of its own: (object, its grants).
    pub fn acls(&self) -> Vec<(Object, Acl)> {
        let state = self.inner.state();
        let classes = [
            ObjectClass::Table,
            ObjectClass::Schema,
            ObjectClass::Database,
            ObjectClass::Function,
            ObjectClass::Model,
            ObjectClass::Audience,
            ObjectClass::Location,
        ];
        let read = |(key, acl): (&String, &Acl)| {
            let (word, name) = key.split_once(' ')?;
            let class = classes.into_iter().find(|class| class.word().eq_ignore_ascii_case(word))?;
            Some((Object::new(class, name), acl.clone()))
        };
        state.definitions.access.acls.iter().filter_map(read).collect()
    }
}

/// Grants on one object; false when only a part could be.
fn grant_on(definitions: &mut Definitions, caller: &str, object: &Object, owner: Option<&str>, grant: &Grant) -> Result<bool> {
    let valid = object.class.privileges();
    if let Some(wrong) = grant.wanted.whole.without(valid).iter().next() {
        let message = format!("invalid privilege type {} for {}", wrong.word(), object.class.word().to_ascii_lowercase());
        return Err(Error::new(Code::InvalidGrant, message));
    }
    let owner = owner.map(str::to_owned).or_else(|| owner_of(definitions, object));
    let superuser = rights::is_superuser(definitions, caller);
    let roles = definitions.access.closure(caller);
    let is_owner = superuser || owner.as_ref().is_some_and(|owner| roles.contains(owner));
    let owner = owner.unwrap_or_default();
    let mut acl = definitions.access.acls.get(&object.key()).cloned();
    let acl = acl.get_or_insert_with(|| definitions.access.built_in(object, &owner));
    // A superuser acts as the owner; everybody else passes on what they may.
    let (grantor, wanted, whole) = if is_owner {
        (owner.clone(), grant.wanted.clone(), true)
    } else {
        let (may, columns) = acl.grantable(&roles);
        let part = Wanted {
            whole: grant.wanted.whole.common(may),
            columns: grant
                .wanted
                .columns
                .iter()
                .map(|(column, wanted)| (column.clone(), wanted.common(may.and(columns.get(column).copied().unwrap_or_default()))))
                .filter(|(_, privileges)| !privileges.is_empty())
                .collect::<BTreeMap<_, _>>(),
        };
        if part.is_empty() {
            return Err(object.denied());
        }
        let whole = part == grant.wanted;
        (grantor_of(acl, &roles, caller, part.whole), part, whole)
    };
    for grantee in &grant.grantees {
        let grantee = grantee.as_deref();
        if grantee == Some(grantor.as_str()) {
            // Nobody but an owner is its own grantor.
            if !is_owner {
                continue;
            }
            acl.spell_out(valid, &grantor);
        }
        if grant.revoke {
            acl.revoke(&wanted, grantee, (&grantor, &owner), grant.option, grant.cascade)?;
        } else {
            acl.grant(&wanted, grantee, &grantor, grant.option)?;
        }
    }
    acl.fold(valid);
    definitions.access.acls.insert(object.key(), acl.clone());
    Ok(whole)
}

/// The role that the caller grants as: itself, or one that it is a member of and that holds the option.
fn grantor_of(acl: &Acl, roles: &std::collections::BTreeSet<String>, caller: &str, wanted: Privileges) -> String {
    let holds = |role: &str| {
        let own = acl.0.iter().filter(|item| item.grantee.as_deref() == Some(role));
        own.fold(Privileges::NONE, |sum, item| sum.and(item.held.grantable)).common(wanted) == wanted
    };
    if holds(caller) {
        return caller.to_owned();
    }
    roles.iter().find(|role| holds(role)).cloned().unwrap_or_else(|| caller.to_owned())
}

fn owner_of(definitions: &Definitions, object: &Object) -> Option<String> {
    match object.class {
        ObjectClass::Table => definitions.relations.get(&object.name).map(|relation| relation.owner.clone()),
        ObjectClass::Audience => definitions.audiences.get(&object.name).map(|audience| audience.owner.clone()),
        ObjectClass::Location => definitions.access.locations.get(&object.name).map(|location| location.owner.clone()),
        // They belong to nobody who could be dropped.
        ObjectClass::Schema | ObjectClass::Database | ObjectClass::Function | ObjectClass::Model => None,
    }
}
