//! `set_model_policy(model, policy)`: what happens to a model when users are erased that it learned from.

use async_trait::async_trait;
use datafusion::logical_expr::Documentation;
use datafusion_macros::user_doc;

use super::action::{Action, Call, Kind, Parameter};
use crate::error::Result;
use crate::registry::{ModelAction, OnErasure};

#[user_doc(
    doc_section(label = "Model Life Cycle Functions"),
    description = "Says what happens to a model that learned from users who are erased (erase_user), now and for versions to come. `disclose`, the default: it answers on, and ml.models, ml.model_versions and the receipt say that it contains them. `refuse`: its predictions, embeddings and recommendations are error 55000 until a version is active that was trained without them; so are those of a version of which it cannot be told. `retrain`: it answers on, and the receipt and a NOTICE ask for another training. A network cannot forget a user in any other way. Returns what was done.",
    syntax_example = "set_model_policy(model, policy)",
    sql_example = "```sql\nSELECT set_model_policy('shopper', 'refuse');\n```",
    argument(name = "model", description = "Model name, without a version."),
    argument(name = "policy", description = "`disclose`, `refuse` or `retrain`."),
    related_udf(name = "drop_model")
)]
#[derive(Debug)]
pub(super) struct SetModelPolicy;

#[async_trait]
impl Action for SetModelPolicy {
    fn name(&self) -> &'static str {
        "set_model_policy"
    }

    fn parameters(&self) -> &'static [Parameter] {
        const { &[Parameter::required("model", Kind::Text), Parameter::required("policy", Kind::Text)] }
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.doc()
    }

    async fn run(&self, call: Call) -> Result<String> {
        let (model, policy) = (call.model(0)?, OnErasure::parse(call.required_text(1)?)?);
        call.authorize(model, ModelAction::Own)?;
        Ok(match call.context.registry.set_policy(model, policy).await? {
            true => format!("model \"{model}\" will {policy} when users are erased that it learned from"),
            false => format!("the policy of model \"{model}\" was {policy} already"),
        })
    }
}
