//! `ab_test(source, kind => 'mean', variant => 'variant', value => 'value', …)`

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Float64Type, Schema, SchemaRef};
use datafusion::error::Result as DfResult;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::execute_stream;
use futures::StreamExt;

use super::variants::parse_weights;
use crate::error::{Error, Result};
use crate::functions::MlContext;
use crate::functions::relation::{Arguments, Call, Kind, MlRelation, Parameter};
use crate::functions::typed::{column_at, number_at, unknown_word};
use crate::kernels::nearest::nearest;
use crate::kernels::stats::contingency::goodness_of_fit;
use crate::kernels::stats::lift::{Cuped, always_valid, ratio, relative};
use crate::kernels::stats::moments::{PairMoments, PairSummary, Summary};
use crate::kernels::stats::proportion::{Proportion, proportions_z_test};
use crate::kernels::stats::t_test::{Difference, Variances, t_test};

/// Variants, at most: a column with more is not one of variants.
const VARIANTS_MAX: usize = 100;

/// See [`MlRelation::doc`].
#[derive(Debug)]
pub(super) struct AbTest;

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Metric {
    Mean,
    Proportion,
    Ratio,
}

const NUMBERS: [&str; 16] = [
    "mean",
    "standard_error",
    "difference",
    "ci_low",
    "ci_high",
    "lift",
    "lift_low",
    "lift_high",
    "statistic",
    "degrees_of_freedom",
    "p_value",
    "always_low",
    "always_high",
    "always_p_value",
    "variance_reduction",
    "srm_p_value",
];

fn columns() -> SchemaRef {
    let mut fields = vec![
        Field::new("variant", DataType::Utf8, false),
        Field::new("control", DataType::Utf8, false),
        Field::new("n", DataType::Int64, false),
    ];
    fields.extend(NUMBERS.map(|name| Field::new(name, DataType::Float64, true)));
    fields.push(Field::new("dropped_rows", DataType::Int64, false));
    Arc::new(Schema::new(fields))
}

impl MlRelation for AbTest {
    fn name(&self) -> &'static str {
        "ab_test"
    }

    fn parameters(&self) -> &'static [Parameter] {
        const PARAMETERS: &[Parameter] = &[
            Parameter::required("source", Kind::Source, "One row per unit of the experiment, as a rule per user."),
            Parameter::optional(
                "kind",
                Kind::Text,
                "'mean'",
                "`mean`, `proportion` (values are 0 and 1), or `ratio` (sum of values / sum of denominators).",
            ),
            Parameter::optional("variant", Kind::Text, "'variant'", "The column with the variant that the unit saw."),
            Parameter::optional("value", Kind::Text, "'value'", "The column with the measured number or boolean."),
            Parameter::optional("denominator", Kind::Text, "NULL", "The column with the denominator, for a ratio."),
            Parameter::optional(
                "covariate",
                Kind::Text,
                "NULL",
                "A column measured before the experiment, for a mean: what it explains is taken out (CUPED).",
            ),
            Parameter::optional(
                "control",
                Kind::Text,
                "NULL",
                "The variant that others are compared with; `control` when there is one, else the first name.",
            ),
            Parameter::optional(
                "shares",
                Kind::Text,
                "NULL",
                "How units were meant to be split, as in assign_variant; equally by default.",
            ),
            Parameter::optional("confidence", Kind::Float, "0.95", "Of all intervals, above 0 and below 1."),
            Parameter::optional(
                "tightest_at",
                Kind::Float,
                "5000",
                "The number of units of a comparison at which the always-valid interval is narrowest.",
            ),
        ];
        PARAMETERS
    }

    fn doc(&self) -> &'static str {
        "Reads an experiment: one row per variant, the control first, then by name. `difference` is the variant's mean minus the control's, \
         tested by Welch's t test (mean), the pooled z test with Wald's interval (proportion) or the delta method (ratio); `lift` is the \
         relative difference with its interval by the delta method. `always_low`, `always_high` and `always_p_value` hold however often one \
         looks (an asymptotic confidence sequence, the p value of the mSPRT). `variance_reduction` is the share of the variance that the \
         covariate took out of both compared variants. `srm_p_value` checks the split of units: below 0.001, distrust everything else. Rows \
         where a needed column is NULL or not finite do not count; `dropped_rows` says how many. Sums are exact: results do not depend on the \
         order or the partitions of the rows. Intervals of several variants are not corrected for their number."
    }

    fn example(&self) -> &'static str {
        "SELECT variant, n, mean, difference, p_value, srm_p_value\n\
         FROM ab_test((SELECT CASE WHEN \"Weekend\" THEN 'weekend' ELSE 'control' END AS variant, \"Revenue\" AS value FROM sessions), \
         kind => 'proportion')"
    }

    fn schema(&self, args: &Arguments, source: Option<&Schema>, _: &MlContext) -> Result<SchemaRef> {
        if let Some(source) = source {
            Plan::new(args, source)?;
        }
        Ok(columns())
    }

    fn execute(&self, call: Call) -> Result<SendableRecordBatchStream> {
        let own = call.clone();
        Ok(call.once(async move { rows(&own).await }))
    }
}

/// What a call asks for, its columns found.
#[derive(Debug)]
struct Plan {
    metric: Metric,
    confidence: f64,
    tightest_at: f64,
    control: Option<String>,
    shares: Option<Vec<(String, f64)>>,
    variant: usize,
    value: usize,
    second: Option<usize>,
}

/// The confidence of intervals.
///
/// # Errors
/// 22023 when it is not above 0 and below 1.
pub(super) fn confidence(args: &Arguments) -> Result<f64> {
    let confidence = args.float("confidence").unwrap_or(0.95);
    if confidence > 0.0 && confidence < 1.0 {
        return Ok(confidence);
    }
    Err(Error::invalid(format!("argument \"confidence\" must be above 0 and below 1, not {confidence}")))
}

impl Plan {
    fn new(args: &Arguments, source: &Schema) -> Result<Self> {
        let metric = match args.text("kind") {
            None | Some("mean") => Metric::Mean,
            Some("proportion") => Metric::Proportion,
            Some("ratio") => Metric::Ratio,
            Some(other) => return Err(unknown_word("ab_test", "kind", other, &["mean", "proportion", "ratio"])),
        };
        let second = match (metric, args.text("denominator"), args.text("covariate")) {
            (Metric::Ratio, None, _) if !args.is_unbound("denominator") => {
                return Err(Error::invalid("a ratio needs the argument \"denominator\""));
            }
            (Metric::Ratio, denominator, None) => denominator,
            (Metric::Mean, None, covariate) => covariate,
            (_, None, None) => None,
            (Metric::Mean | Metric::Proportion, Some(_), _) => return Err(Error::invalid("only a ratio has a denominator")),
            (_, _, Some(_)) => return Err(Error::invalid("only a mean takes a covariate")),
        };
        let tightest_at = args.float("tightest_at").unwrap_or(5000.0);
        if tightest_at.is_nan() || tightest_at < 1.0 {
            return Err(Error::invalid(format!("argument \"tightest_at\" of ab_test must be at least 1, not {tightest_at}")));
        }
        Ok(Self {
            metric,
            confidence: confidence(args)?,
            tightest_at,
            control: args.text("control").map(str::to_owned),
            shares: args.text("shares").map(parse_weights).transpose()?,
            variant: column_at(source, args.text("variant").unwrap_or("variant"))?,
            value: number_at(source, args.text("value").unwrap_or("value"))?,
            second: second.map(|name| number_at(source, name)).transpose()?,
        })
    }

    /// Takes a batch into the variants; the rows that were left out.
    fn take(&self, batch: &RecordBatch, variants: &mut BTreeMap<String, PairMoments>) -> DfResult<u64> {
        let names = cast(batch.column(self.variant), &DataType::Utf8)?;
        let numbers = |at: usize| cast(batch.column(at), &DataType::Float64);
        let (values, seconds) = (numbers(self.value)?, self.second.map(numbers).transpose()?);
        let wrong = || Error::internal("a cast gave another type");
        let names = names.as_string_opt::<i32>().ok_or_else(wrong)?;
        let values = values.as_primitive_opt::<Float64Type>().ok_or_else(wrong)?;
        let seconds = seconds.as_ref().map(|column| column.as_primitive_opt::<Float64Type>().ok_or_else(wrong)).transpose()?;
        let mut dropped = 0;
        for row in 0..batch.num_rows() {
            let second = seconds.map_or(Some(0.0), |column| column.is_valid(row).then(|| column.value(row)));
            let value = values.is_valid(row).then(|| values.value(row));
            let (Some(value), Some(second), true) = (value, second, names.is_valid(row)) else {
                dropped += 1;
                continue;
            };
            if !(value.is_finite() && second.is_finite()) {
                dropped += 1;
                continue;
            }
            if self.metric == Metric::Proportion && value != 0.0 && value != 1.0 {
                return Err(Error::invalid(format!("a proportion is of values 0 and 1, not {value}"))
                    .hint("Take kind => 'mean' for other numbers.")
                    .into());
            }
            let name = names.value(row);
            if !variants.contains_key(name) {
                if variants.len() >= VARIANTS_MAX {
                    return Err(Error::invalid(format!("an experiment has at most {VARIANTS_MAX} variants"))
                        .hint("Name the column of the variants: variant => '…'.")
                        .into());
                }
                variants.insert(name.to_owned(), PairMoments::default());
            }
            if let Some(moments) = variants.get_mut(name) {
                moments.add(value, second);
            }
        }
        Ok(dropped)
    }
}

async fn rows(call: &Call) -> DfResult<RecordBatch> {
    let source = call.source.as_ref().ok_or_else(|| call.args.missing("source"))?;
    let plan = Plan::new(&call.args, &source.plan.schema())?;
    let mut stream = execute_stream(Arc::clone(&source.plan), Arc::clone(&call.task))?;
    let (mut variants, mut dropped) = (BTreeMap::new(), 0);
    while let Some(batch) = stream.next().await {
        dropped += plan.take(&batch?, &mut variants)?;
    }
    let rows = compare(&plan, &variants)?;
    let control = control(&plan, &variants)?.unwrap_or_default();
    let number =
        |at: usize| Arc::new(rows.iter().map(|row| Some(row.numbers[at]).filter(|v| !v.is_nan())).collect::<Float64Array>()) as ArrayRef;
    let mut arrays: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.variant.as_str()))),
        Arc::new(StringArray::from_iter_values(rows.iter().map(|_| control.as_str()))),
        Arc::new(rows.iter().map(|row| row.count as i64).collect::<Int64Array>()),
    ];
    arrays.extend((0..NUMBERS.len()).map(number));
    arrays.push(Arc::new(rows.iter().map(|_| dropped as i64).collect::<Int64Array>()));
    Ok(RecordBatch::try_new(columns(), arrays)?)
}

/// One result row.
#[derive(Debug)]
struct Row {
    variant: String,
    count: u64,
    numbers: [f64; NUMBERS.len()],
}

/// The control: the one that was named, `control`, or the first name; `None` without rows.
fn control(plan: &Plan, variants: &BTreeMap<String, PairMoments>) -> Result<Option<String>> {
    match &plan.control {
        Some(name) if variants.contains_key(name) || variants.is_empty() => Ok(Some(name.clone())),
        Some(name) => {
            let there = variants.keys().map(String::as_str).collect::<Vec<_>>();
            let error = Error::invalid(format!("there is no variant \"{name}\"")).detail(format!("There are {}.", there.join(", ")));
            Err(match nearest(name, there.iter().copied()) {
                Some(near) => error.hint(format!("Perhaps you meant \"{near}\".")),
                None => error,
            })
        }
        None if variants.contains_key("control") => Ok(Some("control".to_owned())),
        None => Ok(variants.keys().next().cloned()),
    }
}

/// The p value of the split; NaN when one variant was meant to get nothing.
fn split_check(plan: &Plan, variants: &BTreeMap<String, PairMoments>) -> Result<f64> {
    let Some(shares) = &plan.shares else {
        let counts: Vec<u64> = variants.values().map(|moments| moments.summary().x.count).collect();
        return Ok(goodness_of_fit(&counts, &vec![1.0; counts.len()]));
    };
    if let Some(name) = variants.keys().find(|name| !shares.iter().any(|(share, weight)| share == *name && *weight > 0.0)) {
        return Err(Error::invalid(format!("variant \"{name}\" has units but no share")).hint("Give every variant in \"shares\"."));
    }
    let shares: Vec<&(String, f64)> = shares.iter().filter(|(_, weight)| *weight > 0.0).collect();
    let counts: Vec<u64> = shares.iter().map(|(name, _)| variants.get(name).map_or(0, |moments| moments.summary().x.count)).collect();
    Ok(goodness_of_fit(&counts, &shares.iter().map(|(_, weight)| *weight).collect::<Vec<_>>()))
}

fn compare(plan: &Plan, variants: &BTreeMap<String, PairMoments>) -> Result<Vec<Row>> {
    let Some(name) = control(plan, variants)? else { return Ok(Vec::new()) };
    let Some(base) = variants.get(&name) else { return Ok(Vec::new()) };
    let split = split_check(plan, variants)?;
    let cuped = (plan.metric == Metric::Mean && plan.second.is_some()).then(|| {
        let mut all = PairMoments::default();
        variants.values().for_each(|moments| all.merge(moments));
        Cuped::new(&all)
    });
    let others = variants.iter().filter(|(other, _)| **other != name);
    let row = |(variant, moments): (&String, &PairMoments)| row(plan, cuped.as_ref(), variant, moments, base, split);
    Ok(std::iter::once((&name, base)).chain(others).map(row).collect())
}

/// Mean and squared standard error of a variant.
fn estimate(plan: &Plan, cuped: Option<&Cuped>, units: &PairSummary) -> (f64, f64) {
    match (plan.metric, cuped) {
        (Metric::Ratio, _) => ratio(units),
        (Metric::Mean, Some(cuped)) => {
            let adjusted = cuped.adjust(units);
            (adjusted.mean, adjusted.mean_variance())
        }
        (Metric::Mean, None) => (units.x.mean, units.x.mean_variance()),
        (Metric::Proportion, _) => (units.x.mean, units.x.mean * (1.0 - units.x.mean) / units.x.count as f64),
    }
}

fn difference(plan: &Plan, cuped: Option<&Cuped>, variant: &PairMoments, base: &PairMoments) -> Difference {
    let (a, b) = (variant.summary(), base.summary());
    match plan.metric {
        Metric::Mean => {
            let (exact, adjust): (f64, &dyn Fn(&PairSummary) -> Summary) = match cuped {
                None => (variant.mean_difference(base), &|units| units.x),
                Some(cuped) => (cuped.adjust(&a).mean - cuped.adjust(&b).mean, &|units| cuped.adjust(units)),
            };
            t_test(exact, &adjust(&a), &adjust(&b), Variances::Unequal, plan.confidence)
        }
        Metric::Proportion => {
            let counts =
                |units: &PairSummary| Proportion { successes: (units.x.mean * units.x.count as f64).round() as u64, trials: units.x.count };
            proportions_z_test(counts(&a), counts(&b), true, plan.confidence)
        }
        Metric::Ratio => {
            let ((a, a_variance), (b, b_variance)) = (ratio(&a), ratio(&b));
            Difference::new(a - b, (a_variance + b_variance).sqrt(), f64::INFINITY, plan.confidence)
        }
    }
}

fn row(plan: &Plan, cuped: Option<&Cuped>, name: &str, moments: &PairMoments, base: &PairMoments, split: f64) -> Row {
    let (units, base_units) = (moments.summary(), base.summary());
    let count = units.x.count;
    let (mean, variance) = estimate(plan, cuped, &units);
    if std::ptr::eq(moments, base) {
        let mut numbers = [f64::NAN; NUMBERS.len()];
        (numbers[0], numbers[1], numbers[15]) = (mean, variance.sqrt(), split);
        return Row { variant: name.to_owned(), count, numbers };
    }
    let test = difference(plan, cuped, moments, base);
    let (base_mean, base_variance) = estimate(plan, cuped, &base_units);
    let (lift, lift_variance) = relative((mean, variance), (base_mean, base_variance));
    let lift = Difference::new(lift, lift_variance.sqrt(), f64::INFINITY, plan.confidence);
    let both = variance + base_variance;
    let always = always_valid(test.estimate, both, count + base_units.x.count, plan.confidence, plan.tightest_at);
    let plain = units.x.mean_variance() + base_units.x.mean_variance();
    let numbers = [
        mean,
        variance.sqrt(),
        test.estimate,
        test.interval.0,
        test.interval.1,
        lift.estimate,
        lift.interval.0,
        lift.interval.1,
        test.statistic,
        if test.degrees_of_freedom.is_finite() { test.degrees_of_freedom } else { f64::NAN },
        test.p_value,
        test.estimate - always.margin,
        test.estimate + always.margin,
        always.p_value,
        if cuped.is_some() { 1.0 - both / plain } else { f64::NAN },
        split,
    ];
    Row { variant: name.to_owned(), count, numbers }
}
