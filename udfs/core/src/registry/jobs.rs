//! Trainings: queued, running and ended, as `ml.jobs` shows them.
//!
//! A job lives in memory while it runs; a small file per job carries it over a restart and to other processes. A
//! file that says `training` when the table is opened is an orphan of a process that is gone: it becomes `failed`.
//! Losing a job's file loses a line of history and nothing else, so a failing write is logged, never an error.
//!
//! Absent on purpose: how to train. Whoever trains holds a [`JobHandle`], asks its token and tells it the progress.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use object_store::ObjectStore;
use object_store::path::Path;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;

use super::manifest::FORMAT_VERSION;
use super::now_us;
use super::store::{Object, Put, Store, document};
use crate::error::{Code, Error, Result};

/// Ended jobs that are remembered.
const ENDED_MAX: usize = 500;
const HEARTBEAT: Duration = Duration::from_secs(5);
const ORPHAN: &str = "the server stopped while the job was running";

/// Where a job is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobState {
    /// Waits for the device.
    Queued,
    /// Runs.
    Training,
    /// Done; its version is not the active one.
    Ready,
    /// Done; its version was made active.
    Active,
    /// Ended with an error.
    Failed,
    /// Stopped by somebody.
    Cancelled,
}

impl JobState {
    /// The word that views show.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Training => "training",
            Self::Ready => "ready",
            Self::Active => "active",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether the job is over.
    pub fn ended(self) -> bool {
        !matches!(self, Self::Queued | Self::Training)
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is to be trained.
#[derive(Debug, Clone)]
pub struct JobRequest {
    /// Model name.
    pub model: String,
    /// The version to be.
    pub version: u32,
    /// Who asked.
    pub owner: String,
    /// The statement.
    pub statement: String,
}

/// How far a training is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct JobProgress {
    /// 0 to 1.
    pub fraction: f64,
    /// Seconds to go, if that can be said.
    pub eta_seconds: Option<f64>,
    /// Epoch, batch, loss, rows/s in words.
    pub message: String,
}

/// One row of `ml.jobs`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobInfo {
    /// Counts from 1 in one registry.
    pub job_id: i64,
    /// Model name when the job began.
    pub model: String,
    /// The version that it makes.
    pub version: u32,
    /// Where it is.
    pub state: JobState,
    /// 0 to 1.
    pub progress: f64,
    /// Seconds to go, while it runs.
    pub eta_seconds: Option<f64>,
    /// Microseconds since 1970 UTC.
    pub started_at_us: i64,
    /// Microseconds since 1970 UTC; renewed every five seconds while it runs.
    pub heartbeat_us: i64,
    /// How it goes, or how it ended.
    pub message: String,
    /// Who asked.
    pub owner: String,
    /// The statement.
    pub statement: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct JobFile {
    format_version: u32,
    /// The table that wrote it; two that claim one id at once are told apart by it.
    writer: String,
    #[serde(flatten)]
    info: JobInfo,
}

/// A job in memory.
#[derive(Debug)]
struct Job {
    info: Mutex<JobInfo>,
    cancel: CancellationToken,
    ended: watch::Sender<bool>,
}

impl Job {
    fn update(&self, progress: JobProgress) {
        let mut info = self.info.lock();
        if !info.state.ended() {
            info.progress = if progress.fraction.is_finite() { progress.fraction.clamp(0.0, 1.0) } else { info.progress };
            info.eta_seconds = progress.eta_seconds.filter(|eta| eta.is_finite());
            info.message = progress.message;
            info.heartbeat_us = now_us();
        }
    }
}

/// A job that runs in this process. Dropped without [`finish`](Self::finish), the job is `cancelled`.
#[derive(Debug)]
pub struct JobHandle {
    /// Its id.
    pub id: i64,
    /// Fired by `cancel_training` and at shutdown.
    pub cancel: CancellationToken,
    job: Arc<Job>,
    jobs: Arc<Jobs>,
}

impl JobHandle {
    /// Waits for its turn on the training device, `queued` meanwhile; then `training` until the permit is dropped.
    ///
    /// # Errors
    /// 57014 when cancelled while waiting.
    pub async fn wait_for_turn(&self) -> Result<OwnedSemaphorePermit> {
        let permit = tokio::select! {
            biased;
            () = self.cancel.cancelled() => return Err(Error::cancelled()),
            permit = Arc::clone(&self.jobs.slots).acquire_owned() => permit,
        };
        let permit = permit.map_err(|_| Error::cancelled())?;
        {
            let mut info = self.job.info.lock();
            info.state = JobState::Training;
            info.heartbeat_us = now_us();
        }
        self.jobs.persist(&self.job).await;
        Ok(permit)
    }

    /// Tells how far it is; never waits, callable from the training thread.
    pub fn update(&self, progress: JobProgress) {
        self.job.update(progress);
    }

    /// What the training thread calls to do as [`update`](Self::update) does.
    pub fn updater(&self) -> impl Fn(JobProgress) + Send + Sync + 'static {
        let job = Arc::clone(&self.job);
        move |progress| job.update(progress)
    }

    /// What the table says of it now.
    pub fn info(&self) -> JobInfo {
        self.job.info.lock().clone()
    }

    /// Ends the job: `Ready`, `Active`, `Failed` or `Cancelled`.
    pub async fn finish(self, state: JobState, message: &str) {
        self.end(state, message);
        self.jobs.persist(&self.job).await;
        self.jobs.forget_old().await;
    }

    fn end(&self, state: JobState, message: &str) {
        {
            let mut info = self.job.info.lock();
            if info.state.ended() {
                return;
            }
            info.state = state;
            info.eta_seconds = None;
            info.heartbeat_us = now_us();
            message.clone_into(&mut info.message);
            if matches!(state, JobState::Ready | JobState::Active) {
                info.progress = 1.0;
            }
        }
        self.job.ended.send_replace(true);
    }
}

impl Drop for JobHandle {
    fn drop(&mut self) {
        if self.job.info.lock().state.ended() {
            return;
        }
        self.cancel.cancel();
        self.end(JobState::Cancelled, "the statement ended before the job did");
        let (jobs, job) = (Arc::clone(&self.jobs), Arc::clone(&self.job));
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { jobs.persist(&job).await });
        }
    }
}

/// All jobs of a registry.
#[derive(Debug)]
pub struct Jobs {
    store: Store,
    writer: String,
    table: Mutex<BTreeMap<i64, Arc<Job>>>,
    slots: Arc<Semaphore>,
    heartbeat: Duration,
}

impl Jobs {
    /// Opens the table under `prefix` (the registry's); jobs that a stopped process left running become `failed`. At
    /// most `slots` trainings run at a time, later ones are `queued`. One process at a time opens a table.
    ///
    /// # Errors
    /// 58030 when the store cannot be listed. Damaged files are left out with a warning in the log.
    pub async fn open(store: Arc<dyn ObjectStore>, prefix: Path, slots: usize) -> Result<Arc<Self>> {
        Self::open_beating(store, prefix, slots, HEARTBEAT).await
    }

    async fn open_beating(store: Arc<dyn ObjectStore>, prefix: Path, slots: usize, heartbeat: Duration) -> Result<Arc<Self>> {
        let jobs = Arc::new(Self {
            store: Store::new(store, prefix),
            writer: uuid::Uuid::new_v4().simple().to_string(),
            table: Mutex::default(),
            slots: Arc::new(Semaphore::new(slots.max(1))),
            heartbeat,
        });
        for (object, meta) in jobs.store.list(&jobs.store.jobs()).await? {
            let Object::Job { id } = object else { continue };
            match jobs.store.read_document::<JobFile>(&meta.location).await {
                Ok(Some(file)) => jobs.adopt(id, file.info).await,
                Ok(None) => {}
                Err(error) => tracing::warn!(%error, "a job is left out of the history"),
            }
        }
        jobs.forget_old().await;
        Ok(jobs)
    }

    /// A new job, `queued`. Cancelling `parent` (the statement's token, say) cancels it.
    ///
    /// # Errors
    /// 58030 or 53100 when the store fails.
    pub async fn start(self: &Arc<Self>, request: JobRequest, parent: &CancellationToken) -> Result<JobHandle> {
        let now = now_us();
        let mut info = JobInfo {
            job_id: self.table.lock().keys().next_back().copied().unwrap_or(0) + 1,
            model: request.model,
            version: request.version,
            state: JobState::Queued,
            progress: 0.0,
            eta_seconds: None,
            started_at_us: now,
            heartbeat_us: now,
            message: String::new(),
            owner: request.owner,
            statement: request.statement,
        };
        loop {
            let file = self.file(&info);
            if self.store.create(&self.store.job(info.job_id), document(&file)?).await? == Put::Created {
                break;
            }
            info.job_id += 1;
        }
        let id = info.job_id;
        let job = Arc::new(Job { info: Mutex::new(info), cancel: parent.child_token(), ended: watch::Sender::new(false) });
        self.table.lock().insert(id, Arc::clone(&job));
        self.beat(&job);
        Ok(JobHandle { id, cancel: job.cancel.clone(), job, jobs: Arc::clone(self) })
    }

    /// Asks a job to stop at its next batch. `false` when it has ended already.
    ///
    /// # Errors
    /// 42704 when there is no such job.
    pub fn cancel(&self, job_id: i64) -> Result<bool> {
        let job = self.table.lock().get(&job_id).map(Arc::clone).ok_or_else(|| unknown(job_id))?;
        let running = !job.info.lock().state.ended();
        if running {
            job.cancel.cancel();
        }
        Ok(running)
    }

    /// Stops every job and waits for them to end, `grace` at most.
    pub async fn shutdown(&self, grace: Duration) {
        let running: Vec<Arc<Job>> = self.table.lock().values().filter(|job| !job.info.lock().state.ended()).map(Arc::clone).collect();
        for job in &running {
            job.cancel.cancel();
        }
        let ended = futures::future::join_all(running.iter().map(|job| ended(job)));
        if tokio::time::timeout(grace, ended).await.is_err() {
            tracing::warn!("trainings were still running at shutdown");
        }
    }

    /// Waits until no training of `model` runs. What its newest job came to; `None` when it has none.
    ///
    /// # Errors
    /// 57014 when that takes longer than `timeout`.
    pub async fn wait_for(&self, model: &str, timeout: Option<Duration>) -> Result<Option<JobInfo>> {
        let wait = async {
            loop {
                let of_model = |job: &&Arc<Job>| job.info.lock().model == model;
                let running = self.table.lock().values().filter(of_model).find(|job| !job.info.lock().state.ended()).map(Arc::clone);
                match running {
                    Some(job) => ended(&job).await,
                    None => return self.list().into_iter().find(|info| info.model == model),
                }
            }
        };
        let Some(timeout) = timeout else { return Ok(wait.await) };
        tokio::time::timeout(timeout, wait).await.map_err(|_| {
            Error::new(Code::Cancelled, format!("model \"{model}\" is still training after {} seconds", timeout.as_secs_f64()))
                .hint("Watch it in ml.jobs, or wait longer.")
        })
    }

    /// One job.
    ///
    /// # Errors
    /// 42704 when there is no such job.
    pub fn get(&self, job_id: i64) -> Result<JobInfo> {
        self.table.lock().get(&job_id).map(|job| job.info.lock().clone()).ok_or_else(|| unknown(job_id))
    }

    /// Rows of `ml.jobs`, newest first.
    pub fn list(&self) -> Vec<JobInfo> {
        self.table.lock().values().rev().map(|job| job.info.lock().clone()).collect()
    }

    fn file(&self, info: &JobInfo) -> JobFile {
        JobFile { format_version: FORMAT_VERSION, writer: self.writer.clone(), info: info.clone() }
    }

    /// A job of an earlier process.
    async fn adopt(&self, id: i64, mut info: JobInfo) {
        let orphan = !info.state.ended();
        info.job_id = id;
        if orphan {
            info.state = JobState::Failed;
            info.eta_seconds = None;
            ORPHAN.clone_into(&mut info.message);
        }
        let job = Arc::new(Job { info: Mutex::new(info), cancel: CancellationToken::new(), ended: watch::Sender::new(true) });
        if orphan {
            self.persist(&job).await;
        }
        self.table.lock().insert(id, job);
    }

    async fn persist(&self, job: &Job) {
        let info = job.info.lock().clone();
        if let Err(error) = self.store.replace_document(&self.store.job(info.job_id), &self.file(&info)).await {
            tracing::warn!(%error, job = info.job_id, "a job's state could not be written");
        }
    }

    /// Renews the heartbeat until the job ends.
    fn beat(self: &Arc<Self>, job: &Arc<Job>) {
        let (jobs, job) = (Arc::clone(self), Arc::clone(job));
        tokio::spawn(async move {
            while tokio::time::timeout(jobs.heartbeat, ended(&job)).await.is_err() {
                job.info.lock().heartbeat_us = now_us();
                jobs.persist(&job).await;
            }
        });
    }

    /// Keeps the history bounded: the oldest ended jobs go.
    async fn forget_old(&self) {
        let old: Vec<i64> = {
            let mut table = self.table.lock();
            let ended: Vec<i64> = table.iter().filter(|(_, job)| job.info.lock().state.ended()).map(|(id, _)| *id).collect();
            let old = ended[..ended.len().saturating_sub(ENDED_MAX)].to_vec();
            for id in &old {
                table.remove(id);
            }
            old
        };
        for id in old {
            if let Err(error) = self.store.delete(&self.store.job(id)).await {
                tracing::warn!(%error, "an old job's file stays");
            }
        }
    }
}

async fn ended(job: &Job) {
    // The sender lives in the job, which is borrowed: waiting cannot fail.
    let _ = job.ended.subscribe().wait_for(|ended| *ended).await;
}

fn unknown(job_id: i64) -> Error {
    Error::new(Code::UndefinedObject, format!("job {job_id} does not exist")).hint("List the jobs with SELECT * FROM ml.jobs.")
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use super::*;

    fn request(model: &str) -> JobRequest {
        JobRequest { model: model.into(), version: 1, owner: "ann".into(), statement: "SELECT 1".into() }
    }

    async fn open(store: &Arc<InMemory>) -> Arc<Jobs> {
        Jobs::open(Arc::<InMemory>::clone(store), Path::from("ml"), 1).await.unwrap()
    }

    #[tokio::test]
    async fn a_job_goes_through_its_states() {
        let store = Arc::new(InMemory::new());
        let jobs = open(&store).await;
        let handle = jobs.start(request("a"), &CancellationToken::new()).await.unwrap();
        assert_eq!(handle.info().state, JobState::Queued);
        let permit = handle.wait_for_turn().await.unwrap();
        handle.update(JobProgress { fraction: 0.5, eta_seconds: Some(3.0), message: "epoch 1 of 2".into() });
        let info = jobs.get(handle.id).unwrap();
        assert_eq!((info.state, info.progress, info.eta_seconds), (JobState::Training, 0.5, Some(3.0)));
        handle.update(JobProgress { fraction: f64::NAN, eta_seconds: Some(f64::INFINITY), message: String::new() });
        assert_eq!((handle.info().progress, handle.info().eta_seconds), (0.5, None));
        drop(permit);
        let id = handle.id;
        handle.finish(JobState::Active, "done").await;
        let info = jobs.get(id).unwrap();
        assert_eq!((info.state, info.progress, info.message.as_str()), (JobState::Active, 1.0, "done"));
        assert_eq!(open(&store).await.list(), jobs.list());
        assert!(!jobs.cancel(id).unwrap());
        assert_eq!(jobs.cancel(99).unwrap_err().code, Code::UndefinedObject);
    }

    #[tokio::test]
    async fn orphans_fail_after_a_restart() {
        let store = Arc::new(InMemory::new());
        let jobs = open(&store).await;
        let queued = jobs.start(request("a"), &CancellationToken::new()).await.unwrap();
        let running = jobs.start(request("b"), &CancellationToken::new()).await.unwrap();
        let _permit = running.wait_for_turn().await.unwrap();
        let after = open(&store).await;
        for id in [queued.id, running.id] {
            let info = after.get(id).unwrap();
            assert_eq!((info.state, info.message.as_str()), (JobState::Failed, ORPHAN));
        }
        // Said once and for all, and numbers go on.
        assert_eq!(open(&store).await.list(), after.list());
        let next = after.start(request("a"), &CancellationToken::new()).await.unwrap();
        assert_eq!(next.id, running.id + 1);
    }

    #[tokio::test]
    async fn one_training_at_a_time_and_a_queued_one_can_be_cancelled() {
        let jobs = open(&Arc::new(InMemory::new())).await;
        let first = jobs.start(request("a"), &CancellationToken::new()).await.unwrap();
        let permit = first.wait_for_turn().await.unwrap();
        let second = jobs.start(request("b"), &CancellationToken::new()).await.unwrap();
        let third = jobs.start(request("c"), &CancellationToken::new()).await.unwrap();
        assert!(jobs.cancel(second.id).unwrap());
        assert_eq!(second.wait_for_turn().await.unwrap_err().code, Code::Cancelled);
        assert_eq!(third.info().state, JobState::Queued);
        drop(permit);
        let _permit = third.wait_for_turn().await.unwrap();
        assert_eq!(third.info().state, JobState::Training);
    }

    #[tokio::test]
    async fn a_dropped_handle_cancels_and_so_does_the_statement() {
        let store = Arc::new(InMemory::new());
        let jobs = open(&store).await;
        let statement = CancellationToken::new();
        let handle = jobs.start(request("a"), &statement).await.unwrap();
        let (id, token) = (handle.id, handle.cancel.clone());
        statement.cancel();
        assert!(token.is_cancelled());
        drop(handle);
        assert_eq!(jobs.get(id).unwrap().state, JobState::Cancelled);
    }

    #[tokio::test]
    async fn waiting_ends_with_the_job_or_the_timeout() {
        let jobs = open(&Arc::new(InMemory::new())).await;
        assert_eq!(jobs.wait_for("a", None).await.unwrap(), None);
        let handle = jobs.start(request("a"), &CancellationToken::new()).await.unwrap();
        let error = jobs.wait_for("a", Some(Duration::from_millis(1))).await.unwrap_err();
        assert_eq!(error.code, Code::Cancelled);
        let waiting = tokio::spawn({
            let jobs = Arc::clone(&jobs);
            async move { jobs.wait_for("a", None).await }
        });
        tokio::task::yield_now().await;
        handle.finish(JobState::Ready, "done").await;
        assert_eq!(waiting.await.unwrap().unwrap().unwrap().state, JobState::Ready);
    }

    #[tokio::test]
    async fn the_heart_beats_in_the_store_too() {
        let store = Arc::new(InMemory::new());
        let jobs = Jobs::open_beating(store, Path::from("ml"), 1, Duration::from_millis(1)).await.unwrap();
        let handle = jobs.start(request("a"), &CancellationToken::new()).await.unwrap();
        let path = jobs.store.job(handle.id);
        handle.update(JobProgress { fraction: 0.25, eta_seconds: None, message: "epoch 1".into() });
        loop {
            let file: JobFile = jobs.store.read_document(&path).await.unwrap().unwrap();
            if file.info.progress == 0.25 {
                break;
            }
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn history_is_bounded() {
        let store = Arc::new(InMemory::new());
        let jobs = open(&store).await;
        for _ in 0..ENDED_MAX + 3 {
            jobs.start(request("a"), &CancellationToken::new()).await.unwrap().finish(JobState::Ready, "").await;
        }
        assert_eq!(jobs.list().len(), ENDED_MAX);
        assert_eq!(jobs.store.list(&jobs.store.jobs()).await.unwrap().len(), ENDED_MAX);
    }
}
