//! `score_users(model, source => NULL, as_of => …, since => NULL)`

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Builder, Int32Array, Int64Array, StringBuilder, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::execution::SendableRecordBatchStream;

use super::users::{self, Scored};
use crate::error::Result;
use crate::functions::MlContext;
use crate::functions::ml::generate::check_predicts;
use crate::functions::relation::{Arguments, Call, Kind, MlRelation, Parameter};

/// Scores every user of a source.
#[derive(Debug)]
pub struct ScoreUsers;

impl MlRelation for ScoreUsers {
    fn name(&self) -> &'static str {
        "score_users"
    }

    fn parameters(&self) -> &'static [Parameter] {
        const PARAMETERS: [Parameter; 4] = [
            Parameter::required("model", Kind::Model, "The model, `name` or `name@version`."),
            Parameter::optional("source", Kind::Source, "NULL", "Events to score; by default what the model was trained on, as it is now."),
            Parameter::optional(
                "as_of",
                Kind::Timestamp,
                "NULL",
                "Only events up to this time count; by default the largest event time of the source.",
            ),
            Parameter::optional("since", Kind::Timestamp, "NULL", "Only users with an event after this time (and up to `as_of`)."),
        ];
        &PARAMETERS
    }

    fn doc(&self) -> &'static str {
        "Scores every user of a source, in bounded memory: the two most likely classes with their calibrated probabilities, \
         the entropy of all classes (in nats), the number of events and the last one, each up to `as_of`. A history shorter \
         than `min_history` has NULL predictions. A model that predicts a number has NULL in these columns as well: \
         predict_value gives its numbers. Rows come in no particular order."
    }

    fn example(&self) -> &'static str {
        "SELECT user_id, intent, probability FROM score_users('shopper') ORDER BY probability DESC LIMIT 10"
    }

    fn schema(&self, args: &Arguments, _source: Option<&Schema>, context: &MlContext) -> Result<SchemaRef> {
        if let Some(model) = args.resolve_model("model", context)? {
            check_predicts(&model.name, &context.registry.info(&model)?.arch)?;
        }
        let key = users::key_type(args, context, self.name())?;
        let time = || DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        Ok(Arc::new(Schema::new(vec![
            Field::new("user_id", key.data_type(), false),
            Field::new("intent", DataType::Utf8, true),
            Field::new("probability", DataType::Float64, true),
            Field::new("runner_up", DataType::Utf8, true),
            Field::new("runner_up_probability", DataType::Float64, true),
            Field::new("entropy", DataType::Float64, true),
            Field::new("n_events", DataType::Int64, false),
            Field::new("last_event", time(), true),
            Field::new("as_of", time(), false),
            Field::new("model_version", DataType::Int32, false),
        ])))
    }

    fn execute(&self, call: Call) -> Result<SendableRecordBatchStream> {
        Ok(users::stream(call, self.name(), columns))
    }
}

fn columns(scored: &Scored) -> Result<Vec<ArrayRef>> {
    let count = scored.users.len();
    let classes = &scored.model.manifest.info.classes;
    let (mut intent, mut runner_up) = (StringBuilder::new(), StringBuilder::new());
    let mut probability = Float64Builder::with_capacity(count);
    let mut runner_up_probability = Float64Builder::with_capacity(count);
    let mut entropy = Float64Builder::with_capacity(count);
    for row in &scored.rows {
        let all = row.map(|row| &scored.scores.probabilities[row * scored.scores.classes..][..scored.scores.classes]);
        let best = all.map(two_most_likely).unwrap_or_default();
        intent.append_option(best[0].and_then(|(class, _)| classes.get(class)));
        probability.append_option(best[0].map(|(_, probability)| probability));
        runner_up.append_option(best[1].and_then(|(class, _)| classes.get(class)));
        runner_up_probability.append_option(best[1].map(|(_, probability)| probability));
        entropy.append_option(all.filter(|all| !all.is_empty()).map(shannon_entropy));
    }
    let time = |times: TimestampMicrosecondArray| Arc::new(times.with_timezone("UTC"));
    Ok(vec![
        scored.user_column(),
        Arc::new(intent.finish()),
        Arc::new(probability.finish()),
        Arc::new(runner_up.finish()),
        Arc::new(runner_up_probability.finish()),
        Arc::new(entropy.finish()),
        Arc::new(Int64Array::from(scored.events.clone())),
        time(scored.last_us.iter().copied().collect()),
        time(TimestampMicrosecondArray::from_value(scored.as_of_us, count)),
        Arc::new(Int32Array::from_value(scored.version(), count)),
    ])
}

/// The two largest probabilities with their classes, the first of equals first.
fn two_most_likely(probabilities: &[f64]) -> [Option<(usize, f64)>; 2] {
    let mut best: [Option<(usize, f64)>; 2] = [None, None];
    for candidate in probabilities.iter().copied().enumerate() {
        let beats = |place: &Option<(usize, f64)>| place.is_none_or(|(_, probability)| candidate.1 > probability);
        if beats(&best[0]) {
            best = [Some(candidate), best[0]];
        } else if beats(&best[1]) {
            best[1] = Some(candidate);
        }
    }
    best
}

/// `-Σ p ln p`, in nats: 0 when one class is certain, `ln n` when all are equally likely.
fn shannon_entropy(probabilities: &[f64]) -> f64 {
    probabilities.iter().filter(|p| **p > 0.0).map(|p| -p * p.ln()).sum::<f64>().max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_most_likely_classes() {
        let check = |given: &[f64], expected: [Option<usize>; 2]| {
            assert_eq!(two_most_likely(given).map(|place| place.map(|(class, _)| class)), expected, "{given:?}");
        };
        check(&[0.2, 0.5, 0.3], [Some(1), Some(2)]);
        check(&[0.5, 0.5], [Some(0), Some(1)]);
        check(&[0.1, 0.1, 0.8], [Some(2), Some(0)]);
        check(&[1.0], [Some(0), None]);
        check(&[], [None, None]);
    }

    #[test]
    fn entropy_is_between_zero_and_that_of_a_fair_die() {
        assert!(shannon_entropy(&[1.0, 0.0]).abs() < 1e-12);
        assert!((shannon_entropy(&[0.25; 4]) - 4f64.ln()).abs() < 1e-12);
    }
}
