//! Which pairs of categorical features the wide part of a network remembers: those that the user names, or those that tell
//! most of the label beyond what their features tell one by one, measured on the training rows.

use crate::error::{Code, Error, Result};
use crate::features::options::Crosses;
use crate::features::select::{bins_of, merged, mutual_information};
use crate::kernels::nearest::nearest;

use super::fit::{Data, Targets};

/// Pairs chosen at most.
const PAIRS_MAX: usize = 8;
/// Features whose pairs are looked at: the most telling ones.
const FEATURES_MAX: usize = 12;
/// Training rows looked at.
const ROWS_MAX: usize = 20_000;
/// What a pair must tell beyond its better feature, in nats.
const GAIN_MIN: f64 = 1e-4;

/// The pairs, as places among the categorical features `names`.
///
/// # Errors
/// `UndefinedColumn` with the nearest name when a feature does not exist, `InvalidParameter` for a feature with itself.
pub(super) fn choose(wanted: &Crosses, names: &[&str], data: &Data<'_>) -> Result<Vec<[usize; 2]>> {
    match wanted {
        Crosses::None => Ok(Vec::new()),
        Crosses::Auto => Ok(telling(data)),
        Crosses::Pairs(pairs) => pairs.iter().map(|[a, b]| Ok([find(a, names)?, find(b, names)?])).map(distinct).collect(),
    }
}

fn distinct(pair: Result<[usize; 2]>) -> Result<[usize; 2]> {
    match pair? {
        [a, b] if a == b => Err(Error::invalid("a feature cannot be crossed with itself")),
        pair => Ok(pair),
    }
}

/// A feature by its name; the feature made of an extra column of events also by the column's.
fn find(name: &str, names: &[&str]) -> Result<usize> {
    let is = |own: &&str| own.eq_ignore_ascii_case(name) || own.strip_prefix("last_").is_some_and(|own| own.eq_ignore_ascii_case(name));
    let exact = names.iter().position(|own| own.eq_ignore_ascii_case(name));
    exact.or_else(|| names.iter().position(is)).ok_or_else(|| {
        let error = Error::new(Code::UndefinedColumn, format!("there is no categorical feature \"{name}\" to cross"));
        match nearest(name, names.iter().copied()) {
            Some(near) => error.hint(format!("Perhaps you meant \"{near}\".")),
            None => error.hint("The view ml.model_features lists the features of a model."),
        }
    })
}

/// The most telling pairs, best first; ties by place.
fn telling(data: &Data<'_>) -> Vec<[usize; 2]> {
    let rows: Vec<u32> = data.train.iter().copied().step_by(data.train.len().div_ceil(ROWS_MAX).max(1)).collect();
    let fields = data.inputs.categorical.len() / data.inputs.rows.max(1);
    let truth = merged(&match &data.targets {
        Targets::Classes(labels) => rows.iter().map(|row| labels[*row as usize]).collect::<Vec<_>>(),
        Targets::Rows => Vec::new(),
        Targets::Values(values) => bins_of(&rows.iter().map(|row| values[*row as usize]).collect::<Vec<_>>()),
    });
    let column = |field: usize| -> Vec<u32> {
        merged(&rows.iter().map(|row| data.inputs.categorical[*row as usize * fields + field]).collect::<Vec<_>>())
    };
    let mut single: Vec<(f64, usize, Vec<u32>)> = (0..fields)
        .map(|field| {
            let ids = column(field);
            (mutual_information(&ids, &truth), field, ids)
        })
        .collect();
    single.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    single.truncate(FEATURES_MAX);
    let mut pairs: Vec<(f64, [usize; 2])> = Vec::new();
    for (at, (own, a, first)) in single.iter().enumerate() {
        for (other, b, second) in &single[at + 1..] {
            let width = second.iter().max().map_or(1, |most| most + 1);
            let joint: Vec<u32> = first.iter().zip(second).map(|(a, b)| a * width + b).collect();
            let gain = mutual_information(&joint, &truth) - own.max(*other);
            pairs.push((gain, [*a.min(b), *a.max(b)]));
        }
    }
    pairs.retain(|(gain, _)| *gain > GAIN_MIN);
    pairs.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    pairs.into_iter().take(PAIRS_MAX).map(|(_, pair)| pair).collect()
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;
    use crate::features::inputs::Inputs;
    use crate::kernels::splitmix;

    /// The label is whether the first two of three features agree.
    fn data() -> Data<'static> {
        let rows = 2000;
        let draw = |at: u64| (splitmix::at(1, at) % 4) as u32 + 2;
        let categorical: Vec<u32> = (0..rows * 3).map(draw).collect();
        let labels = categorical.chunks(3).map(|row| u32::from(row[0] == row[1])).collect::<Vec<_>>();
        Data {
            inputs: Cow::Owned(Inputs { rows: rows as usize, categorical, ..Inputs::default() }),
            targets: Targets::Classes(labels.into()),
            train: (0..rows as u32).collect(),
            validation: Vec::new(),
            test: Vec::new(),
            class_weights: None,
            resampled: None,
            users: &[],
            teacher: None,
            catalogue: None,
        }
    }

    #[test]
    fn the_pair_that_tells_something() {
        assert_eq!(choose(&Crosses::Auto, &[], &data()).unwrap(), [[0, 1]]);
        assert!(choose(&Crosses::None, &[], &data()).unwrap().is_empty());
    }

    #[test]
    fn pairs_by_name() {
        let names = ["last_country", "device", "last_event"];
        let named = |a: &str, b: &str| choose(&Crosses::Pairs(vec![[a.into(), b.into()]]), &names, &data());
        assert_eq!(named("Device", "country").unwrap(), [[1, 0]]);
        assert_eq!(named("devise", "country").unwrap_err().code, Code::UndefinedColumn);
        assert_eq!(named("country", "last_country").unwrap_err().code, Code::InvalidParameter);
    }
}
