//! Trainings: queued, running and done.

use std::sync::Arc;
use std::time::Duration;

use object_store::ObjectStore;
use object_store::path::Path;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Result};

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
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct JobInfo {
    /// Counts from 1 in one registry.
    pub job_id: i64,
    /// Model name.
    pub model: String,
    /// The version that it makes.
    pub version: u32,
    /// Where it is.
    pub state: JobState,
    /// 0 to 1.
    pub progress: f64,
    /// Seconds to go.
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

/// A job that runs in this process. Dropped without [`finish`](Self::finish), the job is `cancelled`.
#[derive(Debug)]
pub struct JobHandle {
    /// Its id.
    pub id: i64,
    /// Fired by `cancel_training` and at shutdown.
    pub cancel: CancellationToken,
}

impl JobHandle {
    /// Waits for its turn on the training device, `queued` meanwhile; then `training` until the permit is dropped.
    ///
    /// # Errors
    /// 57014 when cancelled.
    pub async fn wait_for_turn(&self) -> Result<tokio::sync::OwnedSemaphorePermit> {
        Err(Error::internal("not landed"))
    }

    /// Tells how far it is; never waits, callable from the training thread.
    pub fn update(&self, _progress: JobProgress) {}

    /// Ends the job: `Ready`, `Active`, `Failed` or `Cancelled`.
    pub async fn finish(self, _state: JobState, _message: &str) {}
}

/// All jobs of a registry.
#[derive(Debug)]
pub struct Jobs {}

impl Jobs {
    /// Opens the table; jobs that a stopped process left running become `failed`. `slots` trainings run at a time.
    pub async fn open(_store: Arc<dyn ObjectStore>, _prefix: Path, _slots: usize) -> Result<Arc<Self>> {
        Err(Error::internal("not landed"))
    }

    /// A new job, `queued`.
    pub async fn start(self: &Arc<Self>, _request: JobRequest) -> Result<JobHandle> {
        Err(Error::internal("not landed"))
    }

    /// Asks a job to stop at its next batch. `false` when it has ended already.
    ///
    /// # Errors
    /// 42704 when there is no such job.
    pub fn cancel(&self, _job_id: i64) -> Result<bool> {
        Err(Error::internal("not landed"))
    }

    /// Stops every job and waits a little for them to end.
    pub async fn shutdown(&self, _grace: Duration) {}

    /// Waits until no training of `model` runs; what its last job came to, `None` when it never had one.
    ///
    /// # Errors
    /// 57014 after `timeout`.
    pub async fn wait_for(&self, _model: &str, _timeout: Option<Duration>) -> Result<Option<JobInfo>> {
        Err(Error::internal("not landed"))
    }

    /// One job.
    pub fn get(&self, _job_id: i64) -> Option<JobInfo> {
        None
    }

    /// Rows of `ml.jobs`, newest first.
    pub fn list(&self) -> Vec<JobInfo> {
        vec![]
    }
}
