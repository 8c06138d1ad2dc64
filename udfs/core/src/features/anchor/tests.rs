use super::*;
use crate::features::events::{Extra, UserHistory};
use crate::features::testing::text_key;

/// A history of (time, event, item, value).
fn history(events: &[(i64, u32, u32, f64)]) -> UserHistory {
    UserHistory {
        user: text_key("u"),
        times_us: events.iter().map(|e| e.0).collect(),
        events: events.iter().map(|e| e.1).collect(),
        items: events.iter().map(|e| e.2).collect(),
        categories: Vec::new(),
        values: events.iter().map(|e| e.3).collect(),
        extras: vec![Extra::Number(events.iter().map(|e| e.3 * 10.0).collect())],
    }
}

fn cutter(question: Question, watermark_us: i64, horizon_us: i64, every_us: i64) -> Cutter {
    Cutter { question, grid: Grid { watermark_us, horizon_us, every_us }, min_history: 1, only: None }
}

fn cut(cutter: &Cutter, history: &UserHistory) -> (Vec<Row>, u64) {
    let mut rows = Vec::new();
    let censored = cutter.cut(0, &history.view(), &mut rows);
    (rows, censored)
}

#[test]
fn the_grid_keeps_windows_apart() {
    let grid = Grid { watermark_us: 1000, horizon_us: 100, every_us: 30 };
    let anchors: Vec<(i64, Rows)> = grid.anchors().take(5).collect();
    assert_eq!(anchors, [(900, Rows::Test), (800, Rows::Validation), (700, Rows::Train), (670, Rows::Train), (640, Rows::Train)]);
    assert_eq!(grid.anchors().count(), TRAIN_ANCHORS_MAX + 2);
    let wide = Grid { watermark_us: i64::MAX, horizon_us: i64::MAX, every_us: i64::MAX };
    assert_eq!(wide.anchors().count(), TRAIN_ANCHORS_MAX + 2, "no overflow");
}

#[test]
fn windows_are_open_on_the_left_and_closed_on_the_right() {
    // Test anchor 900: the window is (900, 1000].
    for (time, seen, label) in [(900, 2, 0.0), (901, 1, 1.0), (1000, 1, 1.0), (1001, 1, 0.0)] {
        let history = history(&[(0, 9, 0, 1.0), (time, 7, 0, 1.0)]);
        let (rows, _) = cut(&cutter(Question::Event(Some(7)), 1000, 100, 100), &history);
        let test = rows.iter().find(|row| row.part == Rows::Test).unwrap();
        assert_eq!((test.anchor_us, test.end, test.label), (900, seen, label), "event at {time}");
    }
}

#[test]
fn every_question_of_a_window() {
    let nan = f64::NAN;
    let history = history(&[(0, 0, 0, 5.0), (901, 1, 0, 2.0), (950, 2, 0, nan), (950, 1, 0, 4.0), (1000, 0, 0, 8.0)]);
    for (question, label) in [
        (Question::Event(Some(2)), 1.0),
        (Question::Event(Some(3)), 0.0),
        (Question::Event(None), 1.0),
        (Question::Count(Some(1)), 2.0),
        (Question::Count(None), 4.0),
        (Question::Sum(Summand::Value, None), 14.0),
        (Question::Sum(Summand::Value, Some(1)), 6.0),
        (Question::Sum(Summand::Value, Some(2)), 0.0),
        (Question::Sum(Summand::Extra(0), Some(1)), 60.0),
        (Question::Ladder(vec![0, 1, 3]), 2.0),
        (Question::Ladder(vec![2, 5]), 1.0),
        (Question::Ladder(vec![5, 6]), 0.0),
    ] {
        let (rows, censored) = cut(&cutter(question.clone(), 1000, 100, 100), &history);
        assert_eq!(rows.last().unwrap().label, label, "{question:?}");
        assert_eq!(rows.last().unwrap().settled_us, 1000);
        assert_eq!(censored, 0);
        // Anchors 900, 800 … 0 with history, each once, ascending.
        assert_eq!(rows.iter().map(|row| row.anchor_us).collect::<Vec<_>>(), (0..10).map(|i| i * 100).collect::<Vec<_>>());
    }
}

#[test]
fn short_and_late_histories_have_no_rows() {
    let late = history(&[(950, 0, 0, 0.0)]);
    assert_eq!(cut(&cutter(Question::Event(None), 1000, 100, 100), &late), (vec![], 1));
    let mut strict = cutter(Question::Event(None), 1000, 100, 100);
    strict.min_history = 3;
    assert_eq!(cut(&strict, &history(&[(0, 0, 0, 0.0), (5, 0, 0, 0.0)])), (vec![], 0));
    let third = history(&[(0, 0, 0, 0.0), (5, 0, 0, 0.0), (650, 0, 0, 0.0)]);
    let anchors: Vec<i64> = cut(&strict, &third).0.iter().map(|row| row.anchor_us).collect();
    assert_eq!(anchors, [700, 800, 900]);
}

#[test]
fn next_event_at_every_distinct_time() {
    let null = NULL_CODE;
    let history = history(&[(0, 1, 5, 0.0), (0, 2, 6, 0.0), (50, null, 7, 0.0), (60, 3, null, 0.0), (300, 4, 8, 0.0), (950, 5, 9, 0.0)]);
    let (rows, censored) = cut(&cutter(Question::NextEvent, 1000, 100, 100), &history);
    let labels: Vec<(i64, u32, f64, i64)> = rows.iter().map(|row| (row.anchor_us, row.end, row.label, row.settled_us)).collect();
    assert_eq!(
        labels,
        [(0, 2, 3.0, 60), (50, 3, 3.0, 60), (60, 4, NONE_CODE, 160), (300, 5, NONE_CODE, 400)],
        "the last event's window ends after the watermark"
    );
    assert_eq!(censored, 1);
    let (rows, _) = cut(&cutter(Question::NextItem, 1000, 100, 100), &history);
    assert_eq!(rows.iter().map(|row| row.label).collect::<Vec<_>>(), [7.0, NONE_CODE, NONE_CODE, NONE_CODE]);
    // The boundary: exactly at the horizon counts.
    let boundary = cutter(Question::NextEvent, 1000, 240, 240);
    assert_eq!(cut(&boundary, &history).0[2].label, 4.0);
    let before = cutter(Question::NextEvent, 1000, 239, 239);
    assert_eq!(cut(&before, &history).0[2].label, NONE_CODE);
}

#[test]
fn only_these_anchors() {
    let history = history(&[(0, 1, 0, 0.0), (450, 7, 0, 0.0), (930, 7, 0, 0.0)]);
    let mut on_grid = cutter(Question::Event(Some(7)), 1000, 100, 100);
    on_grid.only = Some(vec![400, 500, 950]);
    let (rows, censored) = cut(&on_grid, &history);
    assert_eq!(
        rows.iter().map(|row| (row.anchor_us, row.label, row.part)).collect::<Vec<_>>(),
        [(400, 1.0, Rows::Test), (500, 0.0, Rows::Test)]
    );
    assert_eq!(censored, 1, "the window of 950 is not over");
    let mut at_events = cutter(Question::NextEvent, 1000, 500, 100);
    at_events.only = Some(vec![400, 500]);
    let (rows, _) = cut(&at_events, &history);
    assert_eq!(rows.iter().map(|row| (row.anchor_us, row.label)).collect::<Vec<_>>(), [(450, 7.0)]);
}

#[test]
fn parts_by_time_are_purged_at_their_cuts() {
    let row = |anchor_us: i64| Row { user: 0, end: 1, anchor_us, settled_us: anchor_us + 5, label: 0.0, part: Rows::Train };
    let mut rows: Vec<Row> = (0..100).map(row).collect();
    let purged = split_by_time(&mut rows);
    let (first, second) = (79, 89);
    for row in &rows {
        match row.part {
            Rows::Train => assert!(row.anchor_us <= first && row.settled_us <= first),
            Rows::Validation => assert!(row.anchor_us > first && row.settled_us <= second),
            Rows::Test => assert!(row.anchor_us > second),
        }
    }
    assert_eq!(purged, 10);
    assert_eq!(rows.iter().filter(|row| row.part == Rows::Test).count(), 10);
    assert_eq!(split_by_time(&mut Vec::new()), 0);
}
