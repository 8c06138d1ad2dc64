//! Goal: each rule does what its page says, and is the best that the rule allows. Method: published examples, an
//! exhaustive search as oracle for the rules that have one, and relations between rules, over random histories with many ties.

use super::*;
use crate::kernels::behavior::event_log::EventLog;
use crate::kernels::splitmix;

/// `"a@0 bc@3 .@4"`: rows with their conditions and time.
fn history(text: &str) -> Vec<Event> {
    let mut events: Vec<Event> = text
        .split_whitespace()
        .map(|row| {
            let (letters, time) = row.split_once('@').expect("letters@time");
            let bit = |letter: u8| if letter == b'.' { 0 } else { 1 << (letter - b'a') };
            Event { time: time.parse().expect("time"), mask: letters.bytes().map(bit).fold(0, |all, bit| all | bit) }
        })
        .collect();
    events.sort_unstable();
    events
}

/// One row a second: `"abdc"`.
fn seconds(letters: &str) -> Vec<Event> {
    history(&letters.chars().enumerate().map(|(time, letter)| format!("{letter}@{time}")).collect::<Vec<_>>().join(" "))
}

fn mode(words: &str) -> Mode {
    Mode::words(words, Dialect::Portrait).expect("mode")
}

#[track_caller]
fn check(words: &str, steps: usize, window: u64, events: &[Event], expected: usize) {
    let mut funnel = Funnel::new(steps, window, mode(words));
    assert_eq!(funnel.depth(events), expected, "{words}");
    let mut tracking = Funnel::new(steps, window, mode(words)).tracking();
    assert_eq!(tracking.depth(events), expected, "{words}, tracking");
    assert_eq!(tracking.path().len(), expected, "{words}: a time for each step");
}

#[test]
fn examples_of_the_engines() {
    // ClickHouse.
    check("", 3, 10, &history("abc@5"), 3);
    check("", 3, 10, &history("c@1 b@1 a@1"), 3);
    check("once", 3, 10, &history("abc@5"), 1);
    check("strict_deduplication", 4, 100, &seconds("abca"), 3);
    check("strict_deduplication", 4, 100, &seconds("abcbd"), 3);
    check("strict_order", 4, 100, &seconds("adbc"), 1);
    check("strict_order", 4, 100, &seconds("aabbdcc"), 2);
    check("strict_order", 3, 100, &seconds("acb"), 1);
    check("strict_order", 3, 100, &seconds("aabbcc"), 3);
    check("strict_order", 3, 100, &seconds("a.bc"), 1);
    check("strict_order, allow_reentry", 3, 100, &seconds("acbc"), 3);
    check("strict_increase", 2, 100, &history("a@1 b@1"), 1);
    check("", 2, 5, &history("a@0 b@5"), 2);
    check("", 2, 5, &history("a@0 b@6"), 1);
    // A chain that ClickHouse loses (its issue 93789).
    check("strict_increase", 2, 100, &history("a@0 a@1 b@1"), 2);
    check("clickhouse, strict_increase", 2, 100, &history("a@0 a@1 b@1"), 1);
    // Doris.
    check("deduplication", 4, 100, &seconds("abcbd"), 3);
    check("deduplication", 4, 100, &seconds("abacd"), 2);
    check("fixed", 4, 100, &seconds("abxcd"), 4);
    check("doris3, fixed", 4, 100, &seconds("ab.cd"), 2);
    check("fixed", 4, 100, &seconds("abdc"), 2);
    check("increase", 3, 100, &history("a@0 b@1 c@1"), 2);
    // StarRocks: only the first condition of a row counts.
    check("starrocks", 3, 100, &history("abc@1"), 1);
}

/// The rows of the tables of `SEMANTICS.md` whose first cell holds a history, with their header.
fn documented(title: &str) -> Vec<(Vec<String>, Vec<String>)> {
    let page = include_str!("../SEMANTICS.md");
    let table = page[page.find(title).expect("a table")..].lines().take_while(|line| line.starts_with('|'));
    let cells = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
    let mut lines = table.map(cells);
    let header = lines.next().expect("a header");
    lines.skip(1).map(|row| (header.clone(), row)).collect()
}

/// The text between the first backquotes.
fn quoted(cell: &str) -> &str {
    cell.split('`').nth(1).expect("a quoted text")
}

#[test]
fn the_examples_of_the_page() {
    let mut seen = 0;
    for (header, row) in documented("| history, window 10") {
        let steps = if row[0].contains("two steps") { 2 } else { 3 };
        for (words, expected) in header[1..].iter().zip(&row[1..]) {
            let words = words.trim_matches('`').replace("default", "");
            check(&words, steps, 10, &history(quoted(&row[0])), expected.parse().expect("a level"));
            seen += 1;
        }
    }
    for (header, row) in documented("| | `portrait` (default)") {
        let (words, text) = match row[0].split_once(" of ") {
            Some((words, text)) => (words.trim_matches('`'), text),
            None if row[0].starts_with("no mode") => ("", row[0].as_str()),
            None => continue,
        };
        let text = quoted(text);
        let events = if text.contains('@') { history(text) } else { seconds(&text.replace(' ', "")) };
        let steps = if words == "fixed" {
            4
        } else if text.contains("abc") {
            3
        } else {
            2
        };
        for (dialect, expected) in header[1..].iter().zip(&row[1..]) {
            check(&format!("{}, {words}", quoted(dialect)), steps, 10, &events, expected.parse().expect("a level"));
            seen += 1;
        }
    }
    assert_eq!(seen, 7 * 4 + 3 * 5);
}

#[test]
fn bits_of_starrocks() {
    let depth = |bits, events: &[Event]| Funnel::new(4, 100, Mode::bits(bits).expect("bits")).depth(events);
    assert_eq!(depth(0, &seconds("abcbd")), 4);
    assert_eq!(depth(1, &seconds("abcbd")), 3);
    assert_eq!(depth(1, &seconds("abcbabcd")), 4, "the search goes on after a violation");
    assert_eq!(depth(2, &seconds("abdc")), 2);
    assert_eq!(depth(4, &history("a@0 b@1 c@1 d@2")), 2);
    assert_eq!(depth(6, &history("a@0 b@1 c@2 d@3")), 4);
    assert_eq!(Mode::bits(8), Err(ModeError::Bits(8)));
    assert_eq!(Mode::bits(i64::MIN), Err(ModeError::Bits(i64::MIN)));
}

#[test]
fn words_that_do_not_go_together() {
    let words = |text: &str| Mode::words(text, Dialect::Portrait);
    assert_eq!(words("allow_reentry"), Err(ModeError::ReentryWithoutOrder));
    assert_eq!(words("fixed, once"), Err(ModeError::Together("fixed".into())));
    assert_eq!(words("strict_ordr").unwrap_err().to_string(), "there is no funnel mode \"strict_ordr\", perhaps \"strict_order\"");
    assert_eq!(words(" Default "), words(""));
}

#[test]
fn windows_from_zero_to_all_time() {
    check("", 2, 0, &history("a@3 b@3"), 2);
    check("", 2, 0, &history("a@3 b@4"), 1);
    let ends = [Event { time: i64::MIN, mask: 1 }, Event { time: i64::MAX, mask: 2 }];
    check("", 2, u64::MAX, &ends, 2);
    check("once", 2, u64::MAX - 1, &ends, 1);
    check("", 64, u64::MAX, &(0..64).map(|i| Event { time: i, mask: 1 << i }).collect::<Vec<_>>(), 64);
    for words in ["", "once", "strict_increase", "deduplication", "fixed", "strict_order", "strict_deduplication"] {
        check(words, 3, 10, &[], 0);
    }
}

#[test]
fn exclusions_break_chains_between_their_steps() {
    let mut funnel = Funnel::new(3, 100, mode("")).with_exclusions(vec![Exclusion { bit: 3, from: 0, to: 1 }]).tracking();
    assert_eq!(funnel.depth(&seconds("adbc")), 1);
    assert_eq!(funnel.depth(&seconds("abdc")), 3, "after step 2 it does not matter");
    assert_eq!(funnel.depth(&seconds("adabc")), 3, "a new chain may begin");
    assert_eq!(funnel.path(), [2, 3, 4]);
    assert_eq!(funnel.depth(&history("a@0 bd@1")), 1, "at the same time the exclusion comes first");
}

#[test]
fn the_path_is_the_chain_that_gets_there_first() {
    let mut funnel = Funnel::new(3, 10, mode("")).tracking();
    assert_eq!(funnel.depth(&history("a@0 a@2 b@3 a@4 b@5")), 2);
    assert_eq!(funnel.path(), [2, 3]);
    let mut once = Funnel::new(3, 10, mode("once")).tracking();
    assert_eq!(once.depth(&history("a@0 ab@2 b@2 c@2")), 3);
    assert_eq!(once.path(), [2, 2, 2]);
}

/// A random history: few times, many ties, rows that satisfy several conditions or none.
fn random(seed: u64, steps: usize) -> Vec<Event> {
    let rows = splitmix::at(seed, 0) % 10;
    let span = 1 + splitmix::at(seed, 1) % 12;
    let event = |row: u64| {
        let (a, b) = (splitmix::at(seed, 10 + 2 * row), splitmix::at(seed, 11 + 2 * row));
        let sparse = (a >> 32) & (a >> 40) & ((1 << steps) - 1);
        Event { time: (b % span) as i64, mask: if a.is_multiple_of(3) { 1 << ((a >> 8) % steps as u64) } else { sparse } }
    };
    let mut events: Vec<Event> = (0..rows).map(event).collect();
    events.sort_unstable();
    events
}

/// The deepest chain by trying everything: times that do not (or strictly) descend, the last within the window of the first.
fn exhaustive(events: &[Event], steps: usize, window: u64, strict: bool, once: bool) -> usize {
    fn go(events: &[Event], used: u64, step: usize, start: i64, last: i64, rule: (usize, u64, bool, bool)) -> usize {
        let (steps, window, strict, once) = rule;
        let mut best = step;
        for (row, event) in events.iter().enumerate() {
            let free = !once || used & (1 << row) == 0;
            let later = step == 0 || event.time > last || (!strict && event.time == last);
            let start = if step == 0 { event.time } else { start };
            if step < steps && event.mask & (1 << step) != 0 && free && later && (event.time - start) as u64 <= window {
                best = best.max(go(events, used | (1 << row), step + 1, start, event.time, rule));
            }
        }
        best
    }
    go(events, 0, 0, 0, i64::MIN, (steps, window, strict, once))
}

const GROUPS: u64 = 10_000;

#[test]
fn no_better_chain_exists() {
    for seed in 0..GROUPS {
        let steps = 1 + (splitmix::at(seed, 3) % 5) as usize;
        let window = splitmix::at(seed, 4) % 9;
        let events = random(seed, steps);
        let depth = |words: &str| {
            let depth = Funnel::new(steps, window, mode(words)).depth(&events);
            let mut tracking = Funnel::new(steps, window, mode(words)).tracking();
            assert_eq!(tracking.depth(&events), depth, "{words} of {events:?}");
            let path = tracking.path();
            assert!(path.is_sorted() && path.len() == depth && path.last().zip(path.first()).is_none_or(|(b, a)| (b - a) as u64 <= window));
            depth
        };
        let at = |words: &str, strict, once| {
            assert_eq!(depth(words), exhaustive(&events, steps, window, strict, once), "{words} of {steps} in {window}: {events:?}");
        };
        at("", false, false);
        at("once", false, true);
        at("strict_increase", true, false);
        at("strict_increase, once", true, true);
        let plain = depth("");
        for words in ["strict_deduplication", "strict_order", "clickhouse, strict_increase", "deduplication", "fixed", "doris3, fixed"] {
            assert!(depth(words) <= plain, "{words} of {events:?}");
        }
        assert!(depth("strict_order, allow_reentry") >= depth("strict_order"));
        assert_eq!(depth("doris41"), depth("once"));
        for k in 1..=steps {
            assert_eq!(Funnel::new(k, window, mode("")).depth(&events), plain.min(k), "the first steps alone: {events:?}");
        }
    }
}

#[test]
fn a_longer_window_never_shortens_a_chain() {
    for seed in 0..GROUPS {
        let events = random(seed, 4);
        for words in ["", "once", "strict_order", "strict_increase", "fixed", "deduplication"] {
            let depths: Vec<usize> = (0..8).map(|window| Funnel::new(4, window, mode(words)).depth(&events)).collect();
            assert!(depths.is_sorted(), "{words} of {events:?}: {depths:?}");
        }
    }
}

#[test]
fn neither_arrival_nor_splits_matter() {
    for seed in 0..GROUPS {
        let mut events = random(seed, 4);
        let in_order: Vec<usize> = MODES.iter().map(|words| Funnel::new(4, 5, mode(words)).depth(&events)).collect();
        splitmix::shuffle(&mut events, seed);
        let mut parts = [EventLog::<u8>::default(), EventLog::default(), EventLog::default()];
        for (row, event) in events.iter().enumerate() {
            let part = (splitmix::at(seed, 500 + row as u64) % 3) as usize;
            parts[part].push(0, event.time, event.mask as u8);
        }
        let mut whole = EventLog::<u8>::default();
        let order = splitmix::at(seed, 999) as usize;
        for part in 0..3 {
            let part = &mut parts[(part + order % 3) % 3];
            let places = part.arrange(1);
            let (times, masks) = part.slices(places[0], places[1]);
            whole.extend(0, times, masks);
        }
        let places = whole.arrange(1);
        let mut merged = vec![];
        whole.sorted_into(places[0], places[1], &mut merged);
        let after: Vec<usize> = MODES.iter().map(|words| Funnel::new(4, 5, mode(words)).depth(&merged)).collect();
        assert_eq!(after, in_order, "{merged:?}");
    }
}

const MODES: [&str; 11] = [
    "",
    "once",
    "strict_deduplication",
    "strict_order",
    "strict_order, allow_reentry",
    "strict_increase",
    "strict_order, strict_deduplication, strict_increase, once",
    "clickhouse, strict_increase",
    "deduplication",
    "doris3, fixed",
    "starrocks",
];

#[test]
fn a_user_of_a_million_events_takes_linear_time() {
    let events: Vec<Event> = (0..1_000_000).map(|i| Event { time: i / 7, mask: 1 | (i as u64 % 4) }).collect();
    for words in MODES.iter().chain(&["fixed", "strict_increase, once"]) {
        let depth = Funnel::new(64, 1_000_000, mode(words)).depth(&events);
        assert!((1..=3).contains(&depth), "{words}: {depth}");
    }
}
