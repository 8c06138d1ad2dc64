//! Audiences as functions see them: sets of users that the program keeps, by name and version.

use std::fmt;
use std::sync::Arc;

use arrow::array::StringArray;
use async_trait::async_trait;

use crate::error::{Code, Error, Result};
use crate::kernels::bitmap::Bitmap;
use crate::kernels::nearest::nearest;

/// What an audience's users are called by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AudienceKey {
    /// Whole numbers.
    BigInt,
    /// Texts.
    Text,
}

/// One version of an audience.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AudienceVersion {
    /// Counted from 1.
    pub version: u32,
    /// How many users.
    pub members: u64,
    /// Bytes that it takes on the disk.
    pub bytes: u64,
    /// Microseconds since 1970 UTC.
    pub created_at_us: i64,
}

/// An audience and its versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AudienceInfo {
    /// Its name.
    pub name: String,
    /// Who made it.
    pub owner: String,
    /// The query that says who is in it.
    pub definition: String,
    /// What its users are called by.
    pub key: AudienceKey,
    /// The oldest first; never empty.
    pub versions: Vec<AudienceVersion>,
    /// When the query last ran, whether it changed anything or not. Microseconds since 1970 UTC.
    pub refreshed_at_us: i64,
}

/// Users' ids and their numbers in bitmaps.
pub trait UserNumbers: Send + Sync + fmt::Debug {
    /// The numbers of users; `None` for one that was never in an audience.
    fn find(&self, users: &StringArray) -> Vec<Option<u64>>;

    /// The users of numbers; NULL for a number that nobody has.
    fn names(&self, numbers: &[u64]) -> StringArray;

    /// A set of users as persons: those who are the same person are one member, whose number [`find`](Self::find) gives for
    /// every id of theirs.
    fn persons(&self, members: &Arc<Bitmap>) -> Arc<Bitmap> {
        Arc::clone(members)
    }

    /// The same for a set that will not be asked for again; `None` when it stays as it is.
    fn persons_of(&self, members: &Bitmap) -> Option<Bitmap> {
        let _ = members;
        None
    }

    /// What users are called who have several ids: by the id of their person.
    fn called(&self, users: &StringArray) -> StringArray {
        users.clone()
    }
}

/// Keeps audiences.
#[async_trait]
pub trait AudienceProvider: Send + Sync + fmt::Debug {
    /// Every audience, by name.
    fn list(&self) -> Vec<AudienceInfo>;

    /// One audience.
    fn get(&self, name: &str) -> Option<AudienceInfo> {
        self.list().into_iter().find(|found| found.name == name)
    }

    /// Succeeds when `caller` may see who is in an audience.
    ///
    /// # Errors
    /// [`Code::InsufficientPrivilege`] otherwise.
    fn check(&self, caller: &str, name: &str) -> Result<()> {
        let _ = (caller, name);
        Ok(())
    }

    /// The members of a version, id by id; [`UserNumbers::persons`] makes persons of them. Ask for the numbers after it.
    async fn members(&self, name: &str, version: u32) -> Result<Arc<Bitmap>>;

    /// What the members' numbers mean.
    async fn numbers(&self) -> Result<Arc<dyn UserNumbers>>;

    /// How many persons a version has: as many as members, unless ids of theirs are linked.
    ///
    /// # Errors
    /// When a set that must be read cannot be.
    async fn persons(&self, name: &str, version: &AudienceVersion) -> Result<u64> {
        let _ = name;
        Ok(version.members)
    }
}

/// A version of an audience that a call names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AudienceRef {
    /// The audience.
    pub name: String,
    /// The version.
    pub version: u32,
    /// What its users are called by.
    pub key: AudienceKey,
}

impl AudienceRef {
    /// The version that `name` (the newest) or `name@3` means now.
    ///
    /// # Errors
    /// 42704 when there is none, 22023 for a version that is no number.
    pub fn resolve(audiences: &dyn AudienceProvider, text: &str) -> Result<Self> {
        let (name, version) = match text.rsplit_once('@') {
            Some((name, version)) => {
                (name, Some(version.parse::<u32>().map_err(|_| Error::invalid(format!("\"{version}\" is not a version number")))?))
            }
            None => (text, None),
        };
        let Some(found) = audiences.get(name) else {
            let error = Error::new(Code::UndefinedObject, format!("audience \"{name}\" does not exist"));
            let names: Vec<String> = audiences.list().into_iter().map(|found| found.name).collect();
            return Err(match nearest(name, names.iter().map(String::as_str)) {
                Some(near) => error.hint(format!("Perhaps you meant \"{near}\".")),
                None => error.hint("Make one with CREATE AUDIENCE … AS SELECT; ml.audiences lists them."),
            });
        };
        let newest = found.versions.last().map_or(0, |newest| newest.version);
        let version = version.unwrap_or(newest);
        if !found.versions.iter().any(|known| known.version == version) {
            return Err(Error::new(Code::UndefinedObject, format!("audience \"{name}\" has no version {version}"))
                .detail(format!("Its newest version is {newest}.")));
        }
        Ok(Self { name: found.name, version, key: found.key })
    }
}

/// No audiences: the default of a program that keeps none.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoAudiences;

#[async_trait]
impl AudienceProvider for NoAudiences {
    fn list(&self) -> Vec<AudienceInfo> {
        Vec::new()
    }

    async fn members(&self, name: &str, _version: u32) -> Result<Arc<Bitmap>> {
        Err(Error::new(Code::UndefinedObject, format!("audience \"{name}\" does not exist")))
    }

    async fn numbers(&self) -> Result<Arc<dyn UserNumbers>> {
        Err(Error::new(Code::FeatureNotSupported, "this program keeps no audiences"))
    }
}
