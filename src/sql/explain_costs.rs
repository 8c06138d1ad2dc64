//! What EXPLAIN estimates of a plan: rows and their width from statistics, in the shape that tools for PostgreSQL read.
//!
//! The cost is PostgreSQL's price of a row (`cpu_tuple_cost`) for each row of each node: plans of one query compare by it.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::physical_plan::statistics::{StatisticsArgs, StatisticsContext};
use datafusion::physical_plan::{ExecutionPlan, displayable};
use serde_json::{Map, Value, json};

const ROW_COST: f64 = 0.01;
/// Bytes of a text or list whose size nobody knows, as PostgreSQL takes them.
const UNKNOWN_WIDTH: usize = 32;

/// Of one node and everything below it.
#[derive(Debug, Clone, Copy)]
struct Estimate {
    cost: f64,
    rows: usize,
    width: usize,
}

impl Estimate {
    fn of(plan: &Arc<dyn ExecutionPlan>) -> Self {
        let inputs: Vec<Self> = plan.children().into_iter().map(Self::of).collect();
        let found = StatisticsContext::new().compute(plan.as_ref(), &StatisticsArgs::new()).ok();
        let known = found.and_then(|statistics| statistics.num_rows.get_value().copied());
        // What says nothing of its rows has as many as its inputs.
        let rows = known.unwrap_or_else(|| inputs.iter().map(|input| input.rows).max().unwrap_or(1));
        let width = plan.schema().fields().iter().map(|field| width(field.data_type())).sum();
        let cost = inputs.iter().map(|input| input.cost).sum::<f64>() + rows as f64 * ROW_COST;
        Self { cost, rows, width }
    }
}

fn width(data_type: &DataType) -> usize {
    data_type.primitive_width().unwrap_or(match data_type {
        DataType::Boolean => 1,
        DataType::Null => 0,
        _ => UNKNOWN_WIDTH,
    })
}

/// `(cost=0.00..0.05 rows=5 width=8)`.
pub(super) fn line(plan: &Arc<dyn ExecutionPlan>) -> String {
    let Estimate { cost, rows, width } = Estimate::of(plan);
    format!("(cost=0.00..{cost:.2} rows={rows} width={width})")
}

/// `[{"Plan": {"Node Type": …}}]`; `ran` are the rows and milliseconds of ANALYZE.
pub(super) fn json(plan: &Arc<dyn ExecutionPlan>, ran: Option<(usize, f64)>) -> String {
    let mut top = node(plan);
    let mut whole = Map::new();
    if let (Some((rows, ms)), Some(top)) = (ran, top.as_object_mut()) {
        top.insert("Actual Rows".into(), json!(rows));
        top.insert("Actual Total Time".into(), json!(ms));
    }
    whole.insert("Plan".into(), top);
    if let Some((_, ms)) = ran {
        whole.insert("Execution Time".into(), json!(ms));
    }
    let text = Value::Array(vec![Value::Object(whole)]);
    format!("{text:#}")
}

fn node(plan: &Arc<dyn ExecutionPlan>) -> Value {
    let Estimate { cost, rows, width } = Estimate::of(plan);
    let detail = displayable(plan.as_ref()).one_line().to_string();
    let mut shown = json!({
        "Node Type": plan.name(),
        "Startup Cost": 0.0,
        "Total Cost": (cost * 100.0).round() / 100.0,
        "Plan Rows": rows,
        "Plan Width": width,
        "Detail": detail.trim(),
    });
    let inputs: Vec<Value> = plan.children().into_iter().map(node).collect();
    if let (false, Some(object)) = (inputs.is_empty(), shown.as_object_mut()) {
        object.insert("Plans".into(), Value::Array(inputs));
    }
    shown
}
