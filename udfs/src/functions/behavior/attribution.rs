//! `attribution(source, conversion, channel, …)`: which touchpoints conversions are credited to.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Decimal128Array, Float64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::error::Result as DfResult;
use datafusion::execution::SendableRecordBatchStream;

use super::reading::{COLUMNS, Collector, Names, Row, SOURCE, each_user, event_source, renumber, schema, texts};
use crate::error::{Code, Error, Result};
use crate::functions::MlContext;
use crate::functions::relation::{Arguments, Call, DAY_US, Kind, MlRelation, Parameter};
use crate::kernels::behavior::attribution::{Journeys, MARKOV_CHANNELS_MAX, Model, Touch, UNITS};
use crate::kernels::behavior::exact_sum::ExactSum;
use crate::kernels::nearest::nearest;

/// See [`MlRelation::doc`].
#[derive(Debug)]
pub(super) struct Attribution;

const NAME: &str = "attribution";
/// Digits of a credit, and how many of them stand behind the point.
const CREDIT: DataType = DataType::Decimal128(38, 12);

fn columns() -> SchemaRef {
    schema(&[("channel", DataType::Utf8), ("credit", CREDIT), ("share", DataType::Float64), ("value", DataType::Float64)])
}

impl MlRelation for Attribution {
    fn name(&self) -> &'static str {
        NAME
    }

    fn parameters(&self) -> &'static [Parameter] {
        const PARAMETERS: &[Parameter] = &[
            SOURCE,
            Parameter::required("conversion", Kind::Text, "The event that is a conversion."),
            Parameter::required("channel", Kind::Text, "The column with the channel; rows where it is NULL are no touchpoints."),
            Parameter::optional(
                "model",
                Kind::Text,
                "'last'",
                "`first`, `last`, `linear`, `time_decay`, `position`, `markov` or `shapley`.",
            ),
            Parameter::optional("window", Kind::Duration, "'30 days'", "How long before a conversion a touchpoint counts (inclusive)."),
            Parameter::optional("half_life", Kind::Duration, "'7 days'", "`time_decay`: a touchpoint so much older counts half."),
            Parameter::optional(
                "touches",
                Kind::Any,
                "NULL",
                "The events that are touchpoints, as texts; every event but the conversion without it.",
            ),
            Parameter::optional("value", Kind::Text, "NULL", "A column with what a conversion is worth."),
            COLUMNS,
        ];
        PARAMETERS
    }

    fn doc(&self) -> &'static str {
        "One row per channel: the conversions credited to it, their share, and their value. The credits, as decimals, add up to the number of \
         conversions exactly; those without a touchpoint in the window stand under a NULL channel. A touchpoint at the time of the conversion \
         counts, and may serve several conversions. `position` gives 40 % to the first, 40 % to the last and 20 % to those between; `markov` \
         shares by how many conversions a first-order chain of all paths loses without the channel; `shapley` gives each path's \
         channels equal shares, the Shapley value of the game in which a set of channels wins the paths inside it."
    }

    fn example(&self) -> &'static str {
        "SELECT channel, credit FROM attribution('events', 'purchase', 'country', model => 'linear', touches => 'return') ORDER BY credit DESC"
    }

    fn schema(&self, args: &Arguments, _: Option<&Schema>, _: &MlContext) -> Result<SchemaRef> {
        if ["model", "half_life", "window", "touches"].iter().all(|name| !args.is_unbound(name)) {
            Request::new(args)?;
        }
        Ok(columns())
    }

    fn execute(&self, call: Call) -> Result<SendableRecordBatchStream> {
        let request = Request::new(&call.args)?;
        let own = call.clone();
        Ok(call.once(async move { rows(&own, &request).await }))
    }
}

/// What a call asks for.
#[derive(Debug, Clone)]
struct Request {
    conversion: String,
    touches: Option<Vec<String>>,
    model: Model,
    window: u64,
}

impl Request {
    fn new(args: &Arguments) -> Result<Self> {
        let length = |name: &str, default: i64| {
            let given = args.micros(name).unwrap_or(default);
            u64::try_from(given).map_err(|_| Error::invalid(format!("{name} of {NAME} cannot be negative")))
        };
        let half_life = length("half_life", 7 * DAY_US)?;
        let model = match args.text("model").unwrap_or("last") {
            "first" => Model::First,
            "last" => Model::Last,
            "linear" => Model::Linear,
            "time_decay" => Model::TimeDecay { half_life },
            "position" | "position_based" => Model::Position,
            "markov" => Model::Markov,
            "shapley" => Model::Shapley,
            other => {
                let error = Error::invalid(format!("there is no attribution model \"{other}\""))
                    .detail(format!("Models are {}.", Model::NAMES.join(", ")));
                return Err(match nearest(other, Model::NAMES) {
                    Some(near) => error.hint(format!("Perhaps you meant \"{near}\".")),
                    None => error,
                });
            }
        };
        let touches = texts(args, NAME, "touches")?;
        Ok(Self {
            conversion: args.text("conversion").unwrap_or_default().to_owned(),
            touches,
            model,
            window: length("window", 30 * DAY_US)?,
        })
    }
}

/// The journeys of one stream of users.
struct Collected {
    request: Request,
    journeys: Journeys,
    /// The value of conversions, and what of it goes to each channel.
    values: BTreeMap<Option<u32>, ExactSum>,
    total: ExactSum,
    touches: Vec<Touch>,
}

impl Collected {
    fn new(request: Request) -> Self {
        let journeys = Journeys::new(request.model);
        Self { request, journeys, values: BTreeMap::new(), total: ExactSum::default(), touches: vec![] }
    }

    fn convert(&mut self, time: i64, value: Option<f64>, begin: usize, end: usize) {
        let value = value.filter(|value| value.is_finite());
        let values = &mut self.values;
        self.journeys.converted(time, &self.touches[begin..end], &mut |channel, units| {
            if let Some(value) = value {
                values.entry(channel).or_default().add(value * (units as f64 / UNITS as f64));
            }
        });
        self.total.add(value.unwrap_or(0.0));
    }
}

impl Collector for Collected {
    fn user(&mut self, rows: &mut Vec<Row>, names: &mut Names) {
        let conversion = names.events.intern(&self.request.conversion);
        let wanted: Option<Vec<u32>> =
            self.request.touches.as_ref().map(|touches| touches.iter().map(|touch| names.events.intern(touch)).collect());
        let is_touch = |row: &Row| match (row.event, &wanted) {
            (Some(event), Some(wanted)) => wanted.contains(&event),
            (Some(event), None) => event != conversion,
            (None, wanted) => wanted.is_none(),
        };
        // Touchpoints at one time follow one another by their channels' names, and come before a conversion then.
        let mut touches: Vec<Touch> =
            rows.iter().filter(|row| is_touch(row)).filter_map(|row| Some(Touch { time: row.time, channel: row.label? })).collect();
        touches.sort_by(|a, b| a.time.cmp(&b.time).then_with(|| names.labels.get(a.channel).cmp(names.labels.get(b.channel))));
        self.touches = touches;
        let (mut begin, mut end) = (0, 0);
        for row in rows.iter().filter(|row| row.event == Some(conversion)) {
            let in_time = |touch: &Touch| row.time.abs_diff(touch.time) <= self.request.window;
            end += self.touches[end..].iter().take_while(|touch| touch.time <= row.time).count();
            begin += self.touches[begin..end].iter().take_while(|touch| !in_time(touch)).count();
            self.convert(row.time, row.value, begin, end);
        }
        self.journeys.ended(&self.touches[end..]);
    }

    fn heap_bytes(&self) -> usize {
        self.journeys.heap_bytes() + self.values.len() * 128 + self.touches.capacity() * size_of::<Touch>()
    }
}

async fn rows(call: &Call, request: &Request) -> DfResult<RecordBatch> {
    let channel = call.args.required_text("channel")?.to_owned();
    let value = call.args.text("value").map(str::to_owned);
    let with_value = value.is_some();
    let source = event_source(call, vec![channel], value).await?;
    let streams = each_user(call, &source, || Collected::new(request.clone())).await?;
    let (channels, numbers) = renumber(streams.iter().map(|(_, names)| &names.labels));
    let (mut journeys, mut values, mut total) =
        (Journeys::new(request.model), BTreeMap::<Option<u32>, ExactSum>::new(), ExactSum::default());
    for ((collected, _), numbers) in streams.iter().zip(&numbers) {
        journeys.merge(&collected.journeys.relabelled(numbers));
        collected.total.parts().iter().for_each(|part| total.add(*part));
        for (channel, sum) in &collected.values {
            let channel = channel.and_then(|channel| numbers.get(channel as usize).copied());
            let mine = values.entry(channel).or_default();
            sum.parts().iter().for_each(|part| mine.add(*part));
        }
    }
    let credits = journeys.credits().ok_or_else(|| {
        Error::new(Code::TooComplex, format!("markov attribution takes at most {MARKOV_CHANNELS_MAX} channels"))
            .detail(format!("The source has {}.", channels.len()))
            .hint("Use shapley, or put rare channels together.")
    })?;
    let worth = |channel: &Option<u32>, share: f64| match request.model {
        // The chain shares all conversions alike, whatever they are worth, but for those without a touchpoint.
        Model::Markov if channel.is_some() => share * (total.value() - values.get(&None).map_or(0.0, ExactSum::value)),
        _ => values.get(channel).map_or(0.0, ExactSum::value),
    };
    let touched: u128 = credits.iter().filter(|(channel, _)| channel.is_some()).map(|(_, units)| units).sum();
    let all = u128::from(UNITS) * u128::from(journeys.conversions());
    let share = |units: u128, of: u128| if of == 0 { 0.0 } else { units as f64 / of as f64 };
    let name = |channel: &Option<u32>| channel.and_then(|channel| channels.get(channel as usize).cloned());
    let arrays: Vec<ArrayRef> = vec![
        Arc::new(credits.keys().map(name).collect::<StringArray>()),
        Arc::new(credits.values().map(|units| i128::try_from(*units).ok()).collect::<Decimal128Array>().with_precision_and_scale(38, 12)?),
        Arc::new(credits.values().map(|units| Some(share(*units, all))).collect::<Float64Array>()),
        Arc::new(
            credits.iter().map(|(channel, units)| with_value.then(|| worth(channel, share(*units, touched)))).collect::<Float64Array>(),
        ),
    ];
    Ok(RecordBatch::try_new(columns(), arrays)?)
}
