//! Goal: the pattern found is the earliest there is, and the counts follow from it. Method: examples, and a search that tries
//! all rows as oracle, over random histories and patterns.

use super::*;
use crate::kernels::behavior::event_log::{Event, EventLog};
use crate::kernels::splitmix;

/// `"a@0 bc@3"`.
fn history(text: &str) -> Vec<Event> {
    let row = |row: &str| {
        let (letters, time) = row.split_once('@').expect("letters@time");
        Event { time: time.parse().expect("time"), mask: letters.bytes().fold(0, |all, letter| all | 1 << (letter - b'a')) }
    };
    let mut events: Vec<Event> = text.split_whitespace().map(row).collect();
    events.sort_unstable();
    events
}

#[track_caller]
fn check(pattern: &str, text: &str, count: u64, times: Option<&[i64]>) {
    let (pattern, events) = (Pattern::parse(pattern, 4, 1).expect("pattern"), history(text));
    let mut search = Search::default();
    assert_eq!(pattern.matches(&events, &mut search), times.is_some());
    assert_eq!(pattern.count(&events, &mut search), count);
    assert_eq!(pattern.first(&events, &mut search).as_deref(), times);
}

#[test]
fn patterns() {
    check("(?1)(?2)", "a@0 b@1", 1, Some(&[0, 1]));
    check("(?1)(?2)", "a@0 c@1 b@2", 0, None);
    check("(?1).*(?2)", "a@0 c@1 b@2", 1, Some(&[0, 2]));
    check("(?1).(?2)", "a@0 c@1 b@2", 1, Some(&[0, 2]));
    check("(?1)(?1)(?1)", "a@0 a@1 a@2 a@3 a@4 a@5 a@6 a@7", 2, Some(&[0, 1, 2]));
    check("(?1)(?t<=5)(?2)", "a@0 a@3 c@4 b@7", 1, Some(&[3, 7]));
    check("(?1)(?t<=5)(?2)", "a@0 b@6", 0, None);
    check("(?1)(?t>5)(?2)", "a@0 b@5 b@6", 1, Some(&[0, 6]));
    check("(?1)(?t>=5)(?2)", "a@0 b@5 b@6", 1, Some(&[0, 5]));
    check("(?1)(?t==6)(?2)", "a@0 b@5 b@6", 1, Some(&[0, 6]));
    check("(?1)(?t!=5)(?2)", "a@0 b@5 b@6", 1, Some(&[0, 6]));
    check("(?1).*(?t>0)(?2)", "a@0 b@1", 1, Some(&[0, 1]));
    check("(?1)(?t<=1).*(?2)", "a@0 c@1 b@9", 1, Some(&[0, 9]));
    check("(?1)(?t<=1).*(?2)", "a@0 c@2 b@9", 0, None);
    check("(?1)(?t>3)", "a@0 b@2", 0, None);
    check("(?1)(?t>3)", "a@0 b@4", 1, Some(&[0]));
    check("(?1)(?t<=3)", "a@0", 1, Some(&[0]));
    check("", "a@0 b@1", 2, Some(&[]));
    check(".*", "", 0, Some(&[]));
    check("(?1)", "", 0, None);
}

#[test]
fn texts_that_are_no_pattern() {
    let error = |text: &str| Pattern::parse(text, 2, 1).unwrap_err().to_string();
    assert_eq!(error("(?3)"), "invalid pattern: there is no condition 3 among 2");
    assert_eq!(error("(?0)"), "invalid pattern: there is no condition 0 among 2");
    assert_eq!(error("(?99999999999999999999)"), "invalid pattern: a number expected at position 3");
    assert_eq!(error("(?1"), "invalid pattern: a closing parenthesis expected at position 4");
    assert_eq!(error("(?1) (?2)"), "invalid pattern: (?N), (?t…), . or .* expected at position 5");
    assert_eq!(error("(?t>1)(?1)"), "invalid pattern: the time at position 1 does not follow an event");
    assert_eq!(error("(?1)(?t>1)(?t<3)(?2)"), "invalid pattern: the time at position 11 does not follow an event");
    assert_eq!(error("(?1)(?t~1)"), "invalid pattern: one of <= < >= > == != expected at position 8");
    assert_eq!(error(&"(?1)".repeat(65)), "invalid pattern: it has more than 64 events");
    assert!(Pattern::parse(&"(?1)".repeat(64), 2, 1).is_ok());
}

const PIECES: [&str; 14] =
    ["(?1)", "(?2)", "(?3)", ".", ".*", "(?t<3)", "(?t<=2)", "(?t>2)", "(?t>=3)", "(?t==2)", "(?t!=2)", "(?1)", "(?2)", "(?t==0)"];

fn random_pattern(seed: u64) -> String {
    let pieces = splitmix::at(seed, 1) % 7;
    (0..pieces).map(|piece| PIECES[(splitmix::at(seed, 50 + piece) % 14) as usize]).collect()
}

fn random_history(seed: u64) -> Vec<Event> {
    let rows = splitmix::at(seed, 2) % 9;
    let event = |row| Event { time: (splitmix::at(seed, 100 + row) % 7) as i64, mask: 1 + splitmix::at(seed, 200 + row) % 7 };
    let mut events: Vec<Event> = (0..rows).map(event).collect();
    events.sort_unstable();
    events
}

/// The earliest match at `from` or later by trying every row for every event: its rows and where to go on.
fn exhaustive(pattern: &Pattern, events: &[Event], from: usize) -> Option<(Vec<usize>, usize)> {
    use super::pattern::{Comparison, Gap};
    fn holds(comparison: Comparison, elapsed: i64, distance: u64) -> bool {
        let (elapsed, distance) = (i128::from(elapsed), i128::from(distance));
        match comparison {
            Comparison::Less => elapsed < distance,
            Comparison::AtMost => elapsed <= distance,
            Comparison::More => elapsed > distance,
            Comparison::AtLeast => elapsed >= distance,
            Comparison::Equal => elapsed == distance,
            Comparison::NotEqual => elapsed != distance,
        }
    }
    fn go(pattern: &Pattern, events: &[Event], rows: &mut Vec<usize>) -> Option<usize> {
        let (row, index) = (*rows.last()?, rows.len() - 1);
        let elapsed = |to: usize| events[to].time - events[row].time;
        let at_distance = |from: usize, to: usize| {
            let Gap::Time { comparison, distance, .. } = pattern.tokens[index].gap else { return true };
            (from..to.min(events.len())).any(|at| holds(comparison, elapsed(at), distance))
        };
        if index + 1 == pattern.tokens.len() {
            let Gap::Time { comparison, distance, .. } = pattern.tokens[index].gap else { return Some(row + 1) };
            let short = matches!(comparison, Comparison::Less | Comparison::AtMost);
            if row + 1 == events.len() {
                return (short || (comparison == Comparison::AtLeast && distance == 0)).then_some(row + 1);
            }
            if short {
                return at_distance(row + 1, row + 2).then_some(row + 1);
            }
            return (row + 1..events.len()).find(|at| at_distance(*at, at + 1));
        }
        for next in row + 1..events.len() {
            let fits = match pattern.tokens[index].gap {
                Gap::None => next == row + 1,
                Gap::Any => true,
                Gap::Time { then_any: false, .. } => at_distance(next, next + 1),
                Gap::Time { then_any: true, .. } => at_distance(row + 1, next + 1),
            };
            if fits && events[next].mask & pattern.tokens[index + 1].bits != 0 {
                rows.push(next);
                if let Some(resume) = go(pattern, events, rows) {
                    return Some(resume);
                }
                rows.pop();
            }
        }
        None
    }
    (from..events.len()).filter(|row| events[*row].mask & pattern.tokens[0].bits != 0).find_map(|row| {
        let mut rows = vec![row];
        go(pattern, events, &mut rows).map(|resume| (rows, resume))
    })
}

#[test]
fn nothing_earlier_matches() {
    let (mut compared, mut matched) = (0, 0);
    for seed in 0..60_000 {
        let (text, events) = (random_pattern(seed), random_history(seed));
        let Ok(pattern) = Pattern::parse(&text, 3, 1) else { continue };
        if pattern.tokens.is_empty() {
            continue;
        }
        compared += 1;
        let (mut expected, mut from) = (0, 0);
        while let Some((_, resume)) = exhaustive(&pattern, &events, from) {
            expected += 1;
            from = resume;
        }
        let named = |at: &usize| pattern.tokens[*at].bits != u64::MAX;
        let times = |rows: Vec<usize>| (0..rows.len()).filter(named).map(|at| events[rows[at]].time).collect::<Vec<_>>();
        let first = exhaustive(&pattern, &events, 0).map(|(rows, _)| times(rows));
        let mut search = Search::default();
        assert_eq!(pattern.first(&events, &mut search), first, "{text} in {events:?}");
        assert_eq!(pattern.count(&events, &mut search), expected, "{text} in {events:?}");
        assert_eq!(pattern.matches(&events, &mut search), expected > 0, "{text} in {events:?}");
        matched += u64::from(expected > 0);
    }
    assert!(compared > 10_000 && matched > 2_000, "{compared} patterns, {matched} matches");
}

#[test]
fn neither_arrival_nor_splits_matter() {
    let patterns = ["(?1)(?2)", "(?1).*(?3)", "(?1)(?t<=2)(?2)", "(?2)(?t==1)(?1)", "(?3).(?1)(?t>1)(?2)"];
    let patterns: Vec<Pattern> = patterns.iter().map(|text| Pattern::parse(text, 3, 1).expect("pattern")).collect();
    let mut search = Search::default();
    for seed in 0..10_000 {
        let mut events = random_history(seed);
        let mut answers = |events: &[Event]| -> Vec<(u64, Option<Vec<i64>>)> {
            patterns.iter().map(|pattern| (pattern.count(events, &mut search), pattern.first(events, &mut search))).collect()
        };
        let in_order = answers(&events);
        splitmix::shuffle(&mut events, seed);
        let mut parts = [EventLog::<u16>::default(), EventLog::default()];
        for (row, event) in events.iter().enumerate() {
            parts[(splitmix::at(seed, 700 + row as u64) % 2) as usize].push(0, event.time, event.mask as u16);
        }
        let (mut whole, mut merged) = (EventLog::<u16>::default(), vec![]);
        for part in parts.iter_mut().rev() {
            let places = part.arrange(1);
            let (times, masks) = part.slices(places[0], places[1]);
            whole.extend(0, times, masks);
        }
        let places = whole.arrange(1);
        whole.sorted_into(places[0], places[1], &mut merged);
        assert_eq!(answers(&merged), in_order, "{merged:?}");
    }
}

#[test]
fn long_histories_take_linear_time() {
    let events: Vec<Event> = (0..1_000_000).map(|i| Event { time: i / 3, mask: 1 + (i as u64 % 3) }).collect();
    let mut search = Search::default();
    for text in
        ["(?1)(?t<=9)(?2)(?t>100)(?1)(?t==7)(?2).*(?3)", "(?1)(?t==5).*(?2)(?t>=999999)(?3)", "(?1)(?t==0)(?1)", "(?1).*(?2).*(?1).*(?4)"]
    {
        let pattern = Pattern::parse(text, 4, 1).expect("pattern");
        assert!(pattern.count(&events, &mut search) <= 500_000);
        let same: Vec<Event> = (0..400_000).map(|i| Event { time: i / 200_000 * 5, mask: 1 + (i as u64 % 3) }).collect();
        assert!(pattern.count(&same, &mut search) <= 200_000);
    }
}
