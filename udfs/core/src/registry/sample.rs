//! A small model that is real, published without training: what tests of the registry and of its SQL faces start from.

use std::sync::Arc;

use arrow::array::{Float64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use object_store::memory::InMemory;
use object_store::path::Path;

use super::{FORMAT_VERSION, Manifest, ModelRef, Registry, StoredSource, VersionInfo, VersionRequest};
use crate::error::{Error, Result};
use crate::features::{Options, TableDatasetBuilder};
use crate::models::{self, Architecture, NetworkConfig, Parameters, Task};
use crate::train::{Calibration, EpochRecord};

/// A manifest of a logistic regression on one number and one category, fitted on nothing.
///
/// # Errors
/// Never, as long as the features read a table of numbers and texts.
pub fn manifest() -> Result<Manifest> {
    let schema = Arc::new(Schema::new(vec![
        Field::new("amount", DataType::Float64, true),
        Field::new("country", DataType::Utf8, true),
        Field::new("buys", DataType::Utf8, true),
    ]));
    let mut builder = TableDatasetBuilder::new(Arc::clone(&schema), "buys", &Options::default(), None)?;
    let rows = 600;
    let amounts: Float64Array = (0..rows).map(|i| f64::from(i % 7) / 3.0).collect();
    let countries: StringArray = (0..rows).map(|i| Some(["DE", "FR", "GB"][i as usize % 3])).collect();
    let labels: StringArray = (0..rows).map(|i| Some(["no", "yes"][i as usize % 2])).collect();
    let columns = RecordBatch::try_new(schema, vec![Arc::new(amounts), Arc::new(countries), Arc::new(labels)]);
    builder.push(&columns.map_err(|error| Error::internal(error.to_string()))?)?;
    let dataset = builder.finish()?;
    let config = NetworkConfig {
        architecture: Architecture::Logreg,
        shape: dataset.encoder.shape().clone(),
        outputs: 2,
        task: Task::Classification,
        hidden_dim: 4,
        layers: 1,
        embedding_dim: 4,
        dropout: 0.0,
        members: 1,
        bins: 0,
        numeric_embedding_dim: 0,
        catalogue: None,
        variant: crate::models::Variant::default(),
    };
    let calibration = Calibration::fit_classes(&[], &[], 2, vec![0.5, 0.5]);
    let (info, preprocessor) = (info(dataset.classes), dataset.encoder);
    Ok(Manifest { format_version: FORMAT_VERSION, info, preprocessor, config, ensemble: None, calibration })
}

fn info(classes: Vec<String>) -> VersionInfo {
    let epoch = EpochRecord {
        epoch: 1,
        train_loss: 0.6,
        valid_loss: 0.1 + 0.2,
        valid_metric: 0.7,
        learning_rate: 0.01,
        seconds: 0.5,
        rows_per_s: 1200.0,
    };
    VersionInfo {
        model: String::new(),
        version: 0,
        arch: "logreg".into(),
        target: "column(buys)".into(),
        classes,
        horizon_us: 0,
        anchor_every_us: None,
        source: Some(StoredSource { sql: "SELECT * FROM shoppers".into(), columns: None }),
        source_fingerprint: None,
        as_of_us: Some(1_700_000_000_000_000),
        options: serde_json::json!({"epochs": 1}),
        users: 600,
        train_rows: 400,
        valid_rows: 100,
        test_rows: 100,
        dropped_rows: 0,
        censored_rows: 0,
        sampled: false,
        metric: "pr_auc".into(),
        test: 0.75,
        baseline: 0.5,
        simple_baseline: None,
        valid: 0.7,
        epochs: 1,
        best_epoch: 1,
        parameters: 12,
        device: "cpu".into(),
        seconds: 0.5,
        history: vec![epoch],
        candidates: vec![],
        trials: vec![],
        members: vec![],
        folds: vec![],
        message: String::new(),
        owner: "ann".into(),
        created_at_us: 1_700_000_000_000_000,
        statement: "SELECT train_profile_model('shopper', 'shoppers', target => 'column(buys)')".into(),
        privacy: None,
        compression: None,
        row_columns: Vec::new(),
        weights_hash: String::new(),
        weights_bytes: 0,
    }
}

/// Weights for the manifest's network that differ by `seed`.
///
/// # Errors
/// When the network of the manifest cannot be built.
pub fn parameters(manifest: &Manifest, seed: u32) -> Result<Parameters> {
    let mut parameters = Parameters::default();
    for spec in models::specs(&manifest.config)? {
        let count: usize = spec.shape.iter().product();
        let values = (0..count).map(|i| (i as f32 + seed as f32).sin()).collect();
        parameters.0.insert(spec.name, (spec.shape, values));
    }
    Ok(parameters)
}

/// Who makes what.
pub fn request(name: &str) -> VersionRequest {
    VersionRequest { name: name.into(), owner: "ann".into(), statement: "SELECT 1".into() }
}

/// Publishes a version with weights by `seed`.
///
/// # Errors
/// What the registry says.
pub async fn publish(registry: &Registry, name: &str, seed: u32) -> Result<ModelRef> {
    let ticket = registry.begin_version(request(name)).await?;
    let manifest = manifest()?;
    let parameters = parameters(&manifest, seed)?;
    registry.publish(ticket, manifest, &parameters).await
}

/// The registry on `store`, with a cache that holds everything.
///
/// # Errors
/// What the store says.
pub async fn open(store: &Arc<InMemory>) -> Result<Registry> {
    Registry::open(Arc::<InMemory>::clone(store), Path::from("registry"), 1 << 30).await
}
