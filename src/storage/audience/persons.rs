//! Sets of users as persons: the numbers of the ids of one person count as one, that of the id that was numbered first.
//!
//! Life of an answer: [`Merging::now`] follows the newest links and the newest numbers, looking only at persons that have changed →
//! [`Persons`] is one state of that: it maps sets, finds people by any of their ids, and calls them by their persons' ids. Sets on
//! the disk stay as they are, so a split gives back what a merge has joined.

use std::sync::Arc;

use datafusion::arrow::array::{StringArray, StringBuilder};
use datafusion::common::HashMap;
use parking_lot::Mutex;
use portrait_udfs::context::UserNumbers;
use portrait_udfs::kernels::bitmap::Bitmap;
use portrait_udfs::kernels::identity::{Chunked, People, Reader};
use portrait_udfs::kernels::intern::Interner;

use super::dictionary::Dictionary;
use crate::storage::identity::Identities;

/// Bytes of mapped sets that stay in memory.
const KEPT_BYTES: usize = 64 << 20;

/// Follows links and numbers.
#[derive(Debug)]
pub(crate) struct Merging {
    dictionary: Arc<Dictionary>,
    identities: Arc<Identities>,
    newest: Mutex<Option<Arc<Persons>>>,
}

impl Merging {
    pub(crate) fn new(dictionary: &Arc<Dictionary>, identities: &Arc<Identities>) -> Self {
        Self { dictionary: Arc::clone(dictionary), identities: Arc::clone(identities), newest: Mutex::default() }
    }

    /// Persons as of now; the dictionary must be loaded.
    pub(crate) fn now(&self) -> Arc<Persons> {
        let people = self.identities.people();
        let mut newest = self.newest.lock();
        let before = newest.as_ref().filter(|before| before.people.version() <= people.version());
        let numbers = self.dictionary.with_names(Interner::len);
        if let Some(before) = before
            && before.people.version() == people.version()
            && (before.first.len() == numbers || people.are_plain())
        {
            return Arc::clone(before);
        }
        let touched = before.and_then(|before| self.identities.touched_since(before.people.version(), people.version()));
        let next = Arc::new(match (before, touched) {
            (Some(before), Some(touched)) => before.follow(people, touched.into_iter()),
            _ => {
                let all = people.graph().len() as u32;
                Persons::new(&self.dictionary).follow(people, 0..all)
            }
        });
        *newest = Some(Arc::clone(&next));
        next
    }
}

/// One state of persons in sets.
#[derive(Debug)]
pub(crate) struct Persons {
    dictionary: Arc<Dictionary>,
    people: People,
    /// By number: the number of the person.
    first: Chunked<u32>,
    /// The numbers that are not their persons'.
    others: Bitmap,
    mapped: Mutex<Mapped>,
}

/// Sets and what they are as persons, as many as fit. A set is known by its place in memory, which it keeps while it is here.
#[derive(Debug, Default)]
struct Mapped {
    sets: HashMap<usize, (Arc<Bitmap>, Arc<Bitmap>)>,
    bytes: usize,
}

impl Persons {
    fn new(dictionary: &Arc<Dictionary>) -> Self {
        let (people, first, others) = (People::default(), Chunked::default(), Bitmap::default());
        Self { dictionary: Arc::clone(dictionary), people, first, others, mapped: Mutex::default() }
    }

    /// The state of `people`, when `touched` are ids of all persons that are other ones.
    fn follow(&self, people: People, touched: impl Iterator<Item = u32>) -> Self {
        let mut next = Change { first: self.first.clone(), seen: Vec::new(), others: Vec::new() };
        // In this order everywhere: the names of ids, then those of numbers.
        let reader = people.read();
        self.dictionary.with_names(|numbers| {
            let known = next.first.len();
            for number in known as u32..numbers.len() as u32 {
                next.first.push(number);
            }
            for id in touched {
                next.look(&people, &reader, numbers, id);
            }
            if !people.are_plain() {
                for number in known as u32..numbers.len() as u32 {
                    if let Some(id) = reader.find(numbers.get(number)).filter(|id| !people.graph().is_alone(*id)) {
                        next.look(&people, &reader, numbers, id);
                    }
                }
            }
        });
        drop(reader);
        let mut others = self.others.and_not(&Bitmap::from_ids(next.seen));
        others.add(Bitmap::from_ids(next.others));
        Self { dictionary: Arc::clone(&self.dictionary), people, first: next.first, others, mapped: Mutex::default() }
    }

    /// The number of the person whom a user is.
    fn number(&self, numbers: &Interner, reader: &Reader<'_>, user: &str) -> Option<u64> {
        let own = |user: &str| {
            let number = numbers.find(user)?;
            Some(u64::from(self.first.get(number as usize).unwrap_or(number)))
        };
        // Another id of the person may have been in an audience.
        own(user).or_else(|| reader.ids(user)?.into_iter().find_map(own))
    }
}

/// What a change of persons changes of their numbers.
struct Change {
    first: Chunked<u32>,
    seen: Vec<u64>,
    others: Vec<u64>,
}

impl Change {
    /// Numbers the person whom an id belongs to.
    fn look(&mut self, people: &People, reader: &Reader<'_>, numbers: &Interner, id: u32) {
        let found = || people.graph().person(id).filter_map(|id| numbers.find(reader.name(id)));
        let Some(first) = found().min() else { return };
        for number in found() {
            self.first.set(number as usize, first);
            self.seen.push(u64::from(number));
            if number != first {
                self.others.push(u64::from(number));
            }
        }
    }
}

impl UserNumbers for Persons {
    fn find(&self, users: &StringArray) -> Vec<Option<u64>> {
        if self.people.are_plain() {
            return self.dictionary.find(users);
        }
        let reader = self.people.read();
        self.dictionary.with_names(|numbers| users.iter().map(|user| self.number(numbers, &reader, user?)).collect())
    }

    fn names(&self, numbers: &[u64]) -> StringArray {
        self.called(&self.dictionary.names(numbers))
    }

    fn persons(&self, members: &Arc<Bitmap>) -> Arc<Bitmap> {
        let key = Arc::as_ptr(members) as usize;
        if let Some((_, found)) = self.mapped.lock().sets.get(&key) {
            return Arc::clone(found);
        }
        let Some(persons) = self.persons_of(members).map(Arc::new) else { return Arc::clone(members) };
        let bytes = members.heap_bytes() + persons.heap_bytes();
        let mut mapped = self.mapped.lock();
        if mapped.bytes + bytes > KEPT_BYTES {
            *mapped = Mapped::default();
        }
        if bytes <= KEPT_BYTES && mapped.sets.insert(key, (Arc::clone(members), Arc::clone(&persons))).is_none() {
            mapped.bytes += bytes;
        }
        persons
    }

    fn persons_of(&self, members: &Bitmap) -> Option<Bitmap> {
        if !members.meets(&self.others) {
            return None;
        }
        let moved = members.and(&self.others);
        let to = moved.iter().filter_map(|number| self.first.get(usize::try_from(number).ok()?).map(u64::from));
        let to = Bitmap::from_ids(to.collect());
        let mut persons = members.and_not(&moved);
        persons.add(to);
        persons.compact();
        Some(persons)
    }

    fn called(&self, users: &StringArray) -> StringArray {
        if self.people.are_plain() {
            return users.clone();
        }
        let reader = self.people.read();
        let mut out = StringBuilder::new();
        users.iter().for_each(|user| out.append_option(user.map(|user| reader.canonical(user))));
        out.finish()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use datafusion::execution::memory_pool::{MemoryPool, UnboundedMemoryPool};
    use portrait_udfs::context::LinkOf;
    use portrait_udfs::kernels::splitmix;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::storage::DurableLocal;

    /// Random links, splits and new numbers: at each step every set has the persons that its ids have, each once.
    #[tokio::test]
    async fn sets_of_persons_follow_links_and_numbers() {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(DurableLocal::open(folder.path()).unwrap());
        let objects: Arc<dyn object_store::ObjectStore> = Arc::<DurableLocal>::clone(&store);
        let dictionary = Dictionary::new(objects);
        let pool: Arc<dyn MemoryPool> = Arc::new(UnboundedMemoryPool::default());
        dictionary.load(&pool).await.unwrap();
        let identities = Identities::open(&store, true, &Arc::default()).unwrap();
        let merging = Merging::new(&dictionary, &identities);
        let random = |round: u64, of: u64| splitmix::at(11 + of, round);
        let id = |seed: u64| if seed.is_multiple_of(3) { format!("{}", seed % 20) } else { format!("c{}", seed % 20) };
        let mut raw: Vec<BTreeSet<String>> = vec![BTreeSet::new(); 3];
        for round in 0..400 {
            let (a, b) = (id(random(round, 1)), id(random(round, 2)));
            match random(round, 0) % 5 {
                0 => {
                    raw[(random(round, 3) % 3) as usize].insert(a.clone());
                }
                kind => {
                    let mut batch = identities.batch();
                    match kind {
                        1 | 2 => batch.unlink(&a, &b).unwrap(),
                        _ => batch.link(LinkOf { a: &a, b: &b, source: None, at_us: 0 }).unwrap(),
                    }
                    batch.commit(64, CancellationToken::new()).await.unwrap();
                }
            }
            // Some states are never looked at.
            if random(round, 4) % 3 == 0 {
                continue;
            }
            let people = identities.people();
            for set in &raw {
                let texts: StringArray = set.iter().map(Some).collect();
                let mut members = Vec::new();
                dictionary.number(&texts, |number| members.push(number)).unwrap();
                let (members, persons) = (Arc::new(Bitmap::from_ids(members)), merging.now());
                let mapped = persons.persons(&members);
                let reader = people.read();
                let expected: BTreeMap<&str, ()> = set.iter().map(|id| (reader.canonical(id), ())).collect();
                let ids: Vec<u64> = mapped.iter().collect();
                let mut called: Vec<String> = persons.names(&ids).iter().flatten().map(str::to_owned).collect();
                called.sort();
                assert_eq!(called, expected.keys().copied().collect::<Vec<_>>(), "round {round}");
                // Any id of a person finds the person, whether that id is in the set or not.
                let all: Vec<String> = (0..60).map(id).collect();
                let asked: StringArray = all.iter().map(Some).collect();
                for (id, number) in all.iter().zip(persons.find(&asked)) {
                    let found = number.is_some_and(|number| mapped.contains(number));
                    assert_eq!(found, expected.contains_key(reader.canonical(id)), "round {round}: {id}");
                }
            }
        }
    }
}
