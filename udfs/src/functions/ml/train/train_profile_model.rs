//! `train_profile_model(model, source, …)`: from events or labelled rows to a published model version.

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::execution::SendableRecordBatchStream;

use super::row::SCHEMA;
use super::run::run;
use super::spec::{ARCH, COLUMNS, HORIZON, OPTIONS, TARGET, TrainSpec};
use crate::error::Result;
use crate::features::Target;
use crate::functions::MlContext;
use crate::functions::relation::{Arguments, Call, Effect, Kind, MlRelation, Parameter};

/// See [`MlRelation::doc`].
#[derive(Debug)]
pub struct TrainProfileModel;

impl MlRelation for TrainProfileModel {
    fn name(&self) -> &'static str {
        "train_profile_model"
    }

    fn parameters(&self) -> &'static [Parameter] {
        const PARAMETERS: &[Parameter] = &[
            Parameter::required("model", Kind::Text, "Name of the model; training under a name that exists makes its next version."),
            Parameter::required("source", Kind::Source, "The events, or one labelled row per entity for column(<label>)."),
            TARGET,
            HORIZON,
            COLUMNS,
            ARCH,
            OPTIONS,
            Parameter::optional(
                "activate",
                Kind::Text,
                "'if_better'",
                "if_better measures the active version on the new test window and keeps the better one; always; never.",
            ),
            Parameter::optional("wait", Kind::Boolean, "true", "false returns the queued job at once and trains in the background."),
            Parameter::optional(
                "if_stale",
                Kind::Duration,
                "NULL",
                "Does nothing when the active version is younger than this and the source has not changed.",
            ),
        ];
        PARAMETERS
    }

    fn doc(&self) -> &'static str {
        "Trains a model and returns one row with its figures beside their baselines. Features come from events up to an anchor, the label \
         from the horizon after it; the last horizon is the test, the one before it validation, everything earlier is learned from. \
         Data that do not fit in memory are spilled to temporary files, which changes nothing of the model. \
         Allowed only at the top level of a statement; a bare SELECT train_profile_model(…) returns the row as JSON text."
    }

    fn example(&self) -> &'static str {
        "SELECT * FROM train_profile_model('shopper', 'events', target => 'purchase', horizon => '30 days')"
    }

    fn schema(&self, args: &Arguments, source: Option<&Schema>, _: &MlContext) -> Result<SchemaRef> {
        // What can be refused without reading is refused while planning, unless it is not known yet.
        if let Some(text) = args.text("target")
            && let Target::Column(label) = Target::parse(text)?
            && let Some(source) = source
        {
            super::check_label(&label, source)?;
        }
        Ok(Arc::clone(&SCHEMA))
    }

    fn execute(&self, call: Call) -> Result<SendableRecordBatchStream> {
        let spec = TrainSpec::new(&call.args, call.session.config())?;
        let own = call.clone();
        Ok(call.once(async move { run(own, spec).await?.batch() }))
    }

    fn effect(&self) -> Option<Effect> {
        Some(Effect::Trains)
    }

    fn takes_options(&self) -> bool {
        true
    }
}
