//! `lookalike(model, audience, size => 1000, exclude => NULL, source => NULL, as_of => NULL)`

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::StringArray;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::error::Result as DfResult;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::memory_pool::MemoryConsumer;
use futures::TryStreamExt;
use parking_lot::Mutex;

use super::nearest::{USERS_AT_ONCE, unit};
use super::rows::{user_rows, user_schema};
use super::scan::{Visitor, Waiting, scan};
use super::subject::{self, Subject};
use crate::context::{AudienceRef, UserNumbers};
use crate::error::{Code, Error, Result};
use crate::features::events::UserKey;
use crate::functions::MlContext;
use crate::functions::relation::{Arguments, Call, Kind, MlRelation, Parameter};
use crate::kernels::bitmap::Bitmap;
use crate::train::Scorer;

/// Users of one answer at most.
const SIZE_MAX: i64 = 1_000_000;
/// Embeddings are summed as whole numbers of this part, so that the sum does not depend on the order of the users.
const PART: f64 = 1.0 / (1_i64 << 40) as f64;

/// Users like those of an audience.
#[derive(Debug)]
pub struct Lookalike;

impl MlRelation for Lookalike {
    fn name(&self) -> &'static str {
        "lookalike"
    }

    fn parameters(&self) -> &'static [Parameter] {
        const PARAMETERS: &[Parameter] = &[
            subject::MODEL,
            Parameter::required("audience", Kind::Text, "The seeds: `name` (the newest version) or `name@3`."),
            Parameter::optional("size", Kind::Integer, "1000", "How many users at most, from 1 to 1000000."),
            Parameter::optional("exclude", Kind::Text, "NULL", "An audience whose users are not among them either."),
            subject::SOURCE,
            subject::AS_OF,
        ];
        PARAMETERS
    }

    fn doc(&self) -> &'static str {
        "The users most like those of an audience, its own users not among them: everybody's embedding is compared, by cosine similarity, \
         with the mean of the seeds' unit embeddings; the most similar first. Exact, in two passes over the source, in bounded memory. Users \
         whose history is shorter than `min_history` neither count as seeds nor are found. CREATE AUDIENCE more AS SELECT user_id FROM \
         lookalike(…) keeps them."
    }

    fn example(&self) -> &'static str {
        "SELECT user_id, similarity FROM lookalike('browser', 'germans', size => 5)"
    }

    fn schema(&self, args: &Arguments, _source: Option<&Schema>, context: &MlContext) -> Result<SchemaRef> {
        args.integer_in("size", 1000, 1..=SIZE_MAX)?;
        for argument in ["audience", "exclude"] {
            if let Some(name) = args.text(argument) {
                AudienceRef::resolve(&*context.audiences, name)?;
            }
        }
        Ok(user_schema(subject::key_type(args, context)?))
    }

    fn execute(&self, call: Call) -> Result<SendableRecordBatchStream> {
        let own = call.clone();
        Ok(call.once(async move { rows(&own).await }))
    }
}

/// The users of an audience.
struct Crowd {
    members: Arc<Bitmap>,
    numbers: Arc<dyn UserNumbers>,
}

impl Crowd {
    async fn open(call: &Call, name: &str) -> Result<Self> {
        let audiences = &call.context.audiences;
        let found = AudienceRef::resolve(&**audiences, name)?;
        audiences.check(&call.statement().user, &found.name)?;
        let members = audiences.members(&found.name, found.version).await?;
        let numbers = audiences.numbers().await?;
        Ok(Self { members: numbers.persons(&members), numbers })
    }

    /// Which of some users are in it.
    fn holds(&self, users: &[UserKey]) -> Vec<bool> {
        let names: StringArray = users
            .iter()
            .map(|user| match user {
                UserKey::Int64(key) => Some(key.to_string()),
                UserKey::Utf8(key) => Some(key.to_string()),
            })
            .collect();
        self.numbers.find(&names).into_iter().map(|number| number.is_some_and(|number| self.members.contains(number))).collect()
    }
}

async fn rows(call: &Call) -> DfResult<RecordBatch> {
    let size = usize::try_from(call.args.integer_in("size", 1000, 1..=SIZE_MAX)?).unwrap_or(1000);
    let subject = Arc::new(Subject::open(call).await?);
    let seeds = Arc::new(Crowd::open(call, call.args.required_text("audience")?).await?);
    let mut except = vec![Arc::clone(&seeds)];
    if let Some(name) = call.args.text("exclude") {
        except.push(Arc::new(Crowd::open(call, name).await?));
    }
    let scorer = subject.model.scorer.clone();
    let dim = scorer.embedding_dim();
    let mean = Arc::new(Mean { scorer: scorer.clone(), seeds, sum: Mutex::new((vec![0; dim], 0)) });
    all(call, &subject, Arc::clone(&mean) as Arc<dyn Visitor>).await?;
    let (sum, count) = mean.sum.lock().clone();
    if count == 0 {
        return Err(Error::new(Code::InvalidParameter, "no user of the audience can be embedded")
            .detail("The source has none of them, or their histories are shorter than min_history.")
            .into());
    }
    let to: Vec<f32> = sum.iter().map(|part| (*part as f64 * PART / f64::from(count)) as f32).collect();
    let memory = MemoryConsumer::new("lookalike").register(&call.task.runtime_env().memory_pool);
    memory.try_resize(2 * size * size_of::<(f64, UserKey)>())?;
    let like = Arc::new(Like { scorer, to: unit(&to), except, best: Mutex::new(Best { size, held: Vec::new() }) });
    all(call, &subject, Arc::clone(&like) as Arc<dyn Visitor>).await?;
    let found = like.best.lock().take();
    Ok(user_rows(&found, &call.schema)?)
}

/// The best of many, whose order is that of their scores, equal ones by key.
struct Best {
    size: usize,
    /// At most twice as many as are kept.
    held: Vec<(f64, UserKey)>,
}

impl Best {
    fn order(a: &(f64, UserKey), b: &(f64, UserKey)) -> Ordering {
        b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1))
    }

    fn offer(&mut self, score: f64, user: &UserKey) {
        if score.is_nan() {
            return;
        }
        if self.held.len() == 2 * self.size {
            self.held.select_nth_unstable_by(self.size, Self::order);
            self.held.truncate(self.size);
        }
        self.held.push((score, user.clone()));
    }

    fn take(&mut self) -> Vec<(f64, UserKey)> {
        let mut held = std::mem::take(&mut self.held);
        held.sort_unstable_by(Self::order);
        held.truncate(self.size);
        held
    }
}

/// Shows everybody to a visitor.
async fn all(call: &Call, subject: &Arc<Subject>, visitor: Arc<dyn Visitor>) -> DfResult<()> {
    let cancel = call.statement().cancel.clone();
    let mut rest = scan(Arc::clone(subject), visitor, &call.task, Arc::clone(&call.schema), cancel).await?;
    while rest.try_next().await?.is_some() {}
    Ok(())
}

/// Sums the unit embeddings of the seeds.
struct Mean {
    scorer: Scorer,
    seeds: Arc<Crowd>,
    sum: Mutex<(Vec<i128>, u32)>,
}

impl Visitor for Mean {
    fn visit(&self, waiting: &Waiting) -> Result<Option<RecordBatch>> {
        let seeds = self.seeds.holds(&waiting.users);
        if !seeds.contains(&true) {
            return Ok(None);
        }
        let embeddings = self.scorer.embeddings(&waiting.inputs)?;
        let mut sum = self.sum.lock();
        let (sums, count) = &mut *sum;
        for (_, embedding) in seeds.iter().zip(embeddings.chunks_exact(sums.len().max(1))).filter(|(seed, _)| **seed) {
            for (sum, part) in sums.iter_mut().zip(unit(embedding)) {
                *sum += (part / PART) as i128;
            }
            *count += 1;
        }
        Ok(None)
    }

    fn users_at_once(&self) -> usize {
        USERS_AT_ONCE
    }
}

/// Keeps the most similar users.
struct Like {
    scorer: Scorer,
    to: Vec<f64>,
    except: Vec<Arc<Crowd>>,
    best: Mutex<Best>,
}

impl Visitor for Like {
    fn visit(&self, waiting: &Waiting) -> Result<Option<RecordBatch>> {
        let embeddings = self.scorer.embeddings(&waiting.inputs)?;
        let left_out: Vec<Vec<bool>> = self.except.iter().map(|crowd| crowd.holds(&waiting.users)).collect();
        let mut best = self.best.lock();
        for (row, embedding) in embeddings.chunks_exact(self.to.len().max(1)).enumerate() {
            if left_out.iter().all(|crowd| !crowd[row]) {
                let own = unit(embedding);
                best.offer(own.iter().zip(&self.to).map(|(x, y)| x * y).sum(), &waiting.users[row]);
            }
        }
        Ok(None)
    }

    fn users_at_once(&self) -> usize {
        USERS_AT_ONCE
    }
}
