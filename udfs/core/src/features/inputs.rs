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
    /// Whether rows may lack the picture.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub image_optional: bool,
    /// The texts of a row.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub texts: Vec<TextShape>,
}

/// The shape of a text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct TextShape {
    /// Number of ids: 0 = NULL, 1 = no words, then the known words, then the buckets that other words share.
    pub vocabulary: usize,
    /// How many of the ids are buckets.
    pub buckets: usize,
    /// Words of a row at most.
    pub max_len: usize,
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

    /// How often a generator doubles the size of a picture.
    #[must_use]
    pub const fn doublings(self) -> usize {
        let longest = if self.height > self.width { self.height } else { self.width };
        if longest > 40 { 3 } else { 2 }
    }

    /// The nearest size that a generator can make: sides that can be halved as often, from 8 pixels on.
    #[must_use]
    pub fn generated(self) -> Self {
        let unit = 1 << self.doublings();
        let rounded = |side: usize| ((side + unit / 2) / unit * unit).max(8);
        Self { height: rounded(self.height), width: rounded(self.width), channels: self.channels }
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
    /// `[pictures, height, width, channels]`, row-major, 0 = black; empty when the shape has no picture.
    pub images: Vec<u8>,
    /// Which of the pictures each row has, [`NO_PICTURE`] for none; empty when picture `r` is row `r`'s.
    pub pictured: Vec<u32>,
    /// The words of each text column.
    pub texts: Vec<Texts>,
    /// The rows where they lie in files. Everything above is empty then but the number of rows and their spans: who reads
    /// rows asks [`Batch::read`](crate::models::Batch::read), which knows both kinds.
    pub spilled: Option<Arc<Spilled>>,
}

/// A row of [`Inputs::pictured`] without a picture.
pub const NO_PICTURE: u32 = u32::MAX;

/// The words of one text column. Rows of one user may share a stretch of them.
#[derive(Debug, Clone, Default)]
pub struct Texts {
    /// Ids, text after text.
    pub tokens: Vec<u32>,
    /// Per row, the range of its words: `(start, len)`, `1 ≤ len ≤ max_len`.
    pub spans: Vec<(u32, u32)>,
}

impl Texts {
    /// The words of a row.
    #[must_use]
    pub fn row(&self, row: usize) -> &[u32] {
        let (start, len) = self.spans[row];
        &self.tokens[start as usize..(start + len) as usize]
    }

    /// Adds a row of its own.
    pub fn push(&mut self, words: &[u32]) {
        self.spans.push((self.tokens.len() as u32, words.len() as u32));
        self.tokens.extend_from_slice(words);
    }
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
        let texts: usize = self.texts.iter().map(|texts| texts.tokens.len() * 4 + texts.spans.len() * 8).sum();
        (self.numeric.len() + self.categorical.len() + self.pictured.len()) * 4 + sequence + self.images.len() + texts
    }

    /// Forgets the rows, keeps the buffers.
    pub fn clear(&mut self) {
        self.rows = 0;
        self.numeric.clear();
        self.categorical.clear();
        self.images.clear();
        self.pictured.clear();
        if let Some(sequence) = &mut self.sequence {
            sequence.tokens.clear();
            sequence.numeric.clear();
            sequence.spans.clear();
        }
        for texts in &mut self.texts {
            texts.tokens.clear();
            texts.spans.clear();
        }
        self.spilled = None;
    }

    /// Adds the rows of `more`, which have the same shape. Both are in memory.
    pub fn append(&mut self, more: Self) {
        let pictures = self.pictured.iter().filter(|picture| **picture != NO_PICTURE).max().map_or(0, |last| last + 1);
        self.rows += more.rows;
        self.numeric.extend(more.numeric);
        self.categorical.extend(more.categorical);
        self.images.extend(more.images);
        let moved = |picture| if picture == NO_PICTURE { NO_PICTURE } else { picture + pictures };
        self.pictured.extend(more.pictured.into_iter().map(moved));
        self.texts.resize_with(self.texts.len().max(more.texts.len()), Texts::default);
        for (texts, added) in self.texts.iter_mut().zip(more.texts) {
            let start = texts.tokens.len() as u32;
            texts.tokens.extend(added.tokens);
            texts.spans.extend(added.spans.into_iter().map(|(from, len)| (from + start, len)));
        }
        let Some(added) = more.sequence else { return };
        let sequence = self.sequence.get_or_insert_default();
        // Steps so far: each row's stretch ends where the next begins.
        let steps = sequence.spans.iter().map(|(start, len)| start + len).max().unwrap_or_default();
        sequence.tokens.extend(added.tokens);
        sequence.numeric.extend(added.numeric);
        sequence.spans.extend(added.spans.into_iter().map(|(start, len)| (start + steps, len)));
    }

    /// The bytes it holds in files.
    pub fn spilled_bytes(&self) -> u64 {
        self.spilled.as_ref().map_or(0, |spilled| spilled.bytes())
    }
}
