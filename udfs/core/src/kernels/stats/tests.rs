//! Every figure against SciPy, statsmodels or ClickHouse: `tests/data/statistics.py` wrote the vectors.

use std::sync::LazyLock;

use serde_json::Value;

use super::contingency::{goodness_of_fit, independence};
use super::distributions::*;
use super::lift::{Cuped, always_valid, ratio};
use super::moments::{Moments, PairMoments, Summary};
use super::proportion::{Proportion, proportions_z_test};
use super::ranks::{Alternative, Method, mann_whitney};
use super::sample_size::{for_mean, for_proportion};
use super::special::*;
use super::t_test::{Difference, Variances, t_test};
use super::wire::Reader;
use crate::kernels::splitmix;

static VECTORS: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("../../../tests/data/statistics.json")).expect("vectors"));

fn numbers(value: &Value) -> Vec<f64> {
    let number = |number: &Value| number.as_str().map_or_else(|| number.as_f64(), |text| text.parse().ok());
    value.as_array().expect("a list").iter().map(|value| number(value).expect("a number")).collect()
}

fn rows(name: &str) -> Vec<Vec<f64>> {
    VECTORS[name].as_array().expect("rows").iter().map(numbers).collect()
}

/// Relative to the value, absolute near zero.
#[track_caller]
fn close(got: f64, expected: f64, tolerance: f64, what: &str) {
    let off = (got - expected).abs() / expected.abs().max(f64::MIN_POSITIVE);
    assert!(off <= tolerance || got == expected, "{what}: {got:e} is not {expected:e}, off by {off:e}");
}

fn moments(values: &[f64]) -> Moments {
    let mut moments = Moments::default();
    values.iter().for_each(|value| moments.add(*value));
    moments
}

fn summary(values: &[f64]) -> Summary {
    moments(values).summary()
}

fn tested(a: &Moments, b: &Moments, variances: Variances, confidence: f64) -> Difference {
    t_test(a.mean_difference(b), &a.summary(), &b.summary(), variances, confidence)
}

#[test]
fn normal_distribution() {
    for row in rows("normal") {
        close(normal_cdf(row[0]), row[1], 1e-13, &format!("cdf({})", row[0]));
        close(normal_tail(row[0]), row[2], 1e-13, &format!("tail({})", row[0]));
    }
    for row in rows("normal_quantile") {
        close(normal_quantile(row[0]), row[1], 1e-13, &format!("quantile({})", row[0]));
    }
    assert_eq!((normal_quantile(0.0), normal_quantile(1.0)), (f64::NEG_INFINITY, f64::INFINITY));
    assert!(normal_quantile(-0.1).is_nan() && normal_quantile(f64::NAN).is_nan());
}

#[test]
fn student_and_chi_squared_distributions() {
    for row in rows("student") {
        close(student_two_sided(row[0], row[1]), row[2], 2e-12, &format!("{row:?}"));
    }
    for row in rows("student_quantile") {
        close(student_two_sided_quantile(row[0], row[1]), row[2], 1e-11, &format!("{row:?}"));
    }
    for row in rows("chi_squared") {
        close(chi_squared_tail(row[0], row[1]), row[2], 2e-12, &format!("{row:?}"));
    }
    assert!(student_two_sided(f64::NAN, 3.0).is_nan() && student_two_sided(1.0, f64::NAN).is_nan());
    assert_eq!(student_two_sided(f64::INFINITY, 3.0), 0.0);
}

#[test]
fn special_functions() {
    for row in rows("beta") {
        let (lower, upper) = beta_regularised(row[0], row[1], row[2], 1.0 - row[2]);
        close(lower, row[3], 1e-11, &format!("{row:?}"));
        close(upper, row[4], 1e-11, &format!("{row:?}"));
    }
    for row in rows("gamma") {
        let (lower, upper) = gamma_regularised(row[0], row[1]);
        close(lower, row[2], 1e-12, &format!("{row:?}"));
        close(upper, row[3], 1e-12, &format!("{row:?}"));
    }
    for row in rows("digamma") {
        assert!((digamma(row[0]) - row[1]).abs() <= 1e-13 * row[1].abs().max(1.0), "{row:?}");
    }
    for row in rows("ln_beta") {
        close(ln_beta(row[0], row[1]), row[2], 1e-12, &format!("{row:?}"));
    }
    for row in rows("hypergeometric") {
        close(hypergeometric(row[0], row[1], row[2], row[3]), row[4], 1e-11, &format!("{row:?}"));
    }
}

#[test]
fn t_tests_are_scipys() {
    for row in VECTORS["t_tests"].as_array().expect("rows") {
        let (a, b) = (moments(&numbers(&row["a"])), moments(&numbers(&row["b"])));
        for (name, variances) in [("student", Variances::Equal), ("welch", Variances::Unequal)] {
            let (got, want) = (tested(&a, &b, variances, 0.9), numbers(&row[name]));
            for (got, want) in [got.statistic, got.degrees_of_freedom, got.p_value, got.interval.0, got.interval.1].iter().zip(want) {
                assert!((got - want).abs() <= 1e-9 * want.abs().max(1e-3), "{name}: {got} is not {want}");
            }
        }
    }
    let one = moments(&[1.0]);
    let test = tested(&moments(&[2.0, 4.0]), &one, Variances::Unequal, 0.95);
    assert!(test.estimate == 2.0 && test.statistic.is_nan() && test.p_value.is_nan());
    let apart = tested(&moments(&[2.0, 2.0]), &moments(&[1.0, 1.0]), Variances::Unequal, 0.95);
    assert_eq!((apart.statistic, apart.p_value), (f64::INFINITY, 0.0));
    assert!(tested(&moments(&[2.0, 2.0]), &moments(&[2.0, 2.0]), Variances::Equal, 0.95).p_value.is_nan());
}

#[test]
fn mann_whitney_is_scipys() {
    for row in VECTORS["mann_whitney"].as_array().expect("rows") {
        for test in row["tests"].as_array().expect("tests") {
            let alternative = match test[0].as_str() {
                Some("less") => Alternative::Less,
                Some("greater") => Alternative::Greater,
                _ => Alternative::TwoSided,
            };
            let method = if test[1] == "auto" { Method::Auto } else { Method::Asymptotic };
            let got = mann_whitney(&mut numbers(&row["a"]), &mut numbers(&row["b"]), alternative, method);
            assert_eq!(got.statistic, test[2].as_f64().unwrap());
            close(got.p_value, test[3].as_f64().unwrap(), 1e-11, &test.to_string());
        }
    }
    let empty = mann_whitney(&mut [], &mut [1.0], Alternative::TwoSided, Method::Auto);
    assert!(empty.statistic.is_nan() && empty.p_value.is_nan());
    let constant = mann_whitney(&mut [1.0; 9], &mut [1.0; 9], Alternative::TwoSided, Method::Auto);
    assert!(constant.p_value.is_nan() || constant.p_value == 1.0);
}

#[test]
fn tables_of_counts_are_scipys() {
    for row in VECTORS["independence"].as_array().expect("rows") {
        let table: Vec<Vec<f64>> = row[0].as_array().expect("table").iter().map(numbers).collect();
        let cells: Vec<u64> = table.iter().flatten().map(|cell| *cell as u64).collect();
        let got = independence(&cells, table[0].len(), row[1] == true);
        for (got, want) in [got.statistic, got.p_value, got.degrees_of_freedom, got.cramers_v].iter().zip(2..) {
            close(*got, row[want].as_f64().unwrap(), 1e-10, &row.to_string());
        }
    }
    assert!(independence(&[3, 4], 2, false).p_value.is_nan());
    for row in VECTORS["goodness"].as_array().expect("rows") {
        let counts: Vec<u64> = numbers(&row[0]).iter().map(|count| *count as u64).collect();
        close(goodness_of_fit(&counts, &numbers(&row[1])), row[2].as_f64().unwrap(), 1e-10, &row.to_string());
    }
}

#[test]
fn proportions_are_statsmodels() {
    for row in rows("proportions") {
        let [a, b] = [0, 2].map(|at| Proportion { successes: row[at] as u64, trials: row[at + 1] as u64 });
        let pooled = proportions_z_test(a, b, true, 0.95);
        for (got, want) in [pooled.statistic, pooled.p_value, pooled.interval.0, pooled.interval.1].iter().zip(&row[4..]) {
            close(*got, *want, 1e-10, &format!("{row:?}"));
        }
        close(proportions_z_test(a, b, false, 0.95).statistic, row[8], 1e-12, "unpooled");
    }
    assert!(proportions_z_test(Proportion::default(), Proportion { successes: 1, trials: 2 }, true, 0.95).p_value.is_nan());
}

#[test]
fn sample_sizes_are_clickhouses() {
    for row in rows("sample_size_conversion") {
        close(for_proportion(row[0], row[1], row[2], row[3]), row[4], 1e-9, &format!("{row:?}"));
    }
    for row in rows("sample_size_continuous") {
        close(for_mean(row[1], row[0] * row[2], row[3], row[4]), row[5], 1e-9, &format!("{row:?}"));
    }
}

#[test]
fn experiments_are_numpys() {
    let vectors = &VECTORS["experiment"];
    let (x, y, units) = (numbers(&vectors["x"]), numbers(&vectors["y"]), vectors["units"].as_u64().unwrap() as usize);
    let part = |range: std::ops::Range<usize>| {
        let mut pairs = PairMoments::default();
        range.for_each(|at| pairs.add(y[at], x[at]));
        pairs
    };
    let (control, treatment) = (part(0..units), part(units..2 * units));
    for (variant, want) in [&control, &treatment].iter().zip(vectors["ratios"].as_array().unwrap()) {
        let (value, variance) = ratio(&variant.summary());
        close(value, want[0].as_f64().unwrap(), 1e-12, "ratio");
        close(variance, want[1].as_f64().unwrap(), 1e-10, "its variance");
    }
    let mut all = control.clone();
    all.merge(&treatment);
    let cuped = Cuped::new(&all);
    let (a, b) = (cuped.adjust(&treatment.summary()), cuped.adjust(&control.summary()));
    let test = t_test(a.mean - b.mean, &a, &b, Variances::Unequal, 0.95);
    for (got, want) in [test.estimate, test.statistic, test.p_value, b.variance].iter().zip(numbers(&vectors["cuped"])) {
        close(*got, want, 1e-10, "cuped");
    }
    for row in rows("always_valid") {
        let got = always_valid(row[0], row[1], row[2] as u64, 1.0 - row[3], row[4]);
        close(got.margin, row[5], 1e-12, &format!("{row:?}"));
        close(got.p_value, row[6], 1e-11, &format!("{row:?}"));
    }
}

#[test]
fn intervals_that_always_hold_are_narrowest_where_asked() {
    let width = |units: u64| always_valid(0.0, 1.0 / units as f64, units, 0.95, 5000.0).margin * (units as f64).sqrt();
    assert!(width(5000) < width(2500) && width(5000) < width(10_000), "{} {} {}", width(2500), width(5000), width(10_000));
    // It holds at every look at once, so it is wider than the interval of one look.
    assert!(width(5000) > 1.96);
}

#[test]
fn ten_thousand_groups_in_random_parts_are_equal_bit_for_bit() {
    for group in 0..10_000_u64 {
        let count = splitmix::at(group, 0) % 40;
        let scale = 10_f64.powi((splitmix::at(group, 1) % 12) as i32 - 3);
        let mut values: Vec<f64> = (0..count).map(|i| scale + splitmix::fraction(group, i + 2)).collect();
        let whole = summary(&values);
        splitmix::shuffle(&mut values, group);
        let mut parts: Vec<Moments> = values.chunks(1 + (group % 9) as usize).map(moments).collect();
        splitmix::shuffle(&mut parts, group + 1);
        let mut merged = Moments::default();
        for part in &parts {
            let mut bytes = Vec::new();
            part.encode(&mut bytes);
            merged.merge(&Moments::decode(&mut Reader::new(&bytes)).unwrap());
        }
        let merged = merged.summary();
        assert_eq!((whole.count, whole.mean.to_bits()), (merged.count, merged.mean.to_bits()));
        assert_eq!(whole.variance.to_bits(), merged.variance.to_bits());
    }
}
