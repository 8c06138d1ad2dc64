//! Against SciPy's optimum of the same likelihood: `tests/data/lifetime.py` wrote the figures.

use serde_json::Value;

use super::*;

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().expect("a list").iter().map(|number| number.as_f64().expect("a number")).collect()
}

fn vectors() -> (Value, Vec<Vec<f64>>) {
    let vectors: Value = serde_json::from_str(include_str!("../../../../tests/data/lifetime.json")).expect("vectors");
    let customers = vectors["customers"].as_array().expect("rows").iter().map(numbers).collect();
    (vectors, customers)
}

fn customer(row: &[f64]) -> Customer {
    Customer { frequency: row[0], recency: row[1], age: row[2] }
}

fn close(got: f64, expected: f64, tolerance: f64) {
    assert!((got - expected).abs() <= tolerance * expected.abs(), "{got} is not {expected}");
}

#[test]
fn the_fit_is_scipys() {
    let (vectors, rows) = vectors();
    let customers: Vec<Customer> = rows.iter().map(|row| customer(row)).collect();
    let (model, likelihood) = BgNbd::fit(&customers, &|| false).unwrap();
    let expected = numbers(&vectors["bgnbd"]);
    close(likelihood, expected[4], 1e-12);
    for (got, want) in [model.r, model.alpha, model.a, model.b].iter().zip(&expected) {
        close(*got, *want, 1e-5);
    }
    let spends: Vec<(f64, f64)> = rows.iter().filter(|row| row[0] > 0.0).map(|row| (row[0], row[3])).collect();
    let (spend, likelihood) = GammaGamma::fit(&spends, &|| false).unwrap();
    let expected = numbers(&vectors["gamma_gamma"]);
    close(likelihood, expected[3], 1e-12);
    for (got, want) in [spend.p, spend.q, spend.v].iter().zip(&expected) {
        close(*got, *want, 1e-5);
    }
    for (row, expected) in rows.iter().zip(vectors["scores"].as_array().unwrap().iter().map(numbers)) {
        close(model.alive(&customer(row)), expected[0], 1e-5);
        close(model.expected_purchases(&customer(row), 10.0), expected[1], 1e-5);
        close(spend.expected_value(row[0], row[3]), expected[2], 1e-5);
    }
}

#[test]
fn another_unit_of_time_scales_alpha_only() {
    let (_, rows) = vectors();
    let customers: Vec<Customer> = rows.iter().map(|row| customer(row)).collect();
    let (weeks, _) = BgNbd::fit(&customers, &|| false).unwrap();
    let days = |customer: &Customer| Customer { recency: customer.recency * 7.0, age: customer.age * 7.0, ..*customer };
    let (days, _) = BgNbd::fit(&customers.iter().map(days).collect::<Vec<_>>(), &|| false).unwrap();
    close(days.r, weeks.r, 1e-5);
    close(days.alpha, weeks.alpha * 7.0, 1e-5);
    close(days.a, weeks.a, 1e-5);
    close(days.b, weeks.b, 1e-5);
}

#[test]
fn what_cannot_be_fitted_is_said() {
    let once = Customer { frequency: 0.0, recency: 0.0, age: 10.0 };
    assert_eq!(BgNbd::fit(&[], &|| false), Err(FitError::TooFew));
    assert_eq!(BgNbd::fit(&[once; 5], &|| false), Err(FitError::TooFew));
    let same = Customer { frequency: 3.0, recency: 9.0, age: 10.0 };
    // Equal customers have no spread to fit: the faint preference for the start ends what has no end.
    let (model, likelihood) = BgNbd::fit(&[same; 50], &|| false).unwrap();
    assert!([model.r, model.alpha, model.a, model.b].iter().all(|x| *x > 1e-9 && *x < 1e9) && likelihood.is_finite(), "{model:?}");
    assert!(model.alive(&same) > 0.5 && model.expected_purchases(&same, 10.0) > 1.0, "{model:?}");
    assert_eq!(BgNbd::fit(&[once, same], &|| true), Err(FitError::Cancelled));
    assert_eq!(GammaGamma::fit(&[(1.0, 5.0)], &|| false), Err(FitError::TooFew));
}
