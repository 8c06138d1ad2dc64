//! Some users by name: those whose rows are looked at, and no others.
//!
//! Life of a set: users are [added](UserSet::add), column by column → [`among`] keeps their rows in a scan, which [reads](UserSet::pruning)
//! only what may hold some → [`UserSet::others`] tells the rows that stay as they are. Its memory is taken from the pool.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, BooleanArray};
use datafusion::arrow::compute::{cast, not};
use datafusion::arrow::datatypes::{DataType, Field, Int64Type, Schema};
use datafusion::common::config::ConfigOptions;
use datafusion::common::{Result as EngineResult, ScalarValue};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::logical_expr::{ColumnarValue, Operator, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use datafusion::physical_expr::expressions::{BinaryExpr, Column, Literal};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::filter::FilterExecBuilder;
use portrait_udfs::error::{Error, Result};
use portrait_udfs::kernels::identity::{People, whole};

/// So many users are looked for in the statistics of files and pages.
const FEW: usize = 512;
/// What an entry of a hash set takes beside its value.
const ENTRY_BYTES: usize = 16;

/// Users, called by whole numbers or by texts.
#[derive(Debug)]
pub(crate) struct UserSet {
    users: Names,
    memory: MemoryReservation,
}

#[derive(Debug)]
enum Names {
    Numbers(HashSet<i64>),
    Texts(HashSet<Box<str>>),
}

impl UserSet {
    /// An empty set of users who are called by values of this type.
    pub(crate) fn new(kind: &DataType, env: &RuntimeEnv) -> Self {
        let users = if kind.is_integer() { Names::Numbers(HashSet::new()) } else { Names::Texts(HashSet::new()) };
        Self { users, memory: MemoryConsumer::new("UserSet").register(&env.memory_pool) }
    }

    pub(crate) fn len(&self) -> usize {
        match &self.users {
            Names::Numbers(users) => users.len(),
            Names::Texts(users) => users.len(),
        }
    }

    /// Adds a column of users; a NULL is nobody.
    ///
    /// # Errors
    /// 53200; a column of another type.
    pub(crate) fn add(&mut self, users: &ArrayRef) -> Result<()> {
        let grown = match &mut self.users {
            Names::Numbers(known) => {
                let (users, before) = (numbers(users)?, known.len());
                known.extend(users.as_primitive::<Int64Type>().iter().flatten());
                (known.len() - before) * (ENTRY_BYTES + size_of::<i64>())
            }
            Names::Texts(known) => {
                let (users, mut grown) = (texts(users)?, 0);
                for user in users.as_string_view().iter().flatten() {
                    if !known.contains(user) {
                        known.insert(user.into());
                        grown += ENTRY_BYTES + size_of::<Box<str>>() + user.len();
                    }
                }
                grown
            }
        };
        self.memory.try_grow(grown).map_err(crate::storage::engine_error)
    }

    /// Their values, one after the other, if they are few.
    fn few(&self) -> Option<Vec<ScalarValue>> {
        if self.len() > FEW {
            return None;
        }
        Some(match &self.users {
            Names::Numbers(users) => users.iter().map(|user| ScalarValue::Int64(Some(*user))).collect(),
            Names::Texts(users) => users.iter().map(|user| ScalarValue::Utf8(Some(user.to_string()))).collect(),
        })
    }

    /// Which files, row groups and pages may hold their rows, by the column `name`; `None` when they are many, or none.
    pub(crate) fn pruning(&self, schema: &Schema, name: &str) -> Option<Arc<dyn PhysicalExpr>> {
        let column = Arc::new(Column::new_with_schema(name, schema).ok()?) as Arc<dyn PhysicalExpr>;
        let kind = schema.field_with_name(name).ok()?.data_type();
        let is = |user: ScalarValue| {
            let user = Arc::new(Literal::new(user.cast_to(kind).ok()?));
            Some(Arc::new(BinaryExpr::new(Arc::clone(&column), Operator::Eq, user)) as Arc<dyn PhysicalExpr>)
        };
        let mut terms = self.few()?.into_iter().map(is).collect::<Option<Vec<_>>>()?;
        // Pair by pair, so that the expression is not deep.
        while terms.len() > 1 {
            let or = |pair: &[Arc<dyn PhysicalExpr>]| match pair {
                [one, two] => Arc::new(BinaryExpr::new(Arc::clone(one), Operator::Or, Arc::clone(two))),
                other => Arc::clone(&other[0]),
            };
            terms = terms.chunks(2).map(or).collect();
        }
        terms.pop()
    }

    /// Adds the other ids of the persons behind these users.
    ///
    /// # Errors
    /// 53200.
    pub(crate) fn add_persons(&mut self, people: &People) -> Result<()> {
        if people.are_plain() {
            return Ok(());
        }
        let (reader, mut grown) = (people.read(), 0);
        match &mut self.users {
            Names::Numbers(users) => {
                let ids = |user: &i64| reader.ids(&user.to_string()).unwrap_or_default().into_iter().filter_map(whole).collect::<Vec<_>>();
                let more: Vec<i64> = users.iter().flat_map(ids).collect();
                grown += more.len() * (ENTRY_BYTES + size_of::<i64>());
                users.extend(more);
            }
            Names::Texts(users) => {
                let more: Vec<Box<str>> = users.iter().filter_map(|user| reader.ids(user)).flatten().map(Into::into).collect();
                grown += more.iter().map(|id| ENTRY_BYTES + size_of::<Box<str>>() + id.len()).sum::<usize>();
                users.extend(more);
            }
        }
        self.memory.try_grow(grown).map_err(crate::storage::engine_error)
    }

    /// Which rows are theirs. A NULL is nobody.
    ///
    /// # Errors
    /// A column of another type.
    pub(crate) fn theirs(&self, users: &ArrayRef) -> Result<BooleanArray> {
        Ok(match &self.users {
            Names::Numbers(known) => {
                let (users, mut last) = (numbers(users)?, None);
                let mut is_one = |user: i64| match last {
                    // Rows mostly come by user.
                    Some((same, found)) if same == user => found,
                    _ => {
                        let found = known.contains(&user);
                        last = Some((user, found));
                        found
                    }
                };
                users.as_primitive::<Int64Type>().iter().map(|user| Some(user.is_some_and(&mut is_one))).collect()
            }
            Names::Texts(known) => {
                let users = texts(users)?;
                let mut last = None::<(&str, bool)>;
                let mut is_one = |user| match last {
                    Some((same, found)) if same == user => found,
                    _ => {
                        let found = known.contains(user);
                        last = Some((user, found));
                        found
                    }
                };
                users.as_string_view().iter().map(|user| Some(user.is_some_and(&mut is_one))).collect()
            }
        })
    }

    /// Which rows are not theirs.
    ///
    /// # Errors
    /// As [`theirs`](Self::theirs).
    pub(crate) fn others(&self, users: &ArrayRef) -> Result<BooleanArray> {
        not(&self.theirs(users)?).map_err(|error| Error::internal(error.to_string()))
    }
}

fn numbers(users: &ArrayRef) -> Result<ArrayRef> {
    cast(users, &DataType::Int64).map_err(|error| Error::internal(error.to_string()))
}

fn texts(users: &ArrayRef) -> Result<ArrayRef> {
    cast(users, &DataType::Utf8View).map_err(|error| Error::internal(error.to_string()))
}

/// The rows of `plan` that are those of `users`, by the column `name`; the first `columns` columns stay.
///
/// # Errors
/// A plan without that column.
pub(crate) fn among(plan: Arc<dyn ExecutionPlan>, users: Arc<UserSet>, name: &str, columns: usize) -> EngineResult<Arc<dyn ExecutionPlan>> {
    let schema = plan.schema();
    let column = Arc::new(Column::new_with_schema(name, &schema)?) as Arc<dyn PhysicalExpr>;
    let function = Arc::new(ScalarUDF::new_from_impl(IsAmong { users, signature: Signature::any(1, Volatility::Stable) }));
    let result = Arc::new(Field::new("is_among", DataType::Boolean, false));
    let predicate = ScalarFunctionExpr::new("is_among", function, vec![column], result, Arc::new(ConfigOptions::default()));
    let kept = (columns < schema.fields().len()).then(|| (0..columns).collect::<Vec<_>>());
    Ok(Arc::new(FilterExecBuilder::new(Arc::new(predicate), plan).apply_projection(kept)?.build()?))
}

/// Whether a row is one of the users'.
#[derive(Debug)]
struct IsAmong {
    users: Arc<UserSet>,
    signature: Signature,
}

impl PartialEq for IsAmong {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.users, &other.users)
    }
}

impl Eq for IsAmong {}

impl std::hash::Hash for IsAmong {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.users).hash(state);
    }
}

impl ScalarUDFImpl for IsAmong {
    fn name(&self) -> &str {
        "is_among"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> EngineResult<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> EngineResult<ColumnarValue> {
        let users = match args.args.first() {
            Some(users) => users.to_array(args.number_rows)?,
            None => return Err(Error::internal("is_among has one argument").into()),
        };
        Ok(ColumnarValue::Array(Arc::new(self.users.theirs(&users)?)))
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{Int32Array, StringArray};

    use super::*;

    #[test]
    fn rows_are_told_apart_whatever_the_type() {
        let env = RuntimeEnv::default();
        let mut users = UserSet::new(&DataType::Int64, &env);
        users.add(&(Arc::new(Int32Array::from(vec![Some(5), None, Some(-7), Some(5)])) as ArrayRef)).unwrap();
        assert_eq!(users.len(), 2);
        let rows: ArrayRef = Arc::new(Int32Array::from(vec![Some(5), Some(5), None, Some(6), Some(-7)]));
        assert_eq!(users.theirs(&rows).unwrap(), BooleanArray::from(vec![true, true, false, false, true]));
        assert_eq!(users.others(&rows).unwrap(), BooleanArray::from(vec![false, false, true, true, false]));

        let mut users = UserSet::new(&DataType::Utf8, &env);
        users.add(&(Arc::new(StringArray::from(vec![Some("a"), None, Some("ü")])) as ArrayRef)).unwrap();
        let rows: ArrayRef = Arc::new(StringArray::from(vec![Some("ü"), Some("u"), None, Some("a")]));
        assert_eq!(users.theirs(&rows).unwrap(), BooleanArray::from(vec![true, false, false, true]));
    }

    #[test]
    fn memory_is_taken_from_the_pool() {
        let pool = datafusion::execution::memory_pool::GreedyMemoryPool::new(1000);
        let env = datafusion::execution::runtime_env::RuntimeEnvBuilder::new().with_memory_pool(Arc::new(pool)).build().unwrap();
        let mut users = UserSet::new(&DataType::Int64, &env);
        let rows: ArrayRef = Arc::new(Int32Array::from_iter_values(0..1000));
        assert_eq!(users.add(&rows).unwrap_err().code, portrait_udfs::error::Code::OutOfMemory);
    }
}
