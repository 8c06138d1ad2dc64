//! `quantize_model(model, scheme)`: a version with weights of 8 or 4 bits.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::error::Result as DfResult;
use datafusion::execution::SendableRecordBatchStream;

use super::row::{SCHEMA, row};
use super::subject::{ACTIVATE, MODEL, Smaller, Subject, unread};
use crate::error::{Error, Result};
use crate::functions::MlContext;
use crate::functions::ml::train::read::blocking;
use crate::functions::relation::{Arguments, Call, Effect, Kind, MlRelation, Parameter};
use crate::models::{Compressed, Network, Scheme, load_compressed};

/// See [`MlRelation::doc`].
#[derive(Debug)]
pub struct QuantizeModel;

impl MlRelation for QuantizeModel {
    fn name(&self) -> &'static str {
        "quantize_model"
    }

    fn parameters(&self) -> &'static [Parameter] {
        const PARAMETERS: &[Parameter] = &[
            MODEL,
            Parameter::optional(
                "scheme",
                Kind::Text,
                "'int8'",
                "int8: a scale for each row, scored with byte arithmetic; int4: a scale for each 32 weights, half the size again, scored as \
                 int8.",
            ),
            ACTIVATE,
        ];
        PARAMETERS
    }

    fn doc(&self) -> &'static str {
        "Makes a version with weights of 8 or 4 bits: a quarter or an eighth of the size, scored faster. Biases and norms stay floats. \
         Features and vocabularies stay as they are, and the calibration is fitted anew on the stored validation rows. One row with size, \
         speed (rows a second on one thread) and the headline metric on the stored test rows, before and after; they are NULL when the \
         source cannot be read again. Doing it twice makes one version. Allowed only at the top level of a statement; a bare SELECT \
         quantize_model(…) returns the row as JSON text."
    }

    fn example(&self) -> &'static str {
        "SELECT version, bytes_before, bytes_after, before, after FROM quantize_model('shopper', 'int8')"
    }

    fn schema(&self, args: &Arguments, _: Option<&Schema>, _: &MlContext) -> Result<SchemaRef> {
        if !args.is_unbound("scheme") {
            scheme(args)?;
        }
        Ok(Arc::clone(&SCHEMA))
    }

    fn execute(&self, call: Call) -> Result<SendableRecordBatchStream> {
        let scheme = scheme(&call.args)?;
        let own = call.clone();
        Ok(call.once(async move { run(&own, scheme).await }))
    }

    fn effect(&self) -> Option<Effect> {
        Some(Effect::Trains)
    }
}

fn scheme(args: &Arguments) -> Result<Scheme> {
    match args.text("scheme").unwrap_or("int8").to_lowercase().as_str() {
        "int8" => Ok(Scheme::Int8),
        "int4" => Ok(Scheme::Int4),
        other => Err(Error::invalid(format!("argument \"scheme\" cannot be \"{other}\"")).hint("It is int8 or int4.")),
    }
}

async fn run(call: &Call, scheme: Scheme) -> DfResult<RecordBatch> {
    let subject = Subject::new(call, "model").await?;
    let reference = subject.model.reference.clone();
    if let Some(own) = &subject.info().compression
        && own.weights == scheme
    {
        return row(call, &reference, subject.info(), &format!("version {} has such weights already", reference.version));
    }
    if let Some((made, info)) = subject.made_before(|own| own.scheme == scheme.name()) {
        return row(call, &made, &info, &format!("version {} was made so before", made.version));
    }
    let floats = call.context.registry.parameters(&reference).await?;
    let config = subject.model.manifest.config.clone();
    let (weights, network) = blocking(move || {
        let compressed = Compressed::of(&config, &floats, scheme)?;
        let network: Arc<dyn Network> = Arc::from(load_compressed(&config, &compressed)?);
        Ok((compressed.to_safetensors()?, network))
    })
    .await?;
    let (loaded, note) = match subject.rows_if_any().await? {
        Ok(loaded) => (Some(loaded), String::new()),
        Err(reason) => (None, unread(&reason)),
    };
    let figures = subject.compare(loaded, Smaller { network, dataset: None }).await?;
    let manifest = subject.manifest(scheme.name(), scheme, &figures, &note);
    let (made, info) = subject.publish(manifest, weights).await?;
    row(call, &made, &info, &info.message)
}
