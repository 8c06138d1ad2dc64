//! What the scalar prediction functions have in common while they are still expressions.
//!
//! Each of them is a marker: it has a name, parameters and a type, and is never evaluated. The analyzer rule of
//! [`hoist`](super::hoist) replaces it by a column of a `PredictExec`. They are volatile, because the planner folds
//! anything less with literal arguments while it plans, and a folded prediction would outlive its model version.

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::DataFusionError;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{ColumnarValue, Signature, Volatility};
use datafusion::sql::sqlparser::ast;

use crate::error::{Code, Error};
use crate::functions::ml::lifecycle;

/// One prediction function: what it is called, what it takes and what it gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Marker {
    Intent,
    Probability,
    Value,
    Embedding,
    SequenceIntent,
    SequenceEmbedding,
}

/// Every marker.
pub(crate) const MARKERS: [Marker; 6] =
    [Marker::Intent, Marker::Probability, Marker::Value, Marker::Embedding, Marker::SequenceIntent, Marker::SequenceEmbedding];

impl Marker {
    /// The marker a call stands for, if it is one.
    pub(crate) fn of(call: &ScalarFunction) -> Option<Self> {
        Self::named(call.func.name())
    }

    /// The marker of that SQL name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        MARKERS.into_iter().find(|marker| marker.name() == name)
    }

    /// The SQL name.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Intent => "predict_intent",
            Self::Probability => "predict_intent_proba",
            Self::Value => "predict_value",
            Self::Embedding => "embed_user",
            Self::SequenceIntent => "predict_intent_seq",
            Self::SequenceEmbedding => "embed_seq",
        }
    }

    /// The parameters in order.
    pub(crate) const fn parameters(self) -> &'static [&'static str] {
        match self {
            Self::Intent | Self::Value => &["model", "user_id", "as_of"],
            Self::Probability => &["model", "user_id", "class", "as_of"],
            Self::Embedding => &["model", "user_id", "as_of", "normalize"],
            Self::SequenceIntent => &["model", "events", "items", "times"],
            Self::SequenceEmbedding => &["model", "events", "items", "times", "normalize"],
        }
    }

    /// How many of the parameters must be given.
    pub(crate) const fn required(self) -> usize {
        match self {
            Self::Probability => 3,
            _ => 2,
        }
    }

    /// The result's type, the same for every model.
    pub(crate) fn return_type(self) -> DataType {
        match self {
            Self::Intent | Self::SequenceIntent => DataType::Utf8,
            Self::Probability | Self::Value => DataType::Float64,
            Self::Embedding | Self::SequenceEmbedding => DataType::new_list(DataType::Float32, true),
        }
    }

    /// The signature: arguments are checked by [`coerce`](Self::coerce).
    pub(crate) fn signature(self) -> Signature {
        let signature = Signature::user_defined(Volatility::Volatile);
        let named = signature.clone().with_parameter_names(self.parameters().to_vec());
        named.unwrap_or(signature)
    }

    /// The types the arguments are cast to before anything else looks at them. User ids and `as_of` keep theirs:
    /// what they become depends on the model, and a text that cannot be read deserves its own error.
    pub(crate) fn coerce(self, given: &[DataType]) -> Result<Vec<DataType>, DataFusionError> {
        let parameters = self.parameters();
        if given.len() < self.required() || given.len() > parameters.len() {
            let error = Error::new(
                Code::UndefinedFunction,
                format!("function {} takes {} to {} arguments", self.name(), self.required(), parameters.len()),
            );
            return Err(error
                .detail(format!("{} arguments were given.", given.len()))
                .hint(format!("The arguments are {}({}).", self.name(), parameters.join(", ")))
                .into());
        }
        given.iter().zip(parameters).map(|(given, parameter)| self.coerce_one(given, parameter)).collect()
    }

    fn coerce_one(self, given: &DataType, parameter: &str) -> Result<DataType, DataFusionError> {
        let refused = |expected: &str| {
            let error = Error::new(Code::DatatypeMismatch, format!("argument \"{parameter}\" of {} must be {expected}", self.name()));
            Err(error.detail(format!("Its type is {given}.")).into())
        };
        let list = matches!(given, DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..));
        match parameter {
            "model" | "class" => Ok(DataType::Utf8),
            "normalize" => match given {
                DataType::Boolean | DataType::Null => Ok(DataType::Boolean),
                _ => refused("true or false"),
            },
            "events" | "items" if list || given.is_null() => Ok(DataType::new_list(DataType::Utf8, true)),
            "times" if list || given.is_null() => {
                Ok(DataType::new_list(DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true))
            }
            "events" | "items" => refused("an array of text"),
            "times" => refused("an array of timestamps"),
            _ => Ok(given.clone()),
        }
    }

    /// What evaluating the marker itself says: it stands where no rule could take it away.
    pub(crate) fn unplanned(self) -> Result<ColumnarValue, DataFusionError> {
        Err(self.misplaced("here").into())
    }

    /// The error of a call that cannot be answered where it stands.
    pub(crate) fn misplaced(self, place: &str) -> Error {
        Error::new(Code::FeatureNotSupported, format!("{} cannot be used {place}", self.name()))
            .hint("Call it in a subquery's SELECT list and use that column instead.")
    }
}

/// Puts the arguments of a prediction or life-cycle call in the order of its parameters, so that a named argument may skip
/// optional ones: `embed_user('m', 7, normalize => false)` becomes `embed_user('m', 7, NULL, false)`. The planner by itself
/// accepts a named argument only when nothing before it is left out.
///
/// Calls of other functions stay as they are.
///
/// # Errors
/// An unknown, repeated or missing argument name, or a positional argument after a named one.
pub fn complete_arguments(call: &mut ast::Function) -> crate::Result<()> {
    let [part] = call.name.0.as_slice() else { return Ok(()) };
    let Some(function) = part.as_ident().map(|name| name.value.to_ascii_lowercase()) else { return Ok(()) };
    let (parameters, required) = match Marker::named(&function) {
        Some(marker) => (marker.parameters().to_vec(), marker.required()),
        None => match lifecycle::parameters(&function) {
            Some(found) => found,
            None => return Ok(()),
        },
    };
    let ast::FunctionArguments::List(list) = &mut call.args else { return Ok(()) };
    if list.args.iter().all(|argument| matches!(argument, ast::FunctionArg::Unnamed(_))) {
        return Ok(());
    }
    let mut placed: Vec<Option<ast::FunctionArgExpr>> = vec![None; parameters.len().max(list.args.len())];
    let mut named = false;
    for (index, argument) in list.args.iter().enumerate() {
        let (name, value) = match argument {
            ast::FunctionArg::Unnamed(value) if named => {
                return Err(Error::new(Code::Syntax, format!("positional argument {value} follows a named one")));
            }
            ast::FunctionArg::Unnamed(value) => {
                placed[index] = Some(value.clone());
                continue;
            }
            ast::FunctionArg::Named { name, arg, .. } => (name.value.clone(), arg),
            ast::FunctionArg::ExprNamed { name, arg, .. } => (name.to_string(), arg),
        };
        named = true;
        let wanted = name.to_ascii_lowercase();
        let Some(position) = parameters.iter().position(|parameter| *parameter == wanted) else {
            let error = Error::new(Code::UndefinedFunction, format!("{function} has no argument \"{name}\""));
            return Err(error.hint(format!("The arguments are {function}({}).", parameters.join(", "))));
        };
        if placed[position].replace(value.clone()).is_some() {
            return Err(Error::invalid(format!("argument \"{wanted}\" is given twice")));
        }
    }
    if let Some(missing) = placed.iter().take(required).position(Option::is_none) {
        let error = Error::new(Code::UndefinedFunction, format!("{function} needs its argument \"{}\"", parameters[missing]));
        return Err(error.hint(format!("The arguments are {function}({}).", parameters.join(", "))));
    }
    let last = placed.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
    list.args = placed.into_iter().take(last).map(|value| ast::FunctionArg::Unnamed(value.unwrap_or_else(null))).collect();
    Ok(())
}

fn null() -> ast::FunctionArgExpr {
    ast::FunctionArgExpr::Expr(ast::Expr::Value(ast::Value::Null.into()))
}
