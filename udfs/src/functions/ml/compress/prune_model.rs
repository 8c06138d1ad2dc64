//! `prune_model(model, …)`: a version that knows fewer strings.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use bytes::Bytes;
use datafusion::error::Result as DfResult;
use datafusion::execution::SendableRecordBatchStream;

use super::row::{SCHEMA, row};
use super::subject::{ACTIVATE, MODEL, Smaller, Subject, unread};
use crate::error::{Error, Result};
use crate::functions::MlContext;
use crate::functions::ml::train::read::{Loaded, blocking};
use crate::functions::relation::{Arguments, Call, Effect, Kind, MlRelation, Parameter};
use crate::models::{Compressed, Network, Scheme, load_bytes};
use crate::train::{Keep, Pruned, prune};

/// See [`MlRelation::doc`].
#[derive(Debug)]
pub struct PruneModel;

/// Which strings stay.
#[derive(Debug, Clone, Copy)]
enum Stay {
    Most(usize),
    Seen(u64),
}

impl MlRelation for PruneModel {
    fn name(&self) -> &'static str {
        "prune_model"
    }

    fn parameters(&self) -> &'static [Parameter] {
        const PARAMETERS: &[Parameter] = &[
            MODEL,
            Parameter::optional("min_count", Kind::Integer, "NULL", "Keeps the strings that the training rows hold so often."),
            Parameter::optional("keep", Kind::Integer, "NULL", "Keeps so many strings of each vocabulary, the most frequent ones."),
            ACTIVATE,
        ];
        PARAMETERS
    }

    fn doc(&self) -> &'static str {
        "Makes a version whose vocabularies (items, categories, event types, text columns) are cut down to the frequent strings: the others \
         become \"unseen\", and their vectors go. Give either min_count or keep. No vocabulary gets smaller than twice the width of its \
         vectors. The calibration is fitted anew on the stored validation rows. One row with size, speed (rows a second on one thread) and \
         the headline metric on the stored test rows, before and after; with keep they are NULL when the source cannot be read again. \
         Allowed only at the top level of a statement."
    }

    fn example(&self) -> &'static str {
        "SELECT version, bytes_before, bytes_after, before, after FROM prune_model('shopper', min_count => 20)"
    }

    fn schema(&self, args: &Arguments, _: Option<&Schema>, _: &MlContext) -> Result<SchemaRef> {
        if !args.is_unbound("min_count") && !args.is_unbound("keep") {
            stay(args)?;
        }
        Ok(Arc::clone(&SCHEMA))
    }

    fn execute(&self, call: Call) -> Result<SendableRecordBatchStream> {
        let stay = stay(&call.args)?;
        let own = call.clone();
        Ok(call.once(async move { run(&own, stay).await }))
    }

    fn effect(&self) -> Option<Effect> {
        Some(Effect::Trains)
    }
}

fn stay(args: &Arguments) -> Result<Stay> {
    let positive = |name: &str| args.integer_in(name, 1, 1..=i64::from(u32::MAX));
    match (args.integer("min_count"), args.integer("keep")) {
        (Some(_), None) => Ok(Stay::Seen(positive("min_count")? as u64)),
        (None, Some(_)) => Ok(Stay::Most(positive("keep")? as usize)),
        _ => Err(Error::invalid("prune_model needs one of the arguments \"min_count\" and \"keep\"")),
    }
}

async fn run(call: &Call, stay: Stay) -> DfResult<RecordBatch> {
    let subject = Subject::new(call, "model").await?;
    let (loaded, mut note) = match (subject.rows_if_any().await?, stay) {
        (Ok(loaded), _) => (Some(loaded), String::new()),
        (Err(reason), Stay::Most(_)) => (None, unread(&reason)),
        (Err(reason), Stay::Seen(_)) => {
            return Err(Error::invalid("min_count needs the rows that the model was trained from")
                .detail(format!("The source cannot be read again: {reason}."))
                .hint("Use keep => n.")
                .into());
        }
    };
    let floats = call.context.registry.parameters(&subject.model.reference).await?;
    let manifest = Arc::clone(&subject.model.manifest);
    let scheme = manifest.info.compression.as_ref().map_or(Scheme::Float32, |own| own.weights);
    let (pruned, loaded, weights, network) = blocking(move || {
        let keep = match (stay, &loaded) {
            (Stay::Seen(count_min), Some(loaded)) => Keep::Seen(count_min, &loaded.dataset),
            (Stay::Seen(_), None) => return Err(Error::internal("there are no rows to count in")),
            (Stay::Most(count), _) => Keep::Most(count),
        };
        let pruned = prune(&manifest.preprocessor, &manifest.config, &floats, keep)?;
        let weights = weights(&pruned, scheme)?;
        let network: Arc<dyn Network> = Arc::from(load_bytes(&pruned.config, &weights)?);
        Ok((pruned, loaded, weights, network))
    })
    .await?;
    if pruned.dropped == 0 {
        return Err(Error::invalid("there is nothing to prune: every string stays")
            .hint("Ask for fewer, or take a model with larger vocabularies.")
            .into());
    }
    let dropped = format!("{} strings are now unseen", pruned.dropped);
    note = if note.is_empty() { dropped } else { format!("{dropped}; {note}") };
    let dataset = loaded.as_ref().map(|Loaded { dataset, .. }| pruned.encoded(dataset));
    let figures = subject.compare(loaded, Smaller { network, dataset }).await?;
    let mut manifest = subject.manifest("pruned", scheme, &figures, &note);
    manifest.info.parameters = pruned.parameters.count() as u64;
    manifest.preprocessor = pruned.encoder;
    manifest.config = pruned.config;
    let (made, info) = subject.publish(manifest, weights.to_vec()).await?;
    row(call, &made, &info, &info.message)
}

/// The weights file, with as many bits as before.
fn weights(pruned: &Pruned, scheme: Scheme) -> Result<Bytes> {
    Ok(Bytes::from(match scheme {
        Scheme::Float32 => pruned.parameters.to_safetensors()?,
        Scheme::Int8 | Scheme::Int4 => Compressed::of(&pruned.config, &pruned.parameters, scheme)?.to_safetensors()?,
    }))
}
