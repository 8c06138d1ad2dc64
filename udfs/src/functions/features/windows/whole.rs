//! From a [`WholePartition`] to a window function: argument types, constants, NULLs.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use datafusion::common::{Result as DfResult, ScalarValue};
use datafusion::logical_expr::ColumnarValue;
use datafusion::logical_expr::function::{PartitionEvaluatorArgs, WindowUDFFieldArgs};
use datafusion::logical_expr::{Documentation, PartitionEvaluator, Signature, Volatility, WindowUDF, WindowUDFImpl};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Literal;

use crate::error::{Code, Error, Result};
use crate::features::transform::steps::Step;
use crate::features::transform::{Column, InputKind, Values, learn_and_apply};
use crate::functions::relation::sql_type;

/// What an argument is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Kind {
    /// A column of numbers.
    Number,
    /// A column of texts or of what can be written as text.
    Category,
    /// A column that is returned as it is where nothing is missing.
    Any,
    /// A constant number with its default and range.
    Share(f64, f64, f64),
    /// A constant text with its default.
    Word(&'static str),
}

/// One argument.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parameter {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) required: bool,
}

impl Parameter {
    pub(super) const fn required(name: &'static str, kind: Kind) -> Self {
        Self { name, kind, required: true }
    }

    pub(super) const fn optional(name: &'static str, kind: Kind) -> Self {
        Self { name, kind, required: false }
    }
}

/// One function.
pub(super) trait WholePartition: fmt::Debug + Send + Sync + 'static {
    /// The SQL name.
    fn name(&self) -> &'static str;

    /// Other names.
    fn aliases(&self) -> &'static [&'static str] {
        &[]
    }

    /// From `#[user_doc]`.
    fn documentation(&self) -> Option<&Documentation>;

    /// The arguments in order: columns, then constants.
    fn parameters(&self) -> &'static [Parameter];

    /// The type of the result for these arguments.
    fn output(&self, _types: &[DataType]) -> DataType {
        DataType::Float64
    }

    /// The results for the rows of a partition.
    fn compute(&self, columns: &[ArrayRef], constants: &Constants) -> Result<ArrayRef>;
}

/// The constant arguments of a call, by name, defaults filled in.
#[derive(Debug, Clone, Default)]
pub(super) struct Constants {
    numbers: Vec<(&'static str, f64)>,
    words: Vec<(&'static str, String)>,
}

impl Constants {
    /// A number.
    pub(super) fn number(&self, name: &str) -> f64 {
        self.numbers.iter().find(|(known, _)| *known == name).map_or(f64::NAN, |(_, value)| *value)
    }

    /// A text.
    pub(super) fn word(&self, name: &str) -> &str {
        self.words.iter().find(|(known, _)| *known == name).map_or("", |(_, value)| value)
    }

    fn read(function: &str, parameters: &[Parameter], exprs: &[Arc<dyn PhysicalExpr>]) -> Result<Self> {
        let mut constants = Self::default();
        for (index, parameter) in parameters.iter().enumerate() {
            let given = match parameter.kind {
                Kind::Number | Kind::Category | Kind::Any => continue,
                _ => exprs.get(index).map(|expr| constant(function, parameter.name, expr)).transpose()?,
            };
            let given = given.filter(|value| !value.is_null());
            let out_of_range =
                |least, most| Error::invalid(format!("argument \"{}\" of {function} must be between {least} and {most}", parameter.name));
            match (parameter.kind, given) {
                (Kind::Share(default, ..), None) => constants.numbers.push((parameter.name, default)),
                (Kind::Share(_, least, most), Some(value)) => match value.cast_to(&DataType::Float64) {
                    Ok(ScalarValue::Float64(Some(number))) if (least..=most).contains(&number) => {
                        constants.numbers.push((parameter.name, number));
                    }
                    _ => return Err(out_of_range(least, most).detail(format!("The value given is {value}."))),
                },
                (Kind::Word(default), None) => constants.words.push((parameter.name, default.to_owned())),
                (_, Some(value)) => constants.words.push((parameter.name, value.try_as_str().flatten().unwrap_or("").to_lowercase())),
                _ => {}
            }
        }
        Ok(constants)
    }
}

/// The value of a constant argument.
fn constant(function: &str, name: &str, expr: &Arc<dyn PhysicalExpr>) -> Result<ScalarValue> {
    if let Some(literal) = expr.downcast_ref::<Literal>() {
        return Ok(literal.value().clone());
    }
    let nothing = RecordBatch::new_empty(Arc::new(Schema::empty()));
    match expr.evaluate(&nothing) {
        Ok(ColumnarValue::Scalar(value)) => Ok(value),
        _ => Err(Error::invalid(format!("argument \"{name}\" of {function} must be a constant"))),
    }
}

/// A window function over whole partitions.
pub(super) struct Whole {
    function: Arc<dyn WholePartition>,
    signature: Signature,
    aliases: Vec<String>,
}

impl Whole {
    pub(super) fn udf(function: Arc<dyn WholePartition>) -> Arc<WindowUDF> {
        let mut signature = Signature::user_defined(Volatility::Immutable);
        signature.parameter_names = Some(function.parameters().iter().map(|parameter| parameter.name.to_owned()).collect());
        let aliases = function.aliases().iter().map(|alias| (*alias).to_owned()).collect();
        Arc::new(WindowUDF::new_from_impl(Self { function, signature, aliases }))
    }
}

impl fmt::Debug for Whole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Whole").field(&self.function).finish()
    }
}

impl PartialEq for Whole {
    fn eq(&self, other: &Self) -> bool {
        self.function.name() == other.function.name()
    }
}

impl Eq for Whole {}

impl Hash for Whole {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.function.name().hash(state);
    }
}

fn is_text(found: &DataType) -> bool {
    matches!(found, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null)
}

fn fits(kind: Kind, found: &DataType) -> bool {
    match kind {
        Kind::Any => true,
        Kind::Number => InputKind::Number.reads(found),
        Kind::Category => InputKind::Category.reads(found),
        Kind::Share(..) => found.is_numeric() || found.is_null(),
        Kind::Word(_) => is_text(found),
    }
}

/// The error of a call whose arguments do not fit; none when they do.
///
/// # Errors
/// 42883 for another number of arguments, 42804 for another type.
pub(super) fn check(name: &str, parameters: &[Parameter], given: &[DataType]) -> Result<()> {
    let required = parameters.iter().filter(|parameter| parameter.required).count();
    if given.len() < required || given.len() > parameters.len() {
        let counts = if required == parameters.len() { required.to_string() } else { format!("{required} to {}", parameters.len()) };
        let names: Vec<&str> = parameters.iter().map(|parameter| parameter.name).collect();
        return Err(Error::new(Code::UndefinedFunction, format!("function {name} takes {counts} arguments"))
            .detail(format!("{} arguments were given.", given.len()))
            .hint(format!("The arguments are {name}({}).", names.join(", "))));
    }
    for (found, parameter) in given.iter().zip(parameters) {
        if !fits(parameter.kind, found) {
            let word = match parameter.kind {
                Kind::Number | Kind::Share(..) => "a number",
                Kind::Word(_) => "text",
                Kind::Category | Kind::Any => "text, a number or a time",
            };
            return Err(Error::new(Code::DatatypeMismatch, format!("argument \"{}\" of {name} must be {word}", parameter.name))
                .detail(format!("Its type is {}.", sql_type(found))));
        }
    }
    Ok(())
}

impl WindowUDFImpl for Whole {
    fn name(&self) -> &str {
        self.function.name()
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    /// Says nothing about arguments that do not fit: the engine would keep of the error its text alone;
    /// [`field`](Self::field) says it.
    fn coerce_types(&self, given: &[DataType]) -> DfResult<Vec<DataType>> {
        let coerced = |(index, found): (usize, &DataType)| match self.function.parameters().get(index).map(|parameter| parameter.kind) {
            Some(Kind::Number | Kind::Share(..)) if found.is_numeric() || found.is_null() => DataType::Float64,
            Some(Kind::Word(_)) if is_text(found) => DataType::Utf8,
            _ => found.clone(),
        };
        Ok(given.iter().enumerate().map(coerced).collect())
    }

    fn field(&self, args: WindowUDFFieldArgs) -> DfResult<FieldRef> {
        let given: Vec<DataType> = args.input_fields().iter().map(|field| field.data_type().clone()).collect();
        check(self.function.name(), self.function.parameters(), &given)?;
        Ok(Arc::new(Field::new(args.name(), self.function.output(&given), true)))
    }

    fn partition_evaluator(&self, args: PartitionEvaluatorArgs) -> DfResult<Box<dyn PartitionEvaluator>> {
        let constants = Constants::read(self.function.name(), self.function.parameters(), args.input_exprs())?;
        Ok(Box::new(Evaluator { function: Arc::clone(&self.function), constants }))
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.function.documentation()
    }
}

#[derive(Debug)]
struct Evaluator {
    function: Arc<dyn WholePartition>,
    constants: Constants,
}

impl PartitionEvaluator for Evaluator {
    fn evaluate_all(&mut self, values: &[ArrayRef], _rows: usize) -> DfResult<ArrayRef> {
        Ok(self.function.compute(values, &self.constants)?)
    }
}

/// A column argument, read; 42804 when it cannot be.
pub(super) fn column(columns: &[ArrayRef], index: usize, name: &str, kind: InputKind) -> Result<Column> {
    let array = columns.get(index).ok_or_else(|| Error::internal("an argument is missing"))?;
    let mut values = Values::empty(kind);
    values.append(name, array)?;
    Ok(Column::new(name, values))
}

/// Numbers with NULL where one is missing.
pub(super) fn doubles(values: Vec<f64>) -> ArrayRef {
    if values.iter().any(|value| value.is_nan()) {
        return Arc::new(values.into_iter().map(|value| Some(value).filter(|value| !value.is_nan())).collect::<Float64Array>());
    }
    Arc::new(Float64Array::from(values))
}

/// Learns a step from the first argument and applies it to the same rows.
pub(super) fn step(columns: &[ArrayRef], kind: InputKind, step: &Step) -> Result<ArrayRef> {
    learn_and_apply(step, column(columns, 0, "x", kind)?).map(doubles)
}

/// As [`step`], for results that are whole numbers.
pub(super) fn whole_numbers(columns: &[ArrayRef], kind: InputKind, step: &Step) -> Result<ArrayRef> {
    let found = self::step(columns, kind, step)?;
    cast(&found, &DataType::Int64).map_err(|error| Error::internal(error.to_string()))
}
