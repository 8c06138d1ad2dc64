//! `feature_scores(source, target, method, columns, top_k, bins)`

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use arrow::array::{Int32Array, RecordBatch};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::error::Result as DfResult;
use datafusion::execution::SendableRecordBatchStream;

use super::columns::{batch, counts, doubles, index_of, names, schema, texts};
use super::read::{Gather, gather};
use crate::error::{Code, Error, Result};
use crate::features::transform::{InputKind, Values};
use crate::functions::MlContext;
use crate::functions::relation::{Arguments, Call, Kind, MlRelation, Parameter, sql_type};
use crate::kernels::nearest::nearest;
use crate::kernels::prepare::moments::{Moments, PairMoments};
use crate::kernels::prepare::order;
use crate::kernels::prepare::scores::{self, Contingency, Score};

/// Classes of a target at most.
const CLASSES_MAX: usize = 1000;
const COLUMNS_MAX: usize = 2000;

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    schema(&[
        ("rank", DataType::Int32),
        ("feature", DataType::Utf8),
        ("method", DataType::Utf8),
        ("score", DataType::Float64),
        ("p_value", DataType::Float64),
        ("rows", DataType::Int64),
        ("missing", DataType::Int64),
    ])
});

/// See [`MlRelation::doc`].
#[derive(Debug)]
pub(super) struct FeatureScores;

/// A statistic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Method {
    AnovaF,
    FRegression,
    Chi2,
    MutualInfo,
}

const METHODS: [(&str, Method); 4] =
    [("anova_f", Method::AnovaF), ("f_regression", Method::FRegression), ("chi2", Method::Chi2), ("mutual_info", Method::MutualInfo)];

impl Method {
    fn name(self) -> &'static str {
        METHODS.iter().find(|(_, method)| *method == self).map_or("", |(name, _)| name)
    }

    fn read(text: &str) -> Result<Option<Self>> {
        let text = text.to_lowercase();
        if text == "auto" {
            return Ok(None);
        }
        let found = METHODS.iter().find(|(name, _)| *name == text).map(|(_, method)| Some(*method));
        found.ok_or_else(|| {
            let names = METHODS.iter().map(|(name, _)| *name).chain(["auto"]);
            let error = Error::invalid(format!("there is no method \"{text}\""))
                .detail(format!("The methods are {}.", names.clone().collect::<Vec<_>>().join(", ")));
            match nearest(&text, names) {
                Some(near) => error.hint(format!("Perhaps you meant \"{near}\".")),
                None => error,
            }
        })
    }
}

impl MlRelation for FeatureScores {
    fn name(&self) -> &'static str {
        "feature_scores"
    }

    fn parameters(&self) -> &'static [Parameter] {
        const PARAMETERS: &[Parameter] = &[
            Parameter::required("source", Kind::Source, "The table."),
            Parameter::required("target", Kind::Text, "The column to be told: a class (text, boolean, whole number), or a double."),
            Parameter::optional("method", Kind::Text, "'auto'", "anova_f, chi2, mutual_info or f_regression; auto: all that fit."),
            Parameter::optional("columns", Kind::Text, "NULL", "Which columns, 'a, b'; by default all that can be scored."),
            Parameter::optional("top_k", Kind::Integer, "NULL", "Only the best so many by each method."),
            Parameter::optional("bins", Kind::Integer, "10", "Equally full buckets that mutual_info cuts numbers into, 2 to 1000."),
        ];
        PARAMETERS
    }

    fn doc(&self) -> &'static str {
        "How much each column says about a target, best first by each method. anova_f: one-way analysis of variance of a number over classes \
         (scikit-learn's f_classif); chi2: Pearson's statistic of independence of a category and a class (scipy's chi2_contingency without \
         correction, scikit-learn's chi2 over one-hot columns), or with method => 'chi2' of a number that is not negative scikit-learn's \
         chi2; mutual_info: mutual information in nats of categories, and of numbers cut into equally full buckets (mutual_info_score); \
         f_regression: the F of a straight line through a number and a double target. Rows whose target is missing are left out; a missing \
         number is left out of its own column's score and counted in missing; a missing category is a category. The score is NULL where \
         none is defined, as for a column that does not vary. The columns are held in memory."
    }

    fn example(&self) -> &'static str {
        "SELECT rank, feature, score FROM feature_scores('sessions', 'Revenue', method => 'mutual_info', top_k => 5)"
    }

    fn schema(&self, args: &Arguments, source: Option<&Schema>, _: &MlContext) -> Result<SchemaRef> {
        if let (Some(source), Some(target)) = (source, args.text("target")) {
            target_index(source, target)?;
        }
        args.text("method").map(Method::read).transpose()?;
        Ok(Arc::clone(&SCHEMA))
    }

    fn execute(&self, call: Call) -> Result<SendableRecordBatchStream> {
        let own = call.clone();
        Ok(call.once(async move { score(&own).await }))
    }
}

/// The target's place: its name as it is written, or in lower case.
fn target_index(source: &Schema, target: &str) -> Result<usize> {
    let name = names(target).into_iter().next().unwrap_or_default();
    source.index_of(target).or_else(|_| index_of(source, &name))
}

/// What is read: the target first.
struct Columns {
    places: Arc<[(usize, InputKind)]>,
    names: Arc<[String]>,
    values: Vec<Values>,
}

impl Columns {
    fn new(places: &Arc<[(usize, InputKind)]>, names: &Arc<[String]>) -> Self {
        let values = places.iter().map(|(_, kind)| Values::empty(*kind)).collect();
        Self { places: Arc::clone(places), names: Arc::clone(names), values }
    }
}

impl Gather for Columns {
    fn push(&mut self, batch: &RecordBatch) -> Result<()> {
        for (((place, _), name), values) in self.places.iter().zip(self.names.iter()).zip(&mut self.values) {
            values.append(name, batch.columns().get(*place).ok_or_else(|| Error::internal("a source lost a column"))?)?;
        }
        Ok(())
    }

    fn merge(&mut self, other: Self) {
        self.values.iter_mut().zip(other.values).for_each(|(mine, theirs)| mine.extend(theirs));
    }

    fn bytes(&self) -> usize {
        // Codes, buckets and counts of one column at a time come on top.
        self.values.iter().map(Values::bytes).sum::<usize>() + self.values.iter().map(Values::len).max().unwrap_or(0) * 32
    }
}

/// The target of every row.
enum Target {
    /// NULL where missing.
    Classes(Vec<Option<u32>>, usize),
    Numbers(Vec<f64>),
}

/// The columns to read, the target first.
fn places(call: &Call, source: &Schema) -> Result<Vec<(usize, InputKind)>> {
    let target = target_index(source, call.args.required_text("target")?)?;
    let kind_of = |index: usize| -> Option<InputKind> {
        let data_type = source.field(index).data_type();
        let boolean = *data_type == DataType::Boolean;
        [InputKind::Number, InputKind::Category].into_iter().find(|kind| kind.reads(data_type) && !(boolean && *kind == InputKind::Number))
    };
    let target_kind = match source.field(target).data_type() {
        found if found.is_floating() || matches!(found, DataType::Decimal128(..)) => InputKind::Number,
        found if InputKind::Category.reads(found) => InputKind::Category,
        found => {
            return Err(Error::new(Code::DatatypeMismatch, format!("a target cannot be of type {}", sql_type(found))));
        }
    };
    let mut places = vec![(target, target_kind)];
    match call.args.text("columns") {
        None => {
            let scored = |index: &usize| *index != target && !source.field(*index).data_type().is_temporal();
            places.extend((0..source.fields().len()).filter(scored).filter_map(|index| kind_of(index).map(|kind| (index, kind))));
        }
        Some(text) => {
            for name in names(text) {
                let index = index_of(source, &name)?;
                let kind = kind_of(index).ok_or_else(|| {
                    Error::new(Code::DatatypeMismatch, format!("column \"{name}\" cannot be scored"))
                        .detail(format!("Its type is {}.", sql_type(source.field(index).data_type())))
                })?;
                places.push((index, kind));
            }
        }
    }
    if places.len() < 2 || places.len() > COLUMNS_MAX {
        let message = if places.len() < 2 {
            "the source has no column to score".to_owned()
        } else {
            format!("at most {COLUMNS_MAX} columns can be scored")
        };
        return Err(Error::invalid(message));
    }
    Ok(places)
}

async fn score(call: &Call) -> DfResult<RecordBatch> {
    let source = call.source.as_ref().map(|source| source.plan.schema()).ok_or_else(|| call.args.missing("source"))?;
    let method = Method::read(call.args.text("method").unwrap_or("auto"))?;
    let bins = call.args.integer_in("bins", 10, 2..=1000)? as usize;
    let top = call.args.integer_in("top_k", i64::MAX, 1..=i64::MAX)? as usize;
    let places: Arc<[(usize, InputKind)]> = places(call, &source)?.into();
    let names: Arc<[String]> = places.iter().map(|(index, _)| source.field(*index).name().clone()).collect();
    let (columns, room) = gather(call, "feature_scores", || Columns::new(&places, &names)).await?;
    let token = call.statement().cancel.clone();
    let work = move || scored(&columns, method, bins, || if token.is_cancelled() { Err(Error::cancelled()) } else { Ok(()) });
    let rows = tokio::task::spawn_blocking(work).await.map_err(|error| Error::internal(format!("a worker failed: {error}")))??;
    drop(room);
    ranked(rows, top)
}

/// One column by one method.
struct Row {
    feature: String,
    method: Method,
    score: Option<Score>,
    rows: u64,
    missing: u64,
}

fn scored(columns: &Columns, method: Option<Method>, bins: usize, check: impl Fn() -> Result<()>) -> Result<Vec<Row>> {
    let mut features = columns.names.iter().zip(&columns.values);
    let Some((target_name, target)) = features.next() else { return Ok(Vec::new()) };
    let target = self::target(target_name, target)?;
    let mut rows = Vec::new();
    for (name, values) in features {
        check()?;
        let methods: Vec<Method> = match method {
            Some(method) => vec![method],
            None => match (values, &target) {
                (Values::Numbers(_), Target::Classes(..)) => vec![Method::AnovaF, Method::MutualInfo],
                (Values::Numbers(_), Target::Numbers(_)) => vec![Method::FRegression, Method::MutualInfo],
                (_, Target::Classes(..)) => vec![Method::Chi2, Method::MutualInfo],
                (_, Target::Numbers(_)) => vec![Method::MutualInfo],
            },
        };
        for wanted in methods {
            match one(name, values, &target, wanted, bins)? {
                Some(row) => rows.push(row),
                // With a method of their own choice people hear why a column they named has no score.
                None if method.is_some() => rows.push(Row { feature: name.clone(), method: wanted, score: None, rows: 0, missing: 0 }),
                None => {}
            }
        }
    }
    Ok(rows)
}

fn target(name: &str, values: &Values) -> Result<Target> {
    match values {
        Values::Numbers(values) => Ok(Target::Numbers(values.clone())),
        Values::Categories(coded) => {
            let (codes, count) = coded.classes();
            if count > CLASSES_MAX {
                return Err(Error::invalid(format!("target \"{name}\" has {count} classes"))
                    .detail(format!("A target has at most {CLASSES_MAX} classes."))
                    .hint(format!("Cast it when it is a number: {name}::double precision.")));
            }
            Ok(Target::Classes(codes, count))
        }
        Values::Times(_) => Err(Error::internal("a target is a time")),
    }
}

/// The score of a column; none when the method does not fit it.
fn one(name: &str, values: &Values, target: &Target, method: Method, bins: usize) -> Result<Option<Row>> {
    let row = |score, rows, missing| Some(Row { feature: name.to_owned(), method, score, rows, missing });
    Ok(match (method, values, target) {
        (Method::AnovaF | Method::Chi2, Values::Numbers(values), Target::Classes(classes, count)) => {
            let (moments, missing) = by_class(values, classes, *count);
            if method == Method::Chi2 && moments.iter().any(|class| class.min < 0.0) {
                return Err(Error::invalid(format!("chi2 needs numbers that are not negative, and \"{name}\" has some"))
                    .hint("Use anova_f or mutual_info."));
            }
            if moments.iter().any(|class| !class.is_finite()) {
                return Err(Error::new(Code::NumericOutOfRange, format!("column \"{name}\" holds numbers too large to add up")));
            }
            let rows = moments.iter().map(|class| class.count).sum();
            row(if method == Method::AnovaF { scores::anova(&moments) } else { scores::chi_squared_amount(&moments) }, rows, missing)
        }
        (Method::FRegression, Values::Numbers(values), Target::Numbers(targets)) => {
            let mut pairs = PairMoments::default();
            values.iter().zip(targets).for_each(|(x, y)| pairs.add(*x, *y));
            let missing = values.iter().zip(targets).filter(|(x, y)| x.is_nan() && !y.is_nan()).count() as u64;
            row(scores::regression(&pairs), pairs.x.count, missing)
        }
        (Method::Chi2, Values::Categories(coded), Target::Classes(classes, _)) => {
            let (table, rows, missing) = contingency(&coded.classes().0, classes, true);
            row(table.chi_squared(), rows, missing)
        }
        (Method::MutualInfo, values, target) => {
            let (features, keep) = match values {
                Values::Numbers(values) => (cut(values, bins), false),
                Values::Categories(coded) => (coded.classes().0, true),
                Values::Times(_) => return Ok(None),
            };
            let binned;
            let classes = match target {
                Target::Classes(classes, _) => classes,
                Target::Numbers(targets) => {
                    binned = cut(targets, bins);
                    &binned
                }
            };
            let (table, rows, missing) = contingency(&features, classes, keep);
            row(table.mutual_information(), rows, missing)
        }
        _ => None,
    })
}

/// Moments of the numbers of each class, and how many rows with a class have none.
fn by_class(values: &[f64], classes: &[Option<u32>], count: usize) -> (Vec<Moments>, u64) {
    let mut moments = vec![Moments::default(); count];
    let mut missing = 0;
    for (value, class) in values.iter().zip(classes) {
        let Some(moments) = class.and_then(|class| moments.get_mut(class as usize)) else { continue };
        missing += u64::from(value.is_nan());
        moments.add(*value);
    }
    (moments, missing)
}

/// The bucket of every number among equally full ones.
fn cut(values: &[f64], bins: usize) -> Vec<Option<u32>> {
    let cuts = order::quantile_cuts(&order::sorted(values), bins);
    values.iter().map(|value| (!value.is_nan()).then(|| order::bucket(&cuts, *value) as u32)).collect()
}

/// Counts of pairs over the rows with a class; with `keep`, a missing category is one.
fn contingency(features: &[Option<u32>], classes: &[Option<u32>], keep: bool) -> (Contingency, u64, u64) {
    let mut counted: BTreeMap<(u32, u32), u64> = BTreeMap::new();
    let (mut rows, mut missing) = (0, 0);
    for (feature, class) in features.iter().zip(classes) {
        let Some(class) = class else { continue };
        missing += u64::from(feature.is_none());
        let Some(feature) = feature.or(if keep { Some(u32::MAX) } else { None }) else { continue };
        *counted.entry((feature, *class)).or_default() += 1;
        rows += 1;
    }
    let mut table = Contingency::default();
    counted.into_iter().for_each(|((feature, class), count)| table.add(feature, class, count));
    (table, rows, missing)
}

/// Best first within each method, ties by name; scores that are not defined come last.
fn ranked(mut rows: Vec<Row>, top: usize) -> DfResult<RecordBatch> {
    let value = |row: &Row| row.score.map_or(f64::NEG_INFINITY, |score| if score.value.is_nan() { f64::NEG_INFINITY } else { score.value });
    rows.sort_by(|a, b| a.method.cmp(&b.method).then_with(|| value(b).total_cmp(&value(a))).then_with(|| a.feature.cmp(&b.feature)));
    let mut kept: Vec<(i32, &Row)> = Vec::new();
    for group in rows.chunk_by(|a, b| a.method == b.method) {
        kept.extend(group.iter().take(top).enumerate().map(|(at, row)| (at as i32 + 1, row)));
    }
    let arrays = vec![
        Arc::new(kept.iter().map(|(rank, _)| Some(*rank)).collect::<Int32Array>()) as arrow::array::ArrayRef,
        texts(kept.iter().map(|(_, row)| Some(&row.feature))),
        texts(kept.iter().map(|(_, row)| Some(row.method.name()))),
        doubles(kept.iter().map(|(_, row)| row.score.map(|score| score.value))),
        doubles(kept.iter().map(|(_, row)| row.score.and_then(|score| score.p_value))),
        counts(kept.iter().map(|(_, row)| row.rows)),
        counts(kept.iter().map(|(_, row)| row.missing)),
    ];
    batch(&SCHEMA, arrays)
}
