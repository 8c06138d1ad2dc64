//! The flat option namespace of training: the JSON `options` argument, and `SET ml.<key>`.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// How missing numbers are filled in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Missing { Mean, Median, Zero, Indicator }

/// How outliers are held in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Outliers { None, Zscore, Iqr, Winsorize }

/// How numbers are scaled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Scale { Standard, Minmax, Robust, None }

/// Which optimizer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Optimizer { Sgd, Adam, Adamw }

/// How classes are weighted in the loss.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum ClassWeights { None, Balanced, Weights(Vec<(String, f64)>) }

/// Every option of training. `None` = the architecture chooses.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs)]
pub struct Options {
    pub epochs: Option<u32>,
    pub batch_size: Option<u32>,
    pub learning_rate: Option<f64>,
    pub optimizer: Optimizer,
    pub l2: Option<f64>,
    pub dropout: Option<f64>,
    pub layers: Option<u32>,
    pub hidden_dim: Option<u32>,
    pub embedding_dim: Option<u32>,
    pub max_seq_len: u32,
    pub min_history: u32,
    pub patience: Option<u32>,
    pub class_weights: ClassWeights,
    pub exclude: Vec<String>,
    pub missing: Missing,
    pub outliers: Outliers,
    pub scale: Scale,
    pub select_k: Option<u32>,
    pub folds: Option<u32>,
    pub tune: Option<serde_json::Value>,
    pub seed: u64,
    pub max_seconds: Option<f64>,
    pub device: String,
    pub warm_from: Option<String>,
    pub freeze: bool,
    pub sample: f64,
    pub keep_partial: bool,
    /// Interval text; `None` = the horizon.
    pub anchor_every: Option<String>,
    pub split_time: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            epochs: None, batch_size: None, learning_rate: None, optimizer: Optimizer::Adamw, l2: None, dropout: None, layers: None,
            hidden_dim: None, embedding_dim: None, max_seq_len: 64, min_history: 1, patience: None, class_weights: ClassWeights::None,
            exclude: Vec::new(), missing: Missing::Indicator, outliers: Outliers::None, scale: Scale::Standard, select_k: None,
            folds: None, tune: None, seed: 42, max_seconds: None, device: "auto".into(), warm_from: None, freeze: false, sample: 1.0,
            keep_partial: false, anchor_every: None, split_time: None,
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
    /// Its default as text.
    pub default: &'static str,
    /// What it does.
    pub doc: &'static str,
}

/// Every option.
pub const OPTION_KEYS: &[OptionDoc] = &[];

impl Options {
    /// Sets one option.
    ///
    /// # Errors
    /// `InvalidParameter` (22023) for an unknown key (with the valid ones and the nearest) or a bad value.
    pub fn set(&mut self, _key: &str, _value: &serde_json::Value) -> Result<()> {
        Err(Error::internal("not wired yet"))
    }

    /// Reads a JSON object of options.
    ///
    /// # Errors
    /// `InvalidParameter` (22023).
    pub fn from_json(_text: &str) -> Result<Self> {
        Err(Error::internal("not wired yet"))
    }
}

/// Reads an interval such as `7 days`, `36 hours` or `1 week` as microseconds.
///
/// # Errors
/// `InvalidParameter` (22023).
pub fn parse_interval_us(_text: &str) -> Result<i64> {
    Err(Error::internal("not wired yet"))
}
