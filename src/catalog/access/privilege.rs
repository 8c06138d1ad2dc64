//! Privileges and the objects that they are for, by PostgreSQL's names and letters.

use std::fmt;

use portrait_udfs::error::{Code, Error};
use serde::{Deserialize, Serialize};

/// What may be done to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Privilege {
    /// Read rows.
    Select,
    /// Add rows.
    Insert,
    /// Change rows: granted for scripts that say so, needed by nothing.
    Update,
    /// Remove rows: as UPDATE.
    Delete,
    /// As UPDATE.
    Truncate,
    /// As UPDATE.
    References,
    /// As UPDATE.
    Trigger,
    /// Look things up in a schema, read the files of a location.
    Usage,
    /// Make tables and views in `public`, models in `ml`.
    Create,
    /// Log in.
    Connect,
    /// Make temporary tables: as UPDATE.
    Temporary,
    /// Call a function, score with a model.
    Execute,
}

/// Every privilege with its word and its letter in an ACL, in the order of PostgreSQL's `GRANT ALL`.
const ALL: [(Privilege, &str, char); 12] = [
    (Privilege::Insert, "INSERT", 'a'),
    (Privilege::Select, "SELECT", 'r'),
    (Privilege::Update, "UPDATE", 'w'),
    (Privilege::Delete, "DELETE", 'd'),
    (Privilege::Truncate, "TRUNCATE", 'D'),
    (Privilege::References, "REFERENCES", 'x'),
    (Privilege::Trigger, "TRIGGER", 't'),
    (Privilege::Execute, "EXECUTE", 'X'),
    (Privilege::Usage, "USAGE", 'U'),
    (Privilege::Create, "CREATE", 'C'),
    (Privilege::Temporary, "TEMPORARY", 'T'),
    (Privilege::Connect, "CONNECT", 'c'),
];

impl Privilege {
    /// Reads its word, in any case.
    pub fn parse(word: &str) -> Option<Self> {
        let word = if word.eq_ignore_ascii_case("TEMP") { "TEMPORARY" } else { word };
        ALL.iter().find(|(_, known, _)| word.eq_ignore_ascii_case(known)).map(|(privilege, ..)| *privilege)
    }

    /// Its word in SQL.
    pub fn word(self) -> &'static str {
        ALL.iter().find(|(privilege, ..)| *privilege == self).map_or("", |(_, word, _)| word)
    }
}

/// A set of privileges; kept as the letters of an ACL.
#[derive(Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct Privileges(u16);

impl Privileges {
    /// None.
    pub const NONE: Self = Self(0);

    /// These.
    pub fn of(privileges: &[Privilege]) -> Self {
        Self(privileges.iter().fold(0, |bits, privilege| bits | 1 << *privilege as u16))
    }

    /// Whether it holds one.
    pub fn has(self, privilege: Privilege) -> bool {
        self.0 & (1 << privilege as u16) != 0
    }

    /// Whether it holds none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// What either holds.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What both hold.
    #[must_use]
    pub fn common(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// What this holds and the other does not.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Each of them, in the order of an ACL.
    pub fn iter(self) -> impl Iterator<Item = Privilege> {
        ALL.iter().map(|(privilege, ..)| *privilege).filter(move |privilege| self.has(*privilege))
    }

    /// As an ACL writes them; those of `grantable` with a star.
    pub fn letters(self, grantable: Self) -> String {
        let held = ALL.iter().filter(|(privilege, ..)| self.has(*privilege));
        held.fold(String::new(), |mut text, (privilege, _, letter)| {
            text.push(*letter);
            text.extend(grantable.has(*privilege).then_some('*'));
            text
        })
    }
}

impl From<String> for Privileges {
    fn from(letters: String) -> Self {
        let held: Vec<_> = letters
            .chars()
            .filter_map(|letter| ALL.iter().find(|(.., known)| *known == letter).map(|(privilege, ..)| *privilege))
            .collect();
        Self::of(&held)
    }
}

impl From<Privileges> for String {
    fn from(privileges: Privileges) -> Self {
        privileges.letters(Privileges::NONE)
    }
}

impl fmt::Debug for Privileges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.letters(Self::NONE))
    }
}

/// Kinds of objects that have privileges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectClass {
    /// Tables, views, materialized views and external tables.
    Table,
    /// `public` and `ml`.
    Schema,
    /// The one database.
    Database,
    /// A function of any kind.
    Function,
    /// A model, or a transform of that name.
    Model,
    /// An audience.
    Audience,
    /// A folder of files.
    Location,
}

impl ObjectClass {
    /// Its word in SQL.
    pub fn word(self) -> &'static str {
        match self {
            Self::Table => "TABLE",
            Self::Schema => "SCHEMA",
            Self::Database => "DATABASE",
            Self::Function => "FUNCTION",
            Self::Model => "MODEL",
            Self::Audience => "AUDIENCE",
            Self::Location => "LOCATION",
        }
    }

    /// The privileges that there are for it.
    pub fn privileges(self) -> Privileges {
        use Privilege::{Connect, Create, Delete, Execute, Insert, References, Select, Temporary, Trigger, Truncate, Update, Usage};
        Privileges::of(match self {
            Self::Table => &[Select, Insert, Update, Delete, Truncate, References, Trigger],
            Self::Schema => &[Usage, Create],
            Self::Database => &[Create, Connect, Temporary],
            Self::Function | Self::Model => &[Execute],
            Self::Audience => &[Select],
            Self::Location => &[Usage],
        })
    }

    /// The privileges that a column may have.
    pub fn column_privileges() -> Privileges {
        use Privilege::{Insert, References, Select, Update};
        Privileges::of(&[Select, Insert, Update, References])
    }

    /// What everybody may do before anything is granted, as in PostgreSQL.
    pub(super) fn public(self, name: &str) -> Privileges {
        match self {
            Self::Function => Privileges::of(&[Privilege::Execute]),
            Self::Database => Privileges::of(&[Privilege::Connect, Privilege::Temporary]),
            // Nobody makes tables in another one, and what describes the server is there for everybody.
            Self::Schema if matches!(name, "public" | "ml") => Privileges::of(&[Privilege::Usage]),
            _ => Privileges::NONE,
        }
    }
}

/// An object that has privileges.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Object {
    /// Of which kind it is.
    pub class: ObjectClass,
    /// Its bare name.
    pub name: String,
}

impl Object {
    /// The object of that kind and name.
    pub fn new(class: ObjectClass, name: impl Into<String>) -> Self {
        Self { class, name: name.into() }
    }

    /// A table, view, materialized view or external table.
    pub fn table(name: impl Into<String>) -> Self {
        Self::new(ObjectClass::Table, name)
    }

    /// Under what it is kept.
    pub(super) fn key(&self) -> String {
        format!("{} {}", self.class.word().to_ascii_lowercase(), self.name)
    }

    /// What it is in a message: `table events`.
    pub fn words(&self) -> String {
        self.key()
    }

    /// 42501 for who lacks a privilege.
    pub fn denied(&self) -> Error {
        Error::new(Code::InsufficientPrivilege, format!("permission denied for {}", self.words()))
    }

    /// 42501 for who must own it.
    pub fn not_owned(&self) -> Error {
        Error::new(Code::InsufficientPrivilege, format!("must be owner of {}", self.words()))
    }
}
