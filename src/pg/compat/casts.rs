//! Casts as PostgreSQL does them, explicit ones and those that the planner adds: texts of time stamps are read and values are
//! written as texts in its ways, and an instant becomes a date or a time by the clocks of the session's zone.
//! What else must wait until types are known is done here too: parts of instants, and sums of constants.

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::config::ConfigOptions;
use datafusion::error::Result;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Cast, Expr, ExprSchemable, LogicalPlan, lit};
use datafusion::optimizer::AnalyzerRule;

use arrow::datatypes::DataType;

use super::{arithmetic, text, timestamps, zones};

/// The rule. It runs behind the one that adds casts.
#[derive(Debug)]
pub(super) struct Casts;

impl AnalyzerRule for Casts {
    fn name(&self) -> &'static str {
        "PostgresCasts"
    }

    fn analyze(&self, plan: LogicalPlan, config: &ConfigOptions) -> Result<LogicalPlan> {
        let zone = config.execution.time_zone.as_deref().unwrap_or("UTC");
        Ok(plan.transform_up_with_subqueries(|plan| in_plan(plan, zone))?.data)
    }
}

fn in_plan(plan: LogicalPlan, zone: &str) -> Result<Transformed<LogicalPlan>> {
    let mut schema = merge_schema(&plan.inputs());
    if let LogicalPlan::TableScan(scan) = &plan {
        schema.merge(&DFSchema::try_from_qualified_schema(scan.table_name.clone(), &scan.source.schema())?);
    }
    let names = NamePreserver::new(&plan);
    plan.map_expressions(|expr| {
        let saved = names.save(&expr);
        let changed = expr.transform_up(|expr| in_expr(expr, &schema, zone))?;
        Ok(if changed.transformed { changed.update_data(|expr| saved.restore(expr)) } else { changed })
    })
}

fn in_expr(expr: Expr, schema: &DFSchema, zone: &str) -> Result<Transformed<Expr>> {
    let replaced = match &expr {
        Expr::BinaryExpr(binary) => {
            arithmetic::check(binary)?;
            None
        }
        Expr::Cast(Cast { expr: inner, field }) => inner.get_type(schema).ok().and_then(|from| cast(inner, &from, field.data_type(), zone)),
        Expr::ScalarFunction(call) if !is_utc(zone) => in_zone(call, schema, zone),
        _ => None,
    };
    Ok(replaced.map_or_else(|| Transformed::no(expr), Transformed::yes))
}

/// Parts of an instant are those that the clocks of the session's zone show, whatever zone its type names.
fn in_zone(call: &ScalarFunction, schema: &DFSchema, zone: &str) -> Option<Expr> {
    let [unit, time] = call.args.as_slice() else { return None };
    let Ok(from @ DataType::Timestamp(unit_of_time, Some(_))) = time.get_type(schema) else { return None };
    let to = DataType::Timestamp(unit_of_time, Some(zone.into()));
    let truncates = call.func.name() == "date_trunc";
    if from == to || !(truncates || call.func.name() == "date_part") {
        return None;
    }
    let shown = Expr::Cast(Cast::new(Box::new(time.clone()), to));
    let part = call.func.call(vec![unit.clone(), shown]);
    Some(if truncates { Expr::Cast(Cast::new(Box::new(part), from)) } else { part })
}

fn cast(inner: &Expr, from: &DataType, to: &DataType, zone: &str) -> Option<Expr> {
    match (from, to) {
        (DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View, DataType::Timestamp(..)) => timestamp(inner, to),
        (from, DataType::Utf8) if text::differs(from) && !is_null(inner) => Some(text::writer().call(vec![inner.clone(), lit(zone)])),
        (DataType::Timestamp(_, Some(_)), DataType::Timestamp(_, None) | DataType::Date32 | DataType::Date64 | DataType::Time64(_))
            if !is_utc(zone) =>
        {
            let shown = zones::function().call(vec![lit(zone), instant(inner, from)]);
            Some(Expr::Cast(Cast::new(Box::new(shown), to.clone())))
        }
        _ => None,
    }
}

/// The types of arguments are settled by now: the function's own must be met here.
fn instant(inner: &Expr, from: &DataType) -> Expr {
    let wanted = match from {
        DataType::Timestamp(_, zone) => DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, zone.clone()),
        other => other.clone(),
    };
    if *from == wanted { inner.clone() } else { Expr::Cast(Cast::new(Box::new(inner.clone()), wanted)) }
}

fn timestamp(inner: &Expr, to: &DataType) -> Option<Expr> {
    match inner {
        Expr::Literal(value, _) => {
            let whole = timestamps::spelled_out(value.try_as_str().flatten()?)?;
            Some(Expr::Cast(Cast::new(Box::new(Expr::Literal(ScalarValue::Utf8(Some(whole)), None)), to.clone())))
        }
        Expr::Placeholder(_) => None,
        other => Some(timestamps::reader(to).call(vec![other.clone()])),
    }
}

fn is_null(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(value, _) if value.is_null())
}

fn is_utc(zone: &str) -> bool {
    ["UTC", "GMT", "+00:00", "Etc/UTC"].contains(&zone)
}
