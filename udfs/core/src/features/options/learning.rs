//! The options of the training loop that are more than one number: losses, resampling, search, ensembles, transfer.
//!
//! They are checked when they are set, down to the names inside their JSON; what they mean is decided by who trains.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{Given, Options, parse_interval_us};
use crate::error::{Error, Result};
use crate::kernels::nearest::nearest;

/// How products of matrices are rounded on a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// As f32.
    Full,
    /// Factors to TF32.
    Tf32,
    /// Factors to bfloat16.
    Bf16,
}

/// Which loss classes are learned with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    /// Cross-entropy.
    CrossEntropy,
    /// Cross-entropy that looks away from what is known well already (Lin et al., 2017).
    Focal,
}

/// How rare classes are shown more often while training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Oversample {
    /// Not at all.
    None,
    /// Rows of rare classes are repeated at random.
    Random,
    /// New rows between neighbours of a rare class (Chawla et al., 2002).
    Smote,
}

/// Which parameters stay as `warm_from` gave them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Freeze {
    /// `true` = all but the last layer; `false` = none.
    AllButHead(bool),
    /// Those whose names start with one of these.
    Prefixes(Vec<String>),
}

/// When a checkpoint is written.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckpointEvery {
    /// After so many epochs.
    Epochs(u32),
    /// After the first epoch that ends so many seconds after the last checkpoint.
    Seconds(f64),
}

/// How a search spends its budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// Every trial is trained to its end (Bergstra & Bengio, 2012).
    Random,
    /// All trials start with few epochs; the better third of each round goes on with three times as many
    /// (Jamieson & Talwalkar, 2016).
    Halving,
}

/// How a range is drawn from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Spread {
    /// Evenly.
    Linear,
    /// Evenly in the logarithm.
    Log,
}

/// The values that a search may give one option.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dimension {
    /// One of these.
    Choice(Vec<Value>),
    /// Between two numbers, both possible.
    Range {
        /// Smallest.
        min: f64,
        /// Largest.
        max: f64,
        /// How it is drawn.
        scale: Spread,
    },
}

/// A hyper-parameter search.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tune {
    /// How many settings are tried at most.
    pub trials: u32,
    /// How the budget is spent.
    pub strategy: Strategy,
    /// Wall time of the whole search.
    pub max_seconds: Option<f64>,
    /// What is searched; empty = each architecture's own.
    pub space: BTreeMap<String, Dimension>,
}

/// Several networks as one model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Ensemble {
    /// The same architecture on bootstrap samples of the training rows (Breiman, 1996).
    Bagging {
        /// How many.
        members: u32,
    },
    /// Several architectures under a combiner learned on out-of-fold predictions (Wolpert, 1992).
    Stacking {
        /// Architectures.
        members: Vec<String>,
        /// Folds of the out-of-fold predictions.
        folds: u32,
    },
}

/// Options that a search may vary: those of the network and its training, not those of the features.
const TUNABLE: [&str; 18] = [
    "arch",
    "batch_size",
    "class_weights",
    "clip_norm",
    "dropout",
    "embedding_dim",
    "gamma",
    "hidden_dim",
    "l2",
    "label_smoothing",
    "layers",
    "learning_rate",
    "loss",
    "momentum",
    "optimizer",
    "oversample",
    "schedule",
    "warmup",
];

/// Options that take whole numbers: a range of them is rounded.
pub const WHOLE: [&str; 4] = ["batch_size", "embedding_dim", "hidden_dim", "layers"];

/// Sets one option of this module; `false` when it is not one.
pub(super) fn set(options: &mut Options, given: &Given<'_>) -> Result<bool> {
    match given.key {
        "clip_norm" => options.clip_norm = given.optional_number(0.0, 1e6)?,
        "momentum" => options.momentum = given.optional_number(0.0, 0.999)?,
        "nesterov" => options.nesterov = given.boolean()?,
        "loss" => options.loss = given.one_of(&[("cross_entropy", Loss::CrossEntropy), ("focal", Loss::Focal)])?,
        "gamma" => options.gamma = given.optional_number(0.0, 10.0)?,
        "precision" => {
            options.precision = given.one_of(&[("full", Precision::Full), ("tf32", Precision::Tf32), ("bf16", Precision::Bf16)])?;
        }
        "label_smoothing" => options.label_smoothing = given.optional_number(0.0, 0.9)?.unwrap_or(0.0),
        "oversample" => {
            let choices = [("none", Oversample::None), ("random", Oversample::Random), ("smote", Oversample::Smote)];
            options.oversample = given.one_of(&choices)?;
        }
        "max_items" => options.max_items = given.optional_integer(1, 10_000_000)?,
        "negatives" => options.negatives = given.optional_integer(0, 1 << 20)?,
        "unseen_weight" => options.unseen_weight = given.optional_number(0.0, 10.0)?,
        "freeze" => options.freeze = freeze(given)?,
        "tune" => options.tune = given.object()?.map(|value| tune(given, &value)).transpose()?,
        "ensemble" => options.ensemble = given.object()?.map(|value| ensemble(given, &value)).transpose()?,
        "checkpoint_every" => options.checkpoint_every = checkpoint_every(given)?,
        _ => return Ok(false),
    }
    Ok(true)
}

fn freeze(given: &Given<'_>) -> Result<Freeze> {
    if let Ok(all) = given.boolean() {
        return Ok(Freeze::AllButHead(all));
    }
    let expected = "true, false, or a JSON array of beginnings of parameter names";
    let prefixes = given.names().map_err(|_| given.bad(expected))?;
    if prefixes.iter().any(|prefix| prefix.trim().is_empty()) {
        return Err(given.bad(expected));
    }
    Ok(if prefixes.is_empty() { Freeze::AllButHead(false) } else { Freeze::Prefixes(prefixes) })
}

fn checkpoint_every(given: &Given<'_>) -> Result<Option<CheckpointEvery>> {
    if given.is_default() {
        return Ok(None);
    }
    if let Ok(epochs) = given.integer(1, 100_000) {
        return Ok(Some(CheckpointEvery::Epochs(epochs)));
    }
    match given.text().map(parse_interval_us) {
        Some(Ok(us)) => Ok(Some(CheckpointEvery::Seconds(us as f64 / 1e6))),
        _ => Err(given.bad("a number of epochs, or an interval such as '30 seconds'")),
    }
}

/// The fields of a JSON option.
pub(super) struct Fields<'a> {
    option: &'a str,
    fields: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    /// # Errors
    /// 22023 for a field that is not in `valid`.
    pub(super) fn new(option: &'a str, value: &'a Value, valid: &[&str]) -> Result<Self> {
        let Value::Object(fields) = value else { return Err(Error::invalid(format!("option \"{option}\" must be a JSON object"))) };
        for key in fields.keys() {
            if !valid.contains(&key.as_str()) {
                return Err(unknown(format!("unknown key \"{key}\" in option \"{option}\""), "keys", key, valid));
            }
        }
        Ok(Self { option, fields })
    }

    pub(super) fn given<T>(&self, key: &str, read: impl FnOnce(&Given<'_>) -> Result<T>) -> Result<Option<T>> {
        let name = format!("{}.{key}", self.option);
        self.fields.get(key).map(|value| read(&Given { key: &name, value })).transpose()
    }
}

/// An error that names what is valid and what is nearest.
fn unknown(message: String, what: &str, name: &str, valid: &[&str]) -> Error {
    let error = Error::invalid(message).detail(format!("Valid {what} are {}.", valid.join(", ")));
    match nearest(name, valid.iter().copied()) {
        Some(near) => error.hint(format!("Perhaps you meant \"{near}\".")),
        None => error,
    }
}

fn tune(given: &Given<'_>, value: &Value) -> Result<Tune> {
    let fields = Fields::new(given.key, value, &["trials", "strategy", "max_seconds", "space"])?;
    let strategies = [("random", Strategy::Random), ("halving", Strategy::Halving)];
    let mut space = BTreeMap::new();
    if let Some(value) = fields.fields.get("space") {
        let Value::Object(dimensions) = value else {
            return Err(Error::invalid("\"space\" of option \"tune\" must be a JSON object of options and their values"));
        };
        for (key, value) in dimensions {
            space.insert(key.clone(), dimension(key, value)?);
        }
    }
    Ok(Tune {
        trials: fields.given("trials", |given| given.integer(1, 1000))?.unwrap_or(20),
        strategy: fields.given("strategy", |given| given.one_of(&strategies))?.unwrap_or(Strategy::Random),
        max_seconds: fields.given("max_seconds", |given| given.optional_number(0.001, 1e9))?.flatten(),
        space,
    })
}

/// One option's values; every value must be one that the option takes.
fn dimension(key: &str, value: &Value) -> Result<Dimension> {
    if !TUNABLE.contains(&key) {
        return Err(unknown(format!("option \"{key}\" cannot be searched"), "options to search", key, &TUNABLE));
    }
    let check = |value: &Value| match key {
        // Which architectures there are is not known here.
        "arch" if value.is_string() => Ok(()),
        "arch" => Err(Error::invalid("\"arch\" in the space of option \"tune\" must be a list of architecture names")),
        _ => Options::default().set(key, value),
    };
    let expected = || {
        Error::invalid(format!("invalid values for \"{key}\" in the space of option \"tune\""))
            .hint("Give a list such as [32, 64, 128], or a range such as {\"min\": 1e-4, \"max\": 1e-2, \"scale\": \"log\"}.")
    };
    match value {
        Value::Array(values) if !values.is_empty() => {
            values.iter().try_for_each(check)?;
            Ok(Dimension::Choice(values.clone()))
        }
        Value::Object(_) => {
            let fields = Fields::new(key, value, &["min", "max", "scale"])?;
            let end = |name: &str| fields.fields.get(name).and_then(Value::as_f64).filter(|n| n.is_finite()).ok_or_else(expected);
            let (min, max) = (end("min")?, end("max")?);
            check(&number(key, min))?;
            check(&number(key, max))?;
            let usual = if ["learning_rate", "l2"].contains(&key) && min > 0.0 { Spread::Log } else { Spread::Linear };
            let scales = [("linear", Spread::Linear), ("log", Spread::Log)];
            let scale = fields.given("scale", |given| given.one_of(&scales))?.unwrap_or(usual);
            if min > max || (scale == Spread::Log && min <= 0.0) {
                return Err(Error::invalid(format!("invalid range for \"{key}\" in the space of option \"tune\""))
                    .detail("The minimum must not be above the maximum, and must be positive on a logarithmic scale."));
            }
            Ok(Dimension::Range { min, max, scale })
        }
        _ => Err(expected()),
    }
}

/// A number as the option `key` takes it.
#[must_use]
pub fn number(key: &str, value: f64) -> Value {
    if WHOLE.contains(&key) { json!(value.round() as i64) } else { json!(value) }
}

fn ensemble(given: &Given<'_>, value: &Value) -> Result<Ensemble> {
    let fields = Fields::new(given.key, value, &["kind", "members", "folds", "method", "architectures"])?;
    let kinds = [("bagging", true), ("stacking", false)];
    let kind = match fields.given("kind", |given| given.one_of(&kinds))? {
        None => fields.given("method", |given| given.one_of(&kinds))?,
        kind => kind,
    };
    let Some(bagging) = kind else {
        return Err(Error::invalid("option \"ensemble\" needs a kind").hint(
            "For example '{\"kind\": \"bagging\", \"members\": 5}' or '{\"kind\": \"stacking\", \"members\": [\"logreg\", \"dnn\"]}'.",
        ));
    };
    if bagging {
        if let Some(key) = ["folds", "architectures"].into_iter().find(|key| fields.fields.contains_key(*key)) {
            return Err(Error::invalid(format!("\"{key}\" of option \"ensemble\" belongs to stacking")));
        }
        return Ok(Ensemble::Bagging { members: fields.given("members", |given| given.integer(2, 32))?.unwrap_or(5) });
    }
    let members = match fields.given("members", |given| given.names())? {
        None => fields.given("architectures", |given| given.names())?.unwrap_or_default(),
        Some(members) => members,
    };
    if !(2..=8).contains(&members.len()) {
        return Err(Error::invalid("stacking needs from 2 to 8 members").hint("For example \"members\": [\"logreg\", \"dnn\", \"gru\"]."));
    }
    Ok(Ensemble::Stacking { members, folds: fields.given("folds", |given| given.integer(2, 20))?.unwrap_or(5) })
}
