//! From an [`Action`] to a scalar function: argument types, NULLs, one run per distinct call, waiting.
//!
//! A life-cycle call works on an object store, which is asynchronous, while a scalar function is not. The engine's
//! asynchronous functions would be evaluated before the expression around them, also in a `CASE` branch that is not
//! taken: `CASE WHEN test > baseline THEN activate_model(…) END` must not activate what lost. So what changes
//! something is an ordinary function that waits on a thread which the runtime has given free; only functions that
//! do nothing but wait are asynchronous.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, StringArray};
use arrow::datatypes::DataType;
use async_trait::async_trait;
use datafusion::common::{Result as DataFusionResult, ScalarValue};
use datafusion::logical_expr::async_udf::{AsyncScalarUDF, AsyncScalarUDFImpl};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};

use super::MlContext;
use crate::context::StatementContext;
use crate::error::{Code, Error, Result};
use crate::functions::blocking::block_on;
use crate::registry::{ModelAction, ModelRef};

/// The type of an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Integer,
    Boolean,
    /// A number of seconds, or text such as `10 minutes`.
    Seconds,
}

/// One argument of an action.
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

/// One life-cycle function.
#[async_trait]
pub(super) trait Action: fmt::Debug + Send + Sync + 'static {
    /// The SQL name.
    fn name(&self) -> &'static str;

    /// The arguments in order, required ones first.
    fn parameters(&self) -> &'static [Parameter];

    /// From `#[user_doc]`.
    fn documentation(&self) -> Option<&Documentation>;

    /// Does it, and says what was done: lower case, no final dot.
    async fn run(&self, call: Call) -> Result<String>;
}

/// One call of an action, its required arguments not NULL.
pub(super) struct Call {
    pub(super) context: Arc<MlContext>,
    pub(super) statement: Arc<StatementContext>,
    arguments: Vec<ScalarValue>,
}

impl Call {
    /// A text argument.
    pub(super) fn text(&self, index: usize) -> Option<&str> {
        match self.arguments.get(index) {
            Some(ScalarValue::Utf8(Some(value)) | ScalarValue::LargeUtf8(Some(value)) | ScalarValue::Utf8View(Some(value))) => Some(value),
            _ => None,
        }
    }

    /// A required text argument.
    pub(super) fn required_text(&self, index: usize) -> Result<&str> {
        self.text(index).ok_or_else(|| Error::internal("a required argument is missing"))
    }

    /// An integer argument.
    pub(super) fn integer(&self, index: usize) -> Option<i64> {
        match self.arguments.get(index) {
            Some(ScalarValue::Int64(value)) => *value,
            _ => None,
        }
    }

    /// A boolean argument.
    pub(super) fn boolean(&self, index: usize) -> Option<bool> {
        match self.arguments.get(index) {
            Some(ScalarValue::Boolean(value)) => *value,
            _ => None,
        }
    }

    /// A number argument.
    pub(super) fn number(&self, index: usize) -> Option<f64> {
        match self.arguments.get(index) {
            Some(ScalarValue::Float64(value)) => *value,
            _ => None,
        }
    }

    /// A model and a version: from the two arguments, or from `name@3` in the first one.
    ///
    /// # Errors
    /// 22023 when they contradict each other or are no version.
    pub(super) fn model_and_version(&self, model: usize, version: usize) -> Result<(String, Option<u32>)> {
        let text = self.required_text(model)?;
        let given = match self.integer(version) {
            Some(number) => Some(u32::try_from(number).map_err(|_| Error::invalid(format!("{number} is not a version number")))?),
            None => None,
        };
        let Some((name, written)) = text.split_once('@') else { return Ok((text.to_owned(), given)) };
        let written = written.parse::<u32>().map_err(|_| Error::invalid(format!("\"{written}\" is not a version number")))?;
        if given.is_some_and(|given| given != written) {
            return Err(Error::invalid(format!("the model is given as \"{text}\", the version as {}", given.unwrap_or(0))));
        }
        Ok((name.to_owned(), Some(written)))
    }

    /// The name of a whole model.
    ///
    /// # Errors
    /// 22023 when a version is named as well.
    pub(super) fn model(&self, index: usize) -> Result<&str> {
        let text = self.required_text(index)?;
        if text.contains('@') {
            return Err(Error::invalid(format!("\"{text}\" names a version")).hint("Name the model alone."));
        }
        Ok(text)
    }

    /// Succeeds when the caller may do `action` to `model`.
    pub(super) fn authorize(&self, model: &str, action: ModelAction) -> Result<()> {
        self.context.registry.authorize(&self.statement.user, model, action)
    }

    /// The version that `name` or `name@3` means, if the caller may do `action` to it.
    pub(super) fn resolve(&self, index: usize, action: ModelAction) -> Result<ModelRef> {
        let text = self.required_text(index)?;
        self.authorize(text, action)?;
        self.context.registry.resolve(text)
    }
}

/// An action that is done at once.
#[derive(Debug)]
pub(super) struct ActionFunction {
    action: Arc<dyn Action>,
    context: Arc<MlContext>,
    signature: Signature,
}

impl ActionFunction {
    pub(super) fn udf(action: Arc<dyn Action>, context: &Arc<MlContext>) -> Arc<ScalarUDF> {
        let mut signature = Signature::user_defined(Volatility::Volatile);
        signature.parameter_names = Some(names(action.as_ref()));
        Arc::new(ScalarUDF::new_from_impl(Self { action, context: Arc::clone(context), signature }))
    }
}

/// An action that only waits.
#[derive(Debug)]
pub(super) struct WaitFunction(ActionFunction);

impl WaitFunction {
    pub(super) fn udf(action: Arc<dyn Action>, context: &Arc<MlContext>) -> Arc<ScalarUDF> {
        // The engine does not ask an asynchronous function to coerce: every form is listed.
        let mut forms: Vec<Vec<DataType>> = vec![vec![]];
        let mut accepted = Vec::new();
        for parameter in action.parameters() {
            if !parameter.required {
                accepted.extend(forms.iter().cloned());
            }
            let types = match parameter.kind {
                Kind::Text => vec![DataType::Utf8],
                Kind::Integer => vec![DataType::Int64],
                Kind::Boolean => vec![DataType::Boolean],
                Kind::Seconds => vec![DataType::Float64, DataType::Utf8],
            };
            forms = forms.iter().flat_map(|form| types.iter().map(|next| [form.as_slice(), std::slice::from_ref(next)].concat())).collect();
        }
        accepted.extend(forms);
        let forms = accepted.into_iter().map(TypeSignature::Exact).collect();
        let mut signature = Signature::one_of(forms, Volatility::Volatile);
        signature.parameter_names = Some(names(action.as_ref()));
        let function = ActionFunction { action, context: Arc::clone(context), signature };
        Arc::new(AsyncScalarUDF::new(Arc::new(Self(function))).into_scalar_udf())
    }
}

fn names(action: &dyn Action) -> Vec<String> {
    action.parameters().iter().map(|parameter| parameter.name.to_owned()).collect()
}

impl PartialEq for ActionFunction {
    fn eq(&self, other: &Self) -> bool {
        self.action.name() == other.action.name() && Arc::ptr_eq(&self.context, &other.context)
    }
}

impl Eq for ActionFunction {}

impl Hash for ActionFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.action.name().hash(state);
    }
}

impl PartialEq for WaitFunction {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for WaitFunction {}

impl Hash for WaitFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl ScalarUDFImpl for ActionFunction {
    fn name(&self) -> &str {
        self.action.name()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> DataFusionResult<DataType> {
        coerce(self.action.as_ref(), types)?;
        Ok(DataType::Utf8)
    }

    /// Says nothing about arguments that do not fit: the engine would keep of the error its text alone. The next
    /// step, [`return_type`](Self::return_type), says it.
    fn coerce_types(&self, given: &[DataType]) -> DataFusionResult<Vec<DataType>> {
        Ok(coerce(self.action.as_ref(), given).unwrap_or_else(|_| given.to_vec()))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        if args.number_rows == 0 {
            return Ok(ColumnarValue::Array(Arc::new(StringArray::from(Vec::<Option<String>>::new()))));
        }
        let (action, context) = (Arc::clone(&self.action), Arc::clone(&self.context));
        block_on(run(action, context, args))?
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.action.documentation()
    }
}

impl ScalarUDFImpl for WaitFunction {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn signature(&self) -> &Signature {
        self.0.signature()
    }

    fn return_type(&self, _types: &[DataType]) -> DataFusionResult<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        self.0.invoke_with_args(args)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.0.documentation()
    }
}

#[async_trait]
impl AsyncScalarUDFImpl for WaitFunction {
    async fn invoke_async_with_args(&self, args: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        let (rows, statement) = (args.number_rows, StatementContext::of_options(&args.config_options));
        let values = tokio::select! {
            biased;
            values = run(Arc::clone(&self.0.action), Arc::clone(&self.0.context), args) => values?,
            () = statement.cancel.cancelled() => return Err(Error::cancelled().into()),
        };
        // The engine wants an array here, whatever the arguments are.
        values.into_array(rows).map(ColumnarValue::Array)
    }
}

/// What the arguments are cast to.
fn coerce(action: &dyn Action, given: &[DataType]) -> Result<Vec<DataType>> {
    let parameters = action.parameters();
    let required = parameters.iter().filter(|parameter| parameter.required).count();
    if given.len() < required || given.len() > parameters.len() {
        let counts = if required == parameters.len() { required.to_string() } else { format!("{required} to {}", parameters.len()) };
        return Err(Error::new(Code::UndefinedFunction, format!("function {} takes {counts} arguments", action.name()))
            .detail(format!("{} arguments were given.", given.len()))
            .hint(format!("The arguments are {}({}).", action.name(), names(action).join(", "))));
    }
    let cast = |(given, parameter): (&DataType, &Parameter)| {
        let text = matches!(given, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null);
        let (fits, wanted, word) = match parameter.kind {
            Kind::Text => (text || matches!(given, DataType::Dictionary(..)), DataType::Utf8, "text"),
            Kind::Integer => (text || given.is_integer(), DataType::Int64, "an integer"),
            Kind::Boolean => (text || *given == DataType::Boolean, DataType::Boolean, "true or false"),
            Kind::Seconds => (text || given.is_numeric(), if text { DataType::Utf8 } else { DataType::Float64 }, "seconds"),
        };
        if fits {
            return Ok(wanted);
        }
        let message = format!("argument \"{}\" of {} must be {word}", parameter.name, action.name());
        Err(Error::new(Code::DatatypeMismatch, message).detail(format!("Its type is {given}.")))
    };
    given.iter().zip(parameters).map(cast).collect()
}

/// Runs an action once when every argument is a constant, else once per row, one after another. A cancelled statement
/// starts no further one; one that runs goes to its end, so that memory and store agree.
async fn run(action: Arc<dyn Action>, context: Arc<MlContext>, args: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
    let statement = StatementContext::of_options(&args.config_options);
    let constant = args.args.iter().all(|value| matches!(value, ColumnarValue::Scalar(_)));
    let rows = if constant { 1 } else { args.number_rows };
    let mut results: Vec<Option<String>> = Vec::with_capacity(rows);
    for row in 0..rows {
        let arguments = args.args.iter().map(|value| argument(value, row)).collect::<DataFusionResult<Vec<_>>>()?;
        let missing = |(index, parameter): (usize, &Parameter)| parameter.required && arguments.get(index).is_none_or(ScalarValue::is_null);
        if action.parameters().iter().enumerate().any(missing) {
            results.push(None);
            continue;
        }
        let call = Call { context: Arc::clone(&context), statement: Arc::clone(&statement), arguments };
        if statement.cancel.is_cancelled() {
            return Err(Error::cancelled().into());
        }
        let done = action.run(call).await;
        results.push(Some(done?));
    }
    if constant {
        return Ok(ColumnarValue::Scalar(ScalarValue::Utf8(results.pop().flatten())));
    }
    Ok(ColumnarValue::Array(Arc::new(StringArray::from(results))))
}

fn argument(value: &ColumnarValue, row: usize) -> DataFusionResult<ScalarValue> {
    match value {
        ColumnarValue::Scalar(value) => Ok(value.clone()),
        ColumnarValue::Array(values) if values.is_null(row) => ScalarValue::try_from(values.data_type()),
        ColumnarValue::Array(values) => ScalarValue::try_from_array(values, row),
    }
}
