//! The dense arrays between feature engineering and the networks. Plain vectors: no Arrow, no tensors. Rows that do not
//! fit in memory lie in files instead, see [`Spilled`].

use std::sync::Arc;

use super::spilled::Spilled;

/// Pixels of a picture up to which passes have as many rows as others.
const PASS_PIXELS: usize = 32 * 32;

/// The shape of what a network reads; part of a model's stored configuration.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct InputShape {
    /// Numeric features per row.
    pub numeric: usize,
    /// Vocabulary size of each categorical feature; ids 0 = NULL, 1 = unseen, 2.. = known.
    pub categorical: Vec<usize>,
    /// The token sequence, if the rows have one.
    pub sequence: Option<SequenceShape>,
    /// The picture, if the rows have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageShape>,
}

impl InputShape {
    /// Rows of one pass through a network: `most`, or fewer where pictures are large.
    #[must_use]
    pub fn pass_rows(&self, most: usize) -> usize {
        self.image.map_or(most, |image| (most * PASS_PIXELS / (image.height * image.width).max(1)).clamp(1, most))
    }
}

/// The shape of a picture.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct ImageShape {
    /// Rows of pixels.
    pub height: usize,
    /// Pixels of a row.
    pub width: usize,
    /// 1 = grey, 3 = red, green and blue.
    pub channels: usize,
}

impl ImageShape {
    /// Bytes of a picture.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "a picture has pixels")]
    pub const fn len(self) -> usize {
        self.height * self.width * self.channels
    }
}

/// The shape of a token sequence.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct SequenceShape {
    /// Vocabulary size of each token field (event type, item, category, time gap …); id 0 = padding or NULL,
    /// 1 = unseen, 2.. = known.
    pub fields: Vec<usize>,
    /// Numeric features per step.
    pub numeric: usize,
    /// Steps a network sees at most; the latest ones are kept.
    pub max_len: usize,
}

/// Encoded rows. A row is one user at one anchor, or one row of a labelled table.
#[derive(Debug, Clone, Default)]
pub struct Inputs {
    /// Number of rows.
    pub rows: usize,
    /// `[rows, numeric]`, row-major, scaled, finite.
    pub numeric: Vec<f32>,
    /// `[rows, categorical.len()]`, row-major ids.
    pub categorical: Vec<u32>,
    /// The sequences, when the shape has them.
    pub sequence: Option<Sequences>,
    /// `[rows, height, width, channels]`, row-major, 0 = black; empty when the shape has no picture.
    pub images: Vec<u8>,
    /// The rows where they lie in files. Everything above is empty then but the number of rows and their spans: who reads
    /// rows asks [`Batch::read`](crate::models::Batch::read), which knows both kinds.
    pub spilled: Option<Arc<Spilled>>,
}

/// Token sequences, stored once per user: many anchors of a user share one stretch of steps.
#[derive(Debug, Clone, Default)]
pub struct Sequences {
    /// `[steps, fields]`, row-major ids; all users' steps one after another, oldest first.
    pub tokens: Vec<u32>,
    /// `[steps, numeric]`, row-major.
    pub numeric: Vec<f32>,
    /// Per row, the range of its steps: `(start, len)`, `len ≤ max_len`, zero for an empty history.
    pub spans: Vec<(u32, u32)>,
}

/// The truth of each row.
#[derive(Debug, Clone)]
pub enum Labels {
    /// Class index per row; the class names are the dataset's.
    Class(Vec<u32>),
    /// A number per row.
    Value(Vec<f32>),
}

/// Which part of a dataset a row belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rows {
    /// Learned from.
    Train,
    /// Early stopping, calibration and the choice between candidates.
    Validation,
    /// Reported, never looked at before.
    Test,
}

impl Inputs {
    /// The bytes it holds in memory, for the memory pool.
    pub fn bytes(&self) -> usize {
        let sequence = self.sequence.as_ref().map_or(0, |s| (s.tokens.len() + s.numeric.len()) * 4 + s.spans.len() * 8);
        (self.numeric.len() + self.categorical.len()) * 4 + sequence + self.images.len()
    }

    /// The bytes it holds in files.
    pub fn spilled_bytes(&self) -> u64 {
        self.spilled.as_ref().map_or(0, |spilled| spilled.bytes())
    }
}
