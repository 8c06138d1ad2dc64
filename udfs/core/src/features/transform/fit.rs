//! Learning: the columns are collected, and each step is fitted on what the steps before it made of them.
//!
//! The values of the columns that the steps read are held in memory, eight bytes a number and four a category; whoever
//! pushes batches asks [`Fitting::bytes`] and answers for them. What is learned does not depend on the order of the rows.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, Schema};

use super::apply::{Keys, categories, wrong};
use super::column::{Coded, Column, InputKind, Values};
use super::encode::fold_of_rows;
use super::fitted::{Encoding, Fitted, FittedEntry, FittedStep, FittedTransform, Input};
use super::steps::{self, Entry, Step};
use crate::error::{Code, Error, Result};
use crate::kernels::intern::NULL_CODE;
use crate::kernels::nearest::nearest;
use crate::kernels::prepare::eigen;
use crate::kernels::prepare::folds::{FoldSums, smoothed_mean};
use crate::kernels::prepare::moments::{Moments, PairTable};
use crate::kernels::prepare::order;

/// Categories that an encoding keeps, the most frequent ones; others share what an unseen one gets.
const CATEGORIES_MAX: usize = 65_536;
/// Rows between two looks at whether to stop.
const ROWS_AT_ONCE: usize = 8192;
/// Features of a transform at most.
const FEATURES_MAX: usize = 4096;

/// A transform while it is learned.
#[derive(Debug)]
pub struct Fitting {
    text: String,
    entries: Vec<Entry>,
    inputs: Vec<Input>,
    /// Of each entry: indices into the inputs.
    reads: Vec<Vec<usize>>,
    columns: Vec<Column>,
    /// Where each input is in the source.
    sources: Vec<usize>,
    rows: u64,
}

/// How the columns of an entry are read: as the first step that cares says.
fn input_kind(entry: &Entry) -> InputKind {
    let of = |step: &Step| match step {
        Step::Mode | Step::Constant(_) | Step::Indicator => None,
        Step::DateParts(_) => Some(InputKind::Time),
        Step::OneHot(_) | Step::Ordinal | Step::Frequency | Step::Target { .. } | Step::Hash(_) | Step::Tokens(_) | Step::Cross => {
            Some(InputKind::Category)
        }
        _ => Some(InputKind::Number),
    };
    entry.steps.iter().find_map(of).unwrap_or(InputKind::Number)
}

/// Steps for every column of a source but `exclude`: numbers median and standard, texts one-hot, times in parts.
pub(super) fn automatic(schema: &Schema, exclude: &[String]) -> Vec<Entry> {
    let steps = |data_type: &DataType| -> Option<Vec<Step>> {
        let value = match data_type {
            DataType::Dictionary(_, value) => value.as_ref(),
            other => other,
        };
        match value {
            _ if InputKind::Time.reads(value) && *value != DataType::Null => {
                Some(vec![Step::DateParts(["year", "month", "day", "dow", "hour", "weekend"].map(str::to_owned).to_vec())])
            }
            DataType::Boolean => Some(vec![Step::OneHot(2)]),
            _ if value.is_numeric() => Some(vec![Step::Median, Step::Standard]),
            _ if value.is_string() => Some(vec![Step::OneHot(20)]),
            _ => None,
        }
    };
    let fields = schema.fields().iter().filter(|field| !exclude.contains(field.name()));
    fields
        .filter_map(|field| steps(field.data_type()).map(|steps| Entry { columns: vec![field.name().clone()], steps, name: None }))
        .collect()
}

impl Fitting {
    /// Reads the words (`auto` for the usual steps of every column but `exclude`) for a source of this schema.
    ///
    /// # Errors
    /// 42601 and 22023 as [`steps::parse`], 42703 for a missing column, 42804 for one of another type.
    pub fn new(text: &str, schema: &Schema, exclude: &[String]) -> Result<Self> {
        for name in exclude {
            index_of(schema, name)?;
        }
        let automatic = text.trim().eq_ignore_ascii_case("auto");
        let entries = if automatic { automatic_entries(schema, exclude)? } else { steps::parse(text)? };
        let mut fitting =
            Self { text: text.trim().to_owned(), entries, inputs: vec![], reads: vec![], columns: vec![], sources: vec![], rows: 0 };
        for entry in fitting.entries.clone() {
            let kind = input_kind(&entry);
            let reads = entry.columns.iter().map(|name| fitting.input(schema, name, kind)).collect::<Result<_>>()?;
            fitting.reads.push(reads);
            for step in &entry.steps {
                if let Step::Target { target, key, .. } = step {
                    fitting.input(schema, target, InputKind::Number)?;
                    fitting.input(schema, key, InputKind::Category)?;
                }
            }
        }
        Ok(fitting)
    }

    fn input(&mut self, schema: &Schema, name: &str, kind: InputKind) -> Result<usize> {
        let input = Input { name: name.to_owned(), kind };
        if let Some(found) = self.inputs.iter().position(|known| *known == input) {
            return Ok(found);
        }
        let index = index_of(schema, name)?;
        let data_type = schema.field(index).data_type();
        if !kind.reads(data_type) {
            return Err(Error::new(Code::DatatypeMismatch, format!("column \"{name}\" must be {}", kind.word()))
                .detail(format!("Its type is {data_type}."))
                .hint("Cast it in the source, or take another step."));
        }
        self.inputs.push(input);
        self.columns.push(Column::new(name, Values::empty(kind)));
        self.sources.push(index);
        Ok(self.inputs.len() - 1)
    }

    /// Takes in rows of the source.
    ///
    /// # Errors
    /// 42804 when a column has another type than the schema said.
    pub fn push(&mut self, batch: &RecordBatch) -> Result<()> {
        for (column, source) in self.columns.iter_mut().zip(&self.sources) {
            let array: &ArrayRef = batch.columns().get(*source).ok_or_else(|| Error::internal("a source lost a column"))?;
            column.values.append(&column.name, array)?;
        }
        self.rows += batch.num_rows() as u64;
        Ok(())
    }

    /// The bytes that are held; finishing holds an entry's columns twice at most.
    pub fn bytes(&self) -> usize {
        self.columns.iter().map(|column| column.values.bytes()).sum()
    }

    /// Learns. `check` is asked between steps, with the bytes that are about to be held besides the columns (0 when it is only
    /// about going on), and stops the work.
    ///
    /// # Errors
    /// 22023 when there are no rows or two features have one name, 22003 for infinite numbers, what `check` says.
    pub fn finish(self, check: &mut dyn FnMut(usize) -> Result<()>) -> Result<FittedTransform> {
        if self.rows == 0 {
            return Err(Error::invalid("the source of a transform has no rows"));
        }
        let mut entries = Vec::with_capacity(self.entries.len());
        let mut names = BTreeSet::new();
        for (entry, inputs) in self.entries.iter().zip(&self.reads) {
            let fitted = self.entry(entry, inputs, check)?;
            for name in &fitted.features {
                if !names.insert(name.clone()) {
                    return Err(Error::invalid(format!("two features are named \"{name}\"")).hint("Name one with: column: steps as name."));
                }
            }
            if names.len() > FEATURES_MAX {
                return Err(Error::new(Code::TooComplex, format!("a transform has at most {FEATURES_MAX} features")));
            }
            entries.push(fitted);
        }
        // Targets are read while learning only, keys also by out-of-fold features.
        let used: BTreeSet<usize> = self.reads.iter().flatten().copied().collect();
        let places: BTreeMap<usize, usize> = used.iter().enumerate().map(|(place, input)| (*input, place)).collect();
        for entry in &mut entries {
            entry.inputs.iter_mut().for_each(|input| *input = places.get(input).copied().unwrap_or(*input));
        }
        let inputs = self.inputs.iter().enumerate().filter(|(i, _)| used.contains(i)).map(|(_, input)| input.clone()).collect();
        Ok(FittedTransform { steps: self.text, rows: self.rows, inputs, entries })
    }

    fn entry(&self, entry: &Entry, inputs: &[usize], check: &mut dyn FnMut(usize) -> Result<()>) -> Result<FittedEntry> {
        let mut current: Vec<Column> = inputs.iter().filter_map(|input| self.columns.get(*input)).cloned().collect();
        let mut fitted = Vec::with_capacity(entry.steps.len());
        for step in &entry.steps {
            check(0)?;
            let mut keys = Keys::new();
            let open: Vec<&Column> = current.iter().filter(|column| !column.finished).collect();
            let step = match step {
                Step::Cross => FittedStep::Joint(Fitted::Cross),
                Step::Pca(count) => FittedStep::Joint(components(&open, *count, check)?),
                Step::Target { key, .. } => {
                    keys.insert(key.clone(), self.column(key, InputKind::Category)?.clone());
                    FittedStep::Each(open.iter().map(|column| self.target(column, step)).collect::<Result<_>>()?)
                }
                _ => FittedStep::Each(open.iter().map(|column| fit(step, column)).collect::<Result<_>>()?),
            };
            // What the features are called is seen without rows; only later steps need the rows.
            let names = step.apply(current.iter().map(Column::emptied).collect(), Some(&emptied(&keys)))?;
            let last = fitted.len() + 1 == entry.steps.len();
            current = if last {
                names
            } else {
                let held: usize = current.iter().map(|column| column.values.bytes()).sum();
                check(held + names.len() * self.rows as usize * 8)?;
                // Later steps learn from what the rows that are learned from will get: out-of-fold means.
                step.apply(current, Some(&keys))?
            };
            fitted.push(step);
        }
        let names = current.iter().map(|column| column.name.clone()).collect();
        current.into_iter().try_for_each(|column| super::apply::numbers(column).map(drop))?;
        Ok(FittedEntry { inputs: inputs.to_vec(), steps: fitted, features: named(names, entry) })
    }

    fn column(&self, name: &str, kind: InputKind) -> Result<&Column> {
        let found = self.inputs.iter().position(|input| input.name == name && input.kind == kind);
        found.and_then(|found| self.columns.get(found)).ok_or_else(|| Error::internal("a column was not read"))
    }

    fn target(&self, column: &Column, step: &Step) -> Result<Fitted> {
        let Step::Target { target, key, .. } = step else { return Err(Error::internal("not a target")) };
        let Values::Numbers(targets) = &self.column(target, InputKind::Number)?.values else {
            return Err(Error::internal("a target is no number"));
        };
        learn_target(column, targets, self.column(key, InputKind::Category)?, step)
    }
}

/// Means of a target by category, over all rows and without each fold.
fn learn_target(column: &Column, targets: &[f64], key: &Column, step: &Step) -> Result<Fitted> {
    let Step::Target { target, folds, smooth, .. } = step else { return Err(Error::internal("not a target")) };
    let fold_of = fold_of_rows(Some(key), *folds, &key.name)?;
    let coded = categories(column.clone())?;
    let known = frequent(&coded, CATEGORIES_MAX);
    // One more for missing values, one more for categories that are not kept.
    let place = |text: &str| known.binary_search_by(|found| found.as_str().cmp(text)).unwrap_or(known.len() + 1);
    let places: Vec<usize> = coded.values.iter().map(place).collect();
    let mut sums = vec![FoldSums::new(*folds); known.len() + 2];
    let mut all = FoldSums::new(*folds);
    for ((code, fold), value) in coded.codes.iter().zip(&fold_of).zip(targets).filter(|(_, value)| !value.is_nan()) {
        if value.is_infinite() {
            return Err(infinite(target));
        }
        let place = places.get(*code as usize).copied().unwrap_or(known.len());
        if let Some(sum) = sums.get_mut(place) {
            sum.add(*fold, *value);
        }
        all.add(*fold, *value);
    }
    let encoding = |without: Option<u32>| {
        let (count, sum) = all.outside(without);
        let mean = if count == 0 { f64::NAN } else { sum / count as f64 };
        let smoothed = |(count, sum): (u64, f64)| smoothed_mean(count, sum, mean, *smooth);
        let mut means: Vec<f64> = sums.iter().map(|sums| smoothed(sums.outside(without))).collect();
        let unseen = means.pop().unwrap_or(mean);
        Encoding { missing: means.pop().unwrap_or(mean), unseen, means }
    };
    let without_fold = (0..*folds).map(|fold| encoding(Some(fold))).collect();
    Ok(Fitted::Target { whole: encoding(None), without_fold, key: key.name.clone(), categories: known })
}

/// Learns one step from a column and applies it to the same rows: for steps that make one column.
///
/// # Errors
/// 22003 for infinite numbers where a mean is needed.
pub fn learn_and_apply(step: &Step, column: Column) -> Result<Vec<f64>> {
    let fitted = FittedStep::Each(vec![fit(step, &column)?]);
    let made = fitted.apply(vec![column], None)?;
    super::apply::numbers(made.into_iter().next().ok_or_else(|| Error::internal("a step made no column"))?)
}

/// The mean of `targets` over the rows of the same category in other folds, for every row.
///
/// # Errors
/// 22003 for an infinite target.
pub fn out_of_fold_means(category: Column, targets: &[f64], key: Column, folds: u32, smooth: f64) -> Result<Vec<f64>> {
    let step = Step::Target { target: "target".into(), key: key.name.clone(), folds, smooth };
    let fitted = FittedStep::Each(vec![learn_target(&category, targets, &key, &step)?]);
    let keys = Keys::from([(key.name.clone(), key)]);
    let made = fitted.apply(vec![category], Some(&keys))?;
    super::apply::numbers(made.into_iter().next().ok_or_else(|| Error::internal("a step made no column"))?)
}

/// Columns that say which fold a row is in, without rows.
fn emptied(keys: &Keys) -> Keys {
    keys.iter().map(|(name, column)| (name.clone(), column.emptied())).collect()
}

fn automatic_entries(schema: &Schema, exclude: &[String]) -> Result<Vec<Entry>> {
    let entries = automatic(schema, exclude);
    if entries.is_empty() {
        return Err(Error::invalid("the source has no column that a transform can read"));
    }
    Ok(entries)
}

fn index_of(schema: &Schema, name: &str) -> Result<usize> {
    schema.index_of(name).map_err(|_| {
        let there: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        let error = Error::new(Code::UndefinedColumn, format!("column \"{name}\" does not exist"))
            .detail(format!("The source has the columns {}.", there.join(", ")));
        match nearest(name, there.iter().copied()).or_else(|| there.iter().copied().find(|there| there.eq_ignore_ascii_case(name))) {
            Some(near) => error.hint(format!("Perhaps you meant the column \"{near}\".")),
            None => error,
        }
    })
}

/// The features' names with the entry's own: alone it is the name, before several it is the beginning.
fn named(names: Vec<String>, entry: &Entry) -> Vec<String> {
    let Some(name) = &entry.name else { return names };
    if names.len() == 1 {
        return vec![name.clone()];
    }
    let beginning = entry.columns.first().map_or("", String::as_str);
    let rest = |found: &String| match found.strip_prefix(beginning) {
        Some(rest) => format!("{name}{rest}"),
        None => format!("{name}_{found}"),
    };
    names.iter().map(rest).collect()
}

fn infinite(name: &str) -> Error {
    Error::new(Code::NumericOutOfRange, format!("column \"{name}\" holds numbers too large to add up"))
        .detail("It has infinite numbers, or their squares overflow.")
        .hint("Leave them out, or draw them in with winsorize first.")
}

/// The parameters of a step for one column.
fn fit(step: &Step, column: &Column) -> Result<Fitted> {
    Ok(match step {
        Step::Mode => mode(column)?,
        Step::Constant(text) => match &column.values {
            Values::Numbers(_) => Fitted::Fill {
                value: text
                    .parse()
                    .map_err(|_| Error::new(Code::InvalidText, format!("invalid input syntax for type double precision: \"{text}\"")))?,
            },
            _ => Fitted::FillText { value: Some(text.clone()) },
        },
        Step::Indicator => Fitted::Indicator,
        Step::Log1p => Fitted::Log1p,
        Step::OneHot(most) => Fitted::OneHot { categories: frequent(&categories(column.clone())?, *most) },
        Step::Ordinal => Fitted::Ordinal { categories: frequent(&categories(column.clone())?, CATEGORIES_MAX) },
        Step::Frequency => frequency(&categories(column.clone())?),
        Step::Hash(buckets) => Fitted::Hash { buckets: *buckets },
        Step::Tokens(buckets) => Fitted::Tokens { buckets: *buckets },
        Step::DateParts(parts) => Fitted::DateParts { parts: parts.clone() },
        Step::Cross | Step::Pca(_) | Step::Target { .. } => return Err(Error::internal("not a step of one column")),
        _ => {
            let Values::Numbers(values) = &column.values else { return Err(wrong(&column.name, "a number")) };
            fit_numbers(step, &column.name, values)?
        }
    })
}

/// The parameters of a step that reads numbers. Without any number everything stays missing.
fn fit_numbers(step: &Step, name: &str, values: &[f64]) -> Result<Fitted> {
    let moments = || Moments::of(values);
    let finite = |moments: Moments| if moments.is_finite() { Ok(moments) } else { Err(infinite(name)) };
    let sorted = || order::sorted(values);
    let unit = |scale: Option<f64>| scale.filter(|scale| *scale > 0.0 && scale.is_finite()).unwrap_or(1.0);
    let scale = |center: f64, scale: Option<f64>, offset: f64| Fitted::Scale { center, scale: unit(scale), offset };
    let clip = |range: Option<(f64, f64)>| {
        let (low, high) = range.unwrap_or((f64::NEG_INFINITY, f64::INFINITY));
        Fitted::Clip { low, high }
    };
    Ok(match step {
        Step::Mean => Fitted::Fill { value: finite(moments())?.mean().unwrap_or(f64::NAN) },
        Step::Median => Fitted::Fill { value: order::quantile(&sorted(), 0.5).unwrap_or(f64::NAN) },
        Step::Winsorize(low, high) => {
            let sorted = sorted();
            clip(order::quantile(&sorted, *low).zip(order::quantile(&sorted, *high)))
        }
        Step::Iqr(factor) => clip(order::fences(&sorted(), *factor)),
        Step::Zscore(threshold) => {
            let moments = finite(moments())?;
            clip(moments.mean().zip(moments.deviation(0)).map(|(mean, d)| (mean - threshold * d, mean + threshold * d)))
        }
        Step::Standard => {
            let moments = finite(moments())?;
            scale(moments.mean().unwrap_or(0.0), moments.deviation(0), 0.0)
        }
        Step::Minmax(low, high) => {
            let moments = finite(moments())?;
            let center = if moments.count == 0 { 0.0 } else { moments.min };
            scale(center, Some((moments.max - moments.min) / (high - low)), *low)
        }
        Step::Maxabs => {
            let moments = finite(moments())?;
            scale(0.0, Some(moments.max.abs().max(moments.min.abs())), 0.0)
        }
        Step::Robust(low, high) => {
            let sorted = sorted();
            let spread = order::quantile(&sorted, *high).zip(order::quantile(&sorted, *low)).map(|(high, low)| high - low);
            scale(order::quantile(&sorted, 0.5).unwrap_or(0.0), spread, 0.0)
        }
        Step::Buckets(count) => {
            let moments = finite(moments())?;
            Fitted::Buckets { cuts: if moments.count == 0 { vec![] } else { order::width_cuts(moments.min, moments.max, *count) } }
        }
        Step::Quantiles(count) => Fitted::Buckets { cuts: order::quantile_cuts(&sorted(), *count) },
        _ => return Err(Error::internal("not a step of numbers")),
    })
}

fn mode(column: &Column) -> Result<Fitted> {
    match &column.values {
        Values::Numbers(values) => Ok(Fitted::Fill { value: order::mode(&order::sorted(values)).unwrap_or(f64::NAN) }),
        Values::Categories(coded) => Ok(Fitted::FillText { value: frequent(coded, 1).pop() }),
        Values::Times(_) => Err(wrong(&column.name, "a text or a number")),
    }
}

fn counts(coded: &Coded) -> Vec<u64> {
    let mut counts = vec![0; coded.values.len()];
    for code in coded.codes.iter().filter(|code| **code != NULL_CODE) {
        if let Some(count) = counts.get_mut(*code as usize) {
            *count += 1;
        }
    }
    counts
}

/// The most frequent categories, ties by text; sorted by text.
fn frequent(coded: &Coded, most: usize) -> Vec<String> {
    let mut found: Vec<(u64, &str)> = counts(coded).into_iter().zip(coded.values.iter()).filter(|(count, _)| *count > 0).collect();
    found.sort_unstable_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(b.1)));
    found.truncate(most);
    let mut categories: Vec<String> = found.into_iter().map(|(_, text)| text.to_owned()).collect();
    categories.sort_unstable();
    categories
}

fn frequency(coded: &Coded) -> Fitted {
    let categories = frequent(coded, CATEGORIES_MAX);
    let rows = coded.codes.len().max(1) as f64;
    let counts = counts(coded);
    let share = |text: &String| {
        let count = coded.values.find(text).and_then(|code| counts.get(code as usize)).copied().unwrap_or(0);
        count as f64 / rows
    };
    let shares = categories.iter().map(share).collect();
    let missing = coded.codes.iter().filter(|code| **code == NULL_CODE).count() as f64 / rows;
    Fitted::Frequency { categories, shares, missing }
}

/// Principal components of the rows in which no number is missing.
fn components(columns: &[&Column], count: usize, check: &mut dyn FnMut(usize) -> Result<()>) -> Result<Fitted> {
    let mut numbers = Vec::with_capacity(columns.len());
    for column in columns {
        let Values::Numbers(values) = &column.values else { return Err(wrong(&column.name, "numbers")) };
        numbers.push(values.as_slice());
    }
    let size = numbers.len();
    if count > size {
        return Err(Error::invalid(format!("{count} components cannot be made of {size} columns")));
    }
    if size > 512 {
        return Err(Error::new(Code::TooComplex, "principal components are made of at most 512 columns"));
    }
    let rows = numbers.first().map_or(0, |column| column.len());
    let whole: Vec<usize> = (0..rows).filter(|row| numbers.iter().all(|column| column.get(*row).is_some_and(|x| !x.is_nan()))).collect();
    if whole.len() < 2 {
        return Err(Error::invalid("principal components need at least two rows without missing numbers")
            .hint("Fill missing numbers first: mean | pca(2)."));
    }
    let mut table = PairTable::new(size);
    for rows in whole.chunks(ROWS_AT_ONCE) {
        check(0)?;
        let picked: Vec<Vec<f64>> = numbers.iter().map(|column| rows.iter().map(|row| column[*row]).collect()).collect();
        table.add(&picked);
    }
    let mut means = Vec::with_capacity(size);
    for (i, column) in columns.iter().enumerate() {
        let moments = table.pair(i, i).map(|pair| pair.x).filter(Moments::is_finite).ok_or_else(|| infinite(&column.name))?;
        means.push(moments.mean().unwrap_or(0.0));
    }
    let covariance = table.covariances();
    let found = eigen::principal(&covariance, size, count, || check(0))?;
    Ok(Fitted::Pca { means, axes: found.axes, variances: found.variances, ratios: found.ratios })
}
