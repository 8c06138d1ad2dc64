//! Paths through events as the edges of a Sankey diagram: from which event users go to which, step by step.

use crate::kernels::number_hash::NumberMap;
use crate::kernels::session::SessionNumbers;

/// What a user did: an event and its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Visit {
    /// When.
    pub time: i64,
    /// Which event.
    pub event: u32,
}

/// Which paths are looked at.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// Where a path begins: the first such event of a session (the last one, backwards); any event when `None`.
    pub start: Option<u32>,
    /// How many edges a path has at most.
    pub depth: usize,
    /// Against time: what led to the start.
    pub reverse: bool,
    /// Sessions end after such a gap.
    pub session_gap: u64,
    /// Repetitions of an event count once.
    pub collapse: bool,
}

/// An edge: the step from 1, the event left, the event reached; `None` where the session ended.
pub type Key = (u32, u32, Option<u32>);

/// A [`Key`] in three numbers: events have numbers below the last one.
type Place = (u32, u32, u32);

/// No event.
const END: u32 = u32::MAX;

/// What is known of an edge.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Edge {
    /// Different users.
    pub users: u64,
    /// Sessions.
    pub sessions: u64,
    /// How long each session took, for edges that reach an event.
    pub durations: Vec<u64>,
}

/// An edge, and the last user who took it.
#[derive(Debug, Clone, Default)]
struct Counted {
    edge: Edge,
    user: u64,
}

/// The edges of the paths of many users.
#[derive(Debug, Clone)]
pub struct Edges {
    rule: Rule,
    edges: NumberMap<Place, Counted>,
    /// The number of the user, from 1.
    user: u64,
    path: Vec<Visit>,
    durations: usize,
}

impl Edges {
    /// No paths yet.
    #[must_use]
    pub fn new(rule: Rule) -> Self {
        Self { rule, edges: NumberMap::default(), user: 0, path: Vec::new(), durations: 0 }
    }

    /// Adds a user's visits, in order of time. O(visits).
    pub fn user(&mut self, visits: &[Visit]) {
        self.user += 1;
        let mut sessions = SessionNumbers::new(self.rule.session_gap, None);
        let mut begin = 0;
        let mut last = 1;
        for (at, visit) in visits.iter().enumerate() {
            let session = sessions.next(visit.time, false);
            if session != last {
                self.session(&visits[begin..at]);
                (begin, last) = (at, session);
            }
        }
        self.session(&visits[begin..]);
    }

    fn session(&mut self, visits: &[Visit]) {
        let rule = self.rule;
        let mut path = std::mem::take(&mut self.path);
        path.clear();
        path.extend_from_slice(visits);
        if rule.collapse {
            path.dedup_by_key(|visit| visit.event);
        }
        if rule.reverse {
            path.reverse();
        }
        let begin = match rule.start {
            Some(start) => path.iter().position(|visit| visit.event == start).unwrap_or(path.len()),
            None => 0,
        };
        for (step, at) in (begin..path.len()).enumerate().take(rule.depth) {
            let next = path.get(at + 1);
            let place = (u32::try_from(step + 1).unwrap_or(u32::MAX), path[at].event, next.map_or(END, |next| next.event));
            let Counted { edge, user } = self.edges.entry(place).or_default();
            edge.sessions += 1;
            edge.users += u64::from(std::mem::replace(user, self.user) != self.user);
            if let Some(next) = next {
                edge.durations.push(next.time.abs_diff(path[at].time));
                self.durations += 1;
            }
        }
        self.path = path;
    }

    /// Adds the edges of other users.
    pub fn merge(&mut self, other: Self) {
        self.durations += other.durations;
        for (place, Counted { edge, .. }) in other.edges {
            let mine = &mut self.edges.entry(place).or_default().edge;
            mine.users += edge.users;
            mine.sessions += edge.sessions;
            mine.durations.extend(edge.durations);
        }
    }

    /// The same edges with other numbers for the events: `names[old]` is the new one.
    #[must_use]
    pub fn renumbered(self, names: &[u32]) -> Self {
        let name = |old: u32| if old == END { END } else { names.get(old as usize).copied().unwrap_or(old) };
        let edges = self.edges.into_iter().map(|((step, source, target), edge)| ((step, name(source), name(target)), edge));
        Self { edges: edges.collect(), ..self }
    }

    /// The edges, in no order.
    pub fn into_edges(self) -> impl Iterator<Item = (Key, Edge)> {
        let target = |number: u32| (number != END).then_some(number);
        self.edges.into_iter().map(move |((step, source, to), counted)| ((step, source, target(to)), counted.edge))
    }

    /// Bytes on the heap, about: a duration of each edge of each path, and the table.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        2 * self.durations * size_of::<u64>() + self.edges.capacity() * (size_of::<(Place, Counted)>() + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::splitmix;

    fn visits(list: &[(i64, u32)]) -> Vec<Visit> {
        list.iter().map(|(time, event)| Visit { time: *time, event: *event }).collect()
    }

    const RULE: Rule = Rule { start: None, depth: 3, reverse: false, session_gap: 10, collapse: false };

    fn edges(rule: Rule, users: &[&[(i64, u32)]]) -> Vec<(Key, u64, u64)> {
        let mut edges = Edges::new(rule);
        users.iter().for_each(|user| edges.user(&visits(user)));
        let mut found: Vec<_> = edges.into_edges().map(|(key, edge)| (key, edge.users, edge.sessions)).collect();
        found.sort_unstable();
        found
    }

    #[test]
    fn forward_and_backward() {
        let user: &[(i64, u32)] = &[(0, 7), (1, 8), (2, 9), (50, 7), (51, 8)];
        assert_eq!(edges(RULE, &[user]), [((1, 7, Some(8)), 1, 2), ((2, 8, None), 1, 1), ((2, 8, Some(9)), 1, 1), ((3, 9, None), 1, 1)]);
        let back = Rule { reverse: true, start: Some(9), ..RULE };
        assert_eq!(edges(back, &[user]), [((1, 9, Some(8)), 1, 1), ((2, 8, Some(7)), 1, 1), ((3, 7, None), 1, 1)]);
        let repeated: &[(i64, u32)] = &[(0, 7), (1, 7), (2, 8)];
        assert_eq!(edges(Rule { collapse: true, ..RULE }, &[repeated])[0], ((1, 7, Some(8)), 1, 1));
        assert_eq!(edges(RULE, &[&[]]), []);
    }

    #[test]
    fn what_flows_in_flows_out() {
        for seed in 0..2_000 {
            let rule = Rule { depth: 4, collapse: seed % 2 == 0, reverse: seed % 3 == 0, ..RULE };
            let mut whole = Edges::new(rule);
            let mut parts = [Edges::new(rule), Edges::new(rule)];
            for user in 0..5 {
                let row = |i| Visit {
                    time: (20 * i + splitmix::at(seed, 50 * user + i) % 15) as i64,
                    event: (splitmix::at(seed, 500 * user + i) % 3) as u32,
                };
                let history: Vec<Visit> = (0..splitmix::at(seed, user) % 9).map(row).collect();
                whole.user(&history);
                parts[(user % 2) as usize].user(&history);
            }
            let [mut left, right] = parts;
            left.merge(right);
            let [whole, merged] = [whole, left].map(|edges| edges.into_edges().collect::<std::collections::HashMap<_, _>>());
            assert!(whole.len() == merged.len() && whole.iter().all(|(key, edge)| merged[key].sessions == edge.sessions));
            let flow = |step: u32, node: u32, into: bool| -> u64 {
                let counts = |key: &Key| if into { key.0 == step && key.2 == Some(node) } else { key.0 == step && key.1 == node };
                whole.iter().filter(|(key, _)| counts(key)).map(|(_, edge)| edge.sessions).sum()
            };
            for (step, node) in (1..4).flat_map(|step| (0..3).map(move |node| (step, node))) {
                assert_eq!(flow(step, node, true), flow(step + 1, node, false));
            }
        }
    }
}
