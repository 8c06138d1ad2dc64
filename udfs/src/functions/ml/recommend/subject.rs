//! What the functions of this family ask about: a loaded model, its users' histories and its items.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray};
use arrow::datatypes::{DataType, Float32Type};
use datafusion::common::ScalarValue;
use futures::TryStreamExt;

use crate::context::{EventSource, UserHistories};
use crate::error::{Code, Error, Result};
use crate::features::encoder::HistoryEncoder;
use crate::features::events::Strings;
use crate::features::inputs::Inputs;
use crate::features::{KeyType, Target, UserHistory, UserReader};
use crate::functions::MlContext;
use crate::functions::ml::predict::loaded::event_source;
use crate::functions::ml::predict::subject::Users;
use crate::functions::relation::{Argument, Arguments, Call, Kind, Parameter};
use crate::kernels::intern::NULL_CODE;
use crate::kernels::nearest::nearest;
use crate::registry::{LoadedModel, ModelAction};
use crate::train::Retriever;
use crate::train::retrieve::{History, NO_CLASS};

/// Rows of one answer, per user, at most.
const K_MAX: i64 = 1000;

pub(super) const MODEL: Parameter = Parameter::required("model", Kind::Model, "The model, `name` or `name@version`.");
pub(super) const USER: Parameter = Parameter::required("user_id", Kind::Any, "The user. An unknown or NULL one has no rows.");
pub(super) const K: Parameter = Parameter::optional("k", Kind::Integer, "10", "How many at most, from 1 to 1000.");
pub(super) const UNSEEN: Parameter =
    Parameter::optional("exclude_seen", Kind::Boolean, "true", "Whether items of the user's history are left out.");
pub(super) const SOURCE: Parameter =
    Parameter::optional("source", Kind::Source, "NULL", "Other events; by default what the model was trained on, as it is now.");
pub(super) const AS_OF: Parameter = Parameter::optional(
    "as_of",
    Kind::Timestamp,
    "NULL",
    "Only events up to this time count; by default the largest event time of the source.",
);

/// How many are asked for.
///
/// # Errors
/// 22023 outside 1 to 1000.
pub(super) fn k(args: &Arguments) -> Result<usize> {
    args.integer_in("k", 10, 1..=K_MAX).map(|k| k as usize)
}

/// The key type of the users of the model that `args` name.
///
/// # Errors
/// 42704 for an unknown model; 42804 for a model of labelled rows.
pub(super) fn key_type(args: &Arguments, context: &MlContext) -> Result<KeyType> {
    // A model that is a parameter without a value yet: numbers are the common case, and the plan's schema stays.
    let Some(model) = args.resolve_model("model", context)? else { return Ok(KeyType::Int64) };
    let info = context.registry.info(&model)?;
    let columns = info.source.as_ref().and_then(|source| source.columns.as_ref());
    columns.map(|columns| columns.key_type).ok_or_else(|| not_about_users(&model.name))
}

/// Succeeds when the model that `args` name chooses among items.
///
/// # Errors
/// 42704 for an unknown model; 22023 for one of another target.
pub(super) fn check_items(args: &Arguments, context: &MlContext) -> Result<()> {
    let Some(model) = args.resolve_model("model", context)? else { return Ok(()) };
    of_items(&model.name, &context.registry.info(&model)?.target)
}

fn of_items(model: &str, target: &str) -> Result<()> {
    if Target::parse(target)? == Target::NextItem {
        return Ok(());
    }
    Err(Error::invalid(format!("model \"{model}\" does not predict items"))
        .detail(format!("Its target is {target}."))
        .hint("Train one with target => 'next_item'."))
}

fn not_about_users(model: &str) -> Error {
    Error::new(Code::DatatypeMismatch, format!("model \"{model}\" predicts from rows, not from users' events"))
}

/// A loaded model with its users' histories.
#[derive(Debug)]
pub(super) struct Subject {
    pub(super) model: Arc<LoadedModel>,
    pub(super) source: EventSource,
    pub(super) histories: Arc<dyn UserHistories>,
    pub(super) as_of_us: i64,
}

/// Loads the model of a call.
///
/// # Errors
/// 22023 when it is NULL; 42501; what loading says.
pub(super) async fn load(call: &Call) -> Result<Arc<LoadedModel>> {
    let reference = call.args.model("model").ok_or_else(|| call.args.missing("model"))?;
    call.context.registry.authorize(&call.statement().user, &reference.name, ModelAction::Execute)?;
    call.context.registry.load_to_answer(reference).await
}

impl Subject {
    /// Loads the model of a call and opens its events.
    ///
    /// # Errors
    /// As [`load`]; 42804 for a model of labelled rows; what reading the source says.
    pub(super) async fn open(call: &Call) -> Result<Self> {
        let model = load(call).await?;
        let mut source = event_source(&model).ok_or_else(|| not_about_users(&model.reference.name))?;
        if let Some(given) = &call.source {
            source.sql.clone_from(&given.sql);
        }
        let histories = call.context.histories.open(&call.session, &source).await?;
        let as_of_us = call.args.micros("as_of").or(histories.watermark_us()).unwrap_or_default();
        Ok(Self { model, source, histories, as_of_us })
    }

    /// The user that `user_id` names, as a column of one key; `None` for NULL and for what cannot be a key.
    ///
    /// # Errors
    /// 22P02 for a text that is no number where keys are numbers.
    pub(super) fn user(&self, args: &Arguments) -> Result<Option<ArrayRef>> {
        let Some(Argument::Any(value)) = args.get("user_id") else { return Ok(None) };
        let column = value.to_array().map_err(|error| Error::internal(format!("reading a user id failed: {error}")))?;
        Ok(match Users::new(&column, self.source.columns.key_type)? {
            Users::Int64(keys) if keys.iter().any(|key| key.is_some()) => Some(Arc::new(keys)),
            Users::Utf8(keys) if keys.iter().any(|key| key.is_some()) => Some(Arc::new(keys)),
            _ => None,
        })
    }

    /// Encodes one user; `None` when there is no such user, or the history is too short.
    ///
    /// # Errors
    /// What reading the source says.
    pub(super) async fn look_up(&self, user: ArrayRef, items: Option<&Items>) -> Result<Option<(Inputs, History, UserHistory)>> {
        let mut stream = self.histories.lookup(user).await?;
        let mut reader = UserReader::new(stream.schema(), &self.source.columns)?;
        let mut found = None;
        while let Some(batch) = stream.try_next().await.map_err(Error::from_engine)? {
            reader.push(&batch)?;
            found = found.or_else(|| reader.next_user());
        }
        let Some(user) = found.or_else(|| reader.next_user()).or_else(|| reader.finish()) else { return Ok(None) };
        let mut inputs = Inputs::default();
        if !self.encoder()?.push(&user, reader.strings(), self.as_of_us, &mut inputs)? {
            return Ok(None);
        }
        let history = items.map(|items| items.history(&user, reader.strings(), self.as_of_us)).unwrap_or_default();
        Ok(Some((inputs, history, user)))
    }

    /// An encoder for many users.
    pub(super) fn encoder(&self) -> Result<HistoryEncoder<'_>> {
        self.model.manifest.preprocessor.history_encoder()
    }
}

/// The items of a model by name, and what ranks them.
#[derive(Debug)]
pub(super) struct Items {
    pub(super) retriever: Retriever,
    pub(super) classes: Vec<String>,
    ids: HashMap<String, u32>,
}

impl Items {
    /// Of a model whose classes are items.
    ///
    /// # Errors
    /// 22023 for a model of another target.
    pub(super) fn new(model: &LoadedModel) -> Result<Self> {
        let info = &model.manifest.info;
        of_items(&model.reference.name, &info.target)?;
        let retriever = Retriever::new(model.scorer.clone(), &info.classes);
        let ids = crate::train::catalogue::are_items(&info.classes).into_iter().zip(0u32..).filter(|(is_item, _)| *is_item);
        let ids = ids.map(|(_, class)| (info.classes[class as usize].clone(), class)).collect();
        Ok(Self { retriever, classes: info.classes.clone(), ids })
    }

    /// The class of an item.
    ///
    /// # Errors
    /// 42704 with the nearest name for an item that the model does not know.
    pub(super) fn class(&self, item: &str) -> Result<u32> {
        self.ids.get(item).copied().ok_or_else(|| {
            let error = Error::new(Code::UndefinedObject, format!("item \"{item}\" does not exist"))
                .detail(format!("The model knows {} items.", self.ids.len()));
            match nearest(item, self.ids.keys().map(String::as_str)) {
                Some(near) if self.ids.len() <= 10_000 => error.hint(format!("Perhaps you meant \"{near}\".")),
                _ => error.hint("Items that training did not see often enough have no place of their own."),
            }
        })
    }

    /// The items of a user's events up to a time.
    pub(super) fn history(&self, user: &UserHistory, strings: &Strings, as_of_us: i64) -> History {
        let end = user.times_us.partition_point(|time| *time <= as_of_us);
        let class = |code: &u32| match *code {
            NULL_CODE => NO_CLASS,
            code => self.ids.get(strings.items.get(code)).copied().unwrap_or(NO_CLASS),
        };
        History { classes: user.items.iter().take(end).map(class).collect() }
    }
}

/// A vector argument: an array of numbers, or its text as `[1, 2]` or `{1, 2}`.
///
/// # Errors
/// 22023 when it is neither, or has a NULL in it.
pub(super) fn vector(value: &ScalarValue) -> Result<Vec<f32>> {
    let wrong = || Error::invalid("argument \"embedding\" of nearest must be real[], without NULLs");
    if let Some(text) = value.try_as_str().flatten() {
        let inner = text.trim().trim_start_matches(['[', '{']).trim_end_matches([']', '}']);
        let number = |part: &str| part.trim().parse::<f32>().ok().filter(|number| number.is_finite()).ok_or_else(wrong);
        return inner.split(',').map(number).collect();
    }
    if !matches!(value.data_type(), DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..)) {
        return Err(wrong());
    }
    let floats = value.cast_to(&DataType::new_list(DataType::Float32, true)).map_err(|_| wrong())?;
    let ScalarValue::List(list) = floats else { return Err(wrong()) };
    let values = list.value(0);
    let numbers = values.as_primitive_opt::<Float32Type>().ok_or_else(wrong)?;
    numbers.iter().map(|number| number.filter(|number| number.is_finite()).ok_or_else(wrong)).collect()
}

/// An argument that is a name in whatever type it was written.
pub(super) fn name(args: &Arguments, argument: &str) -> Result<Option<String>> {
    let Some(Argument::Any(value)) = args.get(argument) else { return Ok(None) };
    match value.cast_to(&DataType::Utf8) {
        Ok(ScalarValue::Utf8(text)) => Ok(text),
        _ => Err(Error::invalid(format!("argument \"{argument}\" cannot be read as text"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_come_as_arrays_or_text() {
        let list = ScalarValue::new_list_nullable(&[ScalarValue::Int64(Some(1)), ScalarValue::Int64(Some(-2))], &DataType::Int64);
        assert_eq!(vector(&ScalarValue::List(list)).unwrap(), [1.0, -2.0]);
        for text in ["[1, -2]", "{1,-2}", " [1,-2.0] "] {
            assert_eq!(vector(&text.into()).unwrap(), [1.0, -2.0], "{text}");
        }
        let hole = ScalarValue::new_list_nullable(&[ScalarValue::Float64(Some(1.0)), ScalarValue::Float64(None)], &DataType::Float64);
        for bad in [ScalarValue::List(hole), "[1, x]".into(), "[]".into(), ScalarValue::Int64(Some(3)), "[NaN]".into()] {
            assert_eq!(vector(&bad).unwrap_err().code, Code::InvalidParameter, "{bad}");
        }
    }
}
