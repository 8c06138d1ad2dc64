//! How nodes that find groups in a way of their own feed the engine's accumulators.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch};
use datafusion::error::Result;
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_expr::expressions::Literal;
use datafusion::physical_plan::aggregates::AggregateExec;

/// The functions of an aggregate and what they are called with.
#[derive(Debug, Clone)]
pub(super) struct Functions {
    functions: Vec<Arc<AggregateFunctionExpr>>,
    filters: Vec<Option<Arc<dyn PhysicalExpr>>>,
}

impl Functions {
    pub(super) fn of(aggregate: &AggregateExec) -> Self {
        Self { functions: aggregate.aggr_expr().to_vec(), filters: aggregate.filter_expr().to_vec() }
    }

    /// Their names, for EXPLAIN.
    pub(super) fn names(&self) -> String {
        self.functions.iter().map(|function| function.name()).collect::<Vec<_>>().join(", ")
    }

    /// No groups yet.
    pub(super) fn states(&self) -> Result<States> {
        Ok(States(self.functions.iter().map(|function| function.create_groups_accumulator()).collect::<Result<_>>()?))
    }
}

/// An accumulator for each function.
pub(super) struct States(Vec<Box<dyn GroupsAccumulator>>);

impl States {
    /// Bytes that they take.
    pub(super) fn bytes(&self) -> usize {
        self.0.iter().map(|state| state.size()).sum()
    }

    /// The result of each function.
    pub(super) fn evaluate(&mut self, emit: EmitTo) -> Result<Vec<ArrayRef>> {
        self.0.iter_mut().map(|state| state.evaluate(emit)).collect()
    }

    /// The columns of the partial states of each function.
    pub(super) fn partial(&mut self) -> Result<Vec<Vec<ArrayRef>>> {
        self.0.iter_mut().map(|state| state.state(EmitTo::All)).collect()
    }

    /// Adds partial states; `groups` has the group of each, of `total` in all.
    pub(super) fn merge(&mut self, partial: &[Vec<ArrayRef>], groups: &[usize], total: usize) -> Result<()> {
        self.0.iter_mut().zip(partial).try_for_each(|(state, columns)| state.merge_batch(columns, groups, total))
    }
}

/// Evaluates arguments batch by batch. Constants are written down once, not for every batch.
pub(super) struct Feeder {
    functions: Functions,
    /// By function and argument, as many rows as the largest batch so far.
    constants: Vec<Vec<Option<ArrayRef>>>,
}

impl Feeder {
    pub(super) fn new(functions: &Functions) -> Self {
        let constants = functions.functions.iter().map(|function| vec![None; function.expressions().len()]).collect();
        Self { functions: functions.clone(), constants }
    }

    /// See [`Functions::states`].
    pub(super) fn states(&self) -> Result<States> {
        self.functions.states()
    }

    /// Adds rows; `groups` has the group of each, of `total` in all.
    pub(super) fn feed(&mut self, states: &mut States, batch: &RecordBatch, groups: &[usize], total: usize) -> Result<()> {
        for (at, state) in states.0.iter_mut().enumerate() {
            let function = &self.functions.functions[at];
            let constants = &mut self.constants[at];
            let arguments = function.expressions();
            let arguments =
                arguments.iter().zip(constants).map(|(expr, known)| argument(expr, batch, known)).collect::<Result<Vec<_>>>()?;
            let filter = self.functions.filters[at].as_ref();
            let filter = filter.map(|filter| filter.evaluate(batch)?.into_array(batch.num_rows())).transpose()?;
            state.update_batch(&arguments, groups, filter.as_ref().map(|filter| filter.as_boolean()), total)?;
        }
        Ok(())
    }
}

fn argument(expr: &Arc<dyn PhysicalExpr>, batch: &RecordBatch, known: &mut Option<ArrayRef>) -> Result<ArrayRef> {
    let rows = batch.num_rows();
    if let Some(known) = known.as_ref().filter(|known| known.len() >= rows) {
        return Ok(known.slice(0, rows));
    }
    let value = expr.evaluate(batch)?.into_array(rows)?;
    if (expr.as_ref() as &dyn std::any::Any).is::<Literal>() {
        *known = Some(Arc::clone(&value));
    }
    Ok(value)
}
