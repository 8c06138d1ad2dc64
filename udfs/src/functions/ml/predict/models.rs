//! What planning and execution need of models, as a seam: the registry behind it in a program, a fake in tests.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::execution::SessionState;

use super::predictor::Predictor;
use crate::error::Result;
use crate::features::KeyType;
use crate::registry::ModelRef;

/// What of a version must be known to plan a call.
#[derive(Debug, Clone)]
pub(crate) struct ModelFacts {
    /// Class names in the order of the network's outputs; empty for regression.
    pub(crate) classes: Vec<String>,
    /// Its architecture's name.
    pub(crate) arch: String,
    /// The type of its users' keys; `None` for a model of labelled rows.
    pub(crate) key_type: Option<KeyType>,
}

/// Names → versions → something that predicts.
#[async_trait]
pub(crate) trait Models: Send + Sync + fmt::Debug {
    /// The version that `name` or `name@version` means now. Reads memory only: it runs while planning.
    fn pin(&self, requested: &str) -> Result<(ModelRef, ModelFacts)>;

    /// Loads a version for one execution.
    async fn open(&self, model: &ModelRef, session: &Arc<SessionState>) -> Result<Arc<dyn Predictor>>;
}
