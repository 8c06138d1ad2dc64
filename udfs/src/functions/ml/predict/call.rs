//! A prediction call, read out of its expression: which model, about whom, as of when, and what is asked.

use std::collections::BTreeSet;

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, DataFusionError, Result, ScalarValue};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{Expr, ExprSchemable};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;

use super::marker::Marker;
use super::models::{ModelFacts, Models};
use crate::error::{Code, Error};
use crate::functions::ml::generate::check_predicts;
use crate::models::Architecture;
use crate::registry::ModelRef;

/// Whom a call is about.
#[expect(clippy::large_enum_variant, reason = "one per call of a statement")]
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd)]
pub(crate) enum Subject {
    /// A key of the model's source: the history is looked up.
    User(Expr),
    /// A struct with the features of one labelled row.
    Row(Expr),
    /// Events given in arrays.
    Sequence { events: Expr, items: Option<Expr>, times: Option<Expr> },
}

/// Everything one forward pass depends on. Calls of equal groups share it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd)]
pub(crate) struct Group {
    /// The model as the statement names it, to resolve it again when the plan is planned again.
    pub(crate) requested: String,
    /// The version this plan uses.
    pub(crate) model: ModelRef,
    pub(crate) subject: Subject,
    /// `None`: the source's watermark.
    pub(crate) as_of: Option<Expr>,
}

/// What a call wants to know.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd)]
pub(crate) enum Question {
    Intent,
    Probability(Expr),
    Value,
    Embedding { normalize: bool },
}

/// What a forward pass must leave behind to answer every question of a statement.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd)]
pub(crate) struct Needs {
    pub(crate) intent: bool,
    pub(crate) value: bool,
    pub(crate) embedding: bool,
    /// Classes named by constants.
    pub(crate) classes: BTreeSet<String>,
    /// Some class is known only row by row.
    pub(crate) all_classes: bool,
}

impl Needs {
    pub(crate) fn add(&mut self, question: &Question) {
        match question {
            Question::Intent => self.intent = true,
            Question::Value => self.value = true,
            Question::Embedding { .. } => self.embedding = true,
            Question::Probability(class) => match text(class) {
                Some(Some(class)) => _ = self.classes.insert(class),
                Some(None) => {}
                None => self.all_classes = true,
            },
        }
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.intent |= other.intent;
        self.value |= other.value;
        self.embedding |= other.embedding;
        self.all_classes |= other.all_classes;
        self.classes.extend(other.classes.iter().cloned());
    }
}

impl Group {
    pub(crate) fn expressions(&self) -> Vec<Expr> {
        let mut all = match &self.subject {
            Subject::User(user) => vec![user.clone()],
            Subject::Row(row) => vec![row.clone()],
            Subject::Sequence { events, items, times } => std::iter::once(events).chain(items).chain(times).cloned().collect(),
        };
        all.extend(self.as_of.clone());
        all
    }

    /// The same group with its expressions replaced, in the order of [`expressions`](Self::expressions).
    pub(crate) fn with_expressions(&self, expressions: &mut impl Iterator<Item = Expr>) -> Result<Self> {
        let mut next = || {
            let lost = || DataFusionError::from(Error::internal("an argument of a prediction was lost while planning"));
            expressions.next().ok_or_else(lost)
        };
        let subject = match &self.subject {
            Subject::User(_) => Subject::User(next()?),
            Subject::Row(_) => Subject::Row(next()?),
            Subject::Sequence { items, times, .. } => Subject::Sequence {
                events: next()?,
                items: items.as_ref().map(|_| next()).transpose()?,
                times: times.as_ref().map(|_| next()).transpose()?,
            },
        };
        let as_of = self.as_of.as_ref().map(|_| next()).transpose()?;
        Ok(Self { requested: self.requested.clone(), model: self.model.clone(), subject, as_of })
    }
}

/// Reads a call. `None` when its model is a parameter that has no value yet.
///
/// # Errors
/// A model that is not constant (0A000) or does not exist (42704), a class or kind of answer that it cannot give.
pub(crate) fn read(marker: Marker, call: &ScalarFunction, schema: &DFSchema, models: &dyn Models) -> Result<Option<(Group, Question)>> {
    let argument = |name: &str| {
        let index = marker.parameters().iter().position(|parameter| *parameter == name)?;
        call.args.get(index).filter(|value| !is_null(value)).cloned()
    };
    let (Some(model), Some(about)) = (call.args.first(), call.args.get(1)) else {
        return Err(Error::internal(format!("{} without arguments", marker.name())).into());
    };
    if has_placeholder(model) {
        return Ok(None);
    }
    let requested = model_name(marker, model)?;
    let (model, facts) = models.pin(&requested)?;
    let embeds = matches!(marker, Marker::Embedding | Marker::SequenceEmbedding);
    if !embeds || facts.arch == Architecture::Gan.name() {
        check_predicts(&requested, &facts.arch)?;
    }
    let as_of = argument("as_of");
    let subject = match marker {
        Marker::SequenceIntent | Marker::SequenceEmbedding => {
            Subject::Sequence { events: about.clone(), items: argument("items"), times: argument("times") }
        }
        _ if matches!(about.get_type(schema)?, DataType::Struct(_)) => Subject::Row(about.clone()),
        _ => Subject::User(about.clone()),
    };
    check_subject(marker, &subject, as_of.as_ref(), &requested, &facts)?;
    let question = match marker {
        Marker::Intent | Marker::SequenceIntent => Question::Intent,
        Marker::Value => Question::Value,
        Marker::Probability => Question::Probability(fold(call.args[2].clone())),
        Marker::Embedding | Marker::SequenceEmbedding => Question::Embedding { normalize: normalize(argument("normalize"))? },
    };
    check_question(&question, &requested, &facts)?;
    Ok(Some((Group { requested, model, subject, as_of }, question)))
}

fn check_subject(marker: Marker, subject: &Subject, as_of: Option<&Expr>, model: &str, facts: &ModelFacts) -> Result<(), Error> {
    let events = facts.key_type.is_some();
    match subject {
        Subject::User(_) if !events => {
            Err(Error::new(Code::DatatypeMismatch, format!("model \"{model}\" predicts from a row, not from a user id"))
                .hint(format!("Pass the features as a row: {}('{model}', named_struct('column', value, ...)).", marker.name())))
        }
        Subject::Row(_) if events => {
            Err(Error::new(Code::DatatypeMismatch, format!("model \"{model}\" predicts from a user's events, not from a row"))
                .hint("Pass the user id, or the events as an array to the _seq form of the function."))
        }
        Subject::Sequence { .. } if !events => {
            Err(Error::new(Code::DatatypeMismatch, format!("model \"{model}\" predicts from a row, not from events")))
        }
        Subject::Row(_) if as_of.is_some() => Err(Error::invalid("as_of does not apply to a row")),
        _ => Ok(()),
    }
}

fn check_question(question: &Question, model: &str, facts: &ModelFacts) -> Result<(), Error> {
    let number = facts.classes.is_empty();
    match question {
        Question::Intent | Question::Probability(_) if number => {
            Err(Error::new(Code::DatatypeMismatch, format!("model \"{model}\" predicts a number, not a class")).hint("Use predict_value."))
        }
        Question::Value if !number => Err(Error::new(Code::DatatypeMismatch, format!("model \"{model}\" predicts a class, not a number"))
            .hint("Use predict_intent or predict_intent_proba.")),
        Question::Probability(class) => match text(class) {
            Some(Some(class)) if !facts.classes.contains(&class) => {
                Err(Error::invalid(format!("model \"{model}\" has no class \"{class}\""))
                    .hint(format!("Its classes are {}.", listed(&facts.classes))))
            }
            _ => Ok(()),
        },
        _ => Ok(()),
    }
}

/// The first few names, for a hint.
fn listed(classes: &[String]) -> String {
    const SHOWN: usize = 20;
    let mut names: Vec<String> = classes.iter().take(SHOWN).map(|class| format!("\"{class}\"")).collect();
    if classes.len() > SHOWN {
        names.push(format!("and {} more", classes.len() - SHOWN));
    }
    names.join(", ")
}

fn model_name(marker: Marker, model: &Expr) -> Result<String, Error> {
    match text(&fold(model.clone())) {
        Some(Some(name)) => Ok(name),
        Some(None) => Err(Error::invalid("model name must not be NULL")),
        None => Err(Error::new(Code::FeatureNotSupported, "model name must be constant")
            .detail(format!("The expression {model} is not known before the statement runs."))
            .hint(format!("Name the model by a text or a parameter: {}('shopper', ...).", marker.name()))),
    }
}

fn normalize(given: Option<Expr>) -> Result<bool, Error> {
    match given.map(fold) {
        None => Ok(true),
        Some(Expr::Literal(ScalarValue::Boolean(value), _)) => Ok(value.unwrap_or(true)),
        Some(other) => Err(Error::new(Code::FeatureNotSupported, "argument \"normalize\" must be constant")
            .detail(format!("The expression {other} is not known before the statement runs."))),
    }
}

/// A constant expression as its literal; any other as it is.
fn fold(expr: Expr) -> Expr {
    if matches!(expr, Expr::Literal(..)) || expr.any_column_refs() {
        return expr;
    }
    let simplifier = ExprSimplifier::new(SimplifyContext::builder().build());
    match simplifier.simplify(expr.clone()) {
        Ok(folded) => folded.unalias(),
        Err(_) => expr,
    }
}

/// The text of a literal: `None` for anything else, `Some(None)` for NULL.
pub(crate) fn text(expr: &Expr) -> Option<Option<String>> {
    match expr {
        Expr::Literal(value, _) => value.try_as_str().map(|text| text.map(str::to_owned)),
        _ => None,
    }
}

fn is_null(expr: &Expr) -> bool {
    match expr {
        Expr::Literal(value, _) => value.is_null(),
        Expr::Cast(cast) => is_null(&cast.expr),
        Expr::Alias(alias) => is_null(&alias.expr),
        _ => false,
    }
}

fn has_placeholder(expr: &Expr) -> bool {
    let mut found = false;
    let _ = expr.apply(|part| {
        found |= matches!(part, Expr::Placeholder(_));
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    found
}
