//! How real generated rows are, beside what real rows kept apart reach: the distributions of their columns, what a classifier
//! trained on them is worth on real rows (Esteban, Hyland & Rätsch, 2017), whether a classifier can tell them from real
//! ones, and how near they come to the rows that were learned from, which must not be nearer than other real rows come.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{DataType, Field, Schema};
use tokio_util::sync::CancellationToken;

use super::candidates::{Labelled, Request, train_rows};
use super::generate::{Generator, Made};
use super::metrics::{accuracy, most_likely, rmse, roc_auc};
use super::{Scorer, TrainRequest, train};
use crate::error::{Error, Result};
use crate::features::TableDatasetBuilder;
use crate::features::inputs::{ImageShape, InputShape, Inputs, Labels, Rows};
use crate::features::options::{Augment, Options};
use crate::features::rows::{RowTable, Values};
use crate::kernels::splitmix;
use crate::models::{self, Architecture, Task};

/// Rows of each kind that are compared at most.
const ROWS_MAX: usize = 10_000;
/// Rows whose nearest neighbour is looked for, and among how many.
const QUERIES_MAX: usize = 400;
const NEIGHBOURS_MAX: usize = 4000;
/// Pictures that a judge of pictures learns from at most, and sees in all.
const PICTURES_MAX: usize = 6000;
const PICTURES_SEEN: usize = 60_000;
/// A picture is compared by the means of so many fields along a side.
const FIELDS: usize = 4;

/// One figure beside what real rows reach.
#[derive(Debug, Clone, PartialEq)]
pub struct RealityRow {
    /// `column_distance`, `tstr_roc_auc`, `detection_auc`, `nearest_distance`, `copies`, `recognised`; `ks` and `tv` of a column.
    pub metric: String,
    /// Of one column; `None` = of all.
    pub column: Option<String>,
    /// Of generated rows; NaN when it cannot be told.
    pub value: f64,
    /// Of real rows in their place.
    pub reference: f64,
}

/// What a comparison came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    /// Figures about all columns first.
    pub rows: Vec<RealityRow>,
    /// The mean distance of columns filled by chance.
    chance: f64,
}

impl Judged {
    fn find(&self, metric: &str) -> Option<&RealityRow> {
        self.rows.iter().find(|row| row.metric == metric)
    }

    /// The headline: how far the columns' distributions are from real ones, 0 to 1.
    #[must_use]
    pub fn distance(&self) -> f64 {
        self.find("column_distance").map_or(f64::NAN, |row| row.value)
    }

    /// The same of columns that are filled evenly, knowing nothing.
    #[must_use]
    pub const fn chance(&self) -> f64 {
        self.chance
    }

    /// The figures about all columns in words.
    pub fn words(&self) -> impl Iterator<Item = String> + '_ {
        let about_all = self.rows.iter().filter(|row| row.column.is_none() && !row.value.is_nan());
        about_all.map(|row| format!("{} {:.3} (real rows {:.3})", row.metric, row.value, row.reference))
    }
}

/// How a comparison is made.
struct Judge<'a> {
    options: Options,
    /// The classifier of [`Judge::worth`].
    architecture: Architecture,
    threads: usize,
    cancel: &'a CancellationToken,
}

/// Compares what a generator makes with the rows of `table`.
///
/// # Errors
/// `Cancelled`.
pub fn judge(table: &RowTable, generator: &Generator, options: &Options, threads: usize, cancel: &CancellationToken) -> Result<Judged> {
    judge_with(table, generator, options, Architecture::Logreg, threads, cancel)
}

/// The same with another classifier.
///
/// # Errors
/// `Cancelled`.
pub fn judge_with(
    table: &RowTable,
    generator: &Generator,
    options: &Options,
    architecture: Architecture,
    threads: usize,
    cancel: &CancellationToken,
) -> Result<Judged> {
    let judge = Judge { options: Options { seed: options.seed, ..Options::default() }, architecture, threads, cancel };
    judge.check()?;
    match table.plan.image() {
        Some(image) => judge.pictures(table, image, generator),
        None => judge.tables(table, generator),
    }
}

/// `count` of `rows` rows by chance, ascending.
fn sample(rows: usize, count: usize, seed: u64) -> Vec<u32> {
    let mut all: Vec<u32> = (0..rows as u32).collect();
    if count < rows {
        splitmix::shuffle(&mut all, seed);
        all.truncate(count);
        all.sort_unstable();
    }
    all
}

fn some_of(batch: &RecordBatch, count: usize, seed: u64) -> Result<RecordBatch> {
    let rows = UInt32Array::from(sample(batch.num_rows(), count, seed));
    take_record_batch(batch, &rows).map_err(|error| Error::internal(format!("rows cannot be compared: {error}")))
}

impl Judge<'_> {
    fn check(&self) -> Result<()> {
        if self.cancel.is_cancelled() { Err(Error::cancelled()) } else { Ok(()) }
    }

    fn tables(&self, table: &RowTable, generator: &Generator) -> Result<Judged> {
        let parts = table.train.batch.as_ref().zip(table.test.batch.as_ref());
        let (train, test) = parts.ok_or_else(|| Error::internal("a table has no rows to compare with"))?;
        let (train, test) = (some_of(train, ROWS_MAX, 1)?, some_of(test, ROWS_MAX, 2)?);
        let made = generator.rows(0, train.num_rows())?;
        // What was not learned is NULL in every generated row.
        let omitted: Vec<String> = [&table.plan, generator.plan()].iter().flat_map(|plan| plan.omitted()).map(str::to_owned).collect();
        let (train, test, made) = (without(&train, &omitted)?, without(&test, &omitted)?, without(&made, &omitted)?);
        if !test.schema_ref().fields().iter().map(|field| field.name()).eq(made.schema_ref().fields().iter().map(|field| field.name())) {
            return Err(Error::invalid("the source has other columns than the model's rows"));
        }
        let values = |batch: &RecordBatch| table.plan.values(batch);
        let (real, kept, own) = (values(&train)?, values(&test)?, values(&made)?);
        let (mut columns, chance) = distances(&real, &kept, &own);
        let mut rows = vec![mean_row(&columns)];
        if let Some(label) = &table.label {
            self.check()?;
            let (value, reference) = (self.worth(&made, &test, label), self.worth(&train, &test, label));
            let (metric, reference) = reference?;
            rows.push(RealityRow { metric: format!("tstr_{metric}"), column: None, value: value.map_or(f64::NAN, |own| own.1), reference });
        }
        self.check()?;
        rows.push(RealityRow { metric: "detection_auc".into(), column: None, value: self.detection(&train, &made)?, reference: 0.5 });
        self.check()?;
        rows.extend(neighbours(&points(&real, &real), &points(&real, &own), &points(&real, &kept)));
        rows.append(&mut columns);
        Ok(Judged { rows, chance })
    }

    /// What a classifier of `label` learned from `learned` reaches on `test`: the metric and its value.
    fn worth(&self, learned: &RecordBatch, test: &RecordBatch, label: &str) -> Result<(&'static str, f64)> {
        let builder = |batch: &RecordBatch| {
            let mut builder = TableDatasetBuilder::new(batch.schema(), label, &self.options, None)?;
            builder.push(batch).map(|()| builder)
        };
        let dataset = builder(learned)?.finish()?;
        let scorer = self.scorer(&dataset)?;
        let test = builder(test)?.finish_with(&dataset.encoder, &dataset.classes, true)?;
        let scores = scorer.score(&test.inputs)?;
        Ok(match &test.labels {
            Labels::Class(labels) if dataset.classes.len() == 2 => {
                let positive: Vec<bool> = labels.iter().map(|label| *label == 1).collect();
                ("roc_auc", roc_auc(&positive, &scores.probabilities.chunks_exact(2).map(|row| row[1]).collect::<Vec<_>>()))
            }
            Labels::Class(labels) => ("accuracy", accuracy(labels, &most_likely(&scores.probabilities, dataset.classes.len()))),
            Labels::Value(values) => ("rmse", rmse(&values.iter().map(|value| f64::from(*value)).collect::<Vec<_>>(), &scores.values)),
        })
    }

    fn scorer(&self, dataset: &crate::features::Dataset) -> Result<Scorer> {
        let task = if dataset.classes.is_empty() { Task::Regression } else { Task::Classification };
        let trained = train(TrainRequest {
            dataset,
            architecture: Some(self.architecture),
            options: &self.options,
            task,
            threads: self.threads,
            cancel: self.cancel,
            progress: &|_| {},
            init: None,
            checkpoints: None,
            memory: None,
        })?;
        Ok(Scorer::new(Arc::from(models::load(&trained.config, &trained.parameters)?), trained.calibration))
    }

    /// How well a classifier tells generated rows from real ones: 0.5 = not at all.
    fn detection(&self, real: &RecordBatch, made: &RecordBatch) -> Result<f64> {
        const LABEL: &str = "(generated)";
        let failed = |error: arrow::error::ArrowError| Error::internal(format!("rows cannot be compared: {error}"));
        let joined = concat_batches(&made.schema(), [&cast_to(real, &made.schema())?, made]).map_err(failed)?;
        let is_made: ArrayRef = Arc::new(BooleanArray::from_iter((0..joined.num_rows()).map(|row| Some(row >= real.num_rows()))));
        let fields = joined.schema_ref().fields().iter().cloned().chain([Arc::new(Field::new(LABEL, DataType::Boolean, false))]);
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let all = joined.columns().iter().cloned().chain([is_made]).collect();
        let batch = RecordBatch::try_new(schema, all).map_err(failed)?;
        let mut builder = TableDatasetBuilder::new(batch.schema(), LABEL, &self.options, None)?;
        builder.push(&batch)?;
        let dataset = builder.finish()?;
        let rows = dataset.rows_of(Rows::Test);
        let scores = self.scorer(&dataset)?.score_rows(&dataset.inputs, &rows, Some(self.cancel))?;
        let Labels::Class(labels) = &dataset.labels else { return Err(Error::internal("two kinds of rows are classes")) };
        let positive: Vec<bool> = rows.iter().map(|row| labels[*row as usize] == 1).collect();
        Ok(roc_auc(&positive, &scores.probabilities.chunks_exact(2).map(|row| row[1]).collect::<Vec<_>>()))
    }

    fn pictures(&self, table: &RowTable, image: ImageShape, generator: &Generator) -> Result<Judged> {
        let len = image.len();
        let parts = |images: &[u8], seed: u64| sample(images.len() / len, PICTURES_MAX, seed);
        let (train, test) = (parts(&table.train.images, 1), parts(&table.test.images, 2));
        let Made { values, classes, .. } = generator.make(0, test.len().max(QUERIES_MAX))?;
        let made: Vec<u8> = values.iter().map(|value| ((value + 1.0) * 127.5 + 0.5).clamp(0.0, 255.0) as u8).collect();
        let picked = |images: &[u8], rows: &[u32]| -> Vec<u8> {
            rows.iter().flat_map(|row| images[*row as usize * len..(*row as usize + 1) * len].iter().copied()).collect()
        };
        let (real, kept) = (picked(&table.train.images, &train), picked(&table.test.images, &test));
        let (columns, chance) = distances(&fields(&real, image), &fields(&kept, image), &fields(&made, image));
        let mut rows = vec![mean_row(&columns)];
        let names = table.plan.picture_classes();
        // A generator that is told no class, or others, cannot be asked for one of these.
        if names.len() > 1 && generator.plan().picture_classes() == names {
            self.check()?;
            let class = |part: &[u32], rows: &[u32]| rows.iter().map(|row| part[*row as usize]).collect::<Vec<u32>>();
            let (learned, truth) = (class(&table.train.encoded.classes, &train), class(&table.test.encoded.classes, &test));
            let told: Vec<u32> = classes.iter().map(|class| *class as u32).collect();
            let scorer = self.picture_scorer(image, &real, &learned, &names)?;
            let right = |images: &[u8], labels: &[u32]| {
                let inputs = Inputs { rows: labels.len(), images: images.to_vec(), ..Inputs::default() };
                Ok::<_, Error>(accuracy(labels, &most_likely(&scorer.score(&inputs)?.probabilities, names.len())))
            };
            rows.push(RealityRow {
                metric: "recognised".into(),
                column: None,
                value: right(&made, &told)?,
                reference: right(&kept, &truth)?,
            });
        }
        let point = |one: &[u8]| one.iter().map(|value| f32::from(*value) / 255.0).collect::<Vec<f32>>();
        let points = |images: &[u8]| images.chunks_exact(len).map(point).collect::<Vec<_>>();
        rows.extend(neighbours(&points(&real), &points(&made), &points(&kept)));
        Ok(Judged { rows, chance })
    }

    /// A classifier of real pictures.
    fn picture_scorer(&self, image: ImageShape, images: &[u8], labels: &[u32], names: &[String]) -> Result<Scorer> {
        let rows = labels.len();
        let inputs = Inputs { rows, images: images.to_vec(), ..Inputs::default() };
        let split: Vec<Rows> = (0..rows).map(|row| if row % 8 == 3 { Rows::Validation } else { Rows::Train }).collect();
        let options = Options {
            epochs: Some((PICTURES_SEEN / rows.max(1)).clamp(2, 20) as u32),
            hidden_dim: Some(16),
            augment: Augment::None,
            ..self.options.clone()
        };
        let shape = InputShape { image: Some(image), ..InputShape::default() };
        let labels = Labels::Class(labels.to_vec());
        let trained = train_rows(Request {
            rows: Labelled {
                shape: &shape,
                inputs: &inputs,
                labels: &labels,
                classes: names,
                split: &split,
                rfm: &[],
                encoder: None,
                users: &[],
            },
            architecture: Some(Architecture::Cnn),
            options: &options,
            task: Task::Classification,
            threads: self.threads,
            cancel: self.cancel,
            progress: &|_| {},
            init: None,
            checkpoints: None,
            memory: None,
            catalogue: None,
            teacher: None,
        })?;
        Ok(Scorer::new(Arc::from(models::load(&trained.config, &trained.parameters)?), trained.calibration))
    }
}

/// A batch without some columns.
fn without(batch: &RecordBatch, names: &[String]) -> Result<RecordBatch> {
    let fields = batch.schema_ref().fields().iter().enumerate();
    let kept: Vec<usize> = fields.filter(|(_, field)| !names.contains(field.name())).map(|(at, _)| at).collect();
    batch.project(&kept).map_err(|error| Error::internal(format!("rows cannot be compared: {error}")))
}

/// A batch in the types of `schema`, which has the same columns.
fn cast_to(batch: &RecordBatch, schema: &Arc<Schema>) -> Result<RecordBatch> {
    let columns = batch.columns().iter().zip(schema.fields()).map(|(column, field)| arrow::compute::cast(column, field.data_type()));
    let columns = columns.collect::<std::result::Result<Vec<_>, _>>();
    columns
        .and_then(|columns| RecordBatch::try_new(Arc::clone(schema), columns))
        .map_err(|error| Error::internal(format!("rows cannot be compared: {error}")))
}

type Columns = [(String, Values)];

/// The distance of each column of `made` from `kept`, with that of `real` as the reference; and the mean distance of
/// columns that are filled evenly.
fn distances(real: &Columns, kept: &Columns, made: &Columns) -> (Vec<RealityRow>, f64) {
    let (mut rows, mut chance) = (Vec::new(), 0.0);
    for (((name, real), (_, kept)), (_, made)) in real.iter().zip(kept).zip(made) {
        let row = |metric: &str, value, reference| RealityRow { metric: metric.into(), column: Some(name.clone()), value, reference };
        match (real, kept, made) {
            (Values::Numbers(real), Values::Numbers(kept), Values::Numbers(made)) => {
                rows.push(row("ks", kolmogorov_smirnov(made, kept), kolmogorov_smirnov(real, kept)));
                chance += kolmogorov_smirnov(&evenly(real), kept);
            }
            (Values::Texts(real), Values::Texts(kept), Values::Texts(made)) => {
                rows.push(row("tv", total_variation(made, kept), total_variation(real, kept)));
                let mut classes: Vec<Option<String>> = real.clone();
                classes.sort_unstable();
                classes.dedup();
                chance += total_variation(&classes, kept);
            }
            _ => {}
        }
    }
    let count = rows.len().max(1) as f64;
    (rows, chance / count)
}

fn mean_row(columns: &[RealityRow]) -> RealityRow {
    let mean = |of: &dyn Fn(&RealityRow) -> f64| columns.iter().map(of).sum::<f64>() / columns.len().max(1) as f64;
    RealityRow { metric: "column_distance".into(), column: None, value: mean(&|row| row.value), reference: mean(&|row| row.reference) }
}

/// Numbers evenly between the smallest and the largest.
fn evenly(values: &[Option<f64>]) -> Vec<Option<f64>> {
    let known = values.iter().flatten();
    let (low, high) = known.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(*value), high.max(*value)));
    if low > high {
        return vec![None];
    }
    (0..1000).map(|at| Some(low + (high - low) * (f64::from(at) + 0.5) / 1000.0)).collect()
}

/// The largest difference of two distribution functions; NULL comes before every number.
#[must_use]
pub fn kolmogorov_smirnov(a: &[Option<f64>], b: &[Option<f64>]) -> f64 {
    let sorted = |values: &[Option<f64>]| {
        let mut all: Vec<f64> = values.iter().map(|value| value.unwrap_or(f64::NEG_INFINITY)).collect();
        all.sort_unstable_by(f64::total_cmp);
        all
    };
    let (a, b) = (sorted(a), sorted(b));
    if a.is_empty() || b.is_empty() {
        return f64::NAN;
    }
    let (mut i, mut j, mut most) = (0, 0, 0.0f64);
    while i < a.len() && j < b.len() {
        let at = a[i].min(b[j]);
        while i < a.len() && a[i] <= at {
            i += 1;
        }
        while j < b.len() && b[j] <= at {
            j += 1;
        }
        most = most.max((i as f64 / a.len() as f64 - j as f64 / b.len() as f64).abs());
    }
    most
}

/// Half the sum of the differences of the shares of all classes; NULL is one.
#[must_use]
pub fn total_variation(a: &[Option<String>], b: &[Option<String>]) -> f64 {
    if a.is_empty() || b.is_empty() {
        return f64::NAN;
    }
    let mut shares: BTreeMap<Option<&str>, f64> = BTreeMap::new();
    for (values, sign) in [(a, 1.0), (b, -1.0)] {
        let share = sign / values.len() as f64;
        values.iter().for_each(|value| *shares.entry(value.as_deref()).or_default() += share);
    }
    shares.values().map(|share| share.abs()).sum::<f64>() / 2.0
}

/// Rows as points: numbers in deviations of `like`, each class a corner of its own, so that another class is 1 away.
fn points(like: &Columns, rows: &Columns) -> Vec<Vec<f32>> {
    let count = rows.first().map_or(0, |(_, values)| match values {
        Values::Numbers(values) => values.len(),
        Values::Texts(values) => values.len(),
    });
    let mut points = vec![Vec::new(); count];
    for ((_, like), (_, values)) in like.iter().zip(rows) {
        match (like, values) {
            (Values::Numbers(like), Values::Numbers(values)) => {
                let known: Vec<f64> = like.iter().flatten().copied().collect();
                let mean = known.iter().sum::<f64>() / known.len().max(1) as f64;
                let variance = known.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / known.len().max(1) as f64;
                let scale = if variance > 0.0 { 1.0 / variance.sqrt() } else { 1.0 };
                for (point, value) in points.iter_mut().zip(values) {
                    point.push(value.map_or(0.0, |value| ((value - mean) * scale) as f32));
                    point.push(if value.is_some() { 0.0 } else { 1.0 });
                }
            }
            (_, Values::Texts(values)) => {
                points.iter_mut().zip(values).for_each(|(point, value)| point.push(CLASS + stable(value.as_deref())));
            }
            _ => {}
        }
    }
    points
}

/// Numbers from here on are classes.
const CLASS: f32 = 1e6;

/// A number for a class that is the same in every set of rows (FNV-1a, cut to what a float holds).
fn stable(text: Option<&str>) -> f32 {
    let hash = text.map_or(0, |text| text.bytes().fold(0x811C_9DC5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)));
    (hash % (1 << 22)) as f32
}

fn distance(a: &[f32], b: &[f32]) -> f32 {
    let one = |(a, b): (&f32, &f32)| match (*a >= CLASS, a == b) {
        (true, true) => 0.0,
        (true, false) => 1.0,
        (false, _) => (a - b) * (a - b),
    };
    a.iter().zip(b).map(one).sum::<f32>().sqrt()
}

/// How near `made` and, for reference, `kept` come to the rows `learned`: the median distance of the nearest, and the share
/// of exact copies.
fn neighbours(learned: &[Vec<f32>], made: &[Vec<f32>], kept: &[Vec<f32>]) -> Vec<RealityRow> {
    let some =
        |points: &[Vec<f32>], most: usize| -> Vec<usize> { sample(points.len(), most, 3).into_iter().map(|row| row as usize).collect() };
    let among = some(learned, NEIGHBOURS_MAX);
    let nearest = |points: &[Vec<f32>]| -> Vec<f32> {
        let queries = some(points, QUERIES_MAX);
        let least = |query: usize| among.iter().map(|row| distance(&points[query], &learned[*row])).fold(f32::INFINITY, f32::min);
        let mut all: Vec<f32> = queries.into_iter().map(least).collect();
        all.sort_unstable_by(f32::total_cmp);
        all
    };
    let (made, kept) = (nearest(made), nearest(kept));
    let median = |all: &[f32]| all.get(all.len() / 2).map_or(f64::NAN, |value| f64::from(*value));
    let copies = |all: &[f32]| all.iter().filter(|value| **value < 1e-6).count() as f64 / all.len().max(1) as f64;
    let row = |metric: &str, value, reference| RealityRow { metric: metric.into(), column: None, value, reference };
    vec![row("nearest_distance", median(&made), median(&kept)), row("copies", copies(&made), copies(&kept))]
}

/// The means of a picture's fields, as columns.
fn fields(images: &[u8], image: ImageShape) -> Vec<(String, Values)> {
    let cut = |at: usize, side: usize| at * side / FIELDS..(at + 1) * side / FIELDS;
    let place = |y: usize, x: usize| {
        let mean = |picture: &[u8]| {
            let (mut sum, mut count) = (0u64, 0u64);
            for row in cut(y, image.height) {
                for column in cut(x, image.width) {
                    let at = (row * image.width + column) * image.channels;
                    sum += picture[at..at + image.channels].iter().map(|value| u64::from(*value)).sum::<u64>();
                    count += image.channels as u64;
                }
            }
            Some(sum as f64 / count.max(1) as f64)
        };
        (format!("field {y} {x}"), Values::Numbers(images.chunks_exact(image.len()).map(mean).collect()))
    };
    (0..FIELDS).flat_map(|y| (0..FIELDS).map(move |x| (y, x))).map(|(y, x)| place(y, x)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_of_distributions() {
        let numbers = |values: &[f64]| values.iter().map(|value| Some(*value)).collect::<Vec<_>>();
        assert_eq!(kolmogorov_smirnov(&numbers(&[1.0, 2.0]), &numbers(&[2.0, 1.0])), 0.0);
        assert_eq!(kolmogorov_smirnov(&numbers(&[1.0, 2.0]), &numbers(&[3.0, 4.0, 5.0])), 1.0);
        assert_eq!(kolmogorov_smirnov(&[None, Some(1.0)], &numbers(&[1.0, 1.0])), 0.5);
        let texts = |values: &[&str]| values.iter().map(|value| Some((*value).to_owned())).collect::<Vec<_>>();
        assert_eq!(total_variation(&texts(&["a", "b"]), &texts(&["b", "a", "a", "b"])), 0.0);
        assert_eq!(total_variation(&texts(&["a"]), &[None]), 1.0);
        assert_eq!(total_variation(&texts(&["a", "a", "b", "b"]), &texts(&["a", "b", "b", "b"])), 0.25);
        let even = evenly(&numbers(&[0.0, 10.0, 3.0]));
        assert!(kolmogorov_smirnov(&even, &numbers(&(0..1000).map(|x| f64::from(x) / 100.0).collect::<Vec<_>>())) < 0.01);
    }

    #[test]
    fn copies_are_found() {
        let columns = |numbers: &[f64], texts: &[&str]| {
            let numbers = Values::Numbers(numbers.iter().map(|value| Some(*value)).collect());
            vec![("n".to_owned(), numbers), ("t".to_owned(), Values::Texts(texts.iter().map(|text| Some((*text).to_owned())).collect()))]
        };
        let learned = columns(&[0.0, 10.0, 20.0], &["a", "b", "c"]);
        let made = columns(&[10.0, 10.0], &["b", "a"]);
        let point = |rows: &Columns| points(&learned, rows);
        let rows = neighbours(&point(&learned), &point(&made), &point(&columns(&[5.0], &["a"])));
        assert_eq!((rows[1].metric.as_str(), rows[1].value, rows[1].reference), ("copies", 0.5, 0.0));
        // Another class is as far as one deviation.
        assert!((rows[0].value - 1.0).abs() < 1e-6, "{rows:?}");
    }
}
