//! Users who are forgotten: who they are, and how rows are told from theirs.
//!
//! Nothing here keeps an id: users are known by hashes with a key of the data directory, so that what hides them does not name
//! them. Life of an erasure (the catalog conducts it): the hashes are durable → every scan leaves the users' rows out
//! ([`hide`]) → files are written anew without them (`events::erase`) → files and log entries of older versions go → nothing
//! has to be hidden any more.
//!
//! Must never know: SQL text, who may erase, audiences.

use std::collections::HashSet;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use datafusion::arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use datafusion::arrow::compute::{and, cast};
use datafusion::arrow::datatypes::{DataType, Field, Int64Type, Schema};
use datafusion::common::Result as EngineResult;
use datafusion::common::config::ConfigOptions;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::filter::FilterExecBuilder;
use parking_lot::RwLock;
use portrait_udfs::error::{Code, Error, Result};

use super::hash_list::HashList;

/// A user, by the first half of a keyed BLAKE3 hash.
pub(crate) type UserHash = [u8; 16];
/// The key of a data directory's hashes.
pub(crate) type HashKey = [u8; 32];

/// The hash of a user who is called `user`; numbers are called by their decimal digits.
pub(crate) fn hash_of(key: &HashKey, user: &str) -> UserHash {
    let mut short = [0; 16];
    short.copy_from_slice(&blake3::keyed_hash(key, user.as_bytes()).as_bytes()[..16]);
    short
}

/// Some users: few of them by themselves, many in lists.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Users {
    key: HashKey,
    few: HashSet<UserHash>,
    many: Vec<HashList>,
    /// Users of the lists who are not meant any more.
    lifted: HashSet<UserHash>,
}

impl Users {
    pub(crate) fn new(key: HashKey, few: HashSet<UserHash>) -> Self {
        Self { key, few, many: Vec::new(), lifted: HashSet::new() }
    }

    /// And those of these lists, but for some.
    pub(crate) fn with(mut self, many: Vec<HashList>, lifted: HashSet<UserHash>) -> Self {
        (self.many, self.lifted) = (many, lifted);
        self
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.few.is_empty() && self.many.is_empty()
    }

    /// Differs for other users.
    pub(crate) fn fingerprint(&self) -> String {
        let mixed = self.few.iter().fold(0_u128, |mixed, hash| mixed ^ u128::from_le_bytes(*hash));
        let mixed = self.many.iter().fold(mixed, |mixed, list| mixed ^ list.file.as_u128());
        format!("{}-{}-{mixed:032x}", self.few.len(), self.many.len())
    }

    /// Whether the user who is called `user` is one of them.
    pub(crate) fn contains(&self, user: &str) -> bool {
        !self.is_empty() && self.has(&hash_of(&self.key, user))
    }

    fn has(&self, hash: &UserHash) -> bool {
        (self.few.contains(hash) || self.many.iter().any(|list| list.contains(hash))) && !self.lifted.contains(hash)
    }

    /// Whether all of `others` are surely among them.
    fn cover(&self, others: &Self) -> bool {
        others.few.iter().all(|hash| self.has(hash))
            && others.many.iter().all(|list| self.many.contains(list))
            && self.lifted.is_subset(&others.lifted)
    }

    /// Which rows are not theirs; `None` when none is. A NULL is nobody.
    ///
    /// # Errors
    /// A column that [cannot hold users](is_user_type).
    pub(crate) fn others(&self, users: &ArrayRef) -> Result<Option<BooleanArray>> {
        if self.is_empty() {
            return Ok(None);
        }
        let internal = |error: datafusion::arrow::error::ArrowError| Error::internal(error.to_string());
        let mut digits = String::new();
        let other: BooleanArray = if users.data_type().is_integer() {
            let users = cast(users, &DataType::Int64).map_err(internal)?;
            let (users, mut last) = (users.as_primitive::<Int64Type>(), None);
            let mut is_other = |user: i64| match last {
                // Rows mostly come by user.
                Some((same, other)) if same == user => other,
                _ => {
                    digits.clear();
                    let _ = write!(digits, "{user}");
                    let other = !self.contains(&digits);
                    last = Some((user, other));
                    other
                }
            };
            users.iter().map(|user| Some(user.is_none_or(&mut is_other))).collect()
        } else {
            let users = cast(users, &DataType::Utf8View).map_err(internal)?;
            let (users, mut last) = (users.as_string_view(), None::<(&str, bool)>);
            let mut is_other = |user| match last {
                Some((same, other)) if same == user => other,
                _ => {
                    let other = !self.contains(user);
                    last = Some((user, other));
                    other
                }
            };
            users.iter().map(|user| Some(user.is_none_or(&mut is_other))).collect()
        };
        Ok((other.true_count() < other.len()).then_some(other))
    }
}

impl Users {
    /// As [`others`](Self::others), of rows with several columns of users.
    ///
    /// # Errors
    /// As there.
    pub(crate) fn others_in<'a>(&self, columns: impl Iterator<Item = &'a ArrayRef>) -> Result<Option<BooleanArray>> {
        let mut all: Option<BooleanArray> = None;
        for users in columns {
            let Some(others) = self.others(users)? else { continue };
            all = Some(match all {
                Some(before) => and(&before, &others).map_err(|error| Error::internal(error.to_string()))?,
                None => others,
            });
        }
        Ok(all)
    }
}

/// Whether a column of this type can say whose a row is.
pub(crate) fn is_user_type(found: &DataType) -> bool {
    match found {
        DataType::Dictionary(_, value) => is_user_type(value),
        // A larger number has no column of events.
        DataType::UInt64 => false,
        found => found.is_integer() || matches!(found, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View),
    }
}

/// Who is forgotten now: one per data directory.
#[derive(Debug, Default)]
pub(crate) struct Forgotten {
    hidden: RwLock<Arc<Users>>,
    suppressed: RwLock<Arc<Users>>,
    generation: AtomicU64,
}

impl Forgotten {
    /// Users whose erasure is under way: no answer has their rows.
    pub(crate) fn hidden(&self) -> Arc<Users> {
        Arc::clone(&self.hidden.read())
    }

    /// Users whose events are not taken.
    pub(crate) fn suppressed(&self) -> Arc<Users> {
        Arc::clone(&self.suppressed.read())
    }

    /// Changes with each erasure. What was read before one must not be written after it.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Takes the place of what was known. A statement that began before anybody was added must not write.
    pub(crate) fn set(&self, hidden: Users, suppressed: Users) {
        let grown = !self.hidden().cover(&hidden) || !self.suppressed().cover(&suppressed);
        *self.hidden.write() = Arc::new(hidden);
        *self.suppressed.write() = Arc::new(suppressed);
        if grown {
            self.generation.fetch_add(1, Ordering::AcqRel);
        }
    }
}

/// Users whose rows a statement does not take, and what must not have happened since it began.
#[derive(Debug)]
pub(crate) struct Refusal {
    forgotten: Arc<Forgotten>,
    users: Arc<Users>,
    generation: u64,
}

impl Refusal {
    /// Of a statement that began, before it was planned, at this [generation](Forgotten::generation).
    pub(crate) fn new(forgotten: &Arc<Forgotten>, generation: u64) -> Self {
        Self { forgotten: Arc::clone(forgotten), users: forgotten.suppressed(), generation }
    }

    /// Users whose rows are left out.
    pub(crate) fn users(&self) -> &Users {
        &self.users
    }

    /// [`still_holds`](Self::still_holds) of a table's rows.
    ///
    /// # Errors
    /// As there.
    pub(crate) fn still_holds_for(&self, table: &str) -> Result<()> {
        self.still_holds(&format!("rows for table \"{table}\""))
    }

    /// Succeeds when nobody was erased since: what was read before may be theirs. Call it where an erasure that begins
    /// afterwards will find the rows: in the table's turn, or in a change of the catalog that makes the table.
    ///
    /// # Errors
    /// 40001.
    pub(crate) fn still_holds(&self, rows: &str) -> Result<()> {
        if self.generation == self.forgotten.generation() {
            return Ok(());
        }
        Err(Error::new(Code::Serialization, format!("users were erased while {rows} were read")).hint("Run the statement again."))
    }
}

/// A scan of `plan`'s rows without those of `users`, who are in the columns `names`; the first `columns` columns stay.
///
/// # Errors
/// A plan without those columns.
pub(crate) fn hide<'a>(
    plan: Arc<dyn ExecutionPlan>,
    users: Arc<Users>,
    names: impl Iterator<Item = &'a str>,
    columns: usize,
) -> EngineResult<Arc<dyn ExecutionPlan>> {
    let schema = plan.schema();
    let column = |name| Ok(Arc::new(Column::new_with_schema(name, &schema)?) as Arc<dyn PhysicalExpr>);
    let named = names.map(column).collect::<EngineResult<Vec<_>>>()?;
    let function = Arc::new(ScalarUDF::new_from_impl(IsOther { users, signature: Signature::variadic_any(Volatility::Stable) }));
    let result = Arc::new(Field::new("is_other", DataType::Boolean, false));
    let predicate = ScalarFunctionExpr::new("is_other", function, named, result, Arc::new(ConfigOptions::default()));
    let kept = (columns < schema.fields().len()).then(|| (0..columns).collect::<Vec<_>>());
    Ok(Arc::new(FilterExecBuilder::new(Arc::new(predicate), plan).apply_projection(kept)?.build()?))
}

/// The columns to read so that `columns` are among them, and how many of them were asked for.
pub(crate) fn with_columns(projection: Option<&Vec<usize>>, columns: &[usize], schema: &Schema) -> (Option<Vec<usize>>, usize) {
    let Some(asked) = projection else { return (None, schema.fields().len()) };
    let mut read = asked.clone();
    for column in columns {
        if !read.contains(column) {
            read.push(*column);
        }
    }
    (Some(read), asked.len())
}

/// Whether a row is nobody's who is forgotten.
#[derive(Debug)]
struct IsOther {
    users: Arc<Users>,
    signature: Signature,
}

impl PartialEq for IsOther {
    fn eq(&self, other: &Self) -> bool {
        self.users == other.users
    }
}

impl Eq for IsOther {}

impl std::hash::Hash for IsOther {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.users.few.len().hash(state);
    }
}

impl ScalarUDFImpl for IsOther {
    fn name(&self) -> &str {
        "is_other"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> EngineResult<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> EngineResult<ColumnarValue> {
        let columns = args.args.iter().map(|column| column.to_array(args.number_rows)).collect::<EngineResult<Vec<_>>>()?;
        let others = self.users.others_in(columns.iter())?;
        Ok(ColumnarValue::Array(Arc::new(others.unwrap_or_else(|| BooleanArray::from(vec![true; args.number_rows])))))
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::{Int32Array, StringArray};

    use super::*;

    #[test]
    fn users_are_told_apart_whatever_their_type() {
        let key = [7; 32];
        let users = Users::new(key, ["-5", "42", "ü"].into_iter().map(|user| hash_of(&key, user)).collect());
        let numbers: ArrayRef = Arc::new(Int32Array::from(vec![Some(42), Some(42), None, Some(5), Some(-5), Some(42)]));
        let kept: Vec<bool> = users.others(&numbers).unwrap().unwrap().iter().flatten().collect();
        assert_eq!(kept, [false, false, true, true, false, false]);
        let texts: ArrayRef = Arc::new(StringArray::from(vec![Some("ü"), None, Some("u"), Some("42"), Some("042")]));
        let kept: Vec<bool> = users.others(&texts).unwrap().unwrap().iter().flatten().collect();
        assert_eq!(kept, [false, true, true, false, true]);
        assert_eq!(users.others(&(Arc::new(Int32Array::from(vec![1, 2])) as ArrayRef)).unwrap(), None);
        assert_ne!(hash_of(&[8; 32], "42"), hash_of(&key, "42"));
    }
}
