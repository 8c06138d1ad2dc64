//! `GRANT` and `REVOKE`: privileges on objects, and memberships of roles.
//!
//! `{GRANT | REVOKE [GRANT OPTION FOR]} {privilege [(columns)] [, …] | ALL [PRIVILEGES] [(columns)]} ON [class] name [, …] {TO |
//! FROM} role [, …]`, where the class is TABLE (also of views), SCHEMA, DATABASE, FUNCTION, MODEL, AUDIENCE or LOCATION, or `ALL
//! {TABLES | FUNCTIONS | MODELS | AUDIENCES} IN SCHEMA name`; and `GRANT role [, …] TO role [, …] [WITH ADMIN OPTION]`.

use std::fmt;
use std::sync::Arc;

use datafusion::sql::sqlparser::ast::ObjectName;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::Token;
use portrait_udfs::error::{Code, Error, Result};

use super::support::{end, name, words};
use super::{Call, Outcome};
use crate::catalog::{DATABASE, Grant as Change, Object, ObjectClass, Privilege, Privileges, Wanted};

/// A role as GRANT names it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Grantee {
    Public,
    /// `CURRENT_USER` or `CURRENT_ROLE`.
    Current,
    Session,
    Role(String),
}

impl Grantee {
    pub(super) fn parse(parser: &mut Parser<'_>) -> Result<Self, ParserError> {
        words(parser, &["GROUP"]);
        Ok(if words(parser, &["PUBLIC"]) {
            Self::Public
        } else if words(parser, &["CURRENT_USER"]) || words(parser, &["CURRENT_ROLE"]) {
            Self::Current
        } else if words(parser, &["SESSION_USER"]) {
            Self::Session
        } else {
            Self::Role(name(parser)?)
        })
    }

    /// The role; `None` = everybody.
    pub(super) fn role(&self, call: &Call<'_>) -> Option<String> {
        match self {
            Self::Public => None,
            Self::Current => Some(call.session.user()),
            Self::Session => Some(call.session.session_user()),
            Self::Role(role) => Some(role.clone()),
        }
    }
}

impl fmt::Display for Grantee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Public => f.write_str("PUBLIC"),
            Self::Current => f.write_str("CURRENT_USER"),
            Self::Session => f.write_str("SESSION_USER"),
            Self::Role(role) => write!(f, "\"{}\"", role.replace('"', "\"\"")),
        }
    }
}

/// What is granted, before it is known on what: a privilege, `None` = ALL; and its columns.
pub(super) type Words = Vec<(Option<Privilege>, Vec<String>)>;

#[derive(Debug, Clone, PartialEq)]
enum Objects {
    Named(ObjectClass, Vec<ObjectName>),
    AllIn(ObjectClass, Vec<String>),
}

#[derive(Debug, Clone, PartialEq)]
enum What {
    /// Privileges on objects.
    Privileges { words: Words, objects: Objects },
    /// Membership in roles.
    Roles(Vec<String>),
}

/// A GRANT or REVOKE.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Grant {
    revoke: bool,
    what: What,
    grantees: Vec<Grantee>,
    /// WITH {GRANT | ADMIN} OPTION, or {GRANT | ADMIN} OPTION FOR.
    option: bool,
    cascade: bool,
}

impl Grant {
    /// Reads what follows `GRANT` or `REVOKE`.
    pub(super) fn parse(parser: &mut Parser<'_>, revoke: bool) -> Result<Self, ParserError> {
        let mut option = revoke && (words(parser, &["GRANT", "OPTION", "FOR"]) || words(parser, &["ADMIN", "OPTION", "FOR"]));
        let what = what(parser, revoke)?;
        let preposition = if revoke { "FROM" } else { "TO" };
        if !words(parser, &[preposition]) {
            let found = parser.peek_token();
            return parser.expected(preposition, found);
        }
        let grantees = parser.parse_comma_separated(Grantee::parse)?;
        if !revoke {
            option = words(parser, &["WITH", "GRANT", "OPTION"])
                || words(parser, &["WITH", "ADMIN", "OPTION"])
                || words(parser, &["WITH", "ADMIN", "TRUE"]);
        }
        if words(parser, &["GRANTED", "BY"]) {
            Grantee::parse(parser)?;
        }
        let cascade = revoke && words(parser, &["CASCADE"]);
        words(parser, &["RESTRICT"]);
        end(parser)?;
        Ok(Self { revoke, what, grantees, option, cascade })
    }

    pub(super) fn tag(&self) -> &'static str {
        match (&self.what, self.revoke) {
            (What::Privileges { .. }, false) => "GRANT",
            (What::Privileges { .. }, true) => "REVOKE",
            (What::Roles(_), false) => "GRANT ROLE",
            (What::Roles(_), true) => "REVOKE ROLE",
        }
    }

    pub(super) async fn run(&self, call: Call<'_>) -> Result<Outcome> {
        call.before_write()?;
        match &self.what {
            What::Roles(roles) => self.memberships(&call, roles).await?,
            What::Privileges { words, objects } => self.privileges(&call, words, objects).await?,
        }
        call.after_write();
        Ok(Outcome::done(self.tag()))
    }

    async fn memberships(&self, call: &Call<'_>, roles: &[String]) -> Result<()> {
        let (catalog, caller) = (call.running.engine().catalog(), call.session.user());
        for group in roles {
            for grantee in &self.grantees {
                let Some(member) = grantee.role(call) else {
                    return Err(Error::new(Code::InvalidGrant, "a role cannot be granted to PUBLIC"));
                };
                let done = match self.revoke {
                    true => catalog.remove_member(&caller, group, &member, self.option).await?,
                    false => catalog.add_member(&caller, group, &member, self.option).await?,
                };
                if !done {
                    let is = if self.revoke { "is not" } else { "is already" };
                    call.running.notice(&format!("role \"{member}\" {is} a member of role \"{group}\""));
                }
            }
        }
        Ok(())
    }

    async fn privileges(&self, call: &Call<'_>, words: &Words, objects: &Objects) -> Result<()> {
        let (catalog, caller) = (Arc::clone(call.running.engine().catalog()), call.session.user());
        let (class, objects) = resolve(call, objects)?;
        let change = Change {
            wanted: wanted(call, class, words, &objects)?,
            objects,
            grantees: self.grantees.iter().map(|grantee| grantee.role(call)).collect(),
            option: self.option,
            cascade: self.cascade,
            revoke: self.revoke,
        };
        let done = call.running.run(async move { catalog.grant(&caller, change).await }).await?;
        for name in done.partly {
            let verb = if self.revoke { "revoked" } else { "granted" };
            call.running.notice(&format!("not all privileges were {verb} for \"{name}\""));
        }
        Ok(())
    }
}

fn what(parser: &mut Parser<'_>, revoke: bool) -> Result<What, ParserError> {
    // `GRANT a, b TO c` is about roles: the words before TO are names, without ON.
    let preposition = if revoke { "FROM" } else { "TO" };
    let roles = parser.maybe_parse(|parser| {
        let roles = parser.parse_comma_separated(name)?;
        let next = parser.peek_token();
        match &next.token {
            Token::Word(word) if word.value.eq_ignore_ascii_case(preposition) => Ok(roles),
            _ => parser.expected(preposition, next),
        }
    })?;
    if let Some(roles) = roles {
        return Ok(What::Roles(roles));
    }
    let words = privileges(parser)?;
    Ok(What::Privileges { words, objects: objects(parser)? })
}

/// Reads privileges, up to the word ON.
pub(super) fn privileges(parser: &mut Parser<'_>) -> Result<Words, ParserError> {
    let found = if words(parser, &["ALL"]) {
        words(parser, &["PRIVILEGES"]);
        vec![(None, columns(parser)?)]
    } else {
        parser.parse_comma_separated(|parser| {
            let next = parser.next_token();
            let privilege = match &next.token {
                Token::Word(word) => Privilege::parse(&word.value),
                _ => None,
            };
            match privilege {
                Some(privilege) => Ok((Some(privilege), columns(parser)?)),
                None => parser.expected("a privilege such as SELECT, INSERT, EXECUTE or USAGE", next),
            }
        })?
    };
    if !words(parser, &["ON"]) {
        return parser.expected("ON", parser.peek_token());
    }
    Ok(found)
}

fn columns(parser: &mut Parser<'_>) -> Result<Vec<String>, ParserError> {
    if !parser.consume_token(&Token::LParen) {
        return Ok(Vec::new());
    }
    let columns = parser.parse_comma_separated(name)?;
    parser.expect_token(&Token::RParen)?;
    Ok(columns)
}

fn objects(parser: &mut Parser<'_>) -> Result<Objects, ParserError> {
    let plural = [
        ("TABLES", ObjectClass::Table),
        ("FUNCTIONS", ObjectClass::Function),
        ("ROUTINES", ObjectClass::Function),
        ("MODELS", ObjectClass::Model),
        ("AUDIENCES", ObjectClass::Audience),
    ];
    for (word, class) in plural {
        if words(parser, &["ALL", word, "IN", "SCHEMA"]) {
            return Ok(Objects::AllIn(class, parser.parse_comma_separated(name)?));
        }
    }
    let singular = [
        ("TABLE", ObjectClass::Table),
        ("SCHEMA", ObjectClass::Schema),
        ("DATABASE", ObjectClass::Database),
        ("FUNCTION", ObjectClass::Function),
        ("ROUTINE", ObjectClass::Function),
        ("MODEL", ObjectClass::Model),
        ("AUDIENCE", ObjectClass::Audience),
        ("LOCATION", ObjectClass::Location),
    ];
    let class = singular.into_iter().find(|(word, _)| words(parser, &[word])).map_or(ObjectClass::Table, |(_, class)| class);
    let names = parser.parse_comma_separated(|parser| {
        let found = parser.parse_object_name(false)?;
        // The types of a function's arguments, which do not tell functions of one name apart here.
        if class == ObjectClass::Function && parser.consume_token(&Token::LParen) {
            while !parser.consume_token(&Token::RParen) {
                if parser.next_token().token == Token::EOF {
                    return parser.expected(")", parser.peek_token());
                }
            }
        }
        Ok(found)
    })?;
    Ok(Objects::Named(class, names))
}

/// The objects, which must exist; of models also who owns them.
fn resolve(call: &Call<'_>, objects: &Objects) -> Result<(ObjectClass, Vec<(Object, Option<String>)>)> {
    let engine = call.running.engine();
    let models = || engine.ml().registry.list_models();
    match objects {
        Objects::AllIn(class, schemas) => {
            let of_schema = if *class == ObjectClass::Model { "ml" } else { "public" };
            if let Some(other) = schemas.iter().find(|schema| *schema != of_schema && *schema != "public") {
                return Err(Error::new(Code::UndefinedSchema, format!("schema \"{other}\" does not exist")));
            }
            let found: Vec<(Object, Option<String>)> = match class {
                ObjectClass::Table => engine.catalog().list().into_iter().map(|info| (Object::table(info.name), None)).collect(),
                ObjectClass::Audience => {
                    let audiences = engine.ml().audiences.list();
                    audiences.into_iter().map(|info| (Object::new(*class, info.name), None)).collect()
                }
                ObjectClass::Model => models().into_iter().map(|info| (Object::new(*class, info.name), Some(info.owner))).collect(),
                _ => functions(call).into_iter().map(|name| (Object::new(*class, name), None)).collect(),
            };
            Ok((*class, found))
        }
        Objects::Named(class, names) => {
            let one = |given: &ObjectName| -> Result<(Object, Option<String>)> {
                let bare = match class {
                    ObjectClass::Table => call.kept_name(given)?,
                    _ => last(given)?,
                };
                let missing = |noun: &str| Error::new(Code::UndefinedObject, format!("{noun} \"{bare}\" does not exist"));
                let mut owner = None;
                match class {
                    ObjectClass::Table if engine.catalog().describe(&bare).is_none() => {
                        return Err(engine.catalog().undefined_table(&bare));
                    }
                    ObjectClass::Schema if !["public", "ml", "pg_catalog", "information_schema"].contains(&bare.as_str()) => {
                        return Err(Error::new(Code::UndefinedSchema, format!("schema \"{bare}\" does not exist")));
                    }
                    ObjectClass::Database if bare != DATABASE => {
                        return Err(Error::new(Code::UndefinedDatabase, format!("database \"{bare}\" does not exist")));
                    }
                    ObjectClass::Function if canonical(call, &bare).is_none() => {
                        return Err(Error::new(Code::UndefinedFunction, format!("function {bare} does not exist")));
                    }
                    ObjectClass::Audience if engine.ml().audiences.get(&bare).is_none() => return Err(missing("audience")),
                    ObjectClass::Location if !engine.catalog().locations().iter().any(|found| found.name == bare) => {
                        return Err(missing("location"));
                    }
                    ObjectClass::Model => match owner_of_model(call, &bare) {
                        Some(found) => owner = Some(found),
                        None => return Err(missing("model")),
                    },
                    _ => {}
                }
                let bare = if *class == ObjectClass::Function { canonical(call, &bare).unwrap_or(bare) } else { bare };
                Ok((Object::new(*class, bare), owner))
            };
            Ok((*class, names.iter().map(one).collect::<Result<_>>()?))
        }
    }
}

/// The owner of a model, or of a transform of that name.
fn owner_of_model(call: &Call<'_>, name: &str) -> Option<String> {
    let registry = &call.running.engine().ml().registry;
    let model = registry.list_models().into_iter().find(|info| info.name == name).map(|info| info.owner);
    model.or_else(|| registry.transform(name).ok().map(|found| found.owner.clone()))
}

/// The name that a function has its privileges under, whatever it is called in a query.
pub(super) fn canonical(call: &Call<'_>, name: &str) -> Option<String> {
    super::calls::canonical(call.running.state(), name)
}

fn functions(call: &Call<'_>) -> Vec<String> {
    super::calls::all(call.running.state())
}

fn last(name: &ObjectName) -> Result<String> {
    let part =
        name.0.last().and_then(|part| part.as_ident()).ok_or_else(|| Error::new(Code::Syntax, format!("\"{name}\" is not a name")))?;
    Ok(super::support::fold(part))
}

/// What the words mean for objects of a class.
fn wanted(call: &Call<'_>, class: ObjectClass, words: &Words, objects: &[(Object, Option<String>)]) -> Result<Wanted> {
    let mut wanted = Wanted::default();
    for (privilege, columns) in words {
        if columns.is_empty() {
            let privileges = privilege.map_or_else(|| class.privileges(), |one| Privileges::of(&[one]));
            wanted.whole = wanted.whole.and(privileges);
            continue;
        }
        let of_columns = ObjectClass::column_privileges();
        let privileges = privilege.map_or(of_columns, |one| Privileges::of(&[one]));
        if class != ObjectClass::Table || !privileges.without(of_columns).is_empty() {
            let word = privilege.map_or("ALL", Privilege::word);
            return Err(Error::new(Code::InvalidGrant, format!("invalid privilege type {word} for column")));
        }
        for column in columns {
            for (object, _) in objects {
                let info = call.running.engine().catalog().describe(&object.name);
                if info.is_some_and(|info| info.schema.field_with_name(column).is_err()) {
                    let message = format!("column \"{column}\" of relation \"{}\" does not exist", object.name);
                    return Err(Error::new(Code::UndefinedColumn, message));
                }
            }
            let sum = wanted.columns.entry(column.clone()).or_default();
            *sum = sum.and(privileges);
        }
    }
    Ok(wanted)
}
