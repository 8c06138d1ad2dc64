//! Who is the same person: ids that are joined by links, at query time.
//!
//! Two ids are one person when a chain of links leads from one to the other. The person is called by its **smallest id**: whole
//! numbers (as `bigint` writes them) come before texts, numbers by value, texts by their bytes. The name so depends on nothing but
//! the set of the person's ids: not on the order, the direction or the time of the links, so that links may come in any order and
//! twice; and a person who has a number is called by a number, so that a column of numbers stays one.
//!
//! [`People`] is one state of all that: cheap to copy, never changed by what comes after. [`Graph`] is what it is made of.

mod chunked;
mod graph;

use std::cmp::Ordering;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

pub use chunked::Chunked;
pub use graph::{Graph, Link, TooMany};

use super::intern::{Interner, NULL_CODE};

/// What stands in the place of an id that was erased begins with: no text that SQL knows has it.
pub const ERASED: char = '\0';

/// The number of an id that is written as `bigint` writes it.
#[must_use]
pub fn whole(id: &str) -> Option<i64> {
    let digits = id.strip_prefix('-').unwrap_or(id);
    let first = digits.bytes().next()?;
    let plain = first.is_ascii_digit() && (first != b'0' || id == "0");
    if plain { id.parse().ok() } else { None }
}

/// The order of ids: numbers by value, then texts by their bytes.
#[must_use]
pub fn id_order(a: &str, b: &str) -> Ordering {
    match (whole(a), whole(b)) {
        (Some(a), Some(b)) => a.cmp(&b),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => a.cmp(b),
    }
}

/// Ids and their numbers: they are given once and never change, so all states share them.
#[derive(Debug, Clone, Default)]
pub struct Names(Arc<RwLock<Interner>>);

impl Names {
    /// For reading.
    pub fn read(&self) -> RwLockReadGuard<'_, Interner> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// For adding.
    pub fn write(&self) -> RwLockWriteGuard<'_, Interner> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One state of who is who.
#[derive(Debug, Clone, Default)]
pub struct People {
    names: Names,
    sources: Names,
    graph: Arc<Graph>,
    version: u64,
}

impl People {
    /// A state.
    #[must_use]
    pub fn new(names: Names, sources: Names, graph: Arc<Graph>, version: u64) -> Self {
        Self { names, sources, graph, version }
    }

    /// Changes with every change of links.
    #[must_use]
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// The links and what follows from them.
    #[must_use]
    pub const fn graph(&self) -> &Arc<Graph> {
        &self.graph
    }

    /// The ids' numbers.
    #[must_use]
    pub const fn names(&self) -> &Names {
        &self.names
    }

    /// Whether nobody has more than one id.
    #[must_use]
    pub fn are_plain(&self) -> bool {
        self.graph.link_count() == 0
    }

    /// Reads it; nothing can be added to the names meanwhile.
    #[must_use]
    pub fn read(&self) -> Reader<'_> {
        Reader { names: self.names.read(), sources: self.sources.read(), graph: &self.graph }
    }
}

/// Reads one state.
#[derive(Debug)]
pub struct Reader<'a> {
    names: RwLockReadGuard<'a, Interner>,
    sources: RwLockReadGuard<'a, Interner>,
    graph: &'a Graph,
}

/// A link, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedLink {
    /// The ids as they were given.
    pub ids: [String; 2],
    /// Where it comes from.
    pub source: Option<String>,
    /// Microseconds since 1970 UTC.
    pub at_us: i64,
}

impl Reader<'_> {
    /// The number of an id that shares its person with others.
    fn shared(&self, id: &str) -> Option<u32> {
        self.names.find(id).filter(|code| !self.graph.is_alone(*code))
    }

    /// The id that the person behind `id` is called by: `id` itself where nothing is known of it.
    #[must_use]
    pub fn canonical<'s>(&'s self, id: &'s str) -> &'s str {
        match self.shared(id) {
            // Erased while somebody still reads an older state.
            Some(code) if self.name(self.graph.canonical(code)).starts_with(ERASED) => id,
            Some(code) => self.name(self.graph.canonical(code)),
            None => id,
        }
    }

    /// The canonical id of a number's person; a person who has a number is called by one.
    #[must_use]
    pub fn canonical_whole(&self, id: i64) -> i64 {
        let mut digits = [0_u8; 20];
        let id_text = decimal(id, &mut digits);
        self.shared(id_text).and_then(|code| whole(self.names.get(self.graph.canonical(code)))).unwrap_or(id)
    }

    /// Every id of the person behind `id`, the smallest first; `None` when there is no other.
    #[must_use]
    pub fn ids(&self, id: &str) -> Option<Vec<&str>> {
        let code = self.shared(id)?;
        let mut ids: Vec<&str> = self.graph.person(code).map(|code| self.name(code)).filter(|id| !id.starts_with(ERASED)).collect();
        ids.sort_unstable_by(|a, b| id_order(a, b));
        Some(ids)
    }

    /// The links of an id, the oldest first.
    #[must_use]
    pub fn links(&self, id: &str) -> Vec<NamedLink> {
        let Some(code) = self.names.find(id) else { return Vec::new() };
        let mut links: Vec<NamedLink> = self.graph.links_of(code).map(|link| self.named(link)).collect();
        links.sort_by(|a, b| a.at_us.cmp(&b.at_us).then_with(|| a.ids.cmp(&b.ids)));
        links
    }

    /// A link in words.
    #[must_use]
    pub fn named(&self, link: Link) -> NamedLink {
        let source = (link.source != NULL_CODE).then(|| self.sources.get(link.source).to_owned());
        NamedLink { ids: link.ids.map(|id| self.names.get(id).to_owned()), source, at_us: link.at_us }
    }

    /// The number of an id; `None` when it was never linked.
    #[must_use]
    pub fn find(&self, id: &str) -> Option<u32> {
        self.names.find(id)
    }

    /// The id behind a number.
    #[must_use]
    pub fn name(&self, code: u32) -> &str {
        self.names.get(code)
    }
}

/// The decimal digits of a number, as `bigint` writes them.
fn decimal(number: i64, out: &mut [u8; 20]) -> &str {
    let (mut rest, mut at) = (number.unsigned_abs(), out.len());
    loop {
        at -= 1;
        out[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if number < 0 {
        at -= 1;
        out[at] = b'-';
    }
    std::str::from_utf8(&out[at..]).unwrap_or_default()
}

#[cfg(test)]
mod tests;
