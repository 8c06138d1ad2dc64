//! `predict_intent`, `embed_user` and their like, callable anywhere in a SELECT.
//!
//! Life of a call: SQL plans it as a volatile scalar function (a [`marker`]; one file per function) → the analyzer rule of
//! [`hoist`] resolves the model to a version and turns all calls about the same subject into columns of one
//! [`node`] → [`planner`] makes it a [`exec`] node → at run time [`stream`] reads rows ahead, [`subject`] casts ids to the
//! model's keys, [`memo`] remembers who is known already, and a [`predictor`] looks the others up, encodes their
//! histories and runs the network.
//!
//! Invariants: planning resolves names and reads nothing else; a plan carries a version, never "latest"; a user goes
//! through the network once per statement, unless the memo had to forget it. Absent on purpose: how histories are
//! stored (`context::HistoryProvider`), how features are computed (`features`), what a network is (`models`).

use std::sync::Arc;

use datafusion::logical_expr::ScalarUDF;
use datafusion::optimizer::AnalyzerRule;
use datafusion::physical_planner::ExtensionPlanner;

use crate::functions::MlContext;

pub(in crate::functions::ml) mod answers;
mod attach;
mod call;
mod correlated;
mod embed_seq;
mod embed_user;
mod exec;
mod execution;
mod hoist;
pub(in crate::functions) mod loaded;
mod marker;
mod memo;
mod models;
mod node;
mod physical;
mod planner;
mod predict_intent;
mod predict_intent_proba;
mod predict_intent_seq;
mod predict_value;
mod predictor;
mod stream;
pub(in crate::functions) mod subject;
#[cfg(test)]
mod tests;

pub use embed_seq::EmbedSeq;
pub use embed_user::EmbedUser;
pub(in crate::functions::ml) use marker::Marker;
pub use marker::complete_arguments;
pub(in crate::functions::ml) use node::Predict;
pub use predict_intent::PredictIntent;
pub use predict_intent_proba::PredictIntentProba;
pub use predict_intent_seq::PredictIntentSeq;
pub use predict_value::PredictValue;

/// The scalar functions of this module.
pub fn scalar_functions() -> Vec<Arc<ScalarUDF>> {
    vec![
        Arc::new(ScalarUDF::from(PredictIntent::default())),
        Arc::new(ScalarUDF::from(PredictIntentProba::default())),
        Arc::new(ScalarUDF::from(PredictValue::default())),
        Arc::new(ScalarUDF::from(EmbedUser::default())),
        Arc::new(ScalarUDF::from(PredictIntentSeq::default())),
        Arc::new(ScalarUDF::from(EmbedSeq::default())),
    ]
}

/// The rule that hoists calls into plan nodes. It runs at every analysis: a program that keeps analyzed plans runs its
/// analyzer again at each execution, so that a newly active version is seen.
pub fn analyzer_rule(context: &Arc<MlContext>) -> Arc<dyn AnalyzerRule + Send + Sync> {
    let models = Arc::new(loaded::RegisteredModels { context: Arc::clone(context) });
    Arc::new(hoist::HoistPredictions { models })
}

/// The planner of the nodes that the rule makes.
pub fn extension_planner(context: &Arc<MlContext>) -> Arc<dyn ExtensionPlanner + Send + Sync> {
    let models = Arc::new(loaded::RegisteredModels { context: Arc::clone(context) });
    Arc::new(planner::PredictPlanner { models, executions: Arc::default() })
}
