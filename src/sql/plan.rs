//! From a parsed query to a plan: pre-pass, parameters, positions of errors, the guard.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::{ParamValues, ScalarValue};
use datafusion::error::DataFusionError;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{LogicalPlan, Statement as PlanStatement};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::sql::parser::Statement as DfStatement;
use datafusion::sql::sqlparser::ast::{self, Visit, Visitor};
use portrait_udfs::context::StatementContext;
use portrait_udfs::error::{Code, Error, Result};

use super::{PARAMETERS_MAX, calls, guard, names, series, sources};
use crate::engine::Running;
use crate::error::classify;
use crate::plan::with_text_types;
use crate::storage::TextType;

/// A planned statement and the types of its parameters.
#[derive(Debug)]
pub(super) struct Planned {
    pub(super) plan: LogicalPlan,
    pub(super) parameter_types: Vec<DataType>,
    /// As [`Prepared::parameter_texts`](super::Prepared::parameter_texts).
    pub(super) parameter_texts: Vec<Option<TextType>>,
}

impl Planned {
    /// The columns of its rows.
    pub(super) fn schema(&self) -> SchemaRef {
        names::shown(self.plan.schema().as_arrow())
    }
}

/// Plans `statement` on the query threads. The plan is not checked by the guard: the caller knows which node on top
/// is its own.
pub(super) async fn plan(running: &Running, statement: ast::Statement, text: &str, declared: &[Option<DataType>]) -> Result<Planned> {
    let (state, text, declared) = (Arc::clone(running.state()), Arc::<str>::from(text), declared.to_vec());
    let (engine, mut statement, parameters) = (Arc::clone(running.engine()), statement, running.parameters().clone());
    let own = running.own_tables().clone();
    running
        .run(async move {
            // The client counts the parameters of its own text, also of parts that a rewrite leaves out.
            let written = parameter_count(&statement)?;
            let mut declared = declared;
            for number in series::fill(&mut statement, &parameters) {
                declared.resize(declared.len().max(number), None);
                declared[number - 1].get_or_insert(DataType::Int64);
            }
            calls::check(&engine.catalog().rights(&StatementContext::of(state.config()).user), &state, &statement)?;
            engine.rewrite(&mut statement);
            sources::qualify(&own, &mut statement)?;
            plan_here(&state, statement, written, &text, &declared).await
        })
        .await
}

/// Like [`plan`], for a query: the plan only reads.
pub(super) async fn plan_query(running: &Running, statement: ast::Statement, text: &str, declared: &[Option<DataType>]) -> Result<Planned> {
    let planned = plan(running, statement, text, declared).await?;
    guard::check(&planned.plan)?;
    Ok(planned)
}

async fn plan_here(
    state: &SessionState,
    mut statement: ast::Statement,
    written: usize,
    text: &str,
    declared: &[Option<DataType>],
) -> Result<Planned> {
    prepare_statement(&mut statement)?;
    let count = parameter_count(&statement)?.max(written);
    if count == 0 && declared.is_empty() {
        let plan = to_plan(state, statement, text).await?;
        return Ok(Planned { plan, parameter_types: Vec::new(), parameter_texts: Vec::new() });
    }
    let mut types: Vec<Option<DataType>> = declared.to_vec();
    types.resize(count.max(declared.len()), None);
    super::casts::infer(state, &statement, &mut types).await;
    let mut parameter_texts = vec![None; types.len()];
    if types.iter().any(Option::is_none) {
        // What the query itself says of the types. Parameters that it says nothing of are text, as in PostgreSQL.
        let plan = to_plan(state, statement.clone(), text).await?;
        let mut inferred = plan.get_parameter_fields().map_err(classify)?;
        let mut arrays = super::casts::arrays(&plan);
        for (at, (slot, text)) in types.iter_mut().zip(&mut parameter_texts).enumerate() {
            let name = format!("${}", at + 1);
            let found = inferred.remove(&name).flatten().filter(|found| !found.data_type().is_null());
            let found = found.map(|found| (found.data_type().clone(), TextType::of(&found))).or_else(|| arrays.remove(&name));
            if let (None, Some((data_type, found))) = (&slot, found) {
                (*slot, *text) = (Some(data_type), found);
            }
        }
    }
    let parameter_types: Vec<DataType> = types.into_iter().map(|found| found.map_or(DataType::Utf8, plain)).collect();
    let plan = with_types(state, statement, text, &parameter_types).await?;
    Ok(Planned { plan, parameter_types, parameter_texts })
}

/// Replaces the parameters of `plan` by values.
pub(super) fn bind(plan: LogicalPlan, params: Vec<ScalarValue>) -> Result<LogicalPlan> {
    if params.is_empty() {
        return Ok(plan);
    }
    plan.with_param_values(ParamValues::from(params)).map_err(classify)
}

/// Optimises `plan` and makes it executable, on the query threads.
pub(super) async fn physical(running: &Running, plan: LogicalPlan) -> Result<Arc<dyn ExecutionPlan>> {
    let state = Arc::clone(running.state());
    running.run(async move { state.create_physical_plan(&plan).await.map_err(classify) }).await
}

/// As [`physical`], for a plan that is optimised already.
pub(super) async fn physical_of_optimised(running: &Running, plan: LogicalPlan) -> Result<Arc<dyn ExecutionPlan>> {
    let state = Arc::clone(running.state());
    running.run(async move { state.query_planner().create_physical_plan(&plan, &*state).await.map_err(classify) }).await
}

/// Plans with the types of the parameters known: as `PREPARE x (types) AS …`, which is how DataFusion takes them.
async fn with_types(state: &SessionState, statement: ast::Statement, text: &str, types: &[DataType]) -> Result<LogicalPlan> {
    let data_types = types.iter().map(ast_type).collect::<Result<_>>()?;
    let statement = ast::Statement::Prepare { name: ast::Ident::new("statement"), data_types, statement: Box::new(statement) };
    match to_plan(state, statement, text).await? {
        LogicalPlan::Statement(PlanStatement::Prepare(prepared)) => Ok(Arc::unwrap_or_clone(prepared.input)),
        other => Ok(other),
    }
}

async fn to_plan(state: &SessionState, statement: ast::Statement, text: &str) -> Result<LogicalPlan> {
    let planned = state.statement_to_plan(DfStatement::Statement(Box::new(statement))).await;
    planned.and_then(with_text_types).map_err(|error| with_position(error, text))
}

/// Classifies `error` and adds where in `text` it lies, when the planner says so.
fn with_position(error: DataFusionError, text: &str) -> Error {
    let span = error.diagnostic().and_then(|diagnostic| diagnostic.span);
    let classified = classify(error);
    match span {
        Some(span) if classified.position.is_none() => classified.at(super::parser::character(text, span.start.line, span.start.column)),
        _ => classified,
    }
}

/// The pre-pass of our functions: named sources become subqueries, misplaced training is refused. A second time does
/// nothing.
pub(super) fn prepare_statement(statement: &mut ast::Statement) -> Result<()> {
    portrait_udfs::functions::prepare_statement(statement)
}

/// Refuses EXPLAIN ANALYZE of a training, which would run it.
pub(super) fn refuse_explained_training(statement: &ast::Statement, analyze: bool) -> Result<()> {
    let mut explained = ast::Statement::Explain {
        describe_alias: ast::DescribeAlias::Explain,
        analyze,
        verbose: false,
        query_plan: false,
        estimate: false,
        statement: Box::new(statement.clone()),
        format: None,
        options: None,
    };
    prepare_statement(&mut explained)
}

/// The highest `$n` of a statement.
fn parameter_count(statement: &ast::Statement) -> Result<usize> {
    struct Parameters(BTreeSet<usize>);
    impl Visitor for Parameters {
        type Break = Error;
        fn pre_visit_value(&mut self, value: &ast::ValueWithSpan) -> ControlFlow<Error> {
            let ast::Value::Placeholder(name) = &value.value else { return ControlFlow::Continue(()) };
            match name.strip_prefix('$').and_then(|number| number.parse::<usize>().ok()) {
                Some(number) if (1..=PARAMETERS_MAX).contains(&number) => {
                    self.0.insert(number);
                    ControlFlow::Continue(())
                }
                _ => ControlFlow::Break(Error::new(Code::UndefinedParameter, format!("there is no parameter {name}"))),
            }
        }
    }
    let mut found = Parameters(BTreeSet::new());
    match statement.visit(&mut found) {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => Ok(found.0.last().copied().unwrap_or(0)),
    }
}

/// Clients know one text type and one of each list: views and large variants are ours alone.
fn plain(found: DataType) -> DataType {
    match found {
        DataType::Utf8View | DataType::LargeUtf8 | DataType::Null => DataType::Utf8,
        DataType::BinaryView | DataType::LargeBinary => DataType::Binary,
        DataType::Dictionary(_, value) => plain(*value),
        other => other,
    }
}

/// The SQL type that DataFusion reads as `wanted`.
fn ast_type(wanted: &DataType) -> Result<ast::DataType> {
    use ast::{ArrayElemTypeDef, ExactNumberInfo, TimezoneInfo};
    Ok(match wanted {
        DataType::Boolean => ast::DataType::Boolean,
        DataType::Int8 => ast::DataType::TinyInt(None),
        DataType::Int16 => ast::DataType::SmallInt(None),
        DataType::Int32 => ast::DataType::Int(None),
        DataType::Int64 => ast::DataType::BigInt(None),
        DataType::UInt8 => ast::DataType::TinyIntUnsigned(None),
        DataType::UInt16 => ast::DataType::SmallIntUnsigned(None),
        DataType::UInt32 => ast::DataType::IntUnsigned(None),
        DataType::UInt64 => ast::DataType::BigIntUnsigned(None),
        DataType::Float16 | DataType::Float32 => ast::DataType::Real,
        DataType::Float64 => ast::DataType::Double(ExactNumberInfo::None),
        DataType::Decimal128(precision, scale) | DataType::Decimal256(precision, scale) => {
            ast::DataType::Decimal(ExactNumberInfo::PrecisionAndScale(u64::from(*precision), i64::from(*scale)))
        }
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => ast::DataType::Text,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => ast::DataType::Bytea,
        DataType::Date32 | DataType::Date64 => ast::DataType::Date,
        DataType::Time32(_) | DataType::Time64(_) => ast::DataType::Time(None, TimezoneInfo::None),
        DataType::Timestamp(_, None) => ast::DataType::Timestamp(Some(6), TimezoneInfo::None),
        DataType::Timestamp(_, Some(_)) => ast::DataType::Timestamp(Some(6), TimezoneInfo::WithTimeZone),
        DataType::Interval(_) | DataType::Duration(_) => ast::DataType::Interval { fields: None, precision: None },
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            ast::DataType::Array(ArrayElemTypeDef::SquareBracket(Box::new(ast_type(item.data_type())?), None))
        }
        other => {
            return Err(Error::new(Code::FeatureNotSupported, format!("parameters of type {other} are not supported")));
        }
    })
}
