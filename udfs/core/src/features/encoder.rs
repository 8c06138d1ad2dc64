//! The fitted encoder: what training learned about turning histories and rows into arrays. It is stored with the
//! version as its `preprocessor`, so scoring never looks at training data again.
//!
//! Life of a row: a history is cut at the time asked for → [`super::tabular`] computes raw features → every numeric
//! feature is filled and scaled by its [`NumericFeature`], every categorical one becomes an id of its [`Vocabulary`] →
//! the latest events become steps by the [`SequencePlan`]. Rows of labelled tables take the same way from their columns.

mod fit;
mod raw;
mod vocabularies;

use arrow::array::{Array, RecordBatch};
use serde::{Deserialize, Serialize};

pub(super) use self::fit::{Fitted, fit, is_excluded};
pub(super) use self::raw::RawRows;
pub use self::vocabularies::FeatureVocabulary;
use super::events::{EventColumnsView, Events, Extra, Strings, UserHistory, UserKey};
use super::images::ImagePlan;
use super::inputs::{InputShape, Inputs, NO_PICTURE, Sequences, Texts};
use super::numeric::NumericFeature;
use super::roles::EventColumns;
use super::rows::RowPlan;
use super::sequence::{SequencePlan, SequenceState};
use super::table::TablePlan;
use super::tabular::{CodeTable, TabularPlan, TabularState};
use super::text::{TextIds, TextPlan, push_history};
use super::vocabulary::{CodeMap, NULL_ID, UNSEEN_ID, Vocabulary};
use crate::error::{Code, Error, Result};
use crate::kernels::intern::NULL_CODE;

/// The version of the stored structure.
pub const SCHEMA_VERSION: u32 = 1;

/// Kind of a feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FeatureKind {
    /// A number of [`Inputs::numeric`].
    Numeric,
    /// An id of [`Inputs::categorical`].
    Categorical,
    /// A token field of a step.
    Token,
    /// A number of a step.
    Step,
    /// A picture.
    Image,
    /// Free text.
    Text,
}

impl FeatureKind {
    /// Its name in `ml.model_features`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Numeric => "numeric",
            Self::Categorical => "categorical",
            Self::Token => "token",
            Self::Step => "step",
            Self::Image => "image",
            Self::Text => "text",
        }
    }
}

/// One feature as a person reads it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeatureInfo {
    /// Stable and readable: `purchase_count_30d`.
    pub name: String,
    /// Which array, in the array's order.
    pub kind: FeatureKind,
    /// Ids of its vocabulary, NULL and unseen included; 0 for numbers.
    pub size: usize,
    /// Train rows in which it was NULL; 0 for steps.
    pub nulls: u64,
}

/// One categorical feature, fitted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CategoricalFeature {
    /// Its name.
    pub name: String,
    /// The raw column.
    pub source: usize,
    /// Which strings have ids.
    pub vocabulary: Vocabulary,
    /// Train rows in which it was NULL.
    pub nulls: u64,
}

/// What raw rows are made of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Source {
    Events(Box<EventPlan>),
    Table(TablePlan),
}

/// The plan of rows made from histories.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct EventPlan {
    pub(super) columns: EventColumns,
    pub(super) tabular: TabularPlan,
    pub(super) sequence: Option<SequencePlan>,
    /// The latest picture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) image: Option<ImagePlan>,
    /// The latest texts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) texts: Vec<TextPlan>,
    pub(super) min_history: u32,
    /// The usual gap between events; spaces the events of a sequence that has no times.
    pub(super) typical_gap_us: i64,
    /// The source's largest event time at training.
    pub(super) watermark_us: i64,
}

/// The fitted encoder; the manifest's `preprocessor`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Encoder {
    /// The version of this structure.
    pub schema_version: u32,
    pub(super) shape: InputShape,
    pub(super) source: Source,
    pub(super) numeric: Vec<NumericFeature>,
    pub(super) categorical: Vec<CategoricalFeature>,
    /// How generated rows are made; only generators have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) rows: Option<RowPlan>,
}

/// How often encoding met values without a meaning of their own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EncodeCounts {
    /// NULL numbers and categories.
    pub nulls: u64,
    /// Categories that training did not see.
    pub unseen: u64,
}

impl Encoder {
    pub(super) fn new(source: Source, fitted: Fitted) -> Self {
        let sequence = match &source {
            Source::Events(plan) => plan.sequence.as_ref().map(SequencePlan::shape),
            Source::Table(_) => None,
        };
        let categorical = fitted.categorical.iter().map(|feature| feature.vocabulary.size()).collect();
        let (image, texts, image_optional) = match &source {
            Source::Events(plan) => (&plan.image, &plan.texts, plan.image.is_some()),
            Source::Table(plan) => (&plan.image, &plan.texts, false),
        };
        let image = image.as_ref().map(|image| image.shape);
        let texts = texts.iter().map(TextPlan::shape).collect();
        let shape = InputShape { numeric: fitted.numeric.len(), categorical, sequence, image, image_optional, texts };
        Self { schema_version: SCHEMA_VERSION, shape, source, numeric: fitted.numeric, categorical: fitted.categorical, rows: None }
    }

    /// The encoder of a generator: it reads nothing, and knows how rows are made.
    #[must_use]
    pub fn of_rows(plan: RowPlan) -> Self {
        let mut encoder = Self::new(Source::Table(TablePlan::default()), Fitted::default());
        encoder.rows = Some(plan);
        encoder
    }

    /// How generated rows are made; `None` for what is no generator.
    #[must_use]
    pub const fn rows(&self) -> Option<&RowPlan> {
        self.rows.as_ref()
    }

    /// The shape of what it makes.
    #[must_use]
    pub const fn shape(&self) -> &InputShape {
        &self.shape
    }

    /// The same encoder without the sequences, pictures and texts that `shape` does not have: scoring then skips the work.
    #[must_use]
    pub fn reading_only(mut self, shape: &InputShape) -> Self {
        let (image, texts) = match &mut self.source {
            Source::Events(plan) => {
                if shape.sequence.is_none() {
                    self.shape.sequence = None;
                    plan.sequence = None;
                }
                (&mut plan.image, &mut plan.texts)
            }
            Source::Table(plan) => (&mut plan.image, &mut plan.texts),
        };
        if shape.image.is_none() {
            self.shape.image = None;
            self.shape.image_optional = false;
            *image = None;
        }
        if shape.texts.is_empty() {
            self.shape.texts.clear();
            texts.clear();
        }
        self
    }

    /// How pictures and texts are read.
    fn attachments(&self) -> (Option<&ImagePlan>, &[TextPlan]) {
        match &self.source {
            Source::Events(plan) => (plan.image.as_ref(), &plan.texts),
            Source::Table(plan) => (plan.image.as_ref(), &plan.texts),
        }
    }

    /// Every feature, numeric first, then categorical, token and step features, each in its array's order, the picture and
    /// the texts.
    #[must_use]
    pub fn feature_names(&self) -> Vec<FeatureInfo> {
        if let Some(rows) = &self.rows {
            return generated_features(rows);
        }
        let numeric =
            self.numeric.iter().map(|f| FeatureInfo { name: f.name.clone(), kind: FeatureKind::Numeric, size: 0, nulls: f.nulls });
        let categorical = self.categorical.iter().map(|f| FeatureInfo {
            name: f.name.clone(),
            kind: FeatureKind::Categorical,
            size: f.vocabulary.size(),
            nulls: f.nulls,
        });
        let mut features: Vec<FeatureInfo> = numeric.chain(categorical).collect();
        if let Source::Events(plan) = &self.source
            && let Some(plan) = &plan.sequence
        {
            let (tokens, steps) = plan.names();
            let sizes = plan.shape().fields;
            features.extend(tokens.into_iter().zip(sizes).map(|(name, size)| FeatureInfo {
                name,
                kind: FeatureKind::Token,
                size,
                nulls: 0,
            }));
            features.extend(steps.into_iter().map(|name| FeatureInfo { name, kind: FeatureKind::Step, size: 0, nulls: 0 }));
        }
        let (image, texts) = self.attachments();
        features.extend(image.map(|image| FeatureInfo { name: image.column.clone(), kind: FeatureKind::Image, size: 0, nulls: 0 }));
        let text = |text: &TextPlan| (text.column.clone(), text.shape().vocabulary);
        features.extend(texts.iter().map(text).map(|(name, size)| FeatureInfo { name, kind: FeatureKind::Text, size, nulls: 0 }));
        features
    }

    /// The event columns that it reads; `None` for models of labelled rows.
    #[must_use]
    pub const fn event_columns(&self) -> Option<&EventColumns> {
        match &self.source {
            Source::Events(plan) => Some(&plan.columns),
            Source::Table(_) => None,
        }
    }

    /// The columns that rows of a labelled-table model must have; empty for models of events.
    #[must_use]
    pub fn row_columns(&self) -> Vec<&str> {
        match &self.source {
            Source::Events(_) => Vec::new(),
            Source::Table(plan) => plan.columns(),
        }
    }

    /// The names of the categorical features, in their array's order.
    #[must_use]
    pub fn categorical_names(&self) -> Vec<&str> {
        self.categorical.iter().map(|feature| feature.name.as_str()).collect()
    }

    /// The column of the picture that it reads.
    #[must_use]
    pub fn image_column(&self) -> Option<&str> {
        self.attachments().0.map(|image| image.column.as_str())
    }

    /// The columns of the texts that it reads.
    #[must_use]
    pub fn text_columns(&self) -> Vec<&str> {
        self.attachments().1.iter().map(|text| text.column.as_str()).collect()
    }

    /// Events that a user must have to be scored.
    #[must_use]
    pub const fn min_history(&self) -> u32 {
        match &self.source {
            Source::Events(plan) => plan.min_history,
            Source::Table(_) => 0,
        }
    }

    /// Appends the row of a user as of a time; `false` = shorter than `min_history`, nothing appended. For many
    /// users of one reader, [`history_encoder`](Self::history_encoder) is faster.
    ///
    /// # Errors
    /// `InvalidParameter` when this is a model of labelled rows.
    pub fn encode_history(&self, history: &UserHistory, strings: &Strings, as_of_us: i64, out: &mut Inputs) -> Result<bool> {
        self.history_encoder()?.push(history, strings, as_of_us, out)
    }

    /// A face of [`encode_history`](Self::encode_history) for many users of one reader: it remembers what the
    /// reader's codes mean. One per stream.
    ///
    /// # Errors
    /// `InvalidParameter` when this is a model of labelled rows.
    pub fn history_encoder(&self) -> Result<HistoryEncoder<'_>> {
        HistoryEncoder::new(self)
    }

    /// Encodes labelled-table rows; binds by name, extra columns are ignored. Rows without a picture that can be read are left
    /// out when the model needs one.
    ///
    /// # Errors
    /// `UndefinedColumn` for a missing column, `DatatypeMismatch` for one that became text, `InvalidParameter` when
    /// this is a model of events.
    pub fn encode_rows(&self, batch: &RecordBatch) -> Result<Inputs> {
        self.encode_rows_counted(batch).map(|(inputs, _, _)| inputs)
    }

    /// The rows that can be scored, encoded, and for every row whether it is among them: all but those whose picture is
    /// NULL or cannot be read.
    ///
    /// # Errors
    /// As [`encode_rows`](Self::encode_rows).
    pub fn encode_known_rows(&self, batch: &RecordBatch) -> Result<(Inputs, Vec<bool>)> {
        let (inputs, _, known) = self.encode_rows_counted(batch)?;
        Ok((inputs, known.unwrap_or_else(|| vec![true; batch.num_rows()])))
    }

    /// [`encode_rows`](Self::encode_rows), with the counts of NULL and unseen values and, for a model of pictures, which rows
    /// are encoded.
    ///
    /// # Errors
    /// As there.
    pub fn encode_rows_counted(&self, batch: &RecordBatch) -> Result<(Inputs, EncodeCounts, Option<Vec<bool>>)> {
        let rows = self.table_plan()?.read(batch)?;
        let mut inputs = Inputs::default();
        let known = self.table_plan()?.read_images(batch, &mut inputs.images)?;
        let known_at = |row: &usize| known.as_ref().is_none_or(|known| known[*row]);
        inputs.rows = (0..batch.num_rows()).filter(known_at).count();
        let mut counts = EncodeCounts::default();
        inputs.numeric.reserve(inputs.rows * self.numeric.len());
        inputs.categorical.reserve(inputs.rows * self.categorical.len());
        let texts = self.table_plan()?.read_texts(batch)?;
        inputs.texts = vec![Texts::default(); texts.len()];
        let mut words = Vec::new();
        for row in (0..batch.num_rows()).filter(known_at) {
            for ((plan, column), out) in self.table_plan()?.texts.iter().zip(&texts).zip(&mut inputs.texts) {
                let text = column.is_valid(row).then(|| column.value(row));
                counts.nulls += u64::from(text.is_none());
                words.clear();
                plan.encode(text, &mut words);
                out.push(&words);
            }
            for feature in &self.numeric {
                let raw = rows.number(row, feature.source);
                counts.nulls += u64::from(raw.is_nan());
                inputs.numeric.push(feature.encode(raw));
            }
            for feature in &self.categorical {
                let id = rows.text(row, feature.source).map_or(NULL_ID, |text| feature.vocabulary.id(text));
                counts.count(id);
                inputs.categorical.push(id);
            }
        }
        Ok((inputs, counts, known))
    }

    /// How the rows of a labelled-table model are read.
    pub(super) fn table_plan(&self) -> Result<&TablePlan> {
        match &self.source {
            Source::Table(plan) => Ok(plan),
            Source::Events(_) => {
                Err(Error::invalid("this model reads users' events, not rows").hint("Score it by user_id, or with score_users."))
            }
        }
    }

    /// Encodes a stateless sequence, oldest first: one row, or none when it is shorter than `min_history`. Without
    /// times the events are spaced by the training data's usual gap and end at its watermark.
    ///
    /// # Errors
    /// `InvalidParameter` when lengths differ, times go back, or this is a model of labelled rows.
    pub fn encode_sequence(&self, events: &[&str], items: Option<&[&str]>, times_us: Option<&[i64]>) -> Result<Inputs> {
        let Source::Events(plan) = &self.source else {
            return Err(Error::invalid("this model reads rows, not events").hint("Score it with score_rows or predict_intent(model, row)."));
        };
        let differ = |name: &str, len: usize| {
            Error::invalid(format!("{name} has {len} elements, events has {}", events.len())).hint("Give one for each event.")
        };
        let times_us = match times_us {
            Some(times) if times.len() != events.len() => return Err(differ("times", times.len())),
            Some(times) if !times.is_sorted() => {
                return Err(Error::invalid("times must not go back").hint("Order events from oldest to newest."));
            }
            Some(times) => times.to_vec(),
            None => {
                let back = |index: usize| plan.typical_gap_us.saturating_mul((events.len() - 1 - index) as i64);
                (0..events.len()).map(|index| plan.watermark_us.saturating_sub(back(index))).collect()
            }
        };
        if let Some(items) = items.filter(|items| items.len() != events.len()) {
            return Err(differ("items", items.len()));
        }
        let mut strings = Strings::for_columns(&plan.columns);
        let columns = EventColumnsView { events, items, times_us };
        let attachments = plan.columns.text.len() + usize::from(plan.columns.image.is_some());
        let history = columns.history(UserKey::Int64(0), &plan.tabular, attachments, &mut strings);
        let mut inputs = Inputs::default();
        let as_of_us = history.times_us.last().copied().unwrap_or(plan.watermark_us);
        self.encode_history(&history, &strings, as_of_us, &mut inputs)?;
        Ok(inputs)
    }
}

/// The columns of generated rows.
fn generated_features(rows: &RowPlan) -> Vec<FeatureInfo> {
    let info = |(name, size, picture): (&str, Option<usize>, bool)| FeatureInfo {
        name: name.to_owned(),
        kind: match (size, picture) {
            (_, true) => FeatureKind::Image,
            (Some(_), _) => FeatureKind::Categorical,
            (None, _) => FeatureKind::Numeric,
        },
        size: size.unwrap_or(0),
        nulls: 0,
    };
    rows.features().map(info).collect()
}

impl EncodeCounts {
    fn count(&mut self, id: u32) {
        self.nulls += u64::from(id == NULL_ID);
        self.unseen += u64::from(id == UNSEEN_ID);
    }
}

/// Encodes the users of one reader, one after another; see [`Encoder::history_encoder`].
#[derive(Debug)]
pub struct HistoryEncoder<'a> {
    encoder: &'a Encoder,
    plan: &'a EventPlan,
    tabular: TabularState,
    tables: Vec<CodeTable>,
    ids: Vec<CodeMap>,
    sequence: SequenceState,
    texts: Vec<TextIds>,
    numbers: Vec<f32>,
    codes: Vec<u32>,
    generation: u64,
    counts: EncodeCounts,
}

impl<'a> HistoryEncoder<'a> {
    fn new(encoder: &'a Encoder) -> Result<Self> {
        let Source::Events(plan) = &encoder.source else {
            return Err(Error::invalid("this model reads rows, not users' events")
                .hint("Score it with score_rows, or pass a row: predict_intent(model, named_struct(…))."));
        };
        let tables = plan.tabular.categorical_names().into_iter().map(|(_, table)| table).collect();
        Ok(Self {
            encoder,
            plan,
            tabular: TabularState::new(&plan.tabular),
            tables,
            ids: vec![CodeMap::default(); encoder.categorical.len()],
            sequence: SequenceState::default(),
            texts: vec![TextIds::default(); plan.texts.len()],
            numbers: Vec::new(),
            codes: Vec::new(),
            generation: 0,
            counts: EncodeCounts::default(),
        })
    }

    /// As [`Encoder::encode_history`]. `strings` must be of the same reader each time.
    ///
    /// # Errors
    /// `OutOfMemory` when the steps no longer fit their index.
    pub fn push(&mut self, history: &UserHistory, strings: &Strings, as_of_us: i64, out: &mut Inputs) -> Result<bool> {
        if strings.generation() != self.generation {
            self.generation = strings.generation();
            self.tabular.forget_codes();
            self.sequence.forget_codes();
            self.ids.iter_mut().for_each(CodeMap::clear);
            self.texts.iter_mut().for_each(TextIds::clear);
        }
        let events = history.view();
        let end = events.times_us.partition_point(|time| *time <= as_of_us);
        if end < self.plan.min_history.max(1) as usize {
            return Ok(false);
        }
        self.tabular.begin();
        self.append(&events, strings, end, as_of_us, out)?;
        Ok(true)
    }

    /// Starts another user for [`append`](Self::append).
    pub(super) fn begin(&mut self) {
        self.tabular.begin();
    }

    /// Appends the row at an anchor after the first `end` events; anchors of a user ascend.
    pub(super) fn append(&mut self, events: &Events<'_>, strings: &Strings, end: usize, as_of_us: i64, out: &mut Inputs) -> Result<()> {
        self.tabular.advance(&self.plan.tabular, events, strings, end);
        self.numbers.clear();
        self.codes.clear();
        self.tabular.emit(&self.plan.tabular, events, as_of_us, &mut self.numbers, &mut self.codes);
        for feature in &self.encoder.numeric {
            let raw = self.numbers[feature.source];
            self.counts.nulls += u64::from(raw.is_nan());
            out.numeric.push(feature.encode(raw));
        }
        for (feature, ids) in self.encoder.categorical.iter().zip(&mut self.ids) {
            let code = self.codes[feature.source];
            let table = self.tables[feature.source];
            let id = ids.get(code, NULL_ID, || feature.vocabulary.id(table.text(strings, code)));
            self.counts.count(id);
            out.categorical.push(id);
        }
        if let Some(plan) = &self.plan.sequence {
            let sequences = out.sequence.get_or_insert_with(Sequences::default);
            let start = end.saturating_sub(plan.max_len);
            let first = u32::try_from(sequences.numeric.len() / plan.shape().numeric).map_err(|_| too_many_steps())?;
            self.sequence.push(plan, events, strings, start, end, sequences);
            sequences.spans.push((first, (end - start) as u32));
        }
        self.attach(events, strings, end, out);
        out.rows += 1;
        Ok(())
    }

    /// Appends the latest picture and texts of the first `end` events.
    fn attach(&mut self, events: &Events<'_>, strings: &Strings, end: usize, out: &mut Inputs) {
        let columns = &self.plan.columns;
        if let Some(plan) = &self.plan.image {
            let column = columns.extra.len() + columns.text.len();
            let len = plan.shape.len().max(1);
            let codes = codes_of(events, column).unwrap_or_default();
            let seen = latest(codes, end).any(|code| plan.encode(Some(strings.extras[column].bytes_of(code)), &mut out.images));
            out.pictured.push(if seen { (out.images.len() / len - 1) as u32 } else { NO_PICTURE });
        }
        out.texts.resize_with(self.plan.texts.len(), Texts::default);
        for (at, (plan, ids)) in self.plan.texts.iter().zip(&mut self.texts).enumerate() {
            let column = columns.extra.len() + at;
            let table = &strings.extras[column];
            let words = |code, to: &mut Vec<u32>| to.extend(ids.get(code, |own| plan.encode(Some(table.get(code)), own)));
            let codes = codes_of(events, column).unwrap_or_default();
            push_history(codes, &[end], plan.max_len, words, &mut out.texts[at]);
        }
    }

    /// Values without a meaning of their own, so far.
    #[must_use]
    pub const fn counts(&self) -> EncodeCounts {
        self.counts
    }
}

/// The codes of a user's events in a text or picture column.
pub(super) fn codes_of<'a>(events: &Events<'a>, column: usize) -> Option<&'a [u32]> {
    match events.extras.get(column)? {
        Extra::Text(codes) => codes.get(events.offset..events.offset + events.times_us.len()),
        Extra::Number(_) => None,
    }
}

/// The codes before `end` that are not NULL, latest first.
pub(super) fn latest(codes: &[u32], end: usize) -> impl Iterator<Item = u32> + '_ {
    codes[..end.min(codes.len())].iter().rev().copied().filter(|code| *code != NULL_CODE)
}

pub(super) fn too_many_steps() -> Error {
    Error::new(Code::OutOfMemory, "too many events for one batch of rows").hint("Lower max_seq_len, or train on a sample.")
}

#[cfg(test)]
mod tests;
