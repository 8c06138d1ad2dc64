//! Who is the same person, as functions see it: links between ids that the program keeps.

use std::fmt;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::error::{Code, Error, Result};
use crate::kernels::identity::People;

/// Ids that a person may have where nobody says otherwise.
pub const PERSON_IDS: usize = 32;

/// A link to make or to remove.
#[derive(Debug, Clone, Copy)]
pub struct LinkOf<'a> {
    /// One id.
    pub a: &'a str,
    /// The other.
    pub b: &'a str,
    /// Where it comes from.
    pub source: Option<&'a str>,
    /// Microseconds since 1970 UTC.
    pub at_us: i64,
}

/// What a change of links did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Linked {
    /// Links that were not there before, or that are not there any more.
    pub changed: u64,
    /// Links that were there already, or were not there.
    pub same: u64,
    /// Links that were left out, because events of one of their users are not taken.
    pub suppressed: u64,
    /// Persons of more than one id, now.
    pub persons: u64,
}

/// Links on their way into the program. Dropped before [`commit`](Self::commit), nothing is left of them.
#[async_trait]
pub trait LinkWriter: Send + fmt::Debug {
    /// Adds a link to make.
    ///
    /// # Errors
    /// 53200, 54000.
    fn link(&mut self, link: LinkOf<'_>) -> Result<()>;

    /// Adds a link to remove.
    ///
    /// # Errors
    /// 53200, 54000.
    fn unlink(&mut self, a: &str, b: &str) -> Result<()>;

    /// Makes all of them durable and visible at once, or none; a person may have `ids_max` ids.
    ///
    /// # Errors
    /// 54000 when a person would have more ids; 53100, 58030; 57014 while nothing is written.
    async fn commit(self: Box<Self>, ids_max: usize, cancel: CancellationToken) -> Result<Linked>;
}

/// Keeps links between ids.
#[async_trait]
pub trait IdentityProvider: Send + Sync + fmt::Debug {
    /// Who is who, now.
    fn people(&self) -> People;

    /// Takes links of `caller`.
    ///
    /// # Errors
    /// 42501 for a role that may not.
    fn writer(&self, caller: &str) -> Result<Box<dyn LinkWriter>>;
}

/// No links: the default of a program that keeps none. Everybody has one id.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoIdentities;

#[async_trait]
impl IdentityProvider for NoIdentities {
    fn people(&self) -> People {
        People::default()
    }

    fn writer(&self, _caller: &str) -> Result<Box<dyn LinkWriter>> {
        Err(Error::new(Code::FeatureNotSupported, "this program keeps no links between ids"))
    }
}
