//! The incremental features against a naive re-implementation that looks at whole prefixes, and the leak test.

use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;
use crate::features::events::UserHistory;
use crate::features::testing::{EVENTS, history, strings};

fn plan() -> TabularPlan {
    TabularPlan {
        event_types: EVENTS[..3].iter().map(|name| (*name).to_owned()).collect(),
        event: true,
        item: true,
        category: true,
        value: true,
        extras: vec![("device".into(), false), ("age".into(), true)],
    }
}

static PLAN: LazyLock<TabularPlan> = LazyLock::new(plan);
static STRINGS: LazyLock<Strings> = LazyLock::new(strings);

fn emit(state: &mut TabularState, history: &UserHistory, end: usize, anchor_us: i64) -> (Vec<f32>, Vec<u32>) {
    let (mut numbers, mut codes) = (Vec::new(), Vec::new());
    state.advance(&PLAN, &history.view(), &STRINGS, end);
    state.emit(&PLAN, &history.view(), anchor_us, &mut numbers, &mut codes);
    (numbers, codes)
}

fn fresh(history: &UserHistory, end: usize, anchor_us: i64) -> (Vec<f32>, Vec<u32>) {
    let mut state = TabularState::new(&plan());
    state.begin();
    emit(&mut state, history, end, anchor_us)
}

/// Every feature by its definition, with no state and no shortcut.
#[allow(clippy::too_many_lines)]
fn naive(h: &UserHistory, end: usize, anchor: i64) -> Vec<(String, f64)> {
    let day = 86_400e6;
    let times = &h.times_us[..end];
    let n = end as f64;
    let mut out: Vec<(String, f64)> = Vec::new();
    let mut put = |name: &str, value: f64| out.push((name.to_owned(), value));
    let mean = |v: &[f64]| if v.is_empty() { f64::NAN } else { v.iter().sum::<f64>() / v.len() as f64 };
    let std = |v: &[f64]| if v.len() < 2 { f64::NAN } else { mean(&v.iter().map(|x| (x - mean(v)).powi(2)).collect::<Vec<_>>()).sqrt() };
    let recency = times.last().map_or(f64::NAN, |t| (anchor - t) as f64 / day);
    let gaps: Vec<f64> = times.windows(2).map(|w| (w[1] - w[0]) as f64 / day).collect();
    put("days_since_last_event", recency);
    put("tenure_days", times.first().map_or(f64::NAN, |t| (anchor - t) as f64 / day));
    put("active_days", times.iter().map(|t| t.div_euclid(86_400_000_000)).collect::<std::collections::BTreeSet<_>>().len() as f64);
    let active: Vec<i64> =
        times.iter().map(|t| t.div_euclid(86_400_000_000)).collect::<std::collections::BTreeSet<_>>().into_iter().collect();
    let day_gaps: Vec<f64> = active.windows(2).map(|w| (w[1] - w[0]) as f64).collect();
    put("active_days_gap_mean", mean(&day_gaps));
    put("active_days_gap_std", std(&day_gaps));
    for days in [7, 30, 90] {
        let late = times.iter().filter(|t| **t > anchor - days * 86_400_000_000).map(|t| t.div_euclid(86_400_000_000));
        put(&format!("active_days_{days}d"), late.collect::<std::collections::BTreeSet<_>>().len() as f64);
    }
    put("gap_days_mean", mean(&gaps));
    put("gap_days_std", std(&gaps));
    put("recency_over_gap", recency / (mean(&day_gaps) + 1.0));
    let mut sessions: Vec<(i64, i64)> = Vec::new();
    for t in times {
        match sessions.last_mut() {
            Some(last) if t - last.1 <= 1_800_000_000 => last.1 = *t,
            _ => sessions.push((*t, *t)),
        }
    }
    put("sessions", sessions.len() as f64);
    let minutes: Vec<f64> = sessions.iter().map(|s| (s.1 - s.0) as f64 / 60e6).collect();
    put("session_minutes_mean", if minutes.is_empty() { 0.0 } else { mean(&minutes) });
    put("events_per_session", n / sessions.len() as f64);
    let seconds = |t: &i64| t.rem_euclid(86_400_000_000) as f64 / 1e6;
    let angle = times.last().map_or(f64::NAN, |t| seconds(t) / 86_400.0 * std::f64::consts::TAU);
    put("last_hour_sin", angle.sin());
    put("last_hour_cos", angle.cos());
    for bin in 0..6 {
        let name = format!("hour_{:02}_{:02}_share", bin * 4, bin * 4 + 3);
        put(&name, times.iter().filter(|t| (seconds(t) / 14_400.0) as usize == bin).count() as f64 / n);
    }
    for (index, name) in ["thu", "fri", "sat", "sun", "mon", "tue", "wed"].iter().enumerate() {
        let share = times.iter().filter(|t| t.div_euclid(86_400_000_000).rem_euclid(7) as usize == index).count() as f64 / n;
        put(&format!("weekday_{name}_share"), share);
    }
    let within = |i: usize, days: i64| h.times_us[i] > anchor - days * 86_400_000_000;
    let mut counts = |prefix: &str, is: &dyn Fn(usize) -> bool| {
        put(&format!("{prefix}_count_total"), (0..end).filter(|i| is(*i)).count() as f64);
        for days in [1, 7, 30, 90] {
            put(&format!("{prefix}_count_{days}d"), (0..end).filter(|i| is(*i) && within(*i, days)).count() as f64);
        }
    };
    counts("event", &|_| true);
    for code in 0..3 {
        counts(EVENTS[code], &|i| h.events[i] == code as u32);
    }
    for (code, name) in EVENTS[..3].iter().enumerate() {
        let last = (0..end).rev().find(|i| h.events[*i] == code as u32);
        put(&format!("days_since_last_{name}"), last.map_or(f64::NAN, |i| (anchor - h.times_us[i]) as f64 / day));
    }
    for (distinct, share, codes) in
        [("items_distinct", "top_item_share", &h.items), ("categories_distinct", "top_category_share", &h.categories)]
    {
        let mut tally = std::collections::BTreeMap::new();
        codes[..end].iter().filter(|c| **c != NULL_CODE).for_each(|c| *tally.entry(*c).or_insert(0.0) += 1.0);
        put(distinct, tally.len() as f64);
        let total: f64 = tally.values().sum();
        put(share, if total > 0.0 { tally.values().fold(0.0_f64, |a, b| a.max(*b)) / total } else { f64::NAN });
    }
    let values: Vec<f64> = h.values[..end].iter().copied().filter(|v| !v.is_nan()).collect();
    put("value_sum", values.iter().sum());
    put("value_mean", mean(&values));
    put("value_std", std(&values));
    put("value_min", values.iter().copied().fold(f64::NAN, f64::min));
    put("value_max", values.iter().copied().fold(f64::NAN, f64::max));
    put("value_last", values.last().copied().unwrap_or(f64::NAN));
    for days in [1, 7, 30, 90] {
        put(&format!("value_sum_{days}d"), (0..end).filter(|i| within(*i, days) && !h.values[*i].is_nan()).map(|i| h.values[i]).sum());
    }
    let Extra::Number(ages) = &h.extras[1] else { unreachable!() };
    put("last_age", ages[..end].iter().rev().copied().find(|a| !a.is_nan()).unwrap_or(f64::NAN));
    out
}

#[test]
fn ten_thousand_histories_agree_with_the_definitions() {
    let names = plan().numeric_names();
    let mut state = TabularState::new(&plan());
    for seed in 0..10_000 {
        let history = history(seed, 1 + (seed % 23) as usize);
        state.begin();
        // Three anchors of one user in turn, the last far beyond the last event.
        let last = history.times_us[history.len() - 1];
        for anchor in [history.times_us[history.len() / 3], history.times_us[history.len() / 2] + DAY_US, last + 100 * DAY_US] {
            let end = history.times_us.partition_point(|t| *t <= anchor);
            let (numbers, codes) = emit(&mut state, &history, end, anchor);
            let expected = naive(&history, end, anchor);
            assert_eq!(numbers.len(), expected.len());
            for (name, expected) in expected {
                let name = name.replace(' ', "_");
                let index = names.iter().position(|n| *n == name).unwrap_or_else(|| panic!("no feature {name}"));
                let got = f64::from(numbers[index]);
                let close = (got - expected).abs() <= 1e-5 * expected.abs().max(1.0) || (got.is_nan() && expected.is_nan());
                assert!(close, "{name} of history {seed} at {end}: {got}, expected {expected}");
            }
            check_codes(&history, end, &codes);
        }
    }
}

fn check_codes(history: &UserHistory, end: usize, codes: &[u32]) {
    let last = end - 1;
    let mut tally = [0_u32; 5];
    let mut top = NULL_CODE;
    for code in history.categories[..end].iter().filter(|c| **c != NULL_CODE) {
        tally[*code as usize] += 1;
        if top == NULL_CODE || tally[*code as usize] > tally[top as usize] {
            top = *code;
        }
    }
    let Extra::Text(devices) = &history.extras[0] else { unreachable!() };
    let device = devices[..end].iter().rev().copied().find(|d| *d != NULL_CODE).unwrap_or(NULL_CODE);
    let weekday = (history.times_us[last].div_euclid(DAY_US) + 3).rem_euclid(7) as u32;
    assert_eq!(codes, [weekday, history.events[last], history.items[last], history.categories[last], top, device]);
}

#[test]
fn names_are_unique_and_readable() {
    let mut plan = plan();
    plan.event_types.extend(["add-to cart".into(), "add to-cart".into(), "event".into(), "加入".into()]);
    let names = plan.numeric_names();
    let distinct: std::collections::BTreeSet<&String> = names.iter().collect();
    assert_eq!(distinct.len(), names.len());
    for name in [
        "purchase_count_30d",
        "days_since_last_view",
        "value_sum_90d",
        "add_to_cart_count_7d",
        "add_to_cart_2_count_7d",
        "last_age",
        "加入_count_1d",
    ] {
        assert!(distinct.contains(&name.to_owned()), "{name}");
    }
    assert_eq!(plan.categorical_names().len(), 6);
}

#[test]
fn an_hour_and_a_weekday_are_those_of_utc() {
    // 2024-03-31 01:30 UTC, a Sunday: the hour in which Central European clocks went forward.
    let mut history = history(1, 1);
    history.times_us[0] = 1_711_848_600_000_000;
    let (numbers, codes) = fresh(&history, 1, history.times_us[0]);
    let names = plan().numeric_names();
    let at = |name: &str| numbers[names.iter().position(|n| n == name).unwrap()];
    assert_eq!((at("hour_00_03_share"), at("weekday_sun_share"), codes[0]), (1.0, 1.0, 6));
}

proptest! {
    /// Nothing after the anchor, and nothing of other anchors or users before, changes a bit of a row.
    #[test]
    fn later_events_change_nothing(seed in 0_u64..1 << 40, other in 0_u64..1 << 40, len in 1_usize..40, cut in 0.0_f64..1.0) {
        let whole = history(seed, len);
        let end = 1 + (cut * (len - 1) as f64) as usize;
        let anchor = whole.times_us[end - 1];
        let end = whole.times_us.partition_point(|t| *t <= anchor);
        let mut altered = whole.clone();
        let noise = history(other, len);
        for index in end..len {
            altered.times_us[index] = anchor + 1 + (noise.times_us[index] - noise.times_us[0]);
            altered.events[index] = noise.events[index];
            altered.items[index] = noise.items[index];
            altered.categories[index] = noise.categories[index];
            altered.values[index] = noise.values[index];
        }
        altered.extras.clone_from(&noise.extras);
        for (to, from) in altered.extras.iter_mut().zip(&whole.extras) {
            match (to, from) {
                (Extra::Text(to), Extra::Text(from)) => to[..end].copy_from_slice(&from[..end]),
                (Extra::Number(to), Extra::Number(from)) => to[..end].copy_from_slice(&from[..end]),
                _ => unreachable!(),
            }
        }
        let bits = |(numbers, codes): (Vec<f32>, Vec<u32>)| (numbers.iter().map(|n| n.to_bits()).collect::<Vec<_>>(), codes);
        let expected = bits(fresh(&whole, end, anchor));
        prop_assert_eq!(&bits(fresh(&altered, end, anchor)), &expected);
        // The same row when the state has served another user and earlier anchors before.
        let mut used = TabularState::new(&plan());
        used.begin();
        emit(&mut used, &noise, len, noise.times_us[len - 1]);
        used.begin();
        for step in 1..end {
            let upto = whole.times_us.partition_point(|t| *t <= whole.times_us[step - 1]);
            emit(&mut used, &whole, upto, whole.times_us[step - 1]);
        }
        prop_assert_eq!(&bits(emit(&mut used, &whole, end, anchor)), &expected);
    }
}
