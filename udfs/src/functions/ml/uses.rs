//! Which models a plan asks, by the names that its calls give them.

use std::collections::BTreeSet;

use datafusion::common::Result;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::{Expr, LogicalPlan};

use super::predict::{Marker, Predict};
use crate::functions::planner::RelationNode;

/// The models that `plan` names, as it names them: `shopper` (the active version) or `shopper@3`. Names that are not constant
/// are left out.
///
/// # Errors
/// A plan that cannot be walked.
pub fn models_named_by(plan: &LogicalPlan) -> Result<BTreeSet<String>> {
    let mut models = BTreeSet::new();
    plan.apply_with_subqueries(|node| {
        if let LogicalPlan::Extension(extension) = node
            && let Some(relation) = extension.node.as_any().downcast_ref::<RelationNode>()
        {
            models.extend(relation.model());
        }
        if let Some(predict) = Predict::of(node) {
            models.insert(predict.group.model.to_string());
        }
        node.apply_expressions(|expr| {
            expr.apply(|part| {
                if let Expr::ScalarFunction(call) = part
                    && Marker::of(call).is_some()
                    && let Some(Expr::Literal(name, _)) = call.args.first()
                {
                    models.extend(name.try_as_str().flatten().map(str::to_owned));
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    Ok(models)
}
