//! Ids as numbers, the links between them, and the persons that follow: connected components that are kept as they change.
//!
//! A copy shares all that does not change, so that whoever has read one state keeps it while the next is made. A person's ids
//! form a ring, so that they are found without a search; each id knows the canonical id of its person. Joining two persons costs the
//! ids of both, a split the ids and links of one: a limit on the ids of a person bounds both.

use std::cmp::Ordering;
use std::collections::HashSet;

use super::chunked::Chunked;

/// No link.
const NONE: u32 = u32::MAX;

/// A link between two ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// The ids, in the order in which they were given.
    pub ids: [u32; 2],
    /// Where it comes from, a number that the caller understands.
    pub source: u32,
    /// Microseconds since 1970 UTC.
    pub at_us: i64,
    /// The next link of each of the ids.
    next: [u32; 2],
}

/// A person would have more ids than allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooMany {
    /// How many the person would have.
    pub ids: usize,
}

/// See the module's header. Ids are dense numbers from 0; one that was never linked is a person of its own.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    canonical: Chunked<u32>,
    ring: Chunked<u32>,
    first: Chunked<u32>,
    links: Chunked<Link>,
    /// Places of links that were removed.
    free: Vec<u32>,
    /// Persons of more than one id.
    shared: usize,
}

impl Graph {
    /// Ids that it knows; those from there on were never linked.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.canonical.len()
    }

    /// Whether it knows none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.canonical.is_empty()
    }

    /// How many links there are.
    #[must_use]
    pub const fn link_count(&self) -> usize {
        self.links.len() - self.free.len()
    }

    /// How many persons have more than one id.
    #[must_use]
    pub const fn shared_count(&self) -> usize {
        self.shared
    }

    /// The id that a person is called by.
    #[must_use]
    pub fn canonical(&self, id: u32) -> u32 {
        self.canonical.get(id as usize).unwrap_or(id)
    }

    /// All ids of the person whom `id` belongs to, `id` first.
    pub fn person(&self, id: u32) -> impl Iterator<Item = u32> + '_ {
        let next = move |at: &u32| self.ring.get(*at as usize).filter(|next| *next != id);
        std::iter::successors(Some(id), next)
    }

    /// Whether the person whom `id` belongs to has no other id.
    #[must_use]
    pub fn is_alone(&self, id: u32) -> bool {
        self.ring.get(id as usize).is_none_or(|next| next == id)
    }

    /// The links of an id.
    pub fn links_of(&self, id: u32) -> impl Iterator<Item = Link> + '_ {
        self.places_of(id).filter_map(|place| self.links.get(place as usize))
    }

    /// The places of an id's links, the newest first.
    fn places_of(&self, id: u32) -> impl Iterator<Item = u32> + '_ {
        let some = |place: u32| (place != NONE).then_some(place);
        let next = move |place: &u32| self.links.get(*place as usize).and_then(|link| some(link.next[link.end(id)]));
        std::iter::successors(self.first.get(id as usize).and_then(some), next)
    }

    /// The links from a place on, each with the place that follows it: `None` behind the last.
    #[must_use]
    pub fn link_from(&self, place: usize) -> Option<(Link, usize)> {
        (place..self.links.len()).find_map(|at| self.links.get(at).filter(|link| link.ids[0] != NONE).map(|link| (link, at + 1)))
    }

    fn place(&self, a: u32, b: u32) -> Option<u32> {
        self.places_of(a).find(|place| self.links.get(*place as usize).is_some_and(|link| link.ids.contains(&b)))
    }

    /// Links two different ids, if they are not yet; says whether they were not. The canonical id of a person is the first one
    /// by `order`, which must be a total order.
    ///
    /// # Errors
    /// When the person would have more than `ids_max` ids; then nothing has changed.
    pub fn link(
        &mut self,
        [a, b]: [u32; 2],
        source: u32,
        at_us: i64,
        ids_max: usize,
        order: impl Fn(u32, u32) -> Ordering,
    ) -> Result<bool, TooMany> {
        if a == b || self.place(a, b).is_some() {
            return Ok(false);
        }
        let (left, right) = (self.canonical(a), self.canonical(b));
        if left != right {
            let ids = self.person(a).count() + self.person(b).count();
            if ids > ids_max {
                return Err(TooMany { ids });
            }
        }
        self.know(a.max(b));
        if left != right {
            let alone = usize::from(self.is_alone(a)) + usize::from(self.is_alone(b));
            self.shared = self.shared + alone - 1;
            let (kept, renamed) = if order(left, right).is_lt() { (left, b) } else { (right, a) };
            let renamed: Vec<u32> = self.person(renamed).collect();
            renamed.into_iter().for_each(|id| self.canonical.set(id as usize, kept));
            // Two rings become one when two of their ids swap what follows them.
            let follows = [a, b].map(|id| self.ring.get(id as usize).unwrap_or(id));
            self.ring.set(a as usize, follows[1]);
            self.ring.set(b as usize, follows[0]);
        }
        let next = [a, b].map(|id| self.first.get(id as usize).unwrap_or(NONE));
        let link = Link { ids: [a, b], source, at_us, next };
        let place = match self.free.pop() {
            Some(place) => {
                self.links.set(place as usize, link);
                place
            }
            None => {
                self.links.push(link);
                (self.links.len() - 1) as u32
            }
        };
        self.first.set(a as usize, place);
        self.first.set(b as usize, place);
        Ok(true)
    }

    /// Removes the link between two ids; says whether there was one. If nothing else holds them together they are two persons.
    pub fn unlink(&mut self, [a, b]: [u32; 2], order: impl Fn(u32, u32) -> Ordering) -> bool {
        let Some(place) = self.place(a, b).filter(|_| a != b) else { return false };
        self.detach(a, place);
        self.detach(b, place);
        self.links.set(place as usize, Link { ids: [NONE; 2], source: NONE, at_us: 0, next: [NONE; 2] });
        self.free.push(place);
        let with_a = self.reached(a);
        if with_a.contains(&b) {
            return true;
        }
        let (mine, others): (Vec<u32>, Vec<u32>) = self.person(a).partition(|id| with_a.contains(id));
        self.shared = self.shared + usize::from(mine.len() > 1) + usize::from(others.len() > 1) - 1;
        self.make_person(&mine, &order);
        self.make_person(&others, &order);
        true
    }

    /// Ids are known up to `id`.
    fn know(&mut self, id: u32) {
        for new in self.canonical.len() as u32..=id {
            self.canonical.push(new);
            self.ring.push(new);
            self.first.push(NONE);
        }
    }

    /// Takes the link at `place` out of the list of `id`.
    fn detach(&mut self, id: u32, place: u32) {
        let mut before = None;
        let mut at = self.first.get(id as usize).unwrap_or(NONE);
        while let Some(link) = self.links.get(at as usize).filter(|_| at != NONE) {
            let next = link.next[link.end(id)];
            if at == place {
                match before {
                    None => self.first.set(id as usize, next),
                    Some((place, link)) => {
                        let mut link: Link = link;
                        link.next[link.end(id)] = next;
                        self.links.set(place, link);
                    }
                }
                return;
            }
            before = Some((at as usize, link));
            at = next;
        }
    }

    /// The ids that links lead to from `id`.
    fn reached(&self, id: u32) -> HashSet<u32> {
        let (mut found, mut waiting) = (HashSet::from([id]), vec![id]);
        while let Some(from) = waiting.pop() {
            for link in self.links_of(from) {
                let other = link.ids[1 - link.end(from)];
                if found.insert(other) {
                    waiting.push(other);
                }
            }
        }
        found
    }

    fn make_person(&mut self, ids: &[u32], order: &impl Fn(u32, u32) -> Ordering) {
        let Some(canonical) = ids.iter().copied().min_by(|a, b| order(*a, *b)) else { return };
        for (at, id) in ids.iter().enumerate() {
            self.canonical.set(*id as usize, canonical);
            self.ring.set(*id as usize, ids[(at + 1) % ids.len()]);
        }
    }

    /// The bytes it holds, those that it shares with other states included.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let ids = self.canonical.bytes() + self.ring.bytes() + self.first.bytes();
        ids + self.links.bytes() + self.free.capacity() * size_of::<u32>()
    }
}

impl Link {
    /// Which of its ids `id` is.
    const fn end(&self, id: u32) -> usize {
        if self.ids[0] == id { 0 } else { 1 }
    }
}
