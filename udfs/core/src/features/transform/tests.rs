//! Transforms as a whole, against scikit-learn.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray, TimestampMicrosecondArray};

use super::column::Values;
use super::*;
use crate::error::{Code, Result};

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true))).unwrap()
}

fn numbers(values: &[Option<f64>]) -> ArrayRef {
    Arc::new(values.iter().copied().collect::<Float64Array>())
}

fn texts(values: &[Option<&str>]) -> ArrayRef {
    Arc::new(values.iter().copied().collect::<StringArray>())
}

fn fit(steps: &str, parts: &[RecordBatch]) -> Result<FittedTransform> {
    let mut fitting = Fitting::new(steps, parts[0].schema_ref(), &[])?;
    parts.iter().try_for_each(|part| fitting.push(part))?;
    fitting.finish(&mut |_| Ok(()))
}

fn columns(transform: &FittedTransform, batch: &RecordBatch) -> Vec<Column> {
    let read = |input: &Input| {
        let mut values = Values::empty(input.kind);
        values.append(&input.name, batch.column_by_name(&input.name).unwrap()).unwrap();
        Column::new(input.name.clone(), values)
    };
    transform.inputs.iter().map(read).collect()
}

fn applied(transform: &FittedTransform, batch: &RecordBatch) -> Vec<Vec<f64>> {
    transform.apply(&columns(transform, batch), None).unwrap()
}

#[track_caller]
fn close(found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        let same = found.is_nan() && expected.is_nan() || (found - expected).abs() <= 1e-12 * expected.abs().max(1.0);
        assert!(same, "{found} is not {expected}");
    }
}

#[test]
fn chains_learn_from_what_the_steps_before_made() {
    let rows = batch(vec![("x", numbers(&[Some(1.0), None, Some(2.0), Some(3.0), Some(100.0)]))]);
    let transform = fit("x: median | winsorize(0, 0.75) | minmax", std::slice::from_ref(&rows)).unwrap();
    // Median 2.5 fills; the third quartile of [1, 2, 2.5, 3, 100] is 3; minmax of [1, 2.5, 2, 3, 3].
    close(&applied(&transform, &rows)[0], &[0.0, 0.75, 0.5, 1.0, 1.0]);
    // New rows get the stored parameters, whatever they hold.
    close(&applied(&transform, &batch(vec![("x", numbers(&[Some(-9.0), None]))]))[0], &[0.0, 0.75]);
    assert_eq!(transform.features().collect::<Vec<_>>(), ["x"]);
}

#[test]
fn a_stored_transform_is_the_same() {
    let rows =
        batch(vec![("x", numbers(&[Some(0.1), None, Some(0.3), Some(0.7)])), ("c", texts(&[Some("b"), Some("a"), None, Some("b")]))]);
    let transform = fit("x: indicator | mean | standard; c: one_hot(1) as k; c: frequency", std::slice::from_ref(&rows)).unwrap();
    let stored: FittedTransform = serde_json::from_str(&serde_json::to_string(&transform).unwrap()).unwrap();
    assert_eq!(applied(&stored, &rows), applied(&transform, &rows));
    let names: Vec<&str> = transform.features().collect();
    assert_eq!(names, ["x", "x_missing", "k=b", "k_other", "k_missing", "c"]);
    let found = applied(&transform, &rows);
    close(&found[1], &[0.0, 1.0, 0.0, 0.0]);
    close(&found[2], &[1.0, 0.0, 0.0, 1.0]);
    close(&found[3], &[0.0, 1.0, 0.0, 0.0]);
    close(&found[4], &[0.0, 0.0, 1.0, 0.0]);
    close(&found[5], &[0.5, 0.25, 0.25, 0.5]);
}

#[test]
fn what_is_learned_does_not_depend_on_order_or_batches() {
    let row = |i: u64| {
        let x = crate::kernels::splitmix::fraction(1, i);
        (
            if i.is_multiple_of(13) { None } else { Some((x * 9.0).exp()) },
            format!("c{}", (x * x * 40.0) as u64),
            i.is_multiple_of(3),
            format!("u{}", i % 50),
        )
    };
    let part = |ids: &[u64]| {
        let rows: Vec<_> = ids.iter().map(|i| row(*i)).collect();
        batch(vec![
            ("x", numbers(&rows.iter().map(|r| r.0).collect::<Vec<_>>())),
            ("c", texts(&rows.iter().map(|r| Some(r.1.as_str())).collect::<Vec<_>>())),
            ("y", numbers(&rows.iter().map(|r| Some(f64::from(u8::from(r.2)))).collect::<Vec<_>>())),
            ("u", texts(&rows.iter().map(|r| Some(r.3.as_str())).collect::<Vec<_>>())),
        ])
    };
    let steps =
        "x: median | zscore(2) | robust; x: mean | quantiles(7) as q; c: target(y, key = u) | standard; x, y: mean | standard | pca(2)";
    let mut ids: Vec<u64> = (0..2000).collect();
    let whole = fit(steps, &[part(&ids)]).unwrap();
    for seed in 0..5 {
        crate::kernels::splitmix::shuffle(&mut ids, seed);
        let parts: Vec<RecordBatch> = ids.chunks(333).map(part).collect();
        assert_eq!(fit(steps, &parts).unwrap(), whole);
    }
}

#[test]
fn target_means_do_not_leak() {
    // Every category is seen once and the target is noise: a category's own mean is its row's target. Out of fold the
    // feature must know nothing of it.
    let rows = 400;
    let target = |i: u64| f64::from(u8::from(crate::kernels::splitmix::at(3, i).is_multiple_of(2)));
    let ids: Vec<String> = (0..rows).map(|i| format!("id{i}")).collect();
    let id = texts(&ids.iter().map(|id| Some(id.as_str())).collect::<Vec<_>>());
    let y: Vec<f64> = (0..rows).map(target).collect();
    let rows = batch(vec![("c", Arc::clone(&id)), ("u", id), ("y", numbers(&y.iter().map(|y| Some(*y)).collect::<Vec<_>>()))]);
    let transform = fit("c: target(y, key = u, folds = 4, smooth = 0)", std::slice::from_ref(&rows)).unwrap();
    let inside = applied(&transform, &rows);
    assert_eq!(inside[0], y, "without folds the feature is the answer");
    let mut key = Values::empty(InputKind::Category);
    key.append("u", rows.column_by_name("u").unwrap()).unwrap();
    let keys = BTreeMap::from([("u".to_owned(), Column::new("u", key))]);
    let outside = transform.apply(&columns(&transform, &rows), Some(&keys)).unwrap();
    // Nothing is known but the mean of the other folds: one value per fold, whatever the row's target.
    let mut distinct = outside[0].clone();
    distinct.sort_by(f64::total_cmp);
    distinct.dedup();
    assert_eq!(distinct.len(), 4);
    assert!(distinct.iter().all(|mean| (0.4..0.6).contains(mean)));
    // Changing one row's target changes the features of other folds only.
    let mut changed = y.clone();
    changed[0] = 1.0 - changed[0];
    let other = batch(vec![
        ("c", Arc::clone(rows.column(0))),
        ("u", Arc::clone(rows.column(1))),
        ("y", numbers(&changed.iter().map(|y| Some(*y)).collect::<Vec<_>>())),
    ]);
    let again = fit("c: target(y, key = u, folds = 4, smooth = 0)", std::slice::from_ref(&other)).unwrap();
    let again = again.apply(&columns(&again, &other), Some(&keys)).unwrap();
    assert_eq!(again[0][0], outside[0][0]);
    assert!(again[0] != outside[0]);
}

#[test]
fn wide_features_are_not_held_while_they_are_learned() {
    let names: Vec<String> = (0..1000).map(|i| format!("c{i}")).collect();
    let rows = batch(vec![("c", texts(&names.iter().map(|name| Some(name.as_str())).collect::<Vec<_>>()))]);
    let asked = |steps: &str| {
        let mut most = 0;
        let mut fitting = Fitting::new(steps, rows.schema_ref(), &[]).unwrap();
        fitting.push(&rows).unwrap();
        let found = fitting.finish(&mut |bytes| {
            most = most.max(bytes);
            Ok(())
        });
        assert_eq!(found.unwrap().features().count(), 1002);
        most
    };
    assert_eq!(asked("c: one_hot(1000)"), 0);
    assert!(asked("c: one_hot(1000) | maxabs") > 1002 * 1000 * 8);
    let mut fitting = Fitting::new("c: one_hot(1000) | maxabs", rows.schema_ref(), &[]).unwrap();
    fitting.push(&rows).unwrap();
    let refused =
        fitting.finish(&mut |bytes| if bytes > 1 << 20 { Err(crate::Error::new(Code::OutOfMemory, "out of memory")) } else { Ok(()) });
    assert_eq!(refused.unwrap_err().code, Code::OutOfMemory);
}

#[test]
fn times_have_parts() {
    // 2024-02-29 18:30:00 UTC, a Thursday, and a missing one.
    let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![Some(1_709_231_400_000_000), None]));
    let rows = batch(vec![("at", times)]);
    let transform =
        fit("at: date_parts(year, month, week, doy, dow, hour, weekend, hour_sin, month_cos)", std::slice::from_ref(&rows)).unwrap();
    let found: Vec<f64> = applied(&transform, &rows).iter().map(|column| column[0]).collect();
    close(&found, &[2024.0, 2.0, 9.0, 60.0, 4.0, 18.0, 0.0, -1.0, 0.866_025_403_784_438_6]);
    assert!(applied(&transform, &rows).iter().all(|column| column[1].is_nan()));
}

#[test]
fn bad_input_is_refused() {
    let rows = batch(vec![("x", numbers(&[Some(1.0), Some(f64::INFINITY)])), ("c", texts(&[Some("a"), None]))]);
    for (steps, code, message) in [
        ("z: mean", Code::UndefinedColumn, "column \"z\" does not exist"),
        ("c: mean", Code::DatatypeMismatch, "column \"c\" must be a number"),
        ("x: standard", Code::NumericOutOfRange, "column \"x\" holds numbers too large to add up"),
        ("c: mode", Code::DatatypeMismatch, "column \"c\" must be a number"),
        ("c: mode | cross", Code::DatatypeMismatch, "feature \"c\" is not a number"),
        ("x: robust; x: median", Code::InvalidParameter, "two features are named \"x\""),
        ("x: median | pca(2)", Code::InvalidParameter, "2 components cannot be made of 1 columns"),
        ("c: ordinal | date_parts", Code::DatatypeMismatch, "a step of \"c\" needs a date or a time"),
    ] {
        let error = fit(steps, std::slice::from_ref(&rows)).unwrap_err();
        assert_eq!((error.code, error.message.as_str()), (code, message), "{steps}");
    }
    let none = rows.slice(0, 0);
    assert_eq!(fit("x: robust", &[none]).unwrap_err().message, "the source of a transform has no rows");
    // Nothing to learn from is no fault: what is missing stays missing.
    let empty = batch(vec![("x", numbers(&[None, None]))]);
    let transform = fit("x: mean | standard | buckets(3)", std::slice::from_ref(&empty)).unwrap();
    close(&applied(&transform, &empty)[0], &[f64::NAN, f64::NAN]);
}

#[test]
fn unseen_and_missing_are_categories_of_their_own() {
    let rows =
        batch(vec![("c", texts(&[Some("b"), Some("a"), Some("b"), None])), ("d", texts(&[Some("x|y"), Some("x"), Some("x|y"), None]))]);
    let transform = fit("c: ordinal; c, d: cross | ordinal; c: hash(8) as h; d: tokens(4)", std::slice::from_ref(&rows)).unwrap();
    let new = batch(vec![("c", texts(&[Some("a"), Some("zz"), None])), ("d", texts(&[Some("x"), Some("x"), Some("x")]))]);
    let found = applied(&transform, &new);
    close(&found[0], &[0.0, 2.0, f64::NAN]);
    close(&found[1], &[0.0, 2.0, f64::NAN]);
    assert!(found[2][2].is_nan() && (0.0..8.0).contains(&found[2][0]));
    assert_eq!((3..7).map(|bucket| found[bucket][0]).sum::<f64>(), 1.0);
    assert_eq!(transform.feature("c_x_d").unwrap(), 1);
    assert_eq!(transform.feature("cxd").unwrap_err().code, Code::UndefinedColumn);
}
