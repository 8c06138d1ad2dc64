//! Fitting: raw train rows → the features that are kept, with what each learned.

use crate::error::{Code, Error, Result};
use crate::features::inputs::Labels;
use crate::features::numeric::{self, NumericFeature};
use crate::features::options::Options;
use crate::features::select::{bins_of, merged, mutual_information};
use crate::features::vocabulary::{NULL_ID, Vocabulary};
use crate::kernels::intern::{Interner, NULL_CODE};
use crate::kernels::nearest::nearest;

use super::CategoricalFeature;
use super::raw::RawRows;

/// Categories with an id of their own, at most.
const CATEGORIES_MAX: usize = 1000;

/// What fitting kept.
#[derive(Debug, Clone, Default)]
pub(in crate::features) struct Fitted {
    pub(in crate::features) numeric: Vec<NumericFeature>,
    pub(in crate::features) categorical: Vec<CategoricalFeature>,
}

/// Fits every feature on the rows `train`; `tables[c]` holds the strings of categorical column `c`; `also_known` are
/// further names that `exclude` may hold (columns already left out).
///
/// # Errors
/// `UndefinedColumn` when `exclude` names nothing, `InvalidParameter` when no feature is left; `Io` of rows in a file.
pub(in crate::features) fn fit(
    raw: &RawRows,
    train: &[u32],
    labels: &Labels,
    tables: &[&Interner],
    options: &Options,
    also_known: &[String],
) -> Result<Fitted> {
    check_exclude(raw, options, also_known)?;
    let mut fitted = Fitted::default();
    let mut column: Vec<f32> = Vec::with_capacity(train.len());
    for (source, name) in raw.numeric_names.iter().enumerate() {
        if is_excluded(name, &options.exclude) {
            continue;
        }
        raw.numbers_of(source, train, &mut column)?;
        fitted.numeric.extend(numeric::fit(name, source, &column, options).into_iter().filter(|f| !is_excluded(&f.name, &options.exclude)));
    }
    drop(column);
    let count_min = (train.len() as u64 / 2000).clamp(2, 10);
    let mut codes: Vec<u32> = Vec::new();
    for (source, name) in raw.categorical_names.iter().enumerate() {
        if is_excluded(name, &options.exclude) {
            continue;
        }
        let mut counts = vec![0_u64; tables[source].len()];
        let mut nulls = 0;
        raw.codes_of(source, train, &mut codes)?;
        for code in &codes {
            match *code {
                NULL_CODE => nulls += 1,
                code => counts[code as usize] += 1,
            }
        }
        let vocabulary = Vocabulary::fit(tables[source], &counts, count_min, CATEGORIES_MAX);
        let known: u64 =
            counts.iter().enumerate().filter(|(code, _)| vocabulary.id(tables[source].get(*code as u32)) > 1).map(|(_, n)| n).sum();
        // One value in every row tells nothing.
        if !vocabulary.is_empty() && (vocabulary.len() > 1 || known < train.len() as u64) {
            fitted.categorical.push(CategoricalFeature { name: name.clone(), source, vocabulary, nulls });
        }
    }
    if let Some(k) = options.select_k {
        select(&mut fitted, raw, train, labels, tables, k as usize)?;
    }
    if fitted.numeric.is_empty() && fitted.categorical.is_empty() {
        return Err(Error::invalid("there is no feature to learn from")
            .detail("Every column is excluded, constant, or holds a different text in each row."));
    }
    Ok(fitted)
}

/// Whether `exclude` names it, alone or by its beginning (`hour_*`).
pub(in crate::features) fn is_excluded(name: &str, exclude: &[String]) -> bool {
    exclude.iter().any(|pattern| match pattern.strip_suffix('*') {
        Some(prefix) => name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix)),
        None => name.eq_ignore_ascii_case(pattern),
    })
}

fn check_exclude(raw: &RawRows, options: &Options, also_known: &[String]) -> Result<()> {
    let missing: Vec<String> = raw.numeric_names.iter().map(|name| format!("{name}_missing")).collect();
    let names = || raw.numeric_names.iter().chain(&raw.categorical_names).chain(also_known);
    for pattern in &options.exclude {
        let alone = std::slice::from_ref(pattern);
        if !names().chain(&missing).any(|name| is_excluded(name, alone)) {
            let error = Error::new(Code::UndefinedColumn, format!("there is no feature \"{pattern}\" to exclude"));
            return Err(match nearest(pattern.trim_end_matches('*'), names().map(String::as_str)) {
                Some(near) => error.hint(format!("Perhaps you meant \"{near}\".")),
                None => error.hint("The view ml.model_features lists the features of a model."),
            });
        }
    }
    Ok(())
}

/// Keeps the `k` columns that tell most of the label; a value and its missing flag are one column.
fn select(fitted: &mut Fitted, raw: &RawRows, train: &[u32], labels: &Labels, tables: &[&Interner], k: usize) -> Result<()> {
    let truth = match labels {
        Labels::Class(classes) => train.iter().map(|row| classes[*row as usize]).collect::<Vec<_>>(),
        Labels::Value(values) => bins_of(&train.iter().map(|row| values[*row as usize]).collect::<Vec<_>>()),
    };
    let truth = merged(&truth);
    let mut scores: Vec<(f64, bool, usize)> = Vec::new();
    for source in 0..raw.numeric_names.len() {
        if fitted.numeric.iter().any(|feature| feature.source == source) {
            let mut column: Vec<f32> = Vec::new();
            raw.numbers_of(source, train, &mut column)?;
            scores.push((mutual_information(&bins_of(&column), &truth), false, source));
        }
    }
    for feature in &fitted.categorical {
        let table = tables[feature.source];
        let mut ids: Vec<u32> = Vec::new();
        raw.codes_of(feature.source, train, &mut ids)?;
        for id in &mut ids {
            *id = match *id {
                NULL_CODE => NULL_ID,
                code => feature.vocabulary.id(table.get(code)),
            };
        }
        scores.push((mutual_information(&merged(&ids), &truth), true, feature.source));
    }
    // Ties by position: the choice is the same on every machine.
    scores.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| (a.1, a.2).cmp(&(b.1, b.2))));
    scores.truncate(k);
    let kept = |categorical: bool, source: usize| scores.iter().any(|score| (score.1, score.2) == (categorical, source));
    fitted.numeric.retain(|feature| kept(false, feature.source));
    fitted.categorical.retain(|feature| kept(true, feature.source));
    Ok(())
}
