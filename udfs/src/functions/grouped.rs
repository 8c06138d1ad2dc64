//! Aggregates that keep one kernel state per group: the one place that knows DataFusion's accumulators.
//!
//! Life of a call: [`Kernel::update`] takes a batch's rows into the states of their groups → between the stages of a plan a state
//! travels as bytes in one binary column → [`State::merge`] → [`Kernel::finish`] makes the result column. A function without
//! `GROUP BY`, or over a window, has one group. States merge in any order; a function here never sees an order of rows.

use std::fmt::Debug;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryBuilder, BooleanArray};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::ScalarValue;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::format_state_name;
use datafusion::logical_expr::{Accumulator, EmitTo, GroupsAccumulator};

use crate::error::{Code, Error, Result};
use crate::kernels::stats::wire::Reader;

/// What one group has seen.
pub(super) trait State: Clone + Default + Debug + Send + Sync + 'static {
    /// Bytes on the heap; O(1).
    fn heap_bytes(&self) -> usize;
    /// Appends the state's bytes.
    fn encode(&self, out: &mut Vec<u8>);
    /// Reads what [`encode`](Self::encode) wrote.
    fn decode(from: &mut Reader<'_>) -> Option<Self>;
    /// Adds what `other` saw.
    ///
    /// # Errors
    /// What the merged state may not be.
    fn merge(&mut self, other: Self) -> Result<()>;
}

/// A function over groups, its constant arguments bound.
pub(super) trait Kernel: Debug + Clone + Send + Sync + 'static {
    /// What a group keeps.
    type State: State;
    /// Takes rows into the states of their groups.
    ///
    /// # Errors
    /// Values that the function refuses.
    fn update(&self, rows: &Rows<'_>, states: &mut States<Self::State>) -> Result<()>;
    /// One result per state, in order. It may be asked again, and more rows may follow.
    ///
    /// # Errors
    /// What the result may not be.
    fn finish(&self, states: &mut [Self::State]) -> Result<ArrayRef>;
}

/// The rows of a batch that count, each with its group.
#[derive(Debug)]
pub(super) struct Rows<'a> {
    /// The argument columns.
    pub(super) columns: &'a [ArrayRef],
    groups: Option<&'a [usize]>,
    filter: Option<&'a BooleanArray>,
}

impl Rows<'_> {
    /// (row, group) of the rows that the FILTER clause lets through.
    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        let length = self.columns.first().map_or(0, |column| column.len());
        let group = |row: usize| self.groups.map_or(Some(0), |groups| groups.get(row).copied());
        let passes = |row: &usize| self.filter.is_none_or(|filter| filter.is_valid(*row) && filter.value(*row));
        (0..length).filter(passes).filter_map(move |row| Some((row, group(row)?)))
    }

    /// The argument column at `index`.
    ///
    /// # Errors
    /// A bug of ours when there is none.
    pub(super) fn column(&self, index: usize) -> Result<&ArrayRef> {
        self.columns.get(index).ok_or_else(|| Error::internal(format!("there is no argument {index}")))
    }

    /// The argument column at `index` as doubles.
    ///
    /// # Errors
    /// A bug of ours when it is of another type.
    pub(super) fn numbers<T: arrow::datatypes::ArrowPrimitiveType>(&self, index: usize) -> Result<&arrow::array::PrimitiveArray<T>> {
        let wrong = || Error::internal(format!("argument {index} is not {}", T::DATA_TYPE));
        self.column(index)?.as_primitive_opt::<T>().ok_or_else(wrong)
    }
}

/// The states of all groups.
#[derive(Debug)]
pub(super) struct States<S> {
    states: Vec<S>,
    heap_bytes: usize,
}

impl<S: State> States<S> {
    /// Changes the state of a group.
    #[inline]
    pub(super) fn change<R>(&mut self, group: usize, change: impl FnOnce(&mut S) -> R) -> Result<R> {
        let state = self.states.get_mut(group).ok_or_else(|| Error::internal(format!("there is no group {group}")))?;
        let before = state.heap_bytes();
        let result = change(state);
        self.heap_bytes = (self.heap_bytes + state.heap_bytes()).saturating_sub(before);
        Ok(result)
    }

    fn grow(&mut self, groups: usize) {
        if self.states.len() < groups {
            self.states.resize_with(groups, S::default);
        }
    }

    fn take(&mut self, emit: EmitTo) -> Vec<S> {
        let taken = emit.take_needed(&mut self.states);
        self.heap_bytes = self.heap_bytes.saturating_sub(taken.iter().map(S::heap_bytes).sum());
        taken
    }

    fn size(&self) -> usize {
        self.states.capacity() * size_of::<S>() + self.heap_bytes
    }
}

/// The accumulator of a function with groups.
#[derive(Debug)]
pub(super) struct Groups<K: Kernel> {
    kernel: K,
    states: States<K::State>,
}

impl<K: Kernel> Groups<K> {
    /// No groups yet.
    pub(super) fn new(kernel: K) -> Self {
        Self { kernel, states: States { states: Vec::new(), heap_bytes: 0 } }
    }

    fn merge(&mut self, values: &[ArrayRef], group: impl Fn(usize) -> Option<usize>) -> DfResult<()> {
        let broken = || Error::internal("a state cannot be read");
        let bytes = values.first().and_then(|column| column.as_binary_opt::<i32>()).ok_or_else(broken)?;
        for row in (0..bytes.len()).filter(|row| bytes.is_valid(*row)) {
            let other = K::State::decode(&mut Reader::new(bytes.value(row))).ok_or_else(broken)?;
            let group = group(row).ok_or_else(broken)?;
            self.states.change(group, |state| state.merge(other))??;
        }
        Ok(())
    }
}

fn encoded<S: State>(states: &[S]) -> Result<ArrayRef> {
    let mut column = BinaryBuilder::with_capacity(states.len(), states.len() * 64);
    let mut bytes = Vec::new();
    for state in states {
        bytes.clear();
        state.encode(&mut bytes);
        append(&mut column, &bytes)?;
    }
    Ok(Arc::new(column.finish()))
}

/// Appends a value to a column, which holds 2 GiB.
///
/// # Errors
/// 54000 when it is full.
pub(super) fn append(column: &mut BinaryBuilder, bytes: &[u8]) -> Result<()> {
    let full = column.values_slice().len().saturating_add(bytes.len()) > i32::MAX as usize;
    if full {
        return Err(Error::new(Code::TooComplex, "the values of one batch have more than 2 GiB")
            .hint("Group by fewer values at once, or lower datafusion.execution.batch_size."));
    }
    column.append_value(bytes);
    Ok(())
}

impl<K: Kernel> GroupsAccumulator for Groups<K> {
    fn update_batch(&mut self, values: &[ArrayRef], groups: &[usize], filter: Option<&BooleanArray>, total: usize) -> DfResult<()> {
        self.states.grow(total);
        Ok(self.kernel.update(&Rows { columns: values, groups: Some(groups), filter }, &mut self.states)?)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> DfResult<ArrayRef> {
        Ok(self.kernel.finish(&mut self.states.take(emit_to))?)
    }

    fn state(&mut self, emit_to: EmitTo) -> DfResult<Vec<ArrayRef>> {
        Ok(vec![encoded(&self.states.take(emit_to))?])
    }

    fn merge_batch(&mut self, values: &[ArrayRef], groups: &[usize], total: usize) -> DfResult<()> {
        self.states.grow(total);
        self.merge(values, |row| groups.get(row).copied())
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> DfResult<Vec<ArrayRef>> {
        let rows = values.first().map_or(0, |column| column.len());
        let groups: Vec<usize> = (0..rows).collect();
        let mut own = Self::new(self.kernel.clone());
        own.update_batch(values, &groups, filter, rows)?;
        own.state(EmitTo::All)
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.states.size()
    }
}

/// The accumulator of a function without groups.
#[derive(Debug)]
pub(super) struct OneGroup<K: Kernel>(Groups<K>);

impl<K: Kernel> OneGroup<K> {
    /// Nothing seen yet.
    pub(super) fn new(kernel: K) -> Self {
        let mut groups = Groups::new(kernel);
        groups.states.grow(1);
        Self(groups)
    }
}

impl<K: Kernel> Accumulator for OneGroup<K> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> DfResult<()> {
        Ok(self.0.kernel.update(&Rows { columns: values, groups: None, filter: None }, &mut self.0.states)?)
    }

    fn evaluate(&mut self) -> DfResult<ScalarValue> {
        ScalarValue::try_from_array(&self.0.kernel.finish(&mut self.0.states.states)?, 0)
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.0.states.size()
    }

    fn state(&mut self) -> DfResult<Vec<ScalarValue>> {
        Ok(vec![ScalarValue::try_from_array(&encoded(&self.0.states.states)?, 0)?])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> DfResult<()> {
        self.0.merge(states, |_| Some(0))
    }
}

/// The columns in which a state travels.
pub(super) fn state_fields(args: &StateFieldsArgs<'_>) -> Vec<FieldRef> {
    vec![Arc::new(Field::new(format_state_name(args.name, "state"), DataType::Binary, true))]
}

/// Refuses `f(DISTINCT …)`.
///
/// # Errors
/// 0A000.
pub(super) fn not_distinct(name: &str, args: &AccumulatorArgs<'_>) -> Result<()> {
    if args.is_distinct {
        return Err(Error::new(Code::FeatureNotSupported, format!("{name} does not take DISTINCT"))
            .hint("Choose the rows in a subquery with SELECT DISTINCT."));
    }
    Ok(())
}

/// The methods of `AggregateUDFImpl` that make accumulators, from the method `kernel(&self, &AccumulatorArgs)`: a [`Kernel`], or
/// with the two constructors of [`super::aggregation`] an `Aggregation`.
macro_rules! accumulators {
    () => {
        $crate::functions::grouped::accumulators!($crate::functions::grouped::Groups::new, $crate::functions::grouped::OneGroup::new);
    };
    ($many:path, $one:path) => {
        fn accumulator(
            &self,
            args: datafusion::logical_expr::function::AccumulatorArgs<'_>,
        ) -> datafusion::error::Result<Box<dyn datafusion::logical_expr::Accumulator>> {
            $crate::functions::grouped::not_distinct(self.name(), &args)?;
            Ok(Box::new($one(self.kernel(&args)?)))
        }

        fn state_fields(
            &self,
            args: datafusion::logical_expr::function::StateFieldsArgs<'_>,
        ) -> datafusion::error::Result<Vec<arrow::datatypes::FieldRef>> {
            Ok($crate::functions::grouped::state_fields(&args))
        }

        fn groups_accumulator_supported(&self, _: datafusion::logical_expr::function::AccumulatorArgs<'_>) -> bool {
            true
        }

        fn create_groups_accumulator(
            &self,
            args: datafusion::logical_expr::function::AccumulatorArgs<'_>,
        ) -> datafusion::error::Result<Box<dyn datafusion::logical_expr::GroupsAccumulator>> {
            $crate::functions::grouped::not_distinct(self.name(), &args)?;
            Ok(Box::new($many(self.kernel(&args)?)))
        }

        fn order_sensitivity(&self) -> datafusion::logical_expr::utils::AggregateOrderSensitivity {
            datafusion::logical_expr::utils::AggregateOrderSensitivity::Insensitive
        }
    };
}
pub(super) use accumulators;

/// `AggregateUDFImpl` for a struct with the fields `signature` and `aliases` and the method `kernel`, whose file has a `SHAPE`.
macro_rules! aggregate {
    ($function:ident, $result:expr) => {
        $crate::functions::grouped::aggregate!(
            $function,
            $result,
            $crate::functions::grouped::Groups::new,
            $crate::functions::grouped::OneGroup::new
        );
    };
    ($function:ident, $result:expr, $many:path, $one:path) => {
        impl datafusion::logical_expr::AggregateUDFImpl for $function {
            fn name(&self) -> &str {
                SHAPE.name
            }

            fn aliases(&self) -> &[String] {
                &self.aliases
            }

            fn signature(&self) -> &datafusion::logical_expr::Signature {
                &self.signature
            }

            fn return_type(&self, given: &[arrow::datatypes::DataType]) -> datafusion::error::Result<arrow::datatypes::DataType> {
                SHAPE.check(given)?;
                Ok($result)
            }

            fn coerce_types(&self, given: &[arrow::datatypes::DataType]) -> datafusion::error::Result<Vec<arrow::datatypes::DataType>> {
                Ok(SHAPE.coerce(given))
            }

            fn documentation(&self) -> Option<&datafusion::logical_expr::Documentation> {
                self.doc()
            }

            $crate::functions::grouped::accumulators!($many, $one);
        }
    };
}
pub(super) use aggregate;
