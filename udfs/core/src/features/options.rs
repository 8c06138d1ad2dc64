//! The flat option namespace of training: the JSON `options` argument and `SET ml.<key>` read the same table.
//!
//! Life of an option: JSON or text → [`Options::set`] checks name, type and range → the typed [`Options`] that
//! features and training read, stored with the version. `None` in a field means that the architecture chooses.

mod federated;
mod learning;
mod network;
mod private;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use self::federated::Federated;
pub use self::learning::{
    CheckpointEvery, Dimension, Ensemble, Freeze, Loss, Oversample, Precision, Spread, Strategy, Tune, WHOLE, number as tuned_number,
};
pub use self::network::{Activation, Crosses, NetworkOptions, NumericEmbedding, TextChoice};
pub use self::private::{Budget, Privacy};

use crate::error::{Error, Result};
use crate::kernels::nearest::nearest;

/// How missing numbers are filled in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Missing {
    /// The mean of the train rows.
    Mean,
    /// The median of the train rows.
    Median,
    /// Zero.
    Zero,
    /// The median, and a second feature that says that it was missing.
    Indicator,
}

/// How outliers are held in; limits are learned on the train rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outliers {
    /// As they are.
    None,
    /// Within 3 standard deviations of the mean.
    Zscore,
    /// Within 1.5 interquartile ranges of the quartiles.
    Iqr,
    /// Within the 1st and 99th percentile.
    Winsorize,
}

/// How numbers are scaled; learned on the train rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scale {
    /// Mean 0, standard deviation 1.
    Standard,
    /// From 0 to 1.
    Minmax,
    /// Median 0, interquartile range 1.
    Robust,
    /// As they are.
    None,
}

/// Which optimizer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Optimizer {
    /// Stochastic gradient descent with momentum.
    Sgd,
    /// Adam (Kingma & Ba, 2015).
    Adam,
    /// Adam with decoupled weight decay (Loshchilov & Hutter, 2019).
    Adamw,
}

/// What the learning rate does after its warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decay {
    /// It stays.
    Constant,
    /// It falls to zero along half a cosine (Loshchilov & Hutter, 2017), as far as all epochs run.
    Cosine,
    /// It rises for the first 30 % of all steps and falls to nothing along a cosine (Smith & Topin, 2018).
    Onecycle,
    /// It falls to a tenth after half of all steps, and again after three quarters (He et al., 2016).
    Step,
}

/// How pictures are changed while training, anew each time they are seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Augment {
    /// Not at all.
    None,
    /// Shifted by up to two pixels in each direction.
    Shift,
    /// Every other one mirrored, left to right.
    Flip,
    /// Both.
    ShiftFlip,
}

impl Augment {
    /// Whether pictures are shifted.
    #[must_use]
    pub const fn shifts(self) -> bool {
        matches!(self, Self::Shift | Self::ShiftFlip)
    }

    /// Whether pictures are mirrored.
    #[must_use]
    pub const fn flips(self) -> bool {
        matches!(self, Self::Flip | Self::ShiftFlip)
    }
}

/// How classes are weighted in the loss.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClassWeights {
    /// All alike.
    None,
    /// Inversely to their frequency among the train rows.
    Balanced,
    /// As given; classes that are not named weigh 1.
    Weights(Vec<(String, f64)>),
}

/// Every option of training. `None` = the architecture chooses.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs)] // OPTION_KEYS documents each, for SQL users and readers alike
pub struct Options {
    pub epochs: Option<u32>,
    pub batch_size: Option<u32>,
    pub learning_rate: Option<f64>,
    pub schedule: Option<Decay>,
    #[serde(alias = "warmup_steps")]
    pub warmup: Option<f64>,
    pub optimizer: Optimizer,
    pub momentum: Option<f64>,
    pub nesterov: bool,
    pub clip_norm: Option<f64>,
    pub l2: Option<f64>,
    pub dropout: Option<f64>,
    pub layers: Option<u32>,
    pub hidden_dim: Option<u32>,
    pub embedding_dim: Option<u32>,
    pub max_seq_len: u32,
    pub min_history: u32,
    pub patience: Option<u32>,
    pub class_weights: ClassWeights,
    pub loss: Loss,
    pub gamma: Option<f64>,
    pub label_smoothing: f64,
    pub oversample: Oversample,
    pub max_items: Option<u32>,
    pub negatives: Option<u32>,
    pub unseen_weight: Option<f64>,
    pub exclude: Vec<String>,
    pub missing: Missing,
    pub outliers: Outliers,
    pub scale: Scale,
    pub select_k: Option<u32>,
    pub folds: Option<u32>,
    pub tune: Option<Tune>,
    pub ensemble: Option<Ensemble>,
    pub seed: u64,
    pub max_seconds: Option<f64>,
    pub device: String,
    pub precision: Precision,
    pub warm_from: Option<String>,
    pub freeze: Freeze,
    pub sample: f64,
    pub valid_fraction: Option<f64>,
    pub test_fraction: Option<f64>,
    pub keep_partial: bool,
    pub checkpoint_every: Option<CheckpointEvery>,
    pub anchor_every: Option<String>,
    pub split_time: Option<String>,
    pub image_size: Option<u32>,
    pub augment: Augment,
    pub privacy: Option<Privacy>,
    pub federated: Option<Federated>,
    #[serde(flatten)]
    pub network: NetworkOptions,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            epochs: None,
            batch_size: None,
            learning_rate: None,
            schedule: None,
            warmup: None,
            optimizer: Optimizer::Adamw,
            momentum: None,
            nesterov: false,
            clip_norm: None,
            l2: None,
            dropout: None,
            layers: None,
            hidden_dim: None,
            embedding_dim: None,
            max_seq_len: 64,
            min_history: 1,
            patience: None,
            class_weights: ClassWeights::None,
            loss: Loss::CrossEntropy,
            gamma: None,
            label_smoothing: 0.0,
            oversample: Oversample::None,
            max_items: None,
            negatives: None,
            unseen_weight: None,
            exclude: Vec::new(),
            missing: Missing::Indicator,
            outliers: Outliers::None,
            scale: Scale::Standard,
            select_k: None,
            folds: None,
            tune: None,
            ensemble: None,
            seed: 42,
            max_seconds: None,
            device: "auto".into(),
            precision: Precision::Full,
            warm_from: None,
            freeze: Freeze::AllButHead(false),
            sample: 1.0,
            valid_fraction: None,
            test_fraction: None,
            keep_partial: false,
            checkpoint_every: None,
            anchor_every: None,
            split_time: None,
            image_size: None,
            augment: Augment::Flip,
            privacy: None,
            federated: None,
            network: NetworkOptions::default(),
        }
    }
}

/// One option, for `SET ml.<key>`, the reference and error hints.
#[derive(Debug, Clone, Copy)]
pub struct OptionDoc {
    /// Its name.
    pub key: &'static str,
    /// Its SQL type.
    pub r#type: &'static str,
    /// Its default as text; `auto` = the architecture chooses.
    pub default: &'static str,
    /// What it does.
    pub doc: &'static str,
}

const fn option(key: &'static str, r#type: &'static str, default: &'static str, doc: &'static str) -> OptionDoc {
    OptionDoc { key, r#type, default, doc }
}

/// Every option, in the order of the reference.
pub const OPTION_KEYS: &[OptionDoc] = &[
    option("epochs", "integer", "auto", "Passes over the training rows at most."),
    option("batch_size", "integer", "auto", "Rows per step of the optimizer."),
    option("learning_rate", "double precision", "auto", "The largest step size of the schedule."),
    option(
        "schedule",
        "text",
        "auto",
        "The learning rate after its warm-up: constant; cosine (down to zero at the last epoch); onecycle (up for 30 % of all steps, then \
         down to nothing); step (a tenth after half of all steps, a hundredth after three quarters).",
    ),
    option(
        "warmup",
        "double precision",
        "auto",
        "How long the learning rate rises from zero: steps of the optimizer, or below 1 the share of all steps.",
    ),
    option("optimizer", "text", "adamw", "sgd, adam or adamw."),
    option("momentum", "double precision", "0.9", "Momentum of sgd, from 0 to below 1."),
    option("nesterov", "boolean", "false", "Nesterov's momentum, for sgd."),
    option(
        "clip_norm",
        "double precision",
        "auto",
        "Gradients of a larger norm are shortened to it; 0 = never. The architectures choose 1.",
    ),
    option("l2", "double precision", "auto", "Weight decay."),
    option("dropout", "double precision", "auto", "The fraction of units left out in training, from 0 to below 1."),
    option("layers", "integer", "auto", "Hidden, recurrent or attention layers."),
    option("hidden_dim", "integer", "auto", "Width of the hidden layers."),
    option("embedding_dim", "integer", "auto", "Length of embed_user's vector."),
    option("max_seq_len", "integer", "64", "The latest events of a history that a sequence network reads."),
    option("min_history", "integer", "1", "Users with fewer events at the anchor are not trained on and score NULL."),
    option("patience", "integer", "auto", "Epochs without a better validation loss before training stops."),
    option("class_weights", "text or json", "none", "none, balanced, or an object of class and weight."),
    option("loss", "text", "cross_entropy", "What classes are learned with: cross_entropy, or focal (for rare classes)."),
    option("gamma", "double precision", "2", "How strongly the focal loss looks away from rows that are known well, from 0 to 10."),
    option("label_smoothing", "double precision", "0", "The share of each label that is spread over all classes, from 0 to 0.9."),
    option(
        "oversample",
        "text",
        "none",
        "Shows rare classes as often as the most frequent one, among training rows only: none, random (rows again), or smote (new rows \
         between neighbours).",
    ),
    option("max_items", "integer", "100000", "For next_item: how many items, the most frequent ones, are told apart; the rest is other."),
    option(
        "negatives",
        "integer",
        "1024",
        "For next_item among more than 2000 items: how many items, drawn evenly, a step looks at beside its rows' own; 0 = all items at every \
         step.",
    ),
    option(
        "unseen_weight",
        "double precision",
        "0.1",
        "For mf: the weight of a user and an item that did not meet, against 1 for those that did.",
    ),
    option("exclude", "text or json", "[]", "Features, columns or (ending in *) beginnings of their names to leave out."),
    option(
        "missing",
        "text",
        "indicator",
        "Fills missing numbers: mean, median, zero, or indicator (the median and a feature that says so).",
    ),
    option(
        "outliers",
        "text",
        "none",
        "Holds outliers in: none, zscore (3 deviations), iqr (1.5 ranges) or winsorize (1st and 99th percentile).",
    ),
    option("scale", "text", "standard", "standard, minmax, robust or none."),
    option("select_k", "integer", "all", "Keeps the k features most telling of the label on the training rows."),
    option(
        "folds",
        "integer",
        "none",
        "k of k-fold cross-validation, from 2 to 20: the settings that were chosen are fitted once without each fold and measured on it \
         (ml.folds lists the folds); the model is then of all training rows. No user is in two folds, and time goes on as in the split.",
    ),
    option(
        "tune",
        "json",
        "none",
        "Searches hyper-parameters: {\"trials\": 20, \"strategy\": \"random\" or \"halving\", \"max_seconds\": 120, \"space\": \
         {\"learning_rate\": {\"min\": 1e-4, \"max\": 1e-2, \"scale\": \"log\"}, \"hidden_dim\": [32, 64], …}}. All keys may be left out; ml.trials \
         lists the trials.",
    ),
    option(
        "ensemble",
        "json",
        "none",
        "Trains several networks as one model: {\"kind\": \"bagging\", \"members\": 5} (one architecture on bootstrap samples of rows, or of users, \
         averaged), or {\"kind\": \"stacking\", \"members\": [\"logreg\", \"dnn\", \"gru\"], \"folds\": 5} (weights that are not negative, \
         learned on what each network says of rows it has not seen). ml.members lists the networks.",
    ),
    option("seed", "bigint", "42", "All randomness follows from it; the same seed gives the same model."),
    option("max_seconds", "double precision", "none", "Training stops after this long and keeps the best epoch so far."),
    option("device", "text", "auto", "auto, cpu, cuda or cuda:<n>."),
    option("precision", "text", "full", "How products of matrices are rounded on a GPU: full (as f32), tf32 or bf16, which are faster."),
    option("warm_from", "text", "none", "A model or model@version whose weights training starts from, where name and shape agree."),
    option(
        "freeze",
        "boolean or json",
        "false",
        "With warm_from: parameters that stay as they are, by the beginnings of their names ([\"embedding\", …]); true = all but the last layer.",
    ),
    option("sample", "double precision", "1", "The fraction of users to train on, above 0 up to 1."),
    option("valid_fraction", "double precision", "0.15", "For column(label): the fraction of rows that validate, from 0.01 to 0.4."),
    option("test_fraction", "double precision", "0.15", "For column(label): the fraction of rows that test, from 0.01 to 0.4."),
    option("keep_partial", "boolean", "false", "Keeps the best epoch of a cancelled training as a version."),
    option(
        "checkpoint_every",
        "integer or interval",
        "none",
        "Writes a checkpoint after so many epochs (3) or so much time ('30 seconds'); the same statement resumes there after a crash.",
    ),
    option("anchor_every", "interval", "the horizon", "The time between training anchors."),
    option("split_time", "text", "none", "For column(label): the column by whose order rows are split instead of at random."),
    option(
        "image_size",
        "integer",
        "the most common",
        "Side of the square that pictures are resized to, from 4 to 256; by default the most common size, at most 64.",
    ),
    option("augment", "text", "flip", "Pictures while training: none, shift (by up to two pixels), flip (left to right) or shift_flip."),
    option(
        "privacy",
        "json",
        "none",
        "Differentially private training (DP-SGD): {\"epsilon\": 3} or {\"noise_multiplier\": 1.1}, with \"delta\" and \"clip_norm\". Needs one \
         architecture.",
    ),
    option(
        "federated",
        "json",
        "none",
        "Federated averaging over rows that stay with their owners: {\"sources\": [\"shop_a\", \"shop_b\"]} for sources of this process, or \
         {\"exchange\": \"path\", \"workers\": 4} for other processes that call federated_join; with \"rounds\" (20), \"local_epochs\" (1), \
         \"mu\" (0; FedProx), \"min_count\" (5), \"secure_sum\" (none or masks) and \"wait_seconds\" (60). Labelled tables and one architecture.",
    ),
    option("bidirectional", "boolean", "false", "Whether rnn, gru and lstm also read a history from its last event to its first."),
    option("activation", "text", "tanh", "What the states of rnn pass: tanh or relu."),
    option(
        "text_model",
        "text",
        "auto",
        "How texts are read: bag (mean and attention over words), cnn (over neighbouring words), or auto.",
    ),
    option("max_text_len", "integer", "256", "Words of a text, or of the latest texts of a history, that are read."),
    option("numeric_embedding", "text", "piecewise", "How networks read numbers: piecewise (linear between quantiles), periodic or none."),
    option(
        "crosses",
        "text or json",
        "auto",
        "Pairs of categories that wide_deep remembers: auto (those that tell most beyond their parts), none, or a list such as \
         [\"country*device\"].",
    ),
];

impl Options {
    /// Sets one option. Numbers and booleans may come as text, as they do from `SET`.
    ///
    /// # Errors
    /// `InvalidParameter` (22023) for an unknown key (with the nearest and all valid ones) or a bad value.
    pub fn set(&mut self, key: &str, value: &Value) -> Result<()> {
        let key = key.trim().to_ascii_lowercase();
        let given = Given { key: &key, value };
        match key.as_str() {
            "epochs" => self.epochs = given.optional_integer(1, 100_000)?,
            "batch_size" => self.batch_size = given.optional_integer(1, 1 << 20)?,
            "learning_rate" => self.learning_rate = given.optional_number(1e-12, 100.0)?,
            "optimizer" => {
                self.optimizer = given.one_of(&[("sgd", Optimizer::Sgd), ("adam", Optimizer::Adam), ("adamw", Optimizer::Adamw)])?
            }
            "l2" => self.l2 = given.optional_number(0.0, 100.0)?,
            "dropout" => self.dropout = given.optional_number(0.0, 0.99)?,
            "layers" => self.layers = given.optional_integer(1, 32)?,
            "hidden_dim" => self.hidden_dim = given.optional_integer(1, 8192)?,
            "embedding_dim" => self.embedding_dim = given.optional_integer(1, 4096)?,
            "max_seq_len" => self.max_seq_len = given.integer(1, 4096)?,
            "min_history" => self.min_history = given.integer(1, 1 << 20)?,
            "patience" => self.patience = given.optional_integer(0, 100_000)?,
            "class_weights" => self.class_weights = given.class_weights()?,
            "exclude" => self.exclude = given.names()?,
            "missing" => {
                self.missing = given.one_of(&[
                    ("mean", Missing::Mean),
                    ("median", Missing::Median),
                    ("zero", Missing::Zero),
                    ("indicator", Missing::Indicator),
                ])?;
            }
            "outliers" => {
                self.outliers = given.one_of(&[
                    ("none", Outliers::None),
                    ("zscore", Outliers::Zscore),
                    ("iqr", Outliers::Iqr),
                    ("winsorize", Outliers::Winsorize),
                ])?;
            }
            "scale" => {
                self.scale = given.one_of(&[
                    ("standard", Scale::Standard),
                    ("minmax", Scale::Minmax),
                    ("robust", Scale::Robust),
                    ("none", Scale::None),
                ])?;
            }
            _ => return self.set_more(&given),
        }
        Ok(())
    }

    /// The second half of the table.
    fn set_more(&mut self, given: &Given<'_>) -> Result<()> {
        match given.key {
            "schedule" => {
                let choices =
                    [("constant", Decay::Constant), ("cosine", Decay::Cosine), ("onecycle", Decay::Onecycle), ("step", Decay::Step)];
                self.schedule = if given.is_default() { None } else { Some(given.one_of(&choices)?) };
            }
            "warmup" => {
                self.warmup = given.optional_number(0.0, 16_777_216.0)?;
                if self.warmup.is_some_and(|steps| steps > 1.0 && steps.fract() != 0.0) {
                    return Err(given.bad("a whole number of steps, or a share of all steps below 1"));
                }
            }
            "select_k" => self.select_k = given.optional_integer(1, 1 << 20)?,
            "folds" => self.folds = given.optional_integer(2, 20)?,
            "seed" => self.seed = given.seed()?,
            "max_seconds" => self.max_seconds = given.optional_number(0.0, 1e9)?,
            "device" => self.device = given.device()?,
            "warm_from" => self.warm_from = given.optional_text()?,
            "sample" => {
                self.sample = given.optional_number(0.0, 1.0)?.unwrap_or(1.0);
                if self.sample <= 0.0 {
                    return Err(given.bad("a number above 0 up to 1"));
                }
            }
            "valid_fraction" => self.valid_fraction = given.optional_number(0.01, 0.4)?,
            "test_fraction" => self.test_fraction = given.optional_number(0.01, 0.4)?,
            "keep_partial" => self.keep_partial = given.boolean()?,
            "anchor_every" => {
                let text = given.optional_text()?;
                if let Some(text) = &text {
                    parse_interval_us(text)?;
                }
                self.anchor_every = text;
            }
            "split_time" => self.split_time = given.optional_text()?,
            "privacy" => self.privacy = private::privacy(given)?,
            "federated" => self.federated = federated::federated(given)?,
            "image_size" => self.image_size = given.optional_integer(4, 256)?,
            "augment" => {
                self.augment = given.one_of(&[
                    ("none", Augment::None),
                    ("shift", Augment::Shift),
                    ("flip", Augment::Flip),
                    ("shift_flip", Augment::ShiftFlip),
                ])?;
            }
            other => {
                if !learning::set(self, given)? && !self.network.set(given)? {
                    return Err(unknown_option(other));
                }
            }
        }
        Ok(())
    }

    /// Reads a JSON object of options on top of `self`.
    ///
    /// # Errors
    /// `InvalidParameter` (22023).
    pub fn set_json(&mut self, text: &str) -> Result<()> {
        if text.trim().is_empty() {
            return Ok(());
        }
        let value: Value = serde_json::from_str(text).map_err(|error| {
            Error::invalid("options are not valid JSON").detail(format!("{error}.")).hint("For example '{\"epochs\": 20, \"seed\": 7}'.")
        })?;
        let Value::Object(entries) = value else {
            return Err(Error::invalid("options must be a JSON object").hint("For example '{\"epochs\": 20, \"seed\": 7}'."));
        };
        entries.iter().try_for_each(|(key, value)| self.set(key, value))
    }

    /// Reads a JSON object of options on top of the defaults.
    ///
    /// # Errors
    /// `InvalidParameter` (22023).
    pub fn from_json(text: &str) -> Result<Self> {
        let mut options = Self::default();
        options.set_json(text)?;
        Ok(options)
    }

    /// `anchor_every` in microseconds.
    ///
    /// # Errors
    /// `InvalidParameter` (22023).
    pub fn anchor_every_us(&self) -> Result<Option<i64>> {
        self.anchor_every.as_deref().map(parse_interval_us).transpose()
    }
}

/// The error for an option that does not exist.
fn unknown_option(key: &str) -> Error {
    let keys = OPTION_KEYS.iter().map(|option| option.key);
    let valid = keys.clone().collect::<Vec<_>>().join(", ");
    let error = Error::invalid(format!("unknown option \"{key}\"")).detail(format!("Valid options are {valid}."));
    match nearest(key, keys) {
        Some(near) => error.hint(format!("Perhaps you meant \"{near}\".")),
        None => error,
    }
}

/// One given value and its name.
struct Given<'a> {
    key: &'a str,
    value: &'a Value,
}

impl Given<'_> {
    fn bad(&self, expected: &str) -> Error {
        let shown = match self.value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        Error::invalid(format!("invalid value for option \"{}\": \"{shown}\"", self.key)).hint(format!("It must be {expected}."))
    }

    fn text(&self) -> Option<&str> {
        self.value.as_str().map(str::trim)
    }

    /// Whether the default is asked for: NULL, or a word that stands for it.
    fn is_default(&self) -> bool {
        self.value.is_null()
            || self.text().is_some_and(|t| ["auto", "none", "all", "default", "null", ""].contains(&t.to_ascii_lowercase().as_str()))
    }

    fn as_number(&self) -> Option<f64> {
        match self.value {
            Value::Number(number) => number.as_f64(),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        }
        .filter(|number: &f64| number.is_finite())
    }

    fn integer(&self, least: u32, most: u32) -> Result<u32> {
        self.as_number()
            .filter(|n| n.fract() == 0.0 && *n >= f64::from(least) && *n <= f64::from(most))
            .map(|n| n as u32)
            .ok_or_else(|| self.bad(&format!("an integer from {least} to {most}")))
    }

    fn optional_integer(&self, least: u32, most: u32) -> Result<Option<u32>> {
        if self.is_default() { Ok(None) } else { self.integer(least, most).map(Some) }
    }

    fn optional_number(&self, least: f64, most: f64) -> Result<Option<f64>> {
        if self.is_default() {
            return Ok(None);
        }
        let number = self.as_number().filter(|n| (least..=most).contains(n));
        number.map(Some).ok_or_else(|| self.bad(&format!("a number from {least} to {most}")))
    }

    fn seed(&self) -> Result<u64> {
        let seed = match self.value {
            Value::Number(number) => number.as_u64(),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        };
        // Stored as JSON and shown as bigint, so it stays in that range.
        seed.filter(|seed| i64::try_from(*seed).is_ok()).ok_or_else(|| self.bad("a non-negative bigint"))
    }

    fn boolean(&self) -> Result<bool> {
        match self.value {
            Value::Bool(value) => Ok(*value),
            _ => match self.text().map(str::to_ascii_lowercase).as_deref() {
                Some("true" | "on" | "yes" | "1") => Ok(true),
                Some("false" | "off" | "no" | "0") => Ok(false),
                _ => Err(self.bad("true or false")),
            },
        }
    }

    fn optional_text(&self) -> Result<Option<String>> {
        if self.value.is_null() {
            return Ok(None);
        }
        match self.text() {
            Some("" | "none") => Ok(None),
            Some(text) => Ok(Some(text.to_owned())),
            None => Err(self.bad("text")),
        }
    }

    fn one_of<T: Copy>(&self, choices: &[(&str, T)]) -> Result<T> {
        let text = self.text().unwrap_or_default();
        if let Some((_, choice)) = choices.iter().find(|(name, _)| name.eq_ignore_ascii_case(text)) {
            return Ok(*choice);
        }
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        let error = self.bad(&format!("one of {}", names.join(", ")));
        Err(match nearest(text, names.iter().copied()) {
            Some(near) => error.hint(format!("It must be one of {}. Perhaps you meant \"{near}\".", names.join(", "))),
            None => error,
        })
    }

    fn device(&self) -> Result<String> {
        let device = self.text().unwrap_or_default().to_ascii_lowercase();
        let numbered = device.strip_prefix("cuda:").is_some_and(|n| n.parse::<u16>().is_ok());
        if numbered || ["auto", "cpu", "cuda"].contains(&device.as_str()) {
            Ok(device)
        } else {
            Err(self.bad("auto, cpu, cuda or cuda:<n>"))
        }
    }

    /// JSON that came as itself or as text.
    fn json(&self) -> Option<Value> {
        match self.value {
            Value::String(text) => serde_json::from_str(text).ok(),
            other => Some(other.clone()),
        }
    }

    fn object(&self) -> Result<Option<Value>> {
        if self.is_default() {
            return Ok(None);
        }
        self.json().filter(Value::is_object).map(Some).ok_or_else(|| self.bad("a JSON object"))
    }

    fn class_weights(&self) -> Result<ClassWeights> {
        const EXPECTED: &str = "none, balanced, or a JSON object of class and positive weight";
        if self.is_default() {
            return Ok(ClassWeights::None);
        }
        if self.text().is_some_and(|t| t.eq_ignore_ascii_case("balanced")) {
            return Ok(ClassWeights::Balanced);
        }
        let Some(Value::Object(entries)) = self.json() else { return Err(self.bad(EXPECTED)) };
        let mut weights = Vec::with_capacity(entries.len());
        for (class, weight) in entries {
            match weight.as_f64().filter(|w| *w > 0.0 && w.is_finite()) {
                Some(weight) => weights.push((class, weight)),
                None => return Err(self.bad(EXPECTED)),
            }
        }
        Ok(ClassWeights::Weights(weights))
    }

    fn names(&self) -> Result<Vec<String>> {
        let listed = match self.json() {
            Some(Value::Array(names)) => names,
            _ if self.value.is_null() => Vec::new(),
            _ => match self.text() {
                Some(text) => text.split(',').map(|name| Value::from(name.trim())).filter(|name| name != "").collect(),
                None => return Err(self.bad("a JSON array of names, or names with commas between")),
            },
        };
        let names: Option<Vec<String>> = listed.iter().map(|name| name.as_str().map(str::to_owned)).collect();
        names.ok_or_else(|| self.bad("a JSON array of names, or names with commas between"))
    }
}

/// Reads an interval such as `7 days`, `36 hours`, `1 week`, `1 day 12:30:00` or `90 min` as microseconds. Months are
/// 30 days and years 365, since a horizon has to have one length.
///
/// # Errors
/// `InvalidParameter` (22023) when it is malformed, not positive or longer than a thousand years.
pub fn parse_interval_us(text: &str) -> Result<i64> {
    let total = interval_us(text).filter(|us| *us >= 1.0 && *us <= 1000.0 * 365.0 * 86_400e6);
    total.map(|us| us.round() as i64).ok_or_else(|| {
        Error::invalid(format!("invalid interval \"{text}\""))
            .hint("Write a positive length of time such as '7 days', '36 hours' or '1 week'.")
    })
}

fn interval_us(text: &str) -> Option<f64> {
    let mut total = 0.0;
    let mut words = text.split_whitespace();
    let mut any = false;
    while let Some(word) = words.next() {
        any = true;
        if word.contains(':') {
            let mut unit_us = 3600e6;
            for part in word.split(':') {
                total += part.parse::<f64>().ok().filter(|n| n.is_finite() && *n >= 0.0)? * unit_us;
                unit_us /= 60.0;
            }
            continue;
        }
        let digits = word.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(word.len());
        let count: f64 = word[..digits].parse().ok()?;
        let unit = if digits < word.len() { &word[digits..] } else { words.next()? };
        total += count * unit_us(unit)?;
    }
    any.then_some(total)
}

fn unit_us(unit: &str) -> Option<f64> {
    let unit = unit.to_ascii_lowercase();
    let seconds = match unit.as_str() {
        "ms" | "msec" | "msecs" | "millisecond" | "milliseconds" => 1e-3,
        "s" | "sec" | "secs" | "second" | "seconds" => 1.0,
        "m" | "min" | "mins" | "minute" | "minutes" => 60.0,
        "h" | "hr" | "hrs" | "hour" | "hours" => 3600.0,
        "d" | "day" | "days" => 86_400.0,
        "w" | "week" | "weeks" => 7.0 * 86_400.0,
        "mon" | "mons" | "month" | "months" => 30.0 * 86_400.0,
        "y" | "year" | "years" => 365.0 * 86_400.0,
        _ => return None,
    };
    Some(seconds * 1e6)
}

#[cfg(test)]
mod tests;
