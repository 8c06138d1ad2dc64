//! `sessionize(ts, gap [, longest] [, split]) OVER (PARTITION BY user ORDER BY ts)`: the number of a row's session.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, Int64Builder};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::ScalarValue;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::function::{PartitionEvaluatorArgs, WindowUDFFieldArgs};
use datafusion::logical_expr::{Documentation, LimitEffect, PartitionEvaluator, Signature, Volatility, WindowUDFImpl};
use datafusion::physical_plan::PhysicalExpr;
use datafusion_macros::user_doc;

use super::arguments::{constant, length, length_type, no_such_call, time_type, times};
use crate::error::{Error, Result};
use crate::kernels::session::SessionNumbers;

#[user_doc(
    doc_section(label = "Behavior Functions"),
    description = "The number of the session that a row belongs to, from 1 in each partition. A session ends when the next row is more than `gap` away, when it would last longer than `longest`, or at a row where `split` is true, which begins the next one; both limits are inclusive. A row without a time is in no session (NULL). ORDER BY the time, in either direction.",
    syntax_example = "sessionize(ts, gap [, longest] [, split]) OVER (PARTITION BY user ORDER BY ts)",
    sql_example = "```sql\nSELECT user_id, event_time, sessionize(event_time, INTERVAL '30 minutes') OVER (PARTITION BY user_id ORDER BY event_time) AS session\nFROM events ORDER BY user_id, event_time LIMIT 10;\n```",
    argument(name = "ts", description = "Timestamp, date or whole number."),
    argument(name = "gap", description = "An interval, or a whole number: seconds of timestamps, days of dates, units of numbers."),
    argument(name = "longest", description = "The longest session, like `gap`."),
    argument(name = "split", description = "A boolean: begin a session here.")
)]
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Sessionize {
    signature: Signature,
}

impl Sessionize {
    pub(super) fn new() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

/// The places of what may be left out, and the types read.
struct Shape {
    longest: Option<usize>,
    split: Option<usize>,
    types: Vec<DataType>,
}

fn shape(given: &[DataType]) -> Result<Shape> {
    let unknown = || no_such_call("sessionize", given, &["sessionize(ts, gap [, longest] [, split])"]);
    let [time, gap, rest @ ..] = given else { return Err(unknown()) };
    let (time, gap) = time_type(time).zip(length_type(gap)).ok_or_else(unknown)?;
    let (longest, split) = match rest {
        [] => (None, None),
        [DataType::Boolean] => (None, Some(2)),
        [longest] if length_type(longest).is_some() => (Some(2), None),
        [longest, DataType::Boolean | DataType::Null] if length_type(longest).is_some() => (Some(2), Some(3)),
        _ => return Err(unknown()),
    };
    let mut types = given.to_vec();
    (types[0], types[1]) = (time, gap);
    if let Some(longest) = longest {
        types[longest] = length_type(&given[longest]).ok_or_else(unknown)?;
    }
    if let Some(split) = split {
        types[split] = DataType::Boolean;
    }
    Ok(Shape { longest, split, types })
}

impl WindowUDFImpl for Sessionize {
    fn name(&self) -> &str {
        "sessionize"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> DfResult<Vec<DataType>> {
        Ok(shape(given).map_or_else(|_| given.to_vec(), |shape| shape.types))
    }

    fn field(&self, args: WindowUDFFieldArgs) -> DfResult<FieldRef> {
        let types: Vec<DataType> = args.input_fields().iter().map(|field| field.data_type().clone()).collect();
        shape(&types)?;
        Ok(Arc::new(Field::new(args.name(), DataType::Int64, true)))
    }

    fn partition_evaluator(&self, args: PartitionEvaluatorArgs) -> DfResult<Box<dyn PartitionEvaluator>> {
        Ok(Box::new(Numbers::of(&args)?))
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.doc()
    }

    fn limit_effect(&self, _: &[Arc<dyn PhysicalExpr>]) -> LimitEffect {
        LimitEffect::None
    }
}

/// One partition.
#[derive(Debug, Clone)]
pub(super) struct Numbers {
    sessions: SessionNumbers,
    split: Option<usize>,
}

impl Numbers {
    /// The state before the first row.
    pub(super) fn of(args: &PartitionEvaluatorArgs) -> DfResult<Self> {
        let types: Vec<DataType> = args.input_fields().iter().map(|field| field.data_type().clone()).collect();
        let shape = shape(&types)?;
        let limit = |at: usize, name: &str| -> DfResult<u64> {
            let value = constant("sessionize", name, &args.input_exprs()[at])?;
            Ok(length(&format!("the {name} of sessionize"), &value, &shape.types[0])?)
        };
        let longest = shape.longest.map(|at| limit(at, "longest")).transpose()?;
        Ok(Self { sessions: SessionNumbers::new(limit(1, "gap")?, longest), split: shape.split })
    }

    /// The numbers of a batch of sorted rows; a partition begins at each of `begins`, with the state `first`.
    pub(super) fn over(&mut self, first: &Self, values: &[ArrayRef], begins: &[usize], rows: usize) -> DfResult<ArrayRef> {
        let times = times(&values[0])?;
        let splits = self.splits(values)?;
        let mut numbers = Int64Builder::with_capacity(rows);
        let ends = begins.iter().skip(1).copied().chain([rows]);
        let before = 0..begins.first().copied().unwrap_or(rows);
        for row in before {
            numbers.append_option(self.number(&times, splits, row));
        }
        for (begin, end) in begins.iter().zip(ends) {
            self.sessions = first.sessions;
            for row in *begin..end {
                numbers.append_option(self.number(&times, splits, row));
            }
        }
        Ok(Arc::new(numbers.finish()))
    }

    fn number(&mut self, times: &Int64Array, splits: Option<&BooleanArray>, row: usize) -> Option<i64> {
        let split = splits.is_some_and(|splits| splits.is_valid(row) && splits.value(row));
        times.is_valid(row).then(|| self.sessions.next(times.value(row), split))
    }

    fn splits<'a>(&self, values: &'a [ArrayRef]) -> Result<Option<&'a BooleanArray>> {
        let array = |at: usize| values[at].as_boolean_opt().ok_or_else(|| Error::internal("split is not boolean"));
        self.split.map(array).transpose()
    }
}

impl PartitionEvaluator for Numbers {
    fn is_causal(&self) -> bool {
        true
    }

    fn evaluate(&mut self, values: &[ArrayRef], range: &Range<usize>) -> DfResult<ScalarValue> {
        let times = times(&values[0].slice(range.start, 1))?;
        let splits = self.splits(values)?.map(|splits| splits.slice(range.start, 1));
        Ok(ScalarValue::Int64(self.number(&times, splits.as_ref(), 0)))
    }

    fn evaluate_all(&mut self, values: &[ArrayRef], rows: usize) -> DfResult<ArrayRef> {
        let times = times(&values[0])?;
        let splits = self.splits(values)?;
        let numbers: Int64Array = (0..rows).map(|row| self.number(&times, splits, row)).collect();
        Ok(Arc::new(numbers))
    }

    // Rows can be numbered as they come, so nothing but the state of one session is held.
    fn supports_bounded_execution(&self) -> bool {
        true
    }
}
