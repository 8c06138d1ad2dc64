use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::kernels::splitmix;

/// Links and unlinks, and what they say by the definition alone.
struct Oracle {
    links: BTreeSet<(usize, usize)>,
}

impl Oracle {
    /// The smallest id that a chain of links leads to.
    fn canonical(&self, names: &[String], id: usize) -> String {
        let mut found = BTreeSet::from([id]);
        loop {
            let next: BTreeSet<usize> =
                self.links.iter().filter(|(a, b)| found.contains(a) != found.contains(b)).flat_map(|(a, b)| [*a, *b]).collect();
            if next.is_subset(&found) {
                break;
            }
            found.extend(next);
        }
        found.iter().map(|id| names[*id].clone()).min_by(|a, b| id_order(a, b)).unwrap()
    }
}

#[derive(Default)]
struct Subject {
    names: Interner,
    graph: Graph,
}

impl Subject {
    fn code(&mut self, name: &str) -> u32 {
        self.names.intern(name)
    }

    fn link(&mut self, a: &str, b: &str, max: usize) -> Result<bool, TooMany> {
        let ids = [self.code(a), self.code(b)];
        self.graph.link(ids, NULL_CODE, 0, max, |a, b| id_order(self.names.get(a), self.names.get(b)))
    }

    fn unlink(&mut self, a: &str, b: &str) -> bool {
        let ids = [self.code(a), self.code(b)];
        self.graph.unlink(ids, |a, b| id_order(self.names.get(a), self.names.get(b)))
    }

    fn canonical<'a>(&'a self, id: &'a str) -> &'a str {
        self.names.find(id).map_or(id, |code| self.names.get(self.graph.canonical(code)))
    }

    /// Rings hold the persons that the canonical ids say.
    fn check_rings(&self) {
        let mut persons: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
        for id in 0..self.graph.len() as u32 {
            persons.entry(self.graph.canonical(id)).or_default().insert(id);
        }
        for ids in persons.values() {
            for id in ids {
                assert_eq!(&self.graph.person(*id).collect::<BTreeSet<_>>(), ids);
                assert_eq!(self.graph.person(*id).count(), ids.len());
                assert_eq!(self.graph.is_alone(*id), ids.len() == 1);
            }
        }
        assert_eq!(self.graph.shared_count(), persons.values().filter(|ids| ids.len() > 1).count());
    }
}

/// Numbers, texts that look like numbers, and texts.
fn names() -> Vec<String> {
    let texts =
        ["10", "9", "-3", "0", "007", "-0", "+5", "cookie-1", "Cookie-1", "ü", "", "9223372036854775807", "9223372036854775808", "b"];
    texts.iter().map(|text| (*text).to_owned()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn links_and_unlinks_in_any_order(steps in prop::collection::vec((0..14_usize, 0..14_usize, 0..3_u8), 1..60)) {
        let names = names();
        let (mut subject, mut oracle) = (Subject::default(), Oracle { links: BTreeSet::new() });
        for (a, b, kind) in steps {
            let pair = (a.min(b), a.max(b));
            let before = subject.graph.clone();
            let seen: Vec<u32> = (0..before.len() as u32).map(|id| before.canonical(id)).collect();
            if kind == 0 {
                prop_assert_eq!(subject.unlink(&names[a], &names[b]), oracle.links.remove(&pair));
            } else if a != b {
                prop_assert_eq!(subject.link(&names[a], &names[b], usize::MAX), Ok(oracle.links.insert(pair)));
            }
            prop_assert_eq!(subject.graph.link_count(), oracle.links.len());
            for (id, name) in names.iter().enumerate() {
                prop_assert_eq!(subject.canonical(name), oracle.canonical(&names, id));
            }
            subject.check_rings();
            // The state before is what it was.
            prop_assert_eq!(seen, (0..before.len() as u32).map(|id| before.canonical(id)).collect::<Vec<_>>());
        }
        // The same links in another order, from the other side, some of them twice: the same persons.
        let mut links: Vec<_> = oracle.links.iter().copied().collect();
        links.reverse();
        let third = links.len() / 3;
        links.rotate_left(third);
        let mut again = Subject::default();
        for (a, b) in links.iter().chain(links.iter().take(3)) {
            again.link(&names[*b], &names[*a], usize::MAX).unwrap();
        }
        for name in &names {
            prop_assert_eq!(again.canonical(name), subject.canonical(name));
        }
    }
}

#[test]
fn numbers_come_before_texts() {
    let mut ids = names();
    ids.sort_by(|a, b| id_order(a, b));
    let wanted =
        ["-3", "0", "9", "10", "9223372036854775807", "", "+5", "-0", "007", "9223372036854775808", "Cookie-1", "b", "cookie-1", "ü"];
    assert_eq!(ids, wanted);
    for (text, number) in
        [("12", Some(12)), ("-9223372036854775808", Some(i64::MIN)), ("1e3", None), ("--1", None), ("-", None), (" 1", None)]
    {
        assert_eq!(whole(text), number, "{text}");
    }
    for number in [0, 7, -7, 1_234_567_890_123, i64::MAX, i64::MIN] {
        assert_eq!(decimal(number, &mut [0; 20]), number.to_string());
    }
}

#[test]
fn a_person_has_a_limit() {
    let mut subject = Subject::default();
    for id in ["b", "c", "d"] {
        assert_eq!(subject.link("a", id, 4), Ok(true));
    }
    assert_eq!(subject.link("e", "f", 4), Ok(true));
    assert_eq!(subject.link("d", "e", 4), Err(TooMany { ids: 6 }));
    // A link inside a person adds no id.
    assert_eq!(subject.link("b", "c", 4), Ok(true));
    assert_eq!(subject.link("c", "b", 4), Ok(false));
    assert_eq!((subject.canonical("d"), subject.canonical("f"), subject.canonical("z")), ("a", "e", "z"));
    // The ring of links holds without one of them.
    assert!(subject.unlink("c", "a") && !subject.unlink("c", "a"));
    assert_eq!(subject.canonical("c"), "a");
    assert!(subject.unlink("c", "b"));
    assert_eq!((subject.canonical("c"), subject.canonical("b")), ("c", "a"));
    subject.check_rings();
}

#[test]
fn people_are_read_as_they_were() {
    let (names, sources) = (Names::default(), Names::default());
    let codes = ["web-1", "17", "app-9", "4"].map(|id| names.write().intern(id));
    let login = sources.write().intern("login");
    let mut graph = Graph::default();
    let order = |a: u32, b: u32| id_order(names.read().get(a), names.read().get(b));
    graph.link([codes[0], codes[1]], login, 20, 9, order).unwrap();
    graph.link([codes[2], codes[1]], NULL_CODE, 10, 9, order).unwrap();
    let people = People::new(names.clone(), sources.clone(), Arc::new(graph.clone()), 2);
    graph.link([codes[3], codes[0]], login, 30, 9, order).unwrap();
    let later = People::new(names.clone(), sources, Arc::new(graph), 3);
    let (people, later) = (people.read(), later.read());
    assert_eq!((people.canonical("app-9"), later.canonical("app-9"), people.canonical("x")), ("17", "4", "x"));
    assert_eq!((people.canonical_whole(17), later.canonical_whole(17), later.canonical_whole(5)), (17, 4, 5));
    assert_eq!((people.ids("17"), people.ids("4")), (Some(vec!["17", "app-9", "web-1"]), None));
    assert_eq!(later.ids("web-1"), Some(vec!["4", "17", "app-9", "web-1"]));
    let link =
        |ids: [&str; 2], source: Option<&str>, at_us| NamedLink { ids: ids.map(str::to_owned), source: source.map(str::to_owned), at_us };
    assert_eq!(people.links("17"), [link(["app-9", "17"], None, 10), link(["web-1", "17"], Some("login"), 20)]);
}

#[test]
fn many_links_of_small_persons() {
    let mut subject = Subject::default();
    let mut persons: Vec<Vec<String>> = Vec::new();
    for person in 0..2000_u64 {
        persons.push((0..1 + splitmix::at(7, person) % 5).map(|id| format!("{person}/{id}")).collect());
    }
    let mut links: Vec<(String, String)> =
        persons.iter().flat_map(|ids| ids.windows(2).map(|two| (two[1].clone(), two[0].clone()))).collect();
    links.sort_by_key(|link| splitmix::at(link.0.len() as u64, subject.names.len() as u64 + u64::from(link.0.as_bytes()[0])));
    for (a, b) in &links {
        assert_eq!(subject.link(a, b, 32), Ok(true));
    }
    for ids in &persons {
        for id in ids {
            assert_eq!(subject.canonical(id), ids[0]);
        }
    }
    subject.check_rings();
    assert_eq!(subject.graph.link_count(), links.len());
    for (a, b) in &links {
        assert!(subject.unlink(b, a));
    }
    assert!(persons.iter().flatten().all(|id| subject.canonical(id) == id));
    assert_eq!(subject.graph.link_count(), 0);
}
