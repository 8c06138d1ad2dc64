//! `CASE WHEN condition THEN column ELSE 0 END` without taking the rows apart and putting them together again.
//!
//! The engine evaluates each branch for its rows alone, because a branch may fail for others, and merges the results run by run:
//! where conditions change from row to row that costs more than the sum that is made of it. A column and a constant cannot
//! fail: both are at hand for all rows, and one is chosen for each.

use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, PrimitiveArray, downcast_primitive};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::compute::kernels::zip::zip;
use arrow::datatypes::{DataType, Schema};
use arrow::record_batch::RecordBatch;
use datafusion::common::tree_node::Transformed;
use datafusion::config::ConfigOptions;
use datafusion::error::Result;
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{CaseExpr, Column, Literal};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;

use super::expressions::with_each;

/// The rule.
#[derive(Debug, Default)]
pub(crate) struct Choices;

impl PhysicalOptimizerRule for Choices {
    fn name(&self) -> &'static str {
        "Choices"
    }

    fn schema_check(&self) -> bool {
        true
    }

    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        with_each(plan, &|expr, schema| {
            Ok(match Choice::of(&expr, schema) {
                Some(choice) => Transformed::yes(Arc::new(choice)),
                None => Transformed::no(expr),
            })
        })
    }
}

/// One of two values for each row.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Choice {
    /// The condition, what is chosen where it is true, and what elsewhere.
    parts: [Arc<dyn PhysicalExpr>; 3],
    /// As the engine sees it: `CASE WHEN x IS NOT NULL THEN x ELSE 0 END` is never NULL.
    nullable: bool,
}

impl Choice {
    /// The choice that an expression is, where its branches are two columns, or a column and a constant, of numbers or times.
    fn of(expr: &Arc<dyn PhysicalExpr>, schema: &Schema) -> Option<Self> {
        let case = expr.downcast_ref::<CaseExpr>().filter(|case| case.expr().is_none())?;
        let ([(when, then)], otherwise) = (case.when_then_expr(), case.else_expr()?) else { return None };
        let is_column = |expr: &Arc<dyn PhysicalExpr>| expr.is::<Column>();
        let at_hand = |expr: &Arc<dyn PhysicalExpr>| is_column(expr) || expr.is::<Literal>();
        let kind = then.data_type(schema).ok()?;
        let fits = at_hand(then)
            && at_hand(otherwise)
            && (is_column(then) || is_column(otherwise))
            && kind.is_primitive()
            && otherwise.data_type(schema).is_ok_and(|other| other == kind)
            && when.data_type(schema).is_ok_and(|found| found == DataType::Boolean);
        let nullable = case.nullable(schema).ok()?;
        fits.then(|| Self { parts: [when, then, otherwise].map(Arc::clone), nullable })
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [when, then, otherwise] = &self.parts;
        write!(f, "CASE WHEN {when} THEN {then} ELSE {otherwise} END")
    }
}

impl PhysicalExpr for Choice {
    fn data_type(&self, schema: &Schema) -> Result<DataType> {
        self.parts[1].data_type(schema)
    }

    fn nullable(&self, _schema: &Schema) -> Result<bool> {
        Ok(self.nullable)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let [when, then, otherwise] = &self.parts;
        let when = when.evaluate(batch)?.into_array(batch.num_rows())?;
        chosen(when.as_boolean(), &then.evaluate(batch)?, &otherwise.evaluate(batch)?).map(ColumnarValue::Array)
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        self.parts.iter().collect()
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>> {
        match children.try_into() {
            Ok(parts) => Ok(Arc::new(Self { parts, nullable: self.nullable })),
            Err(_) => datafusion::common::internal_err!("a choice has three parts"),
        }
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Of each row the value of `then` where `when` is true, else that of `otherwise`.
fn chosen(when: &BooleanArray, then: &ColumnarValue, otherwise: &ColumnarValue) -> Result<ArrayRef> {
    let is_true = match when.nulls() {
        Some(valid) => when.values() & valid.inner(),
        None => when.values().clone(),
    };
    // The branch of fewer rows is written over the other one.
    let (taken, few, many) = match 2 * is_true.count_set_bits() <= is_true.len() {
        true => (is_true, then, otherwise),
        false => (!&is_true, otherwise, then),
    };
    macro_rules! of_type {
        ($type:ty) => {
            primitive::<$type>(&taken, few, many)
        };
    }
    let found = downcast_primitive! {
        few.data_type() => (of_type),
        _ => None
    };
    match found {
        Some(found) => Ok(found),
        None => {
            let count = taken.len();
            Ok(zip(&BooleanArray::new(taken, None), &few.to_array(count)?, &many.to_array(count)?)?)
        }
    }
}

/// The values of `many` with those of `few` where `taken` has a bit; `None` when they are of another type.
fn primitive<T: ArrowPrimitiveType>(taken: &BooleanBuffer, few: &ColumnarValue, many: &ColumnarValue) -> Option<ArrayRef> {
    let (few, many) = (Branch::<T>::of(few)?, Branch::<T>::of(many)?);
    let mut values = match &many {
        Branch::Column(column) => column.values().to_vec(),
        Branch::Constant(value, _) => vec![value.unwrap_or_default(); taken.len()],
    };
    match &few {
        Branch::Column(column) => taken.set_indices().for_each(|row| values[row] = column.values()[row]),
        Branch::Constant(value, _) => taken.set_indices().for_each(|row| values[row] = value.unwrap_or_default()),
    }
    let nulls = match (few.valid(taken.len()), many.valid(taken.len())) {
        (None, None) => None,
        (few, many) => {
            let all = BooleanBuffer::new_set(taken.len());
            let (few, many) = (few.unwrap_or_else(|| all.clone()), many.unwrap_or(all));
            Some(NullBuffer::new(&(taken & &few) | &(&!taken & &many)))
        }
    };
    let data_type = few.data_type();
    Some(Arc::new(PrimitiveArray::<T>::new(values.into(), nulls).with_data_type(data_type)))
}

/// What one branch gives.
enum Branch<T: ArrowPrimitiveType> {
    Column(PrimitiveArray<T>),
    Constant(Option<T::Native>, DataType),
}

impl<T: ArrowPrimitiveType> Branch<T> {
    fn of(value: &ColumnarValue) -> Option<Self> {
        match value {
            ColumnarValue::Array(column) => column.as_primitive_opt::<T>().cloned().map(Self::Column),
            ColumnarValue::Scalar(constant) => {
                let one = constant.to_array().ok()?;
                let one = one.as_primitive_opt::<T>()?;
                Some(Self::Constant(one.is_valid(0).then(|| one.value(0)), one.data_type().clone()))
            }
        }
    }

    fn data_type(&self) -> DataType {
        match self {
            Self::Column(column) => column.data_type().clone(),
            Self::Constant(_, data_type) => data_type.clone(),
        }
    }

    /// Which of `count` values are not NULL; `None` when all are.
    fn valid(&self, count: usize) -> Option<BooleanBuffer> {
        match self {
            Self::Column(column) => column.nulls().map(|nulls| nulls.inner().clone()),
            Self::Constant(None, _) => Some(BooleanBuffer::new_unset(count)),
            Self::Constant(Some(_), _) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Float64Array, Int64Array, TimestampMicrosecondArray};
    use arrow::datatypes::Field;
    use datafusion::common::ScalarValue;
    use datafusion::physical_expr::expressions::{case, col, lit};
    use portrait_udfs::kernels::splitmix;

    use super::*;

    fn batch(seed: u64) -> RecordBatch {
        let count = splitmix::at(seed, 0) as usize % 200;
        let at = |row: usize, part: u64| splitmix::at(seed, 8 * row as u64 + part);
        let (often, nulls) = (1 + splitmix::at(seed, 1) % 20, !seed.is_multiple_of(3));
        let known = |row: usize, part: u64| !nulls || at(row, part) % 5 > 0;
        let when: BooleanArray = (0..count).map(|row| Some(at(row, 1) % 20 < often).filter(|_| known(row, 2))).collect();
        let a: Float64Array = (0..count).map(|row| Some(at(row, 3) as f64).filter(|_| known(row, 4))).collect();
        let b: Float64Array = (0..count).map(|row| Some(at(row, 5) as f64).filter(|_| seed.is_multiple_of(2) || known(row, 6))).collect();
        let n: Int64Array = (0..count).map(|row| Some(at(row, 3).cast_signed())).collect();
        let t: TimestampMicrosecondArray = (0..count).map(|row| Some(at(row, 7).cast_signed() >> 9)).collect();
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("w", Arc::new(when)),
            ("a", Arc::new(a)),
            ("b", Arc::new(b)),
            ("n", Arc::new(n)),
            ("t", Arc::new(t.with_timezone("UTC"))),
        ];
        RecordBatch::try_from_iter_with_nullable(
            columns.into_iter().map(|(name, column)| (name, column.slice(count / 9, count - count / 9), true)),
        )
        .unwrap()
    }

    #[test]
    fn a_choice_is_what_the_engine_makes_of_a_case() {
        for seed in 0..3000 {
            let rows = batch(seed);
            let schema = rows.schema();
            let column = |name: &str| col(name, &schema).unwrap();
            let branches = [
                (column("a"), lit(0.0)),
                (lit(ScalarValue::Float64(None)), column("b")),
                (column("a"), column("b")),
                (column("n"), lit(7_i64)),
                (column("t"), lit(ScalarValue::TimestampMicrosecond(Some(5), Some("UTC".into())))),
            ];
            for (then, otherwise) in branches {
                let engine = case(None, vec![(column("w"), then)], Some(otherwise)).unwrap();
                let own = Choice::of(&engine, &schema).unwrap();
                let of = |expr: &dyn PhysicalExpr| expr.evaluate(&rows).unwrap().into_array(rows.num_rows()).unwrap();
                assert_eq!(&of(&own), &of(engine.as_ref()), "seed {seed}: {own}");
                assert_eq!(own.return_field(&schema).unwrap().data_type(), engine.return_field(&schema).unwrap().data_type());
                assert_eq!(own.nullable(&schema).unwrap(), engine.nullable(&schema).unwrap());
            }
        }
    }

    #[test]
    fn a_column_that_is_not_null_or_a_constant_is_not_null() {
        let rows = batch(7);
        let schema = rows.schema();
        let column = col("a", &schema).unwrap();
        let known = datafusion::physical_expr::expressions::is_not_null(Arc::clone(&column)).unwrap();
        let engine = case(None, vec![(known, column)], Some(lit(0.0))).unwrap();
        let own = Choice::of(&engine, &schema).unwrap();
        assert!(!engine.nullable(&schema).unwrap() && !own.nullable(&schema).unwrap());
        assert_eq!(own.evaluate(&rows).unwrap().into_array(rows.num_rows()).unwrap().null_count(), 0);
    }

    #[test]
    fn what_may_fail_stays_with_the_engine() {
        let schema = Schema::new(vec![
            Field::new("w", DataType::Boolean, true),
            Field::new("n", DataType::Int64, true),
            Field::new("s", DataType::Utf8View, true),
        ]);
        let column = |name: &str| col(name, &schema).unwrap();
        let whole =
            datafusion::physical_expr::expressions::binary(lit(1_i64), datafusion::logical_expr::Operator::Divide, column("n"), &schema);
        let cases = [
            case(None, vec![(column("w"), whole.unwrap())], Some(lit(0_i64))),
            case(None, vec![(column("w"), column("s"))], Some(lit(ScalarValue::Utf8View(None)))),
            case(None, vec![(column("w"), column("n"))], None),
            case(Some(column("n")), vec![(lit(1_i64), column("n"))], Some(lit(0_i64))),
        ];
        for expr in cases {
            let expr: Arc<dyn PhysicalExpr> = expr.unwrap();
            assert!(Choice::of(&expr, &schema).is_none(), "{expr}");
        }
    }
}
