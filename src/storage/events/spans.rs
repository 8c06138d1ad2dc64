//! Which users a file holds, and how files are laid out in ranges of users.
//!
//! Nothing of the layout is stored: it follows from the first and last user of each file. Ranges begin where no large
//! file goes on; files in one *run* do not overlap. A small file may lie across ranges: it is read in each of them, and
//! cut there.

use datafusion::arrow::array::{Array, ArrayRef};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{ScalarValue, Statistics};
use serde_json::Value;

/// A file with fewer rows may lie across ranges.
pub(super) const SMALL_FILE_ROWS: u64 = 32_768;
/// More runs than these are not merged: the table wants `OPTIMIZE`.
pub(super) const RUNS_MAX: usize = 64;

/// The users of one file, first and last, and its rows.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct UserSpan {
    pub(crate) first: ScalarValue,
    pub(crate) last: ScalarValue,
    pub(crate) rows: u64,
}

/// Files in ranges of users.
#[derive(Debug, PartialEq)]
pub(super) struct Layout {
    /// The first user of each range but the first.
    pub(super) splits: Vec<ScalarValue>,
    /// Runs of files that do not overlap.
    pub(super) runs: Vec<Run>,
}

/// Files that follow one another.
#[derive(Debug, PartialEq, Default)]
pub(super) struct Run {
    /// Of each range, the numbers of its files in order.
    pub(super) ranges: Vec<Vec<usize>>,
    /// Whether a file lies in more than one range.
    pub(super) across: bool,
}

/// The span of a file from Delta's statistics, when they tell it; puts the users' bounds into what a scan may rely on.
pub(crate) fn span_of(stats: Option<&str>, user: (usize, &str, &DataType), known: &mut Statistics) -> Option<UserSpan> {
    let (index, name, data_type) = user;
    let stats: Value = serde_json::from_str(stats?).ok()?;
    let bound = |kind: &str| match (&stats[kind][name], data_type) {
        (Value::String(text), DataType::Utf8View) => Some(ScalarValue::Utf8View(Some(text.clone()))),
        (Value::Number(number), data_type) if data_type.is_signed_integer() => {
            ScalarValue::Int64(Some(number.as_i64()?)).cast_to(data_type).ok()
        }
        _ => None,
    };
    let (first, last) = (bound("minValues")?, bound("maxValues")?);
    let column = known.column_statistics.get_mut(index)?;
    column.min_value = datafusion::common::stats::Precision::Exact(first.clone());
    column.max_value = datafusion::common::stats::Precision::Exact(last.clone());
    Some(UserSpan { first, last, rows: stats["numRecords"].as_u64()? })
}

/// Lays out files in at most `ranges_max` ranges; `None` when they overlap too deeply.
pub(super) fn lay_out(spans: &[UserSpan], ranges_max: usize) -> Option<Layout> {
    let splits = balanced(starts(spans), spans, ranges_max.max(1));
    let mut order: Vec<usize> = (0..spans.len()).collect();
    order.sort_by(|&a, &b| less(&spans[a].first, &spans[b].first).then(spans[b].rows.cmp(&spans[a].rows)));
    let mut runs: Vec<(Run, usize)> = Vec::new();
    for file in order {
        let free = runs.iter().position(|(_, last)| less(&spans[*last].last, &spans[file].first).is_lt());
        let at = match free {
            Some(at) => at,
            None if runs.len() >= RUNS_MAX => return None,
            None => {
                runs.push((Run { ranges: vec![Vec::new(); splits.len() + 1], across: false }, file));
                runs.len() - 1
            }
        };
        let (run, last) = &mut runs[at];
        *last = file;
        let (from, to) = (range_of(&splits, &spans[file].first), range_of(&splits, &spans[file].last));
        run.ranges[from..=to].iter_mut().for_each(|range| range.push(file));
        run.across |= from != to;
    }
    Some(Layout { splits, runs: runs.into_iter().map(|(run, _)| run).collect() })
}

/// The users at which new files may begin, so that they fit the ranges of `spans`.
pub(super) fn boundaries(spans: &[UserSpan], ranges_max: usize) -> Vec<ScalarValue> {
    balanced(starts(spans), spans, ranges_max)
}

/// Groups of files that are worth rewriting together: those whose users overlap, and small ones beside each other.
pub(super) fn overlapping(spans: &[UserSpan]) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..spans.len()).collect();
    order.sort_by(|&a, &b| less(&spans[a].first, &spans[b].first));
    let mut clusters: Vec<(Vec<usize>, &ScalarValue)> = Vec::new();
    for file in order {
        match clusters.last_mut() {
            Some((files, last)) if less(&spans[file].first, last).is_le() => {
                files.push(file);
                if less(&spans[file].last, last).is_gt() {
                    *last = &spans[file].last;
                }
            }
            _ => clusters.push((vec![file], &spans[file].last)),
        }
    }
    let (mut groups, mut open): (Vec<Vec<usize>>, Vec<usize>) = (Vec::new(), Vec::new());
    for (files, _) in clusters {
        if let [alone] = files.as_slice()
            && spans[*alone].rows >= SMALL_FILE_ROWS
        {
            groups.push(std::mem::take(&mut open));
        } else {
            open.extend(files);
        }
    }
    groups.push(open);
    groups.retain(|group| group.len() > 1);
    groups
}

/// The first users of all ranges that no large file crosses, but the very first.
fn starts(spans: &[UserSpan]) -> Vec<(ScalarValue, u64)> {
    let mut large: Vec<&UserSpan> = spans.iter().filter(|span| span.rows >= SMALL_FILE_ROWS).collect();
    large.sort_by(|a, b| less(&a.first, &b.first));
    let (mut starts, mut last, mut rows): (_, Option<&ScalarValue>, u64) = (Vec::new(), None, 0);
    for span in large {
        if last.is_some_and(|last| less(last, &span.first).is_lt()) {
            starts.push((span.first.clone(), rows));
        }
        last = Some(last.filter(|last| less(last, &span.last).is_gt()).unwrap_or(&span.last));
        rows += span.rows;
    }
    starts
}

/// At most `ranges_max - 1` of `starts` (each with the rows before it), about equally many rows apart.
fn balanced(starts: Vec<(ScalarValue, u64)>, spans: &[UserSpan], ranges_max: usize) -> Vec<ScalarValue> {
    if starts.len() < ranges_max {
        return starts.into_iter().map(|(start, _)| start).collect();
    }
    let total: u64 = spans.iter().map(|span| span.rows).filter(|rows| *rows >= SMALL_FILE_ROWS).sum();
    let share = (total / ranges_max as u64).max(1);
    let (mut kept, mut next) = (Vec::new(), share);
    for (start, before) in starts {
        if before >= next && kept.len() + 1 < ranges_max {
            kept.push(start);
            next = (before / share + 1) * share;
        }
    }
    kept
}

/// The range that holds `user`.
pub(super) fn range_of(splits: &[ScalarValue], user: &ScalarValue) -> usize {
    splits.partition_point(|split| less(split, user).is_le())
}

/// Compares users: numbers by value, texts by bytes. Users of one table have one type.
fn less(a: &ScalarValue, b: &ScalarValue) -> std::cmp::Ordering {
    a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal)
}

/// Splits beyond every user, so that there are `count` in all: as many ranges as the plan has partitions, or the
/// planner shuffles.
pub(super) fn pad(splits: &mut Vec<ScalarValue>, spans: &[UserSpan], count: usize) {
    let last = spans.iter().map(|span| &span.last).chain(splits.last()).max_by(|a, b| less(a, b)).cloned();
    let Some(mut last) = last else { return };
    while splits.len() < count {
        let Some(next) = after(&last) else { return };
        last = next;
        splits.push(last.clone());
    }
}

/// A user behind this one.
fn after(user: &ScalarValue) -> Option<ScalarValue> {
    Some(match user {
        ScalarValue::Int8(Some(user)) => ScalarValue::Int8(Some(user.checked_add(1)?)),
        ScalarValue::Int16(Some(user)) => ScalarValue::Int16(Some(user.checked_add(1)?)),
        ScalarValue::Int32(Some(user)) => ScalarValue::Int32(Some(user.checked_add(1)?)),
        ScalarValue::Int64(Some(user)) => ScalarValue::Int64(Some(user.checked_add(1)?)),
        ScalarValue::Utf8View(Some(user)) => ScalarValue::Utf8View(Some(format!("{user}\0"))),
        _ => return None,
    })
}

/// The first row at or after `from` of a column in order whose user is not before `user`.
pub(super) fn first_row(users: &ArrayRef, user: &ScalarValue) -> datafusion::error::Result<usize> {
    let (mut low, mut high) = (0, users.len());
    while low < high {
        let middle = low + (high - low) / 2;
        let found = ScalarValue::try_from_array(users, middle)?;
        if less(&found, user).is_lt() {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(low)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(first: i64, last: i64, rows: u64) -> UserSpan {
        UserSpan { first: ScalarValue::Int64(Some(first)), last: ScalarValue::Int64(Some(last)), rows }
    }

    fn splits(layout: &Layout) -> Vec<i64> {
        layout.splits.iter().map(|split| if let ScalarValue::Int64(Some(split)) = split { *split } else { -1 }).collect()
    }

    const LARGE: u64 = 1_000_000;

    #[test]
    fn files_that_do_not_overlap_are_one_run() {
        let layout = lay_out(&[span(30, 40, LARGE), span(1, 9, LARGE), span(10, 29, LARGE)], 16).unwrap();
        assert_eq!(splits(&layout), [10, 30]);
        assert_eq!(layout.runs, [Run { ranges: vec![vec![1], vec![2], vec![0]], across: false }]);
        // Fewer ranges hold several files each.
        let layout = lay_out(&[span(30, 40, LARGE), span(1, 9, LARGE), span(10, 29, LARGE)], 2).unwrap();
        assert_eq!((splits(&layout), layout.runs[0].ranges.clone()), (vec![30], vec![vec![1, 2], vec![0]]));
        assert!(lay_out(&[], 4).unwrap().runs.is_empty());
    }

    #[test]
    fn a_small_file_lies_across_ranges_and_a_large_one_joins_them() {
        let base = [span(1, 9, LARGE), span(10, 20, LARGE)];
        let small = lay_out(&[base[0].clone(), base[1].clone(), span(5, 15, 3)], 16).unwrap();
        assert_eq!(splits(&small), [10]);
        assert_eq!(small.runs[1], Run { ranges: vec![vec![2], vec![2]], across: true });
        let large = lay_out(&[base[0].clone(), base[1].clone(), span(5, 15, LARGE)], 16).unwrap();
        assert!(large.splits.is_empty());
        assert_eq!(large.runs.len(), 2);
        assert!(large.runs.iter().all(|run| !run.across));
    }

    #[test]
    fn what_overlaps_or_is_small_is_rewritten() {
        let spans = [span(1, 9, LARGE), span(10, 19, LARGE), span(15, 16, 5), span(20, 29, 5), span(30, 39, LARGE), span(50, 60, 5)];
        assert_eq!(overlapping(&spans), [vec![1, 2, 3]]);
        assert!(overlapping(&spans[..2]).is_empty() && overlapping(&spans[5..]).is_empty() && overlapping(&[]).is_empty());
        // One user in two files that touch.
        assert_eq!(overlapping(&[span(1, 5, LARGE), span(5, 9, LARGE)]), [vec![0, 1]]);
    }

    #[test]
    fn every_user_lies_in_one_range_of_each_run() {
        let mut state = 7_u64;
        let mut next = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        for _ in 0..200 {
            let files = usize::try_from(next(12)).unwrap();
            let spans: Vec<UserSpan> = (0..files)
                .map(|_| {
                    let first = next(100).cast_signed();
                    span(first, first + next(30).cast_signed(), if next(2) == 0 { 5 } else { LARGE })
                })
                .collect();
            let layout = lay_out(&spans, 4).unwrap();
            assert!(layout.splits.windows(2).all(|pair| less(&pair[0], &pair[1]).is_lt()));
            for (file, span) in spans.iter().enumerate() {
                let holders: Vec<&Run> = layout.runs.iter().filter(|run| run.ranges.iter().any(|range| range.contains(&file))).collect();
                assert_eq!(holders.len(), 1);
                for user in [&span.first, &span.last] {
                    assert!(holders[0].ranges[range_of(&layout.splits, user)].contains(&file));
                }
            }
            for run in &layout.runs {
                for range in &run.ranges {
                    let follows = range.windows(2).all(|pair| less(&spans[pair[0]].last, &spans[pair[1]].first).is_lt());
                    assert!(follows);
                }
            }
        }
    }

    #[test]
    fn padding_is_behind_every_user() {
        let spans = [span(1, 9, 5)];
        let mut padded = Vec::new();
        pad(&mut padded, &spans, 3);
        assert_eq!(padded, [10, 11, 12].map(|user| ScalarValue::Int64(Some(user))));
        let mut none = Vec::new();
        pad(&mut none, &[span(1, i64::MAX, 5)], 3);
        assert!(none.is_empty());
    }
}
