//! What is learned: plain numbers and texts, written to a store as they are here.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::column::{Column, InputKind};
use crate::error::{Code, Error, Result};
use crate::kernels::nearest::nearest;

/// A column that the steps read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    /// Its name in the source.
    pub name: String,
    /// How it is read.
    pub kind: InputKind,
}

/// The mean of a target by category.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Encoding {
    /// One per stored category.
    pub means: Vec<f64>,
    /// Of rows without a category.
    pub missing: f64,
    /// Of rows with a category that was not seen.
    pub unseen: f64,
}

/// One step with its parameters, for one column or for several together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fitted {
    /// Missing numbers become this one.
    Fill {
        /// The number; NaN when there was none to learn from.
        value: f64,
    },
    /// Missing texts become this one.
    FillText {
        /// The text; none when there was none to learn from.
        value: Option<String>,
    },
    /// Adds a column: 1 where missing.
    Indicator,
    /// Numbers are drawn into a range.
    Clip {
        /// Its lower end.
        low: f64,
        /// Its upper end.
        high: f64,
    },
    /// ln(1 + x).
    Log1p,
    /// (x − center) / scale + offset.
    Scale {
        /// What becomes the offset.
        center: f64,
        /// The unit; 1 for a column that does not vary.
        scale: f64,
        /// Added in the end.
        offset: f64,
    },
    /// How many cut points are not above the number.
    Buckets {
        /// Ascending.
        cuts: Vec<f64>,
    },
    /// A column per category, one for others, one for missing.
    OneHot {
        /// Sorted.
        categories: Vec<String>,
    },
    /// The place among the categories.
    Ordinal {
        /// Sorted.
        categories: Vec<String>,
    },
    /// The share of rows.
    Frequency {
        /// Sorted.
        categories: Vec<String>,
        /// One per category.
        shares: Vec<f64>,
        /// Of missing values.
        missing: f64,
    },
    /// The mean of a target.
    Target {
        /// Sorted.
        categories: Vec<String>,
        /// The column whose values say which fold a row is in.
        key: String,
        /// Learned from all rows: for rows that are new.
        whole: Encoding,
        /// Learned without the rows of each fold: for the rows that were learned from.
        without_fold: Vec<Encoding>,
    },
    /// A hash's bucket.
    Hash {
        /// How many.
        buckets: u32,
    },
    /// Words by a hash's bucket.
    Tokens {
        /// How many.
        buckets: u32,
    },
    /// The texts of several columns joined.
    Cross,
    /// Parts of a time.
    DateParts {
        /// Which.
        parts: Vec<String>,
    },
    /// Principal components of several columns.
    Pca {
        /// What is taken off each column.
        means: Vec<f64>,
        /// One unit vector per component.
        axes: Vec<Vec<f64>>,
        /// The variance along each.
        variances: Vec<f64>,
        /// Its share of all variance.
        ratios: Vec<f64>,
    },
}

/// One step of an entry: a [`Fitted`] for each of its columns, or one for all of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FittedStep {
    /// In the order of the columns.
    Each(Vec<Fitted>),
    /// For all columns together.
    Joint(Fitted),
}

/// The columns of one entry with their steps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FittedEntry {
    /// Indices into the transform's inputs.
    pub inputs: Vec<usize>,
    /// In order.
    pub steps: Vec<FittedStep>,
    /// The features it makes, in order.
    pub features: Vec<String>,
}

/// A transform, learned.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FittedTransform {
    /// The words it was made from.
    pub steps: String,
    /// Rows it was learned from.
    pub rows: u64,
    /// The columns it reads, each once for each way of reading it.
    pub inputs: Vec<Input>,
    /// Its entries.
    pub entries: Vec<FittedEntry>,
}

impl FittedTransform {
    /// The features' names, in order.
    pub fn features(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().flat_map(|entry| entry.features.iter().map(String::as_str))
    }

    /// The place of a feature.
    ///
    /// # Errors
    /// 42703 with the nearest name.
    pub fn feature(&self, name: &str) -> Result<usize> {
        self.features().position(|feature| feature == name).ok_or_else(|| {
            let error = Error::new(Code::UndefinedColumn, format!("feature \"{name}\" does not exist"));
            match nearest(name, self.features()) {
                Some(near) => error.hint(format!("Perhaps you meant \"{near}\".")),
                None => error,
            }
        })
    }

    /// The columns that out-of-fold features ask for besides the inputs: the keys of the folds.
    pub fn keys(&self) -> Vec<&str> {
        let fitted = self.entries.iter().flat_map(|entry| &entry.steps).flat_map(|step| match step {
            FittedStep::Each(each) => each.as_slice(),
            FittedStep::Joint(joint) => std::slice::from_ref(joint),
        });
        let mut keys: Vec<&str> = fitted
            .filter_map(|fitted| match fitted {
                Fitted::Target { key, .. } => Some(key.as_str()),
                _ => None,
            })
            .collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    /// The features of some rows: `columns` in the order of [`inputs`](Self::inputs); with `keys`, rows are those
    /// that were learned from and out-of-fold means leave out each row's own fold.
    ///
    /// # Errors
    /// A bug of ours when the columns are not those of the inputs; what `check` says.
    pub fn apply(&self, columns: &[Column], keys: Option<&BTreeMap<String, Column>>) -> Result<Vec<Vec<f64>>> {
        let mut features = Vec::new();
        for entry in &self.entries {
            let mut current = Vec::with_capacity(entry.inputs.len());
            for input in &entry.inputs {
                current.push(columns.get(*input).cloned().ok_or_else(|| Error::internal("a transform misses an input"))?);
            }
            for step in &entry.steps {
                current = step.apply(current, keys)?;
            }
            for column in current {
                features.push(super::apply::numbers(column)?);
            }
        }
        Ok(features)
    }
}

impl FittedEntry {
    /// The names of the columns it reads: `price, quantity`.
    pub fn input_names(&self, of: &FittedTransform) -> String {
        self.inputs.iter().filter_map(|input| of.inputs.get(*input)).map(|input| input.name.as_str()).collect::<Vec<_>>().join(", ")
    }

    /// The steps with what they learned, shortly: `fill(2.5) | scale(center 3.1, scale 0.7)`.
    pub fn describe(&self) -> String {
        let step = |step: &FittedStep| match step {
            FittedStep::Joint(fitted) => fitted.describe(),
            FittedStep::Each(each) => {
                let shown: Vec<String> = each.iter().take(SHOWN_MAX).map(Fitted::describe).collect();
                let more = if each.len() > SHOWN_MAX { format!(", … {} more", each.len() - SHOWN_MAX) } else { String::new() };
                format!("{}{more}", shown.join(", "))
            }
        };
        self.steps.iter().map(step).collect::<Vec<_>>().join(" | ")
    }
}

/// Columns whose parameters a description shows.
const SHOWN_MAX: usize = 8;

impl Fitted {
    fn describe(&self) -> String {
        match self {
            Self::Fill { value } => format!("fill({value})"),
            Self::FillText { value } => format!("fill({})", value.as_deref().unwrap_or("NULL")),
            Self::Indicator => "indicator".into(),
            Self::Clip { low, high } => format!("clip({low}, {high})"),
            Self::Log1p => "log1p".into(),
            Self::Scale { center, scale, offset } => format!("scale(center {center}, scale {scale}, offset {offset})"),
            Self::Buckets { cuts } => format!("buckets({} cuts)", cuts.len()),
            Self::OneHot { categories } => format!("one_hot({} categories)", categories.len()),
            Self::Ordinal { categories } => format!("ordinal({} categories)", categories.len()),
            Self::Frequency { categories, .. } => format!("frequency({} categories)", categories.len()),
            Self::Target { categories, key, without_fold, .. } => {
                format!("target({} categories, {} folds by {key})", categories.len(), without_fold.len())
            }
            Self::Hash { buckets } => format!("hash({buckets})"),
            Self::Tokens { buckets } => format!("tokens({buckets})"),
            Self::Cross => "cross".into(),
            Self::DateParts { parts } => format!("date_parts({})", parts.join(", ")),
            Self::Pca { ratios, .. } => {
                let shown: Vec<String> = ratios.iter().take(SHOWN_MAX).map(f64::to_string).collect();
                format!("pca(shares of variance {})", shown.join(", "))
            }
        }
    }
}
