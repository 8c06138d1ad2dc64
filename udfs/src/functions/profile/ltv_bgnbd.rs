//! `ltv_bgnbd(source, horizon => '90 days', …)`

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::error::Result as DfResult;
use datafusion::execution::SendableRecordBatchStream;

use super::events::{AS_OF, COLUMNS, EVENT, SOURCE, key_type, time_type};
use super::lifetime::{customer, fit, mean_value};
use super::rfm::{days, time};
use crate::error::Result;
use crate::features::KeyType;
use crate::functions::MlContext;
use crate::functions::ml::predict::loaded::key_array;
use crate::functions::relation::{Arguments, Call, DAY_US, Kind, MlRelation, Parameter};

/// See [`MlRelation::doc`].
#[derive(Debug)]
pub(super) struct LtvBgNbd;

const NUMBERS: [&str; 7] = ["recency_days", "age_days", "mean_value", "p_alive", "expected_purchases", "expected_value", "ltv"];

fn columns(key: KeyType) -> SchemaRef {
    let mut fields = vec![Field::new("user_id", key.data_type(), false), Field::new("frequency", DataType::Int64, false)];
    fields.extend(NUMBERS.map(|name| Field::new(name, DataType::Float64, true)));
    fields.push(Field::new("as_of", time_type(), false));
    Arc::new(Schema::new(fields))
}

impl MlRelation for LtvBgNbd {
    fn name(&self) -> &'static str {
        "ltv_bgnbd"
    }

    fn parameters(&self) -> &'static [Parameter] {
        const PARAMETERS: &[Parameter] = &[
            SOURCE,
            Parameter::optional("horizon", Kind::Duration, "'90 days'", "How far ahead purchases are counted."),
            COLUMNS,
            EVENT,
            AS_OF,
        ];
        PARAMETERS
    }

    fn doc(&self) -> &'static str {
        "The life-time value of every user who bought something, in the order of the users, by BG/NBD (Fader, Hardie & Lee, 2005) and \
         Gamma-Gamma (Fader & Hardie, 2013), fitted to the source itself; bgnbd_fit shows the parameters. Days with orders are the \
         purchases: frequency is their number after the first, recency_days the time from the first to the last, age_days from the first \
         to as_of. p_alive is the probability that the user is still a customer, expected_purchases how often the user buys within the \
         horizon, expected_value what a purchase is worth, ltv their product, not discounted. The last two are NULL where no Gamma-Gamma \
         can be fitted. Error 22023 when there are too few customers, or none who came back."
    }

    fn example(&self) -> &'static str {
        "SELECT user_id, p_alive, expected_purchases, ltv FROM ltv_bgnbd('events', horizon => '180 days', event => 'purchase') ORDER BY ltv DESC LIMIT 5"
    }

    fn schema(&self, args: &Arguments, source: Option<&Schema>, _: &MlContext) -> Result<SchemaRef> {
        args.positive_micros("horizon")?;
        Ok(columns(key_type(args, source)?))
    }

    fn execute(&self, call: Call) -> Result<SendableRecordBatchStream> {
        let own = call.clone();
        Ok(call.once(async move { rows(&own).await }))
    }
}

async fn rows(call: &Call) -> DfResult<RecordBatch> {
    let horizon = days(0, call.args.positive_micros("horizon")?.unwrap_or(90 * DAY_US));
    let fitted = fit(call, "ltv_bgnbd").await?;
    let as_of_us = fitted.events.as_of_us;
    let row = |orders: &super::orders::Orders| {
        let customer = customer(orders, as_of_us);
        let mean = mean_value(orders).filter(|_| fitted.events.columns().value.is_some());
        let purchases = fitted.model.expected_purchases(&customer, horizon);
        // A user who came once is worth what a customer is on average; so is one whose returns outweigh the orders.
        let known = mean.filter(|mean| *mean > 0.0).map_or((0.0, 0.0), |mean| (customer.frequency, mean));
        let value = fitted.spend.map(|(spend, _)| spend.expected_value(known.0, known.1)).filter(|value| value.is_finite() && *value > 0.0);
        let alive = fitted.model.alive(&customer);
        [Some(customer.recency), Some(customer.age), mean, Some(alive), Some(purchases), value, value.map(|value| value * purchases)]
    };
    let numbers: Vec<[Option<f64>; NUMBERS.len()]> = fitted.users.iter().map(row).collect();
    let mut arrays: Vec<ArrayRef> = vec![
        key_array(fitted.users.iter().map(|orders| &orders.user), fitted.events.columns().key_type),
        Arc::new(fitted.users.iter().map(|orders| i64::try_from(orders.days - 1).ok()).collect::<Int64Array>()),
    ];
    let number = |at: usize| numbers.iter().map(|row| row[at].filter(|value| value.is_finite())).collect::<Float64Array>();
    arrays.extend((0..NUMBERS.len()).map(|at| Arc::new(number(at)) as ArrayRef));
    arrays.push(time(as_of_us).to_array_of_size(fitted.users.len())?);
    Ok(RecordBatch::try_new(columns(fitted.events.columns().key_type), arrays)?)
}
