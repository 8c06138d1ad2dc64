//! Which results are of a type that is kept as texts ([`TextType`]), in a plan that was just made: clients are told of it, and tables
//! and views are made of it.
//!
//! Fields say the type in their metadata, which a cast passes on and a choice does not. Here the text of a uuid becomes no uuid, and
//! one of several uuids (`CASE`, `coalesce`, …) is a uuid, also when some of them are constants; an array of uuids is one of uuids. What
//! says so in a plan is a function around it, which reads its values: a constant among them must be a uuid too.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray};
use datafusion::arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    Case, Cast, ColumnarValue, Expr, ExprSchemable, LogicalPlan, Projection, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature, TryCast, Union, Volatility,
};
use portrait_udfs::error::{Code, Error};
use portrait_udfs::functions::relation::sql_type;

use super::text_types::{any_expr, is_constant, read_lists};
use crate::storage::{TYPE_KEY, TextType};

const NAME: &str = "as_text_type";

/// The plan, whose results say of which type they are.
///
/// # Errors
/// 42804 for a set operation of uuids and other texts.
pub(crate) fn with_text_types(plan: LogicalPlan) -> Result<LogicalPlan> {
    let mut below = false;
    let done = plan.transform_up_with_subqueries(|node| {
        // Those above say the types of what is below.
        let node = if below { recomputed(node)? } else { node };
        let changed = in_node(node)?;
        if !changed.transformed {
            return Ok(Transformed::new_transformed(changed.data, below));
        }
        below = true;
        recomputed(changed.data).map(Transformed::yes)
    })?;
    Ok(done.data)
}

fn recomputed(node: LogicalPlan) -> Result<LogicalPlan> {
    match node {
        LogicalPlan::Union(union) => Union::try_new_with_loose_types(union.inputs).map(LogicalPlan::Union),
        other => other.recompute_schema(),
    }
}

fn in_node(node: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    if let LogicalPlan::Union(union) = node {
        return in_union(union);
    }
    if !any_expr(&node, may_change)? {
        return Ok(Transformed::no(node));
    }
    let schema = merge_schema(&node.inputs());
    let names = NamePreserver::new(&node);
    node.map_expressions(|expr| {
        let saved = names.save(&expr);
        let changed = expr.transform_up(|expr| Ok(with_type(expr, &schema)))?;
        Ok(if changed.transformed { changed.update_data(|expr| saved.restore(expr)) } else { changed })
    })
}

/// The values of a column have one type in all inputs: constants and NULL take that of the others.
fn in_union(union: Union) -> Result<Transformed<LogicalPlan>> {
    let Union { mut inputs, schema } = union;
    let mut changed = false;
    for column in 0..schema.fields().len() {
        let field = |input: &Arc<LogicalPlan>| input.schema().fields().get(column).cloned();
        let Some(found) = inputs.iter().filter_map(field).find_map(|field| TextType::of(&field)) else { continue };
        for input in &mut inputs {
            let Some(field) = field(input).filter(|field| TextType::of(field) != Some(found)) else { continue };
            let read = match input.as_ref() {
                LogicalPlan::Projection(projection) => projection.expr.get(column).and_then(|expr| as_constant(expr, found)),
                _ => None,
            };
            *input = match (read, input.as_ref()) {
                (Some(read), LogicalPlan::Projection(projection)) => {
                    let mut exprs = projection.expr.clone();
                    exprs[column] = read;
                    Arc::new(LogicalPlan::Projection(Projection::try_new(exprs, Arc::clone(&projection.input))?))
                }
                // Nothing but NULL has every type.
                _ if field.data_type().is_null() => continue,
                _ => return Err(unmatched(found, &field)),
            };
            changed = true;
        }
    }
    let union = if changed { Union::try_new_with_loose_types(inputs)? } else { Union { inputs, schema } };
    Ok(Transformed::new_transformed(LogicalPlan::Union(union), changed))
}

/// A constant, or NULL, of a type; `None` for anything else.
fn as_constant(expr: &Expr, found: TextType) -> Option<Expr> {
    let (inner, name) = match expr {
        Expr::Alias(alias) => (alias.expr.as_ref(), alias.name.clone()),
        other => (other, other.schema_name().to_string()),
    };
    let null = matches!(inner, Expr::Literal(value, _) if value.is_null());
    (null || is_constant(inner)).then(|| ScalarUDF::new_from_impl(AsTextType::new(found)).call(vec![inner.clone()]).alias(name))
}

fn unmatched(found: TextType, other: &Field) -> DataFusionError {
    let other = TextType::of(other).map_or_else(|| sql_type(other.data_type()), |other| other.name().to_owned());
    Error::new(Code::DatatypeMismatch, format!("UNION types {} and {other} cannot be matched", found.name())).into()
}

fn may_change(expr: &Expr) -> bool {
    matches!(expr, Expr::Cast(_) | Expr::TryCast(_)) || branches(expr).is_some()
}

fn with_type(expr: Expr, schema: &DFSchema) -> Transformed<Expr> {
    match &expr {
        Expr::Cast(_) | Expr::TryCast(_) => without_type(expr, schema),
        // A view's plan comes with its own.
        Expr::ScalarFunction(ScalarFunction { func, args }) if func.name() == NAME => match args.as_slice() {
            [Expr::ScalarFunction(inner)] if inner.func.name() == NAME => Transformed::yes(args[0].clone()),
            _ => Transformed::no(expr),
        },
        _ => match branches(&expr).and_then(|branches| type_of(&branches, schema)) {
            Some(found) => Transformed::yes(ScalarUDF::new_from_impl(AsTextType::new(found)).call(vec![expr])),
            None => Transformed::no(expr),
        },
    }
}

/// What one of several values, or all of them, make the result.
fn branches(expr: &Expr) -> Option<Vec<&Expr>> {
    match expr {
        Expr::Case(Case { when_then_expr, else_expr, .. }) => {
            Some(when_then_expr.iter().map(|(_, then)| then.as_ref()).chain(else_expr.as_deref()).collect())
        }
        Expr::ScalarFunction(ScalarFunction { func, args }) => match func.name() {
            "coalesce" | "greatest" | "least" | "make_array" => Some(args.iter().collect()),
            "nullif" => args.first().map(|first| vec![first]),
            _ => None,
        },
        _ => None,
    }
}

/// The one type of values, beside constants and NULL.
fn type_of(values: &[&Expr], schema: &DFSchema) -> Option<TextType> {
    let mut found = None;
    for value in values {
        if is_constant(value) || matches!(value, Expr::Literal(value, _) if value.is_null()) {
            continue;
        }
        let one = TextType::of(&value.to_field(schema).ok()?.1)?;
        if *found.get_or_insert(one) != one {
            return None;
        }
    }
    found
}

fn without_type(expr: Expr, schema: &DFSchema) -> Transformed<Expr> {
    let (Expr::Cast(Cast { expr: inner, field }) | Expr::TryCast(TryCast { expr: inner, field })) = &expr else {
        return Transformed::no(expr);
    };
    let typed = field.name().is_empty() && inner.to_field(schema).is_ok_and(|(_, from)| TextType::of(&from).is_some());
    if !typed {
        return Transformed::no(expr);
    }
    // A target with a name is taken as it is, one without takes over what the source says.
    let target = Field::new("cast", field.data_type().clone(), true).into();
    Transformed::yes(match expr {
        Expr::TryCast(TryCast { expr, .. }) => Expr::TryCast(TryCast::new_from_field(expr, target)),
        Expr::Cast(Cast { expr, .. }) => Expr::Cast(Cast::new_from_field(expr, target)),
        other => other,
    })
}

/// Returns its argument, of this type: texts, or lists of texts.
#[derive(Debug, PartialEq, Eq, Hash)]
struct AsTextType {
    found: TextType,
    signature: Signature,
}

impl AsTextType {
    fn new(found: TextType) -> Self {
        Self { found, signature: Signature::any(1, Volatility::Immutable) }
    }

    fn read(&self, values: &ArrayRef) -> Result<ArrayRef> {
        match values.data_type() {
            DataType::List(item) if item.data_type().is_string() => Ok(Arc::new(read_lists(values.as_list(), self.found)?)),
            found if found.is_string() => self.found.read_all(values).map_err(|(_, error)| DataFusionError::from(error)),
            _ => Ok(Arc::clone(values)),
        }
    }
}

impl ScalarUDFImpl for AsTextType {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, given: &[DataType]) -> Result<DataType> {
        Ok(given.first().cloned().unwrap_or(DataType::Utf8))
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let given: Vec<DataType> = args.arg_fields.iter().map(|field| field.data_type().clone()).collect();
        let returned = self.return_type(&given)?;
        let name = if returned.is_list() { format!("{}[]", self.found.name()) } else { self.found.name().to_owned() };
        Ok(Arc::new(Field::new(NAME, returned, true).with_metadata([(TYPE_KEY.to_owned(), name)].into())))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [value] = args.args.as_slice() else { return datafusion::common::internal_err!("{NAME} takes one value") };
        Ok(match value {
            ColumnarValue::Array(values) => ColumnarValue::Array(self.read(values)?),
            ColumnarValue::Scalar(value) => ColumnarValue::Scalar(ScalarValue::try_from_array(&self.read(&value.to_array()?)?, 0)?),
        })
    }
}
