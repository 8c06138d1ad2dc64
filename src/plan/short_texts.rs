//! `kind = 'view'`, `kind <> 'view'` and `kind IN ('view', 'cart')` of a column of texts, where the constants are short.
//!
//! A view holds a text of up to twelve bytes and its length in sixteen: two such texts are the same when those are. The engine's
//! comparison looks for longer ones in each row; funnels and conditions of aggregates ask it for every event.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanArray, make_view};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{DataType, Schema};
use arrow::record_batch::RecordBatch;
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::Transformed;
use datafusion::config::ConfigOptions;
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, Operator};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{BinaryExpr, Column, InListExpr, Literal};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::filter::FilterExec;

use super::expressions::{with_each, with_each_of};

/// Bytes of a text that a view holds itself.
const SHORT: usize = 12;
/// Longer lists are left to the engine's table of hashes.
const LIST_MAX: usize = 4;

/// The rule. It comes twice: to lists of columns and aggregates before other rules replace them, and to conditions once they have
/// been handed down to the scans, which read in them what they can leave out.
#[derive(Debug)]
pub(crate) enum ShortTexts {
    Values,
    Conditions,
}

impl PhysicalOptimizerRule for ShortTexts {
    fn name(&self) -> &'static str {
        match self {
            Self::Values => "ShortTexts",
            Self::Conditions => "ShortTextsInConditions",
        }
    }

    fn schema_check(&self) -> bool {
        true
    }

    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let change = |expr: Arc<dyn PhysicalExpr>, schema: &Schema| {
            Ok(match IsOneOf::of(&expr, schema) {
                Some(comparison) => Transformed::yes(Arc::new(comparison) as Arc<dyn PhysicalExpr>),
                None => Transformed::no(expr),
            })
        };
        match self {
            Self::Values => with_each_of(plan, &|node| !node.is::<FilterExec>(), &change),
            Self::Conditions => with_each(plan, &change),
        }
    }
}

/// Whether a text is one of a few short ones.
#[derive(Debug, Clone, Eq)]
struct IsOneOf {
    /// The engine's comparison, which this one is shown as; the rest follows from it.
    engine: Arc<dyn PhysicalExpr>,
    text: Arc<dyn PhysicalExpr>,
    /// As views.
    wanted: Vec<u128>,
    negated: bool,
}

impl PartialEq for IsOneOf {
    fn eq(&self, other: &Self) -> bool {
        *self.engine == *other.engine
    }
}

impl Hash for IsOneOf {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.engine.hash(state);
    }
}

impl IsOneOf {
    /// The comparison that an expression is, where it is one of a column of views with short constants.
    fn of(expr: &Arc<dyn PhysicalExpr>, schema: &Schema) -> Option<Self> {
        Self::of_parts(expr)
            .filter(|own| own.text.is::<Column>() && own.text.data_type(schema).is_ok_and(|found| found == DataType::Utf8View))
    }

    fn of_parts(expr: &Arc<dyn PhysicalExpr>) -> Option<Self> {
        let (text, wanted, negated) = of_binary(expr).or_else(|| of_list(expr))?;
        Some(Self { engine: Arc::clone(expr), text: Arc::clone(text), wanted, negated })
    }
}

fn of_binary(expr: &Arc<dyn PhysicalExpr>) -> Option<(&Arc<dyn PhysicalExpr>, Vec<u128>, bool)> {
    let binary = expr.downcast_ref::<BinaryExpr>()?;
    let negated = match binary.op() {
        Operator::Eq => false,
        Operator::NotEq => true,
        _ => return None,
    };
    let (left, right) = (binary.left(), binary.right());
    let (text, constant) = if right.is::<Literal>() { (left, right) } else { (right, left) };
    Some((text, vec![short_text(constant)?], negated))
}

fn of_list(expr: &Arc<dyn PhysicalExpr>) -> Option<(&Arc<dyn PhysicalExpr>, Vec<u128>, bool)> {
    let list = expr.downcast_ref::<InListExpr>().filter(|list| (1..=LIST_MAX).contains(&list.len()))?;
    Some((list.expr(), list.list().iter().map(short_text).collect::<Option<_>>()?, list.negated()))
}

/// The view of a constant that is a short text.
fn short_text(expr: &Arc<dyn PhysicalExpr>) -> Option<u128> {
    let ScalarValue::Utf8View(Some(text)) = expr.downcast_ref::<Literal>()?.value() else { return None };
    (text.len() <= SHORT).then(|| make_view(text.as_bytes(), 0, 0))
}

impl fmt::Display for IsOneOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.engine, f)
    }
}

impl PhysicalExpr for IsOneOf {
    fn data_type(&self, _schema: &Schema) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn nullable(&self, schema: &Schema) -> Result<bool> {
        self.text.nullable(schema)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let texts = self.text.evaluate(batch)?.into_array(batch.num_rows())?;
        let Some(texts) = texts.as_string_view_opt() else { return self.engine.evaluate(batch) };
        let found = match self.wanted.as_slice() {
            [one] => where_any(texts.views(), [*one]),
            [one, two] => where_any(texts.views(), [*one, *two]),
            [one, two, three] => where_any(texts.views(), [*one, *two, *three]),
            [one, two, three, four] => where_any(texts.views(), [*one, *two, *three, *four]),
            _ => return self.engine.evaluate(batch),
        };
        let found = if self.negated { !&found } else { found };
        Ok(ColumnarValue::Array(Arc::new(BooleanArray::new(found, texts.nulls().cloned()))))
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        self.engine.children()
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>> {
        let engine = Arc::clone(&self.engine).with_new_children(children)?;
        Ok(Self::of_parts(&engine).map_or(engine, |own| Arc::new(own)))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.engine.fmt_sql(f)
    }
}

/// A bit for each view: whether it is one of `wanted`.
#[inline]
fn where_any<const N: usize>(views: &[u128], wanted: [u128; N]) -> BooleanBuffer {
    let is_one = |view: u128| wanted.iter().fold(false, |found, wanted| found | (view == *wanted));
    let word = |views: &[u128]| views.iter().enumerate().fold(0_u64, |bits, (place, view)| bits | (u64::from(is_one(*view)) << place));
    BooleanBuffer::new(views.chunks(64).map(word).collect::<Vec<u64>>().into(), 0, views.len())
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, StringViewArray};
    use arrow::datatypes::Field;
    use datafusion::physical_expr::expressions::{binary, col, in_list, lit};
    use portrait_udfs::kernels::splitmix;

    use super::*;

    const TEXTS: [&str; 8] = ["", "view", "views", "vie", "twelve bytes", "thirteen byte", "view of a long text", "\0"];

    fn constant(text: Option<&str>) -> Arc<dyn PhysicalExpr> {
        lit(ScalarValue::Utf8View(text.map(str::to_owned)))
    }

    fn batch(seed: u64) -> RecordBatch {
        let count = splitmix::at(seed, 0) as usize % 300;
        let at = |row: usize, part: u64| splitmix::at(seed, 8 * row as u64 + part) as usize;
        let texts: StringViewArray = (0..count)
            .map(|row| (seed.is_multiple_of(3) || !at(row, 1).is_multiple_of(5)).then(|| TEXTS[at(row, 2) % TEXTS.len()]))
            .collect();
        let texts: ArrayRef = Arc::new(texts.slice(count / 7, count - count / 7));
        RecordBatch::try_from_iter_with_nullable([("t", texts, true)]).unwrap()
    }

    #[test]
    fn a_comparison_is_what_the_engine_makes_of_it() {
        for seed in 0..500 {
            let rows = batch(seed);
            let schema = rows.schema();
            let column = col("t", &schema).unwrap();
            let list = |texts: &[&str], negated| {
                in_list(Arc::clone(&column), texts.iter().map(|text| constant(Some(text))).collect(), &negated, &schema)
            };
            let mut asked = vec![
                list(&["view", "vie"], false),
                list(&["view", "", "twelve bytes"], true),
                list(&["\0", "views", "view", "vie"], false),
            ];
            for text in &TEXTS[..5] {
                asked.push(binary(Arc::clone(&column), Operator::Eq, constant(Some(text)), &schema));
                asked.push(binary(constant(Some(text)), Operator::NotEq, Arc::clone(&column), &schema));
            }
            for engine in asked {
                let engine = engine.unwrap();
                let own = IsOneOf::of(&engine, &schema).unwrap();
                let of = |expr: &dyn PhysicalExpr| expr.evaluate(&rows).unwrap().into_array(rows.num_rows()).unwrap();
                assert_eq!(&of(&own), &of(engine.as_ref()), "seed {seed}: {own}");
                assert_eq!(own.nullable(&schema).unwrap(), engine.nullable(&schema).unwrap());
                assert_eq!(own.to_string(), engine.to_string());
            }
        }
    }

    #[test]
    fn what_is_not_short_stays_with_the_engine() {
        let schema = Schema::new(vec![Field::new("t", DataType::Utf8View, true), Field::new("u", DataType::Utf8, true)]);
        let column = |name: &str| col(name, &schema).unwrap();
        let cases = [
            binary(column("t"), Operator::Eq, constant(Some("thirteen byte")), &schema),
            binary(column("t"), Operator::Lt, constant(Some("view")), &schema),
            binary(column("t"), Operator::Eq, constant(None), &schema),
            binary(column("t"), Operator::Eq, column("t"), &schema),
            binary(column("u"), Operator::Eq, lit("view"), &schema),
            in_list(column("t"), vec![constant(Some("view")), constant(None)], &false, &schema),
            in_list(column("t"), ["a", "b", "c", "d", "e"].map(|text| constant(Some(text))).to_vec(), &false, &schema),
        ];
        for expr in cases {
            let expr = expr.unwrap();
            assert!(IsOneOf::of(&expr, &schema).is_none(), "{expr}");
        }
    }
}
