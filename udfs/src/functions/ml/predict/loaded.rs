//! Models of the registry as [`Models`], and one loaded version as [`Predictor`].

use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, StringArray};
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use datafusion::execution::SessionState;
use futures::TryStreamExt;
use tokio::sync::OnceCell;

use super::answers::{Answers, Layout, Scored};
use super::models::{ModelFacts, Models};
use super::predictor::{GivenSequence, Key, Predictor, Tally};
use crate::context::{EventSource, HistoryProvider, StatementContext, UserHistories};
use crate::error::{Error, Result};
use crate::features::events::UserKey;
use crate::features::inputs::Inputs;
use crate::features::{KeyType, UserReader};
use crate::functions::MlContext;
use crate::registry::{LoadedModel, ModelRef};
use crate::train::Scores;

/// Rows encoded before they are scored.
pub(in crate::functions::ml) const CHUNK_ROWS: usize = 1024;
/// Bytes of encoded rows that are scored at once at most.
pub(in crate::functions::ml) const CHUNK_BYTES: usize = 8 << 20;

/// Probabilities that are held at once at most.
const CHUNK_PROBABILITIES: usize = 1 << 22;

/// Rows of `model` encoded before they are scored: fewer where there are many classes.
pub(in crate::functions::ml) fn chunk_rows(model: &LoadedModel) -> usize {
    CHUNK_ROWS.min(CHUNK_PROBABILITIES / model.scorer.config().outputs.max(1)).max(1)
}

/// The models of a program.
#[derive(Debug)]
pub(super) struct RegisteredModels {
    pub(super) context: Arc<MlContext>,
}

#[async_trait]
impl Models for RegisteredModels {
    fn pin(&self, requested: &str) -> Result<(ModelRef, ModelFacts)> {
        let model = self.context.registry.resolve(requested)?;
        let info = self.context.registry.info(&model)?;
        let columns = info.source.as_ref().and_then(|source| source.columns.as_ref());
        let key_type = columns.map(|columns| columns.key_type);
        let facts = ModelFacts { classes: info.classes.clone(), arch: info.arch.clone(), key_type };
        Ok((model, facts))
    }

    async fn open(&self, model: &ModelRef, session: &Arc<SessionState>) -> Result<Arc<dyn Predictor>> {
        let caller = StatementContext::of(session.config());
        self.context.registry.authorize(&caller.user, &model.name, crate::registry::ModelAction::Execute)?;
        let model = self.context.registry.load_to_answer(model).await?;
        let source = event_source(&model);
        Ok(Arc::new(LoadedPredictor {
            model,
            source,
            provider: Arc::clone(&self.context.histories),
            session: Arc::clone(session),
            histories: OnceCell::new(),
        }))
    }
}

/// The events a version was trained on; `None` for a model of labelled rows.
pub(in crate::functions::ml) fn event_source(model: &LoadedModel) -> Option<EventSource> {
    let source = model.manifest.info.source.as_ref()?;
    Some(EventSource { sql: source.sql.clone(), columns: source.columns.clone()? })
}

/// A loaded version and, once somebody asks about users, their histories.
struct LoadedPredictor {
    model: Arc<LoadedModel>,
    source: Option<EventSource>,
    provider: Arc<dyn HistoryProvider>,
    session: Arc<SessionState>,
    histories: OnceCell<Arc<dyn UserHistories>>,
}

impl fmt::Debug for LoadedPredictor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadedPredictor").field("model", &self.model.reference).finish_non_exhaustive()
    }
}

impl LoadedPredictor {
    fn source(&self) -> Result<&EventSource> {
        self.source.as_ref().ok_or_else(|| Error::internal("a model of labelled rows has no histories"))
    }

    async fn histories(&self) -> Result<&Arc<dyn UserHistories>> {
        let source = self.source()?;
        self.histories.get_or_try_init(|| self.provider.open(&self.session, source)).await
    }

    /// Scores what is encoded and adds it to `answers`, a NULL row where nothing could be encoded.
    fn flush(&self, inputs: &mut Inputs, encoded: &mut Vec<bool>, answers: &mut Answers, tally: &Tally) -> Result<()> {
        let scores = self.model.scorer.score(inputs)?;
        tally.forward_passes.add(inputs.rows);
        let mut row = 0;
        for known in encoded.drain(..) {
            if known {
                answers.push(scored(&scores, row));
                row += 1;
            } else {
                answers.push_null();
            }
        }
        inputs.clear();
        Ok(())
    }
}

#[async_trait]
impl Predictor for LoadedPredictor {
    fn classes(&self) -> &[String] {
        &self.model.manifest.info.classes
    }

    fn key_type(&self) -> Option<KeyType> {
        self.source.as_ref().map(|source| source.columns.key_type)
    }

    fn embedding_dim(&self) -> usize {
        self.model.scorer.embedding_dim()
    }

    async fn watermark_us(&self) -> Result<Option<i64>> {
        Ok(self.histories().await?.watermark_us())
    }

    async fn users(&self, keys: &[Key], layout: &Arc<Layout>, tally: &Tally) -> Result<Answers> {
        let columns = &self.source()?.columns;
        tally.lookups.add(1);
        let mut stream = self.histories().await?.lookup(user_array(keys, columns.key_type)).await?;
        let mut reader = UserReader::new(stream.schema(), columns)?;
        let mut encoder = self.model.manifest.preprocessor.history_encoder()?;
        let cancel = StatementContext::of(self.session.config()).cancel.clone();
        let mut answers = Answers::new(layout);
        let mut inputs = Inputs::default();
        let mut encoded = Vec::new();
        let mut next = 0;
        let mut more = true;
        while more {
            match stream.try_next().await.map_err(Error::from_engine)? {
                Some(batch) => reader.push(&batch)?,
                None => more = false,
            }
            while let Some(history) = if more { reader.next_user() } else { finish(&mut reader) } {
                // Keys without events come before the next history; the same user may be asked about at several moments.
                while let Some((user, at_us)) = keys.get(next).filter(|(user, _)| *user <= history.user) {
                    let known = *user == history.user && encoder.push(&history, reader.strings(), *at_us, &mut inputs)?;
                    encoded.push(known);
                    next += 1;
                }
                reader.recycle(history);
                if inputs.rows >= chunk_rows(&self.model) || inputs.bytes() >= CHUNK_BYTES {
                    if cancel.is_cancelled() {
                        return Err(Error::cancelled());
                    }
                    self.flush(&mut inputs, &mut encoded, &mut answers, tally)?;
                    tokio::task::yield_now().await;
                }
            }
        }
        encoded.resize(encoded.len() + keys.len() - next, false);
        self.flush(&mut inputs, &mut encoded, &mut answers, tally)?;
        Ok(answers)
    }

    fn rows(&self, rows: &RecordBatch, layout: &Arc<Layout>, tally: &Tally) -> Result<Answers> {
        let mut answers = Answers::new(layout);
        let encoder = &self.model.manifest.preprocessor;
        let chunk = encoder.shape().pass_rows(CHUNK_ROWS);
        for start in (0..rows.num_rows()).step_by(chunk) {
            let (mut inputs, mut encoded) = encoder.encode_known_rows(&rows.slice(start, chunk.min(rows.num_rows() - start)))?;
            self.flush(&mut inputs, &mut encoded, &mut answers, tally)?;
        }
        Ok(answers)
    }

    fn sequences(&self, given: &[GivenSequence<'_>], layout: &Arc<Layout>, tally: &Tally) -> Result<Answers> {
        let mut answers = Answers::new(layout);
        let mut inputs = Inputs::default();
        let mut encoded = Vec::new();
        for row in given {
            let one = match row {
                Some(row) if !row.events.is_empty() => {
                    Some(self.model.manifest.preprocessor.encode_sequence(&row.events, row.items.as_deref(), row.times_us.as_deref())?)
                }
                _ => None,
            };
            encoded.push(one.as_ref().is_some_and(|one| one.rows == 1));
            if let Some(one) = one {
                inputs.append(one);
            }
            if inputs.rows >= chunk_rows(&self.model) {
                self.flush(&mut inputs, &mut encoded, &mut answers, tally)?;
            }
        }
        self.flush(&mut inputs, &mut encoded, &mut answers, tally)?;
        Ok(answers)
    }
}

fn finish(reader: &mut UserReader) -> Option<crate::features::UserHistory> {
    reader.next_user().or_else(|| reader.finish())
}

/// The distinct users of sorted keys.
fn user_array(keys: &[Key], key_type: KeyType) -> ArrayRef {
    let mut users: Vec<&UserKey> = keys.iter().map(|(user, _)| user).collect();
    users.dedup();
    key_array(users.into_iter(), key_type)
}

/// Keys as a column of their type.
pub(in crate::functions) fn key_array<'a>(keys: impl Iterator<Item = &'a UserKey>, key_type: KeyType) -> ArrayRef {
    match key_type {
        KeyType::Int64 => {
            Arc::new(keys.map(|key| if let UserKey::Int64(number) = key { Some(*number) } else { None }).collect::<Int64Array>())
        }
        KeyType::Utf8 => {
            Arc::new(keys.map(|key| if let UserKey::Utf8(text) = key { Some(text.as_ref()) } else { None }).collect::<StringArray>())
        }
    }
}

/// One row of scores.
pub(in crate::functions::ml) fn scored(scores: &Scores, row: usize) -> Scored<'_> {
    let part = |width: usize| row * width..(row + 1) * width;
    Scored {
        probabilities: &scores.probabilities[part(scores.classes)],
        value: scores.values.get(row).copied().unwrap_or(f64::NAN),
        embedding: &scores.embedding[part(scores.embedding_dim)],
    }
}
