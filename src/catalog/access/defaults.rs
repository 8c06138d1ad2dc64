//! Default privileges (`ALTER DEFAULT PRIVILEGES`): what is granted on the objects that a role will make.
//!
//! As in PostgreSQL a role has defaults of its own, which take the place of what objects of a kind have otherwise, and more of them
//! by schema, which are added. An object gets them in the change that makes it. Models are made where the catalog does not look:
//! they have no grants of their own until something is granted on them, and then mean the defaults of now; whoever changes those
//! writes down first what the models of then have.

use portrait_udfs::error::{Code, Error, Result};
use serde::{Deserialize, Serialize};

use super::super::PUBLIC;
use super::super::file::Definitions;
use super::{Acl, Object, ObjectClass, Privilege, Privileges, StoredAccess, Wanted, members, rights};

/// The schema that models are in.
const MODELS: &str = "ml";

/// Kinds of objects that default privileges are for. Nobody makes sequences, types, schemas and functions here: theirs are kept and
/// shown, so that scripts for PostgreSQL run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DefaultClass {
    /// Tables, views, materialized views and external tables.
    Tables,
    /// Sequences.
    Sequences,
    /// Functions.
    Functions,
    /// Types.
    Types,
    /// Schemas.
    Schemas,
    /// Models and transforms.
    Models,
    /// Audiences.
    Audiences,
}

impl DefaultClass {
    /// Every one of them.
    pub const ALL: [Self; 7] = [Self::Tables, Self::Sequences, Self::Functions, Self::Types, Self::Schemas, Self::Models, Self::Audiences];

    /// The word after ON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Tables => "TABLES",
            Self::Sequences => "SEQUENCES",
            Self::Functions => "FUNCTIONS",
            Self::Types => "TYPES",
            Self::Schemas => "SCHEMAS",
            Self::Models => "MODELS",
            Self::Audiences => "AUDIENCES",
        }
    }

    /// What one of them is called, as PostgreSQL calls it.
    fn noun(self) -> &'static str {
        match self {
            Self::Tables => "relation",
            Self::Sequences => "sequence",
            Self::Functions => "function",
            Self::Types => "type",
            Self::Schemas => "schema",
            Self::Models => "model",
            Self::Audiences => "audience",
        }
    }

    /// Its letter in `pg_default_acl`; PostgreSQL has none for models and audiences.
    pub fn letter(self) -> &'static str {
        match self {
            Self::Tables => "r",
            Self::Sequences => "S",
            Self::Functions => "f",
            Self::Types => "T",
            Self::Schemas => "n",
            Self::Models => "m",
            Self::Audiences => "a",
        }
    }

    /// The privileges that there are for it.
    pub fn privileges(self) -> Privileges {
        match self {
            Self::Tables => ObjectClass::Table.privileges(),
            Self::Sequences => Privileges::of(&[Privilege::Select, Privilege::Update, Privilege::Usage]),
            Self::Functions => ObjectClass::Function.privileges(),
            Self::Types => Privileges::of(&[Privilege::Usage]),
            Self::Schemas => ObjectClass::Schema.privileges(),
            Self::Models => ObjectClass::Model.privileges(),
            Self::Audiences => ObjectClass::Audience.privileges(),
        }
    }

    /// What everybody may do when nothing is said.
    fn public(self) -> Privileges {
        match self {
            Self::Functions => Privileges::of(&[Privilege::Execute]),
            Self::Types => Privileges::of(&[Privilege::Usage]),
            _ => Privileges::NONE,
        }
    }

    /// That of objects which somebody makes, and the schema that they are made in.
    fn of(class: ObjectClass) -> Option<(Self, &'static str)> {
        match class {
            ObjectClass::Table => Some((Self::Tables, PUBLIC)),
            ObjectClass::Audience => Some((Self::Audiences, PUBLIC)),
            ObjectClass::Model => Some((Self::Models, MODELS)),
            ObjectClass::Schema | ObjectClass::Database | ObjectClass::Function | ObjectClass::Location => None,
        }
    }
}

/// The default privileges of one role, for objects of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredDefault {
    /// Object id.
    pub oid: u32,
    /// Who makes the objects.
    pub role: String,
    /// Where; `None` = wherever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
    /// Of which kind they are.
    pub class: DefaultClass,
    /// All that they get; with a schema, what they get as well.
    pub acl: Acl,
}

/// One ALTER DEFAULT PRIVILEGES.
#[derive(Debug, Clone)]
pub struct DefaultGrant {
    /// Whose objects.
    pub roles: Vec<String>,
    /// In which schemas; none = wherever.
    pub schemas: Vec<String>,
    /// Of which kind.
    pub class: DefaultClass,
    /// What is granted or revoked.
    pub privileges: Privileges,
    /// To or from whom; `None` = PUBLIC.
    pub grantees: Vec<Option<String>>,
    /// `WITH GRANT OPTION`, or `GRANT OPTION FOR`.
    pub option: bool,
    /// REVOKE … CASCADE.
    pub cascade: bool,
    /// REVOKE rather than GRANT.
    pub revoke: bool,
    /// The models that there are: (model, owner).
    pub models: Vec<(String, String)>,
}

impl super::super::Catalog {
    /// `ALTER DEFAULT PRIVILEGES`.
    ///
    /// # Errors
    /// 42704 for a role, 3F000 for a schema that does not exist; 42501 for a role that the caller is no member of; 0LP01 for a
    /// privilege that such objects do not have; 2BP01 for a REVOKE that others depend on.
    pub async fn alter_defaults(&self, caller: &str, change: DefaultGrant) -> Result<()> {
        for schema in &change.schemas {
            if schema != PUBLIC && !self.inner.attached.read().contains_key(schema) {
                return Err(Error::new(Code::UndefinedSchema, format!("schema \"{schema}\" does not exist")));
            }
        }
        let caller = caller.to_owned();
        self.inner.change(move |definitions| alter(definitions, &caller, &change)).await
    }

    /// All default privileges, in the order in which they were made.
    pub fn defaults(&self) -> Vec<StoredDefault> {
        self.inner.state().definitions.access.defaults.clone()
    }
}

fn alter(definitions: &mut Definitions, caller: &str, change: &DefaultGrant) -> Result<()> {
    if let Some(wrong) = change.privileges.without(change.class.privileges()).iter().next() {
        let message = format!("invalid privilege type {} for {}", wrong.word(), change.class.noun());
        return Err(Error::new(Code::InvalidGrant, message));
    }
    if change.class == DefaultClass::Schemas && !change.schemas.is_empty() {
        return Err(Error::new(Code::InvalidGrant, "cannot use IN SCHEMA clause when using GRANT/REVOKE ON SCHEMAS"));
    }
    change.roles.iter().chain(change.grantees.iter().flatten()).try_for_each(|role| members::must_exist(definitions, role))?;
    let (superuser, own) = (rights::is_superuser(definitions, caller), definitions.access.closure(caller));
    for role in &change.roles {
        // Whoever is a member could become it anyway.
        if !superuser && !own.contains(role) {
            return Err(Error::new(Code::InsufficientPrivilege, format!("must be member of role \"{role}\"")));
        }
        if change.class == DefaultClass::Models {
            keep_models(definitions, role, &change.models);
        }
        match change.schemas.as_slice() {
            [] => alter_one(definitions, role, None, change)?,
            schemas => {
                // Models are in one schema, by whichever of its names they are granted.
                let named = |schema: &String| if change.class == DefaultClass::Models { MODELS.to_owned() } else { schema.clone() };
                schemas.iter().map(named).try_for_each(|schema| alter_one(definitions, role, Some(schema), change))?;
            }
        }
    }
    Ok(())
}

/// Gives the models of a role grants of their own: new defaults are not theirs.
fn keep_models(definitions: &mut Definitions, role: &str, models: &[(String, String)]) {
    for (model, _) in models.iter().filter(|(_, owner)| owner == role) {
        let object = Object::new(ObjectClass::Model, model.as_str());
        if !definitions.access.acls.contains_key(&object.key()) {
            let acl = definitions.access.built_in(&object, role);
            definitions.access.acls.insert(object.key(), acl);
        }
    }
}

fn alter_one(definitions: &mut Definitions, role: &str, schema: Option<String>, change: &DefaultGrant) -> Result<()> {
    let class = change.class;
    let same = |found: &StoredDefault| found.role == role && found.schema == schema && found.class == class;
    let at = definitions.access.defaults.iter().position(same);
    let built_in = if schema.is_some() { Acl::default() } else { Acl::initial(class.public(), role) };
    // What a schema adds says nothing of what its owner has already.
    let all = if schema.is_some() { Privileges::NONE } else { class.privileges() };
    let mut acl = at.map_or_else(|| built_in.clone(), |at| definitions.access.defaults[at].acl.clone());
    let wanted = Wanted { whole: change.privileges, ..Wanted::default() };
    for grantee in change.grantees.iter().map(Option::as_deref) {
        if grantee == Some(role) {
            acl.spell_out(all, role);
        }
        if change.revoke {
            acl.revoke(&wanted, grantee, (role, role), change.option, change.cascade)?;
        } else {
            acl.grant(&wanted, grantee, role, change.option)?;
        }
    }
    acl.fold(all);
    match (acl == built_in, at) {
        (true, Some(at)) => {
            definitions.access.defaults.remove(at);
        }
        (true, None) => {}
        (false, Some(at)) => definitions.access.defaults[at].acl = acl,
        (false, None) => {
            let oid = definitions.take_oid();
            definitions.access.defaults.push(StoredDefault { oid, role: role.to_owned(), schema, class, acl });
        }
    }
    Ok(())
}

impl StoredAccess {
    /// What a new object of `owner` has; `None` when the owner has no defaults for it.
    fn default_of(&self, class: ObjectClass, owner: &str) -> Option<Acl> {
        let (class, schema) = DefaultClass::of(class)?;
        let own = |found: &&StoredDefault| found.role == owner && found.class == class;
        let global = self.defaults.iter().filter(own).find(|found| found.schema.is_none());
        let added = self.defaults.iter().filter(own).find(|found| found.schema.as_deref() == Some(schema));
        if global.is_none() && added.is_none() {
            return None;
        }
        let mut acl = global.map_or_else(|| Acl::initial(class.public(), owner), |found| found.acl.clone());
        if let Some(added) = added {
            acl.merge(&added.acl, class.privileges(), owner);
        }
        Some(acl)
    }

    /// What an object of `owner` has on which nothing was granted yet.
    pub(super) fn built_in(&self, object: &Object, owner: &str) -> Acl {
        let model = (object.class == ObjectClass::Model).then(|| self.default_of(object.class, owner)).flatten();
        model.unwrap_or_else(|| Acl::initial(object.class.public(&object.name), owner))
    }

    /// Gives a new object what its owner's defaults say.
    pub(in super::super) fn begin(&mut self, object: &Object, owner: &str) {
        if let Some(acl) = self.default_of(object.class, owner) {
            self.acls.insert(object.key(), acl);
        }
    }

    /// Where default privileges name a role.
    pub(super) fn in_defaults(&self, role: &str) -> Option<String> {
        let found = self.defaults.iter().find(|found| found.role == role || found.acl.names(role))?;
        let schema = found.schema.as_ref().map_or_else(String::new, |schema| format!(" in schema {schema}"));
        let on = format!("default privileges on new {}s belonging to role {}{schema}", found.class.noun(), found.role);
        Some(if found.role == role { on } else { format!("privileges for {on}") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Roles ann, bob and cid, of whom cid is a member of ann.
    fn definitions() -> Definitions {
        let mut definitions = Definitions::default();
        for name in ["ann", "bob", "cid"] {
            let role =
                super::super::super::file::StoredRole { oid: 1, superuser: false, login: false, verifier: None, connection_limit: None };
            definitions.roles.insert(name.into(), role);
        }
        let how = super::super::Membership { admin: false, grantor: "ann".into() };
        definitions.access.members.insert("ann".into(), [("cid".to_owned(), how)].into());
        definitions
    }

    fn change(class: DefaultClass, privileges: &[Privilege], grantee: Option<&str>) -> DefaultGrant {
        DefaultGrant {
            roles: vec!["ann".into()],
            schemas: Vec::new(),
            class,
            privileges: Privileges::of(privileges),
            grantees: vec![grantee.map(str::to_owned)],
            option: false,
            cascade: false,
            revoke: false,
            models: Vec::new(),
        }
    }

    fn shown(definitions: &Definitions, object: &Object) -> Vec<String> {
        let acl = definitions.access.acls.get(&object.key()).cloned().unwrap_or_default();
        acl.0.iter().map(|item| format!("{}={:?}", item.grantee.as_deref().unwrap_or_default(), item.held.privileges)).collect()
    }

    #[test]
    fn schemas_add_to_what_a_role_says() {
        let (mut definitions, table) = (definitions(), Object::table("t"));
        let select = change(DefaultClass::Tables, &[Privilege::Select], Some("bob"));
        alter(&mut definitions, "cid", &select).unwrap();
        let mut insert = change(DefaultClass::Tables, &[Privilege::Insert], Some("bob"));
        insert.schemas = vec!["public".into()];
        alter(&mut definitions, "ann", &insert).unwrap();
        let own = DefaultGrant { revoke: true, ..change(DefaultClass::Tables, &[Privilege::Delete], Some("ann")) };
        alter(&mut definitions, "ann", &own).unwrap();
        definitions.access.begin(&table, "ann");
        assert_eq!(shown(&definitions, &table), ["ann=arwDxt", "bob=ar"]);
        definitions.access.begin(&Object::table("other"), "cid");
        assert!(shown(&definitions, &Object::table("other")).is_empty());
        assert_eq!(alter(&mut definitions, "bob", &select).unwrap_err().code, Code::InsufficientPrivilege);
        assert!(definitions.access.in_defaults("bob").unwrap().starts_with("privileges for default privileges on new relations"));
        // What is taken back altogether is not kept.
        for (change, revoke) in [(select, true), (insert, true), (own, false)] {
            alter(&mut definitions, "ann", &DefaultGrant { revoke, ..change }).unwrap();
        }
        assert!(definitions.access.defaults.is_empty() && definitions.access.in_defaults("ann").is_none());
        assert_eq!(shown(&definitions, &table), ["ann=arwDxt", "bob=ar"]);
    }

    #[test]
    fn functions_are_everybodys_until_that_is_revoked() {
        let mut definitions = definitions();
        let mut execute = DefaultGrant { revoke: true, ..change(DefaultClass::Functions, &[Privilege::Execute], None) };
        execute.schemas = vec!["public".into()];
        alter(&mut definitions, "ann", &execute).unwrap();
        assert!(definitions.access.defaults.is_empty());
        execute.schemas.clear();
        alter(&mut definitions, "ann", &execute).unwrap();
        assert_eq!(definitions.access.defaults.len(), 1);
        alter(&mut definitions, "ann", &DefaultGrant { revoke: false, ..execute }).unwrap();
        assert!(definitions.access.defaults.is_empty());
    }

    #[test]
    fn models_of_before_keep_what_they_had() {
        let mut definitions = definitions();
        let mut execute = change(DefaultClass::Models, &[Privilege::Execute], Some("bob"));
        execute.models = vec![("old".into(), "ann".into()), ("others".into(), "cid".into())];
        alter(&mut definitions, "ann", &execute).unwrap();
        let model = |name: &str| Object::new(ObjectClass::Model, name);
        let bob = std::collections::BTreeSet::from(["bob".to_owned()]);
        let may = |definitions: &Definitions, name: &str| {
            let access = &definitions.access;
            let acl = access.acls.get(&model(name).key()).cloned().unwrap_or_else(|| access.built_in(&model(name), "ann"));
            acl.has(&bob, Privilege::Execute)
        };
        assert!(may(&definitions, "new") && !may(&definitions, "old"));
        assert!(!definitions.access.acls.contains_key(&model("others").key()));
        // The new one is an old one when the defaults change again.
        let models = vec![("new".into(), "ann".into()), ("old".into(), "ann".into())];
        alter(&mut definitions, "ann", &DefaultGrant { revoke: true, models, ..execute }).unwrap();
        assert!(may(&definitions, "new") && !may(&definitions, "old") && !may(&definitions, "newer"));
    }
}
