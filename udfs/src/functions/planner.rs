//! Binds calls of the functions of [`super::relations`] in `FROM` and carries them through the plan.
//!
//! Life of a call: `RelationPlanner` matches the name, binds its arguments and makes a [`RelationNode`] → the
//! optimizer folds the arguments, parameters are substituted → [`RelationExtensionPlanner`] evaluates what is
//! left, pins models to a version and makes a [`RelationExec`] → its stream starts the function at the first poll.
//!
//! What must never happen here: reading data, training, looking a model's weights up.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, DFSchemaRef, ScalarValue};
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::execution::context::QueryPlanner;
use datafusion::execution::{SendableRecordBatchStream, SessionState, TaskContext};
use datafusion::logical_expr::expr::Placeholder;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, UserDefinedLogicalNode, UserDefinedLogicalNodeCore};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::physical_expr::EquivalenceProperties;
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PhysicalExpr, PlanProperties};
use datafusion::physical_planner::{DefaultPhysicalPlanner, ExtensionPlanner, PhysicalPlanner};
use datafusion::sql::sqlparser::ast::{self, FunctionArg, FunctionArgExpr, Ident, TableAlias, TableFactor};
use futures::{StreamExt, TryStreamExt};

use super::MlContext;
use super::prepass::{self, FORM_ARGUMENT, SQL_ARGUMENT};
use super::reference::signature;
use super::relation::{Argument, Arguments, Call, Effect, Kind, MlRelation, Parameter, Source, conform, unknown_argument};
use crate::context::StatementContext;
use crate::error::{Code, Error, Result};
use crate::registry::ModelAction;

/// Finds our functions in `FROM`.
#[derive(Debug)]
pub struct MlRelationPlanner {
    relations: HashMap<&'static str, Arc<dyn MlRelation>>,
    context: Arc<MlContext>,
}

impl MlRelationPlanner {
    /// A planner for `relations`.
    pub fn new(relations: Vec<Arc<dyn MlRelation>>, context: Arc<MlContext>) -> Self {
        Self { relations: relations.into_iter().map(|r| (r.name(), r)).collect(), context }
    }
}

impl RelationPlanner for MlRelationPlanner {
    fn plan_relation(&self, relation: TableFactor, context: &mut dyn RelationPlannerContext) -> DfResult<RelationPlanning> {
        let TableFactor::Table { name, alias, args: Some(args), .. } = &relation else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        let Some(found) = prepass::function_name(name).and_then(|name| self.relations.get(name.as_str())) else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        let implicit = || TableAlias { explicit: false, name: Ident::new(found.name()), columns: vec![], at: None };
        let alias = alias.clone().unwrap_or_else(implicit);
        let node = bind(Arc::clone(found), &self.context, args.args.clone(), context)?;
        let plan = LogicalPlan::Extension(Extension { node: Arc::new(node) });
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, Some(alias)))))
    }
}

/// Which argument an expression of the node is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Hash)]
enum Slot {
    /// A parameter of the function, by name.
    Parameter(&'static str),
    /// A training option written as a named argument.
    Option(String),
    /// A placeholder (`$1`) inside the source query: its value belongs into the stored SQL.
    SourcePlaceholder(String),
}

/// The arguments of a call as they were written.
struct Written {
    bound: Vec<(Slot, ast::Expr)>,
    /// `row` or `json` when the pre-pass found the call at the top level.
    form: Option<String>,
    /// The source with the common table expressions that it uses.
    sql: Option<String>,
}

fn is_option(name: &str) -> bool {
    crate::features::OPTION_KEYS.iter().any(|option| option.key == name)
}

/// Sorts the written arguments by parameter: positional first, then named.
fn by_parameter(relation: &dyn MlRelation, written: Vec<FunctionArg>, context: &dyn RelationPlannerContext) -> Result<Written> {
    let parameters = relation.parameters();
    let mut bound: Vec<(Slot, ast::Expr)> = vec![];
    let (mut form, mut sql) = (None, None);
    let mut named_seen = false;
    for (position, argument) in written.into_iter().enumerate() {
        let (slot, value) = match argument {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(value)) => {
                if named_seen {
                    return Err(Error::new(Code::Syntax, "positional argument cannot follow named argument"));
                }
                let Some(parameter) = parameters.get(position) else {
                    let most = parameters.len();
                    return Err(Error::new(Code::UndefinedFunction, format!("{} takes at most {most} arguments", relation.name())));
                };
                (Slot::Parameter(parameter.name), value)
            }
            FunctionArg::Named { name, arg: FunctionArgExpr::Expr(value), .. }
            | FunctionArg::ExprNamed { name: ast::Expr::Identifier(name), arg: FunctionArgExpr::Expr(value), .. } => {
                named_seen = true;
                let name = context.normalize_ident(name);
                if name == FORM_ARGUMENT || name == SQL_ARGUMENT {
                    let text = prepass::string_literal(&value).map(|(text, _)| text);
                    *(if name == FORM_ARGUMENT { &mut form } else { &mut sql }) = text;
                    continue;
                }
                match parameters.iter().find(|p| p.name == name) {
                    Some(parameter) => (Slot::Parameter(parameter.name), value),
                    None if relation.takes_options() && is_option(&name) => (Slot::Option(name), value),
                    None => return Err(unknown_argument(relation, &name)),
                }
            }
            other => return Err(Error::new(Code::Syntax, format!("unsupported argument {other} of {}", relation.name()))),
        };
        if bound.iter().any(|(other, _)| *other == slot) {
            let name = match &slot {
                Slot::Parameter(name) => name,
                Slot::Option(name) | Slot::SourcePlaceholder(name) => name.as_str(),
            };
            return Err(Error::new(Code::Syntax, format!("argument name \"{name}\" used more than once")));
        }
        bound.push((slot, value));
    }
    Ok(Written { bound, form, sql })
}

fn bind(
    relation: Arc<dyn MlRelation>,
    ml: &Arc<MlContext>,
    written: Vec<FunctionArg>,
    context: &mut dyn RelationPlannerContext,
) -> DfResult<RelationNode> {
    let Written { bound, form, sql: whole } = by_parameter(relation.as_ref(), written, context)?;
    if relation.has_effects() && form.is_none() {
        return Err(prepass::misplaced(relation.name()).into());
    }
    let (mut slots, mut exprs, mut given) = (vec![], vec![], vec![]);
    // By the order of the parameters, whatever the order in which they were written.
    let mut sources: Vec<(usize, LogicalPlan, String)> = vec![];
    for (slot, value) in bound {
        let parameter = match &slot {
            Slot::Parameter(name) => relation.parameters().iter().find(|p| p.name == *name),
            _ => None,
        };
        if parameter.is_some_and(|p| p.kind == Kind::Source) {
            if prepass::is_null(&value) {
                continue;
            }
            let query = prepass::source_query(relation.name(), &value)?;
            let place = relation.parameters().iter().position(|p| Slot::Parameter(p.name) == slot).unwrap_or_default();
            let text = query.to_string();
            for id in prepass::placeholders(&query) {
                exprs.push(Expr::Placeholder(Placeholder::new_with_field(id.clone(), None)));
                slots.push(Slot::SourcePlaceholder(id));
            }
            sources.push((place, plan_source(query, context)?, text));
            given.push(place);
            continue;
        }
        exprs.push(typed_placeholder(context.sql_to_expr(value, &DFSchema::empty())?, parameter));
        slots.push(slot);
    }
    let options = context.context_provider().options().clone();
    sources.sort_by_key(|(place, ..)| *place);
    let sql = sources.first().map(|(_, _, text)| whole.unwrap_or_else(|| text.clone()));
    let inputs = sources.into_iter().map(|(_, plan, _)| plan).collect();
    let mut node =
        RelationNode { relation, slots, exprs, inputs, sql, json: form.as_deref() == Some("json"), schema: Arc::new(DFSchema::empty()) };
    for (place, parameter) in node.relation.parameters().iter().enumerate().filter(|(_, p)| p.required) {
        let given = match parameter.kind {
            Kind::Source => given.contains(&place),
            _ => node.slots.contains(&Slot::Parameter(parameter.name)),
        };
        if !given {
            let message = format!("{} needs the argument \"{}\"", node.relation.name(), parameter.name);
            return Err(Error::new(Code::UndefinedFunction, message)
                .detail(format!("The signature is {}.", signature(node.relation.name(), node.relation.parameters())))
                .into());
        }
    }
    let args = node.arguments(&|expr| constant(expr, &options))?;
    let schemas: Vec<Schema> = node.inputs.iter().map(|input| input.schema().as_arrow().clone()).collect();
    let schema = node.relation.schema_of(&args, &schemas, ml)?;
    let schema = if node.json { json_schema(node.relation.name()) } else { schema };
    node.schema = Arc::new(DFSchema::try_from(schema)?);
    Ok(node)
}

fn json_schema(name: &str) -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new(name, DataType::Utf8, false)]))
}

/// Plans the source as a derived table: it sees outer common table expressions and the caller's tables.
fn plan_source(query: Box<ast::Query>, context: &mut dyn RelationPlannerContext) -> DfResult<LogicalPlan> {
    let path = prepass::path_of(&query);
    let factor = TableFactor::Derived { lateral: false, subquery: query, alias: None, sample: None };
    context.plan(factor).map_err(|error| match path {
        Some(path) if error.to_string().contains("not found") => {
            Error::new(Code::UndefinedTable, format!("file \"{path}\" cannot be read"))
                .detail("It does not exist, is not under a data root, or this program does not read paths.")
                .hint(format!("CREATE EXTERNAL TABLE t STORED AS PARQUET LOCATION '{path}' and name the table."))
                .into()
        }
        _ => error,
    })
}

/// Gives a bare `$1` the type of its parameter, so that drivers can ask for it.
fn typed_placeholder(expr: Expr, parameter: Option<&Parameter>) -> Expr {
    match (expr, parameter) {
        (Expr::Placeholder(p), Some(parameter)) if p.field.is_none() => {
            let field = Field::new(parameter.name, parameter.kind.placeholder_type(), true);
            // The name is not part of a parameter's type: two places may share `$1`.
            Expr::Placeholder(Placeholder::new_with_field(p.id, Some(Arc::new(field.with_name("")))))
        }
        (expr, _) => expr,
    }
}

/// The value of a constant expression; `None` while it contains a parameter.
fn constant(expr: &Expr, options: &datafusion::config::ConfigOptions) -> Result<Option<ScalarValue>> {
    let mut expr = expr.clone();
    while let Expr::Alias(alias) = expr {
        expr = *alias.expr;
    }
    if let Expr::Literal(value, _) = &expr {
        return Ok(Some(value.clone()));
    }
    let mut waits = false;
    let mut seen = |e: &Expr| {
        waits |= matches!(e, Expr::Placeholder(_));
        Ok(TreeNodeRecursion::Continue)
    };
    if expr.apply(&mut seen).is_ok() && waits {
        return Ok(None);
    }
    let not_constant = || Error::invalid(format!("an argument of a table function must be a constant, not {expr}"));
    let info = SimplifyContext::builder()
        .with_schema(Arc::new(DFSchema::empty()))
        .with_config_options(Arc::new(options.clone()))
        .with_query_execution_start_time(Some(chrono::Utc::now()))
        .build();
    let simplifier = ExprSimplifier::new(info);
    let folded = simplifier
        .coerce(expr.clone(), &DFSchema::empty())
        .and_then(|expr| simplifier.simplify(expr))
        .map_err(|error| not_constant().detail(format!("It cannot be evaluated: {}.", error.strip_backtrace())))?;
    match folded {
        Expr::Literal(value, _) => Ok(Some(value)),
        _ => Err(not_constant()),
    }
}

/// A call of one of our functions in a logical plan.
#[derive(Clone)]
pub struct RelationNode {
    relation: Arc<dyn MlRelation>,
    slots: Vec<Slot>,
    /// One per slot.
    exprs: Vec<Expr>,
    /// The sources.
    inputs: Vec<LogicalPlan>,
    /// The first source.
    sql: Option<String>,
    /// Rows as JSON text (the bare `SELECT f(…)` form).
    json: bool,
    schema: DFSchemaRef,
}

impl RelationNode {
    /// The model that the call names, when it does so by a constant.
    pub(crate) fn model(&self) -> Option<String> {
        let at = self.slots.iter().position(|slot| *slot == Slot::Parameter("model"))?;
        match self.exprs.get(at)? {
            Expr::Literal(name, _) => name.try_as_str().flatten().map(str::to_owned),
            _ => None,
        }
    }

    /// The function's name.
    pub fn function(&self) -> &'static str {
        self.relation.name()
    }

    /// The arguments whose values are known.
    fn arguments(&self, value_of: &dyn Fn(&Expr) -> Result<Option<ScalarValue>>) -> Result<Arguments> {
        let mut args = Arguments::new(self.relation.name());
        for (slot, expr) in self.slots.iter().zip(&self.exprs) {
            match (slot, value_of(expr)?) {
                (Slot::SourcePlaceholder(_), _) => {}
                (Slot::Parameter(name), None) => args.set_unbound(name),
                (Slot::Option(_), None) => {}
                (Slot::Parameter(name), Some(value)) => {
                    let Some(parameter) = self.relation.parameters().iter().find(|p| p.name == *name) else {
                        return Err(Error::internal(format!("no parameter {name}")));
                    };
                    match Argument::bind(self.relation.name(), name, parameter.kind, value)? {
                        Some(value) => args.set(name, value),
                        // Whatever may be given may be NULL: an unknown user has no rows, and no error.
                        None if parameter.required && parameter.kind != Kind::Any => return Err(args.missing(name)),
                        None => {}
                    }
                }
                (Slot::Option(name), Some(value)) => args.set_option(name, option_value(name, &value)?),
            }
        }
        Ok(args)
    }

    /// The source as self-contained SQL, with the values of its placeholders.
    fn source_sql(&self, value_of: &dyn Fn(&Expr) -> Result<Option<ScalarValue>>) -> Result<Option<String>> {
        let Some(sql) = &self.sql else { return Ok(None) };
        let mut values = HashMap::new();
        for (slot, expr) in self.slots.iter().zip(&self.exprs) {
            if let (Slot::SourcePlaceholder(id), Some(value)) = (slot, value_of(expr)?) {
                values.insert(id.clone(), value);
            }
        }
        if values.is_empty() { Ok(Some(sql.clone())) } else { prepass::substitute(sql, &values).map(Some) }
    }
}

/// A constant as an option's JSON value.
fn option_value(name: &str, value: &ScalarValue) -> Result<serde_json::Value> {
    use serde_json::Value;
    if value.is_null() {
        return Ok(Value::Null);
    }
    if let ScalarValue::Boolean(Some(v)) = value {
        return Ok(Value::Bool(*v));
    }
    if let Some(text) = value.try_as_str().flatten() {
        return Ok(Value::String(text.to_owned()));
    }
    if value.data_type().is_integer()
        && let Ok(ScalarValue::Int64(Some(v))) = value.cast_to(&DataType::Int64)
    {
        return Ok(Value::from(v));
    }
    match value.cast_to(&DataType::Float64) {
        Ok(ScalarValue::Float64(Some(v))) if value.data_type().is_numeric() => Ok(Value::from(v)),
        _ => Err(Error::invalid(format!("option \"{name}\" must be a number, a text or a boolean"))),
    }
}

impl fmt::Debug for RelationNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RelationNode").field("name", &self.relation.name()).field("exprs", &self.exprs).finish_non_exhaustive()
    }
}

impl RelationNode {
    fn key(&self) -> (&'static str, &[Slot], &[Expr], &[LogicalPlan], &Option<String>, bool) {
        (self.relation.name(), &self.slots, &self.exprs, &self.inputs, &self.sql, self.json)
    }
}

impl PartialEq for RelationNode {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for RelationNode {}

impl Hash for RelationNode {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

impl PartialOrd for RelationNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}

impl UserDefinedLogicalNodeCore for RelationNode {
    fn name(&self) -> &str {
        self.relation.name()
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        self.inputs.iter().collect()
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        self.exprs.clone()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.slots.iter().zip(&self.exprs).filter_map(|(slot, expr)| match slot {
            Slot::Parameter(name) => Some(format!("{name} => {expr}")),
            Slot::Option(name) => Some(format!("{name} => {expr}")),
            Slot::SourcePlaceholder(_) => None,
        });
        write!(f, "{}: {}", self.relation.name(), shown.collect::<Vec<_>>().join(", "))
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, inputs: Vec<LogicalPlan>) -> DfResult<Self> {
        if exprs.len() != self.slots.len() || inputs.len() != self.inputs.len() {
            return Err(Error::internal(format!("{} was rebuilt with other arguments", self.relation.name())).into());
        }
        Ok(Self { exprs, inputs, ..self.clone() })
    }
}

/// The call at the top of a statement that does something besides answering: its name, and what it does.
pub fn effect_of(plan: &LogicalPlan) -> Option<(&'static str, Effect)> {
    let mut found = None;
    // Cannot fail: the visitor does not.
    let _ = plan.apply(|node| {
        if let LogicalPlan::Extension(extension) = node
            && let Some(call) = extension.node.as_any().downcast_ref::<RelationNode>()
        {
            found = found.or(call.relation.effect().map(|effect| (call.relation.name(), effect)));
        }
        Ok(if found.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    found
}

/// Whether executing `plan` runs a call with effects: `LIMIT 0` and `WHERE false` leave nothing to run.
pub fn runs_effects(plan: &Arc<dyn ExecutionPlan>) -> bool {
    let runs = plan.downcast_ref::<RelationExec>().is_some_and(|call| call.relation.has_effects());
    runs || plan.children().into_iter().any(runs_effects)
}

/// Turns [`RelationNode`] into [`RelationExec`].
#[derive(Debug)]
pub struct RelationExtensionPlanner {
    context: Arc<MlContext>,
}

impl RelationExtensionPlanner {
    /// A planner whose functions see `context`.
    pub fn new(context: Arc<MlContext>) -> Self {
        Self { context }
    }
}

#[async_trait]
impl ExtensionPlanner for RelationExtensionPlanner {
    async fn plan_extension(
        &self,
        _planner: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _logical_inputs: &[&LogicalPlan],
        physical_inputs: &[Arc<dyn ExecutionPlan>],
        session: &dyn Session,
        _context: &PhysicalPlanningContext,
    ) -> DfResult<Option<Arc<dyn ExecutionPlan>>> {
        let Some(node) = node.as_any().downcast_ref::<RelationNode>() else {
            return Ok(None);
        };
        let options = session.config_options();
        let value_of = |expr: &Expr| {
            let value = constant(expr, options)?;
            value.map(Some).ok_or_else(|| Error::new(Code::UndefinedObject, format!("there is no value for parameter {expr}")))
        };
        let mut args = node.arguments(&value_of)?;
        let sql = node.source_sql(&value_of)?;
        for parameter in node.relation.parameters().iter().filter(|p| p.kind == Kind::Model) {
            if let Some(name) = args.text(parameter.name) {
                let model = self.context.registry.resolve(name)?;
                let user = &StatementContext::of(session.config()).user;
                self.context.registry.authorize(user, &model.name, ModelAction::Execute)?;
                args.set(parameter.name, Argument::Model(model));
            }
        }
        let Some(session) = session.as_any().downcast_ref::<SessionState>() else {
            return Err(Error::internal("the session is not a SessionState").into());
        };
        Ok(Some(Arc::new(RelationExec::new(node, args, sql, physical_inputs.to_vec(), session.clone(), Arc::clone(&self.context)))))
    }
}

/// Runs one of our functions; its single partition starts it at the first poll.
#[derive(Clone)]
pub struct RelationExec {
    relation: Arc<dyn MlRelation>,
    args: Arguments,
    sql: Option<String>,
    json: bool,
    inputs: Vec<Arc<dyn ExecutionPlan>>,
    session: SessionState,
    context: Arc<MlContext>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl RelationExec {
    fn new(
        node: &RelationNode,
        args: Arguments,
        sql: Option<String>,
        inputs: Vec<Arc<dyn ExecutionPlan>>,
        session: SessionState,
        context: Arc<MlContext>,
    ) -> Self {
        let schema: SchemaRef = Arc::new(node.schema.as_arrow().clone());
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Self {
            relation: Arc::clone(&node.relation),
            args,
            sql,
            json: node.json,
            inputs,
            session,
            context,
            properties: Arc::new(properties),
            metrics: ExecutionPlanMetricsSet::new(),
        }
    }
}

impl fmt::Debug for RelationExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RelationExec").field("name", &self.relation.name()).field("args", &self.args).finish_non_exhaustive()
    }
}

impl DisplayAs for RelationExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RelationExec: {}({})", self.relation.name(), self.args.display())
    }
}

impl ExecutionPlan for RelationExec {
    fn name(&self) -> &str {
        "RelationExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        self.inputs.iter().collect()
    }

    // The function reads its source's partitions in order; a round robin would shuffle the rows.
    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false; self.children().len()]
    }

    fn apply_expressions(&self, _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DfResult<TreeNodeRecursion>) -> DfResult<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> DfResult<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(Self { inputs: children, ..self.as_ref().clone() }))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn execute(&self, partition: usize, task: Arc<TaskContext>) -> DfResult<SendableRecordBatchStream> {
        if partition != 0 {
            return Err(Error::internal(format!("{} has one partition", self.relation.name())).into());
        }
        let schema = self.schema();
        let source = match (self.inputs.first(), &self.sql) {
            (Some(plan), Some(sql)) => Some(Source { plan: Arc::clone(plan), sql: sql.clone() }),
            _ => None,
        };
        let rows = if self.json {
            // The JSON form wraps the rows of the row form.
            let schemas: Vec<Schema> = self.inputs.iter().map(|plan| plan.schema().as_ref().clone()).collect();
            self.relation.schema_of(&self.args, &schemas, &self.context)?
        } else {
            Arc::clone(&schema)
        };
        let call = Call {
            args: self.args.clone(),
            source,
            second: self.inputs.get(1).cloned(),
            session: self.session.clone(),
            task,
            context: Arc::clone(&self.context),
            schema: Arc::clone(&rows),
            metrics: self.metrics.clone(),
        };
        let (relation, json, out) = (Arc::clone(&self.relation), self.json, Arc::clone(&schema));
        let stream = futures::stream::once(async move { relation.execute(call).map_err(DataFusionError::from) }).try_flatten();
        let stream = stream.map(move |batch| {
            let batch = conform(&batch?, &rows)?;
            if json { to_json(&batch, &out) } else { Ok(batch) }
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, stream)))
    }
}

/// One JSON object per row, NULLs spelled out.
fn to_json(batch: &RecordBatch, schema: &SchemaRef) -> DfResult<RecordBatch> {
    let mut lines = arrow::json::writer::WriterBuilder::new()
        .with_explicit_nulls(true)
        .build::<_, arrow::json::writer::LineDelimited>(Vec::<u8>::new());
    lines.write(batch)?;
    lines.finish()?;
    let text = String::from_utf8(lines.into_inner()).map_err(|e| Error::internal(e.to_string()))?;
    let rows = StringArray::from(text.lines().collect::<Vec<_>>());
    Ok(RecordBatch::try_new(Arc::clone(schema), vec![Arc::new(rows)])?)
}

/// DataFusion's planner with our extension nodes.
pub struct MlQueryPlanner {
    planners: Vec<Arc<dyn ExtensionPlanner + Send + Sync>>,
}

impl MlQueryPlanner {
    /// A query planner that knows the nodes of `planners`.
    pub fn new(planners: Vec<Arc<dyn ExtensionPlanner + Send + Sync>>) -> Self {
        Self { planners }
    }
}

impl fmt::Debug for MlQueryPlanner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MlQueryPlanner").field("planners", &self.planners.len()).finish()
    }
}

#[async_trait]
impl QueryPlanner for MlQueryPlanner {
    async fn create_physical_plan(&self, plan: &LogicalPlan, session: &dyn Session) -> DfResult<Arc<dyn ExecutionPlan>> {
        DefaultPhysicalPlanner::with_extension_planners(self.planners.clone()).create_physical_plan(plan, session).await
    }
}
