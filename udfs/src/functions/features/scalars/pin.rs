//! The analyzer rule: each call of a stored transform gets the version that its name means now.
//!
//! From there on the call is a pure function of its row, with the parameters inside the plan: fitting anew or dropping the
//! transform meanwhile changes nothing for this statement, and two calls of one name use one version. The rule accepts plans
//! that it has seen before and resolves their names again, so a prepared statement uses the newest version at each execution.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Result as DfResult, ScalarValue};
use datafusion::config::ConfigOptions;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{Expr, LogicalPlan, ScalarUDF};
use datafusion::optimizer::AnalyzerRule;

use super::transform::Transform;
use super::transform_value::TransformValue;
use crate::context::StatementContext;
use crate::error::{Error, Result};
use crate::functions::MlContext;
use crate::registry::{ModelAction, StoredTransform};

/// See the module's header.
#[derive(Debug)]
pub(super) struct PinTransforms {
    pub(super) context: Arc<MlContext>,
}

impl AnalyzerRule for PinTransforms {
    fn name(&self) -> &'static str {
        "pin_transforms"
    }

    fn analyze(&self, plan: LogicalPlan, config: &ConfigOptions) -> DfResult<LogicalPlan> {
        let user = StatementContext::of_options(config).user.clone();
        let pinned =
            plan.transform_up_with_subqueries(|node| node.map_expressions(|expr| expr.transform_up(|expr| self.pin(expr, &user))))?;
        Ok(pinned.data)
    }
}

impl PinTransforms {
    fn pin(&self, expr: Expr, user: &str) -> DfResult<Transformed<Expr>> {
        let Expr::ScalarFunction(call) = expr else { return Ok(Transformed::no(expr)) };
        let inner = call.func.inner();
        let function: Option<Arc<ScalarUDF>> = if let Some(transform) = inner.downcast_ref::<Transform>() {
            self.resolve(&call, user)?.map(|stored| Arc::new(ScalarUDF::new_from_impl(transform.pinned(&stored))))
        } else if let Some(value) = inner.downcast_ref::<TransformValue>() {
            self.resolve(&call, user)?.map(|stored| Arc::new(ScalarUDF::new_from_impl(value.pinned(&stored))))
        } else {
            None
        };
        Ok(match function {
            Some(function) => Transformed::yes(Expr::ScalarFunction(ScalarFunction::new_udf(function, call.args))),
            None => Transformed::no(Expr::ScalarFunction(call)),
        })
    }

    /// The version that the call names; none for NULL, and for a parameter whose value comes later.
    fn resolve(&self, call: &ScalarFunction, user: &str) -> Result<Option<Arc<StoredTransform>>> {
        let mut name = call.args.first();
        while let Some(Expr::Alias(alias)) = name {
            name = Some(&alias.expr);
        }
        while let Some(Expr::Cast(cast)) = name {
            name = Some(&cast.expr);
        }
        match name {
            Some(Expr::Literal(ScalarValue::Utf8(text) | ScalarValue::LargeUtf8(text) | ScalarValue::Utf8View(text), _)) => {
                let Some(text) = text else { return Ok(None) };
                self.context.registry.authorize_transform(user, text, ModelAction::Execute)?;
                self.context.registry.transform(text).map(Some)
            }
            Some(Expr::Placeholder(_) | Expr::Literal(..)) => Ok(None),
            _ => Err(Error::invalid(format!("argument \"name\" of {} must be a constant", call.func.name()))),
        }
    }
}
