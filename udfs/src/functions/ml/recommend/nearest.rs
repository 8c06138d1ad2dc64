//! `nearest(model, embedding, k => 10, source => NULL, as_of => NULL)`, and the search that it shares with `similar_users`.

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::error::Result as DfResult;
use datafusion::execution::SendableRecordBatchStream;
use futures::TryStreamExt;
use parking_lot::Mutex;

use super::rows::{user_rows, user_schema};
use super::scan::{Visitor, Waiting, scan};
use super::subject::{self, Subject};
use crate::error::{Error, Result};
use crate::features::events::UserKey;
use crate::functions::MlContext;
use crate::functions::relation::{Argument, Arguments, Call, Kind, MlRelation, Parameter};
use crate::train::Scorer;
use crate::train::retrieve::Top;

/// Users compared at once.
pub(super) const USERS_AT_ONCE: usize = 1024;

/// Users near a vector.
#[derive(Debug)]
pub struct Nearest;

impl MlRelation for Nearest {
    fn name(&self) -> &'static str {
        "nearest"
    }

    fn parameters(&self) -> &'static [Parameter] {
        const PARAMETERS: &[Parameter] = &[
            subject::MODEL,
            Parameter::required(
                "embedding",
                Kind::Any,
                "A vector as embed_user of the same model gives it, scaled or not: real[], or its text. NULL has no rows.",
            ),
            subject::K,
            subject::SOURCE,
            subject::AS_OF,
        ];
        PARAMETERS
    }

    fn doc(&self) -> &'static str {
        "The users whose embeddings are nearest to a vector, by cosine similarity, nearest first. Exact: every user of the source is embedded \
         and compared, in bounded memory. Users whose history is shorter than `min_history` are not among them."
    }

    fn example(&self) -> &'static str {
        "SELECT user_id, similarity FROM nearest('browser', '[0.1, 0.7, -0.2, 0.4, 0.3, -0.5, 0.2, 0.6]', k => 5)"
    }

    fn schema(&self, args: &Arguments, _source: Option<&Schema>, context: &MlContext) -> Result<SchemaRef> {
        Ok(user_schema(subject::key_type(args, context)?))
    }

    fn execute(&self, call: Call) -> Result<SendableRecordBatchStream> {
        subject::k(&call.args)?;
        let own = call.clone();
        Ok(call.once(async move { rows(&own).await }))
    }
}

async fn rows(call: &Call) -> DfResult<RecordBatch> {
    let subject = Subject::open(call).await?;
    let Some(Argument::Any(given)) = call.args.get("embedding") else {
        return Ok(RecordBatch::new_empty(Arc::clone(&call.schema)));
    };
    let vector = subject::vector(given)?;
    let dim = subject.model.scorer.embedding_dim();
    if vector.len() != dim {
        return Err(Error::invalid(format!(
            "the vector has {} elements, embeddings of {} have {dim}",
            vector.len(),
            subject.model.reference
        ))
        .hint("Take it from embed_user of the same model.")
        .into());
    }
    search(call, subject, &vector, None).await
}

/// The users nearest to `vector`, `except` not among them.
pub(super) async fn search(call: &Call, subject: Subject, vector: &[f32], except: Option<UserKey>) -> DfResult<RecordBatch> {
    let k = subject::k(&call.args)?;
    let scorer = subject.model.scorer.clone();
    let near = Arc::new(Near { scorer, to: unit(vector), except, top: Mutex::new(Top::new(k)) });
    let visitor = Arc::clone(&near) as Arc<dyn Visitor>;
    let cancel = call.statement().cancel.clone();
    let mut rest = scan(Arc::new(subject), visitor, &call.task, Arc::clone(&call.schema), cancel).await?;
    while rest.try_next().await?.is_some() {}
    let found = near.top.lock().clone().into_sorted();
    Ok(user_rows(&found, &call.schema)?)
}

/// In double precision and of length 1; zeros stay zeros.
pub(super) fn unit(vector: &[f32]) -> Vec<f64> {
    let norm = vector.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
    vector.iter().map(|x| if norm > 0.0 { f64::from(*x) / norm } else { 0.0 }).collect()
}

struct Near {
    scorer: Scorer,
    to: Vec<f64>,
    except: Option<UserKey>,
    top: Mutex<Top<UserKey>>,
}

impl Visitor for Near {
    fn visit(&self, waiting: &Waiting) -> Result<Option<RecordBatch>> {
        let embeddings = self.scorer.embeddings(&waiting.inputs)?;
        let mut top = self.top.lock();
        for (user, embedding) in waiting.users.iter().zip(embeddings.chunks_exact(self.to.len().max(1))) {
            if Some(user) != self.except.as_ref() {
                let own = unit(embedding);
                top.offer(own.iter().zip(&self.to).map(|(x, y)| x * y).sum(), user.clone());
            }
        }
        Ok(None)
    }

    fn users_at_once(&self) -> usize {
        USERS_AT_ONCE
    }
}
