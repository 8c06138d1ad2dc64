//! What tests of the registry and of its SQL faces need: small models that are real, and a store that fails.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::{Float64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use async_trait::async_trait;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt, PutMultipartOptions,
    PutOptions, PutPayload, PutResult,
};

use super::{FORMAT_VERSION, Manifest, ModelRef, Registry, StoredSource, VersionInfo, VersionRequest};
use crate::error::Result;
use crate::features::{Options, TableDatasetBuilder};
use crate::models::{self, Architecture, NetworkConfig, Parameters, Task};
use crate::train::{Calibration, EpochRecord};

/// A manifest of a logistic regression on one number and one category, fitted on nothing.
pub(crate) fn manifest() -> Manifest {
    let schema = Arc::new(Schema::new(vec![
        Field::new("amount", DataType::Float64, true),
        Field::new("country", DataType::Utf8, true),
        Field::new("buys", DataType::Utf8, true),
    ]));
    let mut builder = TableDatasetBuilder::new(Arc::clone(&schema), "buys", &Options::default(), None).unwrap();
    let rows = 600;
    let amounts: Float64Array = (0..rows).map(|i| f64::from(i % 7) / 3.0).collect();
    let countries: StringArray = (0..rows).map(|i| Some(["DE", "FR", "GB"][i as usize % 3])).collect();
    let labels: StringArray = (0..rows).map(|i| Some(["no", "yes"][i as usize % 2])).collect();
    builder.push(&RecordBatch::try_new(schema, vec![Arc::new(amounts), Arc::new(countries), Arc::new(labels)]).unwrap()).unwrap();
    let dataset = builder.finish().unwrap();
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
    Manifest { format_version: FORMAT_VERSION, info, preprocessor, config, ensemble: None, calibration }
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
pub(crate) fn parameters(manifest: &Manifest, seed: u32) -> Parameters {
    let mut parameters = Parameters::default();
    for spec in models::specs(&manifest.config).unwrap() {
        let count: usize = spec.shape.iter().product();
        let values = (0..count).map(|i| (i as f32 + seed as f32).sin()).collect();
        parameters.0.insert(spec.name, (spec.shape, values));
    }
    parameters
}

/// Who makes what.
pub(crate) fn request(name: &str) -> VersionRequest {
    VersionRequest { name: name.into(), owner: "ann".into(), statement: "SELECT 1".into() }
}

/// Publishes a version with weights by `seed`.
pub(crate) async fn publish(registry: &Registry, name: &str, seed: u32) -> Result<ModelRef> {
    let ticket = registry.begin_version(request(name)).await?;
    let manifest = manifest();
    let parameters = parameters(&manifest, seed);
    registry.publish(ticket, manifest, &parameters).await
}

/// The registry on `store`, with a cache that holds everything.
pub(crate) async fn open(store: &Arc<InMemory>) -> Registry {
    Registry::open(Arc::<InMemory>::clone(store), Path::from("registry"), 1 << 30).await.unwrap()
}

/// Flips one bit of the file that ends with `ending`, and gives its path.
pub(crate) async fn flip(store: &InMemory, ending: &str, at: usize) -> Path {
    let all: Vec<ObjectMeta> = store.list(None).try_collect().await.unwrap();
    let path = all.into_iter().map(|meta| meta.location).filter(|path| path.as_ref().ends_with(ending)).max().unwrap();
    let mut bytes = store.get(&path).await.unwrap().bytes().await.unwrap().to_vec();
    let at = at % bytes.len();
    bytes[at] ^= 0x10;
    store.put(&path, bytes.into()).await.unwrap();
    path
}

/// How a [`FaultStore`] fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The process dies: this write and all later ones do nothing.
    Crash,
    /// The write fails and does nothing; later ones work.
    Refuse,
    /// The write happens and its reply is lost.
    LoseReply,
}

/// A store whose n-th write (puts and deletes, from 0) goes wrong.
#[derive(Debug)]
pub(crate) struct FaultStore {
    inner: Arc<InMemory>,
    fault: Fault,
    at: usize,
    writes: AtomicUsize,
}

impl FaultStore {
    pub(crate) fn new(inner: &Arc<InMemory>, fault: Fault, at: usize) -> Arc<Self> {
        Arc::new(Self { inner: Arc::clone(inner), fault, at, writes: AtomicUsize::new(0) })
    }

    /// Whether the fault has happened.
    pub(crate) fn struck(&self) -> bool {
        self.writes.load(Ordering::SeqCst) > self.at
    }

    /// Counts a write: whether it may happen, and whether its reply arrives.
    fn write(&self) -> (bool, bool) {
        let number = self.writes.fetch_add(1, Ordering::SeqCst);
        match self.fault {
            Fault::Crash => (number < self.at, number < self.at),
            Fault::Refuse => (number != self.at, number != self.at),
            Fault::LoseReply => (true, number != self.at),
        }
    }
}

fn failure() -> object_store::Error {
    object_store::Error::Generic { store: "FaultStore", source: "the write failed".into() }
}

impl fmt::Display for FaultStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FaultStore({})", self.inner)
    }
}

#[async_trait]
impl ObjectStore for FaultStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> object_store::Result<PutResult> {
        let (happens, heard) = self.write();
        if !happens {
            return Err(failure());
        }
        let done = self.inner.put_opts(location, payload, options).await?;
        if heard { Ok(done) } else { Err(failure()) }
    }

    async fn put_multipart_opts(&self, path: &Path, options: PutMultipartOptions) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(path, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, object_store::Result<Path>>) -> BoxStream<'static, object_store::Result<Path>> {
        let (happens, heard) = self.write();
        if !happens {
            return stream::once(async { Err(failure()) }).boxed();
        }
        let done = self.inner.delete_stream(locations);
        if heard { done } else { done.map(|_| Err(failure())).boxed() }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> object_store::Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
