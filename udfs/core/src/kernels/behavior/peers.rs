//! Goal: where ClickHouse's answer depends on nothing but the data and its rules, ours is the same; where it is not, the reason is
//! known and stands in `SEMANTICS.md`. Method: its answers about random histories, which `tests/data/behavior/vectors.py` writes.

use super::event_log::Event;
use super::funnel::{Dialect, Funnel, Mode};
use super::next_node::{Base, Direction, Node, next_node};
use super::retention::retained;
use super::sequence::{Pattern, Search};

const DISTINCT: &str = include_str!("../../../tests/data/behavior/distinct.tsv");
const TIED: &str = include_str!("../../../tests/data/behavior/tied.tsv");

/// Calls our answer to which may differ, with how often it does: a change of either number must be looked at.
type Differences<'a> = &'a [(&'a str, usize)];

fn history(text: &str) -> Vec<Event> {
    let row = |row: &str| {
        let (letters, time) = row.split_once('@').expect("letters@time");
        let bit = |letter: u8| if letter == b'.' { 0 } else { 1 << (letter - b'a') };
        Event { time: time.parse().expect("time"), mask: letters.bytes().map(bit).fold(0, |all, bit| all | bit) }
    };
    let mut events: Vec<Event> = text.split(' ').map(row).collect();
    events.sort_unstable();
    events
}

fn answer(call: &str, events: &[Event], dialect: Dialect) -> String {
    let (name, rest) = call.split_once(' ').unwrap_or((call, ""));
    let seen: Vec<Event> = events.iter().copied().filter(|event| event.mask != 0).collect();
    let pattern = || Pattern::parse(rest, 3, 1).expect("pattern");
    let numbers = |numbers: &[i64]| numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    match name {
        "funnel" => {
            let (window, words) = rest.split_once(' ').unwrap_or((rest, ""));
            let mode = Mode::words(words, dialect).expect("mode");
            Funnel::new(3, window.parse().expect("window"), mode).depth(events).to_string()
        }
        "match" => u8::from(pattern().matches(&seen, &mut Search::default())).to_string(),
        "count" => pattern().count(&seen, &mut Search::default()).to_string(),
        "events" => numbers(&pattern().first(&seen, &mut Search::default()).unwrap_or_default()),
        "retention" => {
            let all = events.iter().fold(0, |all, event| all | event.mask);
            numbers(&[0, 1, 2].map(|condition| i64::from(retained(all, condition))))
        }
        "node" => {
            let (direction, base) = rest.split_once(' ').expect("direction and base");
            let direction = if direction == "forward" { Direction::Forward } else { Direction::Backward };
            let base = match base {
                "head" => Base::Head,
                "tail" => Base::Tail,
                "first_match" => Base::FirstMatch,
                _ => Base::LastMatch,
            };
            let rows: Vec<Node> = events.iter().map(|event| Node { time: event.time, mask: 1 | (event.mask & 3) << 1 }).collect();
            next_node(&rows, 2, direction, base).map_or_else(|| "-".to_owned(), |at| rows[at].time.to_string())
        }
        _ => panic!("no such call: {call}"),
    }
}

#[track_caller]
fn compare(table: &str, dialect: Dialect, known: Differences) {
    let mut lines = table.lines();
    let calls: Vec<&str> = lines.next().expect("a header").split('\t').skip(1).collect();
    let mut different = vec![0; calls.len()];
    let mut compared = 0;
    let mut shown = String::new();
    for line in lines {
        let (text, answers) = line.split_once('\t').expect("answers");
        let events = history(text);
        for (at, (call, theirs)) in calls.iter().zip(answers.split('\t')).enumerate() {
            let ours = answer(call, &events, dialect);
            // Without a match ClickHouse shows how far the longest chain got, we show nothing.
            if call.starts_with("events") && ours.is_empty() {
                continue;
            }
            compared += 1;
            if ours != theirs {
                different[at] += 1;
                shown.push_str(&format!("{call} of {text}: {ours}, not {theirs}\n"));
            }
        }
    }
    assert!(compared > 3_000, "{compared} answers");
    let found: Vec<(&str, usize)> = calls.into_iter().zip(different).filter(|(_, different)| *different > 0).collect();
    assert_eq!(found, known, "{shown}");
}

#[test]
fn the_same_answers_where_rows_are_distinct() {
    compare(DISTINCT, Dialect::Clickhouse, &[]);
    compare(DISTINCT, Dialect::Portrait, &[]);
}

#[test]
fn the_same_answers_where_rows_are_tied_by_its_own_rules() {
    compare(TIED, Dialect::Clickhouse, &[]);
}

#[test]
fn longer_chains_where_it_loses_them() {
    let known = [
        ("funnel 2 strict_increase", 10),
        ("funnel 11 strict_deduplication,strict_increase", 11),
        ("funnel 7 strict_order,strict_increase", 3),
    ];
    compare(TIED, Dialect::Portrait, &known);
}
