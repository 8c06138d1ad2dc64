//! A text that is compared with a uuid is read as one: the engine compares texts ([`TextType`]).
//!
//! [`TextTypes`] reads constants once every type is known, whoever wrote them: `id = '{A0EEBC99-…}'` finds what is kept as
//! `a0eebc99-…`.

use datafusion::arrow::array::{ArrayRef, ListArray};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::config::ConfigOptions;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::expr::{Between, InList, ScalarFunction};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{BinaryExpr, Cast, Expr, ExprSchemable, LogicalPlan, Operator};
use datafusion::optimizer::AnalyzerRule;

use crate::storage::TextType;

/// The rule that reads constants.
#[derive(Debug)]
pub(crate) struct TextTypes;

impl AnalyzerRule for TextTypes {
    fn name(&self) -> &'static str {
        "TextTypes"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        Ok(plan.transform_up_with_subqueries(read_in_plan)?.data)
    }
}

fn read_in_plan(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    if !any_expr(&plan, |expr| compared(expr).is_some())? {
        return Ok(Transformed::no(plan));
    }
    let schema = merge_schema(&plan.inputs());
    let names = NamePreserver::new(&plan);
    plan.map_expressions(|expr| {
        let saved = names.save(&expr);
        let changed = read_constants(expr, &schema)?;
        Ok(if changed.transformed { changed.update_data(|expr| saved.restore(expr)) } else { changed })
    })
}

/// An expression over `schema` whose constants that are compared with uuids are written as uuids are kept.
///
/// # Errors
/// 22P02 for one that is none.
pub(crate) fn read_constants(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    expr.transform_up(|expr| {
        let found = compared(&expr).into_iter().flatten().find_map(|side| type_of(side, schema));
        match found {
            // Values of json are not compared in PostgreSQL: two texts may be one value.
            Some(TextType::Uuid) => expr.map_children(|side| read_constant(side, TextType::Uuid)),
            _ => Ok(Transformed::no(expr)),
        }
    })
}

/// The sides of a comparison of which one is a constant text.
fn compared(expr: &Expr) -> Option<Vec<&Expr>> {
    let sides: Vec<&Expr> = match expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if is_comparison(*op) => vec![left, right],
        Expr::InList(InList { expr, list, .. }) => std::iter::once(expr.as_ref()).chain(list).collect(),
        Expr::Between(Between { expr, low, high, .. }) => vec![expr, low, high],
        Expr::ScalarFunction(ScalarFunction { func, args }) if ["array_has", "nullif"].contains(&func.name()) => args.iter().collect(),
        _ => return None,
    };
    sides.iter().any(|side| is_constant(side)).then_some(sides)
}

fn is_comparison(op: Operator) -> bool {
    use Operator::{Eq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom, Lt, LtEq, NotEq};
    matches!(op, Eq | NotEq | Lt | LtEq | Gt | GtEq | IsDistinctFrom | IsNotDistinctFrom)
}

fn type_of(expr: &Expr, schema: &DFSchema) -> Option<TextType> {
    if is_constant(expr) {
        return None;
    }
    TextType::of(&expr.to_field(schema).ok()?.1)
}

/// Whether it is a text, or a list of texts, that stands in the plan itself.
pub(super) fn is_constant(expr: &Expr) -> bool {
    match expr {
        Expr::Literal(value, metadata) => {
            metadata.is_none() && (matches!(value, ScalarValue::List(_)) || value.try_as_str().is_some_and(|text| text.is_some()))
        }
        Expr::Cast(Cast { expr, .. }) => is_constant(expr),
        Expr::ScalarFunction(ScalarFunction { func, args }) => func.name() == "make_array" && args.iter().any(is_constant),
        _ => false,
    }
}

fn read_constant(expr: Expr, found: TextType) -> Result<Transformed<Expr>> {
    if !is_constant(&expr) {
        return Ok(Transformed::no(expr));
    }
    expr.transform_down(|part| {
        let Expr::Literal(value, metadata) = &part else { return Ok(Transformed::no(part)) };
        Ok(match read_value(value, found)? {
            Some(read) => Transformed::yes(Expr::Literal(read, metadata.clone())),
            None => Transformed::no(part),
        })
    })
}

/// The value as it is kept; `None` when it is that already, or no text.
fn read_value(value: &ScalarValue, found: TextType) -> Result<Option<ScalarValue>> {
    let read = |values: &ArrayRef| found.read_all(values).map_err(|(_, error)| DataFusionError::from(error));
    let changed = match value {
        ScalarValue::List(list) if list.value_type().is_string() => ScalarValue::List(read_lists(list, found)?.into()),
        text if text.data_type().is_string() => ScalarValue::try_from_array(&read(&text.to_array()?)?, 0)?,
        _ => return Ok(None),
    };
    Ok((changed != *value).then_some(changed))
}

/// Lists of texts, with each as it is kept.
pub(super) fn read_lists(lists: &ListArray, found: TextType) -> Result<ListArray> {
    let (field, offsets, values, nulls) = lists.clone().into_parts();
    let values = found.read_all(&values).map_err(|(_, error)| DataFusionError::from(error))?;
    Ok(ListArray::try_new(field, offsets, values, nulls)?)
}

/// Whether any part of the expressions of a node, not of those below it, is such.
pub(super) fn any_expr(plan: &LogicalPlan, is: impl Fn(&Expr) -> bool) -> Result<bool> {
    let mut found = false;
    plan.apply_expressions(|expr| {
        expr.apply(|part| {
            found |= is(part);
            Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        })
    })?;
    Ok(found)
}
