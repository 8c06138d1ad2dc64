//! One encoder for rows that never meet: what each owner of rows tells of them, and the encoder that follows from all of it.
//!
//! What is told can be added up and names nobody: of numbers, the means of groups of at least so many rows; of texts and
//! labels, the counts of those that so many rows share. Rows, extremes and rare texts stay where they are.

use serde::{Deserialize, Serialize};

use super::dataset::positive_first;
use super::encoder::{CategoricalFeature, Encoder, Fitted, Source, is_excluded};
use super::inputs::Inputs;
use super::numeric;
use super::options::Options;
use super::table::TablePlan;
use super::vocabulary::Vocabulary;
use crate::error::{Code, Error, Result};
use crate::kernels::intern::Interner;

/// Groups of one column at most, twice over: groups of neighbours, and values that many rows share.
const GROUPS_MAX: u64 = 512;
/// Made-up rows that stand for all: as many as scales and bin edges can be read from.
const SAMPLE_ROWS: usize = 4096;
/// Categories with an id of their own, at most.
const CATEGORIES_MAX: usize = 1000;

/// The distribution of a column of numbers: groups of neighbouring values, each told by its mean and its rows.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Sketch {
    /// Rows without a number.
    pub nulls: u64,
    /// Mean and rows of each group, ascending.
    pub groups: Vec<(f32, u64)>,
}

impl Sketch {
    /// Of some values (NaN = NULL), with no group of fewer than `count_min` rows; fewer values than that are not told.
    #[must_use]
    pub fn of(values: impl IntoIterator<Item = f32>, count_min: u64) -> Self {
        let (mut values, mut nulls) = (values.into_iter().collect::<Vec<f32>>(), 0);
        values.retain(|value| {
            nulls += u64::from(!value.is_finite());
            value.is_finite()
        });
        values.sort_unstable_by(f32::total_cmp);
        let full = count_min.max((values.len() as u64).div_ceil(GROUPS_MAX)).max(1);
        let (mut groups, mut sum, mut count): (Vec<(f32, u64)>, f64, u64) = (Vec::new(), 0.0, 0);
        for run in values.chunk_by(|a, b| a == b) {
            let rows = run.len() as u64;
            if rows >= full {
                groups.push((run[0], rows));
                continue;
            }
            sum += f64::from(run[0]) * rows as f64;
            count += rows;
            if count >= full {
                groups.push(((sum / count as f64) as f32, count));
                (sum, count) = (0.0, 0);
            }
        }
        // What is left is too few to be told alone.
        if let Some((mean, rows)) = groups.last_mut().filter(|_| count > 0) {
            *mean = ((f64::from(*mean) * *rows as f64 + sum) / (*rows + count) as f64) as f32;
            *rows += count;
        }
        groups.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        // Of so few rows without a number nobody hears either.
        Self { nulls: if nulls >= count_min { nulls } else { 0 }, groups }
    }

    /// Of the rows of all.
    #[must_use]
    pub fn merged<'a>(all: impl IntoIterator<Item = &'a Self>) -> Self {
        let mut merged = Self::default();
        for one in all {
            merged.nulls += one.nulls;
            merged.groups.extend_from_slice(&one.groups);
        }
        merged.groups.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        merged
    }

    /// Rows with a number.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.groups.iter().map(|(_, rows)| rows).sum()
    }

    /// `rows` values with this distribution, ascending, those without a number last (NaN).
    #[must_use]
    pub fn values(&self, rows: usize) -> Vec<f32> {
        let (count, all) = (self.count(), self.count() + self.nulls);
        if count == 0 {
            return vec![f32::NAN; rows];
        }
        let mut with = (rows as u128 * u128::from(count) / u128::from(all)) as usize;
        // A few without a number are still some.
        with = with.clamp(1, if self.nulls > 0 { rows - 1 } else { rows });
        let (mut values, mut group, mut until) = (Vec::with_capacity(rows), 0, self.groups[0].1);
        for at in 0..with {
            let place = ((2 * at + 1) as u128 * u128::from(count) / (2 * with) as u128) as u64;
            while place >= until {
                group += 1;
                until += self.groups[group].1;
            }
            values.push(self.groups[group].0);
        }
        values.resize(rows, f32::NAN);
        values
    }
}

/// How often each text occurs, without those that are rare.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Counts {
    /// Rows without a text.
    pub nulls: u64,
    /// By text.
    pub known: Vec<(String, u64)>,
    /// Rows with a text that is not told.
    pub rare: u64,
}

impl Counts {
    /// Of texts and their counts, without those of fewer than `count_min` rows.
    #[must_use]
    pub fn of<'a>(counted: impl IntoIterator<Item = (&'a str, u64)>, nulls: u64, count_min: u64) -> Self {
        let mut counts = Self { nulls, ..Self::default() };
        for (text, rows) in counted.into_iter().filter(|(_, rows)| *rows > 0) {
            if rows >= count_min { counts.known.push((text.to_owned(), rows)) } else { counts.rare += rows }
        }
        counts.known.sort_unstable();
        counts
    }

    /// Of the rows of all.
    #[must_use]
    pub fn merged<'a>(all: impl IntoIterator<Item = &'a Self>) -> Self {
        let (mut merged, mut known) = (Self::default(), std::collections::BTreeMap::new());
        for one in all {
            merged.nulls += one.nulls;
            merged.rare += one.rare;
            one.known.iter().for_each(|(text, rows)| *known.entry(text.clone()).or_insert(0) += rows);
        }
        merged.known = known.into_iter().collect();
        merged
    }
}

/// What labels there are; both where whole numbers could be either.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LabelStatistics {
    /// As classes.
    pub classes: Option<Counts>,
    /// As numbers.
    pub values: Option<Sketch>,
}

/// What the owner of a labelled table tells of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TableStatistics {
    /// Rows that will be learned from.
    pub rows: u64,
    pub(super) plan: TablePlan,
    pub(super) numbers: Vec<Sketch>,
    pub(super) texts: Vec<Counts>,
    pub(super) label: LabelStatistics,
    /// Columns that only number the rows.
    pub(super) ids: Vec<String>,
}

/// What everybody encodes and labels with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Shared {
    /// The encoder.
    pub encoder: Encoder,
    /// Class names; empty for numbers.
    pub classes: Vec<String>,
    /// Rows of each class.
    pub class_rows: Vec<u64>,
    /// The distribution of a numeric label.
    pub values: Option<Sketch>,
    /// Rows that are learned from, of all.
    pub rows: u64,
}

/// The encoder that follows from what everybody told, and made-up rows of its numbers. `all`: a name for messages, and what
/// its owner told.
///
/// # Errors
/// `UndefinedColumn` or `DatatypeMismatch` when the tables are not alike, `InvalidParameter` when there is nothing to learn.
pub fn merge(all: &[(String, TableStatistics)], options: &Options) -> Result<(Shared, Inputs)> {
    let Some((first_name, first)) = all.first() else { return Err(Error::invalid("there are no statistics to merge")) };
    for (name, own) in &all[1..] {
        check_alike((first_name, first), (name, own))?;
    }
    if options.select_k.is_some() {
        return Err(Error::invalid("option \"select_k\" looks at rows and labels together").detail("No owner of rows tells so much."));
    }
    let rows: u64 = all.iter().map(|(_, own)| own.rows).sum();
    let excluded = |name: &str| is_excluded(name, &options.exclude) || all.iter().any(|(_, own)| own.ids.iter().any(|id| id == name));
    let mut fitted = Fitted::default();
    let mut samples: Vec<Vec<f32>> = Vec::new();
    for (source, name) in first.plan.numeric_names().iter().enumerate().filter(|(_, name)| !excluded(name)) {
        let merged = Sketch::merged(all.iter().map(|(_, own)| &own.numbers[source]));
        let sample = merged.values(SAMPLE_ROWS);
        for mut feature in numeric::fit(name, source, &sample, options).into_iter().filter(|feature| !excluded(&feature.name)) {
            feature.nulls = merged.nulls;
            // Spread, so that columns are not in step.
            samples.push(spread(&sample, samples.len()).map(|raw| feature.encode(raw)).collect());
            fitted.numeric.push(feature);
        }
    }
    let count_min = (rows / 2000).clamp(2, 10);
    for (source, name) in first.plan.categorical_names().iter().enumerate().filter(|(_, name)| !excluded(name)) {
        let merged = Counts::merged(all.iter().map(|(_, own)| &own.texts[source]));
        let table: Interner = merged.known.iter().map(|(text, _)| text.as_str()).collect();
        let counts: Vec<u64> = merged.known.iter().map(|(_, rows)| *rows).collect();
        let vocabulary = Vocabulary::fit(&table, &counts, count_min, CATEGORIES_MAX);
        let known: u64 = merged.known.iter().filter(|(text, _)| vocabulary.id(text) > 1).map(|(_, rows)| rows).sum();
        if !vocabulary.is_empty() && (vocabulary.len() > 1 || known < rows) {
            fitted.categorical.push(CategoricalFeature { name: name.clone(), source, vocabulary, nulls: merged.nulls });
        }
    }
    if fitted.numeric.is_empty() && fitted.categorical.is_empty() {
        return Err(
            Error::invalid("there is no feature to learn from").detail("Every column is excluded, constant, or rare in all its texts.")
        );
    }
    let sample = sample_of(&samples, fitted.categorical.len());
    let mut plan = first.plan.clone();
    let (numbers, texts): (Vec<usize>, Vec<usize>) =
        (fitted.numeric.iter().map(|f| f.source).collect(), fitted.categorical.iter().map(|f| f.source).collect());
    plan.keep_used(&numbers, &texts);
    let label = labels(all)?;
    Ok((Shared { encoder: Encoder::new(Source::Table(plan), fitted), rows, ..label }, sample))
}

/// A column in an order of its own: by a step that shares no factor with the number of rows.
fn spread(sample: &[f32], column: usize) -> impl Iterator<Item = f32> + '_ {
    let step = 2 * column * 769 + 1;
    (0..sample.len()).map(move |at| sample[at * step % sample.len()])
}

fn sample_of(columns: &[Vec<f32>], categorical: usize) -> Inputs {
    let numeric = (0..SAMPLE_ROWS).flat_map(|row| columns.iter().map(move |column| column[row])).collect();
    Inputs { rows: SAMPLE_ROWS, numeric, categorical: vec![0; SAMPLE_ROWS * categorical], ..Inputs::default() }
}

fn check_alike((first_name, first): (&String, &TableStatistics), (name, own): (&String, &TableStatistics)) -> Result<()> {
    for (index, column) in first.plan.columns.iter().enumerate() {
        match own.plan.columns.get(index) {
            Some(other) if other.name == column.name && other.kind == column.kind => {}
            Some(other) if other.name == column.name => {
                return Err(Error::new(Code::DatatypeMismatch, format!("column \"{}\" has another type at \"{name}\"", column.name))
                    .detail(format!("Its type differs from that at \"{first_name}\"."))
                    .hint("Cast it in the source."));
            }
            _ => {
                return Err(Error::new(Code::UndefinedColumn, format!("the source of \"{name}\" lacks the column \"{}\"", column.name))
                    .detail(format!("\"{first_name}\" has it in this place."))
                    .hint("All sources need the same columns in the same order: name them in a query."));
            }
        }
    }
    if own.plan.columns.len() > first.plan.columns.len() {
        let column = &own.plan.columns[first.plan.columns.len()].name;
        return Err(Error::new(Code::UndefinedColumn, format!("the source of \"{first_name}\" lacks the column \"{column}\""))
            .detail(format!("\"{name}\" has it."))
            .hint("All sources need the same columns in the same order: name them in a query."));
    }
    Ok(())
}

/// The classes or numbers of all labels; the encoder is filled in by the caller.
fn labels(all: &[(String, TableStatistics)]) -> Result<Shared> {
    let encoder = Encoder::new(Source::Table(TablePlan::default()), Fitted::default());
    let none = Shared { encoder, classes: Vec::new(), class_rows: Vec::new(), values: None, rows: 0 };
    if all.iter().all(|(_, own)| own.label.classes.is_some()) {
        let merged = Counts::merged(all.iter().filter_map(|(_, own)| own.label.classes.as_ref()));
        let mut known = merged.known;
        if known.len() < 2 {
            return Err(Error::invalid("there are fewer than two classes to learn")
                .detail("Classes of few rows are not told.")
                .hint("Lower min_count of option \"federated\", or look at the labels."));
        }
        let numbers: Option<Vec<f64>> = known.iter().map(|(name, _)| name.parse().ok()).collect();
        if let Some(numbers) = numbers {
            let mut by_number: Vec<(f64, (String, u64))> = numbers.into_iter().zip(known).collect();
            by_number.sort_by(|a, b| a.0.total_cmp(&b.0));
            known = by_number.into_iter().map(|(_, class)| class).collect();
        }
        let names: Vec<String> = known.iter().map(|(name, _)| name.clone()).collect();
        if known.len() == 2 && positive_first(&names, known[0].1 as f64 / (known[0].1 + known[1].1) as f64) {
            known.swap(0, 1);
        }
        let (classes, class_rows) = known.into_iter().unzip();
        return Ok(Shared { classes, class_rows, ..none });
    }
    let values: Option<Vec<&Sketch>> = all.iter().map(|(_, own)| own.label.values.as_ref()).collect();
    let Some(values) = values else {
        return Err(Error::new(Code::DatatypeMismatch, "the label is a text in some sources and a number in others"));
    };
    let merged = Sketch::merged(values);
    if merged.groups.len() < 2 {
        return Err(Error::invalid("there is nothing to learn: the labels are all alike"));
    }
    Ok(Shared { values: Some(merged), ..none })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::splitmix;

    fn normal(seed: u64, rows: u64) -> Vec<f32> {
        let uniform = |at: u64| splitmix::fraction(seed, at);
        (0..rows).map(|row| (0..12).map(|part| uniform(row * 12 + part)).sum::<f64>() as f32 - 6.0).collect()
    }

    #[test]
    fn a_sketch_has_no_small_group_and_no_extreme() {
        let values = normal(1, 5000);
        let sketch = Sketch::of(values.iter().copied().chain([f32::NAN; 7]), 5);
        assert_eq!((sketch.count(), sketch.nulls), (5000, 7));
        assert!(sketch.groups.iter().all(|(_, rows)| *rows >= 9) && sketch.groups.len() <= 512);
        let highest = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        assert!(sketch.groups.iter().all(|(mean, _)| *mean < highest));
        // Too few to be told, and a value that many share.
        assert_eq!(Sketch::of([1.0, 2.0, 3.0, f32::NAN], 5), Sketch::default());
        assert_eq!(Sketch::of([1.0, 1.0, 1.0, 1.0, 1.0, 9.0], 5).groups.len(), 1);
        assert_eq!(Sketch::of((0..40).map(|at| (at % 2) as f32), 5).groups, [(0.0, 20), (1.0, 20)]);
    }

    #[test]
    fn merged_sketches_give_the_distribution_of_all_rows() {
        let (low, high): (Vec<f32>, Vec<f32>) = (normal(1, 6000), normal(2, 3000).iter().map(|x| x + 3.0).collect());
        let merged = Sketch::merged([&Sketch::of(low.iter().copied(), 5), &Sketch::of(high.iter().copied(), 5)]);
        let mut all = [low, high].concat();
        let mut sample = merged.values(SAMPLE_ROWS);
        for q in [0.01, 0.25, 0.5, 0.75, 0.99] {
            let quantile = |values: &mut Vec<f32>| crate::kernels::quantile::quantile(values, q).unwrap();
            let (sampled, exact) = (quantile(&mut sample), quantile(&mut all));
            assert!((sampled - exact).abs() < 0.04, "{q}: {sampled} instead of {exact}");
        }
        let own = |values: &[f32]| numeric::fit("x", 0, values, &Options::default())[0].clone();
        let (sampled, exact) = (own(&sample), own(&all));
        assert!((sampled.center - exact.center).abs() < 0.01 && (sampled.scale / exact.scale - 1.0).abs() < 0.01, "{sampled:?} {exact:?}");
    }

    #[test]
    fn rare_texts_are_not_told() {
        let counts = Counts::of([("a", 9), ("b", 4), ("c", 0)], 2, 5);
        assert_eq!((counts.known.as_slice(), counts.rare, counts.nulls), ([("a".to_owned(), 9)].as_slice(), 4, 2));
        let merged = Counts::merged([&counts, &Counts::of([("a", 5), ("z", 6)], 0, 5)]);
        assert_eq!(merged.known, [("a".to_owned(), 14), ("z".to_owned(), 6)]);
    }
}
